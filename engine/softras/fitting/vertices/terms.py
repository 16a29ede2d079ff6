"""The summands of a fit's objective, each one function.

Lengths are in object sizes. Every mesh term is a mean, so that its weight does not depend on the vertex count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ...geometry.normals import corners
from ...geometry.smoothness import edge_lengths, hinge_cosines
from ...geometry.topology import Topology
from ...raster.sums import whole

LARGEST_DISTORTION = 100.0


def silhouette_iou_loss(alpha: Tensor, masks: Sequence[Tensor]) -> Tensor:
    """(N,) one minus the soft intersection over union of silhouettes and masks.

    1 - sum(k a t) / sum(k (a + t - a t)) over the pixels of a view, with silhouette a (N, H, W), mask t and
    knownness k, all in 0..1. Liu et al., "Soft Rasterizer", ICCV 2019, eq. 8.

    Args:
        masks: for each view (2, H, W): k t, and k.
    """
    both, seen = _Sums.apply(alpha, masks).unbind(dim=1)
    wanted = torch.stack([whole(mask[0]) for mask in masks])
    return 1 - both / (seen + wanted - both).clamp_min(1e-6)


def silhouette_squared(alpha: Tensor, masks: Sequence[Tensor]) -> Tensor:
    """(N,) squared difference of silhouettes and masks, relative to the mask's area.

    sum((k a - k t)^2) / sum(k t) over the pixels of a view; arguments as in `silhouette_iou_loss`.
    """
    wanted = torch.stack([whole(mask[0]) for mask in masks])
    return _Squares.apply(alpha, masks) / wanted.clamp_min(1e-6)


def laplacian(moved: Tensor, operator: Callable[[Tensor], Tensor], edge: float) -> Tensor:
    """Mean squared distance of a vertex from the middle of its neighbours, in edge lengths.

    mean |L x|^2 / edge^2 with the random-walk graph Laplacian L = I - D^-1 A (V, V) and x (V, 3): the vertices, or
    their displacements, which keeps the mesh's own detail. Sorkine et al., "Laplacian surface editing", SGP 2004.
    """
    return _mean(operator(moved).square().sum(dim=1)) / edge**2


def bilaplacian(moved: Tensor, operator: Callable[[Tensor], Tensor], edge: float) -> Tensor:
    """Mean squared Laplacian of the Laplacian, in edge lengths: smooth bends cost little, noise costs much.

    mean |L L x|^2 / edge^2; L and x as in `laplacian`. Kobbelt et al., "Interactive multi-resolution modeling",
    SIGGRAPH 1998.
    """
    return _mean(operator(operator(moved)).square().sum(dim=1)) / edge**2


def normal_consistency(vertices: Tensor, topology: Topology, rest: Tensor | None = None) -> Tensor:
    """Mean of 1 - cos(angle between the normals) over the hinges; with `rest`, only what folds further costs.

    Without rest, `softras.normal_consistency_loss`. With it mean max(0, cos(rest) - cos(angle)): the artist's creases
    are free.

    Args:
        rest: (H,) cosines of the hinges at rest.
    """
    if rest is None:
        return _mean(1 - hinge_cosines(vertices, topology))
    return _mean((rest - hinge_cosines(vertices, topology)).clamp_min(0))


def edge_length(vertices: Tensor, topology: Topology, lengths: Tensor) -> Tensor:
    """Mean squared relative change of the edges' lengths.

    mean ((|e| - l) / l)^2 over edges with wanted lengths l (E,). Wang et al., "Pixel2Mesh", ECCV 2018, has the same
    with l = 0.
    """
    return _mean(((edge_lengths(vertices, topology.edges) - lengths) / lengths).square())


def distortion(vertices: Tensor, faces: Tensor, cotangents: Tensor) -> Tensor:
    """Mean of how much the faces are sheared: 0 where they keep their angles, up to 10^4 where one collapses.

    mean (q - 1)^2 with q = s / A, where s = sum_i cot(theta_i) |e_i|^2 / 4 and A is the face's area: q is the conformal
    energy of the map from the face at rest, 1 where it is a similarity and greater elsewhere (here: up to 100).
    Hormann and Greiner, "MIPS: an efficient global parametrization method", 2000; Pinkall and Polthier, 1993.

    Args:
        cotangents: (F, 3) of the angles at rest, `softras.geometry.smoothness.cotangents`; edge i is the one from
            corner i + 1 to i + 2.
    """
    a, b, c = corners(vertices, faces)
    squares = torch.stack([(x - y).square().sum(dim=1) for x, y in ((c, b), (a, c), (b, a))], dim=1)
    energy = (cotangents * squares).sum(dim=1) / 4
    area = torch.linalg.cross(b - a, c - a).norm(dim=1) / 2
    bounded = energy / (area + energy / LARGEST_DISTORTION).clamp_min(1e-15)
    return _mean(torch.where(energy > 0, bounded - 1 / (1 + 1 / LARGEST_DISTORTION), 0).square())


def _mean(values: Tensor) -> Tensor:
    return whole(values) / len(values)


class _Sums(torch.autograd.Function):
    """(N, K) sums over pixels of alpha (N, H, W) times the K images (K, H, W) of its view.

    One pass over the pixels forward and one back: at 512 x 512 half of a step went into this as plain products.
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
    """(N,) sum over pixels of (k a - k t)^2, in as few passes."""

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
    """(K,) sums over the pixels of an image (H, W) times others (K, H, W), row by row; no BLAS on the CPU."""
    if image.device.type != "cpu":
        return others.flatten(1) @ image.flatten()
    return torch.from_numpy(np.einsum("khw,hw->kh", others.numpy(), image.numpy()).sum(axis=1))
