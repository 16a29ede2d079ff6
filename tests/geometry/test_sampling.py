"""Points on surfaces: even, seeded, on the surface, and moved with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from scipy import stats
from shapes import cube, fins, rough

from softras import InputError, face_areas, sample_surface


def test_faces_get_points_by_their_areas() -> None:
    vertices, faces = rough(size=0.4)
    found = sample_surface(vertices, faces, 20_000)
    areas = face_areas(vertices, faces).numpy()
    counts = np.bincount(found.faces.numpy(), minlength=len(faces))
    assert stats.chisquare(counts, 20_000 * areas / areas.sum()).pvalue > 1e-3


def test_points_are_even_within_a_face() -> None:
    """The barycentrics of even points have mean 1/3 and variance 1/18 each; they make the point."""
    vertices, faces = fins(40)
    points, chosen, weights = sample_surface(vertices, faces, 20_000)
    assert not chosen.any() and (weights >= 0).all()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(20_000, dtype=torch.float64))
    torch.testing.assert_close(points, weights @ vertices)
    torch.testing.assert_close(weights.mean(dim=0), torch.full((3,), 1 / 3, dtype=torch.float64), atol=0.01, rtol=0)
    torch.testing.assert_close(weights.var(dim=0), torch.full((3,), 1 / 18, dtype=torch.float64), atol=2e-3, rtol=0)


def test_points_lie_on_the_surface_and_around_its_middle() -> None:
    vertices, faces = cube()
    points = sample_surface(vertices, faces, 5_000).points
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    assert ((points - 0.5).abs().max(dim=1).values - 0.5).abs().max() < 1e-12
    np.testing.assert_allclose(points.mean(dim=0), mesh.centroid, atol=0.02)


def test_the_seed_says_which_points() -> None:
    vertices, faces = rough()
    one, same, other = (sample_surface(vertices, faces, 50, seed=seed).points for seed in (3, 3, 4))
    assert (one == same).all() and (one != other).any()
    state = torch.get_rng_state()
    sample_surface(vertices, faces, 50)
    assert (torch.get_rng_state() == state).all()
    single = sample_surface(vertices.float(), faces, 50, seed=3).points
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), one, atol=1e-5, rtol=0)


def test_points_move_with_their_faces() -> None:
    vertices, faces = rough()
    vertices.requires_grad_()
    points, chosen, weights = sample_surface(vertices, faces, 30)
    points[:, 0].sum().backward()
    expected = torch.zeros(len(vertices), dtype=torch.float64)
    expected.index_add_(0, faces[chosen].flatten(), weights.flatten())
    torch.testing.assert_close(vertices.grad[:, 0], expected)
    assert not vertices.grad[:, 1:].any()


def test_faces_without_area_get_no_points() -> None:
    vertices, faces = cube()
    broken = torch.cat([torch.tensor([[0, 0, 1]]), faces, torch.tensor([[4, 4, 4], [1, 2, 1]])])
    chosen = sample_surface(vertices, broken, 5_000).faces
    assert chosen.min() == 1 and chosen.max() == len(faces)


def test_what_has_no_surface_is_said() -> None:
    vertices, faces = cube()
    with pytest.raises(InputError, match="no face with an area"):
        sample_surface(vertices, faces[:0], 10)
    with pytest.raises(InputError, match="no face with an area"):
        sample_surface(torch.ones_like(vertices), faces, 10)
    with pytest.raises(InputError, match="NaN"):
        sample_surface(vertices * torch.nan, faces, 10)
    with pytest.raises(InputError, match="at least 1"):
        sample_surface(vertices, faces, 0)
    with pytest.raises(InputError, match="one mesh"):
        sample_surface(vertices[None], faces, 10)
