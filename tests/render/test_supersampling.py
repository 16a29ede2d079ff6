"""Supersampled images: pixels as means over their area."""

import pytest
import torch

import softras

EYE = torch.eye(4, dtype=torch.float64)[None]
HARD = {"sigma": 1e-10, "near": 0.1, "orthographic": torch.tensor([True])}


def triangle(corners, render=softras.silhouettes, size=8, **settings):
    """A triangle given in pixels of a size x size image, supersampled."""
    corners = torch.as_tensor(corners, dtype=torch.float64)
    vertices = torch.cat([corners, torch.full((3, 1), 2.0, dtype=torch.float64)], 1)
    K = torch.eye(3, dtype=torch.float64)[None]
    return softras.supersampled(render, vertices, torch.tensor([[0, 1, 2]]), K, EYE, size, size, **HARD, **settings)


@pytest.mark.parametrize(("edge", "samples", "alpha"), [(3.5, 2, 0.5), (3.25, 4, 0.25), (3.75, 4, 0.75), (3.6, 1, 1.0)])
def test_a_pixel_has_the_share_of_it_that_is_covered(edge, samples, alpha):
    """Left of a vertical edge through the pixels of column 3."""
    got = triangle([(edge, -100), (edge, 100), (-300, 0)], samples=samples)[0]
    expected = torch.tensor([1.0, 1, 1, alpha, 0, 0, 0, 0], dtype=torch.float64).expand(8, 8)
    assert torch.allclose(got, expected, atol=1e-6)


def test_the_sum_is_the_area():
    corners = [(1.3, 0.7), (6.9, 2.2), (3.1, 7.4)]
    (a, b), (c, d), (e, f) = corners
    area = abs((c - a) * (f - b) - (e - a) * (d - b)) / 2
    errors = [abs(float(triangle(corners, samples=n).sum()) - area) for n in (1, 16)]
    assert errors[1] < 0.02 < errors[0]


def test_colours_blend_with_the_background_and_nearest_is_of_every_sample():
    colours = torch.tensor([[1.0, 0.0]] * 3, dtype=torch.float64)
    settings = {"attributes": colours, "background": (0.0, 1.0), "colour": "hard"}
    got = triangle([(3.5, -100), (3.5, 100), (-300, 0)], softras.images, **settings)
    assert torch.allclose(got.alpha[0, :, 3], torch.full((8,), 0.5, dtype=torch.float64))
    assert torch.allclose(got.image[0, :, :, 3], torch.full((2, 8), 0.5, dtype=torch.float64))
    assert got.nearest.shape == (1, 16, 16)
    assert got.nearest[0, 0].tolist() == [0] * 7 + [-1] * 9


def test_gradients():
    vertices = torch.tensor([[-0.5, -0.4, 2], [0.6, -0.3, 2.2], [0.1, 0.7, 1.9]], dtype=torch.float64).requires_grad_()
    K = torch.tensor([[[5.0, 0, 3], [0, 5, 2.5], [0, 0, 1]]], dtype=torch.float64).requires_grad_()
    faces = torch.tensor([[0, 1, 2]])

    def alpha(v, k):
        return softras.supersampled(softras.silhouettes, v, faces, k, EYE, 5, 6, samples=3, sigma=1e-2)

    assert torch.autograd.gradcheck(alpha, (vertices, K))


def test_samples_are_counted():
    with pytest.raises(ValueError, match="samples must be a whole number of at least 1, not 0"):
        triangle([(0, 0), (1, 0), (0, 1)], samples=0)
