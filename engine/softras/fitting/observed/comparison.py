"""How silhouettes compare with masks: the sums over pixels that losses are made of."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...raster.algebra import plain
from ...raster.native import cpu
from ...raster.native.structures import ComparisonCall
from ...raster.sums import whole


class Comparison(NamedTuple):
    """Sums over the pixels of each view, with silhouette a, mask t and knownness k of a pixel, all in 0..1.

    Attributes:
        both: (N,) sum of k a t.
        seen: (N,) sum of k a.
        squares: (N,) sum of (k a - k t)^2.
        wanted: (N,) sum of k t.
    """

    both: Tensor
    seen: Tensor
    squares: Tensor
    wanted: Tensor


def compared(alpha: Tensor, masks: Tensor, views: Tensor, areas: Tensor, *, outline: bool = False) -> Comparison:
    """Silhouettes (N, H, W) beside the masks of their views.

    Args:
        masks: (M, 2, H, W) k t and k of M masks.
        views: (N,) int64, which mask each silhouette is compared with.
        areas: (M,) the sums of k t over the pixels of each mask.
        outline: whether the gradient matters on the outline alone, where 0 < a < 1, as it does for the exact area. It
            may be zero elsewhere.
    """
    both, seen, squares = _Sums.apply(alpha, masks, views, outline).unbind(dim=1)
    return Comparison(both, seen, squares, areas[views.to(areas.device)])


class _Sums(torch.autograd.Function):
    """(N, 3): `both`, `seen` and `squares`, with few passes over the pixels forward and back."""

    @staticmethod
    def forward(ctx: Any, alpha: Tensor, masks: Tensor, views: Tensor, outline: bool) -> Tensor:
        ctx.save_for_backward(alpha)
        ctx.others = masks, views, outline
        if not _natively(alpha, masks, views):
            return _sums(alpha, masks, views)
        sums = alpha.new_empty(len(alpha), 3)
        _run(alpha, masks, views, outline, sums, None)
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (alpha,), (masks, views, outline) = ctx.saved_tensors, ctx.others
        found = torch.empty_like(alpha, memory_format=torch.contiguous_format)
        if _natively(alpha, masks, views, gradient):
            _run(alpha, masks, views, outline, gradient.contiguous(), found)
        else:
            _write_gradient(found, alpha, masks, views, gradient)
        return found, None, None, None


def _sums(alpha: Tensor, masks: Tensor, views: Tensor) -> Tensor:
    """(N, 3) the sums, as `_Sums`: the definition of csrc/softras_comparison.cpp."""
    found = []
    for a, view in zip(alpha, views.tolist(), strict=True):
        target, known = masks[view]
        seen = known * a
        found.append(torch.stack([whole(x) for x in (a * target, seen, (seen - target).square())]))
    return torch.stack(found)


def _write_gradient(found: Tensor, alpha: Tensor, masks: Tensor, views: Tensor, gradient: Tensor) -> None:
    """Write into (N, H, W) the gradient by alpha for that by the sums, (N, 3)."""
    for out, a, view, (both, seen, squares) in zip(found, alpha, views.tolist(), gradient, strict=True):
        target, known = masks[view]
        torch.mul(known, a, out=out).sub_(target).mul_(2 * squares).add_(seen).mul_(known)
        out.addcmul_(target, both)


def _natively(alpha: Tensor, masks: Tensor, views: Tensor, *gradient: Tensor) -> bool:
    """Whether the native library computes the sums, or their gradient for the one given."""
    alike = alpha.dtype == masks.dtype and alpha.shape[1:] == masks.shape[2:]
    return cpu.available() and alike and views.is_cpu and plain(alpha.detach(), masks, *gradient)


def _run(alpha: Tensor, masks: Tensor, views: Tensor, outline: bool, sums: Tensor, found: Tensor | None) -> None:
    read = [x.contiguous() for x in (views, alpha, masks)]
    pointers = [None if x is None else x.data_ptr() for x in (*read, sums, found)]
    count, height, width = alpha.shape
    call = ComparisonCall(count, torch.get_num_threads(), outline, height * width, *pointers)
    cpu.run("comparison", alpha.dtype, call)
