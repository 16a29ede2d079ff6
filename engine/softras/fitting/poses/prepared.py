"""What a fit of few parameters begins with: the rig, placed on the masks, and the views of each frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ...geometry.topology import closed
from ...mesh import Mesh
from ...rig import PARTS, Rig, mesh_in_world, rig_of
from ...views import View
from ..observed.renderer import Renderer, Renderers
from ..settings import Settings
from ..starts.placement import check_cameras, check_extent, moved_onto_masks, onto_masks
from .problem import PoseProblem


@dataclass(frozen=True, eq=False)
class Prepared:
    """A rig that was checked and placed, and the views it is fitted to. A view counts if its weight is positive.

    Attributes:
        rig: the rig to start from. A mesh alone is made a rig whose object rotates about the mesh's middle.
        placed: whether it was moved onto the masks.
        loose: (V,) bool, True for vertices in no face of a mesh alone, which stay where they are.
        views: all views, in the order of the result.
        frames: the numbers of their frames, ascending.
        used: for each frame, the indices of its views that count.
        parts: the parts of the rig that are fitted, of PARTS.
        cull: whether faces seen from behind are left out.
        settings: the settings of the fit.
        renderer: draws the silhouettes.
    """

    rig: Rig
    placed: bool
    loose: np.ndarray
    views: Sequence[View]
    frames: Sequence[int]
    used: Sequence[Sequence[int]]
    parts: tuple[str, ...]
    cull: bool
    settings: Settings
    renderers: Renderers

    @property
    def renderer(self) -> Renderer:
        """Of what is measured."""
        return self.renderers["exact"]

    @property
    def used_frames(self) -> list[int]:
        """The indices in `frames` of the frames that have a view that counts."""
        return [k for k, views in enumerate(self.used) if views]

    @property
    def movable(self) -> list[int]:
        """The indices of all views: first the views that count, frame by frame, then the others."""
        counting = [i for views in self.used for i in views]
        return counting + [i for i in range(len(self.views)) if i not in set(counting)]

    def problem(
        self,
        parts: Sequence[str],
        frames: Sequence[Sequence[View]],
        pause: Callable[[], None],
        rig: Rig | None = None,
    ) -> PoseProblem:
        """The problem of finding parts of a rig (this one unless another is given) in frames with these views.

        pause: see `PoseProblem`.
        """
        if rig is None and not parts:
            return replace(self._still, frames=frames, random=np.random.default_rng(self.settings.seed), pause=pause)
        return self._problem(rig or self.rig, parts, frames, pause)

    @cached_property
    def _still(self) -> PoseProblem:
        """The problem of a rig that stays: cameras that are searched for one by one share its levels of detail."""
        return self._problem(self.rig, (), [self.views], lambda: None)

    def _problem(
        self, rig: Rig, parts: Sequence[str], frames: Sequence[Sequence[View]], pause: Callable[[], None]
    ) -> PoseProblem:
        return PoseProblem.of(
            rig,
            parts,
            frames,
            weights=self.settings.pose_weights(),
            cull=self.cull,
            renderers=self.renderers,
            seed=self.settings.seed,
            pause=pause,
        )


def prepare(
    start: Mesh | Rig, views: Sequence[View], settings: Settings, renderers: Renderers
) -> tuple[Prepared, list[str]]:
    """The start, placed on the masks if the settings allow and it is elsewhere; and the notes about that.

    Raises InputError for a mesh without extent, and for a camera that cannot see the mesh.
    """
    parts = tuple(part for part in PARTS if part in settings.optimize)
    frames = sorted({view.frame for view in views})
    used = [[i for i, view in enumerate(views) if view.frame == f and view.weight > 0] for f in frames]
    rig = rig_of(start)
    loose = np.zeros(len(rig.mesh.vertices), dtype=bool)
    if isinstance(start, Mesh):
        loose[:] = True
        loose[rig.mesh.faces] = False
    mesh = mesh_in_world(rig)
    check_extent(mesh)
    free = all(rig.transform.free_location) and rig.transform.free_scale and "object" in parts
    found, notes = None, []
    if settings.place == "auto" and settings.known_frame is None and free:
        first = [views[i] for i in next(filter(None, used))]  # In later frames the object may be elsewhere.
        found = onto_masks(mesh, first, renderers["exact"])
    if found is not None:
        scale, onto = found
        moved = np.linalg.inv(rig.parent) @ onto @ rig.parent @ rig.transform.matrix()
        transform = replace(rig.transform, location=moved[:3, 3], scale=rig.transform.scale * scale)
        rig = replace(rig, transform=transform)
        mesh = mesh_in_world(rig)
        notes.append(moved_onto_masks(scale))
    check_cameras(mesh, [view for view in views if view.weight > 0])
    cull = closed(mesh.vertices, mesh.faces) if settings.cull is None else settings.cull
    return Prepared(rig, found is not None, loose, views, frames, used, parts, cull, settings, renderers), notes
