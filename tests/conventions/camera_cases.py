"""Random cameras, points before them, and when two cameras are the same."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from softras import Camera

CLOSE = {"rtol": 1e-10, "atol": 1e-9}
RANDOM = 50


def rotation(random: np.random.Generator) -> np.ndarray:
    q, _ = np.linalg.qr(random.normal(size=(3, 3)))
    return q * np.linalg.det(q)


def some_cameras(*, square: bool = False, skew: bool = False) -> Iterator[Camera]:
    """Random cameras, half of them orthographic."""
    random = np.random.default_rng(3)
    for number in range(RANDOM):
        width, height = (int(x) for x in random.integers(20, 500, 2))
        K = np.eye(3)
        K[[0, 1], [0, 1]] = random.uniform(50, 500, 2)
        K[:2, 2] = random.normal(100, 100, 2)
        K[0, 1] = random.normal() if skew else 0
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = rotation(random), random.normal(size=3)
        yield Camera(K, matrix, width, width if square else height, orthographic=number % 2 == 1, near=0.01 + number)


def points_before(camera: Camera, count: int = 20) -> np.ndarray:
    """(count, 3) points of the world in front of the camera."""
    random = np.random.default_rng(4)
    seen = np.column_stack([random.normal(size=(count, 2)), random.uniform(1, 5, count)])
    return (seen - camera.world_to_camera[:3, 3]) @ camera.world_to_camera[:3, :3]


def assert_same(a: Camera, b: Camera, *, near: bool = True) -> None:
    np.testing.assert_allclose(a.K, b.K, **CLOSE)
    np.testing.assert_allclose(a.world_to_camera, b.world_to_camera, **CLOSE)
    assert (a.width, a.height, a.orthographic) == (b.width, b.height, b.orthographic)
    if near:
        assert a.near == pytest.approx(b.near)
