"""Training a model: here, in this process or this Ray job; or submitted as one and followed."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import yaml

from app import jobs
from app.client import Control, control, controlled_gallery, whoami
from app.compose import Platform
from app.control.documents import status_data
from app.control.resources import Condition, Status
from app.errors import BadInput, NotFound, TondoError, Unavailable
from app.lifecycle.cluster import Cluster, connect, in_ray_job
from app.project import DEFINITIONS_FILE, find_model, load_library, load_model
from features.library import Library
from features.plan import ServicePlan, resolve
from training.canvas import CanvasModel
from training.dataset import TrainingFrame
from training.gallery import Gallery, aliases_of
from training.package import Package, load_package
from training.progress import Progress
from training.promotion import Promote
from training.provenance import code_state
from training.run import RunInputs, RunPorts, RunResult, run_model
from training.trainers.port import Trainer

Advance = Callable[[str, int, int], None]
Data = dict[str, Any]
CHAMPION = "champion"
_RESULT, _PROGRESS = "result.json", "progress.json"


@dataclass(frozen=True, slots=True)
class Asked:
    """A training as it was asked for; ``run_id`` is empty until somebody names the run."""

    family: str
    settings: Mapping[str, str]
    project: Path | None = None
    promote: bool = False
    run_id: str = ""
    why: str = ""


def submit(platform: Platform, asked: Asked, advance: Advance) -> Data:
    """Runs the training as a Ray job and follows it. Raises the job's own error if it fails."""
    cluster = platform.cluster()
    if cluster is None:
        raise Unavailable(
            f"nothing is up for {platform.home.root}",
            "Start it (tondo up), or train in this process: --local",
        )
    file = model_file(platform, asked)
    run_id = asked.run_id or new_run_id(asked.family)
    arguments = ["train", asked.family, "--run-id", run_id, "--project", str(_project_of(file))]
    arguments += [f"--set={name}={value}" for name, value in asked.settings.items()]
    arguments += ["--promote"] if asked.promote else []
    arguments += ["--why", asked.why] if asked.why else []
    job = jobs.submit(cluster, f"train-{run_id}", arguments, {"model": asked.family, "run": run_id})
    return _followed(platform, cluster, job, run_id, advance)


def run_here(platform: Platform, asked: Asked, advance: Advance) -> Data:
    """Runs the training in this process: on the cluster if it is up, else all by itself."""
    file = model_file(platform, asked)
    model = load_model(file).with_settings(read_settings(asked.settings))
    run_id = asked.run_id or new_run_id(asked.family)
    folder = platform.home.training / run_id
    folder.mkdir(parents=True, exist_ok=True)
    cluster = platform.cluster()
    if cluster is None and in_ray_job():
        raise Unavailable(
            f"this job's cluster is not one that tondo started for {platform.home.root}",
            "Set TONDO_HOME in the job's runtime environment.",
        )
    with control(platform, f"tondo train {asked.family}") as commands:
        run = _Run(platform, asked, model, file, run_id, folder, cluster, commands, advance)
        return run.recorded()


