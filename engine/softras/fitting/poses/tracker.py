"""Runs the searches of a fit as long as there is time, and tells how they go."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...camera import Camera
from ...rig import Rig
from ...views import View, mean_iou
from ..observed.evaluate import evaluate, larger, thinned
from ..progress import Journal, Progress
from .prepared import Prepared
from .search import Moment, Poses, Search

MEASURE_SECONDS = 2.0  # Between measurements of the IoU on the way.

Told = Generator[Progress, None, Poses]


class TimeUp(Exception):
    """Ends a search between two of its moments; what it found so far stays."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """What views are of: the rig in each frame, by its number, and the camera of each view."""

    rigs: dict[int, Rig]
    cameras: Sequence[Camera]

    def with_cameras(self, which: Sequence[int], cameras: Sequence[Camera]) -> Fitted:
        """With other cameras of these views."""
        found = list(self.cameras)
        for i, camera in zip(which, cameras, strict=True):
            found[i] = camera
        return replace(self, cameras=found)


class Tracker:
    """Counts the steps of one fit and watches its clock; measures and tells on the way.

    Attributes:
        late: whether the time was up before the fit had ended by itself.
        iou: (N,) of each view when it was last measured.
    """

    def __init__(self, prepared: Prepared, journal: Journal, max_seconds: float) -> None:
        """max_seconds: since the journal's start."""
        self.late, self.iou = False, np.zeros(len(prepared.views))
        self._prepared, self._journal, self._max_seconds = prepared, journal, max_seconds
        self._watched = [thinned(view) for view in prepared.views]
        self._step, self._cost = 0, np.inf
        self._measured: dict[int, tuple[Rig, list[Camera]]] = {}  # of what, by frame
        self._measured_at = -np.inf

    def ended(self) -> bool:
        """Whether the time is up, or the caller wants the end."""
        self.late |= self._journal.left(self._max_seconds) <= 0
        return self.late or self._journal.stopped()

    def pause(self) -> None:
        """Raises TimeUp where the search is to end before its next moment."""
        if self.ended():
            raise TimeUp

    def follow(self, search: Search, poses: Poses, fitted: Callable[[Poses], Fitted]) -> Told:
        """Take the steps of a search, as long as there is time, and tell of some.

        Returns the poses it ends with; of a search that is left off those it has found until then, and `poses` where
        it has not begun.

        Args:
            fitted: what some poses of the search mean for the views.
        """
        if self._journal.stopped() or self.late:
            return poses
        try:
            while True:
                try:
                    moment = next(search)
                except StopIteration as end:
                    self._cost = end.value.cost
                    return end.value
                poses, self._cost = moment.poses, moment.cost
                self._step += 1
                if self._journal.elapsed() - self._measured_at > MEASURE_SECONDS:
                    yield self.evaluated(fitted(poses))
                elif self._journal.preview_due() and (self._prepared.parts or moment.x.shared.size):
                    yield self._preview(moment, fitted)
                elif self._journal.due():
                    yield self._event()
                if self.ended():
                    return poses
        except TimeUp:
            return poses

    def evaluated(self, fitted: Fitted) -> Progress:
        """The event of this moment with the IoU of every view."""
        prepared = self._prepared
        for f in prepared.frames:
            index = [i for i, view in enumerate(prepared.views) if view.frame == f]
            state = fitted.rigs[f], [fitted.cameras[i] for i in index]
            known = self._measured.get(f)
            if known is None or known[0] is not state[0] or known[1] != state[1]:
                self.iou = self.iou.copy()
                self.iou[index] = self.measured(fitted, index)[index]
                self._measured[f] = state
        self._measured_at = self._journal.elapsed()
        rigs = dict(fitted.rigs) if prepared.parts and self._step else {}
        cameras = list(fitted.cameras) if "cameras" in prepared.settings.optimize else None
        vertices = fitted.rigs[prepared.frames[0]].vertices()
        return self._event(iou=self.iou, vertices=vertices, rigs=rigs, cameras=cameras)

    def measured(self, fitted: Fitted, which: Sequence[int], *, whole: bool = False) -> np.ndarray:
        """(N,) IoU with these views, 0 for others; with every pixel of large ones, or with enough to tell."""
        prepared = self._prepared
        views = prepared.views if whole else self._watched
        iou = np.zeros(len(views))
        for f, rig in fitted.rigs.items():
            index = [i for i in which if views[i].frame == f]
            moved = [_with_camera(views[i], prepared.views[i].camera, fitted.cameras[i]) for i in index]
            iou[index] = evaluate(rig.vertices(), rig.mesh.faces, moved, prepared.renderer)
        return iou

    def larger(self) -> float:
        """How many times more pixels all views have than what is measured of them on the way."""
        return larger(self._prepared.views, self._watched)

    def mean_iou(self, fitted: Fitted, which: Sequence[int]) -> float:
        """Of these views, by their weights."""
        counting = [i for i in which if self._prepared.views[i].weight > 0]
        return mean_iou(self.measured(fitted, counting)[counting], [self._prepared.views[i] for i in counting])

    def note(self, sentence: str) -> None:
        """Tell the user."""
        self._journal.notes.append(sentence)

    def _preview(self, moment: Moment, fitted: Callable[[Poses], Fitted]) -> Progress:
        """The event of a moment with what its step has changed."""
        prepared = self._prepared
        shown: dict[str, Any] = {}
        tried = fitted(moment.poses.at(moment.frames, moment.x, moment.cost))
        if moment.x.shared.size:
            shown["cameras"] = list(tried.cameras)
        if prepared.parts:
            shown["rigs"] = {f: tried.rigs[f] for f in (prepared.frames[k] for k in moment.frames)}
        return self._event(**shown)

    def _event(self, **shown: Any) -> Progress:
        """The event of this moment."""
        self._journal.steps = max(self._journal.steps, self._journal.before + self._step)
        loss = {"squares": float(self._cost)} if np.isfinite(self._cost) else {}
        return self._journal.event(self._step, 0, loss, **shown)


def _with_camera(view: View, given: Camera, camera: Camera) -> View:
    """A view, maybe thinned, whose camera moved from the given one."""
    into_view = view.camera.K @ np.linalg.inv(given.K)
    return replace(view, camera=replace(view.camera, K=into_view @ camera.K, world_to_camera=camera.world_to_camera))
