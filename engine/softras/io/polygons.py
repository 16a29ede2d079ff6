"""Polygons become triangles."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import InputError

_MOST_WORK = 2_000_000_000  # tests of a corner against a triangle in all polygons together: some ten seconds
_MOST_TESTS = 8  # of triangles for each corner besides: all that a polygon of up to 16 corners can need
_TEST = 2000  # a test of a triangle takes as long as of some thousand corners even where there are few


def triangles(path: Path, vertices: np.ndarray, polygons: Sequence[Sequence[int]] | np.ndarray) -> np.ndarray:
    """`triangulate` for polygons that the file path names; InputError where their corners are too few or missing."""
    if len(polygons) == 0:
        raise InputError(f"{path} has no faces; a silhouette needs at least one.")
    if vertices.ndim != 2 or vertices.shape[1] != 3:
        raise InputError(f"{path} has vertices that are no points in space; export it anew.")
    if min(map(len, polygons)) < 3:
        raise InputError(f"{path} has a face of fewer than three corners; delete it.")
    low, high = min(map(min, polygons)), max(map(max, polygons))
    if low < 0 or high >= len(vertices):
        raise InputError(f"{path} has a face with a vertex that does not exist; it has {len(vertices)} vertices.")
    if bad := int((~np.isfinite(vertices).all(axis=1)).sum()):
        raise InputError(f"{path} has {bad} vertices with NaN or infinite coordinates.")
    return triangulate(vertices, polygons)


def triangulate(points: np.ndarray, polygons: Sequence[Sequence[int]] | np.ndarray) -> np.ndarray:
    """(F, 3) int64 triangles of polygons (vertex indices, at least three each) in their order, none flipped over.

    A polygon becomes the fan around its first corner where that lies inside its outline; of others ears are clipped.
    """
    sizes = np.array([len(polygon) for polygon in polygons], dtype=np.int64)
    ends = np.cumsum(sizes - 2)
    triangles = np.empty((ends[-1] if len(ends) else 0, 3), dtype=np.int64)
    work = _MOST_WORK
    for size in np.unique(sizes):
        which = np.flatnonzero(sizes == size)
        corners = np.array([polygons[i] for i in which.tolist()], dtype=np.int64)
        fans = np.stack(np.broadcast_arrays(corners[:, :1], corners[:, 1:-1], corners[:, 2:]), axis=-1)
        if size > 3:
            for i in np.flatnonzero(~_fans_fit(points[corners])):
                least = int(size) * _MOST_TESTS * (int(size) + _TEST)
                ears, done = _clip_ears(points[corners[i]], work + least)
                work -= max(0, done - least)
                fans[i] = corners[i][ears]
        triangles[(ends[which] - (size - 2))[:, None] + np.arange(size - 2)] = fans
    return triangles


def _fans_fit(corners: np.ndarray) -> np.ndarray:
    """(P,) bool for corners (P, n, 3): whether no triangle of the fan faces away from the polygon."""
    arms = corners[:, 1:] - corners[:, :1]
    crosses = np.cross(arms[:, :-1], arms[:, 1:])
    normals = crosses.sum(axis=1)
    facing = np.einsum("pnk,pk->pn", crosses, normals)
    return (facing >= -1e-9 * np.einsum("pk,pk->p", normals, normals)[:, None]).all(axis=1)


def _clip_ears(corners: np.ndarray, most: int) -> tuple[np.ndarray, int]:
    """(n - 2, 3) indices of the triangles of one polygon, corners (n, 3), and the work: as Meisters 1975.

    Of a polygon that crosses itself no ear may be left: the rest is a fan then. InputError where the work is more than
    `most`.
    """
    arms = corners[1:] - corners[0]
    normal = np.cross(arms[:-1], arms[1:]).sum(axis=0)
    axis = int(np.argmax(np.abs(normal)))
    flat = np.delete(np.roll(corners, -axis, axis=1), 0, axis=1)  # the plane that shows the polygon largest
    flat = flat if normal[axis] > 0 else flat[:, ::-1]
    left = list(range(len(corners)))
    triangles = []
    work = 0
    while len(left) > 3:
        if work > most:
            raise InputError("the mesh has concave polygons of too many corners; triangulate it first.")
        for i in range(len(left)):
            triangle = (left[i - 1], left[i], left[(i + 1) % len(left)])
            work += len(left) + _TEST
            if _is_ear(flat, triangle, left):
                break
        else:
            break
        triangles.append(triangle)
        del left[i]
    return np.array(triangles + [(left[0], b, c) for b, c in itertools.pairwise(left[1:])]), work


def _is_ear(flat: np.ndarray, triangle: tuple[int, int, int], left: list[int]) -> bool:
    """Whether the triangle turns left and holds no other corner that is left; flat (n, 2)."""
    a, b, c = flat[list(triangle)]
    if not _turn(a, b, c) > 0:
        return False
    others = flat[left]
    inside = (_turn(a, b, others) >= 0) & (_turn(b, c, others) >= 0) & (_turn(c, a, others) >= 0)
    at_corner = (others[:, None] == [a, b, c]).all(axis=2).any(axis=1)
    return not (inside & ~at_corner).any()


def _turn(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Twice the signed area of triangles a b c, each (..., 2)."""
    u, v = b - a, c - a
    return u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]
