"""Stages of tasks as Ray Data datasets: named on the dashboard, nothing but answers collected."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import ray.data
from ray import cloudpickle

from features.errors import TondoError
from features.offline.ingest import Progress

Work = TypeVar("Work")
Result = TypeVar("Result")


class RayRunner:
    """Runs each stage as one dataset, one block and so one task for each piece of work.

    Our own errors come back as they were raised. ``job`` begins the datasets' names.
    """

    def __init__(self, job: str, progress: Progress | None = None) -> None:
        self._job = job
        self._progress = progress
        # People see our progress; Ray Data's own goes into its log files.
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)

    def __call__(
        self, stage: str, task: Callable[[Work], Result], work: Sequence[Work]
    ) -> list[Result]:
        """The results in the order of the work.

        Raises the first error of ours that a task raised, when all of them have ended.
        """
        if not work:
            return []
        name = f"{self._job}:{stage}".replace(" ", "-")
        dataset = ray.data.range(len(work), override_num_blocks=len(work))
        dataset = dataset.map_batches(_named(name, task, list(work)), batch_size=None)
        dataset.set_name(name)
        results = [
            result for _, result in sorted(self._answers(stage, dataset, len(work)), key=_place)
        ]
        for result in results:
            if isinstance(result, TondoError):
                raise result
        return results

    def _answers(self, stage: str, dataset: Any, total: int) -> Iterator[tuple[int, Any]]:
        for done, row in enumerate(dataset.iter_rows(), 1):
            yield row["id"], cloudpickle.loads(row["result"])
            if self._progress is not None:
                self._progress(f"{self._job} {stage}", done, total)


def _place(answer: tuple[int, Any]) -> int:
    return answer[0]


def _named(name: str, task: Callable[[Any], Any], work: list[Any]) -> Callable[[Any], Any]:
    def run(batch: dict[str, Any]) -> dict[str, Any]:
        # As bytes: Ray Data would try to make Arrow columns of the results, and complain.
        results = [cloudpickle.dumps(_answer(task, work[int(piece)])) for piece in batch["id"]]
        return {"id": batch["id"], "result": results}

    run.__name__ = run.__qualname__ = name
    return run


def _answer(task: Callable[[Any], Any], piece: Any) -> Any:
    """The result, or our own error as a value: Ray would wrap it, and try again."""
    try:
        return task(piece)
    except TondoError as error:
        return error
