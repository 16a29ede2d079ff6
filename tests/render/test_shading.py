"""Flat, Gouraud and Phong shading, and where textures come from."""

import numpy as np
import pytest
import torch
from PIL import Image

import softras
from softras.io.textured import load_texture
from softras.render.lights import unit
from softras.render.textures import surface_texture_from_image, surface_texture_from_vertices

TETRAHEDRON = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)
FACES = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
LIGHTS = softras.softras_lights(torch.float64)
GLOSS = softras.Gloss(torch.tensor([0.5, 0.4, 0.3], dtype=torch.float64), shininess=3)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# Faces and vertices


def test_flat_shading_bakes_light_into_colours_and_surface_textures():
    expected = torch.tensor([0.5, 0.5, 0.5, 0.5 + 0.5 / 3**0.5], dtype=torch.float64)
    colors = random(4, 3)
    actual = softras.shade_faces(colors, TETRAHEDRON, FACES, LIGHTS)
    torch.testing.assert_close(actual, colors * expected[:, None])
    texture = random(4, 9, 3)
    actual = softras.shade_faces(texture, TETRAHEDRON, FACES, LIGHTS)
    torch.testing.assert_close(actual, texture * expected[:, None, None])


def test_gouraud_shading_takes_the_normals_of_vertices():
    colors = random(4, 3)
    normals = softras.vertex_normals(TETRAHEDRON, FACES)
    expected = colors * (0.5 + 0.5 * normals[:, 1:2].clamp(min=0))
    torch.testing.assert_close(softras.shade_vertices(colors, TETRAHEDRON, FACES, LIGHTS), expected)


@pytest.mark.parametrize("shade", [softras.shade_faces, softras.shade_vertices])
def test_views_are_shaded_apart_where_they_see_differently(shade):
    colors = random(4, 3)
    eye = torch.tensor([[3.0, 3, 3, 1], [0, 1, 0, 0]], dtype=torch.float64)
    both = shade(colors, TETRAHEDRON, FACES, LIGHTS, gloss=GLOSS, eye=eye)
    assert both.shape == (2, 4, 3) and not both[0].equal(both[1])
    for n in range(2):
        alone = shade(colors, TETRAHEDRON, FACES, LIGHTS, gloss=GLOSS, eye=eye[n : n + 1])
        torch.testing.assert_close(alone[0], both[n])
    moved = torch.stack([TETRAHEDRON, TETRAHEDRON.flip(1)])
    torch.testing.assert_close(shade(colors, moved, FACES, LIGHTS)[0], shade(colors, TETRAHEDRON, FACES, LIGHTS))


def test_a_surface_texture_with_highlights_has_a_view_in_front():
    eye = torch.tensor([[3.0, 3, 3, 1], [0, 1, 0, 0]], dtype=torch.float64)
    texture = random(4, 1, 3).repeat(1, 4, 1)
    shaded = softras.shade_faces(texture, TETRAHEDRON, FACES, LIGHTS, gloss=GLOSS, eye=eye)
    flat = softras.shade_faces(texture[:, 0], TETRAHEDRON, FACES, LIGHTS, gloss=GLOSS, eye=eye)
    torch.testing.assert_close(shaded, flat[:, :, None].expand(2, 4, 4, 3))


def test_two_sided_shading_is_that_of_the_faces_turned_round():
    colors = random(4, 3)
    eye = torch.tensor([[0.1, 0.2, 0.15, 1]], dtype=torch.float64)  # in the middle: sees the back of all faces
    inside = softras.shade_faces(colors, TETRAHEDRON, FACES, LIGHTS, eye=eye, two_sided=True)
    torch.testing.assert_close(inside[0], softras.shade_faces(colors, TETRAHEDRON, FACES.flip(1), LIGHTS))
    eye = torch.tensor([[9.0, 9, 9, 1]], dtype=torch.float64)
    outside = softras.shade_faces(colors[3:], TETRAHEDRON, FACES[3:], LIGHTS, eye=eye, two_sided=True)
    torch.testing.assert_close(outside[0], softras.shade_faces(colors[3:], TETRAHEDRON, FACES[3:], LIGHTS))


@pytest.mark.parametrize("options", [{"gloss": GLOSS}, {"two_sided": True}])
def test_what_depends_on_the_eye_asks_for_it(options):
    with pytest.raises(ValueError, match="give eye"):
        softras.shade_faces(random(4, 3), TETRAHEDRON, FACES, LIGHTS, **options)


@pytest.mark.parametrize("shade", [softras.shade_faces, softras.shade_vertices])
def test_gradients_of_baked_light(shade):
    lights = [LIGHTS[0], softras.PointLight(random(3, seed=5), torch.tensor([2.0, 3.0, 1.5], dtype=torch.float64))]

    def shaded(colors, vertices, eye):
        return shade(colors, vertices, FACES, lights, gloss=GLOSS, eye=eye, two_sided=True)

    eye = torch.tensor([[3.0, 4, 2, 1]], dtype=torch.float64)
    assert torch.autograd.gradcheck(shaded, [x.clone().requires_grad_() for x in (random(4, 3), TETRAHEDRON, eye)])


# Pixels


