"""Texture lookup: the definition against closed forms, PyTorch's own sampling and numerical derivatives."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from softras.raster.images import textures
from softras.raster.images.textures import mip_chain, sample_chain

GRID_SAMPLE = {"clamp": "border", "mirror": "reflection"}


def image(height: int, width: int, channels: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.rand(height, width, channels, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def points(count: int, low: float, high: float, seed: int = 1) -> torch.Tensor:
    return low + (high - low) * torch.rand(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def sample(texture: torch.Tensor, uv: torch.Tensor, wrap: str) -> torch.Tensor:
    return sample_chain(mip_chain(texture, levels=1), uv, torch.zeros(uv.shape[:-1], dtype=uv.dtype), wrap)


# Bilinear lookup


@pytest.mark.parametrize("wrap", textures.WRAPS)
def test_the_centre_of_a_texel_has_its_colour_and_v_runs_up(wrap):
    texture = image(3, 5)
    rows, columns = torch.meshgrid(torch.arange(3), torch.arange(5), indexing="ij")
    uv = torch.stack([(columns + 0.5) / 5, 1 - (rows + 0.5) / 3], -1).double()
    torch.testing.assert_close(sample(texture, uv, wrap), texture)


def test_the_top_left_corner_is_at_zero_one():
    texture = image(4, 4)
    torch.testing.assert_close(sample(texture, torch.tensor([0.0, 1.0]).double(), "clamp"), texture[0, 0])
    torch.testing.assert_close(sample(texture, torch.tensor([1.0, 0.0]).double(), "clamp"), texture[3, 3])


def test_halfway_between_centres_is_the_mean():
    texture = image(1, 2)
    torch.testing.assert_close(sample(texture, torch.tensor([0.5, 0.3]).double(), "clamp"), texture[0].mean(0))


@pytest.mark.parametrize("wrap", GRID_SAMPLE)
@pytest.mark.parametrize("size", [(4, 6), (1, 1), (1, 7), (5, 3)])
def test_clamp_and_mirror_are_those_of_grid_sample(wrap, size):
    texture, uv = image(*size).requires_grad_(), points(300, -2.5, 3.5).requires_grad_()
    grid = torch.stack([uv[:, 0] * 2 - 1, 1 - uv[:, 1] * 2], -1)
    expected = torch.nn.functional.grid_sample(
        texture.permute(2, 0, 1)[None], grid[None, None], padding_mode=GRID_SAMPLE[wrap], align_corners=False
    )[0, :, 0].T
    actual = sample(texture, uv, wrap)
    torch.testing.assert_close(actual, expected)
    weight = image(1, 300)[0]
    for mine, theirs in zip(
        torch.autograd.grad((actual * weight).sum(), (texture, uv)),
        torch.autograd.grad((expected * weight).sum(), (texture, uv)),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("size", [(4, 6), (1, 1), (5, 3)])
def test_repeat_reads_the_tiled_image(size):
    texture, uv = image(*size), points(300, -0.99, 1.99)
    tiled = texture.repeat(5, 5, 1)
    torch.testing.assert_close(sample(texture, uv, "repeat"), sample(tiled, (uv + 2) / 5, "clamp"))


@pytest.mark.parametrize("wrap", textures.WRAPS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_finite_uv_reads_texels_of_the_image(wrap, dtype):
    big = torch.finfo(dtype).max
    values = torch.tensor([0, -0.0, 1, -1, 1e-30, -1e-30, 1 - 1e-7, 12345.678, -1e9, 1e20, big, -big], dtype=dtype)
    uv = torch.cartesian_prod(values, values).requires_grad_()
    chain = mip_chain(torch.ones(5, 3, 1, dtype=dtype))
    level = torch.linspace(-1, 4, len(uv), dtype=dtype).requires_grad_()
    colour = sample_chain(chain, uv, level, wrap)
    torch.testing.assert_close(colour, torch.ones_like(colour))
    for gradient in torch.autograd.grad(colour.sum(), (uv, level)):
        assert gradient.isfinite().all()


def test_an_unknown_wrap_is_named():
    with pytest.raises(ValueError, match="no wrap mode 'tile'; choose one of repeat, clamp, mirror"):
        sample(image(2, 2), torch.zeros(1, 2).double(), "tile")


# Mip chains


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (8, 8), (7, 5), (1, 9), (6, 1), (3, 17), (12, 5)])
def test_every_level_has_the_mean_of_the_texture(size):
    texture = image(*size)
    chain = mip_chain(texture)
    assert chain.sizes[-1] == (1, 1) and chain.levels == math.floor(math.log2(max(size))) + 1
    assert len(chain.texels) == sum(h * w for h, w in chain.sizes)
    for level in range(chain.levels):
        torch.testing.assert_close(chain.image(level).mean((0, 1)), texture.mean((0, 1)))


def test_even_sizes_halve_by_means_of_two_by_two():
    texture = image(6, 4)
    expected = torch.nn.functional.avg_pool2d(texture.permute(2, 0, 1)[None], 2)[0].permute(1, 2, 0)
    torch.testing.assert_close(mip_chain(texture).image(1), expected)


@pytest.mark.parametrize("size", [3, 5, 7, 11])
def test_odd_sizes_halve_by_the_area_that_a_texel_covers(size):
    texture, half = image(1, size), size // 2
    fine = texture[0].repeat_interleave(half, 0)  # now size * half columns: each coarse texel covers `size` of them
    torch.testing.assert_close(mip_chain(texture).image(1)[0], fine.reshape(half, size, 3).mean(1))


@pytest.mark.parametrize("size", [(13, 7), (9, 4)])
def test_halvings_do_not_shift_the_image(size):
    texture = image(*size)
    chain, turned = mip_chain(texture), mip_chain(texture.flip(0, 1))
    for level in range(chain.levels):
        torch.testing.assert_close(turned.image(level), chain.image(level).flip(0, 1))


@pytest.mark.parametrize("wrap", textures.WRAPS)
@pytest.mark.parametrize("size", [(8, 8), (7, 5), (1, 1), (1, 6)])
def test_trilinear_lookup_mixes_two_levels(wrap, size):
    chain, uv = mip_chain(image(*size)), points(50, -1.5, 2.5)
    for level in (-3.0, 0.0, 0.25, 1.0, 1.75, 100.0):
        inside = min(max(level, 0.0), chain.levels - 1)
        low, high = math.floor(inside), math.ceil(inside)
        a, b = sample(chain.image(low), uv, wrap), sample(chain.image(high), uv, wrap)
        actual = sample_chain(chain, uv, torch.full((50,), level, dtype=torch.float64), wrap)
        torch.testing.assert_close(actual, a + (inside - low) * (b - a))


@pytest.mark.parametrize("wrap", textures.WRAPS)
def test_gradients_to_texels_uv_and_level(wrap):
    uv, level = points(20, -1.5, 2.5).requires_grad_(), (points(20, 0.1, 1.9)[:, 0]).requires_grad_()
    texture = image(7, 5, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda t, u, k: sample_chain(mip_chain(t), u, k, wrap), (texture, uv, level))


def test_the_level_is_clamped_and_has_no_gradient_beyond():
    level = torch.tensor([-2.0, 9.0], dtype=torch.float64, requires_grad=True)
    sample_chain(mip_chain(image(4, 4)), points(2, 0, 1), level).sum().backward()
    assert level.grad.eq(0).all()


def test_bytes_are_refused():
    with pytest.raises(ValueError, match="divide what has 0 to 255 by 255"):
        mip_chain(torch.zeros(4, 4, 3, dtype=torch.uint8))


@pytest.mark.parametrize(("levels", "message"), [(0, "at least 1, not 0"), (4, "4 x 5 texels has 1 to 3 levels")])
def test_a_wrong_number_of_levels_is_refused(levels, message):
    with pytest.raises(ValueError, match=message):
        mip_chain(image(5, 4), levels)


# Surface textures


@pytest.mark.parametrize("resolution", [1, 2, 3, 4, 7])
def test_each_texel_is_found_at_its_centre(resolution):
    centres = textures.texel_barycentrics(resolution, dtype=torch.float64)
    assert (centres > 0).all()
    torch.testing.assert_close(centres.sum(1), torch.ones(resolution**2, dtype=torch.float64))
    assert textures.surface_texel(centres, resolution).equal(torch.arange(resolution**2))


@given(st.integers(1, 9), st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_a_point_is_in_the_triangle_of_its_texel(resolution, a, b, single):
    if a + b > 1:
        a, b = 1 - a, 1 - b
    barycentrics = torch.tensor([a, b, 1 - a - b], dtype=torch.float32 if single else torch.float64)
    texel = int(textures.surface_texel(barycentrics, resolution))
    centre = textures.texel_barycentrics(resolution, dtype=torch.float64)[texel]
    offset = (barycentrics.double() - centre) * resolution  # each is at most 2/3 off, all to one side
    lower = texel // resolution + texel % resolution < resolution
    assert (offset * (1 if lower else -1)).min() >= -1 / 3 - 1e-5


@pytest.mark.parametrize("resolution", [1, 2, 3, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_border_of_the_face_stays_in_its_texels(resolution, dtype):
    t = torch.linspace(0, 1, 97, dtype=dtype)
    beyond = 1 - t + 4 * torch.finfo(dtype).eps  # as rounding may leave it
    for corners in ((t, 1 - t, 0 * t), (t, beyond, 0 * t), (t, 0 * t, 1 - t), (0 * t, t, 1 - t)):
        texel = textures.surface_texel(torch.stack(corners, -1), resolution)
        assert (texel >= 0).all() and (texel < resolution**2).all()
        assert (texel // resolution + texel % resolution < resolution).all()  # only lower triangles touch the border
    columns = (t * resolution).long().clamp(max=resolution - 1)
    for b1 in (1 - t, beyond):
        texel = textures.surface_texel(torch.stack([t, b1, 0 * t], -1), resolution)
        assert texel.equal((resolution - 1 - columns) * resolution + columns)


def test_softras_rule_in_the_inside_of_the_texels():
    b = torch.rand(2000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    b = torch.where(b.sum(1, keepdim=True) > 1, 1 - b, b)
    for R in (1, 2, 5):
        expected = []
        for w0, w1 in b.tolist():
            i, j = int(w0 * R), int(w1 * R)
            expected.append(j * R + i if (w0 + w1) * R - i - j <= 1 else (R - 1 - j) * R + (R - 1 - i))
        actual = textures.surface_texel(torch.cat([b, 1 - b.sum(1, keepdim=True)], 1), R)
        assert actual.tolist() == expected


def test_surface_colours_and_their_gradient():
    texture = image(4, 9, 2).requires_grad_()
    face = torch.tensor([[0, 3], [2, 2]])
    texel = torch.tensor([[0, 4], [8, 8]])
    colour = textures.sample_surface_texture(texture, face, textures.texel_barycentrics(3, dtype=torch.float64)[texel])
    assert colour.equal(texture[face, texel])
    colour.sum().backward()
    assert texture.grad[2, 8].tolist() == [2, 2] and texture.grad.sum() == 8


def test_a_surface_texture_has_texels():
    with pytest.raises(ValueError, match="must be a whole number of at least 1, not 0"):
        textures.texel_barycentrics(0)


def test_a_surface_texture_must_be_square():
    with pytest.raises(ValueError, match=r"must have shape \(F, R \* R, C\), not \(4, 5, 3\)"):
        textures.sample_surface_texture(image(4, 5), torch.zeros(1).long(), torch.ones(1, 3))


# The level


def scene(seed: int, behind: bool):
    random = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=random))[0]
    world_to_camera = torch.eye(4, dtype=torch.float64)[None].repeat(2, 1, 1)
    world_to_camera[0, :3, :3] = turn * turn.det()
    world_to_camera[:, :3, 3] = torch.tensor([[0.1, -0.2, 4.0], [0.3, 0.1, 6.0]])
    vertices = torch.randn(6, 3, dtype=torch.float64, generator=random)
    if behind:
        vertices[:2] = (vertices[:2] - world_to_camera[0, :3, 3]) @ world_to_camera[0, :3, :3]
        vertices[0] = (torch.tensor([0.3, 0.2, -1.5]).double() - world_to_camera[0, :3, 3]) @ world_to_camera[0, :3, :3]
    faces = torch.tensor([[0, 1, 2], [3, 4, 5], [0, 4, 2]])
    K = torch.tensor([[[90.0, 2, 30], [1, 70, 40], [0, 0, 1]]], dtype=torch.float64).repeat(2, 1, 1)
    uv = torch.rand(7, 2, dtype=torch.float64, generator=random)
    uv_faces = torch.tensor([[0, 1, 2], [2, 3, 6], [4, 5, 1]])
    return vertices, faces, K, world_to_camera, uv, uv_faces


def texel_and_depth(pixel, corners, K, corner_texels, orthographic):
    """Where the ray (or the parallel) of a pixel meets the plane of a face: the texel coordinates there, and z."""
    ray = torch.stack([*torch.linalg.solve(K[:2, :2], pixel - K[:2, 2]), torch.ones_like(pixel[0])])
    start, along = torch.zeros_like(ray), ray
    if orthographic:
        start, along = torch.stack([ray[0], ray[1], 0 * ray[0]]), torch.tensor([0.0, 0, 1], dtype=ray.dtype)
    normal = torch.linalg.cross(corners[1] - corners[0], corners[2] - corners[0])
    point = start + along * ((corners[0] - start) @ normal) / (along @ normal)
    weights = torch.linalg.lstsq(
        torch.cat([corners.T, torch.ones(1, 3, dtype=ray.dtype)]), torch.cat([point, torch.ones(1, dtype=ray.dtype)])
    ).solution
    return weights @ corner_texels, point[2]


@pytest.mark.parametrize("orthographic", [False, True])
@pytest.mark.parametrize("behind", [False, True])
def test_the_level_is_that_of_the_area_of_a_pixel(orthographic, behind):
    vertices, faces, K, world_to_camera, uv, uv_faces = scene(5, behind)
    height, width = 37, 64
    flags = torch.tensor([orthographic, orthographic])
    levels = textures.face_levels(vertices, faces, K, world_to_camera, uv, uv_faces, height, width, flags)
    assert levels.shape == (2, 3)
    checked = 0
    for n in range(2):
        for f in range(3):
            corners = vertices[faces[f]] @ world_to_camera[n, :3, :3].T + world_to_camera[n, :3, 3]
            texels = uv[uv_faces[f]] * torch.tensor([width, height])
            for pixel in torch.tensor([[30.0, 40.0], [11.5, 8.0], [55.0, 70.0]], dtype=torch.float64):
                args = (corners, K[n], texels, orthographic)
                _, depth = texel_and_depth(pixel, *args)
                if depth < 0.01:
                    continue
                step, moves = 1e-5, []
                for axis in torch.eye(2, dtype=torch.float64) * step:
                    after, before = (texel_and_depth(pixel + s * axis, *args)[0] for s in (1, -1))
                    moves.append((after - before) / (2 * step))
                area = torch.linalg.det(torch.stack(moves)).abs()
                level = textures.pixel_level(levels[n, f], depth, orthographic)
                assert float(level) == pytest.approx(0.5 * math.log2(area), abs=1e-5)
                checked += 1
    assert checked >= 9


def test_one_texel_a_pixel_is_level_zero_and_twice_as_far_is_one():
    """A square facing the camera whose 64 x 64 texels cover 64 x 64 pixels."""
    vertices = torch.tensor([[-1.0, -1, 2], [1, -1, 2], [1, 1, 2], [-1, 1, 2]], dtype=torch.float64)
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    uv = torch.tensor([[0.0, 1], [1, 1], [1, 0], [0, 0]], dtype=torch.float64)
    K = torch.tensor([[[64.0, 0, 32], [0, 64, 32], [0, 0, 1]]], dtype=torch.float64)
    pose = torch.eye(4, dtype=torch.float64)[None]
    for depth, expected in ((2.0, 0.0), (4.0, 1.0)):
        moved = vertices + torch.tensor([0, 0, depth - 2.0])
        levels = textures.face_levels(moved, faces, K, pose, uv, faces, 64, 64)
        level = textures.pixel_level(levels, torch.full((1, 2), depth, dtype=torch.float64))
        torch.testing.assert_close(level, torch.full((1, 2), expected, dtype=torch.float64))


def test_the_level_has_no_step_within_a_plane():
    """Two faces of one plane, one mapping to the texture: the level at a pixel is the same by either."""
    corners = torch.tensor([[-1.0, -1, 1.0], [2, -1, 9], [2, 1, 9], [-1, 1, 1.0]], dtype=torch.float64)
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    uv = torch.tensor([[0.0, 1], [1, 1], [1, 0], [0, 0]], dtype=torch.float64)
    K = torch.tensor([[[50.0, 0, 32], [0, 50, 32], [0, 0, 1]]], dtype=torch.float64)
    levels = textures.face_levels(corners, faces, K, torch.eye(4).double()[None], uv, faces, 128, 128)
    torch.testing.assert_close(levels[0, 0], levels[0, 1])


@pytest.mark.parametrize("orthographic", [False, True])
def test_gradients_of_the_level(orthographic):
    vertices, faces, K, world_to_camera, uv, uv_faces = scene(7, True)
    inputs = [x.clone().requires_grad_() for x in (vertices, K, world_to_camera, uv)]
    flags = torch.tensor([orthographic, False])

    def levels(v, k, w, t):
        return textures.face_levels(v, faces, k, w, t, uv_faces, 30, 40, flags)

    assert torch.autograd.gradcheck(levels, inputs)
    depth = torch.tensor([0.5, 3.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: textures.pixel_level(levels(*inputs)[:, 0].detach(), z, flags), depth)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_faces_without_area_have_a_level_and_finite_gradients(dtype):
    vertices = torch.tensor([[0, 0, 1], [1, 0, 1], [0, 1, 1], [0, 0, 3], [2, 0, 2]], dtype=dtype).requires_grad_()
    faces = torch.tensor([[0, 1, 2], [0, 3, 3], [0, 0, 0], [1, 1, 4], [0, 1, 2]])
    uv = torch.tensor([[0, 0], [1, 0], [0, 1], [0.5, 0]], dtype=dtype).requires_grad_()
    uv_faces = torch.tensor([[0, 1, 3], [0, 1, 2], [0, 0, 0], [0, 1, 2], [0, 1, 2]])
    K, pose = torch.eye(3, dtype=dtype)[None], torch.eye(4, dtype=dtype)[None]
    levels = textures.face_levels(vertices, faces, K, pose, uv, uv_faces, 8, 8)
    assert levels[0, :4].tolist() == [-textures.FLAT, textures.FLAT, -textures.FLAT, textures.FLAT]
    assert levels[0, 4].item() == pytest.approx(3, abs=1e-6)
    colour = sample_chain(
        mip_chain(torch.rand(8, 8, 3, dtype=dtype)),
        torch.rand(5, 2, dtype=dtype),
        textures.pixel_level(levels[0], vertices[:, 2]),
    )
    for gradient in torch.autograd.grad(colour.sum(), (vertices, uv)):
        assert gradient.isfinite().all()


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.floats(0.1, 10))
def test_the_level_follows_the_resolution_of_the_image(seed, scale):
    vertices, faces, K, world_to_camera, uv, uv_faces = scene(seed, False)
    before = textures.face_levels(vertices, faces, K, world_to_camera, uv, uv_faces, 64, 64)
    K = K * torch.tensor([scale, scale, 1]).double()[:, None]
    after = textures.face_levels(vertices, faces, K, world_to_camera, uv, uv_faces, 64, 64)
    torch.testing.assert_close(before - after, torch.full_like(before, math.log2(scale)))
