"""The equations of a chain of frames: each frame has parameters of its own, and all frames may share some.

A frame is coupled to its neighbours only, so the equations are solved by elimination along the chain, and their cost is
linear in the number of frames.

Nothing here is left to a BLAS (see `raster/algebra.py`): products are numpy's own sums, einsum without `optimize`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...raster.algebra import Factor

# What is added to the diagonal of a matrix at least, as a share of the greatest number in it, for a parameter whose
# unit is 1. Parameters that nothing depends on have a zero there, and the equations would have no solution.
MIN_DIAGONAL = 3e-7


@dataclass(frozen=True, eq=False)
class Parameters:
    """Numbers of F frames with P each, and C that all frames share, in one vector.

    Attributes:
        vector: (F * P + C,) those of the first frame, of the second and so on, then the shared ones.
        shape: F and P.
    """

    vector: np.ndarray
    shape: tuple[int, int]

    @classmethod
    def of(cls, frames: np.ndarray, shared: np.ndarray) -> Parameters:
        """From (F, P) and (C,)."""
        return cls(np.concatenate([frames.ravel(), shared]), (frames.shape[0], frames.shape[1]))

    @property
    def frames(self) -> np.ndarray:
        """(F, P), in the memory of the vector."""
        return self.vector[: self.shape[0] * self.shape[1]].reshape(self.shape)

    @property
    def shared(self) -> np.ndarray:
        """(C,), in the memory of the vector."""
        return self.vector[self.shape[0] * self.shape[1] :]

    def like(self, vector: np.ndarray) -> Parameters:
        """Other numbers of the same frames."""
        return Parameters(vector, self.shape)


@dataclass(eq=False)
class Model:
    """What a sum of squares is near some parameters: cost + gradient . d + d . hessian d / 2.

    Attributes:
        cost: half the sum of squares.
        gradient: of F frames with P parameters, and of C shared ones.
        blocks: (F, P, P) of a frame with itself.
        links: (F - 1, P) diagonals of a frame with the next.
        arrow: (F, P, C) of a frame with the shared parameters.
        corner: (C, C) of the shared parameters with themselves.
    """

    cost: float
    gradient: Parameters
    blocks: np.ndarray
    links: np.ndarray
    arrow: np.ndarray
    corner: np.ndarray

    @classmethod
    def empty(cls, frames: int, count: int, shared: int) -> Model:
        """Of no squares at all: F frames, P parameters of each, C shared ones."""
        return cls(
            0.0,
            Parameters.of(np.zeros((frames, count)), np.zeros(shared)),
            np.zeros((frames, count, count)),
            np.zeros((max(frames - 1, 0), count)),
            np.zeros((frames, count, shared)),
            np.zeros((shared, shared)),
        )

    def held(self, still: np.ndarray) -> Model:
        """The same where some parameters do not move, given as a vector of bool."""
        both = self.gradient.like(still)
        frames, shared = both.frames, both.shared
        out = Model(
            self.cost,
            self.gradient.like(np.where(still, 0, self.gradient.vector)),
            np.where(frames[:, :, None] | frames[:, None, :], 0, self.blocks),
            np.where(frames[1:] | frames[:-1], 0, self.links),
            np.where(frames[:, :, None] | shared, 0, self.arrow),
            np.where(shared[:, None] | shared, 0, self.corner),
        )
        diagonal = np.einsum("fii->fi", out.blocks)
        diagonal[frames] = 1
        np.fill_diagonal(out.corner, np.where(shared, 1, np.diagonal(out.corner)))
        return out

    def times(self, step: np.ndarray) -> np.ndarray:
        """The hessian times a vector."""
        both = self.gradient.like(step)
        frames = np.einsum("fpq,fq->fp", self.blocks, both.frames)
        frames += np.einsum("fpc,c->fp", self.arrow, both.shared)
        frames[:-1] += self.links * both.frames[1:]
        frames[1:] += self.links * both.frames[:-1]
        shared = np.einsum("fpc,fp->c", self.arrow, both.frames) + np.einsum("cd,d->c", self.corner, both.shared)
        return Parameters.of(frames, shared).vector

    def minimum(self, damping: float, units: np.ndarray) -> np.ndarray:
        """The vector d of the model's minimum, its diagonal grown by `damping` of itself and by MIN_DIAGONAL.

        Raises LinAlgError where rounding leaves no curvature in some direction.

        Args:
            units: a vector of typical sizes of the parameters.
        """
        floor = MIN_DIAGONAL * max(self.blocks.max(initial=0), self.corner.max(initial=0), 1e-300)
        of = self.gradient.like(units)
        blocks, corner = self.blocks.copy(), self.corner.copy()
        diagonal = np.einsum("fii->fi", blocks)
        diagonal += damping * diagonal + floor / of.frames**2
        np.fill_diagonal(corner, np.diagonal(corner) * (1 + damping) + floor / of.shared**2)
        right = np.concatenate([self.arrow, self.gradient.frames[:, :, None]], axis=2)
        solved = solve_chain(blocks, self.links, right)
        inverse, minus = solved[:, :, :-1], -solved[:, :, -1]
        if not len(corner):
            return minus.ravel()
        left = corner - np.einsum("fpc,fpd->cd", self.arrow, inverse)
        right = -self.gradient.shared - np.einsum("fpc,fp->c", self.arrow, minus)
        shared = Factor(left).solve(right)
        return Parameters.of(minus - np.einsum("fpc,c->fp", inverse, shared), shared).vector


def solve_chain(blocks: np.ndarray, links: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(F, P, K) x with blocks[f] x[f] + links[f] x[f + 1] + links[f - 1] x[f - 1] = right[f].

    Block elimination of a symmetric positive definite block-tridiagonal matrix.

    Args:
        blocks: (F, P, P).
        links: (F - 1, P) diagonals of the blocks beside them.
        right: (F, P, K).
    """
    factors: list[Factor] = []
    rest: list[np.ndarray] = []
    for f, block in enumerate(blocks):
        now, matrix = right[f], block
        if f and links[f - 1].any():
            link = links[f - 1][:, None]
            matrix = block - link * factors[-1].solve(np.diag(links[f - 1]))
            now = now - link * factors[-1].solve(rest[-1])
        factors.append(Factor(matrix))
        rest.append(now)
    out = np.empty_like(right)
    for f in reversed(range(len(blocks))):
        now = rest[f]
        if f + 1 < len(blocks) and links[f].any():
            now = now - links[f][:, None] * out[f + 1]
        out[f] = factors[f].solve(now)
    return out
