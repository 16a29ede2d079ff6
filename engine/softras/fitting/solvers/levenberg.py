"""Levenberg-Marquardt: damped Gauss-Newton steps (Marquardt 1963) down a sum of squares, with bounds.

Three parts: the step that a model of the sum of squares asks for (`_bounded`, from `chain.Model`), how far to go along
it (`step`, `_lengthened`), and when to end and why (`descend`).

Silhouettes sharper than a pixel bend the sum of squares ten times as much as what they are averaged over, so that
Gauss-Newton steps are many times too short in the right direction: steps are lengthened while that helps.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from .chain import Model, Parameters

MAX_STEP = 0.6  # No step moves a parameter by more than this many of its units: there the model no longer holds.
FIRST_DAMPING = 1e-2  # The diagonal of the first model is grown by this share of itself.
LESS_DAMPING = 1 / 4  # The damping is multiplied by this after a step that lowered the cost,
MORE_DAMPING = 5.0  # and by this after one that did not.
MIN_DAMPING = 1e-5  # It never falls below this: with less, so many tries would not shorten a step of MAX_STEP.
MAX_LENGTHENING = 4.0  # A step is made at most so many times longer than the one before,
MAX_STRIDE = 64.0  # and at most so many times longer than the model asks for.
MIN_LENGTHENING = 1.5  # It is not worth another cost where it would become less than so many times longer.
MAX_TRIES = 6  # So many steps of growing damping may fail before a minimum is believed.
SLOW = 1e-3  # A step is slow when it lowers the cost by less than this share of it.
MAX_SLOW = 2  # So many slow steps in a row end a descent.

Cost = Callable[[Parameters], float]


@dataclass(frozen=True, eq=False)
class Limits:
    """Where parameters may be, and their scale: vectors like that of the parameters.

    Attributes:
        lower, upper: bounds, infinite for none; a parameter whose bounds are equal does not move.
        units: typical sizes.
    """

    lower: np.ndarray
    upper: np.ndarray
    units: np.ndarray


@dataclass(frozen=True, eq=False)
class State:
    """Where a descent is.

    Attributes:
        x: the parameters.
        cost: there; infinite before the first step.
        damping: of the next step.
        stride: how many times longer than its model asks for the last step was taken.
    """

    x: Parameters
    cost: float = np.inf
    damping: float = FIRST_DAMPING
    stride: float = 1.0


class Ended(Enum):
    """Why a descent is over."""

    MINIMUM = "no step lowers the cost"
    SLOW = "steps hardly lower the cost"
    STEPS = "all steps are taken"


def descend(
    start: Parameters, squares: Callable[[Parameters], tuple[Model, Cost]], limits: Limits, steps: int
) -> Generator[State, None, tuple[State, Ended]]:
    """The states after every step, at most so many; returns the last one, and why it is the last.

    Args:
        squares: the model near some parameters, and the function that gives the cost of others. It is asked before
            every step, since what is minimized may change from step to step.
    """
    state, slow = State(start), 0
    for _ in range(steps):
        model, cost = squares(state.x)
        after = step(state, model, cost, limits)
        if after is None:
            return state, Ended.MINIMUM
        slow = slow + 1 if after.cost > state.cost * (1 - SLOW) else 0
        state = after
        yield state
        if slow >= MAX_SLOW:
            return state, Ended.SLOW
    return state, Ended.STEPS


def step(state: State, model: Model, cost: Cost, limits: Limits, *, max_stride: float = MAX_STRIDE) -> State | None:
    """The state after one step; None where no step lowers the cost.

    Args:
        model: near the parameters of the state.
        cost: of any others.
        max_stride: 1 for steps that are never lengthened.
    """
    now, slope = state.x.vector, model.gradient.vector
    low, high = limits.lower, limits.upper
    held = ((now <= low) & (slope > 0)) | ((now >= high) & (slope < 0)) | (low == high)
    damping, stride = state.damping, state.stride
    for _ in range(MAX_TRIES):
        try:
            way = _bounded(state.x, model, held, damping, limits)
        except np.linalg.LinAlgError:  # rounding left no curvature in some direction
            damping = max(1e-4, damping * MORE_DAMPING)
            continue
        found = _along(state.x, way, stride, cost, limits)
        if found.cost < model.cost:
            found = _lengthened(state.x, way, found, model, cost, limits, max_stride)
            return replace(found, damping=max(damping * LESS_DAMPING, MIN_DAMPING))
        if stride > 1:
            stride = max(1.0, stride / 4)
        else:
            damping *= MORE_DAMPING
    return None


def _along(x: Parameters, way: np.ndarray, stride: float, cost: Cost, limits: Limits) -> State:
    """The state so many times along a way."""
    trial = x.like(_within(x.vector + _capped(x, stride * way, limits), limits))
    return State(trial, cost(trial), stride=stride)


def _lengthened(
    x: Parameters, way: np.ndarray, found: State, model: Model, cost: Cost, limits: Limits, max_stride: float
) -> State:
    """The state found along a way, or where the parabola through both costs and the slope at x has its minimum."""
    slope = _dot(model.gradient, way)
    bend = (found.cost - model.cost - slope * found.stride) / found.stride**2
    best = -slope / (2 * bend) if bend > 0 else np.inf
    longer = min(best, MAX_LENGTHENING * found.stride, max_stride)
    if longer > MIN_LENGTHENING * found.stride:
        further = _along(x, way, longer, cost, limits)
        if further.cost < found.cost:
            found = further
    return replace(found, stride=max(1.0, min(found.stride, best)))


def _bounded(x: Parameters, model: Model, held: np.ndarray, damping: float, limits: Limits) -> np.ndarray:
    """A step; what it would take over a bound goes to the bound, and the rest makes the best of that."""
    way = _capped(x, model.held(held).minimum(damping, limits.units), limits)
    goal = x.vector + way
    kept = _within(goal, limits)
    over = goal != kept
    if not over.any():
        return way
    fixed = np.where(over, kept - x.vector, 0.0)
    left = replace(model, gradient=x.like(model.gradient.vector + model.times(fixed)))
    return _capped(x, left.held(held | over).minimum(damping, limits.units), limits) + fixed


def _capped(x: Parameters, way: np.ndarray, limits: Limits) -> np.ndarray:
    """Each frame's part of a step, and the shared one, shortened to MAX_STEP."""
    size = x.like(np.abs(way / limits.units))
    frames = MAX_STEP / np.maximum(size.frames.max(axis=1, initial=0), MAX_STEP)
    shared = MAX_STEP / max(size.shared.max(initial=0), MAX_STEP)
    factor = Parameters.of(np.broadcast_to(frames[:, None], x.shape), np.full(size.shared.shape, shared))
    return way * factor.vector


def _within(vector: np.ndarray, limits: Limits) -> np.ndarray:
    return vector.clip(limits.lower, limits.upper)


def _dot(a: Parameters, b: np.ndarray) -> float:
    """The sum of the products."""
    products = a.like(a.vector * b)
    return float(products.frames.sum() + products.shared.sum())
