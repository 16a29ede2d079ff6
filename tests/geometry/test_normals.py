"""Normals and areas against trimesh, spheres and degenerate faces."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import cube, icosahedron, rotation, rough, sphere

from softras import InputError, face_areas, face_normals, vertex_normals


def test_faces_as_trimesh() -> None:
    vertices, faces = rough()
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    np.testing.assert_allclose(face_normals(vertices, faces), mesh.face_normals, atol=1e-9)
    np.testing.assert_allclose(face_areas(vertices, faces), mesh.area_faces, rtol=1e-9)


def test_vertices_of_a_sphere_point_outwards() -> None:
    vertices, faces = icosahedron()
    torch.testing.assert_close(vertex_normals(vertices, faces), vertices)
    vertices, faces = sphere(4)
    assert ((vertex_normals(vertices, faces) - vertices).norm(dim=1) < 0.01).all()


def test_vertices_weigh_their_faces_by_area() -> None:
    """At a corner of a box a b c the faces of the three sides meet once or twice, each half a side large."""
    vertices, faces = cube()
    vertices = vertices * torch.tensor([1.0, 2, 3])
    areas, normals = face_areas(vertices, faces), face_normals(vertices, faces)
    for vertex, found in enumerate(vertex_normals(vertices, faces)):
        meet = (faces == vertex).any(dim=1)
        expected = (areas[meet, None] * normals[meet]).sum(dim=0)
        torch.testing.assert_close(found, expected / expected.norm())


@pytest.mark.parametrize("normals", [face_normals, vertex_normals, face_areas])
def test_gradients_and_batches(normals) -> None:
    vertices, faces = rough()
    many = torch.stack([vertices, vertices.flip(1)]).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: normals(v, faces), (many,))
    together = normals(many, faces)
    for one, found in zip(many, together, strict=True):
        torch.testing.assert_close(normals(one, faces), found)


@given(st.integers(0, 10**6), st.floats(1e-3, 1e3))
@settings(max_examples=20)
def test_normals_turn_with_the_mesh_and_do_not_know_its_size(seed: int, scale: float) -> None:
    vertices, faces = rough(seed)
    turn = rotation(seed)
    moved = scale * vertices @ turn.T + torch.tensor([1.0, -2, 3])
    torch.testing.assert_close(face_normals(moved, faces), face_normals(vertices, faces) @ turn.T)
    torch.testing.assert_close(vertex_normals(moved, faces), vertex_normals(vertices, faces) @ turn.T)
    torch.testing.assert_close(vertex_normals(vertices, faces.flip(1)), -vertex_normals(vertices, faces))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_faces_without_area_have_zero_normals_and_gradients(dtype: torch.dtype) -> None:
    """Collinear up to rounding, a point, and a face of one edge; vertices 0 and 3 also have a real face."""
    vertices = torch.tensor([[0.1, 0.2, 0.3], [0.2, 0.4, 0.6], [0.3, 0.6, 0.9], [1, 0, 0], [0, 1, 0]], dtype=dtype)
    vertices.requires_grad_()
    faces = torch.tensor([[0, 1, 2], [3, 3, 3], [0, 3, 0], [0, 3, 4]])
    found = face_normals(vertices, faces)
    assert not found[:3].any() and found[3].norm().item() == pytest.approx(1)
    at_vertices = vertex_normals(vertices, faces)
    torch.testing.assert_close(at_vertices[[0, 3, 4]], found[3].expand(3, 3))
    assert not at_vertices[1:3].any()
    (gradient,) = torch.autograd.grad(found[:3].sum(), vertices, retain_graph=True)
    assert not gradient.any()
    (gradient,) = torch.autograd.grad((at_vertices * torch.arange(15, dtype=dtype).reshape(5, 3)).sum(), vertices)
    assert gradient.abs().max() < 100


def test_vertices_whose_faces_cancel_out_or_are_none() -> None:
    vertices, faces = rough()
    loose = torch.cat([vertices, torch.ones(1, 3, dtype=torch.float64)]).requires_grad_()
    both = torch.cat([faces, faces.flip(1)])
    found = vertex_normals(loose, both)
    found.sum().backward()
    assert not found.any() and not loose.grad.any()
    assert vertex_normals(loose, faces[:0]).shape == loose.shape


@pytest.mark.parametrize(
    ("vertices", "faces", "words"),
    [
        (torch.zeros(4, 2), torch.tensor([[0, 1, 2]]), "shape"),
        (torch.zeros(4, 3), torch.tensor([0, 1, 2]), "shape"),
        (torch.zeros(4, 3), torch.tensor([[0.0, 1, 2]]), "whole numbers"),
        (torch.zeros(4, 3), torch.tensor([[0, 1, 4]]), "outside 0..3"),
        (torch.zeros(4, 3), torch.tensor([[0, 1, -1]]), "below 0"),
        (torch.zeros(4, 3, dtype=torch.int64), torch.tensor([[0, 1, 2]]), "float32 or float64"),
    ],
)
def test_what_is_no_mesh_is_said(vertices, faces, words) -> None:
    with pytest.raises(InputError, match=words):
        vertex_normals(vertices, faces)


def test_arrays_of_numpy_will_do() -> None:
    vertices, faces = cube()
    torch.testing.assert_close(face_normals(vertices.numpy(), faces.int().numpy()), face_normals(vertices, faces))
