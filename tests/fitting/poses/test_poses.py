"""The search for poses, on the fox's walk (SOFTRAS_DATA)."""

import importlib.util
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from softras import fit, load_views
from softras.deform import CameraMoves
from softras.fitting.observed.evaluate import evaluate
from softras.fitting.observed.renderer import Renderers
from softras.fitting.poses.problem import PoseProblem
from softras.fitting.poses.search import Poses, Search, apart
from softras.fitting.schedule import POSE, PoseStage
from softras.fitting.solvers.chain import Parameters
from softras.fitting.terms.table import default_weights

ROOT = Path(__file__).resolve().parents[3]
DATA = Path(os.environ.get("SOFTRAS_DATA", ROOT.parent / "shared" / "data"))
needs_fox = pytest.mark.skipif(not (DATA / "fox_walk").is_dir(), reason="fox_walk is not there")


SOFT = Renderers("soft", torch.device("cpu"))
WEIGHTS = default_weights("poses") | {"prior": 1e-3}


@pytest.fixture(scope="module")
def rigs():
    spec = importlib.util.spec_from_file_location("rigs", ROOT / "benchmarks" / "rigs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def problem(rigs) -> PoseProblem:
    """Of the first frame from the rest pose."""
    views = [view for view in load_views(DATA / "fox_walk") if view.name.startswith("f00")]
    return PoseProblem.of(rigs.fox(DATA), ("pose",), [views], weights=WEIGHTS, cull=True, renderers=SOFT)


def found(search: Search) -> Poses:
    """What a search returns."""
    while True:
        try:
            next(search)
        except StopIteration as end:
            return end.value


@needs_fox
def test_of_several_first_stages_the_one_that_ends_best_is_taken(rigs) -> None:
    """Where a search ends depends on the points that masks pull; the first of three tries pulls what one alone does."""
    every = load_views(DATA / "fox_walk")
    ends = []
    for tries in (1, 3):
        frames = [[view for view in every if view.name.startswith(f"f0{frame}")] for frame in (0, 7)]
        problem = PoseProblem.of(rigs.fox(DATA), ("pose",), frames, weights=WEIGHTS, cull=True, renderers=SOFT)
        costs = []
        for frame in range(2):
            seeded = replace(problem, random=np.random.default_rng(0))
            costs.append(found(apart(seeded, Poses.start(seeded), [frame], POSE, tries)).costs[frame])
        ends.append(costs)
    once, thrice = np.array(ends)
    assert (thrice <= once).all() and (thrice < 0.9 * once).any()


@needs_fox
@pytest.mark.parametrize("pull", [0.0, 1000.0])
@pytest.mark.parametrize("cameras", [False, True])
def test_the_gradient_is_that_of_the_cost(problem: PoseProblem, pull: float, cameras: bool) -> None:
    """Silhouettes, pulls, priors and cameras together, against finite differences of the cost in a random direction."""
    stage = PoseStage(96, 1, blur=2.0, pull=pull)
    generator = np.random.default_rng(0)
    if cameras:
        matrices = np.array([problem.unit.camera(view.camera).world_to_camera for view in problem.frames[0]])
        parts = ("location", "rotation", "focal", "shift")
        moves = CameraMoves(matrices, np.arange(4), parts, together=False, middle=np.zeros(3))
        problem = problem.with_cameras(moves)
    start = Poses.start(problem)
    shared = 0.01 * generator.normal(size=start.shared.shape)
    objective, pulls = problem.objective([0], start.frames, stage), ()
    at = Parameters.of(0.05 * generator.normal(size=start.frames.shape) * problem.figure.units, shared)
    if pull:
        pulls = (problem.pulls(objective, at, stage),)
        assert len(pulls[0].pins[0])
    slope = objective.model(at, pulls).gradient.vector
    direction = generator.normal(size=start.frames.shape) * problem.figure.units
    direction = np.append(direction, generator.normal(size=shared.shape))
    h = 1e-4
    high, low = (objective.cost(at.like(at.vector + s * h * direction), pulls) for s in (1, -1))
    assert slope @ direction == pytest.approx((high - low) / (2 * h), rel=0.02, abs=0.005)


@needs_fox
def test_pulls_bring_limbs_where_silhouettes_alone_do_not(problem: PoseProblem) -> None:
    def cost(pull: float) -> float:
        stages = (PoseStage(96, 12, 0.83, pull=pull), PoseStage(96, 5, 0.48))
        return found(apart(problem, Poses.start(problem), [0], stages)).costs[0]

    assert cost(300.0) < 0.8 * cost(0.0)


@needs_fox
def test_a_walk_is_found_from_the_rest_pose(rigs) -> None:
    """Three frames, four views; what is locked stays, and the rig in the result makes the mesh that was measured."""
    views = [replace(view, frame=int(view.name[1:3])) for view in load_views(DATA / "fox_walk")]
    views = [view for view in views if view.frame < 3]
    rig = rigs.fox(DATA)
    result = fit(rig, views, optimize="pose")
    assert result.mean_iou > 0.96 and sorted(result.rigs) == [0, 1, 2]
    for frame, found in result.rigs.items():
        truth = rigs.fox_pose(DATA, frame)
        height = np.ptp(truth.vertices()[:, 1])
        away = np.linalg.norm(found.vertices() - truth.vertices(), axis=1)
        assert away.mean() < 0.02 * height
        seen = [i for i, view in enumerate(views) if view.frame == frame]
        again = evaluate(found.vertices(), found.mesh.faces, [views[i] for i in seen])
        np.testing.assert_allclose(again, result.iou[seen], atol=2e-3)
        for bone, given in zip(found.armature.bones, rig.armature.bones, strict=True):
            if not any(given.pose.free_rotation):
                np.testing.assert_array_equal(bone.pose.rotation, given.pose.rotation)
