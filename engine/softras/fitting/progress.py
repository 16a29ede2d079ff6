"""What a fit reports while it runs and when it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..camera import Camera
from ..mesh import Mesh
from ..rig import Rig
from ..status import FINISHED, STOPPED, Status
from ..views import View, mean_iou

EVENT_SECONDS = 0.1  # At least so many seconds lie between two progress events,
PREVIEW_SECONDS = 0.4  # and so many between two events that bring a preview: vertices, rigs or cameras.


@dataclass(frozen=True, eq=False)
class Progress:
    """A moment of a fit.

    Attributes:
        step: how many steps are done.
        steps: how many steps there are at most in all stages; stages may end early.
        stage: index of the stage.
        loss: each term times its weight, by name; their sum is what the fit minimizes at this moment.
        elapsed: seconds since the start.
        iou: (N,) IoU of the vertices in this event with all views, large ones thinned; None when it was not measured.
        vertices: (V, 3) world points, of a sequence in its first frame; None when this event brings none.
        faces: (F, 3) faces of these vertices where the fit makes its own mesh, else None.
        rigs: by frame, the rigs whose pose is new in this event; in a fit of free vertices, the rigs they belong to.
        cameras: the cameras of all views where they move, else None.
        notes: notes of the result that no earlier event had.
    """

    step: int
    steps: int
    stage: int
    loss: dict[str, float]
    elapsed: float
    iou: np.ndarray | None = None
    vertices: np.ndarray | None = None
    faces: np.ndarray | None = None
    rigs: dict[int, Rig] = field(default_factory=dict)
    cameras: Sequence[Camera] | None = None
    notes: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class FitResult:
    """What a fit ends with: the best state that it found.

    Attributes:
        mesh: the fitted mesh in the world, of a sequence in its first frame; a refinement keeps the faces and the order
            of the vertices.
        iou: (N,) intersection over union with each view's mask, by `evaluate`; NaN for views whose mask is empty or
            full, which are left out.
        history: the progress events, without vertices, rigs and cameras.
        status: FINISHED, STOPPED (by the caller) or OUT_OF_TIME of `softras.status`.
        elapsed: seconds from start to end.
        notes: sentences for the user, such as that the mesh was moved onto the masks.
        rigs: the fitted rig in each frame, with the rotation modes, locks and limits of the given one; empty for a mesh
            of which only vertices or cameras were fitted.
        cameras: the fitted camera of each view, or the given one where cameras were not to move.
        shown: what is seen of the fitted mesh where it is the cage of another, else None.
    """

    mesh: Mesh
    iou: np.ndarray
    history: list[Progress]
    status: Status
    elapsed: float
    notes: list[str] = field(default_factory=list)
    rigs: dict[int, Rig] = field(default_factory=dict)
    cameras: Sequence[Camera] = ()
    shown: Mesh | None = None

    @property
    def mean_iou(self) -> float:
        """Mean of `iou` over the views that were not left out."""
        return mean_iou(self.iou)

    def mesh_in(self, frame: int) -> Mesh:
        """What is seen in a frame of the fitted mesh, in the world."""
        if self.shown is not None:
            return self.shown
        return Mesh(self.rigs[frame].vertices(), self.mesh.faces) if frame in self.rigs else self.mesh

    def fitted_views(self, views: Sequence[View]) -> list[View]:
        """The views to which it was fitted, with the fitted cameras."""
        return [replace(view, camera=camera) for view, camera in zip(views, self.cameras, strict=True)]


class Journal:
    """What the parts of one fit (few parameters, free vertices) share: clock, history, notes, and whether to end.

    Attributes:
        steps: how many steps the present part and those before it have at most.
        steps_before: how many of these are of the parts before.
        max_seconds: when the fit ends at the latest; infinite for no limit.
        status: as in FitResult.
        notes: as in FitResult.
        history: as in FitResult.
    """

    def __init__(self, stop: Callable[[], bool] | None, max_seconds: float | None) -> None:
        self.started = time.perf_counter()
        self._last_event = self._last_preview = -np.inf
        self.max_seconds = np.inf if max_seconds is None else max_seconds
        self.steps = self.steps_before = 0
        self.status: Status = FINISHED
        self.notes: list[str] = []
        self.history: list[Progress] = []
        self._stop = stop or (lambda: False)
        self._closing = 0.0

    @contextmanager
    def measuring(self, larger: float = 1.0) -> Iterator[None]:
        """Times a measurement of all views, to know how long it takes to measure the result at the end.

        larger: how many times more pixels that measurement has.
        """
        began = time.perf_counter()
        yield
        self._closing = larger * (time.perf_counter() - began)

    def left(self, max_seconds: float | None = None) -> float:
        """Seconds left for steps: until max_seconds (the fit's own unless given), less the time to measure the result.

        However long that measurement takes, at least half of max_seconds is for steps.
        """
        limit = self.max_seconds if max_seconds is None else max_seconds
        return limit - min(self._closing, limit / 2) - self.elapsed()

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    def begin(self, steps: int) -> None:
        """Begin a part of the fit with at most so many steps."""
        self.steps_before, self.steps = self.steps, self.steps + steps

    def stopped(self) -> bool:
        """Whether the caller wants the fit to end now."""
        if self.status == FINISHED and self._stop():
            self.status = STOPPED
        return self.status == STOPPED

    def over(self, max_seconds: float | None = None) -> bool:
        """Whether nothing more may begin: the caller wants the fit to end, or `left` says that no time is left."""
        return self.stopped() or self.left(max_seconds) <= 0

    def due(self) -> bool:
        """Whether it is time for an event."""
        return self.elapsed() - self._last_event > EVENT_SECONDS

    def preview_due(self) -> bool:
        """Whether it is time for an event with a preview."""
        return self.elapsed() - self._last_preview > PREVIEW_SECONDS

    def event(self, step: int, stage: int, loss: dict[str, float], **more: Any) -> Progress:
        """The event of this moment, which the history keeps.

        Args:
            step: how many steps of the present part are done.
            more: further fields of Progress.
        """
        self._last_event = self.elapsed()
        if more.get("vertices") is not None or more.get("rigs") or more.get("cameras"):
            self._last_preview = self._last_event
        event = Progress(self.steps_before + step, self.steps, stage, loss, self._last_event, **more)
        self.history.append(replace(event, vertices=None, faces=None, rigs={}, cameras=None))
        return event
