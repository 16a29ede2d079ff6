"""Linear algebra in an order that depends on sizes alone: products of matrices, and equations (softras_algebra.cpp).

The last bits of a BLAS or LAPACK change with the number of threads, the alignment of memory and its own settings; so do
PyTorch's square roots, sines and exponentials, which come from the vector library beside the BLAS. The last bit decides
between two almost equal candidates of a search, so whatever a search computes goes through this module. On a GPU, and
where autograd, a transform or a compiler is recording, PyTorch computes.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from . import transforms
from .native import cpu
from .native.structures import ProductCall, SolveCall, SparseCall, packer

_product_call = packer(ProductCall)


def product(a: Tensor, b: Tensor) -> Tensor:
    """(..., M, N) the product a @ b of a (..., M, K) and b (..., K, N) with at most two batch dimensions."""
    if not plain(a, b):
        return a @ b
    if not cpu.available():
        return torch.from_numpy(np.einsum("...ik,...kj->...ij", a.numpy(), b.numpy()))
    shape, other = a.shape, b.shape
    given = shape[:-2] if shape[:-2] == other[:-2] else np.broadcast_shapes(shape[:-2], other[:-2])
    rows, depth, columns = shape[-2], shape[-1], other[-1]
    out = a.new_empty((*given, rows, columns))
    steps = b.stride()
    if steps[-1] != 1 and columns != 1:
        b = b.contiguous()
        steps = b.stride()
    sizes = (1, 1, *given)[-2:]
    call = _product_call(
        torch.get_num_threads(),
        *sizes,
        rows,
        depth,
        columns,
        *_batch_steps(shape, a.stride()),
        *a.stride()[-2:],
        *_batch_steps(other, steps),
        steps[-2],
        a.data_ptr(),
        b.data_ptr(),
        out.data_ptr(),
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
    """The Cholesky factor of a symmetric positive definite matrix, with which equations are solved."""

    def __init__(self, matrix: np.ndarray) -> None:
        """Factor a matrix (N, N) of float64. Raises LinAlgError if rounding leaves it not positive definite."""
        self._upper = np.array(matrix, dtype=np.float64, order="C")
        if not cpu.available():
            self._upper = np.linalg.cholesky(matrix).T.copy()
        elif self._run("factor", None):
            raise np.linalg.LinAlgError("the matrix is not positive definite")

    def solve(self, right: np.ndarray) -> np.ndarray:
        """The solution x, (N,) or (N, K), of matrix @ x = right."""
        out = np.array(right, dtype=np.float64, order="C")
        if not cpu.available():
            return np.linalg.solve(self._upper, np.linalg.solve(self._upper.T, out))
        self._run("solve", out)
        return out

    def _run(self, function: str, right: np.ndarray | None) -> int:
        size = len(self._upper)
        columns = 0 if right is None else right.size // max(1, size)
        pointer = None if right is None else right.ctypes.data
        return cpu.status_of(function, torch.float64, SolveCall(size, columns, self._upper.ctypes.data, pointer))


def cosine_and_sine(angles: Tensor) -> tuple[Tensor, Tensor]:
    """The cosines and the sines of angles in radians."""
    turns = torch.polar(torch.ones_like(angles), angles)
    return turns.real, turns.imag


def exponential(x: Tensor) -> Tensor:
    """The exponential function."""
    return (x * (1 / math.log(2))).exp2()


def root(x: Tensor) -> Tensor:
    """The square roots of numbers that are zero or positive."""
    return 1 / x.rsqrt()


def plain(*tensors: Tensor) -> bool:
    """Whether all tensors are on the CPU, of floats, and not being recorded, transformed or compiled."""
    if torch.compiler.is_compiling() or transforms.active(*tensors):
        return False
    recording = torch.is_grad_enabled()
    for x in tensors:
        if type(x) not in (Tensor, torch.nn.Parameter) or not x.is_cpu or x.dtype not in (torch.float32, torch.float64):
            return False
        if recording and x.requires_grad:
            return False
    return True


def _batch_steps(shape: tuple[int, ...], steps: tuple[int, ...]) -> tuple[int, int]:
    """The strides of the two batch dimensions in front of the matrices; zero where all share one matrix."""
    count = len(shape)
    if count == 2:
        return 0, 0
    inner = steps[-3] if shape[-3] > 1 else 0
    return (steps[-4] if count > 3 and shape[-4] > 1 else 0), inner
