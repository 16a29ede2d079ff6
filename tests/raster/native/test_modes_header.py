"""csrc/softras_modes.h against the definitions in distributions.py and conorms.py, in value and derivative."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
import torch
from header_shims import CSRC, NAMES, compiled
from scipy import special
from torch import Tensor

from softras.raster.images import conorms, distributions
from softras.raster.native import nvrtc

OPTIONS = [{}, {"shift": 0.75}]
SHAPES = [{"shape": shape} for shape in (0.1, 2.0, 7.5)]
DISTRIBUTIONS = [
    (name, options)
    for name in distributions.DISTRIBUTIONS
    for options in OPTIONS + (SHAPES if name.startswith("gamma") else [])
]
PARAMETERS = {
    "hamacher": (0.0, 0.3, 5.0),
    "frank": (1e-3, 0.5, 3.0, 1e4),
    "yager": (0.5, 1.0, 4.0, 16.0),
    "aczel_alsina": (0.5, 1.0, 4.0, 16.0),
    "dombi": (0.5, 1.0, 4.0, 16.0),
    "schweizer_sklar": (-0.5, -3.0, -16.0),
}
CONORMS = [(name, p) for name in conorms.CONORMS for p in PARAMETERS.get(name, (None,))]


@pytest.fixture(scope="module")
def shim(tmp_path_factory) -> ctypes.CDLL:
    return compiled("modes_shim", tmp_path_factory.mktemp("modes_shim"))


def call(shim: ctypes.CDLL, name: str, dtype: torch.dtype, *args: float | Tensor) -> None:
    kinds = {int: ctypes.c_int, float: ctypes.c_double}
    values = (ctypes.c_void_p(a.data_ptr()) if isinstance(a, Tensor) else kinds[type(a)](a) for a in args)
    getattr(shim, f"{name}_{NAMES[dtype]}")(*values)


def cover(shim: ctypes.CDLL, u: Tensor, name: str, shape: float = distributions.SHAPE, shift: float = 0.0) -> Tensor:
    out = u.new_empty(len(u), 3)
    index = distributions.DISTRIBUTIONS[name].index
    call(shim, "cover", u.dtype, index, float(shape), float(shift), len(u), u, out)
    return out.T


def fold(shim: ctypes.CDLL, covered: Tensor, clear: Tensor, name: str, p: float | None) -> tuple[Tensor, Tensor]:
    row, p = conorms.check(name, p)
    alpha, factor = covered.new_empty(len(covered)), torch.empty_like(covered)
    p = 1 / covered.shape[1] if name == "sum" else float(p)
    call(shim, "fold", covered.dtype, row.index, p, *covered.shape, covered, clear, alpha, factor)
    return alpha, factor


@pytest.mark.parametrize("dtype", NAMES)
@pytest.mark.parametrize(("name", "options"), DISTRIBUTIONS)
def test_coverages_are_those_of_the_definition(shim, dtype, name, options):
    u = torch.cat([torch.linspace(-12, 12, 2001), torch.logspace(-9, 1, 200), -torch.logspace(-9, 1, 200)])
    if options.get("shift"):
        u = (u * 4096).round() / 4096  # so that a float's sum with the shift is exact
    actual = cover(shim, u.to(dtype), name, **options)
    expected = torch.stack(distributions.evaluate(u.double(), name, **options))
    tolerance = {"rtol": 2e-5, "atol": 1e-7} if dtype == torch.float32 else {"rtol": 3e-12, "atol": 1e-100}
    torch.testing.assert_close(actual.double(), expected, **tolerance)


@pytest.mark.parametrize("shape", [0.01, 0.5, 1.0, 3.0, 30.0, 100.0])
def test_the_incomplete_gamma_function_is_the_one_of_scipy(shim, shape):
    x = shape * torch.logspace(-6, 1.5, 500, dtype=torch.float64)
    covered, clear, _ = cover(shim, x, "gamma", shape)
    np.testing.assert_allclose(covered, special.gammainc(shape, x.numpy()), rtol=1e-12, atol=1e-290)
    np.testing.assert_allclose(clear, special.gammaincc(shape, x.numpy()), rtol=2e-12, atol=1e-290)


@pytest.mark.parametrize("dtype", NAMES)
@pytest.mark.parametrize("name", distributions.DISTRIBUTIONS)
def test_coverages_are_finite_anywhere(shim, dtype, name):
    info = torch.finfo(dtype)
    magnitudes = torch.tensor([0, info.smallest_normal / 8, info.tiny, 1e-20, 1, 90, 800, 1e10, info.max], dtype=dtype)
    for shape in (0.01, 0.5, 100.0):
        covered, clear, density = cover(shim, torch.cat([-magnitudes, magnitudes]), name, shape)
        assert torch.isfinite(density).all() and (density >= 0).all()
        torch.testing.assert_close(covered + clear, torch.ones_like(covered))
        assert ((covered >= 0) & (clear >= 0)).all()


@pytest.mark.parametrize("dtype", NAMES)
@pytest.mark.parametrize(("name", "p"), CONORMS)
def test_alpha_and_factors_are_those_of_the_definition(shim, dtype, name, p):
    random = torch.Generator().manual_seed(5)
    u = -8 + 6 * torch.rand(200, 7, dtype=torch.float64, generator=random)
    u[50:, 0] += torch.linspace(0, 30, 150, dtype=torch.float64)  # up to a face that covers the pixel
    u[190:] = -800  # faces that are nowhere near
    covered, clear = (x.to(dtype) for x in distributions.coverage(u))
    alpha, factor = fold(shim, covered, clear, name, p)
    leaf = covered.double().requires_grad_()
    expected = conorms.fold(leaf, clear.double(), name, p)
    (gradient,) = torch.autograd.grad(expected.sum(), leaf)
    single = dtype == torch.float32
    torch.testing.assert_close(alpha.double(), expected.detach(), rtol=2e-6 if single else 1e-12, atol=1e-37)
    counts = covered > 1e-30  # of the others, the factor of a power less than 1 is only bounded
    tolerance = {"rtol": 2e-4 if single else 1e-9, "atol": 1e-7 if single else 1e-14}
    torch.testing.assert_close(factor.double()[counts], gradient[counts], **tolerance)
    assert torch.isfinite(factor).all()


@pytest.mark.parametrize("dtype", NAMES)
@pytest.mark.parametrize(("name", "p"), CONORMS)
def test_alpha_and_factors_are_finite_from_0_to_1(shim, dtype, name, p):
    info = torch.finfo(dtype)
    odds = torch.tensor([0, info.tiny, 1e-9, 1, 1e9, info.max / 4, torch.inf], dtype=dtype)
    odds = torch.cartesian_prod(odds, odds, odds)
    alpha, factor = fold(shim, 1 / (1 + 1 / odds), 1 / (1 + odds), name, p)
    assert ((alpha >= 0) & (alpha <= 1)).all()
    assert torch.isfinite(factor).all() and (factor >= 0).all()


@pytest.mark.parametrize("scalar", ["float", "double"])
def test_the_cuda_compiler_takes_the_header(scalar):
    try:
        options = [nvrtc.target(90), "-std=c++17"]
    except nvrtc.CompileError:
        pytest.skip("no NVRTC here: pip install nvidia-cuda-nvrtc")
    kernel = """
        #define SOFTRAS_ISA cuda
        #include "softras_modes.h"
        using namespace softras::cuda;
        extern "C" __global__ void kernel(int mode, double p, SCALAR* u) {
          const Coverage<SCALAR> face = coverage<SCALAR>(mode, p, p, u[threadIdx.x]);
          const double state = conorm_fold(mode, 0, conorm_term(mode, p, face));
          u[threadIdx.x] = conorm_factor(mode, p, face, conorm_opacity<SCALAR>(mode, p, state)) * face.density;
        }
    """
    texts = {name: (CSRC / name).read_text() for name in ("softras_math.h", "softras_modes.h")}
    nvrtc.build({nvrtc.SOURCE: kernel.replace("SCALAR", scalar), **texts}, options)
