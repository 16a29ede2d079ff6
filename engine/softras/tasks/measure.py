"""The task `measure`: how well a mesh matches the masks of views, with the numbers and the pictures of a fit."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import one_of
from ..errors import InputError
from ..job import RESULT, Job, finite
from ..keeping import State
from ..mesh import Mesh
from ..rig import Rig, mesh_in_world
from ..views import View, mean_iou
from .command import Command, add_inputs, check_inputs, given_mesh, given_views
from .fit_state import cage_of, ious, load_state
from .task import Context, Result, Task, Update


@dataclass(frozen=True, eq=False)
class Measurement:
    """How well a mesh matches views.

    Attributes:
        iou: (N,) intersection over union of the mesh's silhouette and the mask of each view, as `FitResult.iou` has it:
            a pixel belongs to the silhouette where a face covers its centre, at the mask's full size. NaN for a view
            whose mask is empty or full.
        iou_by_area: (N,) the same by areas: of the part of each pixel that the mesh covers exactly, and of the mask's
            values read as such parts (sum of the lesser over sum of the greater of the two). Masks with soft edges
            and parts thinner than a pixel count as they are.
        meshes: what was measured, in the world, by the frame of the views.
    """

    iou: np.ndarray
    iou_by_area: np.ndarray
    meshes: Mapping[int, Mesh]

    @property
    def mean_iou(self) -> float:
        """Mean of `iou` over the views that were not left out; NaN where all were."""
        return mean_iou(self.iou)

    @property
    def mean_iou_by_area(self) -> float:
        """Mean of `iou_by_area`, over the same views."""
        return mean_iou(self.iou_by_area)


def measure(
    shown: Mesh | Rig | Mapping[int, Mesh | Rig], views: Sequence[View], *, renderer: str = "auto"
) -> Measurement:
    """Compare a mesh, or a rig in its pose, with the masks of views, on the CPU.

    Args:
        shown: the same in all views, or one for each frame: `softras.measure(result.rigs, views)` measures a sequence.
        views: at least one.
        renderer: what draws the silhouettes of `iou`, as the setting of a fit.

    Raises InputError without views, and where there is nothing to show in the frame of a view.
    """
    meshes = _meshes(shown, views)
    return _measurement(list(_ious(meshes, views, renderer)), meshes)


def _measurement(found: Sequence[tuple[float, float]], meshes: Mapping[int, Mesh]) -> Measurement:
    """Of the pairs that `_ious` has found."""
    iou, by_area = np.array(found).T
    return Measurement(iou, by_area, meshes)


def _ious(meshes: Mapping[int, Mesh], views: Sequence[View], renderer: str) -> Iterator[tuple[float, float]]:
    """The IoU by pixel centres and that by area, of one view after the other."""
    import torch

    from ..fitting.observed.evaluate import covered_areas, evaluate, iou_by_area
    from ..fitting.observed.renderer import Renderers, renderer_names

    drawn_by = Renderers(one_of("renderer", renderer, renderer_names()), torch.device("cpu"))["exact"]
    for view in views:
        mesh = meshes[view.frame]
        iou = float(evaluate(mesh.vertices, mesh.faces, [view], drawn_by)[0])
        yield iou, iou_by_area(covered_areas(mesh.vertices, mesh.faces, view.camera), view)


def _meshes(shown: Mesh | Rig | Mapping[int, Mesh | Rig], views: Sequence[View]) -> dict[int, Mesh]:
    """What the views of each frame show, in the world."""
    if not views:
        raise InputError("there are no views; add at least one camera with a mask.")
    frames = dict.fromkeys(view.frame for view in views)
    if not isinstance(shown, Mapping):
        return dict.fromkeys(frames, mesh_in_world(shown))
    for frame in frames:
        if frame not in shown:
            raise InputError(f"there is no mesh for frame {frame}; give one for the frame of every view.")
    return {frame: mesh_in_world(shown[frame]) for frame in frames}


@dataclass(frozen=True, eq=False)
class _Document:
    """What is to be measured: `meshes` by frame, against `views`, as `renderer` draws them."""

    meshes: dict[int, Mesh]
    views: list[View]
    renderer: Any = "auto"


def _read(folder: Path, allow: Sequence[Path | str]) -> _Document:
    """The start of the job in the folder."""
    job = Job.load(folder, allow)
    if job.start is None:
        raise InputError(
            f"there is no mesh in {folder}, since its fit makes a new one; fit it first, then measure that."
        )
    assert job.shown is not None
    return _Document(_meshes(job.shown, job.views), job.views, job.settings.get("renderer", "auto"))


def _read_best(options: argparse.Namespace) -> _Document:
    """The best state that a fit has left in the job folder, in views with the cameras that it found."""
    folder = Path(options.job)
    job = Job.load(folder, options.allow)
    if not (folder / RESULT).is_file():
        raise InputError(f"no fit has left a result in {folder}; fit the job first, or leave --best out.")
    state, _ = load_state(job, folder)
    cameras = state.cameras or [view.camera for view in job.views]
    views = [replace(view, camera=camera) for view, camera in zip(job.views, cameras, strict=True)]
    shown: Mesh | Mapping[int, Rig] = state.rigs
    if not state.rigs or len({view.frame for view in views}) == 1:  # where vertices may be free on top of the rig
        start = job.rig.mesh if job.rig is not None else job.mesh
        faces = state.faces if start is None or state.faces is not None else start.faces
        if faces is None:
            raise InputError(f"the result in {folder} has no faces; fit the job anew.")
        shown = Mesh(state.vertices, faces)
        if job.cage is not None:
            shown = cage_of(job, state).shown_at(state.vertices)
    return _Document(_meshes(shown, views), views, job.settings.get("renderer", "auto"))


def _run(document: _Document, context: Context) -> Iterator[Update | Result]:
    found: list[tuple[float, float]] = []
    total = len(document.views)
    for both in _ious(document.meshes, document.views, document.renderer):
        found.append(both)
        mean = finite(mean_iou([iou for iou, _ in found]))
        text = "" if mean is None else f"mean IoU {mean:.4f}"
        yield Update(len(found), total, text, fields={"mean_iou": mean})
        if len(found) < total and context.stopped():
            return
    value = _measurement(found, document.meshes)
    fields: dict[str, Any] = {
        "views": [view.name for view in document.views],
        "iou": ious(value.iou),
        "mean_iou": finite(value.mean_iou),
        "iou_by_area": ious(value.iou_by_area),
        "mean_iou_by_area": finite(value.mean_iou_by_area),
    }
    yield Result(State(fields), value=value)


def _write_report(folder: Path, document: _Document, found: Measurement) -> None:
    from ..report.pictures import write_measurement

    write_measurement(folder, document.views, found.meshes, found.iou)


class MeasureCommand(Command):
    """The command of the task: it changes nothing in a job folder, and prints JSON."""

    description = (
        "Compare a mesh with the masks of a views folder, or the mesh of a job folder with its masks. "
        "Prints the intersection over union (IoU) of each view as JSON."
    )

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Declare the inputs."""
        add_inputs(parser, mesh="the mesh to measure")
        parser.add_argument(
            "--best", action="store_true", help="measure what a fit has left in the job folder, not its start"
        )

    def read(self, task: Task, options: argparse.Namespace) -> _Document:
        """The mesh and the views."""
        check_inputs(options)
        if options.job:
            return _read_best(options) if options.best else task.read(Path(options.job), options.allow)
        if options.best:
            raise InputError("only a job folder keeps what a fit has found; give one with --best.")
        if not options.mesh:
            raise InputError("there is no mesh to measure; name one with --mesh FILE.")
        mesh, views = given_mesh(options), given_views(options)
        assert mesh is not None
        return _Document(_meshes(mesh, views), views)


TASK = Task(
    name="measure",
    summary="measure how well a mesh matches masks",
    read=_read,
    run=_run,
    report=_write_report,
    needs=("torch", "numpy", "scipy", "cholespy", "pillow"),
    command=MeasureCommand(),
)
