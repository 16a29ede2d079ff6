"""What the rasterizer's public functions refuse in one sentence, and the planes that they find."""

import math

import numpy as np
import pytest
import torch

import softras
from softras import InputError
from softras.raster.images.textures import MipChain

V = torch.tensor([[-1.0, -1, 4], [1, -1, 5], [0, 1, 4], [0.5, 0.4, 3], [0, 0, 6]])
F = torch.tensor([[0, 1, 2], [0, 3, 4], [1, 3, 4], [2, 3, 4], [0, 2, 4], [1, 2, 4], [1, 0, 3]])
MATRICES = softras.perspective(60, 12, 16)[None], torch.eye(4)[None]
SCENE = V, F, *MATRICES, 12, 16
COLORS = {"attributes": torch.rand(5, 3, generator=torch.Generator().manual_seed(0))}
CAMERA = softras.Camera(MATRICES[0][0].numpy(), np.eye(4), 16, 12)

NUMBERS = {
    softras.silhouettes: ["sigma", "near"],
    softras.images: ["sigma", "near", "far", "gamma", "eps", "dist_eps", "shape", "shift"],
    softras.silhouettes_jacobian: ["sigma", "near", "low", "high"],
}
MOVES = {softras.silhouettes_jacobian: {"d_vertices": torch.ones(5, 3, 2)}}
BAD = [math.nan, math.inf, -math.inf, 1e200, -1e200, "1", None, [1e-4, 1e-5], 1j, 10**400, {}, torch.ones(2, 2), V]


@pytest.mark.parametrize("render", NUMBERS)
def test_numbers_out_of_range_are_refused(render):
    for name in NUMBERS[render]:
        for value in [*BAD, 1e-300 if name == "sigma" else -1e16]:
            if value is None and name in ("near", "far") and render is softras.images:
                continue  # the default
            with pytest.raises(InputError, match=f"^{name} .*must "):
                render(*SCENE, **MOVES.get(render, {}), **{name: value})


@pytest.mark.parametrize("render", NUMBERS)
@pytest.mark.parametrize("value", [0, -1, 2.0, "8", None, True, 2**40, 10**400, torch.tensor([4, 4])])
def test_sizes_are_whole_numbers_in_range(render, value):
    for place, name in ((4, "height"), (5, "width")):
        args = [*SCENE]
        args[place] = value
        with pytest.raises(InputError, match=f"{name} must be a whole number"):
            render(*args, **MOVES.get(render, {}))


@pytest.mark.parametrize("render", NUMBERS)
def test_settings_have_no_gradient_and_say_so(render):
    for name in NUMBERS[render]:
        value = torch.tensor(1e-3, requires_grad=True)
        with pytest.raises(InputError, match=f"{name} is a setting and has no gradient; give {name}.detach"):
            render(*SCENE, **MOVES.get(render, {}), **{name: value})


def test_a_number_may_be_a_tensor_of_one():
    one = softras.silhouettes(*SCENE, sigma=torch.tensor([1e-3]), near=torch.tensor(0.5))
    assert torch.equal(one, softras.silhouettes(*SCENE, sigma=float(torch.tensor(1e-3)), near=0.5))
    softras.images(*SCENE, sigma=np.float32(1e-3), gamma=np.float64(1e-3), **COLORS)


@pytest.mark.parametrize("name", ["cull", "lit", "nearest", "squared", "softras_compat"])
def test_flags_are_flags(name):
    with pytest.raises(InputError, match=f"{name} must be true or false, not 'no'"):
        softras.images(*SCENE, **{name: "no"})


def test_the_ends_of_the_ranges_render():
    """Finite, with finite gradients."""
    for sigma in (1e-20, 1e10):
        for dtype in (torch.float32, torch.float64):
            leaves = [x.to(dtype, copy=True).requires_grad_() for x in (V, *MATRICES)]
            for render in (softras.silhouettes, softras.images):
                got = render(leaves[0], F, *leaves[1:], 12, 16, sigma=sigma)
                alpha = got if render is softras.silhouettes else got.alpha
                assert torch.isfinite(alpha).all()
                for gradient in torch.autograd.grad(alpha.sum(), leaves):
                    assert torch.isfinite(gradient).all()
            found = softras.silhouettes_jacobian(*[x.detach() for x in leaves[:1]], F, *leaves[1:], 12, 16,
                                                 torch.ones(5, 3, 7, dtype=dtype), sigma=sigma)  # fmt: skip
            assert torch.isfinite(found.rows).all()


# --------------------------------------------------------------------------------- plausible, but something else


def test_colours_of_faces_are_not_taken_for_colours_of_vertices():
    colors = torch.rand(7, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match=r"7 rows, but the mesh has 5 vertices; give attribute_faces=torch\.arange"):
        softras.images(*SCENE, attributes=colors)
    with pytest.raises(InputError, match="9 rows, but the mesh has 5 vertices; give attribute_faces"):
        softras.images(*SCENE, attributes=torch.ones(9, 3))
    each = torch.arange(7)[:, None].expand(-1, 3)
    assert softras.images(*SCENE, attributes=colors, attribute_faces=each).image.shape == (1, 3, 12, 16)


