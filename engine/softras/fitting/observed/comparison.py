"""How silhouettes compare with masks: the sums over pixels that losses are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


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


def compared(alpha: Tensor, masks: Sequence[Tensor], wanted: Tensor) -> Comparison:
    """Silhouettes (N, H, W) beside the masks of N views.

    Args:
        masks: of each view (2, H, W): k t, and k.
        wanted: (N,) as in `Comparison`; the caller may know it from before.
    """
    both, seen, squares = _Sums.apply(alpha, masks).unbind(dim=1)
    return Comparison(both, seen, squares, wanted)


class _Sums(torch.autograd.Function):
    """(N, 3): `both`, `seen` and `squares`.

    All at once, with few passes over the pixels forward and back: with a sum each they took half of a step.
    """

    @staticmethod
    def forward(ctx, alpha: Tensor, masks: Sequence[Tensor]) -> Tensor:
        ctx.masks, ctx.rests = masks, torch.empty_like(alpha)  # rests: k a - k t
        found = []
        for a, rest, mask in zip(alpha, ctx.rests, masks, strict=True):
            torch.mul(a, mask[1], out=rest).sub_(mask[0])
            found.append(torch.cat([_dots(a, mask), _dots(rest, rest[None])]))
        return torch.stack(found)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        result = torch.empty_like(ctx.rests)
        for out, rest, mask, row in zip(result, ctx.rests, ctx.masks, gradient, strict=True):
            torch.mul(rest, 2 * row[2], out=out).add_(row[1]).mul_(mask[1])
            out.addcmul_(mask[0], row[0])
        return result, None


def _dots(image: Tensor, others: Tensor) -> Tensor:
    """(K,) sums over the pixels of an image (H, W) times others (K, H, W), row by row; no BLAS on the CPU."""
    if image.device.type != "cpu":
        return others.flatten(1) @ image.flatten()
    return torch.from_numpy(np.einsum("khw,hw->kh", others.numpy(), image.numpy()).sum(axis=1))
