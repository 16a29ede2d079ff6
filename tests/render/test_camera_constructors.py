"""Cameras as tensors: look_at, look, eye_from_angles, perspective, orthographic."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

import softras

WIDTH, HEIGHT = 320, 200
DOUBLE = torch.float64


def pixels(points: Tensor, K: Tensor, world_to_camera: Tensor, orthographic: bool = False) -> Tensor:
    """(..., 2) where a camera sees points (..., 3)."""
    x = (world_to_camera[..., :3, :3] @ points[..., None])[..., 0] + world_to_camera[..., :3, 3]
    xy = x[..., :2] if orthographic else x[..., :2] / x[..., 2:]
    return (K[..., :2, :2] @ xy[..., None])[..., 0] + K[..., :2, 2]


def test_the_point_looked_at_is_in_the_middle_up_is_up_and_right_is_right() -> None:
    """From the front in Blender's world x goes right, z goes up and y away."""
    matrix = softras.look_at((0, -5, 0))
    K = softras.perspective(90, HEIGHT, WIDTH)
    middle, right, up = pixels(torch.tensor([(0.0, 0, 0), (1, 0, 0), (0, 0, 1)]), K, matrix)
    torch.testing.assert_close(middle, torch.tensor([160.0, 100]))
    torch.testing.assert_close(right, torch.tensor([160 + 100 / 5, 100]))
    torch.testing.assert_close(up, torch.tensor([160, 100 - 100 / 5]))
    torch.testing.assert_close(matrix @ torch.tensor([0.0, 1, 0, 1]), torch.tensor([0.0, 0, 6, 1]))


def test_worlds_with_y_up() -> None:
    matrix = softras.look_at((0, 0, 5), up=(0, 1, 0))
    torch.testing.assert_close(matrix @ torch.tensor([1.0, 2, 3, 1]), torch.tensor([1.0, -2, 2, 1]))


