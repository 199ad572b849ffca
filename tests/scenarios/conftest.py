"""One real platform for all scenarios: up, fed, trained, materialized and served."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from examples.flights.replay import turns
from tests.installation import DEPLOYMENT, FAMILY, ROOT, Installation, installed, wait_until
from tests.traffic import Body

AUTUMN = datetime.fromisoformat("2013-09-01T04:00:00Z")
WINTER = datetime.fromisoformat("2013-12-01T05:00:00Z")
KNOWN_AT = {
    "departures": "reported_at",
    "landings": "reported_at",
    "weather": "published_at",
    "flights": "departed_at",
}
VIEWS = ("carrier_delay", "origin_congestion", "route_delay", "tail_history", "airport_weather")
TRAIN = ("train", FAMILY, "--set", "rounds=12", "--set", "baselines=none")


@pytest.fixture(scope="session")
def autumn(flights_sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quarter of the real flights, so that training is quick: what was known in autumn."""
    folder = tmp_path_factory.mktemp("autumn")
    for name, known_at in KNOWN_AT.items():
        table = pq.read_table(flights_sources / f"{name}.parquet")
        times = table[known_at]
        chosen = pc.and_(pc.greater_equal(times, AUTUMN), pc.less(times, WINTER))
        pq.write_table(table.filter(chosen), folder / f"{name}.parquet")
    return folder


@pytest.fixture(scope="session")
def bodies(flights_sources: Path) -> Sequence[Body]:
    """Real questions, all asked at the first moment after what the online store knows."""
    turned = turns(flights_sources, datetime.fromisoformat("2013-11-29T05:00:00Z"), WINTER)
    asked = (turn.request.body() for turn in turned if turn.request is not None)
    return [{**body, "at": WINTER.isoformat()} for body in islice(asked, 200)]


@pytest.fixture(scope="session")
def platform(autumn: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A platform that serves version 1 of the flights model; gone afterwards, come what may."""
    with installed(tmp_path_factory.mktemp("platform")) as made:
        made.tondo("up")
        made.tondo("apply", str(ROOT / "examples" / "flights"), "--yes")
        for name in KNOWN_AT:
            made.tondo("features", "ingest", name, str(autumn / f"{name}.parquet"))
        made.tondo(*TRAIN, "--promote")
        for view in VIEWS:
            made.tondo("features", "materialize", view, "--until", WINTER.isoformat())
        made.tondo("wait", DEPLOYMENT, "--for", "Steady", "--timeout", "120")
        yield made


@pytest.fixture(scope="session")
def second(platform: Installation) -> int:
    """The number of a second version, trained otherwise and not promoted."""
    return int(platform.data(*TRAIN, "--set", "seed=7")["version"])


@pytest.fixture(scope="session")
def submitted(platform: Installation, second: int) -> int:
    """The number of a version that was trained by Ray's own job command, as ``up`` says."""
    told = platform.run(sys.executable, "-m", "app.cli", "up").stderr
    exports = dict(re.findall(r"(RAY_\w+)=(\S+)", told))
    assert set(exports) == {"RAY_ADDRESS", "RAY_AUTH_MODE"}
    made = Installation({**platform.environment, **exports}, ROOT)
    entry = ("python", "-m", "app.cli", *TRAIN, "--set", "seed=11")
    done = made.run("ray", "job", "submit", "--working-dir", ".", "--", *entry)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "succeeded" in done.stdout
    return max(row["version"] for row in platform.data("models", "list", FAMILY))


@pytest.fixture(scope="session")
def served(platform: Installation) -> int:
    """Version 1, which is champion and served while no test moves the alias."""
    return 1


@pytest.fixture
def movable(platform: Installation, served: int) -> Iterator[None]:
    """For tests that move the alias: it is back on version 1 afterwards, and that is served."""
    yield
    platform.tondo("models", "promote", f"{FAMILY}:{served}")
    platform.tondo("wait", DEPLOYMENT, "--for", "Steady", "--timeout", "60")
    wait_until(lambda: platform.serving() == served, 60, "version 1 is served again")
