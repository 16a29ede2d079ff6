"""The best state of a fit is in its job folder while the fit runs, so that nothing is lost with the process.

`result.json` names the files of a state that is whole, whenever the process dies: the next state is written beside
it, under the other stem of BEST, before `result.json` names that one. The result of a fit that has ended is best.*.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .camera import Camera
from .errors import InputError
from .files import inside, read_array, read_json, remove_partial, write_array, write_json
from .io.poses import load_poses, save_poses
from .job import BEST, BEST_FILES, RESULT, Job, finite, forget_results
from .mesh import Mesh
from .rig import Rig, carried_frame, rig_of
from .views import View

if TYPE_CHECKING:
    from .fitting import FitResult, Progress


@dataclass(eq=False)
class State:
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


class Keeper:
    """Keeps the best state of one fit in its job folder. Its methods may be called from several threads."""

    def __init__(self, folder: Path, job: Job, before: State | None = None) -> None:
        """Put the start into the folder, in place of the results of an earlier run; or go on from the state `before`.

        Raises InputError where the folder cannot be written: before the work, not after it.
        """
        self.notes: list[str] = []
        self.closed = False
        self._folder, self._job, self._before = folder, job, before
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._stem = BEST[1]  # of the files that result.json names
        self._state: State | None = None
        self._files: dict[str, str] = {}
        remove_partial(folder)
        if before is not None:  # its files stay until there is something better
            names = read_json(folder / RESULT)
            self._state = before
            self._files = {kind: names[kind] for kind in BEST_FILES if kind in names}
            self._stem = next(stem for stem in BEST if self._files["vertices"] == stem + BEST_FILES["vertices"])
            write_json(folder / RESULT, self._described("running"))
            return
        forget_results(folder)
        if job.start is not None:
            vertices = job.start.vertices() if isinstance(job.start, Rig) else job.start.vertices
            self._write(State(vertices))

    @property
    def holds(self) -> bool:
        """Whether there is a state in the folder, of which a result can tell."""
        return self._state is not None

    def elapsed(self) -> float:
        """Seconds since the start."""
        return round(time.monotonic() - self._started, 3)

    def take(self, event: Progress) -> None:
        """Keep what an event shows where it matches the masks better than all before."""
        if event.vertices is None or event.iou is None:
            return
        state = State(event.vertices, event.faces, event.rigs, event.cameras or (), ious(event.iou), event.step)
        with self._lock:
            held = self._state
            if self.closed or (held is not None and self._score(state) <= self._score(held)):
                return
            self.attempt("The best so far could not be written", lambda: self._write(state))

    def keep_result(self, result: FitResult) -> FitResult:
        """Keep what the fit ended with; returns what is the result then.

        That is what an earlier run had found, where this run went on from it and found nothing better.
        """
        job, before = self._job, self._before
        moved: dict[str, Any] = {"rigs": result.rigs, "cameras": result.cameras} if job.moves else {}
        steps = result.history[-1].step if result.history else 0
        state = State(result.mesh.vertices, job.new_faces(result.mesh), iou=ious(result.iou), step=steps, **moved)
        if before is not None and self._score(before) > self._score(state):
            note = "Nothing better was found than what the fit had found before, which is the result."
            faces = result.mesh.faces if before.faces is None else before.faces
            iou = np.array([np.nan if value is None else value for value in before.iou])
            result = replace(result, mesh=Mesh(before.vertices, faces), iou=iou, notes=[*result.notes, note])
            return replace(result, rigs=dict(before.rigs), cameras=before.cameras or result.cameras)
        with self._lock:
            if not self.closed:
                self.attempt("The last that was found could not be written", lambda: self._write(state))
        return result

    def close(self, status: str, notes: Sequence[str] = ()) -> dict[str, Any] | None:
        """Say in result.json how the fit ended; returns that, or None where it is said already.

        Nothing is written from then on: the files belong to who waited for them.
        """
        with self._lock:
            if self.closed:
                return None
            self.closed = True
            if self._state is None:
                raise InputError("the fit had not begun yet; nothing was changed.")
            if self._stem != BEST[0]:  # where the disk is full, the files stay under the names that they have
                self.attempt("", lambda: self._write(self._state))
            result = self._described(status, [*notes, *self.notes])
            self.attempt("", lambda: write_json(self._folder / RESULT, result))
            self.attempt("", lambda: forget_results(self._folder, BEST[1 - BEST.index(self._stem)]))
            return result

    def attempt(self, what: str, write: Callable[[], object]) -> None:
        """Write something that the fit does not need to go on; what fails is noted, once.

        Raises InputError only where the folder is gone.
        """
        try:
            write()
        except InputError as error:
            if not self._folder.is_dir():
                raise
            note = f"{what}: {error}"
            if what and not any(said.startswith(what) for said in self.notes):
                self.notes.append(note)

    def _write(self, state: State | None) -> None:
        """Put a state beside the one that is in the folder, then let result.json name it."""
        assert state is not None
        stem = BEST[1 - BEST.index(self._stem)]
        names = {kind: stem + ending for kind, ending in BEST_FILES.items()}
        files = {"vertices": names["vertices"]}
        write_array(self._folder / names["vertices"], np.asarray(state.vertices, dtype=np.float64))
        if state.faces is not None:
            files["faces"] = names["faces"]
            write_array(self._folder / names["faces"], state.faces)
        if state.rigs or state.cameras:
            files["poses"] = names["poses"]
            save_poses(self._folder / names["poses"], state.rigs, state.cameras)
        given = self._job.rig
        for rig in state.rigs.values():
            if given is not None and not np.array_equal(rig.mesh.vertices, given.mesh.vertices):
                files["rig_vertices"] = names["rig_vertices"]
                write_array(self._folder / names["rig_vertices"], rig.mesh.vertices)
        before = self._state, self._files, self._stem
        self._state, self._files, self._stem = state, files, stem
        try:
            write_json(self._folder / RESULT, self._described("running"))
        except InputError:
            self._state, self._files, self._stem = before
            raise

    def _described(self, status: str, notes: Sequence[str] = ()) -> dict[str, Any]:
        """What result.json says."""
        assert self._state is not None
        iou = list(self._state.iou)
        told = [value for value in iou if value is not None]
        result = {"status": status, **self._files, "iou": iou, "mean_iou": sum(told) / len(told) if told else None}
        return result | {"step": self._state.step, "elapsed": self.elapsed(), "notes": list(notes)}

    def _score(self, state: State) -> float:
        return _score(state, self._job.views)


def ious(iou: np.ndarray | None) -> list[float | None]:
    """Of each view, as messages and files have it: None for one that was left out."""
    return [] if iou is None else [finite(float(value)) for value in iou]


def _score(state: State, views: Sequence[View]) -> float:
    """The mean over the views by their weights; below 0 before the first measurement."""
    told = [(value, view.weight) for value, view in zip(state.iou, views, strict=False) if value is not None]
    weight = sum(weight for _, weight in told)
    return sum(value * weight for value, weight in told) / weight if weight > 0 else -1.0


def resumed(job: Job, folder: Path) -> tuple[Job, State | None]:
    """The job that starts from the best state in its folder, and that state; the job itself and None without one.

    A new mesh, and the poses of a sequence, are searched for from the beginning; the state that was found stays the
    result until there is a better one. Raises InputError where the state is not of this job.
    """
    if not (folder / RESULT).is_file():
        return job, None
    document = read_json(inside(folder, RESULT))
    wrong = InputError(f"{folder / RESULT} does not belong to this job; run it without --resume.")
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
    state = State(vertices, faces, iou=iou, step=step)
    given = job.rig
    if job.mesh is not None:
        given = rig_of(job.mesh)
    if "poses" in document:
        rigs, cameras = load_poses(inside(folder, document["poses"]), given)
        if len(cameras) not in (0, len(job.views)):
            raise wrong
        state.rigs, state.cameras = rigs, cameras
    return _from(state, job, given), state


def _from(state: State, job: Job, given: Rig | None) -> Job:
    """The job with the state as its start."""
    views, settings = list(job.views), dict(job.settings)
    if state.cameras:
        views = [replace(view, camera=camera) for view, camera in zip(views, state.cameras, strict=True)]
    job = replace(job, views=views, settings=settings)
    frames = {view.frame for view in views}
    if job.start is None or len(frames) > 1:
        return job
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