@dataclass(frozen=True, slots=True)
class _Run:
    """One run with everything it needs."""

    platform: Platform
    asked: Asked
    model: CanvasModel
    file: Path
    run_id: str
    folder: Path
    cluster: Cluster | None
    commands: Control
    advance: Advance

    def recorded(self) -> Data:
        """Runs, and keeps a Run resource with how it ended."""
        self._record("Running", "it trains")
        try:
            result = self._result()
        except BaseException as error:
            what = error.what if isinstance(error, TondoError) else f"{type(error).__name__}"
            with suppress(TondoError):
                self._record("Failed", what)
            raise
        told = f"version {result['version']}: {result['why']}"
        self._record("Succeeded", told, version=result["version"])
        _write_whole(self.folder / _RESULT, result)
        return result

    def _result(self) -> Data:
        gallery = controlled_gallery(self.platform, self.commands)
        from training.trainers.xgboost import LocalTrainer

        ports = RunPorts(
            gallery,
            self.platform.artifacts(),
            self._trainer(),
            self.platform.clock,
            self._report,
            baseline_trainer=LocalTrainer(),
        )
        result = run_model(self.model, self._inputs(gallery), ports)
        promoted = self._promoted(result, gallery)
        return _data_of(result, self.run_id, promoted)

    def _inputs(self, gallery: Gallery) -> RunInputs:
        plans = self._plans()
        frames = self._frames(plans)
        champion = self._champion(gallery)
        number = aliases_of(gallery.history(self.model.family)).get(CHAMPION)
        return RunInputs(
            run_id=self.run_id,
            frames=frames,
            folder=self.folder,
            code=code_state(self.file.parent),
            plans=plans,
            champion=champion,
            parents=() if number is None else (number,),
        )

    def _plans(self) -> dict[str, ServicePlan]:
        library = self._library()
        return {s: resolve(library, s) for s in (self.model.service, *self.model.baselines)}

    def _library(self) -> Library:
        """The applied definitions, or the project's own if it was never applied."""
        applied = self.platform.library()
        if any(service.name == self.model.service for service in applied.services()):
            return applied
        own = load_library(_project_of(self.file))
        return self.platform.with_table_schemas(own)

    def _frames(self, plans: Mapping[str, ServicePlan]) -> dict[str, TrainingFrame]:
        """Joins the widest service first; one whose columns it holds needs no join of its own."""
        from training.spine import build_spine, spine_columns

        lake = self.platform.lake()
        columns = spine_columns(self.model, plans.values())
        table = lake.scan(self.model.spine.table, columns=columns)
        spine = build_spine(self.model, table, plans.values())
        frames: dict[str, TrainingFrame] = {}
        for plan in sorted(plans.values(), key=lambda p: -len(p.outputs)):
            if not any(_holds(frame.plan, plan) for frame in frames.values()):
                self._report(Progress(f"join {plan.name}"))
                frames[plan.name] = self._frame(plan, spine)
        return frames

    def _frame(self, plan: ServicePlan, spine: Any) -> TrainingFrame:
        from features.offline.training_set import build_training_set

        made = build_training_set(
            plan,
            self.platform.lake(),
            spine,
            self.platform.home.training_sets,
            time_column=self.model.spine.time,
            splits=self.model.split.bounds(),
            join=self._join(),
            clock=self.platform.clock,
        )
        record = {"id": made.id, "snapshots": dict(made.snapshots), "digest": made.digest}
        return TrainingFrame(plan, (made.path,), record)

    def _join(self) -> Any:
        if self.cluster is None:
            return None
        from features.on_ray import join_on_ray

        connect(self.cluster)
        root = self.platform.home.lake

        def join(plan: ServicePlan, spine: Path, out: Path, **options: Any) -> Any:
            return join_on_ray(plan, root, spine, out=out, **options)

        return join

    def _trainer(self) -> Trainer:
        if self.cluster is None:
            from training.trainers.xgboost import LocalTrainer

            return LocalTrainer()
        from training.on_ray import RayTrainer

        connect(self.cluster)
        asked = self.model.resources
        return RayTrainer(
            self.platform.home.training / "checkpoints",
            workers=asked.workers,
            cpus=asked.cpus,
            gpus=asked.gpus,
        )

    def _champion(self, gallery: Gallery) -> Package | None:
        try:
            version = gallery.get(self.model.family, CHAMPION)
        except NotFound:
            return None
        return load_package(self.platform.artifacts().path(version.digest), version.digest)

    def _promoted(self, result: RunResult, gallery: Gallery) -> bool:
        if not self.asked.promote or not isinstance(result.decision, Promote):
            return False
        family = result.version.family
        current = aliases_of(gallery.history(family)).get(CHAMPION)
        gallery.move_alias(
            family,
            CHAMPION,
            result.version.version,
            current,
            actor=f"run {self.run_id}",
            reason=result.decision.why,
        )
        return True

    def _report(self, progress: Progress) -> None:
        step = " ".join([progress.step, *(f"{n} {v:.4f}" for n, v in progress.numbers.items())])
        self.advance(step, progress.done, progress.total)
        _write_whole(self.folder / _PROGRESS, [step, progress.done, progress.total])

    def _record(self, phase: str, message: str, **detail: Any) -> None:
        spec = {"model": self.model.family, "settings": dict(self.asked.settings)}
        spec |= {"job": f"train-{self.run_id}" if in_ray_job() else "", "why": self.asked.why}
        now = self.platform.clock.now()
        done = Condition("Done", phase != "Running", phase, message, at=now)
        good = Condition("Succeeded", phase == "Succeeded", phase, message, at=now)
        told = {"by": whoami(), "at": now, **detail}
        status = status_data(Status(1, phase, (done, good), told))
        self.commands.ask("record_run", {"name": self.run_id, "spec": spec, "status": status})


