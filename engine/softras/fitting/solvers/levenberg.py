"""Levenberg-Marquardt for a chain of frames: each has parameters of its own, and all may share some.

The damped Gauss-Newton steps of Marquardt (1963), with bounds. Frames are coupled to their neighbours only, so the
equations are solved by elimination along the chain: the cost is linear in the number of frames.

Nothing here is left to a BLAS (see `raster/algebra.py`): products are numpy's own sums, einsum without `optimize`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ...raster.algebra import Factor

CAP = 0.6  # a step moves no parameter by more units than this
ACCEPTED, REFUSED = 1 / 4, 5.0  # what the damping is multiplied by
FARTHER, LONGEST = 4.0, 64.0  # a step is lengthened by at most the one at once, to at most the other
LEAST = 1e-5  # damping; with less, so many tries would not shorten a capped step
TRIES = 6  # steps of growing damping before a minimum is believed


@dataclass(eq=False)
class Parameters:
    """F frames with P parameters each, and C that they share."""

    frames: np.ndarray  # (F, P)
    shared: np.ndarray  # (C,)

    def moved(self, step: Parameters) -> Parameters:
        """The sum of both."""
        return Parameters(self.frames + step.frames, self.shared + step.shared)

    def times(self, factor: float) -> Parameters:
        """All of them times a number."""
        return Parameters(factor * self.frames, factor * self.shared)

    def dot(self, other: Parameters) -> float:
        """The sum of the products."""
        return float((self.frames * other.frames).sum() + (self.shared * other.shared).sum())


@dataclass(eq=False)
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

    def times(self, step: Parameters) -> Parameters:
        """The hessian times a step."""
        frames = np.einsum("fpq,fq->fp", self.blocks, step.frames)
        frames += np.einsum("fpc,c->fp", self.arrow, step.shared)
        frames[:-1] += self.links * step.frames[1:]
        frames[1:] += self.links * step.frames[:-1]
        shared = np.einsum("fpc,fp->c", self.arrow, step.frames) + np.einsum("cd,d->c", self.corner, step.shared)
        return Parameters(frames, shared)

    def step(self, damping: float, units: Parameters) -> Parameters:
        """The minimum of the model with its diagonal grown by `damping` of itself, and a little. (F, P) and (C,)."""
        floor = 3e-7 * max(self.blocks.max(initial=0), self.corner.max(initial=0), 1e-300)
        blocks, corner = self.blocks.copy(), self.corner.copy()
        diagonal = np.einsum("fii->fi", blocks)
        diagonal += damping * diagonal + floor / units.frames**2
        np.fill_diagonal(corner, np.diagonal(corner) * (1 + damping) + floor / units.shared**2)
        right = np.concatenate([self.arrow, self.gradient.frames[:, :, None]], axis=2)
        solved = solve_chain(blocks, self.links, right)
        inverse, minus = solved[:, :, :-1], -solved[:, :, -1]
        if not len(corner):
            return Parameters(minus, np.zeros(0))
        left = corner - np.einsum("fpc,fpd->cd", self.arrow, inverse)
        right = -self.gradient.shared - np.einsum("fpc,fp->c", self.arrow, minus)
        shared = Factor(left).solve(right)
        return Parameters(minus - np.einsum("fpc,c->fp", inverse, shared), shared)


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
            before = links[f - 1][:, None]
            matrix = block - before * factors[-1].solve(np.diag(links[f - 1]))
            now = now - before * factors[-1].solve(rest[-1])
        factors.append(Factor(matrix))
        rest.append(now)
    out = np.empty_like(right)
    for f in reversed(range(len(blocks))):
        now = rest[f]
        if f + 1 < len(blocks) and links[f].any():
            now = now - links[f][:, None] * out[f + 1]
        out[f] = factors[f].solve(now)
    return out


class LevenbergMarquardt:
    """Minimizes a sum of squares step by step.

    Silhouettes sharper than a pixel bend the sum of squares ten times as much as what they are averaged over, so that
    Gauss-Newton steps are many times too short in the right direction: steps are lengthened while that helps.

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
        self._stride = 1.0

    def step(self, model: Model, cost: Callable[[Parameters], float]) -> bool:
        """One step; False when there is none that lowers the cost.

        Args:
            model: of the present parameters.
            cost: of any others.
        """
        self.cost = model.cost
        now = self.parameters
        held = [
            ((x <= low) & (g > 0)) | ((x >= high) & (g < 0)) | (low == high)
            for x, low, high, g in (
                (now.frames, self._lower.frames, self._upper.frames, model.gradient.frames),
                (now.shared, self._lower.shared, self._upper.shared, model.gradient.shared),
            )
        ]
        for _ in range(TRIES):
            try:
                step = self._bounded(model, held)
            except np.linalg.LinAlgError:  # rounding left no curvature in some direction
                self._damping = max(1e-4, self._damping * REFUSED)
                continue
            trial, found = self._tried(step, self._stride, cost)
            if found < self.cost:
                self._lengthened(step, model.gradient.dot(step), trial, found, cost)
                self._damping = max(self._damping * ACCEPTED, LEAST)
                return True
            if self._stride > 1:
                self._stride = max(1.0, self._stride / 4)
            else:
                self._damping *= REFUSED
        return False

    def _tried(self, step: Parameters, stride: float, cost: Callable[[Parameters], float]) -> tuple[Parameters, float]:
        """Where so many times the step leads to, and the cost there."""
        trial = self._within(self.parameters.moved(self._capped(step.times(stride))))
        return trial, cost(trial)

    def _lengthened(
        self, step: Parameters, slope: float, trial: Parameters, found: float, cost: Callable[[Parameters], float]
    ) -> None:
        """Take the trial; or where the parabola through both costs, with the slope at the start, has its minimum."""
        stride = self._stride
        bend = (found - self.cost - slope * stride) / stride**2
        best = -slope / (2 * bend) if bend > 0 else np.inf
        longer = min(best, FARTHER * stride, LONGEST)
        if longer > 1.5 * stride:
            further, cheaper = self._tried(step, longer, cost)
            if cheaper < found:
                trial, found, stride = further, cheaper, longer
        self.parameters, self.cost = trial, found
        self._stride = max(1.0, min(stride, best))

    def _bounded(self, model: Model, held: list[np.ndarray]) -> Parameters:
        """A step; what it would take over a bound goes to the bound, and the rest makes the best of that."""
        step = self._capped(model.held(*held).step(self._damping, self._units))
        goal = self.parameters.moved(step)
        kept = self._within(goal)
        over = [goal.frames != kept.frames, goal.shared != kept.shared]
        if not (over[0].any() or over[1].any()):
            return step
        now = self.parameters
        fixed = Parameters(
            np.where(over[0], kept.frames - now.frames, 0.0), np.where(over[1], kept.shared - now.shared, 0.0)
        )
        bend = model.times(fixed)
        left = replace(model, gradient=model.gradient.moved(bend))
        rest = left.held(held[0] | over[0], held[1] | over[1]).step(self._damping, self._units)
        return self._capped(rest).moved(fixed)

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
