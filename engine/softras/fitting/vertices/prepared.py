"""What a fit of free vertices begins with: the artist's mesh, placed on the masks, or the visual hull of the masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...cage import Cage
from ...deform import find_partners, follow
from ...mesh import Mesh
from ...views import View
from ..observed.renderer import Renderer
from ..observed.unit import UnitSpace
from ..progress import Journal
from ..settings import AXES, Settings
from ..starts.hull import carve
from ..starts.placement import check_cameras, check_extent, moved_onto_masks, onto_masks


@dataclass(frozen=True, eq=False)
class Prepared:
    """A mesh that was checked and placed, with what holds its vertices.

    Attributes:
        mesh: the mesh in the world.
        unit: the space in which it is fitted.
        is_given: whether it is the artist's own mesh. Then its faces stay, and terms measure how far its shape has
            changed. A mesh that the fit made may get other faces, and terms measure how smooth it is.
        lock: (V,) bool, True for vertices that do not move; None where all may move.
        mirror: for a mesh whose displacements are mirror-symmetric, the index of each vertex's mirror image (V,), -1
            for none, and the unit normal (3,) of the plane of symmetry.
        cage: where another mesh is seen than this one, how that moves with it.
    """

    mesh: Mesh
    unit: UnitSpace
    is_given: bool
    lock: np.ndarray | None = None
    mirror: tuple[np.ndarray, np.ndarray] | None = None
    cage: Cage | None = None


def refinement(
    mesh: Mesh,
    views: Sequence[View],
    lock: np.ndarray | None,
    settings: Settings,
    renderer: Renderer,
    journal: Journal,
    overlap: float | None,
    cage: Cage | None = None,
) -> Prepared:
    """The artist's mesh, placed on the masks if the settings allow and it is elsewhere, with a note.

    Args:
        views: the views of positive weight.
        overlap: the mesh's overlap with their masks, where it was measured already.
        cage: as of `Prepared`.

    Raises:
        InputError: a mesh without extent or without the symmetry asked for, or a camera that cannot see the mesh.
    """
    mirror = _mirror(mesh, settings)
    if settings.place == "auto" and lock is None:
        # Placement takes a mesh away from its plane of symmetry, which does not move with it, so that a symmetric mesh
        # is placed only where it hardly overlaps the masks at all.
        seen = shown_of(mesh, cage)
        found = onto_masks(seen, views, renderer, only_from_afar=mirror is not None, before=overlap)
        if found is not None:
            scale, onto = found
            loose = np.ones(len(mesh.vertices), dtype=bool)
            loose[mesh.faces] = False
            wanted = seen.vertices @ onto[:3, :3].T + onto[:3, 3]
            moved = wanted if cage is None else follow(cage, mesh.vertices, wanted)
            mesh = Mesh(np.where(loose[:, None], mesh.vertices, moved), mesh.faces)
            journal.notes.append(moved_onto_masks(scale))
    seen = shown_of(mesh, cage)
    check_cameras(seen, views)
    return Prepared(mesh, _unit(seen), True, lock, mirror, cage)


def shown_of(mesh: Mesh, cage: Cage | None) -> Mesh:
    """What is seen of a mesh: the shown mesh where it is a cage, otherwise the mesh itself."""
    return mesh if cage is None else cage.shown_at(mesh.vertices)


def reconstruction(views: Sequence[View], voxels: int, journal: Journal, max_seconds: float) -> tuple[Prepared, bool]:
    """The visual hull of the masks, and whether it is a coarse one because carving took more than max_seconds.

    Raises InputError where the views leave nothing.
    """
    late = False

    def ended() -> bool:
        nonlocal late
        late = late or journal.over(max_seconds)
        return late

    mesh = carve(views, voxels, ended)
    return Prepared(mesh, _unit(mesh), False), late


def _mirror(mesh: Mesh, settings: Settings) -> tuple[np.ndarray, np.ndarray] | None:
    if settings.symmetry is None:
        return None
    frame = np.reshape(settings.symmetry_frame or np.eye(4).ravel(), (4, 4))
    normal = np.linalg.inv(frame[:3, :3])[AXES.index(settings.symmetry)]
    normal = normal / np.linalg.norm(normal)
    return find_partners(mesh.vertices, frame[:3, 3], normal), normal


def _unit(mesh: Mesh) -> UnitSpace:
    check_extent(mesh)
    return UnitSpace.around(mesh.vertices[np.unique(mesh.faces)])
