"""What the conversions share: checks, rotations, and where a camera stands and looks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .. import checks
from ..camera import LARGEST_SIDE, check_rotation
from ..errors import InputError

# From OpenGL's and Blender's camera axes (x right, y up, z backward) to ours (x right, y down, z forward), and back.
OPENGL_AXES = np.diag([1.0, -1.0, -1.0, 1.0])

_TOLERANCE = 1e-3  # Rotations from other programs may be rounded by this, as to four digits in a text file.


def array(value: ArrayLike, shape: tuple[int, ...], name: str) -> np.ndarray:
    """The value as a float64 array of this shape. Raises InputError when it has another."""
    try:
        given = np.shape(value)
    except ValueError:  # Its rows have several lengths.
        given = ()
    if len(given) > len(shape):
        raise InputError(f"{name} must have shape {shape}, not {given}; convert one camera at a time.")
    return checks.array(name, value, shape)


def sides(width: Any, height: Any) -> tuple[int, int]:
    """The width and the height of an image in pixels, checked: each is a whole number of at least 1."""
    return checks.whole("width", width, 1, LARGEST_SIDE), checks.whole("height", height, 1, LARGEST_SIDE)


def rigid(R: np.ndarray, t: np.ndarray, name: str) -> np.ndarray:
    """(4, 4) [R t; 0 0 0 1] of a rotation R (3, 3) and a translation t (3,).

    A rounded rotation becomes the nearest exact one. Raises InputError, which names it so, if R is no rotation.
    """
    check_rotation(name, R, _TOLERANCE)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = nearest_rotation(R), t
    return matrix


def looking(eye: np.ndarray, direction: np.ndarray, up: np.ndarray) -> np.ndarray:
    """(4, 4) world_to_camera of a camera at `eye` that looks along `direction`, a unit vector, with `up` upwards.

    `softras.look` gives the same numbers as tensors. Raises InputError where `up` is zero or along the direction.
    """
    right = np.cross(direction, unit(up, "up must not be zero"))
    if not np.sqrt((right**2).sum()) > 16 * np.finfo(np.float64).eps:  # If not, the product is nothing but rounding.
        raise InputError("a camera looks along its up vector; give another up.")
    right = unit(right, "")
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([right, np.cross(direction, right), direction])
    matrix[:3, 3] = -matrix[:3, :3] @ eye
    return matrix


def unit(vector: np.ndarray, message: str) -> np.ndarray:
    """The vector (3,) with length 1. Raises InputError with this message for a vector without length."""
    length = np.sqrt((vector**2).sum())
    if not 0 < length < np.inf:
        raise InputError(f"{message}.")
    return vector / length


def nearest_rotation(R: np.ndarray) -> np.ndarray:
    """(3, 3) the rotation nearest to a matrix that is nearly a rotation (Procrustes); an exact one stays as it is."""
    if np.abs(R @ R.T - np.eye(3)).max() < 1e-12:
        return R
    left, _, right = np.linalg.svd(R)
    return left @ right


def triangular_and_rotation(linear: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An upper triangular matrix (3, 3) and a rotation (3, 3) whose product is an invertible matrix (3, 3).

    Gram-Schmidt orthogonalization from the last row to the first. The last two numbers on the triangle's diagonal are
    positive; the first is negative where the matrix mirrors.
    """
    _, b, c = linear
    forward = c / np.linalg.norm(c)
    down = b - (b @ forward) * forward
    down = down / np.linalg.norm(down)
    rotation = np.stack([np.cross(down, forward), down, forward])
    return np.triu(linear @ rotation.T), rotation
