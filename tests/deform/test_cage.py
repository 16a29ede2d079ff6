"""Cages: what is seen of them, how they move as a whole, and what mirrors allow."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from softras import InputError, Mesh
from softras.cage import Cage, held, moved_planes, of_blocks
from softras.deform import ShownMesh, Sides, follow

RNG = np.random.default_rng(3)
PLANES = np.array([[0.1, 0, 0, 1, 0, 0, 0.01], [0, 0, 0, 0, 0.6, 0.8, 0.0]])
AFFINE = np.array([[0.3, -1.1, 0.2, 4], [0.9, 0.4, 0, -2], [0.1, 0.2, 1.3, 0.5], [0, 0, 0, 1]])


@pytest.fixture
def cage() -> Cage:
    """Seven shown vertices, each moved by up to three of five vertices in a way of its own."""
    pairs = np.unique(np.stack([RNG.integers(0, 7, 20), RNG.integers(0, 5, 20)], axis=1), axis=0)
    shown = Mesh(RNG.normal(size=(7, 3)), np.array([[0, 1, 2], [2, 3, 4], [4, 5, 6]]))
    return of_blocks(RNG.normal(size=(5, 3)), shown, *pairs.T, RNG.normal(size=(len(pairs), 3, 3)), PLANES)


def dense(cage: Cage) -> np.ndarray:
    matrix = np.zeros((len(cage.starts) - 1, cage.vertices.size))
    for row, (start, end) in enumerate(zip(cage.starts[:-1], cage.starts[1:], strict=True)):
        matrix[row, cage.columns[start:end]] = cage.values[start:end]
    return matrix


def test_the_shown_mesh_is_a_linear_map_of_the_cage(cage: Cage) -> None:
    moved = RNG.normal(size=(5, 3))
    expected = cage.shown.vertices + (dense(cage) @ (moved - cage.vertices).ravel()).reshape(7, 3)
    np.testing.assert_allclose(cage.shown_at(moved).vertices, expected, atol=1e-12)
    assert cage.shown_at(cage.vertices) is cage.shown


def test_blocks_are_the_derivatives_of_shown_vertices_by_those_of_the_cage() -> None:
    block = np.arange(1.0, 10).reshape(1, 3, 3)
    shown = Mesh(np.zeros((4, 3)), np.array([[0, 1, 2]]))
    found = of_blocks(np.zeros((2, 3)), shown, np.array([3]), np.array([1]), block, np.zeros((0, 7)))
    np.testing.assert_array_equal(dense(found)[9:, 3:], block[0])
    assert np.count_nonzero(dense(found)) == 9


def test_a_cage_that_is_moved_as_a_whole_shows_the_same_moved(cage: Cage) -> None:
    bent = RNG.normal(size=(5, 3))

    def there(points: np.ndarray) -> np.ndarray:
        return points @ AFFINE[:3, :3].T + AFFINE[:3, 3]

    moved = cage.moved(AFFINE)
    np.testing.assert_allclose(moved.shown_at(there(bent)).vertices, there(cage.shown_at(bent).vertices), atol=1e-9)


def test_planes_move_with_what_lies_in_them() -> None:
    moved = moved_planes(PLANES, AFFINE)
    points = np.array([[0.1, 3, -2], [0.1, 0, 1]])  # in the first plane
    there = points @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    np.testing.assert_allclose((there - moved[0, :3]) @ moved[0, 3:6], 0, atol=1e-9)
    assert np.linalg.norm(moved[:, 3:6], axis=1) == pytest.approx([1, 1])
    beside = np.array([0.1 + 0.01, 5, 5]) @ AFFINE[:3, :3].T + AFFINE[:3, 3]  # as far as the margin
    assert abs((beside - moved[0, :3]) @ moved[0, 3:6]) == pytest.approx(moved[0, 6])


def test_vertices_stay_in_planes_and_on_their_sides() -> None:
    plane = np.array([[0.0, 0, 0, 1, 0, 0, 0.1]])
    vertices = np.array([[0.05, 1, 2], [1, 0, 0], [-1, 0, 0], [0.5, 0, 0]])
    displacements = np.array([[0.7, 0.2, 0.3], [-3, 0.5, 0], [3, 0, 0], [0.2, 0, 0]])
    moved = vertices + held(plane, vertices, displacements)
    np.testing.assert_allclose(moved[0], [0.05, 1.2, 2.3])
    assert 0.1 < moved[1, 0] < 0.11 and moved[1, 1] == 0.5
    assert -0.11 < moved[2, 0] < -0.1
    assert moved[3, 0] == pytest.approx(0.7)


def test_the_tensors_of_planes_and_of_shown_meshes_are_their_definitions(cage: Cage) -> None:
    size, centre = 2.5, np.array([1.0, -2, 0.5])
    displacements = RNG.normal(size=(5, 3))
    sides = Sides(PLANES, cage.vertices, device="cpu", dtype=torch.float64, size=size)
    found = sides.hold(torch.from_numpy(displacements) / size).numpy() * size
    np.testing.assert_allclose(found, held(PLANES, cage.vertices, displacements), atol=1e-12)
    shown = ShownMesh(cage, centre, size, device="cpu")
    moved = cage.vertices + displacements
    found = shown(torch.as_tensor((moved - centre) / size).float()).numpy() * size + centre
    np.testing.assert_allclose(found, cage.shown_at(moved).vertices, atol=1e-5)


def test_a_cage_follows_what_is_wanted_of_the_shown_mesh() -> None:
    """A mirrored cage: the whole shown mesh is to be larger and higher."""
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0.5, 0.5, 1]])
    images = [1, 2, 3]
    mirror = np.diag([-1.0, 1, 1])
    blocks = np.concatenate([np.tile(np.eye(3), (4, 1, 1)), np.tile(mirror, (3, 1, 1))])
    blocks[[0, 2], 0] = 0  # in the plane
    shown = Mesh(np.concatenate([vertices, vertices[images] * [-1, 1, 1]]), np.array([[0, 1, 2], [4, 5, 6]]))
    seen, moving = np.arange(7), np.array([0, 1, 2, 3, 1, 2, 3])
    cage = of_blocks(vertices, shown, seen, moving, blocks, np.array([[0, 0, 0, 1, 0, 0, 1e-3]]))
    wanted = shown.vertices * 1.5 + [0, 0, 0.3]
    found = follow(cage, vertices, wanted)
    np.testing.assert_allclose(cage.shown_at(found).vertices, wanted, atol=1e-6)
    assert (found[[0, 2], 0] == 0).all()


def test_a_cage_that_nothing_follows_stays(cage: Cage) -> None:
    still = Cage(cage.vertices, cage.shown, np.zeros(22), np.zeros(0), np.zeros(0), PLANES)
    np.testing.assert_array_equal(follow(still, cage.vertices, cage.shown.vertices + 1), cage.vertices)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"starts": np.arange(5)}, "the rows of a cage must be 21, in order, for the"),
        ({"values": np.zeros(2)}, "the rows of a cage must be 21, in order, for the 2 entries"),
        ({"columns": "last"}, "the columns of a cage must be one for each entry, each below 15"),
        ({"values": np.array([np.nan])}, "the entries of a cage"),
        ({"planes": np.zeros((1, 6))}, "the planes of a cage"),
    ],
)
def test_a_wrong_cage_is_refused(cage: Cage, change: dict, sentence: str) -> None:
    names = ("vertices", "shown", "starts", "columns", "values", "planes")
    given = {name: getattr(cage, name) for name in names} | change
    if isinstance(given["columns"], str):
        given["columns"] = np.full(len(cage.values), 15)
    with pytest.raises(InputError, match=sentence):
        Cage(**given)
