"""The T-conorms, which join the coverages of all faces at a pixel to one alpha.

A T-conorm is an "or" of numbers between 0 and 1: commutative, associative, monotone, with 0 neutral. The ten are those
of Petersen et al., GenDR: A Generalized Differentiable Renderer, CVPR 2022 (table 2): hard (the logical "or"), max and
eight Archimedean ones. Beside them stands SoftRas's "sum", which is a mean and no T-conorm. docs/modes.md shows the
formulas and when to use which; csrc/softras_modes.h computes the same for the backends, with the same indices.

An Archimedean T-conorm has an additive generator g (Klement, Mesiar, Pap: Triangular Norms, 2000, chapter 3):

    alpha = g^-1(S),  S = sum_j g(a_j),  d alpha / d a_j = g'(a_j) / g'(alpha)

so a pixel needs one number S, in whatever order its faces come, and the backward pass needs of each face only its own
coverage. The table below has three functions for each T-conorm: the term g(a), alpha(S) and the factor d alpha / d a.
They are stable from a = 0 to a = 1, since the complements a' = 1 - a and alpha' = 1 - alpha are kept to all their
digits beside a and alpha, and since the factor is a ratio of numbers of similar size. r is the odds a / a'. S is in
double precision, which powers of small coverages need. An opaque pixel (alpha' = 0) passes on no gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...errors import InputError

SMALLEST = 1e-30  # the least ratio that is raised to p - 1: with p < 1 the derivative at a coverage of 0 is infinite
MOST_POWER = 64.0  # the largest p with which double precision can still add the power of a coverage of 1e-4


@dataclass(frozen=True)
class Conorm:
    """A row of the table of T-conorms.

    index: its number in csrc/softras_modes.h.
    term(a, a', p): what a face adds to S.
    alpha(S, p): alpha and alpha'.
    factor(a, a', alpha, alpha', p): d alpha / d a of a face.
    p: the parameter, where the name implies it.
    domain: which parameters are allowed, in words and as a function, where the caller chooses one.
    fold: how S is made of the terms. "archimedean": their sum, without a gradient where alpha' = 0. "largest": the
        largest term. "mean": their sum, with 1 / the number of faces for p.
    """

    index: int
    term: Callable[[Tensor, Tensor, float], Tensor]
    alpha: Callable[[Tensor, float], tuple[Tensor, Tensor]]
    factor: Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]
    p: float = 0.0
    domain: tuple[str, Callable[[float], bool]] | None = None
    fold: Literal["archimedean", "largest", "mean"] = "archimedean"


def _of_odds(r: Tensor) -> tuple[Tensor, Tensor]:
    return 1 / (1 + 1 / r), 1 / (1 + r)


def _of_exponent(x: Tensor) -> tuple[Tensor, Tensor]:
    return -torch.expm1(-x), torch.exp(-x)


def _power_factor(h: Tensor, whole: Tensor, p: float) -> Tensor:
    """(h / whole)^(p - 1), the derivative of the p-norm `whole` of all h by one of them."""
    return (h / whole.clamp_min(torch.finfo(h.dtype).tiny)).clamp(SMALLEST, 1) ** (p - 1)


def _hamacher(index: int, p: float, domain: tuple[str, Callable[[float], bool]] | None = None) -> Conorm:
    """1 - a' b' / (p + (1 - p) (a' + b' - a' b')), with g(a) = log(1 + p r) / p, or its limit r at p = 0."""
    return Conorm(
        index,
        lambda a, c, p: torch.log1p(p * a / c) / p if p else a / c,
        lambda s, p: _of_odds(torch.expm1(p * s) / p if p else s),
        lambda a, c, alpha, rest, p: rest / c * ((rest + p * alpha) / (c + p * a)),
        p,
        domain,
    )


def _frank_term(a: Tensor, c: Tensor, p: float) -> Tensor:
    """g(a) = -log((p^a' - 1) / (p - 1)), by whichever of two forms keeps the digits."""
    x = p / (p - 1) * torch.expm1(-a * math.log(p))
    return torch.where(x > -0.5, -torch.log1p(x), -torch.log(torch.expm1(c * math.log(p)) / (p - 1)))


def _frank_alpha(s: Tensor, p: float) -> tuple[Tensor, Tensor]:
    alpha = -torch.log1p((p - 1) / p * torch.expm1(-s)) / math.log(p)
    rest = torch.log1p((p - 1) * torch.exp(-s)) / math.log(p)
    few = s < math.log(2)
    return torch.where(few, alpha, 1 - rest), torch.where(few, 1 - alpha, rest)


def _yager_alpha(s: Tensor, p: float) -> tuple[Tensor, Tensor]:
    return (s ** (1 / p)).clamp_max(1), -torch.expm1(torch.log(s.clamp_max(1)) / p)


_POWER = (
    f"greater than 0 and at most {MOST_POWER:g} (towards infinity it becomes max)",
    lambda p: 0 < p <= MOST_POWER,
)

CONORMS: dict[str, Conorm] = {
    # 1 where a coverage exceeds 1/2
    "hard": Conorm(
        0,
        lambda a, c, p: a,
        lambda s, p: ((s > 0.5).to(s), (s <= 0.5).to(s)),
        lambda a, c, alpha, rest, p: torch.zeros_like(a),
        fold="largest",
    ),
    # the gradient goes to the first of the largest
    "max": Conorm(
        1,
        lambda a, c, p: a,
        lambda s, p: (s, 1 - s),
        lambda a, c, alpha, rest, p: torch.zeros_like(a).scatter(0, a.argmax(0, keepdim=True), 1.0),
        fold="largest",
    ),
    "probabilistic": _hamacher(2, 1.0),  # a + b - a b: SoftRas's "prod"; g(a) = -log a'
    "einstein": _hamacher(3, 2.0),  # (a + b) / (1 + a b); g(a) = artanh a
    "hamacher": _hamacher(4, 0.0, ("at least 0", lambda p: 0 <= p < math.inf)),
    # 1 - log_p(1 + (p^a' - 1) (p^b' - 1) / (p - 1))
    "frank": Conorm(
        5,
        _frank_term,
        _frank_alpha,
        lambda a, c, alpha, rest, p: torch.expm1(-rest * math.log(p)) / torch.expm1(-c * math.log(p)),
        domain=("greater than 0 and not 1 (that is probabilistic)", lambda p: 0 < p < math.inf and p != 1),
    ),
    # min(1, (a^p + b^p)^(1/p)); g(a) = a^p
    "yager": Conorm(
        6,
        lambda a, c, p: a**p,
        _yager_alpha,
        lambda a, c, alpha, rest, p: _power_factor(a, alpha, p),
        domain=_POWER,
    ),
    # 1 - exp(-((-log a')^p + (-log b')^p)^(1/p)); g(a) = (-log a')^p
    "aczel_alsina": Conorm(
        7,
        lambda a, c, p: torch.log1p(a / c) ** p,
        lambda s, p: _of_exponent(s ** (1 / p)),
        lambda a, c, alpha, rest, p: _power_factor(torch.log1p(a / c), torch.log1p(alpha / rest), p) * (rest / c),
        domain=_POWER,
    ),
    # 1 - 1 / (1 + ((a / a')^p + (b / b')^p)^(1/p)); g(a) = r^p
    "dombi": Conorm(
        8,
        lambda a, c, p: (a / c) ** p,
        lambda s, p: _of_odds(s ** (1 / p)),
        lambda a, c, alpha, rest, p: _power_factor(a / c, alpha / rest, p) * (rest / c) ** 2,
        domain=_POWER,
    ),
    # 1 - (a'^p + b'^p - 1)^(1/p), p < 0; g(a) = a'^p - 1
    "schweizer_sklar": Conorm(
        9,
        lambda a, c, p: torch.expm1(-p * torch.log1p(a / c)),
        lambda s, p: _of_exponent(-torch.log1p(s) / p),
        lambda a, c, alpha, rest, p: (rest / c) ** (1 - p),
        domain=(
            f"less than 0 and at least -{MOST_POWER:g} (towards minus infinity it becomes max)",
            lambda p: -MOST_POWER <= p < 0,
        ),
    ),
    # SoftRas's mean over all faces of the mesh, also those that do not count at the pixel
    "sum": Conorm(
        10,
        lambda a, c, p: a * p,
        lambda s, p: (s, 1 - s),
        lambda a, c, alpha, rest, p: torch.full_like(a, p),
        fold="mean",
    ),
}


def check(name: str, p: float | None = None) -> tuple[Conorm, float]:
    """The T-conorm of a name, and its parameter.

    Raises:
        InputError: a name that is not in the table; a parameter that is missing, out of range, or given where there is
            none.
    """
    if name not in CONORMS:
        raise InputError(f"there is no T-conorm '{name}'; choose one of {', '.join(CONORMS)}")
    row = CONORMS[name]
    if row.domain is None:
        if p is not None:
            raise InputError(f"the T-conorm '{name}' has no parameter; leave p out")
        return row, row.p
    words, holds = row.domain
    if p is None:
        raise InputError(f"the T-conorm '{name}' needs its parameter p, {words}")
    if not holds(p):
        raise InputError(f"the parameter p of the T-conorm '{name}' must be {words}, not {p}")
    return row, p


class _Fold(torch.autograd.Function):
    """Alpha over the faces in dimension 0, computed in double precision."""

    @staticmethod
    def forward(covered: Tensor, clear: Tensor, row: Conorm, p: float) -> Tensor:
        return _Fold.pixels(covered.double(), clear.double(), row, p)[0].to(covered.dtype)

    @staticmethod
    def pixels(covered: Tensor, clear: Tensor, row: Conorm, p: float) -> tuple[Tensor, Tensor]:
        terms = row.term(covered, clear, p)
        return row.alpha(terms.amax(0) if row.fold == "largest" and len(terms) else terms.sum(0), p)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        covered, clear, ctx.row, ctx.p = inputs
        ctx.save_for_backward(covered, clear)
        ctx.save_for_forward(covered, clear)

    @staticmethod
    def factors(ctx: Any) -> Tensor:
        saved = ctx.saved_tensors  # PyTorch gives them out once
        covered, clear = (x.double() for x in saved)
        alpha, rest = _Fold.pixels(covered, clear, ctx.row, ctx.p)
        factors = ctx.row.factor(covered, clear, alpha, rest, ctx.p) if len(covered) else covered
        if ctx.row.fold == "archimedean":
            factors = torch.where(rest > 0, factors, torch.zeros_like(factors))
        return factors.to(saved[0].dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, alpha: Tensor) -> tuple[Tensor, None, None, None]:
        return alpha * _Fold.factors(ctx), None, None, None

    @staticmethod
    def jvp(ctx: Any, covered: Tensor, *_: Any) -> Tensor:
        return (covered * _Fold.factors(ctx)).sum(0)


def fold(
    covered: Tensor,
    clear: Tensor | None = None,
    name: str = "probabilistic",
    p: float | None = None,
    *,
    dim: int = -1,
    faces: int | None = None,
) -> Tensor:
    """Alpha of pixels from the coverages of their faces.

    Args:
        covered: coverages a, 0..1; 0 for a face that does not count. float32 or float64.
        clear: 1 - a to all its digits (see `distributions.coverage`); None: by subtraction. The whole gradient goes to
            `covered`.
        name: a key of CONORMS.
        p: the parameter of hamacher, frank, yager, aczel_alsina, dombi and schweizer_sklar.
        dim: the dimension of the faces.
        faces: the number by which "sum" divides; None: the number of coverages.

    Returns:
        Alpha, without the dimension of the faces; differentiable once, in reverse and in forward mode.

    Raises:
        InputError: an unknown name, or a parameter that is missing, out of range or one too many.
    """
    row, p = check(name, p)
    clear = 1 - covered if clear is None else clear
    covered, clear = covered.movedim(dim, 0), clear.detach().movedim(dim, 0)
    if row.fold == "mean":
        p = 1 / max(1, len(covered) if faces is None else faces)
    return _Fold.apply(covered, clear, row, p)
