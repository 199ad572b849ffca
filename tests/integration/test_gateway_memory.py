"""Memory stays where it is, however many streams pass."""

from __future__ import annotations

import gc
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


def resident_kib() -> int:
    """The memory of this process that is really there."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4


def test_streams_leave_nothing_behind() -> None:
    """After the first 500 streams, 1,500 more with other values in each add less than 2 MiB."""

    async def work() -> tuple[int, int]:
        limits = Limits(1_000, 10**9, 10**12)
        app = open_test_gateway(CONFIG, callers={KEY: Caller("k", "p", limits=limits)})
        sizes = []
        for n in range(2_000):
            body = chat(f"I am jane{n}@example.com " + "word " * 20, stream=True)
            got = await ask(app, "/v1/chat/completions", body)
            assert f"jane{n}@".encode() in got.body
            if n in (500, 1_999):
                gc.collect()
                sizes.append(resident_kib())
        return sizes[0], sizes[1]

    before, after = run(work())
    assert after - before < 2_048
