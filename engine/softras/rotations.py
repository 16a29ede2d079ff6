"""Rotations in Blender's rotation modes (quaternion, axis and angle, Euler angles): to matrices and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

EULER_ORDERS = ("XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX")
ROTATION_MODES = ("QUATERNION", "AXIS_ANGLE", *EULER_ORDERS)


def axes_of(mode: str) -> tuple[int, int, int]:
    """The axes (0, 1, 2) about which a mode's Euler angles rotate, in order; those of XYZ for a mode without any."""
    order = mode if mode in EULER_ORDERS else "XYZ"
    return "XYZ".index(order[0]), "XYZ".index(order[1]), "XYZ".index(order[2])


def axis_rotation(axis: int, angle: float) -> np.ndarray:
    """(3, 3) the rotation about a coordinate axis (0, 1 or 2) by an angle in radians."""
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = np.cos(angle)
    matrix[j, i] = np.sin(angle)
    matrix[i, j] = -matrix[j, i]
    return matrix


def rotation_matrix(rotation: Sequence[float] | np.ndarray, mode: str) -> np.ndarray:
    """(3, 3) the rotation that a mode's numbers stand for.

    Args:
        rotation: QUATERNION (w, x, y, z) of any length but 0; AXIS_ANGLE (radians, x, y, z), no rotation for an axis of
            length 0; an Euler order: radians about x, y and z, of which the order's first letter is applied first.
        mode: one of ROTATION_MODES.
    """
    numbers = np.asarray(rotation, dtype=np.float64)
    if mode == "QUATERNION":
        w, x, y, z = numbers / np.linalg.norm(numbers)
        return np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
            ]
        )
    if mode == "AXIS_ANGLE":
        length = np.linalg.norm(numbers[1:])
        half = numbers[0] / 2
        axis = numbers[1:] / length if length > 0 else np.zeros(3)
        return rotation_matrix([np.cos(half), *np.sin(half) * axis], "QUATERNION") if length > 0 else np.eye(3)
    first, second, third = axes_of(mode)
    return (
        axis_rotation(third, numbers[third])
        @ axis_rotation(second, numbers[second])
        @ axis_rotation(first, numbers[first])
    )


def rotation_numbers(matrix: np.ndarray, mode: str, near: Sequence[float] | np.ndarray) -> np.ndarray:
    """The numbers of a mode that stand for a rotation matrix; of all that do, the closest to `near`.

    Args:
        matrix: (3, 3) the rotation.
        mode: one of ROTATION_MODES.
        near: (4,) or (3,) numbers of that mode. A quaternion stays in the same hemisphere as these, and an angle keeps
            its number of whole turns.
    """
    near = np.asarray(near, dtype=np.float64)
    if mode == "QUATERNION":
        quaternion = _quaternion(matrix)
        return -quaternion if quaternion @ near < 0 else quaternion
    if mode == "AXIS_ANGLE":
        return _axis_angle(_quaternion(matrix), near)
    return _nearest_euler(matrix, mode, near)


def _quaternion(matrix: np.ndarray) -> np.ndarray:
    """(4,) the unit quaternion of a rotation: an eigenvector of Bar-Itzhack's matrix (2000), stable everywhere."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = matrix
    k = np.array(
        [
            [xx + yy + zz, zy - yz, xz - zx, yx - xy],
            [zy - yz, xx - yy - zz, xy + yx, xz + zx],
            [xz - zx, xy + yx, yy - xx - zz, yz + zy],
            [yx - xy, xz + zx, yz + zy, zz - xx - yy],
        ]
    )
    return np.linalg.eigh(k)[1][:, -1]


def _axis_angle(quaternion: np.ndarray, near: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(quaternion[1:])
    near_axis = near[1:]
    if length < 1e-12:  # No rotation at all may have any axis.
        return np.array([2 * np.pi * np.round(near[0] / (2 * np.pi)), *near_axis])
    axis = quaternion[1:] / length
    angle = 2 * np.arctan2(length, quaternion[0])
    if axis @ near_axis < 0:
        axis, angle = -axis, -angle
    return np.array([_same_turn(angle, near[0]), *axis])


def _nearest_euler(matrix: np.ndarray, mode: str, near: np.ndarray) -> np.ndarray:
    i, j, k = axes_of(mode)
    sign = 1.0 if (j - i) % 3 == 1 else -1.0
    # matrix = R_k R_j R_i: its row k and column i give the sine of the middle angle and the tangents of the others.
    flat = np.hypot(matrix[i, i], matrix[j, i])
    middle = np.arctan2(-sign * matrix[k, i], flat)
    if flat < 1e-9:  # Gimbal lock: the first angle is kept, and the last one makes up for it.
        first = near[i]
        rest = matrix @ (axis_rotation(j, middle) @ axis_rotation(i, first)).T
        last = np.arctan2(rest[(k + 2) % 3, (k + 1) % 3], rest[(k + 1) % 3, (k + 1) % 3])
    else:
        first = np.arctan2(sign * matrix[k, j], matrix[k, k])
        last = np.arctan2(sign * matrix[j, i], matrix[i, i])
    best = np.empty(3)
    distance = np.inf
    for numbers in ((first, middle, last), (first + np.pi, np.pi - middle, last + np.pi)):
        angles = np.empty(3)
        angles[[i, j, k]] = [_same_turn(a, near[axis]) for a, axis in zip(numbers, (i, j, k), strict=True)]
        if np.linalg.norm(angles - near) < distance:
            best, distance = angles, float(np.linalg.norm(angles - near))
    return best


def _same_turn(angle: float, near: float) -> float:
    """The angle plus the number of whole turns that brings it closest to `near`; both in radians."""
    return float(angle + 2 * np.pi * np.round((near - angle) / (2 * np.pi)))
