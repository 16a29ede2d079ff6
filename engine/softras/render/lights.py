"""Lights, and the light that a surface reflects; differentiable with respect to lights, points and normals.

Colours of lights are (3,), tensors or lists. They multiply the colour of the surface: a white surface that faces a
directional light of colour c has the colour c in the image. No gamma is applied, and nothing casts a shadow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Reflection = Literal["blinn_phong", "phong"]


@dataclass(frozen=True, eq=False)
class AmbientLight:
    """The same light from everywhere. color: (3,)."""

    color: Tensor

    def __post_init__(self) -> None:
        _make_tensors(self, color=(3,))


@dataclass(frozen=True, eq=False)
class DirectionalLight:
    """A light so far away that it has only a direction.

    color: (3,). direction: (3,) of any length, from the surface towards the light.
    """

    color: Tensor
    direction: Tensor

    def __post_init__(self) -> None:
        _make_tensors(self, color=(3,), direction=(3,))


@dataclass(frozen=True, eq=False)
class PointLight:
    """A light at a point.

    color: (3,). position: (3,) in the world. attenuation: (3,) a, b, c: at distance d the light is divided by
    a + b d + c d^2. The default None stands for (1, 0, 0), the same light at any distance; a small lamp has (0, 0, 1).
    """

    color: Tensor
    position: Tensor
    attenuation: Tensor | None = None

    def __post_init__(self) -> None:
        _make_tensors(self, color=(3,), position=(3,), attenuation=(3,))


@dataclass(frozen=True, eq=False)
class SphericalHarmonics:
    """Light from all directions as its first nine spherical harmonics (Ramamoorthi and Hanrahan, SIGGRAPH 2001).

    coefficients: (9, 3) L_lm of the incoming light, with (l, m) = (0,0), (1,-1), (1,0), (1,1), (2,-2) .. (2,2) and real
    harmonics in the world's axes. The same light c from everywhere is L_00 = c sqrt(4 pi), all others 0. A white
    Lambertian surface reflects irradiance / pi.
    """

    coefficients: Tensor

    def __post_init__(self) -> None:
        _make_tensors(self, coefficients=(9, 3))


def _make_tensors(light: object, **shapes: tuple[int, ...]) -> None:
    """Make tensors of a light's fields, which may be lists. Raises ValueError for a wrong shape."""
    for name, shape in shapes.items():
        value = getattr(light, name)
        if value is None:
            continue
        tensor = value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float32)
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} of {type(light).__name__} must have shape {shape}, not {tuple(tensor.shape)}")
        object.__setattr__(light, name, tensor)


Light = AmbientLight | DirectionalLight | PointLight | SphericalHarmonics


def softras_lights(
    dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
) -> tuple[AmbientLight, DirectionalLight]:
    """SoftRas's default lights: ambient 0.5, and directional 0.5 from (0, 1, 0), from above in its world with y up."""
    half = torch.full((3,), 0.5, dtype=dtype, device=device)
    return AmbientLight(half), DirectionalLight(half, torch.tensor([0.0, 1, 0], dtype=dtype, device=device))


def diffuse_light(lights: Sequence[Light], points: Tensor, normals: Tensor) -> Tensor:
    """Diffuse light (..., 3) that a white surface reflects.

    It is the sum over lights: color for an ambient light, color max(0, n . l) for a directional or point light in the
    direction l, and irradiance / pi for spherical harmonics. A zero normal, which faces without area have, gets only
    the light that comes equally from all directions.

    Args:
        lights: any number of lights.
        points: (..., 3) in the world.
        normals: (..., 3) unit normals there; broadcasts with points.
    """
    points, normals = torch.broadcast_tensors(points, normals)
    light = torch.zeros_like(normals)
    for source in _each(lights):
        if isinstance(source, AmbientLight):
            light = light + source.color
        elif isinstance(source, SphericalHarmonics):
            light = light + _harmonics(normals) @ source.coefficients
        else:
            to_light, color = _arriving(source, points)
            light = light + color * _dot(normals, to_light).clamp(min=0)
    return light


