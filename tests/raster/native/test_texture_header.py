"""csrc/softras_texture.h against the definition in textures.py, in value and gradient."""

from __future__ import annotations

import ctypes

import pytest
import torch
from header_shims import CSRC, NAMES, compiled

from softras.raster.images import textures
from softras.raster.native import nvrtc

SIZES = [(8, 8), (7, 5), (1, 1), (1, 9), (6, 1), (33, 20)]


@pytest.fixture(scope="module")
def shim(tmp_path_factory) -> ctypes.CDLL:
    return compiled("texture_shim", tmp_path_factory.mktemp("texture_shim"))


def call(shim: ctypes.CDLL, name: str, dtype: torch.dtype, *args: int | torch.Tensor) -> None:
    function = getattr(shim, f"{name}_{NAMES[dtype]}")
    function(*(ctypes.c_void_p(a.data_ptr()) if isinstance(a, torch.Tensor) else ctypes.c_int(a) for a in args))


def lookup(shim, chain: textures.MipChain, uv, level, wrap: str, grad):
    """Colours, and the gradients to texels, uv and level, by the header."""
    size = torch.tensor([chain.height, chain.width, chain.levels, textures.WRAPS.index(wrap)], dtype=torch.int32)
    outputs = [torch.zeros_like(x) for x in (grad, chain.texels, uv, level)]
    inputs = (len(uv), uv, level, size, grad.shape[1], chain.texels, grad)
    call(shim, "lookup", uv.dtype, *inputs, *outputs)
    return outputs


