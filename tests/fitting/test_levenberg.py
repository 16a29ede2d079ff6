"""Levenberg-Marquardt on problems whose answer is known."""

import numpy as np
import pytest

from softras.fitting.solvers.levenberg import LevenbergMarquardt, Model, Parameters, solve_chain


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
    model.gradient = Parameters(vector[: frames * count].reshape(frames, count), vector[frames * count :])
    return model, dense, vector


@pytest.mark.parametrize(("frames", "count", "shared"), [(1, 4, 0), (5, 3, 0), (4, 3, 2), (1, 0, 3)])
def test_the_chain_is_solved_as_one_matrix(frames: int, count: int, shared: int) -> None:
    model, dense, vector = random_model(frames, count, shared)
    model.corner += np.eye(shared) * (count == 0)
    if count == 0:
        dense = model.corner
    step = model.step(0.0, Parameters(np.ones((frames, count)), np.ones(shared)))
    found = np.concatenate([step.frames.ravel(), step.shared])
    np.testing.assert_allclose(found, -np.linalg.solve(dense, vector), atol=3e-6)


def test_held_parameters_do_not_move_and_the_others_do_as_if_they_were_not_there() -> None:
    model, dense, vector = random_model(3, 4, 2)
    g = np.random.default_rng(1)
    frames, shared = g.random((3, 4)) < 0.3, np.array([False, True])
    free = ~np.concatenate([frames.ravel(), shared])
    step = model.held(frames, shared).step(0.0, Parameters(np.ones((3, 4)), np.ones(2)))
    found = np.concatenate([step.frames.ravel(), step.shared])
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
    nothing = np.zeros(0)
    start = Parameters(np.array([[-1.2, 1.0]]), nothing)
    lower = Parameters(np.full((1, 2), -np.inf), nothing)
    top = Parameters(np.array([[upper, np.inf]]), nothing)
    search = LevenbergMarquardt(start, lower, top, Parameters(np.ones((1, 2)), nothing))
    costs = [np.inf]
    for _ in range(100):
        if not search.step(rosenbrock(search.parameters), lambda x: rosenbrock(x).cost):
            break
        assert search.cost < costs[-1]
        costs.append(search.cost)
    np.testing.assert_allclose(search.parameters.frames[0], expected, atol=1e-5)


def test_a_step_is_never_longer_than_its_cap() -> None:
    model = random_model(2, 3, 0)[0]
    model.gradient.frames[:] *= 1e4
    start = Parameters(np.zeros((2, 3)), np.zeros(0))
    endless = Parameters(np.full((2, 3), np.inf), np.zeros(0))
    units = Parameters(np.array([[1.0, 2.0, 0.1]] * 2), np.zeros(0))
    search = LevenbergMarquardt(start, Parameters(-endless.frames, np.zeros(0)), endless, units)
    assert search.step(model, lambda x: -1.0)
    np.testing.assert_allclose(np.abs(search.parameters.frames / units.frames).max(axis=1), 0.6)
