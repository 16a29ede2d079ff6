"""What the conversions share: where a camera stands."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..errors import InputError

# From OpenGL's and Blender's camera axes (x right, y up, z back) to ours (x right, y down, z forward), and back.
OPENGL_AXES = np.diag([1.0, -1.0, -1.0, 1.0])

_TOLERANCE = 1e-3  # of a rotation, for matrices that were rounded on their way


def array(value: ArrayLike, shape: tuple[int, ...], name: str) -> np.ndarray:
    """The value in float64, in this shape; InputError when it has another."""
    result = np.asarray(value, dtype=np.float64)
    if result.shape != shape:
        raise InputError(f"{name} must have shape {shape}, not {result.shape}; convert one camera at a time.")
    return result


def rigid(R: np.ndarray, t: np.ndarray, name: str) -> np.ndarray:
    """(4, 4) [R t; 0 0 0 1] of a rotation (3, 3) and a translation (3,); InputError, by that name, if R is none."""
    if not (np.abs(R @ R.T - np.eye(3)).max() < _TOLERANCE and np.linalg.det(R) > 0):
        raise InputError(f"{name} must be a rotation, without scale or reflection.")
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = R, t
    return matrix
