"""What a fit tells while it runs and when it ends."""

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
from ..views import View

EVENT_SECONDS = 0.1  # between progress events
PREVIEW_SECONDS = 0.4  # between those that show something


@dataclass(frozen=True, eq=False)
class Progress:
    """A moment of a fit.

    Attributes:
        step: steps done, of `steps` over all stages (a stage may end early).
        stage: index of the stage.
        loss: each term times its weight, by name; their sum is what was minimized at that moment.
        elapsed: seconds since the start.
        iou: (N,) of the vertices in this event against all views, of large images against every few pixels; None when
            not measured at this moment.
        vertices: (V, 3) world points (of a sequence in its first frame), or None when this event brings none.
        faces: (F, 3) of those vertices where the fit makes its own mesh, else None.
        rigs: the rig in the frames whose pose is new in this event; with free vertices, those they are on top of.
        cameras: of all views where they moved, or None.
        notes: those of the result that are known already and that no earlier event had.
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
    """The best state of a fit.

    Attributes:
        mesh: the fitted mesh (of a sequence in its first frame); after a refinement with the faces and the vertex order
            it came with.
        iou: (N,) intersection over union with each view's mask, by `evaluate`; NaN for views whose mask is empty or
            full, which are left out.
        history: the progress events without their vertices.
        status: FINISHED, STOPPED (by the caller) or OUT_OF_TIME of `softras.status`.
        elapsed: seconds.
        notes: sentences the user should read, such as that the mesh was moved onto the masks.
        rigs: the fitted rig in each frame, with the modes, locks and limits it came with; empty where only vertices or
            cameras were fitted to a mesh.
        cameras: of each view; where they were not to move, as given.
    """

    mesh: Mesh
    iou: np.ndarray
    history: list[Progress]
    status: Status
    elapsed: float
    notes: list[str] = field(default_factory=list)
    rigs: dict[int, Rig] = field(default_factory=dict)
    cameras: Sequence[Camera] = ()

    @property
    def mean_iou(self) -> float:
        """Mean of `iou` over the views that were not left out."""
        return float(np.nanmean(self.iou))

    def mesh_in(self, frame: int) -> Mesh:
        """The fitted mesh in a frame, in the world."""
        return Mesh(self.rigs[frame].vertices(), self.mesh.faces) if frame in self.rigs else self.mesh

    def fitted_views(self, views: Sequence[View]) -> list[View]:
        """The views it was fitted to, with the fitted cameras."""
        return [replace(view, camera=camera) for view, camera in zip(views, self.cameras, strict=True)]


class Journal:
    """What the parts of one fit share: its clock, its history, its notes, and whether it should end.

    Attributes:
        steps: all steps of the parts so far and of the present one.
        before: those of the parts before.
        status: as in FitResult.
        notes: as in FitResult.
        history: the events without what they show.
    """

    def __init__(self, stop: Callable[[], bool] | None, max_seconds: float | None) -> None:
        self.started = time.perf_counter()
        self._told = self._shown = -np.inf
        self.max_seconds = np.inf if max_seconds is None else max_seconds
        self.steps = self.before = 0
        self.status: Status = FINISHED
        self.notes: list[str] = []
        self.history: list[Progress] = []
        self._stop = stop or (lambda: False)
        self._closing = 0.0

    @contextmanager
    def measuring(self, larger: float = 1.0) -> Iterator[None]:
        """Around a measurement of all views. The result needs another one, of images that many times larger."""
        began = time.perf_counter()
        yield
        self._closing = larger * (time.perf_counter() - began)

    def left(self, max_seconds: float | None = None) -> float:
        """Seconds left for steps, of `max_seconds` or of the fit's own; what measuring the result takes is taken off.

        At least half of the time is for steps, however long a measurement takes.
        """
        limit = self.max_seconds if max_seconds is None else max_seconds
        return limit - min(self._closing, limit / 2) - self.elapsed()

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    def begin(self, steps: int) -> None:
        """A part of so many steps begins."""
        self.before, self.steps = self.steps, self.steps + steps

    def stopped(self) -> bool:
        """Whether the caller wants the fit to end now."""
        if self.status == FINISHED and self._stop():
            self.status = STOPPED
        return self.status == STOPPED

    def due(self) -> bool:
        """Whether it is time for an event."""
        return self.elapsed() - self._told > EVENT_SECONDS

    def preview_due(self) -> bool:
        """Whether it is time for an event that shows something."""
        return self.elapsed() - self._shown > PREVIEW_SECONDS

    def event(self, step: int, stage: int, loss: dict[str, float], **shown: Any) -> Progress:
        """The event of this moment; step: of the present part; shown: further fields of Progress."""
        self._told = self.elapsed()
        if shown.get("vertices") is not None or shown.get("rigs") or shown.get("cameras"):
            self._shown = self._told
        event = Progress(self.before + step, self.steps, stage, loss, self._told, **shown)
        self.history.append(replace(event, vertices=None, faces=None, rigs={}, cameras=None))
        return event
