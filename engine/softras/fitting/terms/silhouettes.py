"""The terms that compare silhouettes with masks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ...geometry.overlap import iou_of_sums
from ...raster.algebra import root
from ..observed.comparison import Comparison
from .free import Drawn, Loss, Rest
from .posed import Frames, FrameViews, Motion, Part, Posed, half_squares
from .term import Term


def silhouette_iou_loss(found: Comparison) -> Tensor:
    """(N,) one minus the soft intersection over union of silhouettes and masks.

    1 - sum(k a t) / sum(k (a + t - a t)), with the letters of `Comparison`. Liu et al., "Soft Rasterizer", ICCV 2019,
    eq. 8.
    """
    return 1 - iou_of_sums(found.both, found.seen, found.wanted)


def silhouette_squared(found: Comparison) -> Tensor:
    """(N,) squared differences between silhouettes and masks, relative to the mask's area.

    sum((k a - k t)^2) / sum(k t), with the letters of `Comparison`.
    """
    return found.squares / found.wanted.clamp_min(1e-6)


def _mean_over_views(term: Callable[[Comparison], Tensor]) -> Callable[[Rest], Loss]:
    """The loss that is the mean, over the views of a step, of a function (N,) of each view times the view's weight."""

    def loss(drawn: Drawn) -> Tensor:
        return (drawn.weights * term(drawn.comparison)).sum() / len(drawn.weights)

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
    shares = weight * (views.weights / views.weights.sum())
    shares = torch.as_tensor(shares, dtype=masks.dtype, device=masks.device)
    return root(shares / views.observation.areas.clamp_min(1e-6))[:, None, None] * masks[:, 1]


SILHOUETTES = Term({"poses": 1.0}, residuals=MaskDifferences)
