"""Lights and shading: closed forms, an environment integrated numerically, gradients, and what has no direction."""

import math

import pytest
import torch

import softras
from softras.render.lights import towards, unit


def tensor(*values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


WHITE = tensor(1.0, 1.0, 1.0)
ORIGIN = tensor(0.0, 0.0, 0.0)
UP = tensor(0.0, 0.0, 1.0)


# Diffuse light


def test_softras_default_light():
    normals = unit(random(100, 3))
    expected = (0.5 + 0.5 * normals[:, 1].clamp(min=0))[:, None].expand(-1, 3)
    actual = softras.diffuse_light(softras.softras_lights(torch.float64), torch.zeros_like(normals), normals)
    torch.testing.assert_close(actual, expected)


def test_a_directional_light_shines_from_its_direction_whatever_its_length():
    light = softras.DirectionalLight(tensor(1.0, 0.5, 0.25), tensor(0.0, 3.0, 3.0))
    for normal, cosine in ((UP, math.sqrt(0.5)), (-UP, 0), (unit(tensor(0.0, 1.0, 1.0)), 1), (tensor(1.0, 0, 0), 0)):
        torch.testing.assert_close(softras.diffuse_light([light], ORIGIN, normal), light.color * cosine)


def test_a_point_light_fades_as_its_attenuation_says():
    position, attenuation = tensor(0.0, 0.0, 2.0), tensor(0.5, 0.25, 0.125)
    light = softras.PointLight(WHITE, position, attenuation)
    torch.testing.assert_close(softras.diffuse_light([light], ORIGIN, UP), WHITE / (0.5 + 0.25 * 2 + 0.125 * 4))
    steady = softras.PointLight(WHITE, position)
    torch.testing.assert_close(softras.diffuse_light([steady], tensor(0.0, 0.0, -98.0), UP), WHITE)
    torch.testing.assert_close(softras.diffuse_light([steady], tensor(0.0, 2.0, 0.0), UP), WHITE * math.sqrt(0.5))


def test_lights_are_of_tensors_or_lists():
    light = softras.DirectionalLight([0.5] * 3, (0, 1, 0))
    assert light.direction.tolist() == [0, 1, 0] and light.color.dtype == torch.float32
    with pytest.raises(ValueError, match=r"color of AmbientLight must have shape \(3,\), not \(2,\)"):
        softras.AmbientLight([0.5, 0.5])
    with pytest.raises(ValueError, match=r"coefficients of SphericalHarmonics must have shape \(9, 3\)"):
        softras.SphericalHarmonics(torch.zeros(9))


def test_lights_add_up():
    lights = [
        softras.AmbientLight(tensor(0.1, 0.2, 0.3)),
        softras.PointLight(WHITE, tensor(1.0, 2.0, 3.0), tensor(0.0, 0.0, 1.0)),
        softras.SphericalHarmonics(random(9, 3)),
    ]
    points, normals = random(5, 4, 3), unit(random(4, 3, seed=1))
    apart = sum(softras.diffuse_light([light], points, normals) for light in lights)
    torch.testing.assert_close(softras.diffuse_light(lights, points, normals), apart)
    assert softras.diffuse_light([], points, normals).eq(0).all()


def real_harmonics(directions: torch.Tensor) -> torch.Tensor:
    """(n, 9) from the complex ones, by associated Legendre polynomials written out here."""
    x, y, z = directions.unbind(-1)
    phi, s = torch.atan2(y, x), (1 - z * z).clamp(min=0).sqrt()
    legendre = {
        (0, 0): 1 + 0 * z, (1, 0): z, (1, 1): s, (2, 0): (3 * z * z - 1) / 2, (2, 1): 3 * z * s, (2, 2): 3 * s * s
    }  # fmt: skip
    columns = []
    for degree in range(3):
        for m in range(-degree, degree + 1):
            factor = (
                (2 * degree + 1) / (4 * math.pi) * math.factorial(degree - abs(m)) / math.factorial(degree + abs(m))
            )
            turn = torch.sin(-m * phi) if m < 0 else torch.cos(m * phi)
            scale = math.sqrt(factor * (1 if m == 0 else 2))
            columns.append(scale * turn * legendre[degree, abs(m)])
    return torch.stack(columns, -1)


def test_spherical_harmonics_are_the_irradiance_of_their_environment():
    """The light of the harmonics, integrated over the hemisphere with the cosine."""
    steps = 200_000
    k = torch.arange(steps, dtype=torch.float64) + 0.5
    z, phi = 1 - 2 * k / steps, k * math.pi * (3 - math.sqrt(5))
    s = (1 - z * z).sqrt()
    sphere = torch.stack([s * phi.cos(), s * phi.sin(), z], -1)
    coefficients = random(9, 3)
    arriving = real_harmonics(sphere) @ coefficients
    for normal in unit(random(6, 3, seed=2)):
        irradiance = ((sphere @ normal).clamp(min=0)[:, None] * arriving).mean(0) * 4 * math.pi
        actual = softras.diffuse_light([softras.SphericalHarmonics(coefficients)], ORIGIN, normal)
        torch.testing.assert_close(actual, irradiance / math.pi, rtol=1e-4, atol=1e-4)


def test_the_same_light_from_everywhere_is_ambient_light():
    coefficients = torch.zeros(9, 3, dtype=torch.float64)
    coefficients[0] = math.sqrt(4 * math.pi) * tensor(0.2, 0.5, 0.8)
    normals = torch.cat([unit(random(10, 3)), torch.zeros(1, 3, dtype=torch.float64)])
    actual = softras.diffuse_light([softras.SphericalHarmonics(coefficients)], normals, normals)
    torch.testing.assert_close(actual, tensor(0.2, 0.5, 0.8).expand(11, 3))


def test_a_face_without_area_gets_what_comes_from_everywhere():
    coefficients = random(9, 3)
    actual = softras.diffuse_light([softras.SphericalHarmonics(coefficients)], ORIGIN, 0 * UP)
    torch.testing.assert_close(actual, coefficients[0] / math.sqrt(4 * math.pi))


# Highlights


@pytest.mark.parametrize("model", ["phong", "blinn_phong"])
def test_a_highlight_is_brightest_where_the_light_mirrors(model):
    light = softras.DirectionalLight(tensor(1.0, 0.5, 0.25), tensor(0.6, 0.0, 0.8))
    mirror = torch.cat([tensor(-0.6, 0.0, 0.8) * 5, tensor(1.0)])
    highlight = softras.specular_light([light], ORIGIN, UP, mirror, shininess=20, model=model)
    torch.testing.assert_close(highlight, light.color)
    aside = torch.cat([unit(tensor(-0.5, 0.2, 0.8)) * 5, tensor(1.0)])
    assert (softras.specular_light([light], ORIGIN, UP, aside, shininess=20, model=model) < highlight).all()


def test_the_formulas_of_phong_and_blinn_phong():
    to_light, to_eye = unit(tensor(0.3, 0.1, 0.7)), unit(tensor(-0.5, 0.4, 0.6))
    eye = torch.cat([3 * to_eye, tensor(1.0)])
    light = softras.PointLight(WHITE, 4 * to_light)
    mirrored = tensor(-to_light[0], -to_light[1], to_light[2])
    phong = softras.specular_light([light], ORIGIN, UP, eye, shininess=7.5, model="phong")
    torch.testing.assert_close(phong, WHITE * (mirrored @ to_eye) ** 7.5)
    half = (to_light + to_eye) / (to_light + to_eye).norm()
    blinn = softras.specular_light([light], ORIGIN, UP, eye, shininess=7.5)
    torch.testing.assert_close(blinn, WHITE * half[2] ** 7.5)


def test_light_from_behind_makes_no_highlight():
    light = softras.DirectionalLight(WHITE, tensor(0.0, 0.9, -0.1))
    eye = tensor(0.0, -0.5, 0.5, 1.0)
    for model in ("phong", "blinn_phong"):
        assert softras.specular_light([light], ORIGIN, UP, eye, shininess=1, model=model).eq(0).all()


def test_an_unknown_reflection_is_named():
    with pytest.raises(ValueError, match="no reflection model 'ward'; choose blinn_phong or phong"):
        softras.specular_light([], ORIGIN, UP, tensor(0, 0, 1, 1), model="ward")


@pytest.mark.parametrize("lights", [softras.AmbientLight(WHITE), ["sun"], None])
def test_what_is_no_list_of_lights_is_named(lights):
    with pytest.raises(TypeError, match=r"lights must be a list such as \[AmbientLight\(color\)\]; this is or holds a"):
        softras.diffuse_light(lights, ORIGIN, UP)


def test_eyes_are_where_cameras_stand_or_for_parallel_ones_their_direction():
    pose = softras.look_at(tensor(1.0, 2.0, 3.0), tensor(0.0, 0.0, 1.0)).expand(2, 4, 4)
    perspective, parallel = softras.eyes(pose, torch.tensor([False, True]))
    torch.testing.assert_close(perspective, tensor(1.0, 2.0, 3.0, 1.0))
    torch.testing.assert_close(parallel, torch.cat([unit(tensor(1.0, 2.0, 2.0)), tensor(0.0)]))
    torch.testing.assert_close(towards(perspective, tensor(1.0, 2.0, 0.0)), UP)
    torch.testing.assert_close(towards(parallel, random(3)), unit(tensor(1.0, 2.0, 2.0)))
    torch.testing.assert_close(softras.eyes(pose)[1], perspective)


# Gradients


@pytest.mark.parametrize("model", ["phong", "blinn_phong"])
def test_gradients_of_all_lights(model):
    color, direction, position = tensor(0.3, 0.5, 0.7), tensor(0.2, 1.0, 0.4), tensor(1.0, 1.0, 3.0)
    attenuation, coefficients = tensor(0.2, 0.3, 0.4), random(9, 3)
    points, normals, eye = random(4, 3, seed=1), unit(random(4, 3, seed=2)), tensor(0.5, -1.0, 4.0, 1.0)
    inputs = [color, direction, position, attenuation, coefficients, points, normals, eye, tensor(5.0)]

    def light(color, direction, position, attenuation, coefficients, points, normals, eye, shininess):
        lights = [
            softras.AmbientLight(color),
            softras.DirectionalLight(color, direction),
            softras.PointLight(color, position, attenuation),
            softras.SphericalHarmonics(coefficients),
        ]
        highlights = softras.specular_light(lights, points, normals, eye, shininess=shininess, model=model)
        return softras.diffuse_light(lights, points, normals), highlights

    assert torch.autograd.gradcheck(light, [x.clone().requires_grad_() for x in inputs])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_directions_and_at_the_lamp_everything_is_finite(dtype):
    zero = torch.zeros(3, dtype=dtype)
    points, normals, direction = (zero.clone().requires_grad_() for _ in range(3))
    lights = [
        softras.DirectionalLight(zero + 1, direction),
        softras.PointLight(zero + 1, zero, torch.tensor([0.0, 0.0, 1.0], dtype=dtype)),
        softras.SphericalHarmonics(torch.ones(9, 3, dtype=dtype)),
    ]
    eye = torch.tensor([0, 0, 0, 1], dtype=dtype, requires_grad=True)
    total = softras.diffuse_light(lights, points, normals)
    for model in ("phong", "blinn_phong"):
        total = total + softras.specular_light(lights, points, normals, eye, shininess=0.5, model=model)
    assert total.isfinite().all()
    for gradient in torch.autograd.grad(total.sum(), (points, normals, direction, eye)):
        assert gradient.isfinite().all()


def test_unit_vectors_of_any_length():
    vectors = tensor([3e-200, 4e-200, 0], [3e200, 0, 4e200], [0, 0, 0], [0, -2, 0])
    torch.testing.assert_close(unit(vectors), tensor([0.6, 0.8, 0], [0.6, 0, 0.8], [0, 0, 0], [0, -1, 0]))
