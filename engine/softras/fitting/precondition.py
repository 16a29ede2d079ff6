"""Smooth steps for free vertices.

Nicolet, Jacobson, Jakob, "Large steps in inverse rendering of geometry", SIGGRAPH Asia 2021: instead of the
displacements d optimize u = (I + lambda L) d with the graph Laplacian L, which spreads the gradient at one vertex over
its neighbourhood, and step with Adam whose denominator is one number for all of u.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import scipy.sparse as sp
import torch
from cholespy import CholeskySolverD, CholeskySolverF, MatrixType
from torch import Tensor


class Preconditioner:
    """The map between displacements and smooth parameters, factorized once.

    cholespy (by the paper's authors, BSD, wheels for every platform) solves three times faster than scipy's splu and
    on CUDA too.
    """

    def __init__(self, laplacian: sp.csr_matrix, strength: float, *, device: torch.device, dtype: torch.dtype) -> None:
        """laplacian: (M, M) symmetric positive semi-definite; strength: lambda >= 0, 1 / entries of the Laplacian."""
        self._matrix = (sp.identity(laplacian.shape[0], format="csr") + strength * laplacian).tocoo()
        solver = CholeskySolverF if dtype == torch.float32 else CholeskySolverD
        row, column, value = (
            torch.as_tensor(x, device=device)
            for x in (self._matrix.row.astype(np.int32), self._matrix.col.astype(np.int32), self._matrix.data)
        )
        self._solver = solver(laplacian.shape[0], row, column, value, MatrixType.COO)
        self._sparse = torch.sparse_coo_tensor(
            torch.stack([row, column]).long(), value.to(dtype), self._matrix.shape, device=device
        ).coalesce()

    def encode(self, displacements: Tensor) -> Tensor:
        """u = (I + lambda L) d."""
        return self._sparse @ displacements

    def decode(self, parameters: Tensor) -> Tensor:
        """d = (I + lambda L)^-1 u, differentiable: the matrix is symmetric, so the gradient is solved for likewise."""
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


class AdamUniform(torch.optim.Optimizer):
    """Adam with the largest second moment of a block for all of the block (Nicolet et al. 2021, section 3.3)."""

    def __init__(self, parameters: Iterable[Tensor], lr: float, betas: tuple[float, float] = (0.9, 0.999)) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure=None) -> None:  # type: ignore[override]
        """One step along the gradients."""
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state.update(step=0, first=torch.zeros_like(parameter), second=torch.zeros_like(parameter))
                state["step"] += 1
                state["first"].lerp_(parameter.grad, 1 - b1)
                state["second"].mul_(b2).addcmul_(parameter.grad, parameter.grad, value=1 - b2)
                first = state["first"] / (1 - b1 ** state["step"])
                largest = (state["second"].max() / (1 - b2 ** state["step"])).sqrt()
                parameter.sub_(group["lr"] * first / largest.clamp_min(1e-30))
