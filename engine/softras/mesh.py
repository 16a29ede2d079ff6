"""A triangle mesh."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .checks import LARGEST
from .errors import InputError


@dataclass(eq=False)
class Mesh:
    """Vertices and triangles, which may be changed in place. A mesh equals itself only.

    Attributes:
        vertices: (V, 3) float64, scene units.
        faces: (F, 3) int32 vertex indices, counter-clockwise seen from outside.
    """

    vertices: np.ndarray
    faces: np.ndarray

    def __post_init__(self) -> None:
        try:
            self.vertices = np.ascontiguousarray(self.vertices, dtype=np.float64)
            faces = np.asarray(self.faces)
        except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: a tensor that requires a gradient.
            raise InputError("mesh vertices and faces must be arrays of numbers.") from error
        if self.vertices.ndim != 2 or self.vertices.shape[1] != 3:
            raise InputError(f"mesh vertices must have shape (V, 3), not {self.vertices.shape}.")
        if faces.size == 0:
            raise InputError("the mesh has no faces; a silhouette needs at least one.")
        if faces.ndim != 2 or faces.shape[1] != 3:
            raise InputError(f"mesh faces must have shape (F, 3), not {faces.shape}.")
        if faces.dtype.kind not in "iu":
            raise InputError(f"mesh faces must be whole numbers, not {faces.dtype}; convert them to int32.")
        bad = ~np.isfinite(self.vertices).all(axis=1)
        if bad.any():
            raise InputError(f"the mesh has {bad.sum()} vertices with NaN or infinite coordinates.")
        far = ~(np.abs(self.vertices) <= LARGEST).all(axis=1)
        if far.any():
            raise InputError(f"the mesh has {far.sum()} vertices with coordinates beyond {LARGEST:g}; scale it down.")
        if faces.min() < 0 or faces.max() >= len(self.vertices):
            raise InputError(f"mesh faces name vertices outside 0..{len(self.vertices) - 1}.")
        self.faces = np.ascontiguousarray(faces, dtype=np.int32)
