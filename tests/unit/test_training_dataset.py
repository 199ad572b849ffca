"""Frames become splits by time, exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from features.errors import BadInput
from training.dataset import TrainingFrame, make_dataset, read_split, write_split
from training.spine import LABEL
from training.testing import flights_frame, flights_model, flights_plan, write_flights


def frame_of(*paths: Path) -> TrainingFrame:
    return TrainingFrame(flights_plan(), paths, {"id": "set"})


def test_splits_are_half_open_and_in_order(tmp_path: Path) -> None:
    """Every row lies in the period of its time, the last instant of one being in the next."""
    dataset = make_dataset(flights_model(1_000), frame_of(write_flights(tmp_path / "f", 1_000)))
    sizes = {name: len(split.label) for name, split in dataset.splits().items()}
    assert sizes == {"train": 600, "validate": 200, "test": 200}
    expected = flights_frame(1_000)[LABEL].to_numpy()
    np.testing.assert_array_equal(dataset.validate.label, expected[600:800])
    assert dataset.train.matrix.dtype == np.float32


def test_unlabelled_and_outside_rows_are_counted(tmp_path: Path) -> None:
    """Rows without label or outside of every period are left out, and counted."""
    table = flights_frame(1_100)
    hidden = pc.if_else(pa.array(np.arange(1_100) % 10 == 0), None, table[LABEL].combine_chunks())
    place = table.column_names.index(LABEL)
    pq.write_table(table.set_column(place, LABEL, hidden), tmp_path / "f")
    dataset = make_dataset(flights_model(1_000), frame_of(tmp_path / "f"))
    assert (dataset.unlabelled, dataset.outside) == (110, 90)
    assert len(dataset.test.label) == 180


def test_many_files_are_one_frame(tmp_path: Path) -> None:
    """A frame of several files has their rows one after the other."""
    table = flights_frame(1_000)
    for name, part in (("a", table.slice(0, 300)), ("b", table.slice(300))):
        pq.write_table(part, tmp_path / name)
    whole = make_dataset(flights_model(1_000), frame_of(write_flights(tmp_path / "f", 1_000)))
    parts = make_dataset(flights_model(1_000), frame_of(tmp_path / "a", tmp_path / "b"))
    np.testing.assert_array_equal(whole.train.matrix, parts.train.matrix)


def test_an_empty_period_says_what_the_frame_covers(tmp_path: Path) -> None:
    """A period without rows is an error that names the frame's range."""
    with pytest.raises(BadInput, match=r"(?s)validate period.*2013-01-01T00:00"):
        make_dataset(flights_model(5_000), frame_of(write_flights(tmp_path / "f", 1_000)))


def test_missing_columns_and_files_are_bad_input(tmp_path: Path) -> None:
    """A lost feature, label or file is an error with a hint."""
    model = flights_model(1_000)
    for lost in (LABEL, "leg__distance", "departed_at"):
        pq.write_table(flights_frame(1_000).drop_columns([lost]), tmp_path / "f")
        with pytest.raises(BadInput, match=lost):
            make_dataset(model, frame_of(tmp_path / "f"))
    with pytest.raises(BadInput, match="cannot be read"):
        make_dataset(model, frame_of(tmp_path / "none"))
    (tmp_path / "broken").write_bytes(b"PAR1 but not really")
    with pytest.raises(BadInput, match="cannot be read"):
        make_dataset(model, frame_of(tmp_path / "broken"))


def test_a_split_survives_its_file_and_shards_cover_it(tmp_path: Path) -> None:
    """Matrix and label come back bit for bit, and the workers' shares are all of the rows."""
    dataset = make_dataset(flights_model(1_000), frame_of(write_flights(tmp_path / "f", 1_000)))
    path = write_split(tmp_path / "data" / "train.parquet", dataset.train)
    matrix, label = read_split(path)
    np.testing.assert_array_equal(matrix, dataset.train.matrix)
    np.testing.assert_array_equal(label, dataset.train.label)
    shares = [read_split(path, i, 3)[1] for i in range(3)]
    assert sorted(np.concatenate(shares)) == sorted(label)
