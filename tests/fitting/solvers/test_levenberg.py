"""Levenberg-Marquardt on problems whose answer is known."""

from collections.abc import Callable

import numpy as np
import pytest

from softras.fitting.solvers.chain import Model, Parameters, solve_chain
from softras.fitting.solvers.levenberg import Ended, Limits, State, descend, step


def random_model(frames: int, count: int, shared: int, seed: int = 0) -> tuple[Model, np.ndarray, np.ndarray]:
    """A positive definite model, and the same as one dense matrix and vector."""
    g = np.random.default_rng(seed)
    size = frames * count + shared
    model = Model.empty(frames, count, shared)
    dense = np.zeros((size, size))
    for f in range(frames):
        rows = g.normal(size=(3 * (count + shared), count + shared))
        square = rows.T @ rows
        model.blocks[f], model.arrow[f] = square[:count, :count], square[:count, count:]
        model.corner[:] += square[count:, count:]
        at = np.r_[f * count : (f + 1) * count, frames * count : size]
        dense[np.ix_(at, at)] += square
    for f in range(frames - 1):
        strength = g.random(count)
        model.links[f] = -strength
        a, b = np.arange(f * count, (f + 1) * count), np.arange((f + 1) * count, (f + 2) * count)
        dense[a, b] -= strength
        dense[b, a] -= strength
        model.blocks[f] += np.diag(strength)
        model.blocks[f + 1] += np.diag(strength)
        dense[a, a] += strength
        dense[b, b] += strength
    vector = g.normal(size=size)
    model.gradient = Parameters(vector, (frames, count))
    return model, dense, vector


@pytest.mark.parametrize(("frames", "count", "shared"), [(1, 4, 0), (5, 3, 0), (4, 3, 2), (1, 0, 3)])
def test_the_chain_is_solved_as_one_matrix(frames: int, count: int, shared: int) -> None:
    model, dense, vector = random_model(frames, count, shared)
    model.corner += np.eye(shared) * (count == 0)
    if count == 0:
        dense = model.corner
    found = model.minimum(0.0, np.ones(len(vector)))
    np.testing.assert_allclose(found, -np.linalg.solve(dense, vector), atol=3e-6)


def test_held_parameters_do_not_move_and_the_others_do_as_if_they_were_not_there() -> None:
    model, dense, vector = random_model(3, 4, 2)
    g = np.random.default_rng(1)
    free = ~np.append(g.random(12) < 0.3, [False, True])
    found = model.held(~free).minimum(0.0, np.ones(14))
    assert not found[~free].any()
    np.testing.assert_allclose(found[free], -np.linalg.solve(dense[np.ix_(free, free)], vector[free]), atol=3e-6)


def test_a_chain_without_links_is_solved_frame_by_frame() -> None:
    model, _, _ = random_model(3, 4, 0)
    right = np.random.default_rng(0).normal(size=(3, 4, 2))
    np.testing.assert_allclose(
        solve_chain(model.blocks, np.zeros((2, 4)), right), np.linalg.solve(model.blocks, right), atol=1e-9
    )


def rosenbrock(x: Parameters) -> Model:
    """Half of (1 - a)^2 + 100 (b - a^2)^2."""
    a, b = x.frames[0]
    residual = np.array([1 - a, 10 * (b - a * a)])
    rows = np.array([[-1, 0], [-20 * a, 10]])
    model = Model.empty(1, 2, 0)
    model.cost = float(residual @ residual / 2)
    model.gradient.frames[0], model.blocks[0] = rows.T @ residual, rows.T @ rows
    return model


@pytest.mark.parametrize(("upper", "expected"), [(np.inf, (1, 1)), (0.5, (0.5, 0.25))])
def test_a_curved_valley_is_followed_to_its_end_or_its_bound(upper: float, expected: tuple[float, float]) -> None:
    state: State | None = State(Parameters.of(np.array([[-1.2, 1.0]]), np.zeros(0)))
    limits = Limits(np.full(2, -np.inf), np.array([upper, np.inf]), np.ones(2))
    for _ in range(100):
        last = state
        state = step(last, rosenbrock(last.x), lambda x: rosenbrock(x).cost, limits)
        if state is None:
            break
        assert state.cost < last.cost
    np.testing.assert_allclose(last.x.frames[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("start", "steps", "ended"), [(-1.2, 3, Ended.STEPS), (-1.2, 100, Ended.MINIMUM), (0.5, 100, Ended.SLOW)]
)
def test_a_descent_tells_its_states_and_why_it_ends(start: float, steps: int, ended: Ended) -> None:
    """Down the valley, for which it is given few steps or enough; and where the cost is almost all that is left."""
    rest = 0.0 if start < 0 else 1e6

    def squares(x: Parameters) -> tuple[Model, Callable[[Parameters], float]]:
        model = rosenbrock(x)
        model.cost += rest
        return model, lambda trial: rosenbrock(trial).cost + rest

    endless = np.full(2, np.inf)
    states = descend(
        Parameters.of(np.array([[start, 1.0]]), np.zeros(0)), squares, Limits(-endless, endless, np.ones(2)), steps
    )
    told = []
    while True:
        try:
            told.append(next(states))
        except StopIteration as end:
            last, why = end.value
            break
    assert why is ended and last is told[-1]
    assert len(told) == 3 if ended is Ended.STEPS else len(told) < 100
    assert (np.diff([state.cost for state in told]) < 0).all()


def test_a_step_is_never_longer_than_its_cap() -> None:
    model = random_model(2, 3, 0)[0]
    model.gradient.frames[:] *= 1e4
    start = State(Parameters.of(np.zeros((2, 3)), np.zeros(0)))
    endless, units = np.full(6, np.inf), np.array([[1.0, 2.0, 0.1]] * 2)
    after = step(start, model, lambda x: -1.0, Limits(-endless, endless, units.ravel()))
    assert after is not None
    np.testing.assert_allclose(np.abs(after.x.frames / units).max(axis=1), 0.6)
