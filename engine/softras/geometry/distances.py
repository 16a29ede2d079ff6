"""How far sets of points are from each other."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from ..checks import positive
from ..errors import InputError
from ..raster import transforms
from .checks import point_tensor

PAIRS = 1 << 26  # So many distances are held at once on a GPU: 256 MiB of float32.


def nearest_distances(points: Tensor | np.ndarray, others: Tensor | np.ndarray, *, squared: bool = False) -> Tensor:
    """(P,) distance of each point (P, 3) from the nearest of others (Q, 3), differentiable to both.

    It is exact: a k-d tree finds the nearest points on the CPU; on a GPU, all pairs are compared, a block at a time.
    The gradient of a distance that is zero is zero.

    Args:
        squared: whether to return squared distances.

    Raises:
        InputError: no points, NaN or infinite ones, another shape, or different dtypes or devices.
    """
    points, others = point_tensor("points", points), point_tensor("others", others)
    if points.dtype != others.dtype or points.device != others.device:
        raise InputError(
            f"both sets of points must have one dtype and device, not {points.dtype} on {points.device} and "
            f"{others.dtype} on {others.device}."
        )
    away = points - others.index_select(0, _Nearest.apply(points.detach(), others.detach())[0])
    return away.square().sum(dim=1) if squared else away.norm(dim=1)


def chamfer_distance(points: Tensor | np.ndarray, others: Tensor | np.ndarray, *, squared: bool = True) -> Tensor:
    """Mean distance from points to the nearest of others, plus the mean from others to the nearest of points.

    Squared distances (or not, with squared=False), as Fan et al., "A point set generation network", CVPR 2017, but
    means in place of sums. Differentiable to both; arguments and errors as `nearest_distances`.
    """
    there = nearest_distances(points, others, squared=squared)
    return there.mean() + nearest_distances(others, points, squared=squared).mean()


class FScore(NamedTuple):
    """How well points match a reference; all numbers are in 0..1.

    Attributes:
        f_score: 2 precision recall / (precision + recall), the harmonic mean; 0 where both are 0.
        precision: the share of the points that are near the reference.
        recall: the share of the reference that is near the points.
    """

    f_score: float
    precision: float
    recall: float


def f_score(points: Tensor | np.ndarray, reference: Tensor | np.ndarray, threshold: float) -> FScore:
    """The F-score of points (P, 3) against a reference (Q, 3); near means a distance of at most the threshold.

    Knapitsch et al., "Tanks and temples", TOG 2017. Errors as `nearest_distances`.
    """
    threshold = positive("the threshold of an F-score", threshold, zero=True)
    with torch.no_grad():
        precision = float((nearest_distances(points, reference) <= threshold).double().mean())
        recall = float((nearest_distances(reference, points) <= threshold).double().mean())
    both = precision + recall
    return FScore(2 * precision * recall / both if both else 0.0, precision, recall)


class _Nearest(transforms.Transformable):
    """(P,) int64 the index of the nearest of others (Q, 3) for each of points (P, 3), constant for derivatives."""

    @staticmethod
    def forward(points: Tensor, others: Tensor) -> tuple[Tensor]:
        # Under vmap, the values could not be checked before.
        points, others = point_tensor("points", points), point_tensor("others", others)
        return (_by_pairs(points, others) if points.is_cuda else _by_tree(points, others),)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor]) -> None:
        ctx.mark_non_differentiable(*output)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[None, None]:
        return None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> None:
        return None


def _by_tree(points: Tensor, others: Tensor) -> Tensor:
    _, index = cKDTree(others.cpu().numpy()).query(points.cpu().numpy(), workers=torch.get_num_threads())
    return torch.as_tensor(index, device=points.device)


def _by_pairs(points: Tensor, others: Tensor) -> Tensor:
    blocks = points.split(max(1, PAIRS // len(others)))
    exact = "donot_use_mm_for_euclid_dist"  # Matrix products lose digits where points are far from the origin.
    return torch.cat([torch.cdist(block, others, compute_mode=exact).argmin(dim=1) for block in blocks])
