"""The search for the cameras of a mesh that stays.

A search starts from where the cameras are; where it ends badly, another starts from all sides of the object.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from ...rig import mesh_in_world, rig_of
from ...views import View
from ..observed.observed_view import images_of
from ..observed.rays import nearest_point_to_rays
from ..progress import Progress
from ..schedule import CAMERAS, OBJECT
from ..starts.facing import best_apart, facings
from ..starts.placement import clearly_better
from .cameras import MovingCameras, aimed, groups
from .object_search import search_turns, spread
from .prepared import Prepared
from .search import Poses, together
from .tracker import Fitted, Tracker

FACINGS = 1000  # So many rotations of the cameras about the object are rated by small silhouettes,
TRIED = 8  # and so many of the best are refined.
SETTLED = 0.95  # Cameras whose views match with at least this mean IoU are not searched for from all sides.


def find_cameras(prepared: Prepared, tracker: Tracker, fitted: Fitted) -> Generator[Progress, None, Fitted]:
    """Search for all cameras of a mesh that stays: together if they form a rigid rig, else one after the other."""
    for which in groups(prepared):
        if tracker.ended():
            break
        fitted = yield from _find_group(prepared, tracker, fitted, which)
    return fitted


def _find_group(
    prepared: Prepared, tracker: Tracker, fitted: Fitted, which: Sequence[int]
) -> Generator[Progress, None, Fitted]:
    """Search for the cameras of the views with these indices, which move as one.

    Cameras that may move and rotate freely, and that match badly after a search from where they are, are searched for
    from all sides; they go there only where that matches clearly better.
    """
    near = yield from _refine(prepared, tracker, fitted, which)
    anywhere = {"location", "rotation"} <= set(prepared.settings.camera_parts)
    if tracker.ended() or not anywhere or not prepared.settings.turns:
        return near
    iou = tracker.mean_iou(near, which)
    if iou >= SETTLED:
        return near
    turned, rivals = yield from _turn_about_object(prepared, tracker, near, which)
    far = yield from _refine(prepared, tracker, turned, which)
    if not clearly_better(tracker.mean_iou(far, which), iou):
        yield tracker.evaluated(near)
        return near
    if rivals:
        tracker.note(
            f"The camera of view '{prepared.views[which[0]].name}' could as well look from another side, "
            f"{min(rivals):.0f} degrees away: the mesh looks alike from there; a landmark would tell."
        )
    return far


def _refine(
    prepared: Prepared, tracker: Tracker, fitted: Fitted, which: Sequence[int]
) -> Generator[Progress, None, Fitted]:
    """Search for the cameras of these views from where they are, and from a pose in which they look at the object."""
    still = prepared.problem((), [_counting(prepared, fitted, which)], tracker.pause)
    cameras = MovingCameras.of([fitted.cameras[i] for i in which], still.unit, prepared.settings)
    problem = still.with_cameras(cameras.moves)

    def moved(poses: Poses) -> Fitted:
        return fitted.with_cameras(which, cameras.at(poses.shared))

    given = Poses.start(problem)
    starts = [given.shared, *aimed(cameras.moves, prepared.settings.camera_parts, problem)]
    found = []
    for start in (replace(given, shared=shared) for shared in starts):
        ended = yield from tracker.follow(together(problem, start, [0], CAMERAS[:1]), start, moved)
        found.append(ended)
    best = min(found, key=lambda poses: poses.cost)
    best = yield from tracker.follow(together(problem, best, [0], CAMERAS[1:]), best, moved)
    if not tracker.ended():
        yield tracker.evaluated(moved(best))
    return moved(best)


def _turn_about_object(
    prepared: Prepared, tracker: Tracker, fitted: Fitted, which: Sequence[int]
) -> Generator[Progress, None, tuple[Fitted, tuple[float, ...]]]:
    """Rotate the cameras of these views about the object to the side from which it matches the masks best.

    Cameras that circle an object see the same pictures as cameras that stand still while the object turns the other
    way, so the rotation of the object is searched for.

    Returns:
        The views with their cameras there, and the angles in degrees to rotations that match about as well.
    """
    views = _counting(prepared, fitted, which)
    rig = rig_of(mesh_in_world(prepared.rig))
    middle = rig.transform.location
    shown = nearest_point_to_rays(
        [view.camera for view in views], [images_of(view).bounds.mean(axis=0) for view in views], near=middle
    )
    rig = replace(rig, transform=replace(rig.transform, location=shown, free_scale=False))
    problem = prepared.problem(("object",), [views], tracker.pause, rig)
    rotations = spread(FACINGS, np.pi)
    rated = facings(problem.level(OBJECT[0]).mesh, views, rotations, prepared.renderer, tracker.ended)
    turns = [Rotation.from_matrix(facing.rotation) for facing in best_apart(rated, TRIED)]
    start = Poses.start(problem)
    poses = yield from tracker.follow(search_turns(problem, start, 0, OBJECT, turns), start, lambda _: fitted)
    motion = problem.rig_at(poses.frames[0]).transform.matrix()
    motion[:3, 3] -= motion[:3, :3] @ middle
    given = [fitted.cameras[i] for i in which]
    cameras = [replace(camera, world_to_camera=camera.world_to_camera @ motion) for camera in given]
    return fitted.with_cameras(which, cameras), poses.rivals


def _counting(prepared: Prepared, fitted: Fitted, which: Sequence[int]) -> list[View]:
    """Those of the views with these indices whose weight is positive, with their cameras as they are now."""
    return [replace(prepared.views[i], camera=fitted.cameras[i]) for i in which if prepared.views[i].weight > 0]
