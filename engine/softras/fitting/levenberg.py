"""Levenberg-Marquardt for a chain of frames: each has parameters of its own, and all may share some.

The damped Gauss-Newton steps of Marquardt (1963), with bounds. Frames are coupled to their neighbours only, so the
equations are solved by elimination along the chain: the cost is linear in the number of frames.

What takes long is solved by torch, whose threads the rasterizer's other half uses too: those of numpy's library would
wait for the same processors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

CAP = 0.6  # a step moves no parameter by more units than this
ACCEPTED, REFUSED = 1 / 4, 5.0  # what the damping is multiplied by
TRIES = 6  # steps of growing damping before a minimum is believed


@dataclass
class Parameters:
    """F frames with P parameters each, and C that they share."""

    frames: np.ndarray  # (F, P)
    shared: np.ndarray  # (C,)

    def moved(self, step: Parameters) -> Parameters:
        """The sum of both."""
        return Parameters(self.frames + step.frames, self.shared + step.shared)


@dataclass
class Model:
    """What a sum of squares is near some parameters: cost + gradient . d + d . hessian d / 2.

    Attributes:
        cost: half the sum of squares.
        gradient: by frame (F, P) and of the shared parameters (C,).
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
        """Of no squares at all."""
        return cls(
            0.0,
            Parameters(np.zeros((frames, count)), np.zeros(shared)),
            np.zeros((frames, count, count)),
            np.zeros((max(frames - 1, 0), count)),
            np.zeros((frames, count, shared)),
            np.zeros((shared, shared)),
        )

    def held(self, frames: np.ndarray, shared: np.ndarray) -> Model:
        """The same where some parameters, given as bool (F, P) and (C,), do not move."""
        out = Model(
            self.cost,
            Parameters(np.where(frames, 0, self.gradient.frames), np.where(shared, 0, self.gradient.shared)),
            np.where(frames[:, :, None] | frames[:, None, :], 0, self.blocks),
            np.where(frames[1:] | frames[:-1], 0, self.links),
            np.where(frames[:, :, None] | shared, 0, self.arrow),
            np.where(shared[:, None] | shared, 0, self.corner),
        )
        diagonal = np.einsum("fii->fi", out.blocks)
        diagonal[frames] = 1
        np.fill_diagonal(out.corner, np.where(shared, 1, np.diagonal(out.corner)))
        return out

    def step(self, damping: float, units: Parameters) -> Parameters:
        """The minimum of the model with its diagonal grown by `damping` of itself. (F, P) and (C,)."""
        floor = 1e-6 * max(self.blocks.max(initial=0), self.corner.max(initial=0), 1e-300)
        blocks, corner = self.blocks.copy(), self.corner.copy()
        diagonal = np.einsum("fii->fi", blocks)
        diagonal += damping * (diagonal + floor / units.frames**2)
        np.fill_diagonal(corner, np.diagonal(corner) + damping * (np.diagonal(corner) + floor / units.shared**2))
        right = np.concatenate([self.arrow, self.gradient.frames[:, :, None]], axis=2)
        solved = solve_chain(blocks, self.links, right)
        inverse, minus = solved[:, :, :-1], -solved[:, :, -1]
        if not len(corner):
            return Parameters(minus, np.zeros(0))
        left = corner - np.einsum("fpc,fpd->cd", self.arrow, inverse)
        right = -self.gradient.shared - np.einsum("fpc,fp->c", self.arrow, minus)
        shared = torch.linalg.solve(torch.from_numpy(left), torch.from_numpy(right)).numpy()
        return Parameters(minus - np.einsum("fpc,c->fp", inverse, shared), shared)


def solve_chain(blocks: np.ndarray, links: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(F, P, K) x with blocks[f] x[f] + links[f] x[f + 1] + links[f - 1] x[f - 1] = right[f].

    Block elimination of a symmetric positive definite block-tridiagonal matrix.

    Args:
        blocks: (F, P, P).
        links: (F - 1, P) diagonals of the blocks beside them.
        right: (F, P, K).
    """
    factors: list[np.ndarray] = []
    rest: list[np.ndarray] = []
    for f, block in enumerate(blocks):
        now, matrix = right[f], block
        if f and links[f - 1].any():
            before = links[f - 1][:, None]
            matrix = block - before * _solved(factors[-1], np.diag(links[f - 1]))
            now = now - before * _solved(factors[-1], rest[-1])
        factors.append(torch.linalg.cholesky(torch.from_numpy(matrix)).numpy())
        rest.append(now)
    out = np.empty_like(right)
    for f in reversed(range(len(blocks))):
        now = rest[f]
        if f + 1 < len(blocks) and links[f].any():
            now = now - links[f][:, None] * out[f + 1]
        out[f] = _solved(factors[f], now)
    return out


def _solved(factor: np.ndarray, right: np.ndarray) -> np.ndarray:
    return torch.cholesky_solve(torch.from_numpy(right), torch.from_numpy(factor)).numpy()


class LevenbergMarquardt:
    """Minimizes a sum of squares step by step.

    Attributes:
        parameters: the best so far.
        cost: there; infinite before the first step.
    """

    def __init__(
        self, parameters: Parameters, lower: Parameters, upper: Parameters, units: Parameters, damping: float = 1e-2
    ) -> None:
        """lower, upper: bounds, infinite for none; units: typical sizes of the parameters."""
        self.parameters, self.cost = parameters, np.inf
        self._lower, self._upper, self._units, self._damping = lower, upper, units, damping

    def step(self, model: Model, cost: Callable[[Parameters], float]) -> bool:
        """One step; False when there is none that lowers the cost.

        Args:
            model: of the present parameters.
            cost: of any others.
        """
        self.cost = model.cost
        now = self.parameters
        held = [
            ((x <= low) & (g > 0)) | ((x >= high) & (g < 0))
            for x, low, high, g in (
                (now.frames, self._lower.frames, self._upper.frames, model.gradient.frames),
                (now.shared, self._lower.shared, self._upper.shared, model.gradient.shared),
            )
        ]
        model = model.held(*held)
        for _ in range(TRIES):
            step = self._capped(model.step(self._damping, self._units))
            trial = self._within(now.moved(step))
            found = cost(trial)
            if found < self.cost:
                self.parameters, self.cost = trial, found
                self._damping = max(self._damping * ACCEPTED, 1e-7)
                return True
            self._damping *= REFUSED
        return False

    def _capped(self, step: Parameters) -> Parameters:
        """Each frame's step, and the shared one, shortened to CAP."""
        frames = np.abs(step.frames / self._units.frames).max(axis=1, initial=0)
        shared = np.abs(step.shared / self._units.shared).max(initial=0)
        return Parameters(
            step.frames * (CAP / np.maximum(frames, CAP))[:, None], step.shared * (CAP / max(shared, CAP))
        )

    def _within(self, x: Parameters) -> Parameters:
        return Parameters(
            x.frames.clip(self._lower.frames, self._upper.frames), x.shared.clip(self._lower.shared, self._upper.shared)
        )
