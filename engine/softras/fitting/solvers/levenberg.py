"""Levenberg-Marquardt (Marquardt 1963): a sum of squares is minimized, within bounds, by damped Gauss-Newton steps.

Three parts: the step to the minimum of a damped quadratic model (`_bounded`, with `chain.Model`), a line search along
this step (`step`, `_lengthened`), and the loop that says when to end and why (`descend`).

The line search is for silhouettes whose blur is smaller than a pixel. Their sum of squares is about ten times as curved
at one point as it is on the whole way to the minimum, so that Gauss-Newton steps have the right direction but are many
times too short.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from .chain import Model, Parameters

MAX_STEP = 0.6  # The trust region: a step changes no parameter by more than so many of its units.
FIRST_DAMPING = 1e-2  # The damping of the first step: this share is added to the diagonal of the model's Hessian.
LESS_DAMPING = 1 / 4  # The damping is multiplied by this after a step that lowers the cost,
MORE_DAMPING = 5.0  # and by this after a step that does not.
MIN_DAMPING = 1e-5  # From a smaller damping, MAX_TRIES could not raise it enough to shorten a step that MAX_STEP cut.
MAX_LENGTHENING = 4.0  # The line search makes a step at most so many times longer than the one it has tried,
MAX_STRIDE = 64.0  # and at most so many times longer than the model's own.
MIN_LENGTHENING = 1.5  # A step that would become less than so many times longer is not worth another evaluation.
MAX_TRIES = 6  # After so many steps of growing damping that do not lower the cost, the descent is at a minimum.
SLOW = 1e-3  # A step is slow when it lowers the cost by less than this share of the cost.
MAX_SLOW = 2  # So many slow steps in a row end a descent.

Cost = Callable[[Parameters], float]  # half the sum of squares at some parameters


@dataclass(frozen=True, eq=False)
class Limits:
    """The bounds and the scale of every parameter, as vectors like `Parameters.vector`.

    Attributes:
        lower, upper: the bounds, infinite for none; a parameter whose bounds are equal does not move.
        units: the typical size of a change.
    """

    lower: np.ndarray
    upper: np.ndarray
    units: np.ndarray


@dataclass(frozen=True, eq=False)
class State:
    """Where a descent has got to.

    Attributes:
        x: the parameters.
        cost: the cost of these parameters; infinite before the first step.
        damping: the damping with which the next step begins.
        stride: how many times longer than the model's own the last step was, and the next one begins.
    """

    x: Parameters
    cost: float = np.inf
    damping: float = FIRST_DAMPING
    stride: float = 1.0


class Ended(Enum):
    """Why a descent ended."""

    MINIMUM = "no step lowers the cost"
    SLOW = "steps hardly lower the cost"
    STEPS = "all steps are taken"


def descend(
    start: Parameters, squares: Callable[[Parameters], tuple[Model, Cost]], limits: Limits, steps: int
) -> Generator[State, None, tuple[State, Ended]]:
    """Yields the state after each of at most `steps` steps. Returns the last state, and why the descent ended.

    Args:
        squares: a function that returns the model at some parameters and the function for the cost of others. It is
            called before every step, since what is minimized may change from step to step.
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
        model: the model at the parameters of the state.
        cost: gives the cost of other parameters.
        max_stride: as MAX_STRIDE; 1 for no line search.
    """
    now, slope = state.x.vector, model.gradient.vector
    low, high = limits.lower, limits.upper
    held = ((now <= low) & (slope > 0)) | ((now >= high) & (slope < 0)) | (low == high)
    damping, stride = state.damping, state.stride
    for _ in range(MAX_TRIES):
        try:
            way = _bounded(state.x, model, held, damping, limits)
        except np.linalg.LinAlgError:  # By rounding the Hessian is not positive definite; more damping makes it so.
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
    """The state `stride` times a step `way` from x, within the limits."""
    trial = x.like(_within(x.vector + _capped(x, stride * way, limits), limits))
    return State(trial, cost(trial), stride=stride)


def _lengthened(
    x: Parameters, way: np.ndarray, found: State, model: Model, cost: Cost, limits: Limits, max_stride: float
) -> State:
    """The state `found` at a step along `way`, or a better one farther along it.

    A parabola is put through the cost and the slope at x and the cost at `found`; the step goes to its minimum.
    """
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
    """The step to the minimum of the damped model within the bounds and the trust region.

    Parameters that the free minimum would take beyond a bound go to the bound, and the step of the others is solved
    for again with these fixed.
    """
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
    """The step, with each frame's part and the shared part shortened until no parameter changes by over MAX_STEP."""
    size = x.like(np.abs(way / limits.units))
    frames = MAX_STEP / np.maximum(size.frames.max(axis=1, initial=0), MAX_STEP)
    shared = MAX_STEP / max(size.shared.max(initial=0), MAX_STEP)
    factor = Parameters.of(np.broadcast_to(frames[:, None], x.shape), np.full(size.shared.shape, shared))
    return way * factor.vector


def _within(vector: np.ndarray, limits: Limits) -> np.ndarray:
    return vector.clip(limits.lower, limits.upper)


def _dot(a: Parameters, b: np.ndarray) -> float:
    """The scalar product."""
    products = a.like(a.vector * b)
    return float(products.frames.sum() + products.shared.sum())