def specular_light(
    lights: Sequence[Light],
    points: Tensor,
    normals: Tensor,
    eye: Tensor,
    *,
    shininess: float | Tensor = 64.0,
    model: Reflection = "blinn_phong",
) -> Tensor:
    """Highlights (..., 3) of directional and point lights on a white glossy surface, towards the eye.

    Blinn-Phong is color max(0, n . h)^s with h halfway between the directions to light and eye. Phong is
    color max(0, r . e)^s with e the direction to the eye and r that of the reflected light. Both are zero where the
    light is behind the surface. For highlights of the same size, Phong's s is about a quarter of Blinn-Phong's.

    Args:
        lights, points, normals: as for `diffuse_light`.
        eye: (..., 4) the eye, as `eyes` gives it; broadcasts with points.
        shininess: s > 0; the larger, the smaller the highlights.
        model: "blinn_phong" or "phong".
    """
    if model not in ("blinn_phong", "phong"):
        raise ValueError(f"there is no reflection model '{model}'; choose blinn_phong or phong.")
    to_eye = towards(eye, points)
    points, normals, to_eye = torch.broadcast_tensors(points, normals, to_eye)
    light = torch.zeros_like(normals)
    for source in _each(lights):
        if isinstance(source, AmbientLight | SphericalHarmonics):
            continue
        to_light, color = _arriving(source, points)
        facing = _dot(normals, to_light)
        if model == "blinn_phong":
            cosine = _dot(normals, unit(to_light + to_eye))
        else:
            cosine = _dot(2 * facing * normals - to_light, to_eye)
        lit = (facing > 0) & (cosine > 0)  # the power has no gradient at 0
        light = light + color * torch.where(lit, torch.where(lit, cosine, 1) ** shininess, 0)
    return light


def eyes(world_to_camera: Tensor, orthographic: Tensor | None = None) -> Tensor:
    """(..., 4) the eyes of cameras (..., 4, 4): x, y, z, 1 with the camera's point in the world.

    Orthographic cameras (...) are infinitely far away: theirs are x, y, z, 0 with the unit vector towards the camera.
    """
    R, t = world_to_camera[..., :3, :3], world_to_camera[..., :3, 3:]
    points = -(R.transpose(-1, -2) @ t)[..., 0]
    ones = torch.ones_like(points[..., :1])
    if orthographic is None:
        return torch.cat([points, ones], -1)
    far = orthographic.to(points.device)[..., None]
    return torch.where(far, torch.cat([-R[..., 2, :], 0 * ones], -1), torch.cat([points, ones], -1))


def towards(eye: Tensor, points: Tensor) -> Tensor:
    """(..., 3) unit vectors from points (..., 3) towards an eye (..., 4); zero at the eye itself."""
    return unit(eye[..., :3] - eye[..., 3:] * points)


def unit(vectors: Tensor) -> Tensor:
    """The vectors (..., 3) scaled to length 1. A zero vector stays zero and has a zero gradient."""
    largest = vectors.detach().abs().amax(-1, keepdim=True)
    largest = torch.where(largest > torch.finfo(vectors.dtype).tiny, largest, torch.inf)
    vectors = vectors / largest  # no square over- or underflows
    length2 = _dot(vectors, vectors)
    return vectors * torch.where(length2 > 0, length2, 1).rsqrt()


def _each(lights: Sequence[Light]) -> Sequence[Light]:
    """The lights; TypeError unless they are a list of them."""
    wrong = [x for x in lights if not isinstance(x, Light)] if isinstance(lights, Sequence) else [lights]
    if wrong:
        raise TypeError(
            f"lights must be a list such as [AmbientLight(color)]; this is or holds a {type(wrong[0]).__name__}."
        )
    return lights


def _arriving(light: DirectionalLight | PointLight, points: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors (..., 3) from the points towards the light, and the colour that arrives, (3,) or (..., 3)."""
    if isinstance(light, DirectionalLight):
        return unit(light.direction), light.color
    away = light.position - points
    to_light = unit(away)
    if light.attenuation is None:
        return to_light, light.color
    a, b, c = light.attenuation
    distance = _dot(away, to_light)
    divisor = a + b * distance + c * distance**2
    return to_light, light.color / divisor.clamp(min=1e-6)  # at the lamp itself it is finite


def _harmonics(normals: Tensor) -> Tensor:
    """(..., 9) what each harmonic of the light adds to irradiance / pi: A_l Y_lm(n) / pi with A = pi, 2 pi/3, pi/4.

    Y_20 is written for unit normals so that a zero one gets the constant harmonic alone.
    """
    x, y, z = normals.unbind(-1)
    first, second = 2 / 3, 1 / 4
    basis = (
        torch.full_like(x, 0.282094791773878),
        first * 0.488602511902920 * y,
        first * 0.488602511902920 * z,
        first * 0.488602511902920 * x,
        second * 1.092548430592079 * x * y,
        second * 1.092548430592079 * y * z,
        second * 0.315391565252520 * (2 * z * z - x * x - y * y),
        second * 1.092548430592079 * x * z,
        second * 0.546274215296040 * (x * x - y * y),
    )
    return torch.stack(basis, -1)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1, keepdim=True)
