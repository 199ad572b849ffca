"""The ceiling: bare uvicorn and ONNX Runtime, with the features given in the body.

python -m app.bench.serving_arms.bare MODEL.onnx PORT
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import onnxruntime as ort
import orjson
import uvicorn

Message = dict[str, Any]


class BareApp:
    """Reads ``{"features": [...]}``, runs the session, answers; nothing else."""

    def __init__(self, model: str) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[-1].name

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answers one request; every path is the same."""
        body = (await receive())["body"]
        row = np.array([orjson.loads(body)["features"]], dtype=np.float32)
        scores = self._session.run([self._output], {self._input: row})[0]
        answer = orjson.dumps({"predictions": [float(np.ravel(scores)[-1])]})
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


if __name__ == "__main__":
    uvicorn.run(
        BareApp(sys.argv[1]),
        host="127.0.0.1",
        port=int(sys.argv[2]),
        lifespan="off",
        access_log=False,
        log_level="warning",
    )
