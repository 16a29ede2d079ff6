"""render_images: meshes as users have them, seen by Camera objects."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import softras

VERTICES = np.array([[-1.0, 0, -1], [1, 0, -1], [0, 0, 1]])  # an upright triangle, in front of a camera at -y
FACES = np.array([[0, 1, 2]])


def camera(distance: float = 4.0, width: int = 24, height: int = 16, **changes) -> softras.Camera:
    K, matrix = softras.perspective(50.0, height, width), softras.look_at((0.0, -distance, 0.0))
    return dataclasses.replace(softras.Camera(K.numpy(), matrix.numpy(), width, height), **changes)


def test_arrays_and_one_camera_give_an_image_of_its_size() -> None:
    alpha, image, _ = softras.render_images(
        VERTICES, FACES, camera(), attributes=np.eye(3, dtype=np.float32), background=np.array([1.0, 1, 1])
    )
    assert alpha.shape == (1, 16, 24) and image.shape == (1, 3, 16, 24)
    assert image.dtype == torch.float64  # as the vertices
    assert alpha[0, 8, 12] > 0.99 and torch.equal(image[0, :, 0, 0], torch.ones(3, dtype=torch.float64))
    corners = image[0, :, [11, 11, 5], [9, 14, 12]]  # left and right below, above
    assert corners.argmax(0).tolist() == [0, 1, 2]


def test_it_is_the_operator_with_the_cameras_tensors() -> None:
    cameras = [camera(), camera(3.0)]
    vertices = torch.tensor(VERTICES, dtype=torch.float32)
    settings = {"attributes": torch.eye(3), "background": 0.5, "sigma": 1e-3, "gamma": 1e-2, "distance": "barycentric"}
    expected = softras.images(
        vertices,
        torch.tensor(FACES),
        torch.tensor(np.stack([c.K for c in cameras]), dtype=torch.float32),
        torch.tensor(np.stack([c.world_to_camera for c in cameras]), dtype=torch.float32),
        16,
        24,
        near=1e-3,
        **settings,
    )
    found = softras.render_images(vertices, FACES, cameras, **settings)
    torch.testing.assert_close(found.image, expected.image)
    torch.testing.assert_close(found.alpha, expected.alpha)


def test_near_is_the_cameras_unless_given() -> None:
    def covered(seen_by: softras.Camera, **settings) -> float:
        return float(softras.render_images(VERTICES, FACES, seen_by, **settings).alpha.max())

    assert covered(camera(near=3.9)) > 0.99
    assert covered(camera(near=4.1)) == 0
    assert covered(camera(near=3.9), near=4.1) == 0
    assert covered(camera(near=4.1), near=1.0) > 0.99


def test_colours_and_vertices_get_gradients() -> None:
    vertices = torch.tensor(VERTICES, requires_grad=True)
    colors = torch.full((3, 3), 0.5, dtype=torch.float64, requires_grad=True)
    softras.render_images(vertices, FACES, camera(), attributes=colors, sigma=1e-3).image.square().sum().backward()
    assert vertices.grad is not None and vertices.grad.abs().max() > 0
    assert colors.grad is not None and (colors.grad > 0).all()


def test_what_cannot_be_rendered_says_why() -> None:
    with pytest.raises(ValueError, match="no cameras"):
        softras.render_images(VERTICES, FACES, [])
    with pytest.raises(ValueError, match="one image size"):
        softras.render_images(VERTICES, FACES, [camera(), camera(width=32)])
    with pytest.raises(TypeError, match="sigmas"):
        softras.render_images(VERTICES, FACES, camera(), sigmas=1e-3)
