"""Distances of point sets against grids, all pairs and hand counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from shapes import rotation, sphere

from softras import InputError, chamfer_distance, f_score, nearest_distances, sample_surface
from softras.geometry import distances


def grid() -> torch.Tensor:
    """(64, 3) points one apart."""
    axis = torch.arange(4, dtype=torch.float64)
    return torch.cartesian_prod(axis, axis, axis)


def test_a_shifted_grid() -> None:
    shifted = grid() + torch.tensor([0.3, 0, 0.4])
    assert chamfer_distance(grid(), shifted).item() == pytest.approx(2 * 0.25)
    assert chamfer_distance(grid(), shifted, squared=False).item() == pytest.approx(2 * 0.5)
    half = grid()[grid()[:, 2] < 2]  # the upper two layers are 1 and 2 away from it
    assert nearest_distances(half, grid()).sum() == 0
    assert chamfer_distance(half, grid()).item() == pytest.approx((1 + 4) / 4)
    assert chamfer_distance(half, grid(), squared=False).item() == pytest.approx((1 + 2) / 4)


def test_two_spheres() -> None:
    """All of the inner is 0.25 from the outer, and the reverse."""
    vertices, faces = sphere(4)
    points = sample_surface(vertices, faces, 20_000).points
    found = chamfer_distance(points, 1.25 * sample_surface(vertices, faces, 20_000, seed=1).points, squared=False)
    assert found.item() == pytest.approx(0.5, abs=5e-3)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 10**6))
@settings(max_examples=25)
def test_as_all_pairs(p: int, q: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    one, other = random.normal(size=(p, 3)), random.normal(size=(q, 3))
    pairs = cdist(one, other)
    np.testing.assert_allclose(nearest_distances(one, other), pairs.min(axis=1))
    expected = (pairs**2).min(axis=1).mean() + (pairs**2).min(axis=0).mean()
    np.testing.assert_allclose(chamfer_distance(one, other), expected)
    assert chamfer_distance(other, one) == pytest.approx(expected)
    turn, shift = rotation(seed).numpy(), random.normal(size=3)
    np.testing.assert_allclose(chamfer_distance(one @ turn + shift, other @ turn + shift), expected)
    score = f_score(one, other, 0.7)
    assert score.precision == pytest.approx((pairs.min(axis=1) <= 0.7).mean())
    assert score.recall == pytest.approx((pairs.min(axis=0) <= 0.7).mean())


def test_a_gpu_way_of_search_finds_the_same(monkeypatch) -> None:
    random = torch.Generator().manual_seed(0)
    one = torch.rand(300, 3, generator=random) + 100  # far from the origin, where products would lose the digits
    other = torch.rand(200, 3, generator=random) + 100
    monkeypatch.setattr(distances, "PAIRS", 999)
    assert (distances._by_pairs(one, other) == distances._by_tree(one, other)).all()


@pytest.mark.parametrize("squared", [True, False])
def test_gradients_to_both(squared: bool) -> None:
    random = torch.Generator().manual_seed(0)
    one, other = (torch.rand(n, 3, generator=random, dtype=torch.float64, requires_grad=True) for n in (9, 7))
    assert torch.autograd.gradcheck(lambda a, b: chamfer_distance(a, b, squared=squared), (one, other))


def test_equal_points_have_no_gradient() -> None:
    points = grid().requires_grad_()
    chamfer_distance(points, grid(), squared=False).backward()
    assert not points.grad.any()


def test_f_score_of_a_hand_count() -> None:
    """Three of four points are near, of two reference points both."""
    points = torch.tensor([[0.0, 0, 0], [0.1, 0, 0], [1, 0, 0], [5, 0, 0]])
    reference = torch.tensor([[0.0, 0, 0], [1, 0.1, 0]])
    found = f_score(points, reference, 0.11)
    assert (found.precision, found.recall) == (0.75, 1) and found.f_score == pytest.approx(2 * 0.75 / 1.75)
    assert f_score(points, points, 0) == (1, 1, 1)
    assert f_score(points, reference + 100, 1) == (0, 0, 0)


def test_what_are_no_points_is_said() -> None:
    points = torch.zeros(2, 3)
    with pytest.raises(InputError, match="at least one point"):
        chamfer_distance(points, points[:0])
    with pytest.raises(InputError, match="others hold NaN"):
        chamfer_distance(points, points / 0)
    with pytest.raises(InputError, match="shape"):
        chamfer_distance(points[:, :2], points)
    with pytest.raises(InputError, match="one dtype and device"):
        chamfer_distance(points, points.double())
    with pytest.raises(InputError, match="threshold"):
        f_score(points, points, -1)


def test_torch_func_gives_what_backward_and_a_loop_give() -> None:
    others = rotation(1) @ torch.tensor([[1.0, 0, 0.2], [0, 0.9, 0], [0, 0, 1.1]]).double()

    def distance(points):
        return chamfer_distance(points, others)

    sets = torch.stack([grid() / 3, grid() / 2])
    leaf = sets[0].clone().requires_grad_()
    distance(leaf).backward()
    assert torch.equal(torch.func.grad(distance)(sets[0]), leaf.grad)
    torch.testing.assert_close(torch.func.vmap(distance)(sets), torch.stack([distance(one) for one in sets]))
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(distance))(sets)[0], leaf.grad)
    sets[1, 5, 2] = torch.nan
    with pytest.raises(InputError, match="hold NaN"):
        torch.func.vmap(distance)(sets)
