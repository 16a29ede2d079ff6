"""Products of matrices and equations solved, in an order that the sizes alone decide: csrc/softras_algebra.cpp.

A BLAS or LAPACK gives other last bits with other threads, another place in memory or another setting of its own, and so
does torch for roots, sines and exponentials, which a library beside the BLAS computes. A search takes one way or
another for a last bit, so that what it computes goes through here. On a GPU, and where something is to be recorded or
transformed, torch computes.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from . import transforms
from .native import cpu
from .native.structures import ProductCall, SolveCall, SparseCall


def product(a: Tensor, b: Tensor) -> Tensor:
    """(..., M, N) a @ b for a (..., M, K) and b (..., K, N), with at most two dimensions before them."""
    if not plain(a, b):
        return a @ b
    if not cpu.available():
        return torch.from_numpy(np.einsum("...ik,...kj->...ij", a.numpy(), b.numpy()))
    before = a.shape[:-2] if a.shape[:-2] == b.shape[:-2] else torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    batch = (1, 1, *before)
    rows, depth, columns = a.shape[-2], a.shape[-1], b.shape[-1]
    out = a.new_empty(*batch[2:], rows, columns)
    b = b if b.stride(-1) == 1 or columns == 1 else b.contiguous()
    sizes = batch[-2:]
    call = ProductCall(
        torch.get_num_threads(),
        sizes,
        rows,
        depth,
        columns,
        _steps(a, sizes),
        a.stride(-2),
        a.stride(-1),
        _steps(b, sizes),
        b.stride(-2),
        *(x.data_ptr() for x in (a, b, out)),
    )
    cpu.run("product", a.dtype, call)
    return out


def sparse_product(starts: Tensor, indices: Tensor, values: Tensor, dense: Tensor) -> Tensor:
    """(M, D) the product of a sparse matrix (M, N) in compressed rows with (N, D).

    Args:
        starts: (M + 1,) int64, of the rows among the entries.
        indices: (E,) int64, columns of the entries.
        values: (E,).
        dense: (N, D) of the dtype of the values, on the CPU.
    """
    rows, columns = len(starts) - 1, dense.shape[1]
    values, dense = values.detach().contiguous(), dense.detach().contiguous()
    if not cpu.available():
        matrix = sp.csr_matrix((values.numpy(), indices.numpy(), starts.numpy()), shape=(rows, len(dense)))
        return torch.from_numpy(matrix @ dense.numpy())
    out = dense.new_empty(rows, columns)
    pointers = (x.data_ptr() for x in (starts, indices, values, dense, out))
    cpu.run("sparse_product", dense.dtype, SparseCall(torch.get_num_threads(), rows, columns, *pointers))
    return out


class Factor:
    """A symmetric positive definite matrix, ready for equations to be solved with it."""

    def __init__(self, matrix: np.ndarray) -> None:
        """matrix: (N, N) float64. Raises LinAlgError where it is not positive definite to rounding."""
        self._upper = np.array(matrix, dtype=np.float64, order="C")
        if not cpu.available():
            self._upper = np.linalg.cholesky(matrix).T.copy()
        elif self._run("factor", None):
            raise np.linalg.LinAlgError("the matrix is not positive definite")

    def solve(self, right: np.ndarray) -> np.ndarray:
        """(N,) or (N, K) x with matrix @ x = right."""
        out = np.array(right, dtype=np.float64, order="C")
        if not cpu.available():
            return np.linalg.solve(self._upper, np.linalg.solve(self._upper.T, out))
        self._run("solve", out)
        return out

    def _run(self, function: str, right: np.ndarray | None) -> int:
        size = len(self._upper)
        columns = 0 if right is None else right.size // max(1, size)
        place = None if right is None else right.ctypes.data
        return cpu.status_of(function, torch.float64, SolveCall(size, columns, self._upper.ctypes.data, place))


def cosine_and_sine(angles: Tensor) -> tuple[Tensor, Tensor]:
    """Both, of angles in radians."""
    turns = torch.polar(torch.ones_like(angles), angles)
    return turns.real, turns.imag


def exponential(x: Tensor) -> Tensor:
    """e to the power of x."""
    return (x * (1 / math.log(2))).exp2()


def root(x: Tensor) -> Tensor:
    """The square root of numbers of at least zero; of zero itself zero."""
    return 1 / x.rsqrt()


def plain(*tensors: Tensor) -> bool:
    """Whether these are numbers on the CPU, of which nothing is recorded, transformed or compiled."""
    return not (torch.compiler.is_compiling() or transforms.active(*tensors)) and all(
        type(x) in (Tensor, torch.nn.Parameter)
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and not (x.requires_grad and torch.is_grad_enabled())
        for x in tensors
    )


def _steps(x: Tensor, sizes: tuple[int, ...]) -> tuple[int, int]:
    """Strides of the two dimensions before the matrices; zero where all share one."""
    found = [0, 0]
    for k in range(1, min(x.dim() - 2, 2) + 1):
        found[-k] = x.stride(-2 - k) if x.shape[-2 - k] > 1 else 0
    return found[0], found[1]
