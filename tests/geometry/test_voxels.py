"""Voxels against boxes, spheres and the definition written out."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import rough, sphere, tensors

from softras import InputError, silhouette_iou, voxel_iou, voxelize
from softras.geometry import voxels


def box(low: list[float], high: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    return tensors(trimesh.creation.box(bounds=[low, high]))


def span(low: float, high: float, resolution: int = 32) -> slice:
    """The voxels that an interval of the cube touches."""
    first, last = (math.floor(x * (resolution - 1) + resolution / 2) for x in (low, high))
    return slice(first, last + 1)


@pytest.mark.parametrize("resolution", [2, 9, 32])
def test_boxes_are_solid(resolution: int) -> None:
    low, high = [-0.31, -0.2, -0.42], [0.17, 0.45, 0.33]
    expected = torch.zeros((resolution,) * 3, dtype=torch.bool)
    expected[tuple(span(a, b, resolution) for a, b in zip(low, high, strict=True))] = True
    assert (voxelize(*box(low, high), resolution) == expected).all()


def test_the_whole_cube_fills_the_grid() -> None:
    assert voxelize(*box([-0.5] * 3, [0.5] * 3)).all()


def test_iou_of_boxes() -> None:
    """10 voxels against 16 each way, the first within the second: (10 / 16)^3; half a box aside: 1 / 3."""
    small, large = box([-4.5 / 31] * 3, [4.5 / 31] * 3), box([-7.5 / 31] * 3, [7.5 / 31] * 3)
    assert voxel_iou(voxelize(*small), voxelize(*large)).item() == pytest.approx((10 / 16) ** 3)
    moved = large[0] + torch.tensor([8 / 31, 0, 0])
    assert voxel_iou(voxelize(*large), voxelize(moved, large[1])).item() == pytest.approx(1 / 3)


def test_a_sphere_lies_between_its_voxels() -> None:
    vertices, faces = sphere(4)
    resolution, radius = 64, 0.4
    solid = voxelize(radius * vertices, faces, resolution)
    middle = (torch.arange(resolution) + 0.5 - resolution / 2) / (resolution - 1)
    away = torch.cartesian_prod(middle, middle, middle).norm(dim=1).reshape(solid.shape)
    reach = 3**0.5 / 2 / (resolution - 1)
    assert solid[away < radius - reach].all() and not solid[away > radius + reach].any()


def test_the_surface_is_what_the_definition_says() -> None:
    """Grid lines meet faces and vertices lie in voxels, one by one; nothing is enclosed at four voxels a side."""
    resolution = 6
    vertices, faces = rough(seed=2, size=0.3)
    vertices, faces = 0.3 * vertices, faces[::5]
    points = (vertices * (resolution - 1) + resolution / 2).numpy()
    expected = np.zeros((resolution + 2,) * 3, dtype=bool)  # with a border
    for face in faces.numpy():
        for point in points[face]:
            expected[tuple(np.floor(point).astype(int) + 1)] = True
        for axis, x, y in itertools.product(range(3), range(resolution + 1), range(resolution + 1)):
            i, j = (axis + 1) % 3, (axis + 2) % 3
            weights = np.linalg.solve(np.stack([points[face][:, i], points[face][:, j], np.ones(3)]), [x, y, 1])
            if (weights < 0).any():
                continue
            place = np.floor(weights @ points[face][:, axis]).astype(int) + 1
            for a, b in itertools.product((x, x + 1), (y, y + 1)):
                index = [0, 0, 0]
                index[axis], index[i], index[j] = place, a, b
                expected[tuple(index)] = True
    found = voxelize(vertices, faces, resolution)
    assert 10 < found.sum() < 150
    np.testing.assert_array_equal(found, expected[1:-1, 1:-1, 1:-1])


def test_grid_lines_through_vertices_meet_the_faces() -> None:
    """A sheet of unit squares with its vertices on grid lines 10 to 14; voxels on both sides of each line count."""
    x, y = np.meshgrid(np.arange(10, 15), np.arange(10, 15), indexing="ij")
    vertices = np.stack([x.ravel(), y.ravel(), np.full(25, 20.5)], axis=1)
    corner = (5 * np.arange(4)[:, None] + np.arange(4)).ravel()
    faces = np.concatenate([corner[:, None] + [0, 5, 6], corner[:, None] + [0, 6, 1]])
    expected = torch.zeros(32, 32, 32, dtype=torch.bool)
    expected[9:15, 9:15, 20] = True
    assert (voxelize((vertices - 16) / 31, faces) == expected).all()


@given(st.integers(0, 10**6), st.permutations(range(3)))
@settings(max_examples=15)
def test_voxels_move_with_the_mesh(seed: int, axes: list[int]) -> None:
    vertices, faces = rough(seed)
    vertices = 0.2 * vertices / vertices.abs().max()
    found = voxelize(vertices, faces)
    assert (voxelize(vertices[:, axes], faces.flip(1)) == found.permute(*axes)).all()
    shift = torch.tensor(np.random.default_rng(seed).integers(-8, 9, 3))
    assert (voxelize(vertices + shift / 31, faces) == found.roll(tuple(shift), (0, 1, 2))).all()


def test_few_faces_at_a_time_make_no_difference(monkeypatch) -> None:
    vertices, faces = rough()
    found = voxelize(0.4 * vertices, faces)
    monkeypatch.setattr(voxels, "PAIRS", 7)
    assert (voxelize(0.4 * vertices, faces) == found).all()


def test_an_open_box_is_hollow_and_a_cut_one_too() -> None:
    vertices, faces = box([-0.3] * 3, [0.3] * 3)
    top = (vertices[faces][:, :, 2] > 0).all(dim=1)
    closed, hollow = voxelize(vertices, faces), voxelize(vertices, faces[~top])
    assert closed[16, 16, 16] and not hollow[16, 16, 16] and hollow[16, 16, 6]
    cut = voxelize(vertices + torch.tensor([0.4, 0, 0]), faces)
    assert not cut[28, 16, 16] and cut[28, 16, 6]
    assert not voxelize(vertices + 10, faces).any()


def test_degenerate_and_no_faces() -> None:
    vertices, faces = box([-0.3] * 3, [0.3] * 3)
    broken = torch.cat([faces, torch.tensor([[0, 0, 1], [2, 2, 2]])])
    assert (voxelize(vertices, broken) == voxelize(vertices, faces)).all()
    assert not voxelize(vertices, faces[:0]).any()


def test_what_cannot_be_voxels_is_said() -> None:
    vertices, faces = box([-0.3] * 3, [0.3] * 3)
    with pytest.raises(InputError, match="at least 2"):
        voxelize(vertices, faces, 1)
    with pytest.raises(InputError, match="one mesh"):
        voxelize(vertices[None], faces)
    with pytest.raises(InputError, match="NaN"):
        voxelize(vertices / 0, faces)


def test_iou_of_silhouettes() -> None:
    one, other = torch.zeros(2, 4, 4, dtype=torch.bool), torch.zeros(2, 4, 4, dtype=torch.bool)
    one[0, :2], other[0, 1:] = True, True  # 4 of 16 pixels in both
    torch.testing.assert_close(silhouette_iou(one, other), torch.tensor([0.25, 0.0]))
    assert silhouette_iou(one[0].numpy(), one[0].numpy()) == 1
    a, b = torch.rand(2, 2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).unbind()
    expected = (a * b).sum(dim=(1, 2)) / (a + b - a * b).sum(dim=(1, 2))
    torch.testing.assert_close(silhouette_iou(a, b), expected)
    assert torch.autograd.gradcheck(silhouette_iou, (a.requires_grad_(), b.requires_grad_()))
    with pytest.raises(InputError, match="one shape"):
        silhouette_iou(a, b[0])
    with pytest.raises(InputError, match="divide what has 0 to 255 by 255"):
        silhouette_iou(255 * one.byte(), 255 * other.byte())
    with pytest.raises(InputError, match="3 axes"):
        voxel_iou(a[0], b[0])
