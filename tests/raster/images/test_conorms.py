"""The T-conorms that make one alpha of all faces: their laws, their formulas, and their gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from softras import InputError
from softras.raster.images.conorms import CONORMS, fold

# Of two faces, as the papers write them: x and y are coverages, p the parameter.
FORMULAS: dict[str, Callable[[float, float, float], float]] = {
    "hard": lambda x, y, p: float(x > 0.5 or y > 0.5),
    "max": lambda x, y, p: max(x, y),
    "probabilistic": lambda x, y, p: x + y - x * y,
    "einstein": lambda x, y, p: (x + y) / (1 + x * y),
    "hamacher": lambda x, y, p: 1 - (1 - x) * (1 - y) / (p + (1 - p) * ((1 - x) + (1 - y) - (1 - x) * (1 - y))),
    "frank": lambda x, y, p: 1 - math.log(1 + (p ** (1 - x) - 1) * (p ** (1 - y) - 1) / (p - 1), p),
    "yager": lambda x, y, p: min(1.0, (x**p + y**p) ** (1 / p)),
    "aczel_alsina": lambda x, y, p: 1 - math.exp(-(((-math.log(1 - x)) ** p + (-math.log(1 - y)) ** p) ** (1 / p))),
    "dombi": lambda x, y, p: 1 - 1 / (1 + ((x / (1 - x)) ** p + (y / (1 - y)) ** p) ** (1 / p)),
    "schweizer_sklar": lambda x, y, p: 1 - ((1 - x) ** p + (1 - y) ** p - 1) ** (1 / p),
}
PARAMETERS = {
    "hamacher": (0.0, 0.3, 1.0, 2.0, 5.0),
    "frank": (1e-3, 0.5, 3.0, 1e4),
    "yager": (0.5, 1.0, 2.0, 4.0),
    "aczel_alsina": (0.5, 1.0, 2.0, 4.0),
    "dombi": (0.5, 1.0, 2.0, 4.0),
    "schweizer_sklar": (-0.5, -1.0, -3.0),
}
CASES = [(name, p) for name in FORMULAS for p in PARAMETERS.get(name, (None,))]
EACH = pytest.mark.parametrize(("name", "p"), CASES)
COVERAGE = st.one_of(st.sampled_from([0.0, 1.0, 0.5, 1e-4, 1 - 1e-4]), st.floats(0, 1))
SEVERAL = st.lists(COVERAGE, min_size=1, max_size=6)
DOUBLE = torch.float64


def folded(a: list[float], name: str, p: float | None) -> float:
    return float(fold(torch.tensor(a, dtype=DOUBLE), None, name, p))


def test_the_table_has_the_ten_and_softras_mean_in_the_order_of_their_numbers():
    assert [row.index for row in CONORMS.values()] == list(range(11))
    assert [*FORMULAS, "sum"] == list(CONORMS)


@EACH
@settings(max_examples=100)
@given(x=st.floats(1e-6, 1 - 1e-6), y=st.floats(1e-6, 1 - 1e-6))
def test_two_faces_give_the_formula_of_the_paper(name, p, x, y):
    assert folded([x, y], name, p) == pytest.approx(FORMULAS[name](x, y, p), rel=1e-9, abs=1e-9)


@EACH
@settings(max_examples=100)
@given(a=SEVERAL, b=SEVERAL, random=st.randoms(use_true_random=False))
def test_any_order_and_any_grouping_give_the_same(name, p, a, b, random):
    whole = folded(a + b, name, p)
    shuffled = random.sample(a + b, len(a + b))
    assert folded(shuffled, name, p) == pytest.approx(whole, rel=1e-12, abs=1e-15)
    if name != "hard":  # of coverages that are 0 or 1 already
        # one minus a rounded alpha has lost digits, which a p below 1 enlarges
        parts = [folded(a, name, p), folded(b, name, p)]
        assert folded(parts, name, p) == pytest.approx(whole, rel=1e-7, abs=1e-9)


@EACH
@settings(max_examples=100)
@given(a=COVERAGE)
def test_a_face_alone_is_alpha_and_one_of_coverage_0_changes_nothing(name, p, a):
    expected = float(a > 0.5) if name == "hard" else a
    assert folded([a], name, p) == pytest.approx(expected, rel=1e-12, abs=1e-15)
    assert folded([a, 0.0, 0.0], name, p) == folded([a], name, p)
    assert folded([], name, p) == 0


@EACH
@settings(max_examples=100)
@given(a=SEVERAL, more=COVERAGE)
def test_alpha_is_at_least_the_largest_at_most_1_and_rises(name, p, a, more):
    alpha = folded(a, name, p)
    largest = float(max(a) > 0.5) if name == "hard" else max(a)
    assert largest * (1 - 1e-12) - 1e-15 <= alpha <= 1
    assert folded([*a, more], name, p) >= alpha * (1 - 1e-12)
    assert folded([*a[:-1], max(a[-1], more)], name, p) >= alpha * (1 - 1e-12)
    assert folded([*a, 1.0], name, p) == 1


@pytest.mark.parametrize(("name", "p"), [*CASES, ("sum", None)])
def test_both_modes_of_differentiation_agree_with_differences(name, p):
    a = torch.rand(5, 3, 4, dtype=DOUBLE, generator=torch.Generator().manual_seed(2))
    a = 0.02 + (0.07 if name == "yager" else 0.7) * a  # below 1 in sum, where Yager's bends
    a.requires_grad_()
    assert torch.autograd.gradcheck(lambda a: fold(a, None, name, p, dim=1), (a,), check_forward_ad=True)


@pytest.mark.parametrize(("name", "p"), [*CASES, ("sum", None)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(max_examples=100)
@given(exponents=st.lists(st.integers(-37, 37), min_size=1, max_size=5), one=st.booleans())
def test_values_and_gradients_are_finite_from_0_to_1(name, p, dtype, exponents, one):
    odds = torch.tensor([0.0, *(10.0**e for e in exponents), *([math.inf] * one)], dtype=dtype)
    covered = (1 / (1 + 1 / odds)).requires_grad_()
    alpha = fold(covered, 1 / (1 + odds), name, p)
    (gradient,) = torch.autograd.grad(alpha, covered)
    assert 0 <= alpha <= 1
    assert torch.isfinite(gradient).all() and (gradient >= 0).all()


@EACH
def test_float32_agrees_with_float64_over_a_thousand_faces(name, p):
    random = torch.Generator().manual_seed(3)
    # few of the many faces of a pixel matter, as in a render: most are at its edge
    u = -9 + 6 * torch.rand(20, 1000, dtype=DOUBLE, generator=random)
    u[10:, :3] += 14
    u = u.float().double()
    results = []
    for dtype in (torch.float32, torch.float64):
        covered = torch.sigmoid(u).to(dtype).requires_grad_()
        alpha = fold(covered, torch.sigmoid(-u).to(dtype), name, p)
        results.append((alpha, *torch.autograd.grad(alpha.sum(), covered)))
    (single, gradient), (double, expected) = results
    torch.testing.assert_close(single.double(), double, rtol=3e-6, atol=1e-7)
    torch.testing.assert_close(gradient.double(), expected, rtol=2e-4, atol=1e-6 * float(expected.max()))


def test_complements_keep_the_digits_that_a_coverage_near_1_has_lost():
    clear = torch.tensor([1e-12, 1e-3, 1.0])
    covered = (1 - clear).requires_grad_()
    assert covered[0] == 1
    alpha = fold(covered, clear)
    (gradient,) = torch.autograd.grad(alpha, covered)
    assert alpha == 1
    torch.testing.assert_close(gradient, torch.tensor([1e-3, 1e-12, 1e-15]), rtol=1e-5, atol=0)


def test_the_gradient_of_max_goes_to_the_first_of_the_largest():
    a = torch.tensor([[0.2, 0.7, 0.1, 0.7, 0.7], [0.0, 0.0, 0.0, 0.0, 0.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(fold(a, None, "max").sum(), a)
    assert gradient.tolist() == [[0, 1, 0, 0, 0], [1, 0, 0, 0, 0]]


def test_sum_is_the_mean_over_all_faces_of_the_mesh():
    a = torch.tensor([0.25, 1.0, 0.5], requires_grad=True)
    alpha = fold(a, None, "sum", faces=10)
    assert alpha.item() == pytest.approx(0.175)
    torch.testing.assert_close(torch.autograd.grad(alpha, a)[0], torch.full((3,), 0.1))
    assert fold(a, None, "sum").item() == pytest.approx(1.75 / 3)


def test_relations_between_them():
    a = torch.rand(30, 4, dtype=DOUBLE, generator=torch.Generator().manual_seed(4)) / 4
    probabilistic = 1 - (1 - a).prod(-1)
    for name, p, expected in [
        ("probabilistic", None, probabilistic),
        ("aczel_alsina", 1, probabilistic),
        ("schweizer_sklar", -1e-9, probabilistic),
        ("frank", 1 + 1e-9, probabilistic),
        ("hamacher", 1, probabilistic),
        ("yager", 1, a.sum(-1).clamp_max(1)),
        ("hamacher", 0, fold(a, None, "dombi", 1)),
        ("schweizer_sklar", -1, fold(a, None, "dombi", 1)),
        *((name, 64, a.amax(-1)) for name in ("yager", "aczel_alsina", "dombi")),
    ]:
        tolerance = 0.1 if abs(p or 0) == 64 else 1e-6
        torch.testing.assert_close(fold(a, None, name, p), expected, rtol=tolerance, atol=1e-9)


def test_what_cannot_be_used_is_said():
    a = torch.zeros(3)
    with pytest.raises(InputError, match="no T-conorm 'prod'; choose one of hard, max, probabilistic"):
        fold(a, None, "prod")
    with pytest.raises(InputError, match="'yager' needs its parameter p, greater than 0"):
        fold(a, None, "yager")
    with pytest.raises(InputError, match="'max' has no parameter; leave p out"):
        fold(a, None, "max", 2.0)
    for name, p in [("yager", 0), ("dombi", 65), ("frank", 1), ("frank", 0), ("hamacher", -1), ("schweizer_sklar", 1)]:
        with pytest.raises(InputError, match=f"parameter p of the T-conorm '{name}' must be"):
            fold(a, None, name, p)
