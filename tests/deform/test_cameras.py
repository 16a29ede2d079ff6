"""Cameras that parameters move."""

from itertools import pairwise

import numpy as np
import pytest

from softras.deform.cameras import COUNT, PARTS, CameraMoves, rotation_derivatives, rotations

MIDDLE = np.array([0.1, -0.2, 0.3])
ALL = tuple(PARTS)


def some_cameras(count: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """K (N, 3, 3) and world_to_camera (N, 4, 4) of cameras around the origin."""
    g = np.random.default_rng(0)
    matrix = np.tile(np.eye(4), (count, 1, 1))
    matrix[:, :3, :3] = rotations(g.normal(size=(count, 3)))
    matrix[:, :3, 3] = (0.1, 0.2, 4)
    K = np.array([[300.0, 2, 128], [0, 310, 120], [0, 0, 1]])
    return np.tile(K, (count, 1, 1)), matrix


@pytest.mark.parametrize("size", [0, 1e-9, 1e-5, 0.3, 3.0])
def test_rotations_and_their_derivatives(size: float) -> None:
    vectors = size * np.random.default_rng(1).normal(size=(5, 3))
    turn = rotations(vectors)
    np.testing.assert_allclose(turn @ turn.transpose(0, 2, 1), np.broadcast_to(np.eye(3), turn.shape), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(turn), 1)
    slopes, h = rotation_derivatives(vectors), 1e-6
    for i in range(3):
        step = h * np.eye(3)[i]
        difference = (rotations(vectors + step) - rotations(vectors - step)) / (2 * h)
        np.testing.assert_allclose(slopes[..., i], difference, atol=1e-8)


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("free", [ALL, ("rotation", "focal")])
def test_derivatives_of_the_cameras(together: bool, free: tuple[str, ...]) -> None:
    K, matrix = some_cameras()
    moves = CameraMoves(matrix, np.arange(len(matrix)), free, together=together, middle=MIDDLE)
    which = np.array([2, 0])
    at = np.where(moves.held, 0, 0.2 * np.random.default_rng(2).normal(size=moves.held.shape))
    d_K, d_matrix = moves.derivatives(which, K[which], at)
    h = 1e-6
    for p in range(COUNT):
        step = np.zeros_like(at)
        step[:, p] = h
        high, low = (moves.moved(which, K[which], at + s) for s in (step, -step))
        np.testing.assert_allclose(d_K[..., p], (high[0] - low[0]) / (2 * h), atol=1e-5)
        np.testing.assert_allclose(d_matrix[..., p], (high[1] - low[1]) / (2 * h), atol=1e-8)


def test_cameras_turn_about_the_middle_or_their_eye() -> None:
    """What does not move in the picture: the middle if the camera may travel, else only the eye in the world."""
    K, matrix = some_cameras()
    turned = np.zeros((3, COUNT))
    turned[:, 3:6] = (0.3, -0.2, 0.1)
    which = np.arange(3)

    def eyes(matrix: np.ndarray) -> np.ndarray:
        return -np.einsum("nji,nj->ni", matrix[:, :3, :3], matrix[:, :3, 3])

    travelling = CameraMoves(matrix, np.arange(len(matrix)), ALL, together=False, middle=MIDDLE).moved(
        which, K, turned
    )[1]
    np.testing.assert_allclose(travelling @ [*MIDDLE, 1], matrix @ [*MIDDLE, 1], atol=1e-12)
    standing = CameraMoves(matrix, np.arange(len(matrix)), ("rotation",), together=False, middle=MIDDLE).moved(
        which, K, turned
    )[1]
    np.testing.assert_allclose(eyes(standing), eyes(matrix), atol=1e-12)
    assert np.abs(eyes(travelling) - eyes(matrix)).max() > 0.1


def test_a_rig_of_cameras_is_one_body() -> None:
    K, matrix = some_cameras()
    moves = CameraMoves(matrix, np.arange(len(matrix)), ALL, together=True, middle=MIDDLE)
    at = 0.2 * np.random.default_rng(3).normal(size=moves.held.shape)
    moved = moves.moved(np.arange(3), K, at)[1]
    between = [a @ np.linalg.inv(b) for a, b in pairwise(matrix)]
    after = [a @ np.linalg.inv(b) for a, b in pairwise(moved)]
    np.testing.assert_allclose(after, between, atol=1e-12)
    assert np.abs(moved - matrix).max() > 0.1


def test_what_is_held() -> None:
    moves = CameraMoves(some_cameras()[1], np.arange(3), ("rotation", "shift"), together=False, middle=MIDDLE)
    assert moves.held.tolist() == [[True] * 3 + [False] * 3 + [True] + [False] * 2] * 3
