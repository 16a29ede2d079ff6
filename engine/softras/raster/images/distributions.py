"""The distributions that blur a face: 18 CDFs D(u), in value and derivative.

u is the signed distance of a pixel from a face in units of the blur tau, which is sigma: d / tau, or with `squared`
d^2 / tau, positive inside the face and negative outside. D(u) is the face's coverage of the pixel. SoftRas's choice is
the logistic distribution of squared distances. The distributions and their names are those of Petersen et al., GenDR:
A Generalized Differentiable Renderer, CVPR 2022 (table 1); docs/modes.md says when to use which. csrc/softras_modes.h
computes the same for the backends, with the same indices.

1 - D has a formula of its own in place of a subtraction, so that a coverage near 1 keeps its digits. The derivative is
the density by its formula, so that gradients are finite at kinks and in the far tails.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...errors import InputError

LEVEL = 1e-4  # the coverage below which a face does not count, by default (SoftRas's dist_eps)
SHAPE = 0.5  # the default shape p of the gamma distribution; with squared distances D is erf(d / sqrt(tau)) inside
MOST_SHAPE = 100.0  # the largest shape for which the kernels' gamma function is accurate

Triple = tuple[Tensor, Tensor, Tensor]  # D, 1 - D, dD/du


def _heaviside(x: Tensor, p: float) -> Triple:
    inside = (x > 0).to(x)
    return inside, 1 - inside, torch.zeros_like(x)


def _uniform(x: Tensor, p: float) -> Triple:
    """(x + 1) / 2 within [-1, 1]."""
    return ((1 + x) / 2).clamp(0, 1), ((1 - x) / 2).clamp(0, 1), (x.abs() < 1).to(x) / 2


def _cubic_hermite(x: Tensor, p: float) -> Triple:
    """3 y^2 - 2 y^3, y = (x + 1) / 2 within [0, 1]: smoothstep."""
    y, z, _ = _uniform(x, p)
    return y * y * (1 + 2 * z), z * z * (1 + 2 * y), 3 * y * z


def _wigner_semicircle(x: Tensor, p: float) -> Triple:
    """1/2 + x sqrt(1 - x^2) / pi + asin(x) / pi within [-1, 1], by the half angle, which keeps digits at the ends."""
    t = x.clamp(-1, 1)
    height = ((1 - t) * (1 + t)).sqrt()
    below, above = 2 * torch.atan2((1 + t).sqrt(), (1 - t).sqrt()), 2 * torch.atan2((1 - t).sqrt(), (1 + t).sqrt())
    return (below + t * height) / math.pi, (above - t * height) / math.pi, 2 / math.pi * height


def _gaussian(x: Tensor, p: float) -> Triple:
    """The normal distribution: erfc(-x / sqrt(2)) / 2."""
    y = x * math.sqrt(0.5)
    return torch.erfc(-y) / 2, torch.erfc(y) / 2, torch.exp(-y * y) / math.sqrt(2 * math.pi)


def _laplace(x: Tensor, p: float) -> Triple:
    """exp(x) / 2 below 0, 1 - exp(-x) / 2 above."""
    tail = torch.exp(-x.abs()) / 2
    return torch.where(x < 0, tail, 1 - tail), torch.where(x < 0, 1 - tail, tail), tail


def _logistic(x: Tensor, p: float) -> Triple:
    """1 / (1 + exp(-x)): SoftRas's sigmoid."""
    inside, outside = torch.sigmoid(x), torch.sigmoid(-x)
    return inside, outside, inside * outside


def _gudermannian(x: Tensor, p: float) -> Triple:
    """1/2 + 2 atan(tanh(x / 2)) / pi = 2 atan(exp(x)) / pi: the hyperbolic secant distribution."""
    k = 2 / math.pi
    return k * torch.atan(torch.exp(x)), k * torch.atan(torch.exp(-x)), 1 / (math.pi * torch.cosh(x))


def _cauchy(x: Tensor, p: float) -> Triple:
    """1/2 + atan(x) / pi, by the angle of (-x, 1), which keeps the digits of the tails."""
    one = torch.ones_like(x)
    return torch.atan2(one, -x) / math.pi, torch.atan2(one, x) / math.pi, 1 / (math.pi * (1 + x * x))


def _reciprocal(x: Tensor, p: float) -> Triple:
    """1/2 + x / (2 (1 + |x|))."""
    tail = 1 / (2 * (1 + x.abs()))
    return torch.where(x < 0, tail, 1 - tail), torch.where(x < 0, 1 - tail, tail), 2 * tail * tail


def _gumbel(x: Tensor, p: float) -> Triple:
    """exp(-exp(-x)), the distribution of maxima."""
    e = torch.exp(-x)
    return torch.exp(-e), -torch.expm1(-e), torch.exp(-x - e)


def _exponential(x: Tensor, p: float) -> Triple:
    """1 - exp(-x) for x > 0."""
    tail = torch.exp(-x.clamp_min(0))
    return -torch.expm1(-x.clamp_min(0)), tail, torch.where(x > 0, tail, torch.zeros_like(x))


def _gamma(x: Tensor, p: float) -> Triple:
    """The regularized lower incomplete gamma function P(p, x) for x > 0; density x^(p - 1) exp(-x) / Gamma(p)."""
    shape, x0, y = torch.full_like(x, p), x.clamp_min(0), x.clamp_min(torch.finfo(x.dtype).tiny)
    density = torch.exp((p - 1) * y.log() - y - math.lgamma(p))
    return (
        torch.special.gammainc(shape, x0),
        torch.special.gammaincc(shape, x0),
        torch.where(x > 0, density, torch.zeros_like(x)),
    )


