"""Will a flight land more than 15 minutes late? Asked at the moment it leaves."""

from datetime import datetime
from zoneinfo import ZoneInfo

from features import col
from training.canvas import CanvasModel, Gates, Resources, Spine, TimeSplit

NEW_YORK = ZoneInfo("America/New_York")


def midnight(year: int, month: int) -> datetime:
    """The first moment of a month on the clocks of New York's airports."""
    return datetime(year, month, 1, tzinfo=NEW_YORK)


MODEL = CanvasModel(
    family="flights.arrival_delay",
    service="arrival_delay",
    baselines=(
        "arrival_delay_request_only",
        "arrival_delay_with_dep_delay",
        "arrival_delay_request_with_dep_delay",
    ),
    spine=Spine(table="lake.flights", time="departed_at", label=col("arr_delay") > 15.0),
    split=TimeSplit(
        train=(midnight(2013, 1), midnight(2013, 10)),
        validate=(midnight(2013, 10), midnight(2013, 11)),
        test=(midnight(2013, 11), midnight(2014, 1)),
    ),
    parameters={
        "max_depth": 6,
        "eta": 0.3,
        "subsample": 0.8,
        "colsample_bytree": 0.8,
        "min_child_weight": 20,
    },
    rounds=80,
    early_stopping=15,
    report_every=20,
    seed=2013,
    metric="auc",
    segments=("origin",),
    gates=Gates(min_primary=0.7, max_loss=0.01, max_calibration_error=0.1),
    resources=Resources(workers=1, cpus=2),
    owner="eta",
    description="Probability that a departing flight lands more than 15 minutes late.",
)
