"""Runs the searches of a fit as long as there is time, and reports their progress."""

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

MEASURE_SECONDS = 2.0  # While searches run, the IoU is measured every so many seconds.


class TimeUp(Exception):
    """Raised to end a search between two of its moments; the poses of the last moment are its result."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """What a fit has found: the rig in each frame, by the frame's number, and the camera of each view."""

    rigs: dict[int, Rig]
    cameras: Sequence[Camera]

    def with_cameras(self, which: Sequence[int], cameras: Sequence[Camera]) -> Fitted:
        """The same, with other cameras for the views with these indices."""
        found = list(self.cameras)
        for i, camera in zip(which, cameras, strict=True):
            found[i] = camera
        return replace(self, cameras=found)


class Tracker:
    """Runs the searches of one fit: counts steps, ends them when the time is up, measures, and reports progress.

    Attributes:
        late: whether the time was up before the fit had ended by itself.
        iou: (N,) the IoU of each view when it was last measured.
    """

    def __init__(self, prepared: Prepared, journal: Journal, max_seconds: float) -> None:
        """max_seconds: when the time is up, counted from the journal's start."""
        self.late, self.iou = False, np.zeros(len(prepared.views))
        self._prepared, self._journal, self._max_seconds = prepared, journal, max_seconds
        self._watched = [thinned(view) for view in prepared.views]
        self._step, self._cost = 0, np.inf
        self._measured: dict[int, tuple[Rig, Camera]] = {}  # What was measured last, by view.
        self._measured_at = -np.inf

    def ended(self) -> bool:
        """Whether the time is up, or the caller wants the fit to end."""
        self.late |= self._journal.left(self._max_seconds) <= 0
        return self.late or self._journal.stopped()

    def pause(self) -> None:
        """Raise TimeUp if the search is to end before its next moment."""
        if self.ended():
            raise TimeUp

    def follow(
        self, search: Search, poses: Poses, fitted: Callable[[Poses], Fitted]
    ) -> Generator[Progress, None, Poses]:
        """Take the steps of a search as long as there is time, and yield progress now and then.

        Returns the poses that the search ends with or has found when the time is up.

        Args:
            poses: what is returned if the search is ended before its first step.
            fitted: gives the rigs and the cameras that poses of the search stand for.
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
        """The event of this moment with the IoU of every view; only frames that changed are measured anew."""
        prepared = self._prepared
        changed = []
        for i, view in enumerate(prepared.views):
            rig, camera = self._measured.get(i, (None, None))
            if rig is not fitted.rigs[view.frame] or camera != fitted.cameras[i]:
                changed.append(i)
                self._measured[i] = fitted.rigs[view.frame], fitted.cameras[i]
        self.iou = self.iou.copy()
        self.iou[changed] = self.measured(fitted, changed)[changed]
        self._measured_at = self._journal.elapsed()
        rigs = dict(fitted.rigs) if prepared.parts and self._step else {}
        cameras = list(fitted.cameras) if "cameras" in prepared.settings.optimize else None
        vertices = fitted.rigs[prepared.frames[0]].vertices()
        return self._event(iou=self.iou, vertices=vertices, rigs=rigs, cameras=cameras)

    def measured(self, fitted: Fitted, which: Sequence[int], *, whole: bool = False) -> np.ndarray:
        """(N,) the IoU with the views of these indices, 0 for all others.

        whole: whether every pixel is measured; if not, large views are thinned.
        """
        prepared = self._prepared
        views = prepared.views if whole else self._watched
        iou = np.zeros(len(views))
        for f, rig in fitted.rigs.items():
            index = [i for i in which if views[i].frame == f]
            if not index:
                continue
            moved = [_with_camera(views[i], prepared.views[i].camera, fitted.cameras[i]) for i in index]
            iou[index] = evaluate(rig.vertices(), rig.mesh.faces, moved, prepared.renderer)
        return iou

    def larger(self) -> float:
        """How many times more pixels the views have than are measured while searches run."""
        return larger(self._prepared.views, self._watched)

    def mean_iou(self, fitted: Fitted, which: Sequence[int]) -> float:
        """The mean IoU with the views of these indices, by their weights."""
        counting = [i for i in which if self._prepared.views[i].weight > 0]
        return mean_iou(self.measured(fitted, counting)[counting], [self._prepared.views[i] for i in counting])

    def note(self, sentence: str) -> None:
        """Add a sentence to the notes for the user."""
        self._journal.notes.append(sentence)

    def _preview(self, moment: Moment, fitted: Callable[[Poses], Fitted]) -> Progress:
        """The event of a moment, with the rigs and the cameras that its step has changed."""
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
        self._journal.steps = max(self._journal.steps, self._journal.steps_before + self._step)
        loss = {"squares": float(self._cost)} if np.isfinite(self._cost) else {}
        return self._journal.event(self._step, 0, loss, **shown)


def _with_camera(view: View, given: Camera, camera: Camera) -> View:
    """A view, maybe thinned, moved along with the camera of the whole view from `given` to `camera`."""
    into_view = view.camera.K @ np.linalg.inv(given.K)
    return replace(view, camera=replace(view.camera, K=into_view @ camera.K, world_to_camera=camera.world_to_camera))
