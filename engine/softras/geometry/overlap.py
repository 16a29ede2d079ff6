"""Intersection over union of silhouettes and of voxels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError


def silhouette_iou(one: Tensor | np.ndarray, other: Tensor | np.ndarray) -> Tensor:
    """(...) intersection over union of silhouettes (..., H, W) with values 0..1, or bool; differentiable.

    sum(a b) / sum(a + b - a b), Liu et al., "Soft Rasterizer", ICCV 2019, eq. 8. For silhouettes of zeros and ones it
    is the usual IoU. It is 0 where both are empty.
    """
    return _iou(one, other, 2)


def voxel_iou(one: Tensor | np.ndarray, other: Tensor | np.ndarray) -> Tensor:
    """(...) intersection over union of voxels (..., R, R, R) with values 0..1, or bool as those of `voxelize`."""
    return _iou(one, other, 3)


def _iou(one: Tensor | np.ndarray, other: Tensor | np.ndarray, dims: int) -> Tensor:
    """(...) the intersection over union over the last `dims` axes."""
    a, b = (_number(torch.as_tensor(x)) for x in (one, other))
    if a.shape != b.shape or a.dim() < dims:
        raise InputError(
            f"the two must have one shape with at least {dims} axes, not {tuple(a.shape)} and {tuple(b.shape)}."
        )
    axes = tuple(range(-dims, 0))
    return iou_of_sums((a * b).sum(dim=axes), a.sum(dim=axes), b.sum(dim=axes))


def iou_of_sums(both: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """(...) intersection over union of sums over all pixels: of the products, of one's values and of the other's."""
    return both / (one + other - both).clamp_min(1e-6)


def _number(values: Tensor) -> Tensor:
    if values.dtype not in (torch.bool, torch.float16, torch.bfloat16, torch.float32, torch.float64):
        raise InputError(f"values must be 0..1 or bool, not {values.dtype}; divide what has 0 to 255 by 255.")
    return values if values.dtype == torch.float64 else values.float()