def model_file(platform: Platform, asked: Asked) -> Path:
    """Where the model's code lies: in the named project, an applied one, or one in this folder."""
    if asked.project is not None:
        return find_model(asked.family, [asked.project])
    return find_model(asked.family, [d for d in _projects(platform) if d.is_dir()])


def _projects(platform: Platform) -> list[Path]:
    here = Path.cwd()
    with platform.catalog() as catalog:
        applied = [Path(stored.resource.origin) for stored in catalog.list("Project")]
    nearby = sorted(path.parent for path in here.glob(f"examples/*/{DEFINITIONS_FILE}"))
    # In a job this folder is the uploaded code, which is what was asked to run.
    return [here, *nearby, *applied] if in_ray_job() else [*applied, here, *nearby]


def _project_of(file: Path) -> Path:
    return file.parents[2]


def new_run_id(family: str) -> str:
    """A name that people can read and nobody else has."""
    moment = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return f"{family}-{moment}-{secrets.token_hex(2)}"


def read_settings(texts: Mapping[str, str]) -> Data:
    """``k=v`` as numbers, booleans or text."""
    try:
        return {name: yaml.safe_load(text) for name, text in texts.items()}
    except yaml.YAMLError as error:
        raise BadInput(f"a setting cannot be read: {error}", "Put quotes round it.") from None


def _holds(wide: ServicePlan, narrow: ServicePlan) -> bool:
    known = {(output.column, output.dtype) for output in wide.outputs}
    return {(output.column, output.dtype) for output in narrow.outputs} <= known


def _followed(
    platform: Platform, cluster: Cluster, job: str, run_id: str, advance: Advance
) -> Data:
    folder = platform.home.training / run_id
    jobs.follow(cluster, job, lambda: _tell(folder / _PROGRESS, advance))
    result: Data = orjson.loads((folder / _RESULT).read_bytes())
    return result


def _tell(path: Path, advance: Advance) -> None:
    with suppress(OSError, ValueError):
        advance(*orjson.loads(path.read_bytes()))


def _data_of(result: RunResult, run_id: str, promoted: bool) -> Data:
    model = result.version
    return {
        "run": run_id,
        "family": model.family,
        "version": model.version,
        "digest": model.digest,
        "metric": model.primary_metric,
        "value": model.primary,
        "metrics": {m.name: m.value for m in model.metrics if m.split == "test" and not m.segment},
        "baselines": _baselines(result),
        "champion": None if result.champion is None else dict(result.champion),
        "promotable": isinstance(result.decision, Promote),
        "why": result.decision.why,
        "promoted": promoted,
        "trainingSeconds": result.fitted.seconds,
        "report": str(result.report),
        "plot": str(result.plot) if result.plot else "",
    }


def _baselines(result: RunResult) -> dict[str, float | None]:
    metric = result.version.primary_metric
    return {name: found.value(metric) for name, found in result.baselines.items()}


def _write_whole(path: Path, data: object) -> None:
    part = path.with_suffix(".part")
    part.write_bytes(orjson.dumps(data, option=orjson.OPT_NON_STR_KEYS))
    part.replace(path)


def runs_of(runs: Sequence[Any], family: str) -> list[int]:
    """When the runs of a family began (UTC µs), for the retraining policy."""
    return [stored.created_at for stored in runs if stored.resource.spec.get("model") == family]