def test_look_at_is_look_towards_the_point() -> None:
    eye, at, up = torch.randn(3, 7, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    matrix = softras.look_at(eye, at, up)
    torch.testing.assert_close(matrix, softras.look(eye, 3 * (at - eye), 0.1 * up))
    R = matrix[:, :3, :3]
    torch.testing.assert_close(R @ R.mT, torch.eye(3, dtype=DOUBLE).expand_as(R))
    torch.testing.assert_close(torch.linalg.det(R), torch.ones(7, dtype=DOUBLE))
    seen = pixels(at + up, softras.perspective(torch.tensor(40.0, dtype=DOUBLE), 64, 64), matrix)
    torch.testing.assert_close(seen[:, 0], torch.full((7,), 32.0, dtype=DOUBLE))


@pytest.mark.parametrize("up", [(0, 0, 1), (0, 1, 0), (0, -2, 1)])
def test_angles(up: tuple[float, float, float]) -> None:
    """Seen from azimuth 0 the camera at 90 degrees is on the right; elevation is the angle to the horizon."""
    up = torch.tensor(up, dtype=DOUBLE)
    angles = torch.tensor([[-35.0, 20.0], [0, 90], [0, 0]], dtype=DOUBLE)
    eye = softras.eye_from_angles(4.0, angles[:, 0], angles[:, 1], up=up)
    torch.testing.assert_close(eye.norm(dim=-1), torch.full((3,), 4.0, dtype=DOUBLE))
    torch.testing.assert_close(eye @ up / up.norm() / 4, torch.deg2rad(angles[:, 0]).sin())
    torch.testing.assert_close(eye[1], torch.tensor([4, 0, 0], dtype=DOUBLE))
    K = softras.perspective(60, 50, 50).to(DOUBLE)
    assert pixels(eye[1], K, softras.look_at(eye[2], up=up))[0] > 50
    torch.testing.assert_close(eye, softras.eye_from_angles(4, *torch.deg2rad(angles.T), up=up, degrees=False))


def test_angles_are_the_stated_formulas() -> None:
    d, el, az = 2.5, math.radians(25), math.radians(-70)
    blender = (d * math.cos(el) * math.sin(az), -d * math.cos(el) * math.cos(az), d * math.sin(el))
    pytorch3d = (d * math.cos(el) * math.sin(az), d * math.sin(el), d * math.cos(el) * math.cos(az))
    np.testing.assert_allclose(softras.eye_from_angles(d, 25, -70), blender, rtol=1e-6)
    np.testing.assert_allclose(softras.eye_from_angles(d, 25, -70, up=(0, 1, 0)), pytorch3d, rtol=1e-6)


@pytest.mark.parametrize("side, span", [("shorter", 200), ("longer", 320), ("width", 320), ("height", 200)])
def test_a_field_of_view_and_an_extent_span_the_side(side: str, span: float) -> None:
    """What is at half the angle, or half the extent, is at the edge of that side and no nearer."""
    edge = torch.tensor([math.tan(math.radians(25)), 0, 1])
    x = pixels(edge, softras.perspective(50, HEIGHT, WIDTH, side=side), torch.eye(4))[0]
    torch.testing.assert_close(x, torch.tensor(160 + span / 2))
    x = pixels(torch.tensor([1.5, 0, 7]), softras.orthographic(3, HEIGHT, WIDTH, side=side), torch.eye(4), True)[0]
    torch.testing.assert_close(x, torch.tensor(160 + span / 2))
    radians = softras.perspective(math.radians(50), HEIGHT, WIDTH, side=side, degrees=False)
    torch.testing.assert_close(radians, softras.perspective(50, HEIGHT, WIDTH, side=side))


def test_the_axis_hits_the_principal_point() -> None:
    K = softras.perspective(50, HEIGHT, WIDTH, principal_point=torch.tensor([[3.0, 4], [5, 6]]))
    torch.testing.assert_close(pixels(torch.tensor([0.0, 0, 2]), K, torch.eye(4)), torch.tensor([[3.0, 4], [5, 6]]))


def test_everything_broadcasts() -> None:
    eye = torch.tensor([0.0, -3, 1])
    assert softras.look_at(eye + torch.zeros(2, 1, 3), torch.zeros(4, 3)).shape == (2, 4, 4, 4)
    assert softras.look(eye, torch.ones(5, 3), torch.tensor([[0.0, 0, 1]])).shape == (5, 4, 4)
    assert softras.eye_from_angles(torch.ones(6, 1), 0, torch.zeros(2)).shape == (6, 2, 3)
    assert softras.perspective(torch.full((2, 3), 40.0), 8, 9, principal_point=torch.zeros(3, 2)).shape == (2, 3, 3, 3)
    assert softras.orthographic(torch.ones(4), 8, 9).shape == (4, 3, 3)


def test_numbers_adopt_the_dtype_of_tensors_and_arrays() -> None:
    assert softras.look_at([0, -1, 0]).dtype == torch.float32
    eye = torch.tensor([0.1, 2, 3], dtype=DOUBLE)
    double = softras.look_at((0.1, 2, 3), at=torch.zeros(3, dtype=DOUBLE))
    torch.testing.assert_close(double, softras.look_at(eye), rtol=0, atol=0)
    torch.testing.assert_close(softras.look_at(eye.numpy()), double, rtol=0, atol=0)
    assert softras.perspective(torch.tensor(40), 8, 9).dtype == torch.float32
    assert softras.perspective(torch.tensor(40.0, dtype=DOUBLE), 8, 9, principal_point=(1, 2)).dtype == DOUBLE


def test_gradients_to_every_argument() -> None:
    g = torch.Generator().manual_seed(1)
    eye, at, up = (torch.randn(2, 3, dtype=DOUBLE, generator=g, requires_grad=True) for _ in range(3))
    numbers = [torch.rand(2, dtype=DOUBLE, generator=g, requires_grad=True) for _ in range(3)]
    point = torch.randn(2, 2, dtype=DOUBLE, generator=g, requires_grad=True)
    assert torch.autograd.gradcheck(softras.look_at, (eye, at, up))
    assert torch.autograd.gradcheck(softras.look, (eye, at, up))
    for degrees in (True, False):
        assert torch.autograd.gradcheck(
            lambda d, e, a, u, degrees=degrees: softras.eye_from_angles(d, e, a, up=u, degrees=degrees), (*numbers, up)
        )
        assert torch.autograd.gradcheck(
            lambda fov, p, degrees=degrees: softras.perspective(fov, 6, 9, degrees=degrees, principal_point=p),
            (numbers[0], point),
        )
    assert torch.autograd.gradcheck(
        lambda e, p: softras.orthographic(e, 6, 9, side="width", principal_point=p), (numbers[0], point)
    )


def test_a_camera_is_found_by_its_silhouette() -> None:
    """The constructors lead gradients of a picture to the eye."""
    triangle = torch.tensor([(-1.0, 0, -1), (1, 0, -1), (0, 0, 1)], dtype=DOUBLE)
    faces, K = torch.tensor([[0, 1, 2]]), softras.perspective(60, 40, 56)[None].to(DOUBLE)
    azimuth = torch.tensor(20.0, dtype=DOUBLE, requires_grad=True)

    def area(angle: Tensor) -> Tensor:
        matrix = softras.look_at(softras.eye_from_angles(4, 0, angle))
        return softras.silhouettes(triangle, faces, K, matrix[None], 40, 56, sigma=1e-3).sum()

    area(azimuth).backward()
    assert azimuth.grad is not None
    slope = (area(torch.tensor(20.01, dtype=DOUBLE)) - area(torch.tensor(19.99, dtype=DOUBLE))) / 0.02
    torch.testing.assert_close(azimuth.grad, slope, rtol=1e-4, atol=0)
    assert slope < 0  # seen from further aside the triangle is slimmer


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_what_determines_no_camera_is_refused(dtype: torch.dtype) -> None:
    eyes = torch.tensor([(0.0, -1, 0), (1, 2, 3)], dtype=dtype)
    with pytest.raises(ValueError, match="eye and at must be different points"):
        softras.look_at(eyes, at=(1, 2, 3))
    with pytest.raises(ValueError, match="looks along its up vector; give another up"):
        softras.look_at(eyes, at=(1, 2, 0))
    with pytest.raises(ValueError, match="looks along its up vector; give another up"):
        softras.look_at(softras.eye_from_angles(torch.tensor(3, dtype=dtype), 90, 40))
    with pytest.raises(ValueError, match="direction must not be zero"):
        softras.look(eyes, torch.zeros(3, dtype=dtype))
    with pytest.raises(ValueError, match="up must not be zero"):
        softras.look(eyes, (0, 1, 0), up=(0, 0, 0))
    with pytest.raises(ValueError, match="different points"):
        softras.look_at(eyes * float("nan"))
    with pytest.raises(ValueError, match="up must not be along x"):
        softras.eye_from_angles(torch.tensor(1, dtype=dtype), 0, 0, up=(-3, 0, 0))
    almost = softras.look_at(softras.eye_from_angles(torch.tensor(3, dtype=dtype), 89.9, 40))
    assert almost.isfinite().all()


def test_what_determines_no_lens_is_refused() -> None:
    for fov in (0, 180, -10, float("nan")):
        with pytest.raises(ValueError, match="fov must be between 0 and 180 degrees"):
            softras.perspective(fov, 8, 8)
    with pytest.raises(ValueError, match="extent must be positive"):
        softras.orthographic(torch.tensor([1.0, 0]), 8, 8)
    with pytest.raises(ValueError, match="side cannot be 'diagonal'; choose from shorter"):
        softras.perspective(30, 8, 8, side="diagonal")
    with pytest.raises(ValueError, match="height must be a whole number of at least 1, not 0"):
        softras.orthographic(1, 0, 8)


CONSTRUCTORS = [
    lambda x: softras.look_at(x * EYE),
    lambda x: softras.look(EYE, x - EYE, (0, 1, 0)),
    lambda x: softras.eye_from_angles(2.0, x, 3 * x),
    lambda x: softras.perspective(x, 20, 30),
    lambda x: softras.orthographic(x, 20, 30),
]
EYE = torch.tensor([3.0, 1.0, 2.0])


@pytest.mark.parametrize("made", CONSTRUCTORS)
def test_they_can_be_compiled_and_transformed(made) -> None:
    numbers = torch.tensor([0.5, 20.0])
    compiled = torch.compile(made, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(numbers[1]), made(numbers[1]))
    torch.testing.assert_close(torch.func.vmap(made)(numbers), torch.stack([made(number) for number in numbers]))
    x = numbers[0].clone().requires_grad_()
    made(x).cos().sum().backward()
    torch.testing.assert_close(torch.func.grad(lambda x: made(x).cos().sum())(numbers[0]), x.grad)


def test_what_is_refused_is_not_a_number_where_values_cannot_be_looked_at() -> None:
    fields = torch.tensor([-10.0, 40.0])
    found = torch.func.vmap(lambda field: softras.perspective(field, 20, 30))(fields)
    assert found[0].isnan().any()
    assert torch.equal(found[1], softras.perspective(fields[1], 20, 30))
    compiled = torch.compile(softras.look_at, backend="eager", fullgraph=True)
    assert compiled(torch.zeros(3)).isnan().any()
