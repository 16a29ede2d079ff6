"""The optimizer of free vertices, whose steps are smooth over the surface.

Nicolet, Jacobson, Jakob, "Large steps in inverse rendering of geometry", SIGGRAPH Asia 2021. In place of the
displacements d of the vertices, the parameters are u = (I + lambda L) d with the graph Laplacian L. A step of u spreads
the gradient at one vertex over its neighbourhood. The steps are Adam's, with one denominator for all of u.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from cholespy import CholeskySolverD, CholeskySolverF, MatrixType
from torch import Tensor

from ...geometry.sparse import SparseMap
from ...raster.algebra import root


class Preconditioner:
    """The map from displacements d to parameters u and back; its matrix I + lambda L is factorized once.

    The solver is cholespy (by the paper's authors, BSD, wheels for every platform): it is three times faster than
    scipy's splu, and it runs on CUDA too.

    Attributes:
        encode: u = (I + lambda L) d.
    """

    def __init__(self, laplacian: sp.csr_matrix, strength: float, *, device: torch.device, dtype: torch.dtype) -> None:
        """laplacian: L (M, M), symmetric and positive semi-definite; strength: lambda, 0 or more."""
        matrix = (sp.identity(laplacian.shape[0], format="csr") + strength * laplacian).tocoo()
        solver = CholeskySolverF if dtype == torch.float32 else CholeskySolverD
        row, column, value = (
            torch.as_tensor(x, device=device)
            for x in (matrix.row.astype(np.int32), matrix.col.astype(np.int32), matrix.data)
        )
        self._solver = solver(laplacian.shape[0], row, column, value, MatrixType.COO)
        self.encode = SparseMap(matrix, device=device, dtype=dtype)

    def decode(self, parameters: Tensor) -> Tensor:
        """d = (I + lambda L)^-1 u, differentiable. The matrix is symmetric, so the same solver gives the gradient."""
        return _Solve.apply(parameters, self._solver)


class _Solve(torch.autograd.Function):
    @staticmethod
    def forward(ctx, right: Tensor, solver) -> Tensor:
        ctx.solver = solver
        return _solve(solver, right)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return _solve(ctx.solver, gradient), None


def _solve(solver, right: Tensor) -> Tensor:
    right = right.detach().contiguous()
    result = torch.empty_like(right)
    solver.solve(right, result)
    return result


class Adam:
    """Adam (Kingma and Ba 2015), whose step is divided by the root of the largest second moment of all parameters.

    That one divisor (Nicolet et al., section 3.3) leaves the directions of the steps as they are. torch.optim has no
    such Adam, and takes a second to load.
    """

    def __init__(self, parameters: Tensor) -> None:
        self._parameters, self._steps = parameters, 0
        self._first, self._second = torch.zeros_like(parameters), torch.zeros_like(parameters)

    @torch.no_grad()
    def step(self, rate: float, b1: float = 0.9, b2: float = 0.999) -> None:
        """Take one step of length `rate` down the gradient, and drop the gradient."""
        self._steps += 1
        gradient = self._parameters.grad
        if gradient is None:
            return
        # Products and sums are separate calls. A fused multiply-add rounds once less, and torch uses it everywhere but
        # where a thread's share of the tensor ends, so that the bits would depend on the number of threads.
        self._first.mul_(b1).add_((1 - b1) * gradient)
        self._second.mul_(b2).add_((1 - b2) * gradient.square())
        size = self._second.max() / (1 - b2**self._steps)
        self._parameters -= rate / (1 - b1**self._steps) * self._first / root(size).clamp_min(1e-30)
        self.forget()

    def forget(self) -> None:
        """Drop the gradient."""
        self._parameters.grad = None
