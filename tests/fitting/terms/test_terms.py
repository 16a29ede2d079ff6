"""The terms against hand-computed values and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fitting_scenes import ball

from softras.fitting.observed.comparison import compared
from softras.fitting.terms import silhouettes, surface
from softras.fitting.terms.free import Drawn, Rest
from softras.fitting.vertices.objective import Objective
from softras.geometry.smoothness import cotangents, hinge_cosines
from softras.geometry.topology import Topology


@pytest.fixture
def random():
    return torch.Generator().manual_seed(1)


def masks_and_alpha(random):
    known = (torch.rand(2, 5, 7, generator=random, dtype=torch.float64) > 0.3).double()
    target = torch.rand(2, 5, 7, generator=random, dtype=torch.float64)
    alpha = torch.rand(2, 5, 7, generator=random, dtype=torch.float64, requires_grad=True)
    return alpha, target, known, torch.stack([known * target, known], dim=1)


def beside(alpha, masks):
    return compared(alpha, masks, torch.arange(len(masks)), masks[:, 0].sum(dim=(1, 2)))


def test_silhouette_terms_are_their_formulas(random):
    a, t, k, masks = masks_and_alpha(random)
    both = (k * a * t).sum(dim=(1, 2))
    either = (k * (a + t - a * t)).sum(dim=(1, 2))
    torch.testing.assert_close(silhouettes.silhouette_iou_loss(beside(a, masks)), 1 - both / either)
    squared = (k * (a - t) ** 2).sum(dim=(1, 2)) / (k * t).sum(dim=(1, 2))
    torch.testing.assert_close(silhouettes.silhouette_squared(beside(a, masks)), squared)


@pytest.mark.parametrize("term", [silhouettes.silhouette_iou_loss, silhouettes.silhouette_squared])
def test_silhouette_gradients(term, random):
    alpha, _, _, masks = masks_and_alpha(random)
    assert torch.autograd.gradcheck(lambda a: term(beside(a, masks)), (alpha,))


def test_a_perfect_silhouette_costs_nothing_and_unknown_pixels_do_not_count():
    mask = torch.zeros(4, 4)
    mask[1:3, 1:3] = 1
    known = torch.ones(4, 4)
    known[:, 3] = 0
    masks = torch.stack([mask * known, known])[None]
    alpha = mask.clone()
    alpha[:, 3] = 1  # wrong, but nobody knows
    assert silhouettes.silhouette_iou_loss(beside(alpha[None], masks)).item() == pytest.approx(0, abs=1e-6)
    assert silhouettes.silhouette_squared(beside(alpha[None], masks)).item() == 0
    assert silhouettes.silhouette_iou_loss(beside(torch.zeros(1, 4, 4), masks)).item() == 1


def test_creases_at_rest_are_free_and_folding_further_costs():
    """Two faces at a right angle: unfolding them costs nothing, folding them to 45 degrees sqrt(1/2)."""
    faces = torch.tensor([[0, 1, 2], [1, 0, 3]])
    topology = Topology(faces)

    def folded(degrees: float) -> torch.Tensor:
        a = np.radians(degrees)
        return torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, np.cos(a), np.sin(a)]], dtype=torch.float64)

    rest = hinge_cosines(folded(90), topology)
    assert surface.normal_consistency(folded(90), topology, rest).item() == pytest.approx(0, abs=1e-12)
    assert surface.normal_consistency(folded(150), topology, rest) == 0
    assert surface.normal_consistency(folded(45), topology, rest).item() == pytest.approx(0.5**0.5)
    assert surface.normal_consistency(folded(45), topology).item() == pytest.approx(1 + 0.5**0.5)


def losses(rest, faces, weights, keep_detail):
    """The weighted terms of a mesh alone, as a function of its vertices."""
    before = Rest(rest, Topology(faces), keep_detail=keep_detail)
    objective = Objective(before, weights)

    def terms(vertices):
        drawn = Drawn(before, vertices, alpha=None, observation=None, views=None, weights=None)
        return dict(zip(objective.names, objective.terms(drawn), strict=True))

    return terms


@pytest.mark.parametrize("name", ["laplacian", "bilaplacian", "normal_consistency", "distortion", "edge_length"])
@pytest.mark.parametrize("keep_detail", [True, False])
def test_mesh_term_gradients(name, keep_detail, random):
    mesh = ball(1)
    rest = torch.as_tensor(mesh.vertices)
    terms = losses(rest, mesh.faces, {name: 1.0}, keep_detail)
    moved = (rest + 0.1 * torch.randn(rest.shape, generator=random, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: terms(v)[name], (moved,))
    assert terms(moved)[name] > 0


def test_a_refinement_does_not_smooth_what_is_not_moved():
    mesh = ball(1)
    bumpy = torch.as_tensor(mesh.vertices) + 0.1 * torch.randn(mesh.vertices.shape, dtype=torch.float64)
    weights = {"laplacian": 1.0, "bilaplacian": 1.0, "distortion": 1.0, "edge_length": 1.0}
    kept = losses(bumpy, mesh.faces, weights, True)(bumpy)
    assert all(abs(value.item()) < 1e-20 for value in kept.values())
    assert losses(bumpy, mesh.faces, weights, False)(bumpy)["laplacian"] > 0.001


def test_distortion_is_nothing_for_similar_faces_and_grows_with_shear():
    """Stretched by a along one axis, a face's conformal energy over its area is (a + 1 / a) / 2."""
    rest = torch.tensor([[0.0, 0, 0], [2, 0, 0], [0.5, 1, 0]], dtype=torch.float64)
    faces = torch.tensor([[0, 1, 2]])
    topology, angles = Topology(faces), cotangents(rest, faces)
    turn = torch.linalg.qr(torch.rand(3, 3, dtype=torch.float64)).Q
    assert surface.distortion(3 * rest @ turn, topology, angles).item() == pytest.approx(0, abs=1e-20)
    for a in (1.5, 4.0, 0.1):
        q = (a + 1 / a) / 2
        stretched = surface.distortion(rest * torch.tensor([a, 1, 1]), topology, angles)
        assert stretched.item() == pytest.approx((q - 1) ** 2, rel=0.1 * q)
    flat = (rest * torch.tensor([1.0, 0, 1])).requires_grad_()
    collapsed = surface.distortion(flat, topology, angles)
    collapsed.backward()
    assert 9000 < collapsed < 10000 and torch.isfinite(flat.grad).all()


def test_a_face_without_area_at_rest_never_costs():
    rest = torch.tensor([[0.0, 0, 0], [1, 0, 0], [3, 0, 0], [0, 0, 0]])
    faces = torch.tensor([[0, 1, 2], [0, 3, 0]])
    moved = torch.rand(4, 3, requires_grad=True)
    cost = surface.distortion(moved, Topology(faces), cotangents(rest, faces))
    cost.backward()
    assert cost == 0 and not moved.grad.any()
