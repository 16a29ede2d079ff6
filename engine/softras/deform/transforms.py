"""Transforms as functions of parameters: locations, rotations and scales of many objects or bones at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..raster.algebra import cosine_and_sine, exponential, product, root
from ..rig import Transform
from ..rotations import axes_of, rotation_matrix, rotation_numbers


class Moved(NamedTuple):
    """n transforms at some parameters.

    Attributes:
        matrices: (n, 4, 4) translation @ rotation @ scale.
        change: (n, 7) the changes of location, rotation and log scale.
        rotations: (n, 3, 3).
        scale: (n, 1, 3).
    """

    matrices: Tensor
    change: Tensor
    rotations: Tensor
    scale: Tensor


class Transforms:
    """n transforms, and P parameters that change them.

    The parameters are changes from the transforms as given, one transform after the other: what is added to the
    location, the change of the rotation, and the logarithm of a factor of the scale. A rotation that is free about all
    axes and has no limits is changed by a rotation vector v in the transform's own frame, in radians: the new rotation
    is the given one times exp(v). Other rotations are changed by adding to their free Euler angles.

    Attributes:
        count: P.
        owners: (P,) the index of the transform that each parameter belongs to.
        channels: for each parameter what it changes: ("rotation", "x") and so on, or ("scale", "").
        bounds: (P, 2) the least and the greatest value of each parameter, infinite for none.
    """

    def __init__(
        self, transforms: Sequence[Transform], *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        self._given = list(transforms)
        n = len(self._given)
        euler = np.array([any(t.free_rotation) and not t.turns_freely for t in self._given], dtype=bool)
        start = [t.angles() for t in self._given]

        owners: list[int] = []
        self.channels: list[tuple[str, str]] = []
        bounds: list[tuple[float, float]] = []
        absent = -1  # Below, it is replaced by the index of a zero that follows the parameters.
        index = np.full((n, 7), absent)  # of the parameters of each transform's location, rotation and scale
        for number, transform in enumerate(self._given):
            free = (*transform.free_location, *transform.free_rotation, transform.free_scale)
            for slot in np.flatnonzero(free):
                index[number, slot] = len(owners)
                owners.append(number)
                kind = ("location", "rotation", "scale")[slot // 3]
                self.channels.append((kind, "" if kind == "scale" else "xyz"[slot % 3]))
                if kind == "rotation" and transform.limits is not None:
                    low, high = transform.limits[slot - 3] - start[number][slot - 3]
                    bounds.append((min(low, 0.0), max(high, 0.0)))
                else:
                    bounds.append((-np.inf, np.inf))
        self.count = len(owners)
        self.bounds = np.array(bounds).reshape(-1, 2)
        slots = np.nonzero(index != absent)[1]
        index[index == absent] = self.count

        def tensor(values: np.ndarray | list, kind: torch.dtype = dtype) -> Tensor:
            return torch.as_tensor(np.array(values), device=device, dtype=kind)

        self._index, self._slots = tensor(index, torch.int64), tensor(slots, torch.int64)
        self.owners = tensor(np.array(owners, dtype=np.int64), torch.int64)
        self._location = tensor([t.location for t in self._given])
        self._scale = tensor([t.scale for t in self._given])
        # Rotations that change by rotation vectors or not at all come before those that change by Euler angles.
        plain, by_angle = np.flatnonzero(~euler), np.flatnonzero(euler)
        self._plain, self._by_angle = tensor(plain, torch.int64), tensor(by_angle, torch.int64)
        self._order = tensor(np.argsort(np.concatenate([plain, by_angle])), torch.int64)
        given = [rotation_matrix(self._given[i].rotation, self._given[i].mode) for i in plain]
        self._given_rotation = tensor(np.array(given).reshape(-1, 3, 3))
        self._start = tensor(np.array([start[i] for i in by_angle]).reshape(-1, 3))
        self._axes = tensor(np.array([axes_of(self._given[i].mode) for i in by_angle]).reshape(-1, 3), torch.int64)
        self._cross = tensor(_CROSS)
        self._eye = torch.eye(3, device=device, dtype=dtype)

    def at(self, parameters: Tensor) -> Moved:
        """The transforms for parameters (P,); differentiable, also in forward mode and by vmap."""
        change = torch.cat([parameters, parameters.new_zeros(1)])[self._index]
        rotations = self._rotations(change[:, 3:6])
        scale = (self._scale * exponential(change[:, 6:]))[:, None, :]
        return Moved(affine(rotations * scale, self._location + change[:, :3]), change, rotations, scale)

    def tangents(self, moved: Moved) -> Tensor:
        """(P, 4, 4) the derivative by each parameter of the matrix of its own transform."""
        matrices, change, rotations, scale = moved
        vectors = change[:, 3:6]
        # Each angle changes R by dR = R [w], with the cross-product matrix of an axis w in the transform's own frame.
        axes = _right_jacobian(vectors[self._plain])
        if len(self._by_angle):
            axes = torch.cat([axes, self._euler_axes(vectors)])[self._order]
        crosses = product(axes.transpose(1, 2), self._cross.flatten(1)).unflatten(2, (3, 3))  # (n, 3 angles, 3, 3)
        turned = rotations[:, None] @ crosses * scale[:, None]
        linear = torch.cat([torch.zeros_like(turned), turned, matrices[:, None, :3, :3]], dim=1)
        location = torch.cat([self._eye, self._eye.new_zeros(4, 3)]).expand(len(rotations), 7, 3)
        tangents = torch.nn.functional.pad(torch.cat([linear, location[..., None]], dim=3), (0, 0, 0, 1))
        return tangents[self.owners, self._slots]

    def moved(self, parameters: Tensor) -> list[dict[str, Any]]:
        """Location, rotation and scale of each transform at parameters (P,), with angles close to the given ones.

        Rotations are in the transforms' own modes.
        """
        change = self.at(parameters).change.detach().double().cpu().numpy()
        result = []
        for transform, delta in zip(self._given, change, strict=True):
            rotation = transform.rotation
            if delta[3:6].any():
                if transform.turns_freely:
                    matrix = rotation_matrix(rotation, transform.mode) @ _exponential(delta[3:6])
                    rotation = rotation_numbers(matrix, transform.mode, rotation)
                elif len(rotation) == 3:
                    rotation = rotation + delta[3:6]
                else:
                    matrix = rotation_matrix(transform.angles() + delta[3:6], "XYZ")
                    rotation = rotation_numbers(matrix, transform.mode, rotation)
            location, scale = transform.location + delta[:3], transform.scale * np.exp(delta[6])
            result.append({"location": location, "rotation": rotation, "scale": scale})
        return result

    def _rotations(self, change: Tensor) -> Tensor:
        """(n, 3, 3) the rotations for changes (n, 3)."""
        turned = product(self._given_rotation, rotations_of(change[self._plain]))
        if not len(self._by_angle):
            return turned
        first, second, third = self._axis_rotations(change)
        return torch.cat([turned, product(product(third, second), first)])[self._order]

    def _axis_rotations(self, change: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The three rotations (m, 3, 3) about single axes of the m transforms with Euler angles, in order."""
        angles = (self._start + change[self._by_angle]).gather(1, self._axes)
        axis = self._cross[self._axes]  # (m, 3, 3, 3)
        cosine, sine = (x[..., None, None] for x in cosine_and_sine(angles))
        turns = self._eye + sine * axis + (1 - cosine) * product(axis, axis)
        return turns[:, 0], turns[:, 1], turns[:, 2]

    def _euler_axes(self, change: Tensor) -> Tensor:
        """(m, 3, 3) whose columns are the axes, in the transform's own frame, about which the three angles rotate."""
        first, second, _ = self._axis_rotations(change)
        own = self._eye[self._axes]  # (m, 3 turns, 3)
        back = torch.stack(
            [
                own[:, 0],
                product(first.transpose(1, 2), own[:, 1, :, None])[..., 0],
                product(product(second, first).transpose(1, 2), own[:, 2, :, None])[..., 0],
            ],
            dim=2,
        )
        return back.gather(2, self._axes.argsort(1)[:, None, :].expand(-1, 3, -1))


