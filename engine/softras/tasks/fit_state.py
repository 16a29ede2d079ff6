"""What a fit reads, and a state of it: as the job folder holds it, and as the start of a fit that goes on from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..cage import Cage
from ..camera import Camera
from ..errors import InputError
from ..files import inside, read_array, read_json, write_array
from ..io.poses import load_poses, save_poses
from ..job import BEST, BEST_FILES, RESULT, Job, finite
from ..keeping import State
from ..mesh import Mesh
from ..rig import Rig, carried_frame, rig_of
from ..views import View, mean_iou


@dataclass(frozen=True, eq=False)
class FitState:
    """A state of a fit.

    Attributes:
        vertices: (V, 3) world points.
        faces: (F, 3) where the fit made its own mesh, else None.
        rigs: by frame, and `cameras` of all views, where they may have moved.
        iou: of each view, None for one that was left out; empty before the first measurement.
        step: of the fit; 0 is the start.
    """

    vertices: np.ndarray
    faces: np.ndarray | None = None
    rigs: Mapping[int, Rig] = field(default_factory=dict)
    cameras: Sequence[Camera] = ()
    iou: Sequence[float | None] = ()
    step: int = 0

    def score(self, views: Sequence[View]) -> float:
        """The mean IoU over the views by their weights; below 0 before the first measurement."""
        mean = finite(mean_iou(self.iou, views)) if self.iou else None
        return -1.0 if mean is None else mean

    def kept(self, given: Rig | None) -> State:
        """What the job folder says and holds of it; given: the rig that the fit starts from."""
        files: dict[str, Callable[[Path], object]] = {"vertices": _array(np.asarray(self.vertices, dtype=np.float64))}
        if self.faces is not None:
            files["faces"] = _array(self.faces)
        if self.rigs or self.cameras:
            files["poses"] = lambda path: save_poses(path, self.rigs, self.cameras)
        for rig in self.rigs.values():
            if given is not None and not np.array_equal(rig.mesh.vertices, given.mesh.vertices):
                files["rig_vertices"] = _array(rig.mesh.vertices)
        return State({"iou": list(self.iou), "mean_iou": finite(mean_iou(self.iou)), "step": self.step}, files)


@dataclass(frozen=True, eq=False)
class FitDocument:
    """What a fit is asked to do: a job and, where it goes on from the best state in the job folder, that state."""

    job: Job
    resumed_from: FitState | None = None

    @property
    def first(self) -> FitState | None:
        """The state before the first step; None of a fit that makes a new mesh."""
        start = self.job.start
        if self.resumed_from is not None or start is None:
            return self.resumed_from
        return FitState(start.vertices() if isinstance(start, Rig) else start.vertices)


def _array(array: np.ndarray) -> Callable[[Path], object]:
    return lambda path: write_array(path, array)


def ious(iou: np.ndarray | None) -> list[float | None]:
    """Of each view, as messages and files have it: None for one that was left out."""
    return [] if iou is None else [finite(float(value)) for value in iou]


def resumed(job: Job, folder: Path) -> tuple[Job, FitState | None]:
    """The job that starts from the best state in its folder, and that state; the job itself and None without one.

    A new mesh, and the poses of a sequence, are searched for from the beginning; the state that was found stays the
    result until there is a better one. Raises InputError where the state is not of this job.
    """
    if not (folder / RESULT).is_file():
        return job, None
    state, given = load_state(job, folder)
    return _from(state, job, given), state


def load_state(job: Job, folder: Path) -> tuple[FitState, Rig | None]:
    """The best state of the job, which result.json in its folder names, and the rig that its poses are of.

    Raises InputError where the state is not of this job.
    """
    document: dict[str, Any] = read_json(inside(folder, RESULT))
    wrong = InputError(f"{folder / RESULT} does not belong to this job; fit the job anew.")
    stem = next((stem for stem in BEST if document.get("vertices") == stem + BEST_FILES["vertices"]), None)
    iou, step = document.get("iou"), document.get("step", 0)
    if stem is None or any(document.get(k, stem + end) != stem + end for k, end in BEST_FILES.items()):
        raise wrong
    if not isinstance(iou, list) or len(iou) not in (0, len(job.views)) or not isinstance(step, int):
        raise wrong
    if not all(value is None or (isinstance(value, float | int) and 0 <= value <= 1) for value in iou):
        raise wrong
    count = None if job.start is None else len((job.mesh or job.rig.mesh).vertices)  # type: ignore[union-attr]
    vertices = read_array(folder, document["vertices"], (count, 3), "f")
    faces = read_array(folder, document["faces"], (None, 3), "iu") if "faces" in document else None
    used = np.arange(0) if faces is None else faces
    if not np.isfinite(vertices).all() or (used.size and not 0 <= used.min() <= used.max() < len(vertices)):
        raise wrong
    given = job.rig
    if job.mesh is not None:
        given = rig_of(job.mesh)
    rigs: Mapping[int, Rig] = {}
    cameras: Sequence[Camera] = ()
    if "poses" in document:
        rigs, cameras = load_poses(inside(folder, document["poses"]), given)
        if len(cameras) not in (0, len(job.views)):
            raise wrong
    return FitState(vertices, faces, rigs, cameras, iou, step), given


def cage_of(job: Job, state: FitState) -> Cage:
    """The job's cage where its object is in the state, which is of one frame."""
    assert job.cage is not None
    rig = next(iter(state.rigs.values()), None)
    given = rig_of(job.mesh) if job.mesh is not None else job.rig
    if rig is None or given is None:
        return job.cage
    return job.cage.moved(rig.matrix @ np.linalg.inv(given.matrix))


def _from(state: FitState, job: Job, given: Rig | None) -> Job:
    """The job with the state as its start."""
    views, settings = list(job.views), dict(job.settings)
    if state.cameras:
        views = [replace(view, camera=camera) for view, camera in zip(views, state.cameras, strict=True)]
    job = replace(job, views=views, settings=settings)
    frames = {view.frame for view in views}
    if job.start is None or len(frames) > 1:
        return job
    if job.cage is not None:
        job = replace(job, cage=cage_of(job, state))
    rig = state.rigs.get(frames.pop())
    if rig is not None and given is not None and settings.get("symmetry") is not None:  # goes with the object
        settings["symmetry_frame"] = carried_frame(settings.get("symmetry_frame"), given, rig)
    if job.mesh is not None:
        return replace(job, mesh=Mesh(state.vertices, job.mesh.faces))
    if rig is None:
        rig = job.rig
        assert rig is not None
    if not np.allclose(rig.vertices(), state.vertices, rtol=0, atol=1e-9 * float(np.ptp(state.vertices) or 1)):
        rig = replace(rig, mesh=Mesh(rig.unposed(state.vertices), rig.mesh.faces))
    return replace(job, rig=rig)
