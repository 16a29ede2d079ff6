"""Fewer vertices for a rig: those that are one anyway, or that are too close together to matter at a resolution.

Besides the time that they cost, soft silhouettes of faces smaller than their blur bloat: each adds its own share to the
pixels outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...mesh import Mesh
from ...rig import Rig


def simplified(rig: Rig, cell: float = 0.0, alone: Sequence[int] = ()) -> tuple[Rig, np.ndarray]:
    """The rig with one vertex for each cell of space, and (V,) which of them each vertex became.

    A vertex stands for all in its cell that move with the same bone (vertex clustering: Rossignac and Borrel 1993).
    Faces that lose their area are left out; where none would be left, the rig comes back as it is.

    Args:
        alone: vertices that no other one joins in a cell.
        cell: side of a cell, relative to the longest side of the mesh; 0 for vertices that always are at one place
            (files often have one for every corner).
    """
    vertices, armature = rig.mesh.vertices, rig.armature
    weights = np.zeros((len(vertices), 0))
    if armature is not None:
        weights = np.zeros((len(vertices), len(armature.bones)))
        np.add.at(weights, (armature.skin_vertices, armature.skin_bones), armature.skin_weights)
    if cell == 0:
        marks = np.hstack([vertices, *(key.offsets for key in rig.shape_keys), weights])
    else:
        side = cell * np.ptp(vertices[np.unique(rig.mesh.faces)], axis=0).max()
        bone = weights.argmax(axis=1) if armature is not None else np.zeros(len(vertices))
        own = np.zeros(len(vertices))
        own[list(alone)] = 1 + np.arange(len(alone))
        marks = np.column_stack([np.floor(vertices / side), bone, own])
    _, place = np.unique(marks, axis=0, return_inverse=True)
    place = place.ravel()
    faces = place[rig.mesh.faces]
    kept = (faces != faces[:, [1, 2, 0]]).all(axis=1)
    if not kept.any():
        return rig, np.arange(len(vertices))
    count = np.bincount(place)
    middle = np.column_stack([np.bincount(place, vertices[:, k]) for k in range(3)]) / count[:, None]
    away = np.linalg.norm(vertices - middle[place], axis=1)
    order = np.lexsort((away, place))
    chosen = order[np.searchsorted(place[order], np.arange(len(count)))]  # the one nearest to the middle of its cell
    if armature is not None:
        owners, bones = np.nonzero(weights[chosen])
        skin = weights[chosen][owners, bones]
        armature = replace(armature, skin_vertices=owners, skin_bones=bones, skin_weights=skin)
    keys = tuple(replace(key, offsets=key.offsets[chosen]) for key in rig.shape_keys)
    return replace(rig, mesh=Mesh(vertices[chosen], faces[kept]), shape_keys=keys, armature=armature), place