_CROSS = np.zeros((3, 3, 3))  # _CROSS[i] is the cross-product matrix of axis i.
for _a, _b, _c in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
    _CROSS[_a, _c, _b], _CROSS[_a, _b, _c] = 1.0, -1.0


def rotations_of(vectors: Tensor) -> Tensor:
    """(n, 3, 3) the rotations by rotation vectors (n, 3), in radians: Rodrigues' formula.

    Exact near 0 too, with all derivatives: there its quotients are replaced by their series.
    """
    cross = _cross_products(vectors)
    sine, versine, _ = _quotients((vectors * vectors).sum(1)[:, None, None])
    eye = torch.eye(3, dtype=vectors.dtype, device=vectors.device)
    return eye + sine * cross + versine * product(cross, cross)


def _cross_products(vectors: Tensor) -> Tensor:
    """(n, 3, 3) the cross-product matrices of vectors (n, 3)."""
    x, y, z = vectors.unbind(1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).unflatten(1, (3, 3))


def _quotients(square: Tensor) -> Tensor:
    """(3, n, 1, 1) sin t / t, (1 - cos t) / t² and (t - sin t) / t³ as functions of t² (n, 1, 1).

    Taylor series below 0.01, where quotients lose digits.
    """
    small = square < 0.01
    t = root(torch.where(small, 1.0, square))
    sine, of_half = cosine_and_sine(torch.stack([t, t / 2]))[1]
    half = of_half / (t / 2)
    exact = torch.stack([sine / t, half * half / 2, (t - sine) / (t * t * t)])
    *rest, series = square.new_tensor(_SERIES)[..., None, None, None]
    for coefficients in reversed(rest):
        series = coefficients - square * series
    return torch.where(small, series, exact)


