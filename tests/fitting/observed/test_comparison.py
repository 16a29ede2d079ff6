"""The sums over pixels that silhouettes and masks are compared by."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from softras.fitting.observed.comparison import compared
from softras.raster.native import cpu


def scene(size: tuple[int, int], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Silhouettes that are mostly 0 or 1, masks of more views, which mask is whose, and gradients of the sums."""
    random = torch.Generator().manual_seed(sum(size))
    alpha = (torch.rand(3, *size, generator=random, dtype=dtype) * 20 - 9).clamp(0, 1)
    alpha[1, : size[0] // 2] = 0
    alpha[2, size[0] // 3 :] = 1
    known = (torch.rand(5, *size, generator=random, dtype=dtype) * 4).clamp(0, 1)
    masks = torch.stack([known * torch.rand(5, *size, generator=random, dtype=dtype).round(decimals=1), known], dim=1)
    return alpha, masks, torch.tensor([4, 0, 2]), torch.randn(3, 3, generator=random, dtype=dtype)


def sums_and_gradient(alpha: Tensor, masks: Tensor, views: Tensor, weights: Tensor, **options) -> tuple[Tensor, Tensor]:
    leaf = alpha.clone().requires_grad_()
    found = compared(leaf, masks, views, masks[:, 0].sum(dim=(1, 2)), **options)
    sums = torch.stack([found.both, found.seen, found.squares], dim=1)
    (sums * weights).sum().backward()
    assert leaf.grad is not None
    return sums.detach(), leaf.grad


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (64, 64), (97, 131)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_and_gradients_are_their_formulas(size: tuple[int, int], dtype: torch.dtype, monkeypatch) -> None:
    alpha, masks, views, weights = scene(size, dtype)
    a, kt, k = alpha.double(), masks[views, 0].double(), masks[views, 1].double()
    sums = torch.stack([(x).sum(dim=(1, 2)) for x in (a * kt, k * a, (k * a - kt) ** 2)], dim=1)
    both, seen, squares = weights.double().T[..., None, None]
    gradient = both * kt + seen * k + 2 * squares * k * (k * a - kt)
    for available in (True, False):
        monkeypatch.setattr(cpu, "_AVAILABLE", available)
        found = sums_and_gradient(alpha, masks, views, weights)
        torch.testing.assert_close(found[0].double(), sums, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(found[1].double(), gradient, rtol=1e-6, atol=1e-6)


def test_the_gradient_on_the_outline_is_always_there() -> None:
    alpha, masks, views, weights = scene((97, 131), torch.float32)
    every = sums_and_gradient(alpha, masks, views, weights)
    outline = sums_and_gradient(alpha, masks, views, weights, outline=True)
    torch.testing.assert_close(outline[0], every[0], rtol=0, atol=0)
    there = (alpha > 0) & (alpha < 1)
    assert torch.equal(outline[1][there], every[1][there])
    off = outline[1] != every[1]
    assert off.any() and not outline[1][off].any()


def test_threads_change_no_bit() -> None:
    alpha, masks, views, weights = scene((700, 800), torch.float32)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(sums_and_gradient(alpha, masks, views, weights))
    finally:
        torch.set_num_threads(before)
    for sums, gradient in found[1:]:
        assert torch.equal(sums, found[0][0]) and torch.equal(gradient, found[0][1])
