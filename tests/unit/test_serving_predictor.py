"""The one handler: rows, features, scores, how good the answer is, and what is logged of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from features.errors import BadInput
from features.online import Served
from serving.degradation import NONE, degradation_of
from serving.errors import NotFound, UnknownModel
from serving.model import Scored
from serving.prediction_log import BufferedLog, Entry, table_name
from training.testing import START, flights_plan

OUTPUTS = [output.column for output in flights_plan().outputs]
BODY = {
    "entities": {"carrier": "UA"},
    "request": {"distance": 100, "hour": 18, "dest": "BOS"},
}


def test_a_prediction_says_who_answered_and_how_well(replica: Any) -> None:
    """The answer has the score, the version, the degradation and the request's id."""
    answer = replica.predictor.predict("late", BODY, "r1")
    assert answer == {
        "predictions": [2.5],
        "model": {"family": "flights.late", "version": 1, "arm": "champion"},
        "degradation": {"level": 0, "features": {}},
        "request_id": "r1",
    }
    assert replica.reader.asked == [
        ({"carrier": "UA", "distance": 100.0, "hour": 18, "dest": "BOS"}, START)
    ]


def test_many_rows_are_many_predictions(replica: Any) -> None:
    """Rows are answered in their order."""
    assert (
        replica.predictor.predict("late", {"rows": [BODY, BODY]}, "r")["predictions"] == [2.5] * 2
    )


def test_an_explained_answer_says_where_values_came_from(replica: Any) -> None:
    """Each feature comes with its state, its substitute and the position it was read at."""
    (row,) = replica.predictor.predict("late", BODY, "r", explain=True)["provenance"]
    assert row["carrier_delay__mean_3h"] == {
        "value": 1.5,
        "state": "value",
        "substitute": "none",
        "at": "2013-01-01T00:00:00+00:00",
        "position": {"version": 1, "cut": 10, "offsets": [7]},
    }
    assert row["leg__hour" if "leg__hour" in row else "leg__distance"]["position"] is None


def test_only_a_replay_service_lets_a_request_name_its_time(replica: Any) -> None:
    """On the wall clock nobody asks about another time."""
    with pytest.raises(BadInput, match="wall clock"):
        replica.predictor.predict("late", {**BODY, "at": "2013-01-01T00:00:00Z"}, "r")


def test_an_unknown_model_is_told_with_the_nearest(replica: Any) -> None:
    """Models and services that are not served are 404 with a hint."""
    with pytest.raises(UnknownModel) as caught:
        replica.predictor.predict("lat", BODY, "r")
    assert "late" in caught.value.hint
    with pytest.raises(NotFound):
        replica.predictor.features("nothing", BODY, "r")


@pytest.mark.parametrize(
    ("states", "substitutes", "level", "features"),
    [
        (["value", "empty"], ["none", "none"], 0, {}),
        (["absent", "expired"], ["none", "none"], 0, {}),
        (["value", "value"], ["stale", "none"], 1, {"a": "stale"}),
        (["value", "error"], ["stale", "default"], 2, {"a": "stale", "b": "default"}),
        (["error", "value"], ["none", "none"], 2, {"a": "missing"}),
        (["error", "value"], ["snapshot", "stale"], 3, {"a": "snapshot", "b": "stale"}),
    ],
)
def test_degradation_is_that_of_the_worst_feature(
    states: list[str], substitutes: list[str], level: int, features: dict[str, str]
) -> None:
    """Every substitute has its level, and none is silent."""
    found = degradation_of(["a", "b"], [Served([1, 2], states, substitutes, {})])
    assert (found.level, found.features) == (level, features)


def test_the_worst_row_counts() -> None:
    """Of several rows the worst is told, whichever comes first."""
    good = Served([1], ["value"], ["none"], {})
    stale, missing = Served([1], ["value"], ["stale"], {}), Served([None], ["error"], ["none"], {})
    assert degradation_of(["a"], [good, good]) == NONE
    for rows in ([stale, missing, good], [missing, good, stale]):
        assert degradation_of(["a"], rows).features == {"a": "missing"}


def test_features_alone_come_with_their_states(replica: Any) -> None:
    """A service of a loaded model can be read without asking the model."""
    status, _, answer = replica.ask("/v1/features/late")
    assert status == 200
    assert answer["rows"][0]["values"]["carrier_delay__mean_3h"] == 1.5
    assert set(answer["rows"][0]["states"].values()) == {"value"}


def test_the_log_has_the_very_values(replica: Any) -> None:
    """A record holds the request, the features with their states, the position and the score."""
    replica.predictor.predict("late", BODY, "r1")
    assert replica.log.flush().written == 1
    ((table, rows),) = replica.sink.tables
    (row,) = rows.to_pylist()
    assert table == table_name("flights.late") == "lake.predictions_flights_late"
    assert (row["request_id"], row["version"], row["prediction"]) == ("r1", 1, 2.5)
    assert [row[name] for name in OUTPUTS] == replica.reader.served.values
    assert json.loads(row["entities"]) == {"carrier": "UA"}
    assert json.loads(row["positions"]) == {
        "carrier_delay": {"version": 1, "cut": 10, "offsets": [7]}
    }


def test_a_full_log_drops_and_counts(replica: Any) -> None:
    """The answer never waits for the log; what does not fit is counted, not lost silently."""
    for _ in range(6):
        replica.predictor.predict("late", BODY, "r")
    counts = replica.log.flush()
    assert (counts.written, counts.dropped) == (4, 2)


def test_a_sink_that_fails_drops_and_counts(replica: Any) -> None:
    """After a failure the log goes on with what comes next."""
    replica.sink.broken = True
    replica.predictor.predict("late", BODY, "r")
    assert replica.log.flush().dropped == 1
    replica.sink.broken = False
    replica.predictor.predict("late", BODY, "r")
    assert replica.log.flush().written == 1


def test_a_key_is_logged_always_or_never(replica: Any) -> None:
    """Sampling is by entity, at about the asked rate."""
    log = BufferedLog(replica.sink, rate=0.25)
    kept = []
    for number in range(2_000):
        before = log.counts().waiting
        for _ in range(2):
            log.record(_entry(replica, f"c{number}"))
        kept.append(log.counts().waiting - before)
    assert set(kept) == {0, 2}
    assert 0.2 < kept.count(2) / len(kept) < 0.3


def _entry(replica: Any, carrier: str) -> Entry:
    model = replica.predictor.loaded.models["late"]
    row = {"carrier": carrier, "distance": 1.0, "hour": 1, "dest": "x"}
    return Entry("r", model, [row], 0, 0, Scored([0.0], [replica.reader.served], NONE), 1)