# The first coefficients of the three series in t², each with alternating signs.
_SERIES = [[1 / math.factorial(2 * k + n) for n in (1, 2, 3)] for k in range(5)]


def _right_jacobian(vectors: Tensor) -> Tensor:
    """(n, 3, 3) J with d exp(v) = exp(v) [J dv] for rotation vectors v (n, 3); [w] is the cross-product matrix of w."""
    cross = _cross_products(vectors)
    _, versine, third = _quotients((vectors * vectors).sum(1)[:, None, None])
    return torch.eye(3, dtype=cross.dtype, device=cross.device) - versine * cross + third * product(cross, cross)


def affine(linear: Tensor, location: Tensor) -> Tensor:
    """(n, 4, 4) the affine matrices with linear parts (n, 3, 3) and translations (n, 3)."""
    top = torch.cat([linear, location[:, :, None]], dim=2)
    last = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=linear.dtype, device=linear.device)
    return torch.cat([top, last.expand(len(linear), 1, 4)], dim=1)


def inverse(affines: Tensor) -> Tensor:
    """(n, 4, 4) the inverses of affine matrices (n, 4, 4), whose last rows are 0, 0, 0, 1."""
    x, y, z = affines[:, :3, :3].unbind(2)
    rows = torch.stack([torch.linalg.cross(y, z), torch.linalg.cross(z, x), torch.linalg.cross(x, y)], dim=1)
    linear = rows / product(rows[:, :1], x[:, :, None])
    return affine(linear, -product(linear, affines[:, :3, 3:])[..., 0])


def _exponential(vector: np.ndarray) -> np.ndarray:
    """The (3, 3) rotation by a rotation vector (3,), in radians."""
    return rotation_matrix([float(np.linalg.norm(vector)), *vector], "AXIS_ANGLE")
