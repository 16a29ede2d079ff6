"""The normal equations of a sequence of frames: each frame has parameters of its own, and all frames may share some.

The matrix of these equations is a block arrow. Each frame is coupled only to the frames beside it and to the shared
parameters, so block elimination along the sequence solves the equations in time linear in the number of frames.

Products are numpy's own sums (einsum without `optimize`), never a BLAS, whose bits depend on the number of threads (see
`raster/algebra.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...raster.algebra import Factor

# A parameter that nothing depends on has a zero on the matrix's diagonal, so that the equations would have no solution.
# At least this share of the largest number in the matrix is therefore added to the diagonal (over the unit squared).
MIN_DIAGONAL = 3e-7


@dataclass(frozen=True, eq=False)
class Parameters:
    """The P parameters of each of F frames, and the C parameters that all frames share, in one vector.

    Attributes:
        vector: (F * P + C,) the parameters of the first frame, of the second and so on, then the shared ones.
        shape: F and P.
    """

    vector: np.ndarray
    shape: tuple[int, int]

    @classmethod
    def of(cls, frames: np.ndarray, shared: np.ndarray) -> Parameters:
        """From those of the frames (F, P) and the shared ones (C,)."""
        return cls(np.concatenate([frames.ravel(), shared]), (frames.shape[0], frames.shape[1]))

    @property
    def frames(self) -> np.ndarray:
        """(F, P) those of the frames, in the memory of the vector."""
        return self.vector[: self.shape[0] * self.shape[1]].reshape(self.shape)

    @property
    def shared(self) -> np.ndarray:
        """(C,) the shared ones, in the memory of the vector."""
        return self.vector[self.shape[0] * self.shape[1] :]

    def like(self, vector: np.ndarray) -> Parameters:
        """Another vector, divided into frames and shared ones as this one is."""
        return Parameters(vector, self.shape)


@dataclass(eq=False)
class Model:
    """Half a sum of squares at a step d from some parameters, to second order: cost + gradient . d + d . Hessian d / 2.

    The Hessian is stored by its blocks; all others are zero.

    Attributes:
        cost: the value at d = 0.
        gradient: the derivatives of the value, for the P parameters of each of F frames and the C shared ones.
        blocks: (F, P, P) block of each frame with itself.
        links: (F - 1, P) diagonal of each frame's block with the next frame; off this diagonal that block is zero.
        arrow: (F, P, C) block of each frame with the shared parameters.
        corner: (C, C) block of the shared parameters with themselves.
    """

    cost: float
    gradient: Parameters
    blocks: np.ndarray
    links: np.ndarray
    arrow: np.ndarray
    corner: np.ndarray

    @classmethod
    def empty(cls, frames: int, count: int, shared: int) -> Model:
        """The model of an empty sum, of `frames` frames with `count` parameters each and `shared` shared ones."""
        return cls(
            0.0,
            Parameters.of(np.zeros((frames, count)), np.zeros(shared)),
            np.zeros((frames, count, count)),
            np.zeros((max(frames - 1, 0), count)),
            np.zeros((frames, count, shared)),
            np.zeros((shared, shared)),
        )

    def held(self, still: np.ndarray) -> Model:
        """The model in which some parameters do not move; `still` is a vector of bool, True for these."""
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
        """The Hessian times a vector."""
        both = self.gradient.like(step)
        frames = np.einsum("fpq,fq->fp", self.blocks, both.frames)
        frames += np.einsum("fpc,c->fp", self.arrow, both.shared)
        frames[:-1] += self.links * both.frames[1:]
        frames[1:] += self.links * both.frames[:-1]
        shared = np.einsum("fpc,fp->c", self.arrow, both.frames) + np.einsum("cd,d->c", self.corner, both.shared)
        return Parameters.of(frames, shared).vector

    def minimum(self, damping: float, units: np.ndarray) -> np.ndarray:
        """The step d to the minimum of the damped model, whose Hessian's diagonal is larger by `damping` times itself.

        Raises LinAlgError where the Hessian, by rounding, is not positive definite.

        Args:
            damping: 0 or more; the step is shorter the larger it is.
            units: a vector with the typical size of each parameter.
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
    """The solution x (F, P, K) of blocks[f] x[f] + links[f] x[f + 1] + links[f - 1] x[f - 1] = right[f] for every f.

    Block elimination of a symmetric positive definite, block-tridiagonal matrix.

    Args:
        blocks: (F, P, P) blocks on the diagonal.
        links: (F - 1, P) diagonals of the blocks beside these, which are diagonal matrices.
        right: (F, P, K) right sides.
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
