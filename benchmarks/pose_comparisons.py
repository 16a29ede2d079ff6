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
from pose_helps import FRAMES, Fox, helps, problem_of
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

import softras
from softras import Mesh, Rig
from softras.fitting.observed.evaluate import evaluate
from softras.fitting.poses.problem import PoseProblem
from softras.fitting.schedule import FINE, FINEST, OBJECT, POSE, PoseStage
from softras.fitting.solvers.chain import Model, Parameters
from softras.fitting.solvers.levenberg import MAX_SLOW, MAX_STRIDE, SLOW, State, step
from softras.fitting.terms.landmarks import Pinned
from softras.rig import Transform

MANY = 60  # evaluations a stage; there are five
Row = dict[str, Any]


class Stage:
    """One stage of one frame, and how many times it was evaluated."""

    def __init__(self, problem: PoseProblem, stage: PoseStage, pose: np.ndarray) -> None:
        self.problem, self.stage = replace(problem, random=np.random.default_rng(0)), stage
        self.objective = self.problem.objective([0], pose[None], stage)
        self.figure, self.evaluations = problem.level(stage).figure, 0

    def model(self, x: Parameters, pulls: Sequence[Pinned]) -> Model:
        self.evaluations += 1
        return self.objective.model(x, pulls)

    def cost(self, x: Parameters, pulls: Sequence[Pinned]) -> float:
        self.evaluations += 1
        return self.objective.cost(x, pulls)

    def pulls(self, x: Parameters) -> Sequence[Pinned]:
        """New pulls towards what nothing covers."""
        return (self.problem.pulls(self.objective, x, self.stage),) if self.stage.pull else ()


def alone(pose: np.ndarray) -> Parameters:
    """Of one frame, nothing shared."""
    return Parameters.of(pose[None], np.zeros(0))


def levenberg(max_stride: float, stage: Stage, pose: np.ndarray, budget: int) -> np.ndarray:
    """No budget: as many steps as the engine takes."""
    state, limits = State(alone(pose)), stage.problem.limits(pose[None], np.zeros(0))
    slow = steps = 0
    while slow < MAX_SLOW and (stage.evaluations < budget if budget else steps < stage.stage.steps):
        pulls = stage.pulls(state.x)
        model = stage.model(state.x, pulls)
        after = step(state, model, partial(stage.cost, pulls=pulls), limits, max_stride=max_stride)
        if after is None:
            break
        slow = slow + 1 if not budget and after.cost > state.cost * (1 - SLOW) else 0
        state, steps = after, steps + 1
    return state.x.frames[0]


def adam(rate: float, stage: Stage, pose: np.ndarray, budget: int) -> np.ndarray:
    """Kingma and Ba (2015), in units; the rate falls to a tenth."""
    (low, high), units = stage.figure.bounds.T, stage.figure.units
    first, second = np.zeros_like(pose), np.zeros_like(pose)
    for t in range(budget):
        slope = stage.model(alone(pose), stage.pulls(alone(pose))).gradient.frames[0] * units
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        way = first / (1 - 0.9 ** (t + 1)) / (np.sqrt(second / (1 - 0.999 ** (t + 1))) + 1e-8)
        pose = (pose - rate * (1 - 0.9 * t / budget) * way * units).clip(low, high)
    return pose


def lbfgs(stage: Stage, pose: np.ndarray, budget: int) -> np.ndarray:
    """L-BFGS-B, in units; begun anew with new pulls after every ten iterations."""
    units, turns = stage.figure.units, 10 if stage.stage.pull else budget

    def value(x: np.ndarray, pulls: Sequence[Pinned]) -> tuple[float, np.ndarray]:
        model = stage.model(alone(x * units), pulls)
        return model.cost, model.gradient.frames[0] * units

    while stage.evaluations < budget:
        pulls = stage.pulls(alone(pose))
        options = {"maxfun": budget - stage.evaluations, "maxiter": turns, "ftol": 1e-9, "gtol": 1e-8}
        bounds = stage.figure.bounds / units[:, None]
        found = minimize(
            partial(value, pulls=pulls), pose / units, jac=True, method="L-BFGS-B", bounds=bounds, options=options
        )
        pose = found.x * units
        if found.nit < turns:
            break
    return pose