def _levy(x: Tensor, p: float) -> Triple:
    """erfc(sqrt(1 / (2 x))) for x > 0; density exp(-1 / (2 x)) / sqrt(2 pi x^3)."""
    y = x.clamp_min(torch.finfo(x.dtype).tiny)
    root = (2 * y).rsqrt()
    return torch.erfc(root), torch.erf(root), torch.exp(-0.5 / y - 1.5 * y.log()) / math.sqrt(2 * math.pi)


@dataclass(frozen=True)
class Distribution:
    """A row of the table of distributions.

    index: its number in csrc/softras_modes.h.
    formula: D, 1 - D and the density as functions of x = u + shift and the shape.
    mirrored: D is 1 - formula(-u + shift) instead.
    heavy: the lower tail falls like a power, so that the cut-off is far away.
    """

    index: int
    formula: Callable[[Tensor, float], Triple]
    mirrored: bool = False
    heavy: bool = False


DISTRIBUTIONS: dict[str, Distribution] = {
    "heaviside": Distribution(0, _heaviside),
    "uniform": Distribution(1, _uniform),
    "cubic_hermite": Distribution(2, _cubic_hermite),
    "wigner_semicircle": Distribution(3, _wigner_semicircle),
    "gaussian": Distribution(4, _gaussian),
    "laplace": Distribution(5, _laplace),
    "logistic": Distribution(6, _logistic),
    "gudermannian": Distribution(7, _gudermannian),
    "cauchy": Distribution(8, _cauchy, heavy=True),
    "reciprocal": Distribution(9, _reciprocal, heavy=True),
    "gumbel_max": Distribution(10, _gumbel),
    "gumbel_min": Distribution(11, _gumbel, mirrored=True),
    "exponential": Distribution(12, _exponential),
    "exponential_rev": Distribution(13, _exponential, mirrored=True),
    "gamma": Distribution(14, _gamma),
    "gamma_rev": Distribution(15, _gamma, mirrored=True),
    "levy": Distribution(16, _levy),
    "levy_rev": Distribution(17, _levy, mirrored=True, heavy=True),
}


def check(name: str, shape: float = SHAPE, shift: float = 0.0) -> Distribution:
    """The distribution of a name. Raises InputError for an unknown name and for parameters out of range."""
    if name not in DISTRIBUTIONS:
        raise InputError(f"there is no distribution '{name}'; choose one of {', '.join(DISTRIBUTIONS)}")
    if not 0 < shape <= MOST_SHAPE:
        raise InputError(f"the shape of a distribution must be greater than 0 and at most {MOST_SHAPE:g}, not {shape}")
    if not math.isfinite(shift):
        raise InputError(f"the shift of a distribution must be a finite number, not {shift}")
    return DISTRIBUTIONS[name]


def evaluate(u: Tensor, name: str = "logistic", *, shape: float = SHAPE, shift: float = 0.0) -> Triple:
    """D(u), 1 - D(u) and dD/du, each by a formula of its own, without gradients. Arguments as for `coverage`."""
    row = check(name, shape, shift)
    with torch.no_grad():
        if not row.mirrored:
            return row.formula(u + shift, shape)
        covered, clear, density = row.formula(shift - u, shape)
        return clear, covered, density


class _Coverage(torch.autograd.Function):
    @staticmethod
    def forward(u: Tensor, name: str, shape: float, shift: float) -> tuple[Tensor, Tensor]:
        return evaluate(u, name, shape=shape, shift=shift)[:2]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        u, ctx.name, ctx.shape, ctx.shift = inputs
        ctx.save_for_backward(u)
        ctx.save_for_forward(u)

    @staticmethod
    def density(ctx: Any) -> Tensor:
        return evaluate(ctx.saved_tensors[0], ctx.name, shape=ctx.shape, shift=ctx.shift)[2]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, covered: Tensor, clear: Tensor) -> tuple[Tensor, None, None, None]:
        return (covered - clear) * _Coverage.density(ctx), None, None, None

    @staticmethod
    def jvp(ctx: Any, u: Tensor, *_: None) -> tuple[Tensor, Tensor]:
        moved = u * _Coverage.density(ctx)
        return moved, -moved


def coverage(u: Tensor, name: str = "logistic", *, shape: float = SHAPE, shift: float = 0.0) -> tuple[Tensor, Tensor]:
    """D(u), the coverages of pixels by faces, and 1 - D(u).

    Args:
        u: signed distances divided by tau, or signed squares of distances divided by tau; positive inside. Any shape,
            float32 or float64, finite.
        name: a key of DISTRIBUTIONS.
        shape: p of the gamma distribution; the others have none.
        shift: s; the distribution moves out of the face by it: D(u + s), mirrored 1 - D(-u + s).

    Returns:
        D(u) and 1 - D(u), both differentiable, once, in reverse and in forward mode.

    Raises:
        InputError: an unknown name, a shape or a shift out of range.
    """
    return _Coverage.apply(u, name, shape, shift)


@functools.cache
def quantile(level: float, name: str = "logistic", *, shape: float = SHAPE, shift: float = 0.0) -> float:
    """The u at which D(u) is `level`, between 0 and 1; with LEVEL it is the cut-off below which a face does not count.

    It is found by bisection in double precision. The cut-off of a one-sided distribution may lie inside the face. The
    cut-offs of heavy tails (Cauchy -3183, reciprocal -4999, levy_rev -6.4e7) are farther away than an image is large
    for most tau: then every face counts at every pixel.
    """

    def covered(u: float) -> float:
        return float(evaluate(torch.tensor(u, dtype=torch.float64), name, shape=shape, shift=shift)[0])

    low, high = -1.0, 1.0
    while covered(low) > level:
        low *= 2
    while covered(high) < level:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (low, middle) if covered(middle) > level else (middle, high)
    return high
