"""Sparse matrices as differentiable maps."""

from __future__ import annotations

import warnings

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor


class SparseMap:
    """x -> A x for a constant sparse A; torch's own backward pass of that product is twenty times slower."""

    def __init__(
        self, matrix: sp.spmatrix, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        """matrix: (M, N)."""
        self._matrix = _csr(sp.csr_matrix(matrix), device, dtype)
        self._transposed = _csr(sp.csr_matrix(matrix.T), device, dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """(M, D) the product with (N, D)."""
        return _Product.apply(x, self._matrix, self._transposed)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, matrix: Tensor, transposed: Tensor) -> Tensor:
        ctx.transposed = transposed
        return matrix @ x

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return ctx.transposed @ gradient, None, None


def _csr(matrix: sp.csr_matrix, device: torch.device | str, dtype: torch.dtype) -> Tensor:
    rows, columns = (torch.as_tensor(x.astype(np.int64)) for x in (matrix.indptr, matrix.indices))
    values, size = torch.as_tensor(matrix.data), list(matrix.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch calls its CSR support a beta
        return torch.sparse_csr_tensor(rows, columns, values, size, device=device, dtype=dtype, check_invariants=False)
