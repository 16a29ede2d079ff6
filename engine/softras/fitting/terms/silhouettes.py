"""The terms that compare silhouettes with masks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from ...geometry.overlap import iou_of_sums
from ...raster.algebra import root
from ...raster.sums import whole
from .free import Drawn, Loss, Rest
from .posed import Frames, FrameViews, Motion, Part, Posed, half_squares
from .term import Term


def silhouette_iou_loss(alpha: Tensor, masks: Sequence[Tensor]) -> Tensor:
    """(N,) one minus the soft intersection over union of silhouettes and masks.

    1 - sum(k a t) / sum(k (a + t - a t)) over the pixels of a view, with silhouette a, mask t and knownness k (see
    `Observation`), all in 0..1. Liu et al., "Soft Rasterizer", ICCV 2019, eq. 8.

    Args:
        alpha: (N, H, W) a.
        masks: for each view (2, H, W), k t and k.
    """
    both, drawn = _Sums.apply(alpha, masks).unbind(dim=1)
    wanted = torch.stack([whole(mask[0]) for mask in masks])
    return 1 - iou_of_sums(both, drawn, wanted)


def silhouette_squared(alpha: Tensor, masks: Sequence[Tensor]) -> Tensor:
    """(N,) squared differences between silhouettes and masks, relative to the mask's area.

    sum((k a - k t)^2) / sum(k t) over the pixels of a view; letters and arguments as of `silhouette_iou_loss`.
    """
    wanted = torch.stack([whole(mask[0]) for mask in masks])
    return _Squares.apply(alpha, masks) / wanted.clamp_min(1e-6)


class _Sums(torch.autograd.Function):
    """(N, K) sums over the pixels of alpha (N, H, W) times each of the K images (K, H, W) of its view.

    Forward and backward pass over the pixels once each. Written as products of tensors, these sums took half the time
    of a step at 512 x 512 pixels.
    """

    @staticmethod
    def forward(ctx, alpha: Tensor, images: Sequence[Tensor]) -> Tensor:
        ctx.images, ctx.shape = images, alpha.shape
        return torch.stack([_dots(a, image) for a, image in zip(alpha, images, strict=True)])

    @staticmethod
    def backward(ctx, gradient: Tensor):
        result = gradient.new_empty(ctx.shape)
        for out, row, image in zip(result, gradient, ctx.images, strict=True):
            torch.mul(image[0], row[0], out=out)
            for factor, part in zip(row[1:], image[1:], strict=True):
                out += factor * part
        return result, None


class _Squares(torch.autograd.Function):
    """(N,) sums over the pixels of (k a - k t)^2, in as few passes as `_Sums`."""

    @staticmethod
    def forward(ctx, alpha: Tensor, masks: Sequence[Tensor]) -> Tensor:
        ctx.masks = masks
        ctx.rests = [(a * mask[1]).sub_(mask[0]) for a, mask in zip(alpha, masks, strict=True)]
        return torch.stack([_dots(rest, rest[None])[0] for rest in ctx.rests])

    @staticmethod
    def backward(ctx, gradient: Tensor):
        result = gradient.new_empty(len(ctx.masks), *ctx.masks[0].shape[1:])
        for out, row, rest, mask in zip(result, gradient, ctx.rests, ctx.masks, strict=True):
            torch.mul(rest, mask[1], out=out).mul_(2 * row)
        return result, None


def _dots(image: Tensor, others: Tensor) -> Tensor:
    """(K,) sums over the pixels of an image (H, W) times each of others (K, H, W).

    On the CPU they are added row by row, not by a BLAS, whose bits depend on the number of threads.
    """
    if image.device.type != "cpu":
        return others.flatten(1) @ image.flatten()
    return torch.from_numpy(np.einsum("khw,hw->kh", others.numpy(), image.numpy()).sum(axis=1))


def _mean_over_views(term: Callable[[Tensor, Sequence[Tensor]], Tensor]) -> Callable[[Rest], Loss]:
    """The loss that is the mean, over the views of a step, of a function (N,) of each view times the view's weight."""

    def loss(drawn: Drawn) -> Tensor:
        return (drawn.weights * term(drawn.alpha, drawn.masks)).sum() / len(drawn.weights)

    return lambda rest: loss


IOU = Term({"refine": 1.0, "reconstruct": 1.0}, _mean_over_views(silhouette_iou_loss))
SQUARED = Term({"refine": 0.2, "reconstruct": 0.2}, _mean_over_views(silhouette_squared))


class MaskDifferences:
    """1/2 sum w v / A (k a - k t)^2 over the pixels of all views of a frame.

    a is the silhouette, t the mask and k the knownness of a pixel (see `Observation`), all in 0..1; A is the area of
    the view's mask, v the view's share of the weights of the frame's views, and w the term's weight.
    """

    def __init__(self, frames: Frames, weight: float) -> None:
        self._scales = [_pixel_scales(views, weight).to(frames.faces.device) for views in frames.views]
        self._targets = [
            scale * views.observation.masks[:, 0] / views.observation.masks[:, 1].clamp_min(1e-6)
            for scale, views in zip(self._scales, frames.views, strict=True)
        ]

    def cost(self, posed: Posed) -> float:
        """As in `Residuals`."""
        return half_squares(self._residuals(posed.index, posed.alpha))

    def linear(self, posed: Posed, motion: Motion) -> tuple[float, Iterable[Part]]:
        """As in `Residuals`, with the pixels that the silhouette's outline passes through."""
        found = motion.drawing
        residuals = self._residuals(posed.index, found.alpha)
        rows = found.rows * self._scales[posed.index].flatten()[found.pixels, None]
        picked = residuals.flatten()[found.pixels]
        counts = [len(rows)]
        if posed.frames.camera_moves is not None:  # In each view the camera's columns mean another camera's parameters.
            views = found.pixels // found.alpha[0].numel()
            counts = torch.bincount(views, minlength=len(found.alpha)).tolist()
        parts = zip(rows.split(counts), picked.split(counts), range(len(counts)), strict=True)
        return half_squares(residuals), (Part(*part) for part in parts)

    def _residuals(self, frame: int, alpha: Tensor) -> Tensor:
        """(N, S, S) residuals; zero where nothing is known."""
        return self._scales[frame] * alpha - self._targets[frame]


def _pixel_scales(views: FrameViews, weight: float) -> Tensor:
    """(N, S, S) what the difference of silhouette and mask at each pixel is multiplied by: k sqrt(w v / A)."""
    masks = views.observation.masks
    area = torch.stack([whole(mask) for mask in masks[:, 0]]).clamp_min(1e-6)
    shares = weight * (views.weights / views.weights.sum())
    shares = torch.as_tensor(shares, dtype=masks.dtype, device=masks.device)
    return root(shares / area)[:, None, None] * masks[:, 1]


SILHOUETTES = Term({"poses": 1.0}, residuals=MaskDifferences)
