"""The fit of few parameters: object, pose, shape keys and cameras, over the frames of a sequence."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from ...mesh import Mesh
from ...rig import Rig
from ...status import FINISHED, OUT_OF_TIME
from ...views import View
from ..observed.renderer import Renderers
from ..progress import FitResult, Journal, Progress
from ..schedule import CAMERAS, FINE, FINEST, JOINT, OBJECT, POSE, POSE_NEAR, SHAPE
from ..settings import Settings
from .bone_search import turn_bones, turn_limbs, turn_root
from .camera_search import find_cameras
from .cameras import MovingCameras, groups
from .object_search import search_turns, spread
from .prepared import Prepared, prepare
from .search import FEW_FRAMES, Poses, Search, apart, exchange, onwards, together
from .tracker import Fitted, Tracker

TRIES = 3  # The first stage of the search for a pose is repeated so often where there are at most FEW_FRAMES frames.
SWEEPS = 3  # Frames that match badly try the poses of the frames beside them at most so many times.
MATCHED = 0.9  # An object or a root bone whose views match with this mean IoU is not tried in other rotations.
MOST_VIEWS = 8  # In frames of more views no single bones are searched for: it would take long, and rarely helps.
WELL_MATCHED = 0.97  # With this mean IoU, larger bones are not searched for thoroughly.


def fit_poses(
    start: Mesh | Rig,
    views: Sequence[View],
    settings: Settings,
    renderers: Renderers,
    journal: Journal,
    max_seconds: float,
    *,
    finest: bool = True,
) -> Iterator[Progress | FitResult]:
    """The progress of the fit; the last item is the result.

    Args:
        start: a rig, or a mesh whose object or cameras are fitted.
        max_seconds: when the fit ends at the latest, counted from the journal's start.
        finest: whether the last stages, with the finest crops, are wanted.
    """
    prepared, notes = prepare(start, views, settings, renderers)
    journal.notes += notes
    journal.begin(_most_steps(prepared))
    tracker = Tracker(prepared, journal, max_seconds)
    fitted = Fitted(dict.fromkeys(prepared.frames, prepared.rig), [view.camera for view in views])
    poses = PoseFit(prepared, tracker) if prepared.parts else None  # refuses a rig in which nothing may change
    with journal.measuring(tracker.larger()):
        begun = tracker.evaluated(fitted)
    yield begun
    if poses is not None:
        fitted = yield from poses.find(finest)
    else:
        fitted = yield from find_cameras(prepared, tracker, fitted)
    vertices = start.vertices() if isinstance(start, Rig) else start.vertices
    if prepared.parts:
        vertices = np.where(prepared.loose[:, None], vertices, fitted.rigs[prepared.frames[0]].vertices())
    iou = tracker.measured(fitted, range(len(views)), whole=True)
    status = OUT_OF_TIME if tracker.late and journal.status == FINISHED else journal.status
    mesh, rigs = Mesh(vertices, prepared.rig.mesh.faces), fitted.rigs if prepared.parts else {}
    yield FitResult(mesh, iou, journal.history, status, journal.elapsed(), journal.notes, rigs, fitted.cameras)


def _most_steps(prepared: Prepared) -> int:
    """How many steps the stages have together, for the progress bar; `exchange` may take more."""
    if not prepared.parts:
        return len(list(groups(prepared))) * sum(stage.steps for stage in (*CAMERAS[:1], *CAMERAS))
    stages, last = (POSE, FINE) if "pose" in prepared.parts else (SHAPE, FINEST)
    return len(prepared.frames) * sum(stage.steps for stage in stages) + sum(stage.steps for stage in last)


class PoseFit:
    """The order in which the poses of a rig are searched for.

    The object in the first frame, then each frame by itself, then all frames together with the cameras.
    """

    def __init__(self, prepared: Prepared, tracker: Tracker) -> None:
        self._prepared, self._tracker, self._settings = prepared, tracker, prepared.settings
        frames = [[prepared.views[i] for i in views] for views in prepared.used]
        self._problem = prepared.problem(prepared.parts, frames, tracker.pause)
        given = [prepared.views[i].camera for i in prepared.movable]
        self._cameras = MovingCameras.of(given, self._problem.unit, self._settings)
        # The same pose gives the same Rig object, so that the tracker measures only the frames whose rig is a new one.
        self._rig_at = lru_cache(2 * len(frames))(lambda pose: self._problem.rig_at(np.frombuffer(pose).copy()))

    def find(self, finest: bool) -> Generator[Progress, None, Fitted]:
        """Search for the rig in every frame and for the cameras."""
        prepared, settings = self._prepared, self._settings
        known = None if settings.known_frame is None else prepared.frames.index(settings.known_frame)
        poses = yield from self._find_object(Poses.start(self._problem), known)
        if "pose" in prepared.parts:
            poses = yield from self._find_poses(poses, known)
        else:
            poses = yield from self._find_shape(poses, known)
        problem = self._problem
        if "cameras" in settings.optimize:
            problem = problem.with_cameras(self._cameras.moves)
            poses = poses.with_cameras(problem)
            poses = yield from self._follow(together(problem, poses, prepared.used_frames, JOINT, known), poses)
        if finest:
            stages = FINE if "pose" in prepared.parts else FINEST
            poses = yield from self._follow(together(problem, poses, prepared.used_frames, stages, known), poses)
        fitted = self._fitted(self._filled(poses))
        if not self._tracker.ended():
            yield self._tracker.evaluated(fitted)
        return fitted

    def _find_object(self, poses: Poses, known: int | None) -> Generator[Progress, None, Poses]:
        """Search for the object's transform in the first frame, with all else as given; other frames start from it."""
        part = self._problem.figure.slices["object"]
        if known is not None or part.start == part.stop:
            return poses
        first = self._prepared.used_frames[0]
        free = self._prepared.rig.transform.turns_freely
        unsure = self._prepared.placed or self._tracker.iou[self._prepared.used[first]].mean() < MATCHED
        turns = spread(self._settings.turns if free and unsure else 0)
        poses = yield from self._follow(search_turns(self._problem, poses, first, OBJECT, turns), poses)
        return poses.all_like(first)

    def _find_shape(self, poses: Poses, known: int | None) -> Generator[Progress, None, Poses]:
        """Search for the object and the shape keys, one frame after the other."""
        problem, used = self._problem, self._prepared.used_frames
        first = used[0] if known is None else known
        if known is None and self._prepared.parts != ("object",):  # An object alone was found by `_find_object`.
            poses = yield from self._follow(apart(problem, poses, [first], SHAPE), poses)
        others = [k for k in used if k != first]
        return (yield from self._follow(onwards(problem, poses, first, others, SHAPE), poses))

    def _find_poses(self, poses: Poses, known: int | None) -> Generator[Progress, None, Poses]:
        """Search for the bones in every frame, and once more in frames that match worse than others."""
        problem, used = self._problem, self._prepared.used_frames
        others = [k for k in used if k != known]
        few = len(others) <= FEW_FRAMES
        if known is None:
            tries = TRIES if few else 1
            poses = yield from self._follow(apart(problem, poses, others, POSE, tries), poses)
        else:
            poses = yield from self._follow(onwards(problem, poses, known, others, POSE), poses)
        if not self._tracker.ended():
            yield self._tracker.evaluated(self._fitted(poses))
        if few and known is None and "object" not in self._prepared.parts:
            poses = yield from self._follow(turn_root(problem, poses, self._below(MATCHED, others), POSE), poses)
        poses = yield from self._follow(exchange(problem, poses, used, POSE_NEAR, SWEEPS, known), poses)
        if few:
            seen = [f for f in others if len(self._prepared.used[f]) <= MOST_VIEWS]
            poses = yield from self._follow(turn_bones(problem, poses, seen, POSE_NEAR), poses)
            if not self._tracker.ended():
                yield self._tracker.evaluated(self._fitted(poses))
            left = self._below(WELL_MATCHED, seen)
            poses = yield from self._follow(turn_limbs(problem, poses, left, POSE_NEAR), poses)
        return poses

    def _below(self, iou: float, frames: Sequence[int]) -> list[int]:
        """Those of some frames whose views match with a lower mean IoU, when they were last measured."""
        return [f for f in frames if self._tracker.iou[self._prepared.used[f]].mean() < iou]

    def _filled(self, poses: Poses) -> Poses:
        """The poses, with frames without a view of positive weight interpolated between the frames beside them."""
        numbers, used = self._prepared.frames, self._prepared.used_frames
        at = np.take(numbers, used)
        columns = [np.interp(numbers, at, column[used]) for column in poses.frames.T]
        return replace(poses, frames=np.stack(columns, axis=1))

    def _follow(self, search: Search, poses: Poses) -> Generator[Progress, None, Poses]:
        return self._tracker.follow(search, poses, self._fitted)

    def _fitted(self, poses: Poses) -> Fitted:
        """The rigs and the cameras that poses stand for."""
        prepared = self._prepared
        rigs = {f: self._rig_at(pose.tobytes()) for f, pose in zip(prepared.frames, poses.frames, strict=True)}
        fitted = Fitted(rigs, [view.camera for view in prepared.views])
        return fitted.with_cameras(prepared.movable, self._cameras.at(poses.shared)) if poses.shared.size else fitted
