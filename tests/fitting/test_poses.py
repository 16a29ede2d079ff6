"""The search for poses, on the fox's walk (SOFTRAS_DATA)."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from softras import Mesh, load_views
from softras.deform import PosedRig
from softras.fitting.levenberg import Parameters
from softras.fitting.poses import PoseSearch
from softras.fitting.schedule import Stage

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("SOFTRAS_DATA", ROOT.parent / "shared" / "data"))
needs_fox = pytest.mark.skipif(not (DATA / "fox_walk").is_dir(), reason="fox_walk is not there")


@pytest.fixture
def search() -> PoseSearch:
    """Of the first frame from the rest pose."""
    spec = importlib.util.spec_from_file_location("rigs", ROOT / "benchmarks" / "rigs.py")
    assert spec is not None and spec.loader is not None
    rigs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rigs)
    rig = rigs.fox(DATA)
    views = [view for view in load_views(DATA / "fox_walk") if view.name.startswith("f00")]
    figure = PosedRig(rig, ("pose",), dtype=torch.float64)
    mesh = Mesh(rig.vertices(), rig.mesh.faces)
    return PoseSearch(figure, mesh, [views], cull=True, prior=1e-4, device=torch.device("cpu"))


@needs_fox
@pytest.mark.parametrize("reach", [0.0, 1000.0])
def test_the_gradient_is_that_of_the_cost(search: PoseSearch, reach: float) -> None:
    """Silhouettes, pulls and prior together, against finite differences of the cost in a random direction."""
    objective = search.objective([0], search.poses, Stage(96, 1, blur=(1.0, 1.0)))
    generator = np.random.default_rng(0)
    at = 0.05 * generator.normal(size=search.poses.shape) * search.figure.units
    nothing = np.zeros(0)
    if reach:
        objective.pins[0] = search._pulls(objective, 0, Parameters(at, nothing), reach)
        assert objective.pins[0] is not None
    slope = objective.model(Parameters(at, nothing)).gradient.frames
    direction = generator.normal(size=at.shape) * search.figure.units
    h = 2e-3
    high, low = (objective.cost(Parameters(at + s * h * direction, nothing)) for s in (1, -1))
    assert (slope * direction).sum() == pytest.approx((high - low) / (2 * h), rel=0.02)


@needs_fox
def test_pulls_bring_limbs_where_silhouettes_alone_do_not(search: PoseSearch) -> None:
    def cost(reach: float) -> float:
        stages = [(Stage(96, 12, blur=(0.8, 0.8)), reach), (Stage(96, 5, blur=(0.5, 0.5)), 0.0)]
        steps = search.frame(0, search.poses[0], stages)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value[1]

    assert cost(1000.0) < 0.8 * cost(0.0)
