"""The distributions that blur a face: what makes each one a CDF, and that it is the one its name says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from softras import InputError
from softras.raster.images import distributions
from softras.raster.images.distributions import DISTRIBUTIONS, coverage, evaluate, quantile
from softras.raster.silhouettes import reference


class Heaviside:
    cdf = staticmethod(lambda u: np.where(u > 0, 1.0, 0.0))
    sf = staticmethod(lambda u: np.where(u > 0, 0.0, 1.0))
    pdf = staticmethod(np.zeros_like)


class CubicHermite:
    cdf = staticmethod(lambda u: np.polyval([-1 / 4, 0, 3 / 4, 1 / 2], np.clip(u, -1, 1)))
    sf = staticmethod(lambda u: np.polyval([1 / 4, 0, -3 / 4, 1 / 2], np.clip(u, -1, 1)))
    pdf = staticmethod(lambda u: np.where(abs(u) < 1, 3 / 4 * (1 - u**2), 0.0))


class Reciprocal:
    cdf = staticmethod(lambda u: 1 / 2 + u / (2 * (1 + abs(u))))
    sf = staticmethod(lambda u: 1 / 2 - u / (2 * (1 + abs(u))))
    pdf = staticmethod(lambda u: 1 / (2 * (1 + abs(u)) ** 2))


SCIPY = {
    "heaviside": Heaviside,
    "uniform": stats.uniform(-1, 2),
    "cubic_hermite": CubicHermite,
    "wigner_semicircle": stats.semicircular(),
    "gaussian": stats.norm(),
    "laplace": stats.laplace(),
    "logistic": stats.logistic(),
    "gudermannian": stats.hypsecant(),
    "cauchy": stats.cauchy(),
    "reciprocal": Reciprocal,
    "gumbel_max": stats.gumbel_r(),
    "gumbel_min": stats.gumbel_l(),
    "exponential": stats.expon(),
    "gamma": stats.gamma(distributions.SHAPE),
    "levy": stats.levy(),
}
MIRRORS = {"gumbel_max": "gumbel_min", "exponential": "exponential_rev", "gamma": "gamma_rev", "levy": "levy_rev"}
MIRROR = {name: name for name in DISTRIBUTIONS} | MIRRORS | {rev: name for name, rev in MIRRORS.items()}
POINTS = torch.tensor([-30, -5, -1.25, -0.97, -0.5, -1e-3, 1e-9, 2e-3, 0.5, 0.99, 1.1, 4, 20], dtype=torch.float64)
NAMES = pytest.mark.parametrize("name", DISTRIBUTIONS)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def number(u: float, name: str, **options: float) -> list[float]:
    return [float(x) for x in evaluate(torch.tensor(u, dtype=torch.float64), name, **options)]


def test_the_table_has_the_eighteen_in_the_order_of_their_numbers():
    assert [row.index for row in DISTRIBUTIONS.values()] == list(range(18))


@pytest.mark.parametrize("name", SCIPY)
def test_values_and_densities_are_those_of_the_distribution_of_that_name(name):
    u = POINTS.numpy()
    expected = SCIPY[name]
    for mine, theirs in zip(evaluate(POINTS, name), (expected.cdf(u), expected.sf(u), expected.pdf(u)), strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("shape", [0.1, 0.5, 1.0, 2.0, 7.5, 100.0])
def test_the_gamma_distribution_has_its_shape(shape):
    u = POINTS * shape
    expected = stats.gamma(shape)
    covered, clear, density = evaluate(u, "gamma", shape=shape)
    digits = 1e-8 if shape > 20 else 1e-10  # torch's own incomplete gamma function loses some there
    np.testing.assert_allclose(covered, expected.cdf(u.numpy()), rtol=digits, atol=1e-290)
    np.testing.assert_allclose(clear, expected.sf(u.numpy()), rtol=digits, atol=1e-290)
    np.testing.assert_allclose(density, expected.pdf(u.numpy()), rtol=1e-10, atol=1e-290)


def test_a_gamma_distribution_of_shape_1_is_the_exponential():
    for mine, theirs in zip(evaluate(POINTS, "gamma", shape=1), evaluate(POINTS, "exponential"), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-300)


@NAMES
def test_the_mirror_image_has_one_minus_the_value_at_the_mirrored_place(name):
    covered, clear, density = evaluate(POINTS, name)
    mirrored, mirrored_clear, mirrored_density = evaluate(-POINTS, MIRROR[name])
    torch.testing.assert_close(mirrored, clear, rtol=1e-14, atol=0)
    torch.testing.assert_close(mirrored_clear, covered, rtol=1e-14, atol=0)
    torch.testing.assert_close(mirrored_density, density, rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    ("name", "u", "expected"),
    [
        ("gaussian", -30, stats.norm.cdf(-30)),
        ("cauchy", -1e8, 1e-8 / math.pi),
        ("reciprocal", -1e12, 0.5e-12),
        ("gudermannian", -200, 2 / math.pi * math.exp(-200)),
        ("wigner_semicircle", -1 + 1e-8, (2e-8) ** 1.5 * 2 / (3 * math.pi)),
        ("gumbel_min", -300, math.exp(-300)),
        ("gamma_rev", -300, stats.gamma.sf(300, distributions.SHAPE)),
        ("levy_rev", -1e20, math.sqrt(2 / math.pi) * 1e-10),
    ],
)
def test_tails_have_all_their_digits(name, u, expected):
    assert number(u, name)[0] == pytest.approx(expected, rel=1e-7, abs=0)
    assert number(-u, MIRROR[name])[1] == pytest.approx(expected, rel=1e-7, abs=0)


@NAMES
def test_half_at_the_outline_where_symmetric(name):
    at_zero = {"heaviside": 0, "gumbel_max": math.exp(-1), "gumbel_min": 1 - math.exp(-1)}
    at_zero |= {"exponential": 0, "gamma": 0, "levy": 0, "exponential_rev": 1, "gamma_rev": 1, "levy_rev": 1}
    assert number(0, name)[0] == pytest.approx(at_zero.get(name, 0.5), abs=1e-15)


@NAMES
def test_limits_are_0_and_1(name):
    assert number(-1e300, name)[0] == pytest.approx(0, abs=1e-100)
    assert number(1e300, name)[0] == 1
    assert number(1e300, name)[1] == pytest.approx(0, abs=1e-100)


@NAMES
@settings(max_examples=200)
@given(u=st.tuples(FINITE, FINITE), shape=st.floats(1e-3, 100), shift=st.floats(-10, 10))
def test_it_rises_and_adds_up_to_1_anywhere(name, u, shape, shift):
    low, high = (number(x, name, shape=shape, shift=shift) for x in sorted(u))
    # where the two ways to find the incomplete gamma function meet, it may step back by their error
    assert low[0] <= high[0] * (1 + 1e-11) + 1e-15
    assert low[1] * (1 + 1e-11) + 1e-15 >= high[1]
    for covered, clear, density in (low, high):
        assert 0 <= covered <= 1 and 0 <= clear <= 1 and 0 <= density < math.inf
        assert covered + clear == pytest.approx(1, abs=1e-12)


@NAMES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(max_examples=200)
@given(data=st.data())
def test_values_and_gradients_are_finite_for_any_finite_distance(name, dtype, data):
    width = 32 if dtype == torch.float32 else 64
    u = data.draw(st.floats(allow_nan=False, allow_infinity=False, width=width))
    shape = data.draw(st.floats(0.01, 100))
    leaf = torch.tensor(u, dtype=dtype, requires_grad=True)
    covered, clear = coverage(leaf, name, shape=shape)
    (gradient,) = torch.autograd.grad(covered - clear, leaf)
    assert torch.isfinite(covered) and torch.isfinite(clear) and torch.isfinite(gradient)
    assert gradient >= 0


@NAMES
def test_both_modes_of_differentiation_agree_with_differences(name):
    u = torch.tensor([-3.3, -1.4, -0.6, -0.2, 0.3, 0.7, 1.6, 2.9], dtype=torch.float64, requires_grad=True)
    for options in ({}, {"shape": 2.0, "shift": 0.45}):
        torch.autograd.gradcheck(lambda u, o=options: coverage(u, name, **o), (u,), check_forward_ad=True, eps=1e-5)


@NAMES
def test_a_shift_moves_the_distribution_out_of_the_face(name):
    outward = -0.75 if name in MIRRORS.values() else 0.75  # D(u + s), mirrored 1 - D(-u + s)
    for mine, theirs in zip(evaluate(POINTS, name, shift=0.75), evaluate(POINTS + outward, name), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=0)


@NAMES
@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_the_cut_off_is_where_the_coverage_is_the_level(name, shift):
    u = quantile(distributions.LEVEL, name, shift=shift)
    assert number(u - 1e-12 * abs(u) - 1e-50, name, shift=shift)[0] <= distributions.LEVEL
    assert number(u + 1e-12 * abs(u), name, shift=shift)[0] >= distributions.LEVEL


def test_the_cut_off_of_the_logistic_distribution_is_softras_own():
    assert quantile(1e-4) == pytest.approx(-reference.CUTOFF, rel=1e-14)


def test_heavy_tails_reach_far():
    far = {name for name in DISTRIBUTIONS if quantile(distributions.LEVEL, name) < -1000}
    assert far == {name for name, row in DISTRIBUTIONS.items() if row.heavy}


def test_what_cannot_be_used_is_said():
    u = torch.zeros(1)
    with pytest.raises(InputError, match="no distribution 'normal'; choose one of heaviside, uniform"):
        coverage(u, "normal")
    for shape in (0, -1, 101, math.nan):
        with pytest.raises(InputError, match="shape of a distribution must be greater than 0"):
            coverage(u, "gamma", shape=shape)
    with pytest.raises(InputError, match="shift of a distribution must be a finite number"):
        coverage(u, "gamma", shift=math.inf)
