"""Sums in an order that depends on shapes alone, which therefore have the same bits for any number of threads.

PyTorch divides a sum among its threads, a BLAS (matmul, einsum) adds in the order that is fast on the processor, and
the gradients of `x[index]` are added by whichever thread comes first.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

ROW = 1024  # numbers that are added by one thread: PyTorch divides only sums of 32768 numbers and more


def total(values: Tensor, dim: int) -> Tensor:
    """The sum over one dimension by pairwise summation: the second half is added to the first until one is left."""
    count = values.shape[dim]
    if count == 0:
        return values.sum(dim)
    while count > 1:
        half = count // 2
        rest = values.narrow(dim, 2 * half, count - 2 * half)
        values = values.narrow(dim, 0, half) + values.narrow(dim, half, half)
        values = torch.cat([values, rest], dim) if rest.shape[dim] else values
        count -= half
    return values.squeeze(dim)


def whole(values: Tensor) -> Tensor:
    """The sum of all numbers, taken row by row so that no row is divided among threads."""
    values = values.flatten()
    while len(values) > ROW:
        values = torch.nn.functional.pad(values, (0, -len(values) % ROW)).view(-1, ROW).sum(1)
    return values.sum()


def spread(values: Tensor, dim: int, count: int) -> Tensor:
    """The values repeated `count` times along a new dimension; `total` adds up the gradients of the repetitions.

    torch.compile takes no autograd function with a forward mode; inside it the compiler chooses the order of that sum.
    """
    dim = dim % (values.dim() + 1)
    if torch.compiler.is_compiling():
        return _spread(values, dim, count)
    return _Spread.apply(values, dim, count)


def _spread(values: Tensor, dim: int, count: int) -> Tensor:
    sizes = list(values.shape)
    return values.unsqueeze(dim).expand(*sizes[:dim], count, *sizes[dim:])


def rows(table: Tensor, index: Tensor, dim: int = 0) -> Tensor:
    """`table[index]` along any dimension of the table. The gradients of a row are added in the order of the index."""
    return table.index_select(dim, index.reshape(-1)).unflatten(dim, index.shape)


def transformed(points: Tensor, matrix: Tensor) -> Tensor:
    """(..., P, n) points (..., P, 3) multiplied by a matrix (..., n, 3), or (..., n, 4) whose last column is added."""
    each = spread(matrix, -3, points.shape[-2])  # (..., P, n, 3 or 4)
    x, y, z = (points[..., None, k] * each[..., k] for k in range(3))
    return x + y + z if matrix.shape[-1] == 3 else x + y + z + each[..., 3]


class _Spread(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(values: Tensor, dim: int, count: int) -> Tensor:
        return _spread(values, dim, count)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        _, ctx.dim, ctx.count = inputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return total(gradients[0], ctx.dim), None, None

    @staticmethod
    def jvp(ctx: Any, values: Tensor, *_: None) -> Tensor:
        return spread(values, ctx.dim, ctx.count)
