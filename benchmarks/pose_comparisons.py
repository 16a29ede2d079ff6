"""Which optimizer finds poses, and what tells swapped legs and twisted bones from right ones.

    python benchmarks/pose_comparisons.py [--only optimizers helps] [--few] [--json FILE]

Optimizers minimize the engine's own objective, stage by stage; an evaluation is one cost, with or without derivatives.
Needs the test data (SOFTRAS_DATA, default ../shared/data beside the repository).
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fit_poses import DATA, ring
from pose_helps import FRAMES, Fox, helps, search_of
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

import softras
from softras import Mesh, Rig
from softras.fitting.observed.evaluate import evaluate
from softras.fitting.poses.landmarks import Pins
from softras.fitting.poses.objective import arrays
from softras.fitting.poses.search import SLOW, PoseSearch
from softras.fitting.schedule import FINE, FINEST, OBJECT, POSE, PoseStage
from softras.fitting.solvers.levenberg import LevenbergMarquardt, Model, Parameters
from softras.rig import Transform

MANY = 60  # evaluations a stage; there are five
Row = dict[str, Any]


class Problem:
    """One stage of one frame, and how many times it was evaluated."""

    def __init__(self, search: PoseSearch, stage: PoseStage, pose: np.ndarray) -> None:
        self.objective, self.stage = search.objective([0], pose[None], stage, smooth=False), stage
        self.figure, self.surface = search.level(stage).figure, search.level(stage).surface
        self.fixed, self.random, self.evaluations = self.objective.pins[0], np.random.default_rng(0), 0

    def model(self, x: Parameters) -> Model:
        self.evaluations += 1
        return self.objective.model(x)

    def cost(self, x: Parameters) -> float:
        self.evaluations += 1
        return self.objective.cost(x)

    def pull(self, x: Parameters) -> None:
        """New pulls towards what nothing covers."""
        if self.stage.reach:
            vertices, cameras = self.objective.seen(0, x)
            masks = self.objective.frames[0].crops.masks.numpy()
            covered = (self.objective.silhouettes(0, x) > 0.5).numpy()
            scene = (vertices.numpy().astype(float), arrays(cameras), masks, covered)
            pulls = self.surface.pulls(*scene, self.stage.reach, self.random)
            self.objective.pins[0] = Pins.joined([self.fixed, pulls])


class Plain(LevenbergMarquardt):
    """Whose steps are not lengthened."""

    def _lengthened(self, step: Parameters, slope: float, trial: Parameters, found: float, cost: Callable) -> None:
        self.parameters, self.cost = trial, found


def alone(pose: np.ndarray) -> Parameters:
    """Of one frame, nothing shared."""
    return Parameters(pose[None], np.zeros(0))


def levenberg(kind: type[LevenbergMarquardt], problem: Problem, pose: np.ndarray, budget: int) -> np.ndarray:
    """No budget: as many steps as the engine takes."""
    low, high = problem.figure.bounds.T
    search = kind(alone(pose), alone(low), alone(high), alone(problem.figure.units))
    before, slow, steps = np.inf, 0, 0
    while slow < 2 and (problem.evaluations < budget if budget else steps < problem.stage.steps):
        problem.pull(search.parameters)
        if not search.step(problem.model(search.parameters), problem.cost):
            break
        slow = slow + 1 if not budget and search.cost > before * (1 - SLOW) else 0
        before, steps = search.cost, steps + 1
    return search.parameters.frames[0]


def adam(rate: float, problem: Problem, pose: np.ndarray, budget: int) -> np.ndarray:
    """Kingma and Ba (2015), in units; the rate falls to a tenth."""
    (low, high), units = problem.figure.bounds.T, problem.figure.units
    first, second = np.zeros_like(pose), np.zeros_like(pose)
    for t in range(budget):
        problem.pull(alone(pose))
        slope = problem.model(alone(pose)).gradient.frames[0] * units
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        way = first / (1 - 0.9 ** (t + 1)) / (np.sqrt(second / (1 - 0.999 ** (t + 1))) + 1e-8)
        pose = (pose - rate * (1 - 0.9 * t / budget) * way * units).clip(low, high)
    return pose


def lbfgs(problem: Problem, pose: np.ndarray, budget: int) -> np.ndarray:
    """L-BFGS-B, in units; begun anew with new pulls after every ten iterations."""
    units, turns = problem.figure.units, 10 if problem.stage.reach else budget

    def value(x: np.ndarray) -> tuple[float, np.ndarray]:
        model = problem.model(alone(x * units))
        return model.cost, model.gradient.frames[0] * units

    while problem.evaluations < budget:
        problem.pull(alone(pose))
        options = {"maxfun": budget - problem.evaluations, "maxiter": turns, "ftol": 1e-9, "gtol": 1e-8}
        bounds = problem.figure.bounds / units[:, None]
        found = minimize(value, pose / units, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        pose = found.x * units
        if found.nit < turns:
            break
    return pose


Method = Callable[[Problem, np.ndarray, int], np.ndarray]
# With the evaluations of each stage, None for as many as the first method takes. Adam has the best rate of 0.01, 0.02,
# 0.05, 0.1 and 0.2.
METHODS: dict[str, tuple[Method, int | None]] = {
    "LM, lengthened steps": (partial(levenberg, LevenbergMarquardt), 0),
    "LM, plain": (partial(levenberg, Plain), None),
    "Adam": (partial(adam, 0.01), None),
    "L-BFGS-B": (lbfgs, None),
    "LM, lengthened steps, many": (partial(levenberg, LevenbergMarquardt), MANY),
    "LM, plain, many": (partial(levenberg, Plain), MANY),
    "Adam, many": (partial(adam, 0.02), MANY),
    "L-BFGS-B, many": (lbfgs, MANY),
    "none": (lambda problem, pose, budget: pose, MANY),
}


def compare(
    search: PoseSearch, start: np.ndarray, truth: np.ndarray, stages: Sequence[PoseStage], error: Callable[[Rig], float]
) -> Iterator[Row]:
    """Every method, without and with pulls in the first stage; costs are the last stage's, in the truth's crops."""
    judge = search.objective([0], truth[None], stages[-1], smooth=False)
    for reach in (0.0, POSE[0].reach):
        budgets: list[int] = []
        for name, (method, budget) in METHODS.items():
            pose, counts, begun = start, [], time.perf_counter()
            for k, stage in enumerate((replace(stages[0], reach=reach), *stages[1:])):
                problem = Problem(search, stage, pose)
                pose = method(problem, pose, budgets[k] if budget is None else budget)
                counts.append(problem.evaluations)
            seconds = time.perf_counter() - begun
            budgets = budgets or counts
            rig = search.rig_at(pose)
            iou = float(evaluate(rig.vertices(), rig.mesh.faces, search.frames[0]).mean())
            row = {"pulls": bool(reach), "method": name, "cost": judge.cost(alone(pose)), "iou": iou}
            row |= {"error": error(rig), "evaluations": sum(counts), "seconds": seconds}
            yield {**row, "cost_of_truth": judge.cost(alone(truth))}


def optimizers(few: bool) -> Iterator[Row]:
    """The fox from its rest pose, and from the true one with every bone turned by 10 degrees; spot turned by 10 to 20
    degrees and shifted a little."""
    fox, random = Fox(), np.random.default_rng(0)
    for frame in FRAMES[:1] if few else FRAMES:
        angles = fox.angles[frame]
        search = search_of(fox.rest, "pose", fox.views(frame, 4))
        goal = fox.parameters(search, angles, frame)
        aside = fox.parameters(search, fox.aside(angles, frame), frame)
        for name, pose in (("rest", 0 * goal), ("10 degrees off", aside)):
            for row in compare(search, pose, goal, (*POSE, *FINE), partial(fox.joint_error, frame)):
                yield {"case": f"fox, {name}", "start": frame, **row}
    mesh = softras.load_mesh(DATA / "meshes" / "spot.obj")
    middle, free = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2, (True, True, True)
    for number in range(1 if few else 6):
        axis, shift = random.normal(size=3), random.normal(0, 0.03, 3)
        turn = Rotation.from_rotvec(axis / np.linalg.norm(axis) * np.radians(random.uniform(10, 20)))
        place = Transform(middle + shift, np.roll(turn.as_quat(), 1), np.ones(3), "QUATERNION", free, free, True)
        search = search_of(Rig(Mesh(mesh.vertices - middle, mesh.faces), place), "object", ring(mesh, 3))
        goal = np.concatenate([-shift, turn.inv().as_rotvec(), [0.0]])
        for row in compare(search, 0 * goal, goal, (*OBJECT, *FINEST), turned):
            yield {"case": "spot", "start": number, **row}


def turned(rig: Rig) -> float:
    """Degrees from no rotation."""
    return float(np.degrees(Rotation.from_quat(np.roll(rig.transform.rotation, -1)).magnitude()))


# What is compared, and the columns of its table.
TASKS: dict[str, tuple[Callable[[bool], Iterator[Row]], tuple[str, ...], tuple[str, ...]]] = {
    "optimizers": (optimizers, ("case", "pulls", "method"), ("cost", "iou", "error", "evaluations", "seconds")),
    "helps": (helps, ("start", "cameras", "help"), ("iou", "iou_of_4", "joint_error", "twist_error", "legs_right")),
}


def table(rows: list[Row], by: Sequence[str], columns: Sequence[str]) -> str:
    """Markdown: the means of the rows that agree in some columns; medians of seconds, which other work disturbs."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in by), []).append(row)
    lines = [[*by, *columns], ["---"] * (len(by) + len(columns))]
    for group, members in groups.items():
        found = {name: [row[name] for row in members] for name in columns}
        means = [f"{(np.median if name == 'seconds' else np.mean)(x):.4g}" for name, x in found.items()]
        lines.append([*map(str, group), *means])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--few", action="store_true", help="one start of each")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)  # the seconds are for ratios, which other work on the machine then changes least
    found = {}
    for task in options.only:
        compared, by, columns = TASKS[task]
        found[task] = list(compared(options.few))
        print(table(found[task], by, columns), flush=True)
    if options.json:
        system = {"machine": platform.machine(), "python": platform.python_version(), "torch": torch.__version__}
        options.json.write_text(json.dumps({**system, "when": time.strftime("%Y-%m-%d"), **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