Method = Callable[[Stage, np.ndarray, int], np.ndarray]
# With the evaluations of each stage, None for as many as the first method takes. Adam has the best rate of 0.01, 0.02,
# 0.05, 0.1 and 0.2.
METHODS: dict[str, tuple[Method, int | None]] = {
    "LM, lengthened steps": (partial(levenberg, MAX_STRIDE), 0),
    "LM, plain": (partial(levenberg, 1.0), None),
    "Adam": (partial(adam, 0.01), None),
    "L-BFGS-B": (lbfgs, None),
    "LM, lengthened steps, many": (partial(levenberg, MAX_STRIDE), MANY),
    "LM, plain, many": (partial(levenberg, 1.0), MANY),
    "Adam, many": (partial(adam, 0.02), MANY),
    "L-BFGS-B, many": (lbfgs, MANY),
    "none": (lambda stage, pose, budget: pose, MANY),
}


def compare(
    problem: PoseProblem,
    start: np.ndarray,
    truth: np.ndarray,
    stages: Sequence[PoseStage],
    error: Callable[[Rig], float],
) -> Iterator[Row]:
    """Every method, without and with pulls in the first stage; costs are the last stage's, in the truth's crops."""
    judge = problem.objective([0], truth[None], stages[-1])
    for pull in (0.0, POSE[0].pull):
        budgets: list[int] = []
        for name, (method, budget) in METHODS.items():
            pose, counts, begun = start, [], time.perf_counter()
            for k, values in enumerate((replace(stages[0], pull=pull), *stages[1:])):
                stage = Stage(problem, values, pose)
                pose = method(stage, pose, budgets[k] if budget is None else budget)
                counts.append(stage.evaluations)
            seconds = time.perf_counter() - begun
            budgets = budgets or counts
            rig = problem.rig_at(pose)
            iou = float(evaluate(rig.vertices(), rig.mesh.faces, problem.frames[0]).mean())
            row = {"pulls": bool(pull), "method": name, "cost": judge.cost(alone(pose)), "iou": iou}
            row |= {"error": error(rig), "evaluations": sum(counts), "seconds": seconds}
            yield {**row, "cost_of_truth": judge.cost(alone(truth))}


def optimizers(few: bool) -> Iterator[Row]:
    """The fox from its rest pose, and from the true one with every bone turned by 10 degrees; spot turned by 10 to 20
    degrees and shifted a little."""
    fox, random = Fox(), np.random.default_rng(0)
    for frame in FRAMES[:1] if few else FRAMES:
        angles = fox.angles[frame]
        problem = problem_of(fox.rest, "pose", fox.views(frame, 4))
        goal = fox.parameters(problem, angles, frame)
        aside = fox.parameters(problem, fox.aside(angles, frame), frame)
        for name, pose in (("rest", 0 * goal), ("10 degrees off", aside)):
            for row in compare(problem, pose, goal, (*POSE, *FINE), partial(fox.joint_error, frame)):
                yield {"case": f"fox, {name}", "start": frame, **row}
    mesh = softras.load_mesh(DATA / "meshes" / "spot.obj")
    middle, free = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2, (True, True, True)
    for number in range(1 if few else 6):
        axis, shift = random.normal(size=3), random.normal(0, 0.03, 3)
        turn = Rotation.from_rotvec(axis / np.linalg.norm(axis) * np.radians(random.uniform(10, 20)))
        place = Transform(middle + shift, np.roll(turn.as_quat(), 1), np.ones(3), "QUATERNION", free, free, True)
        problem = problem_of(Rig(Mesh(mesh.vertices - middle, mesh.faces), place), "object", ring(mesh, 3))
        goal = np.concatenate([-shift, turn.inv().as_rotvec(), [0.0]])
        for row in compare(problem, 0 * goal, goal, (*OBJECT, *FINEST), turned):
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
