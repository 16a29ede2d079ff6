"""The terms that compare silhouettes with masks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ...geometry.overlap import iou_of_sums
from ...raster.algebra import root
from ..observed.comparison import Comparison
from .free import Drawn, Loss, Rest
from .posed import Frames, FrameViews, Motion, Part, Posed
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
        self._factors = [_view_factors(views, weight).to(frames.faces.device) for views in frames.views]

    def cost(self, posed: Posed) -> float:
        """As in `Residuals`."""
        return self._half_squares(posed, posed.alpha)

    def linear(self, posed: Posed, motion: Motion) -> tuple[float, Iterable[Part]]:
        """As in `Residuals`, with the pixels that the silhouette's outline passes through."""
        found = motion.drawing
        masks, area = posed.views.observation.masks.flatten(), found.alpha[0].numel()
        views = found.pixels // area
        target = found.pixels + views * area  # where k t is; k is an image farther on
        factors, known = root(self._factors[posed.index])[views], masks[target + area]
        rows = found.rows * (factors * known)[:, None]
        residuals = factors * (known * found.alpha.flatten()[found.pixels] - masks[target])
        counts = [len(rows)]
        if posed.frames.camera_moves is not None:  # In each view the camera's columns mean another camera's parameters.
            counts = torch.bincount(views, minlength=len(found.alpha)).tolist()
        parts = zip(rows.split(counts), residuals.split(counts), range(len(counts)), strict=True)
        return self._half_squares(posed, found.alpha), (Part(*part) for part in parts)

    def _half_squares(self, posed: Posed, alpha: Tensor) -> float:
        """Half the sum of squares over all pixels of the silhouettes (N, S, S)."""
        found = posed.views.observation.compared(alpha, torch.arange(len(alpha)))
        return 0.5 * float((self._factors[posed.index].double() * found.squares.double()).sum())


def _view_factors(views: FrameViews, weight: float) -> Tensor:
    """(N,) what the squares of each view are multiplied by: w v / A."""
    shares = weight * (views.weights / views.weights.sum())
    areas = views.observation.areas.clamp_min(1e-6)
    return torch.as_tensor(shares, dtype=areas.dtype, device=areas.device) / areas


SILHOUETTES = Term({"poses": 1.0}, residuals=MaskDifferences)
