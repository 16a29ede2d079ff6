"""The task `fit`: a mesh, a rig or cameras are fitted to the masks of a job."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..files import write_array
from ..io.poses import save_poses
from ..job import Job, finite
from ..keeping import Keeper
from ..mesh import Mesh
from ..views import mean_iou
from .fit_command import FitCommand
from .fit_state import FitDocument, FitState, ious
from .task import Context, Result, State, Task, Update

if TYPE_CHECKING:
    from ..fitting.progress import FitResult, Progress

_NOT_SETTINGS = {
    "start",
    "mesh",
    "rig",
    "views",
    "lock",
    "cage",
    "stop",
}  # arguments of fit_events that a job holds elsewhere


def fit_job(job: Job, stop: Callable[[], bool] | None = None) -> Iterator[Progress | FitResult]:
    """The events of the job's fit, as of `fit_events`. Raises InputError for a setting that it does not have."""
    from ..fitting.fit import fit_events

    if misplaced := _NOT_SETTINGS & set(job.settings):
        raise InputError(f"'{misplaced.pop()}' cannot be a setting; it has its own place in a job.")
    return fit_events(job.start, job.views, lock=job.lock, cage=job.cage, stop=stop, **job.settings)


def _read(folder: Path, allow: Sequence[Path | str]) -> FitDocument:
    return FitDocument(Job.load(folder, allow))


def _start(document: FitDocument) -> State | None:
    return None if document.first is None else document.first.kept(document.job.rig)


def _run(document: FitDocument, context: Context) -> Iterator[Update | Result]:
    events = fit_job(document.job, context.stopped)
    # What cannot be done was refused by now, before an earlier result is removed.
    context.keeper.begin(resume=document.resumed_from is not None)
    yield from follow(document, events, context.keeper)


def follow(document: FitDocument, events: Iterable[Progress | FitResult], keeper: Keeper) -> Iterator[Update | Result]:
    """The events of a fit as those of the task; the best state so far is kept."""
    from ..fitting.progress import FitResult

    job, best, mean = document.job, document.first, None
    for event in events:
        if isinstance(event, FitResult):
            yield _result(document, event)
            return
        found = _found(event)
        if found is not None and (best is None or found.score(job.views) > best.score(job.views)):
            best = found if keeper.keep(found.kept(job.rig)) else best
        if event.iou is not None:
            mean = finite(mean_iou(event.iou))
        yield _update(event, mean)


def _found(event: Progress) -> FitState | None:
    """The state that an event brings with the IoU by which it is judged, if it brings one."""
    if event.vertices is None or event.iou is None:
        return None
    return FitState(event.vertices, event.faces, event.rigs, event.cameras or (), ious(event.iou), event.step)


def _update(event: Progress, mean: float | None) -> Update:
    """An event for the progress bar and as a progress message; mean: the mean IoU as it was measured last."""
    vertices, rigs, cameras, iou = event.vertices, event.rigs, event.cameras or (), ious(event.iou)
    files: dict[str, Callable[[Path], object] | None] = {"preview": None, "poses": None}
    if vertices is not None and event.faces is None:
        files["preview"] = lambda path: write_array(path, vertices, lasting=False)
    if rigs or cameras:
        files["poses"] = lambda path: save_poses(path, rigs, cameras, lasting=False)
    loss = {name: float(value) for name, value in event.loss.items()}
    return Update(
        step=int(event.step),
        steps=int(event.steps),
        text=f"loss {sum(loss.values()):.4f}" + ("" if mean is None else f"  mean IoU {mean:.4f}"),
        notes=event.notes,
        fields={
            "stage": int(event.stage),
            "loss": {name: finite(value) for name, value in loss.items()},
            "iou": iou,
            "mean_iou": finite(mean_iou(iou)),
        },
        files=files,
    )


def _result(document: FitDocument, result: FitResult) -> Result:
    """The result of the fit, or the state that an earlier run had found where this one found nothing better."""
    job, earlier = document.job, document.resumed_from
    poses: dict[str, Any] = {"rigs": result.rigs, "cameras": result.cameras} if job.fits_poses else {}
    step = result.history[-1].step if result.history else 0
    state = FitState(result.mesh.vertices, job.new_faces(result.mesh), iou=ious(result.iou), step=step, **poses)
    if earlier is not None and earlier.score(job.views) > state.score(job.views):
        note = "Nothing better was found than what the fit had found before, which is the result."
        result = replace(
            result,
            mesh=Mesh(earlier.vertices, result.mesh.faces if earlier.faces is None else earlier.faces),
            iou=np.array(earlier.iou, dtype=float),
            rigs=dict(earlier.rigs),
            cameras=earlier.cameras or result.cameras,
            notes=[*result.notes, note],
        )
        state = earlier
    return Result(state.kept(job.rig), result.status, result.notes, result)


def _write_report(folder: Path, document: FitDocument, result: FitResult) -> None:
    from ..report.pictures import write_report

    write_report(folder, document.job.views, document.job.shown, result)


TASK = Task(
    name="fit",
    summary="fit a mesh to the masks of a views folder",
    read=_read,
    run=_run,
    start=_start,
    report=_write_report,
    needs=("torch", "numpy", "scipy", "pillow", "trimesh", "scikit-image", "gpytoolbox", "cholespy"),
    command=FitCommand(),
)
