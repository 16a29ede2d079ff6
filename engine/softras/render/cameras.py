"""Cameras as tensors: their pose (`world_to_camera`) and their intrinsics (`K`), differentiable.

All functions broadcast over leading dimensions and have a gradient to every argument that is a tensor. Tensors and
arrays keep their dtype and device; plain numbers and sequences adopt those, or are float32 on the CPU where there are
none. Values are checked, which waits for tensors on a GPU. Inside torch.compile and torch.func.vmap values cannot be
read: there a matrix that would be refused is NaN, which the rasterizer refuses.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..checks import one_of, whole
from ..errors import InputError, shown
from ..raster.transforms import batched

Number = Tensor | np.ndarray | float
Vector = Tensor | np.ndarray | Sequence[float]
Side = Literal["shorter", "longer", "width", "height"]

_ORIGIN = (0.0, 0.0, 0.0)
_UP = (0.0, 0.0, 1.0)


def look_at(eye: Vector, at: Vector = _ORIGIN, up: Vector = _UP) -> Tensor:
    """(..., 4, 4) world_to_camera of a camera at `eye` that has the point `at` in the middle of its picture.

    Args:
        eye, at: (..., 3) points of the world.
        up: (..., 3) the direction, of any length, that is upwards in the picture; default +z, as in Blender. In a world
            with y up it is (0, 1, 0).

    Raises:
        ValueError: eye and at are one point, or the camera looks along `up`.
    """
    eye, at, up = _tensors(eye, at, up)
    return _pose(eye, _unit(at - eye, "eye and at must be different points"), up)


def look(eye: Vector, direction: Vector, up: Vector = _UP) -> Tensor:
    """(..., 4, 4) world_to_camera of a camera at `eye` that looks along `direction`.

    Args:
        eye: (..., 3) point of the world.
        direction: (..., 3), of any length.
        up: as for `look_at`.

    Raises:
        ValueError: the direction has no length, or is that of `up`.
    """
    eye, direction, up = _tensors(eye, direction, up)
    return _pose(eye, _unit(direction, "direction must not be zero"), up)


def eye_from_angles(
    distance: Number, elevation: Number, azimuth: Number, *, up: Vector = _UP, degrees: bool = True
) -> Tensor:
    """(..., 3) the point at a distance from the origin and at two angles, as an eye for `look_at`.

    Azimuth 0 is in front of an object (Blender's front view): at -y where z is up, at +z where y is up. It grows
    towards +x. So the eye is distance (cos el sin az, -cos el cos az, sin el) where z is up. Where y is up it is
    distance (cos el sin az, sin el, cos el cos az), as PyTorch3D has it; SoftRas's azimuth is 180 degrees minus this
    one.

    Args:
        distance, elevation, azimuth: (...); elevation is the angle above the horizon.
        up: (..., 3), not along x.
        degrees: whether the angles are in degrees or in radians.

    Raises:
        ValueError: up is zero or along x.
    """
    distance, elevation, azimuth, up = _tensors(distance, elevation, azimuth, up)
    if degrees:
        elevation, azimuth = torch.deg2rad(elevation), torch.deg2rad(azimuth)
    up = _unit(up, "up must not be zero")
    x = up.new_tensor((1.0, 0.0, 0.0)).expand_as(up)
    front = _across(x, up, "up must not be along x, where an azimuth of 90 degrees is")
    right = torch.linalg.cross(up, front)
    distance, elevation, azimuth = (x[..., None] for x in (distance, elevation, azimuth))
    level = azimuth.sin() * right + azimuth.cos() * front
    return distance * (elevation.cos() * level + elevation.sin() * up)


def perspective(
    fov: Number,
    height: int,
    width: int,
    *,
    side: Side = "shorter",
    degrees: bool = True,
    principal_point: Vector | None = None,
) -> Tensor:
    """(..., 3, 3) K of a perspective camera with square pixels.

    K00 = K11 = side / (2 tan(fov / 2)) with the side in pixels.

    Args:
        fov: (...) the field of view: the full angle from edge to edge of the picture. SoftRas's viewing_angle is half
            of it.
        height, width: of the image, in pixels.
        side: the side of the image that fov spans: the "shorter" (as PyTorch3D), the "longer" (as Blender), the
            "height" (as gluPerspective) or the "width".
        degrees: whether fov is in degrees or in radians.
        principal_point: (..., 2) where the camera's axis meets the image, in pixels; default the middle of the image.

    Raises:
        ValueError: a field of view not between 0 and 180 degrees, or an unknown side.
    """
    (fov,) = _tensors(fov)
    half = (torch.deg2rad(fov) if degrees else fov) / 2
    half = _checked(half, (half > 0) & (half < math.pi / 2), "fov must be between 0 and 180 degrees")
    return _intrinsics(_pixels(side, height, width) / 2 / half.tan(), height, width, principal_point)


def orthographic(
    extent: Number, height: int, width: int, *, side: Side = "shorter", principal_point: Vector | None = None
) -> Tensor:
    """(..., 3, 3) K of an orthographic camera with square pixels: K00 = K11 = side / extent, pixels per scene unit.

    Args:
        extent: (...) scene units from edge to edge of the side (Blender's ortho_scale, where the side is the longer).
        height, width, side, principal_point: as for `perspective`.

    Raises:
        ValueError: an extent that is not positive, or an unknown side.
    """
    (extent,) = _tensors(extent)
    extent = _checked(extent, extent > 0, "extent must be positive")
    return _intrinsics(_pixels(side, height, width) / extent, height, width, principal_point)


def _tensors(*values: Number | Vector) -> list[Tensor]:
    """The values as floating tensors of one dtype; plain numbers adopt dtype and device of the tensors and arrays."""
    given = [torch.as_tensor(x) for x in values if isinstance(x, Tensor | np.ndarray)]
    dtypes = [x.dtype for x in given if x.is_floating_point()] or [torch.get_default_dtype()]
    dtype = functools.reduce(torch.promote_types, dtypes)
    device = next((x.device for x in values if isinstance(x, Tensor)), torch.device("cpu"))
    lists = [x.tolist() if isinstance(x, np.ndarray) else x for x in values]
    try:
        return [x.to(dtype) if isinstance(x, Tensor) else torch.tensor(x, dtype=dtype, device=device) for x in lists]
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"a camera is made of numbers, not of {shown(lists)}.") from error


def _checked(value: Tensor, fine: Tensor, message: str) -> Tensor:
    """The value. Raises InputError unless all is fine; where values cannot be read it is NaN instead."""
    if torch.compiler.is_compiling() or batched(fine):
        return torch.where(fine, value, torch.nan)
    if not bool(fine.all()):
        raise InputError(f"{message}.")
    return value


def _unit(vector: Tensor, message: str) -> Tensor:
    """The vectors (..., 3) scaled to length 1."""
    length = vector.norm(dim=-1, keepdim=True)
    return vector / _checked(length, (length > 0) & length.isfinite(), message)


def _across(a: Tensor, b: Tensor, message: str) -> Tensor:
    """(..., 3) the cross product, scaled to length 1, of unit vectors that must not be parallel."""
    normal = torch.linalg.cross(a, b)
    # The product of vectors that are nearer to parallel than this is nothing but rounding.
    length = normal.norm(dim=-1, keepdim=True)
    return normal / _checked(length, length > 16 * torch.finfo(normal.dtype).eps, message)


def _pose(eye: Tensor, forward: Tensor, up: Tensor) -> Tensor:
    eye, forward, up = torch.broadcast_tensors(eye, forward, _unit(up, "up must not be zero"))
    right = _across(forward, up, "a camera looks along its up vector; give another up")
    R = torch.stack([right, torch.linalg.cross(forward, right), forward], dim=-2)
    top = torch.cat([R, -R @ eye[..., None]], dim=-1)
    return torch.cat([top, R.new_tensor((0.0, 0.0, 0.0, 1.0)).expand_as(top[..., :1, :])], dim=-2)


def _pixels(side: Side, height: int, width: int) -> float:
    height, width = whole("height", height, 1), whole("width", width, 1)
    sides = {"shorter": min(height, width), "longer": max(height, width), "width": width, "height": height}
    return sides[one_of("side", side, tuple(sides))]


def _intrinsics(focal: Tensor, height: int, width: int, principal_point: Vector | None) -> Tensor:
    centre = (width / 2, height / 2) if principal_point is None else principal_point
    focal, centre = _tensors(focal, centre)
    focal, x, y = torch.broadcast_tensors(focal, centre[..., 0], centre[..., 1])
    zero, one = torch.zeros_like(focal), torch.ones_like(focal)
    return torch.stack([focal, zero, x, zero, focal, y, zero, zero, one], dim=-1).unflatten(-1, (3, 3))