def test_a_mesh_is_not_its_vertices():
    mesh = softras.Mesh(V.numpy(), F.numpy())
    for render in (softras.silhouettes, softras.images):
        with pytest.raises(InputError, match=r"vertices must be a tensor, not Mesh; give torch\.tensor of its \.vert"):
            render(mesh, *SCENE[1:])
    for render in (softras.render_silhouettes, softras.render_images, softras.hard_silhouettes):
        with pytest.raises(InputError, match=r"vertices must be a tensor or an array, not a Mesh; give its \.vertices"):
            render(mesh, F, CAMERA)
    with pytest.raises(InputError, match="vertices must be a tensor or an array, not a Mesh"):
        softras.vertex_normals(mesh, F)


@pytest.mark.parametrize("cameras", [None, "front", [CAMERA, None], 3, [[1, 2]]])
def test_what_is_no_camera_is_refused(cameras):
    with pytest.raises(InputError, match=r"^cameras must be softras\.Camera objects, not "):
        softras.render_silhouettes(V, F, cameras)


def test_other_things_than_numbers_are_refused():
    for background in ("white", None, [[1, 2], [3]]):
        with pytest.raises(InputError, match="^background must be a tensor or an array of numbers, not "):
            softras.images(*SCENE, **COLORS, background=background)
    for samples in (0, 1.5, "2", 10**9):
        with pytest.raises(InputError, match="samples must be a whole number"):
            softras.supersampled(softras.silhouettes, *SCENE, samples=samples)
    with pytest.raises(InputError, match=r"^nearest must be faces' numbers of shape \(1, H, W\)"):
        softras.fragments_of(*SCENE[:4], torch.zeros(2, 3))


@pytest.mark.parametrize("wrong", [{"levels": 2}, {"height": 9}, {"width": 0}, {"levels": 99}, {"texels": None}])
def test_a_mip_chain_has_the_texels_of_its_levels(wrong):
    chain = MipChain(**{"texels": torch.zeros(64, 3), "height": 8, "width": 8, "levels": 1} | wrong)
    with pytest.raises(InputError, match="mip chain|levels|texture must be a tensor"):
        softras.images(*SCENE, attributes=torch.zeros(5, 2), texture=chain)


# ------------------------------------------------------------------------------------------------ near and far


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("unit", [1e-2, 1.0, 1e2, 1e5])
def test_images_show_what_silhouettes_show_in_any_unit(unit, dtype):
    """Also the same colours, where the unit is a power of ten of another."""
    lens, eye = (x.to(dtype) for x in MATRICES)
    colors = {"attributes": COLORS["attributes"].to(dtype), "sigma": 1e-4, "gamma": 1e-3}
    expected = softras.images(V.to(dtype), F, lens, eye, 12, 16, **colors).image
    vertices = (unit * V.to(dtype)).requires_grad_()
    got = softras.images(vertices, F, lens, eye, 12, 16, **colors)
    alpha = softras.silhouettes(vertices, F, lens, eye, 12, 16, sigma=1e-4)
    torch.testing.assert_close(got.alpha, alpha, rtol=0, atol=1e-5)
    torch.testing.assert_close(got.image, expected, rtol=0, atol=2e-3 * max(1.0, 1e-2 / unit))
    (gradient,) = torch.autograd.grad(got.image.sum(), vertices)
    assert torch.isfinite(gradient).all() and gradient.abs().max() > 0


def test_the_default_is_nearly_softras_s_where_its_scenes_are():
    near_and_far = {"near": 1.0, "far": 100.0}
    for gamma, tolerance in ((1e-4, 2e-3), (1e-2, 1e-2)):
        settings = {**COLORS, "sigma": 1e-4, "gamma": gamma}
        image = softras.images(*SCENE, **settings).image
        torch.testing.assert_close(
            image, softras.images(*SCENE, **settings, **near_and_far).image, rtol=0, atol=tolerance
        )
    compat = {**COLORS, "softras_compat": True, "gamma": 1e-3}
    assert torch.equal(softras.images(*SCENE, **compat).image, softras.images(*SCENE, **compat, **near_and_far).image)


@pytest.mark.parametrize("orthographic", [True, False])
def test_depths_are_found_wherever_the_mesh_is(orthographic):
    """Behind the camera, at it, and of no extent."""
    flag = torch.tensor([orthographic])
    for z in (-10.0, -4.0, 1e-3, 1e6):
        at = torch.cat([V[:, :2] * abs(z) / 4, torch.full((5, 1), z)], 1)
        near = -20.0 if orthographic else 1e-3
        got = softras.images(at, *SCENE[1:], **COLORS, orthographic=flag, near=near)
        alpha = softras.silhouettes(at, *SCENE[1:], orthographic=flag, near=near)
        torch.testing.assert_close(got.alpha, alpha, rtol=0, atol=1e-5)
        assert torch.isfinite(got.image).all()