@pytest.mark.parametrize("dtype", NAMES)
@pytest.mark.parametrize("wrap", textures.WRAPS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("levels", [None, 1])
def test_lookups_and_gradients_are_those_of_the_definition(shim, dtype, wrap, size, levels):
    random = torch.Generator().manual_seed(2)
    texture = torch.rand(*size, 3, dtype=dtype, generator=random)
    chain = textures.mip_chain(texture, levels)
    uv = -1.5 + 4 * torch.rand(500, 2, dtype=dtype, generator=random)
    level = -1 + (chain.levels + 2) * torch.rand(500, dtype=dtype, generator=random)
    grad = torch.randn(500, 3, dtype=dtype, generator=random)
    actual = lookup(shim, chain, uv, level, wrap, grad)

    leaves = [x.clone().requires_grad_() for x in (chain.texels, uv, level)]
    leaf = textures.MipChain(leaves[0], chain.height, chain.width, chain.levels)
    colour = textures.sample_chain(leaf, leaves[1], leaves[2], wrap)
    expected = [colour.detach(), *torch.autograd.grad(colour, leaves, grad, materialize_grads=True)]
    tolerance = {"rtol": 1e-4, "atol": 2e-4} if dtype == torch.float32 else {"rtol": 1e-10, "atol": 1e-11}
    for mine, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(mine, theirs, **tolerance)


@pytest.mark.parametrize("dtype", NAMES)
@pytest.mark.parametrize("wrap", textures.WRAPS)
def test_any_finite_uv_and_level_reads_texels_of_the_chain(shim, dtype, wrap):
    big = torch.finfo(dtype).max
    values = torch.tensor([0, -0.0, 1, -1, 1e-30, -1e-30, 1 - 1e-7, 12345.678, -1e9, 1e20, big, -big], dtype=dtype)
    uv = torch.cartesian_prod(values, values).repeat(5, 1)
    level = torch.tensor([-big, 0, 1.5, 2, big], dtype=dtype).repeat_interleave(len(values) ** 2)
    chain = textures.mip_chain(torch.ones(5, 3, 1, dtype=dtype))
    colour, grad_texels, grad_uv, grad_level = lookup(shim, chain, uv, level, wrap, torch.ones(len(uv), 1, dtype=dtype))
    torch.testing.assert_close(colour, torch.ones_like(colour))
    assert float(grad_texels.double().sum()) == pytest.approx(len(uv))  # nothing was added beside the chain
    assert grad_uv.abs().max() < 1e-5 and grad_level.abs().max() < 1e-5


@pytest.mark.parametrize("wrap", textures.WRAPS)
def test_what_is_not_a_number_reads_no_memory_beside_the_chain(shim, wrap):
    bad = torch.tensor([torch.nan, torch.inf, -torch.inf])
    chain = textures.mip_chain(torch.ones(5, 3, 1))
    uv, level = torch.cartesian_prod(bad, bad).contiguous(), bad.repeat(3)
    colour, grad_texels, *_ = lookup(shim, chain, uv, level, wrap, torch.ones(9, 1))
    torch.testing.assert_close(colour, torch.ones(9, 1))
    assert float(grad_texels.sum()) == pytest.approx(9)


@pytest.mark.parametrize("dtype", NAMES)
@pytest.mark.parametrize("resolution", [1, 2, 3, 5, 16])
def test_surface_texels_are_those_of_the_definition(shim, dtype, resolution):
    b = torch.rand(3000, 2, dtype=dtype, generator=torch.Generator().manual_seed(4))
    b = torch.where(b.sum(1, keepdim=True) > 1, 1 - b, b)
    steps = torch.arange(resolution + 1, dtype=dtype) / resolution
    border = torch.linspace(0, 1, 97, dtype=dtype)
    border = torch.stack([border, 1 - border + 4 * torch.finfo(dtype).eps], 1)  # beyond it, as rounding may leave it
    b = torch.cat([b, border, torch.cartesian_prod(steps, steps), torch.tensor([[-1e-9, 0.5], [0.5, -1e-9]]).to(dtype)])
    barycentrics = torch.cat([b, 1 - b.sum(1, keepdim=True)], 1).contiguous()
    texel = torch.empty(len(b), dtype=torch.int32)
    call(shim, "surface", dtype, len(b), barycentrics, resolution, texel)
    same = texel == textures.surface_texel(barycentrics, resolution)
    # On the very border of two texels a fused multiply-add may take the other.
    assert same[:3000].double().mean() > 0.999 and texel.min() >= 0 and texel.max() < resolution**2
    columns = (barycentrics[3000:3097, 0] * resolution).int().clamp(max=resolution - 1)
    assert texel[3000:3097].equal((resolution - 1 - columns) * resolution + columns)
    if dtype == torch.float64:
        assert same[:3000].all()


@pytest.mark.parametrize("dtype", NAMES)
def test_the_level_at_a_depth(shim, dtype):
    face_level = torch.linspace(-5, 5, 40, dtype=dtype)
    depth = torch.logspace(-3, 4, 40, dtype=dtype).requires_grad_()
    level, slope = torch.empty_like(face_level), torch.empty_like(face_level)
    call(shim, "level", dtype, 40, face_level, depth, level, slope)
    expected = textures.pixel_level(face_level, depth)
    torch.testing.assert_close(level, expected.detach())
    torch.testing.assert_close(slope, torch.autograd.grad(expected.sum(), depth)[0])


@pytest.mark.parametrize("scalar", ["float", "double"])
def test_nvrtc_compiles_it(scalar):
    try:
        nvrtc.version()
    except nvrtc.CompileError as error:
        pytest.skip(str(error))
    kernel = f"""
        #define SOFTRAS_ISA cuda
        #include "softras_texture.h"
        using namespace softras::cuda;
        extern "C" __global__ void probe({scalar}* x, int* texel) {{
          const Texture texture = texture_of(7, 5, 3, kMirror);
          Taps<{scalar}> taps = texture_taps(texture, x[0], x[1], pixel_level(x[2], x[3]));
          const TextureGradient<{scalar}> g = texture_backward(texture, taps, x + 4);
          x[0] = g.u + taps.weight[0], x[1] = g.v, x[2] = g.level * pixel_level_slope(x[3]);
          texel[0] = surface_texel(x[0], x[1], 4) + taps.index[0];
        }}"""
    headers = {name: (CSRC / name).read_text() for name in ("softras_math.h", "softras_texture.h")}
    image, _ = nvrtc.build({nvrtc.SOURCE: kernel, **headers}, [nvrtc.target(90), "-std=c++17"])
    assert b"probe" in image
