"""Sums in an order that the shapes decide and not the threads: the same bits for any number of them.

Left to torch, a sum is cut among the threads, BLAS (matmul, einsum) adds in whatever order is fast on the processor,
and the gradients of `x[index]` are added by whichever thread comes first.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

ROW = 1024  # numbers; of fewer than 32768, torch has one thread take the sum


def total(values: Tensor, dim: int) -> Tensor:
    """The sum over one dimension, by halves, which rounds less than one number after another would."""
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
    """The sum of all, in rows that no two threads share."""
    values = values.flatten()
    while len(values) > ROW:
        values = torch.nn.functional.pad(values, (0, -len(values) % ROW)).view(-1, ROW).sum(1)
    return values.sum()


def spread(values: Tensor, dim: int, count: int) -> Tensor:
    """The same values `count` times along a new dimension, whose gradients are added up by :func:`total`.

    Inside torch.compile, which takes no function with a forward mode, they are added up as the compiler likes.
    """
    dim = dim % (values.dim() + 1)
    if torch.compiler.is_compiling():
        return _spread(values, dim, count)
    return _Spread.apply(values, dim, count)


def _spread(values: Tensor, dim: int, count: int) -> Tensor:
    sizes = list(values.shape)
    return values.unsqueeze(dim).expand(*sizes[:dim], count, *sizes[dim:])


def rows(table: Tensor, index: Tensor, dim: int = 0) -> Tensor:
    """`table[index]`, along any dimension of it; the gradients of a row are added up in the order of the index."""
    return table.index_select(dim, index.reshape(-1)).unflatten(dim, index.shape)


def transformed(points: Tensor, matrix: Tensor) -> Tensor:
    """Points (..., P, 3) by a matrix (..., n, 3), or (..., n, 4) whose last column is added: (..., P, n)."""
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
        ctx.dim, ctx.count = inputs[1:]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return total(gradients[0], ctx.dim), None, None

    @staticmethod
    def jvp(ctx: Any, values: Tensor, *_: None) -> Tensor:
        return spread(values, ctx.dim, ctx.count)
