"""Fewer vertices for a rig: vertices that always coincide, or that a resolution cannot tell apart, become one vertex.

This saves time, and it makes soft silhouettes more exact: each face adds its own share to the pixels outside it, so
that many faces smaller than the blur make a silhouette too fat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...mesh import Mesh
from ...rig import Rig


def simplified(rig: Rig, cell: float = 0.0, alone: Sequence[int] = ()) -> tuple[Rig, np.ndarray]:
    """The rig with one vertex for each cluster of its vertices, and (V,) the cluster of each vertex.

    Vertex clustering (Rossignac and Borrel 1993): a cluster is the vertices that lie in one cell of a grid and whose
    largest bone weight is of the same bone. Of each cluster, the vertex nearest to its middle is kept. Faces whose
    corners become the same vertex are left out; where no face would be left, the rig is returned as it is.

    Args:
        cell: the side of a cell, relative to the longest side of the mesh; 0 merges only vertices that coincide in
            every pose, as in files that have a vertex for every corner of a face.
        alone: vertices that stay clusters of their own, if the cell is not 0.
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
    _, clusters = np.unique(marks, axis=0, return_inverse=True)
    clusters = clusters.ravel()
    faces = clusters[rig.mesh.faces]
    kept = (faces != faces[:, [1, 2, 0]]).all(axis=1)
    if not kept.any():
        return rig, np.arange(len(vertices))
    count = np.bincount(clusters)
    middle = np.column_stack([np.bincount(clusters, vertices[:, k]) for k in range(3)]) / count[:, None]
    away = np.linalg.norm(vertices - middle[clusters], axis=1)
    order = np.lexsort((away, clusters))
    # The vertices are sorted by cluster and, in a cluster, by distance to its middle: the first one of each is kept.
    chosen = order[np.searchsorted(clusters[order], np.arange(len(count)))]
    if armature is not None:
        owners, bones = np.nonzero(weights[chosen])
        skin = weights[chosen][owners, bones]
        armature = replace(armature, skin_vertices=owners, skin_bones=bones, skin_weights=skin)
    keys = tuple(replace(key, offsets=key.offsets[chosen]) for key in rig.shape_keys)
    return replace(rig, mesh=Mesh(vertices[chosen], faces[kept]), shape_keys=keys, armature=armature), clusters
