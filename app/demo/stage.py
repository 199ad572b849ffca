"""What every step of the demo is played on, and the moments of its story."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from app.compose import Platform
from app.errors import Unavailable
from app.lifecycle.cluster import Cluster
from examples.flights import prepare

Advance = Callable[[str, int, int], None]

NEW_YORK = ZoneInfo("America/New_York")
PROJECT = Path(prepare.__file__).resolve().parent
FAMILY = DEPLOYMENT = MONITOR = "flights.arrival_delay"
SERVICE = "arrival_delay"
SOURCES = ("departures", "landings", "weather", "flights")
STREAMS = ("departures", "landings", "weather")
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


@dataclass(frozen=True, slots=True)
class Period:
    """A time of the story: from and until, UTC µs; the end does not belong."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Stage:
    """The installation, how many days are replayed, and whom to tell how far it is."""

    platform: Platform
    days: int
    advance: Advance

    @property
    def sources(self) -> Path:
        """The folder of the example's Parquet files."""
        return self.platform.home.root / "sources"

    def cluster(self) -> Cluster:
        """The cluster, which must be up. Raises Unavailable."""
        cluster = self.platform.cluster()
        if cluster is None:
            raise Unavailable(
                "the platform went down while the demo ran", "Look at it with: tondo status"
            )
        return cluster


def midnight(year: int, month: int, day: int = 1) -> int:
    """The first moment of a day on New York's clocks, UTC µs."""
    return micros(datetime(year, month, day, tzinfo=NEW_YORK))


def micros(moment: datetime) -> int:
    """A zoned moment in UTC µs."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def in_new_york(moment: int) -> datetime:
    """UTC µs on New York's clocks."""
    return (_EPOCH + timedelta(microseconds=moment)).astimezone(NEW_YORK)


def clock_text(moment: int) -> str:
    """UTC µs as people in New York say it."""
    return f"{in_new_york(moment):%-d %B %Y %H:%M}"


NOVEMBER, DECEMBER, NEW_YEAR = midnight(2013, 11), midnight(2013, 12), midnight(2014, 1)
