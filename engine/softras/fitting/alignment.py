"""Alignment: before free vertices are fitted, the mesh as a whole is moved, rotated and scaled onto the masks.

Free vertices would bend a mesh that only stands elsewhere, is rotated or has another size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from ..mesh import Mesh
from ..views import View, mean_iou
from .observed.evaluate import evaluate, thinned
from .observed.renderer import Renderers
from .poses.fit import fit_poses
from .progress import FitResult, Journal, Progress
from .settings import Settings
from .starts.facing import rotation_of
from .starts.placement import MATCHED, PlacementNote, clearly_better, overlap

SHARE = 0.25  # The search may take this share of max_seconds.
MOST_VIEWS = 8  # The search uses at most so many views: few are enough for seven numbers, and each view costs time.


@dataclass(frozen=True, eq=False)
class Aligned:
    """What alignment ends with.

    Attributes:
        mesh: the mesh, moved or not.
        overlap: how well it overlaps the masks of the views that count, as `overlap` measures it; None if not measured.
    """

    mesh: Mesh
    overlap: float | None = None


def aligned(
    mesh: Mesh, views: list[View], settings: Settings, renderers: Renderers, journal: Journal
) -> Iterator[Progress | Aligned]:
    """Yields the progress of the search; the last item has the mesh, moved if it matches the masks clearly better so.

    A mesh that matches already is returned as it is, and so is one that must stay symmetric: its plane does not move.
    """
    if settings.symmetry is not None:
        yield Aligned(mesh)
        return
    renderer = renderers["exact"]
    counting = [view for view in views if view.weight > 0]
    before = overlap(mesh, counting, renderer)
    if before >= MATCHED:
        yield Aligned(mesh, before)
        return
    alone = replace(settings, optimize=("object",), known_frame=None)
    notes = list(journal.notes)
    watched = None
    if len(counting) > MOST_VIEWS:
        views, watched = most_apart(counting, MOST_VIEWS), [thinned(view) for view in views]
    started: float | None = None
    for event in fit_poses(mesh, views, alone, renderers, journal, SHARE * journal.max_seconds, finest=False):
        if isinstance(event, FitResult):
            result = event
            continue
        if started is None and event.iou is not None:
            started = mean_iou(event.iou, views)  # The first event has the mesh after its placement.
        shown = next(iter(event.rigs.values()), None)
        vertices = event.vertices if shown is None else shown.vertices()
        iou = event.iou
        if iou is not None and vertices is not None and watched is not None:  # The search measured only its own views.
            iou = evaluate(vertices, mesh.faces, watched, renderer)
        # The search minimizes other terms than the fit of free vertices, of which these events are a part.
        journal.history[-1] = replace(journal.history[-1], loss={}, iou=iou)
        yield replace(event, loss={}, vertices=vertices, rigs={}, iou=iou)
    journal.notes[:] = notes
    assert started is not None
    if not clearly_better(mean_iou(result.iou, views), started):
        yield Aligned(mesh, before)
        return
    journal.notes.append(_moved(mesh, result))
    yield Aligned(result.mesh)


def most_apart(views: list[View], count: int) -> list[View]:
    """Up to `count` of the views, in their order, whose viewing directions are as different as possible.

    Farthest point sampling: each next view is the one whose direction is farthest from those already chosen.
    """
    if len(views) <= count:
        return views
    forward = np.array([view.camera.world_to_camera[2, :3] for view in views])
    chosen, nearest = [0], forward @ forward[0]  # (N,) the cosine of the angle to the nearest chosen view
    while len(chosen) < count:
        chosen.append(int(np.argmin(nearest)))
        nearest = np.maximum(nearest, forward @ forward[chosen[-1]])
    return [views[k] for k in sorted(chosen)]


def _moved(given: Mesh, result: FitResult) -> PlacementNote:
    """The note to the user that says how the mesh was moved."""
    (rig,) = result.rigs.values()
    matrix = rig.transform.matrix()
    scale = float(np.cbrt(np.linalg.det(matrix[:3, :3])))
    turn = Rotation.from_matrix(rotation_of(matrix)).as_rotvec()
    angle = float(np.linalg.norm(turn))
    axis = ", ".join(f"{x + 0.0:.2f}" for x in (turn / max(angle, 1e-12)).round(2))
    used = given.vertices[np.unique(result.mesh.faces)]
    way = np.linalg.norm(matrix[:3, 3] - (used.min(axis=0) + used.max(axis=0)) / 2)
    # Rounding leaves negative zeros, which would be written with a sign; adding zero makes them positive.
    return PlacementNote.of(
        f"turned by {np.degrees(angle):.3g} degrees about the axis ({axis}), scaled by {scale:.3g} and moved by "
        f"{way:.3g} onto the masks"
    )
