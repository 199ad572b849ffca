"""Ray Serve as it comes: its own proxy, a Starlette request, XGBoost on the features given.

python -m app.bench.serving_arms.stock_serve MODEL.ubj PORT
"""

from __future__ import annotations

import sys
import tempfile
import time

import numpy as np
import ray
import xgboost
from ray import serve
from starlette.requests import Request


class StockModel:
    """Reads ``{"features": [...]}`` and calls ``inplace_predict``."""

    def __init__(self, model: str) -> None:
        self._booster = xgboost.Booster({"nthread": 1})
        self._booster.load_model(model)

    async def __call__(self, request: Request) -> dict[str, list[float]]:
        """Answers one request."""
        row = np.array([(await request.json())["features"]], dtype=np.float32)
        return {"predictions": self._booster.inplace_predict(row).tolist()}


def main(model: str, port: int) -> None:
    """Serves until the process is ended."""
    home = tempfile.mkdtemp(prefix="stock-", dir="/tmp")
    ray.init(num_cpus=2, include_dashboard=False, _temp_dir=home, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    deployment = serve.deployment(name="Stock", max_ongoing_requests=256)(StockModel)
    serve.run(deployment.bind(model), name="stock", route_prefix="/")
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
