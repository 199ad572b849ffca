"""Memory stays where it is, however many streams pass."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

from genai_gateway.conversation import Json
from genai_gateway.keys import Caller, Limits
from genai_gateway.testing import KEY, ask, chat, open_test_gateway, run

CONFIG: Json = {
    "providers": {"echo": {"schema": "echo"}},
    "models": {"m": {"targets": [{"provider": "echo", "model": "echo"}], "policy": "p"}},
    "prices": {"echo": {"free": True}},
    "policies": {"p": {"steps": [{"step": "secrets"}, {"step": "pii"}]}},
}
ROUND, ROUNDS = 500, 5


def resident_kib() -> int:
    """The memory of this process that is really there."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4


async def sizes() -> list[int]:
    """Resident KiB after each round of streams, every stream with values of its own."""
    limits = Limits(1_000, 10**9, 10**12)
    app = open_test_gateway(CONFIG, callers={KEY: Caller("k", "p", limits=limits)})
    seen = []
    for n in range(ROUND * ROUNDS):
        body = chat(f"I am jane{n}@example.com " + "word " * 20, stream=True)
        got = await ask(app, "/v1/chat/completions", body)
        assert f"jane{n}@".encode() in got.body
        if n % ROUND == ROUND - 1:
            gc.collect()
            seen.append(resident_kib())
    return seen


def test_streams_leave_nothing_behind() -> None:
    """What a stream left behind would be there after every round; there is one that adds nothing.

    The process is the gateway's own: in the tests' process, what other tests free and allocate
    meanwhile is larger than any leak sought here.
    """
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, check=True)
    seen = json.loads(done.stdout)
    growth = [after - before for before, after in pairwise(seen)]
    assert len(growth) == ROUNDS - 1
    assert min(growth) < ROUND // 4, growth  # a leak of 256 bytes a stream would show


if __name__ == "__main__":
    print(json.dumps(run(sizes())))