def test_phong_shading_of_full_pixels_is_light_times_colour():
    colors, points = random(2, 3, 4, 5), random(2, 3, 4, 5, seed=1)
    normals = unit(random(2, 4, 5, 3, seed=2) - 0.5).movedim(-1, 1)
    lights = [*LIGHTS, softras.PointLight(random(3, seed=5), random(3, seed=4) + 1)]
    light = softras.diffuse_light(lights, points.movedim(1, -1), normals.movedim(1, -1)).movedim(-1, 1)
    weight = torch.ones(2, 4, 5, dtype=torch.float64)
    shaded = softras.shade_pixels(colors, 0.3 * normals, points, weight, lights, background=random(3))
    torch.testing.assert_close(shaded, colors * light)


def test_phong_shading_blends_with_the_background_by_the_weight():
    """Pixels that are a share of one surface and else background are that mixture of the two in the light."""
    colors, normals, points = random(1, 3, 1, 6), random(1, 3, 1, 6, seed=1), random(1, 3, 1, 6, seed=2)
    weight = torch.tensor([[[0, 1e-6, 0.1, 0.5, 0.9, 1]]], dtype=torch.float64)
    eye = torch.tensor([[3.0, 3, 3, 1]], dtype=torch.float64)
    lights = [*LIGHTS, softras.PointLight(random(3, seed=5), random(3, seed=4) + 1)]
    background, full = random(3, seed=3), torch.ones_like(weight)
    alone = softras.shade_pixels(colors, normals, points, full, lights, gloss=GLOSS, eye=eye)
    mixed = softras.shade_pixels(
        *(image * weight[:, None] for image in (colors, normals, points)), weight, lights,
        gloss=GLOSS, eye=eye, background=background,
    )  # fmt: skip
    torch.testing.assert_close(mixed, weight[:, None] * alone + (1 - weight[:, None]) * background[:, None, None])


def test_gradients_of_phong_shading():
    weight = torch.tensor([[[0.2, 1.0]]], dtype=torch.float64)
    eye = torch.tensor([[3.0, 4, 2, 1]], dtype=torch.float64)

    def shaded(colors, normals, points, weight, background):
        options = {"gloss": GLOSS, "eye": eye, "two_sided": True, "background": background}
        return softras.shade_pixels(colors, normals, points, weight, LIGHTS, **options)

    inputs = (random(1, 3, 1, 2), random(1, 3, 1, 2, seed=1), random(1, 3, 1, 2, seed=2), weight, random(3))
    assert torch.autograd.gradcheck(shaded, [x.requires_grad_() for x in inputs])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_empty_pixels_are_background_with_finite_gradients(dtype):
    images = [torch.zeros(1, 3, 2, 2, dtype=dtype, requires_grad=True) for _ in range(3)]
    weight = torch.zeros(1, 2, 2, dtype=dtype, requires_grad=True)
    background = torch.tensor([0.1, 0.2, 0.3], dtype=dtype)
    gloss = softras.Gloss(torch.ones(3, dtype=dtype))
    lights = [*softras.softras_lights(dtype), softras.PointLight(gloss.color, background, background)]
    eye = torch.zeros(1, 4, dtype=dtype)
    shaded = softras.shade_pixels(*images, weight, lights, gloss=gloss, eye=eye, two_sided=True, background=background)
    torch.testing.assert_close(shaded, background[:, None, None].expand(1, 3, 2, 2))
    for gradient in torch.autograd.grad(shaded.sum(), (*images, weight)):
        assert gradient.isfinite().all()


# Where textures come from


def test_textures_are_loaded_with_three_channels(tmp_path):
    pixels = (np.arange(2 * 3 * 4).reshape(2, 3, 4) * 10).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    torch.testing.assert_close(load_texture(tmp_path / "a.png"), torch.from_numpy(pixels[..., :3] / np.float32(255)))
    grey = load_texture(tmp_path / "grey.png")
    assert grey.shape == (2, 3, 3) and grey[..., 0].equal(grey[..., 2])
    with pytest.raises(softras.InputError, match="does not exist"):
        load_texture(tmp_path / "none.png")


def ramp(height: int, width: int) -> torch.Tensor:
    """An image whose colour at (u, v) is u, v."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([(columns + 0.5) / width, 1 - (rows + 0.5) / height], -1).double()


@pytest.mark.parametrize("levels", [1, None])
def test_a_surface_texture_has_the_colours_of_the_image_there(levels):
    uv = torch.tensor([[0.2, 0.3], [0.8, 0.3], [0.3, 0.8]], dtype=torch.float64)
    corners = torch.tensor([[0, 1, 2], [2, 0, 1]])
    surface = surface_texture_from_image(ramp(256, 512), uv, corners, 4, levels=levels)
    torch.testing.assert_close(surface, surface_texture_from_vertices(uv, corners, 4), rtol=0, atol=1e-6)


def test_a_coarse_surface_texture_is_the_mean_of_the_image_unless_asked_not_to():
    stripes = torch.zeros(64, 64, 1, dtype=torch.float64)
    stripes[:, ::2] = 1
    uv, corners = torch.tensor([[0.0, 0], [1, 0], [0, 1]], dtype=torch.float64), torch.tensor([[0, 1, 2]])
    fine = surface_texture_from_image(stripes, uv, corners, 2)
    torch.testing.assert_close(fine, torch.full_like(fine, 0.5))
    assert (surface_texture_from_image(stripes, uv, corners, 2, levels=1) - 0.5).abs().max() > 0.1


def test_gradients_of_surface_textures():
    uv = random(3, 2).requires_grad_()
    inputs = (random(5, 7, 2).requires_grad_(), uv)
    corners = torch.tensor([[0, 1, 2]])
    assert torch.autograd.gradcheck(lambda t, u: surface_texture_from_image(t, u, corners, 2), inputs)
