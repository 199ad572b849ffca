"""Ray jobs: submitted with readable names, followed until they end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from app.errors import AppError, Unavailable
from app.lifecycle.cluster import Cluster

_POLL_SECONDS = 0.5
_ENDED = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})


def client(cluster: Cluster) -> Any:
    """Ray's job client. Raises Unavailable if the dashboard does not answer."""
    import os

    os.environ.update(cluster.environment)
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(cluster.dashboard)
    except (ConnectionError, RuntimeError) as error:
        raise Unavailable(
            f"the dashboard at {cluster.dashboard} does not answer: {error}", "tondo status"
        ) from error


def submit(
    cluster: Cluster,
    name: str,
    arguments: Sequence[str],
    metadata: Mapping[str, str],
    environment: Mapping[str, str] | None = None,
) -> str:
    """Starts ``tondo`` with these arguments as a job; returns the job's id, which is its name."""
    import shlex
    import sys

    command = shlex.join([sys.executable, "-m", "app.cli", *arguments])
    submitted: str = client(cluster).submit_job(
        entrypoint=command,
        submission_id=name,
        metadata=dict(metadata),
        runtime_env={"env_vars": dict(environment or {})},
    )
    return submitted


def follow(cluster: Cluster, job: str, tick: Callable[[], None]) -> None:
    """Waits until a job has ended, calling ``tick`` now and then.

    Raises AppError with the end of its log if it failed.
    """
    jobs = client(cluster)
    while (state := str(jobs.get_job_status(job).value)) not in _ENDED:
        tick()
        time.sleep(_POLL_SECONDS)
    if state != "SUCCEEDED":
        raise _failed(job, state, jobs.get_job_logs(job))


def running_jobs(cluster: Cluster) -> tuple[str, ...]:
    """The ids of the submitted jobs that run now; a process that is only connected is none."""
    found = [job for job in client(cluster).list_jobs() if job.submission_id]
    return tuple(str(job.submission_id) for job in found if str(job.status.value) == "RUNNING")


def _failed(job: str, state: str, logs: str) -> AppError:
    """The error that the job itself told, if it did."""
    lines = [line for line in logs.strip().splitlines() if line.strip()]
    what = next((line for line in reversed(lines) if line.startswith("Error: ")), "")
    hint = next((line for line in reversed(lines) if line.startswith("Hint: ")), "")
    if what:
        return AppError(what.removeprefix("Error: "), hint.removeprefix("Hint: "))
    last = lines[-1] if lines else "it wrote nothing"
    return AppError(f"job {job} has {state.lower()}: {last}", f"Read it: ray job logs {job}")
