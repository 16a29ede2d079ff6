"""What tells swapped legs and twisted bones from right ones: see pose_comparisons.py, which runs this."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import rigs
import torch
from fit_poses import DATA, fox_views, joints
from scipy.spatial.transform import Rotation

from softras import Landmark, Rig, View
from softras.fitting.observed.evaluate import evaluate
from softras.fitting.observed.renderer import Renderers
from softras.fitting.poses.problem import PoseProblem
from softras.fitting.poses.search import Poses, Search, apart
from softras.fitting.schedule import FINE, POSE
from softras.fitting.terms.table import default_weights
from softras.geometry.topology import closed
from softras.rig import Armature

FRAMES = (0, 2, 5)  # of the walk, the legs of one side far from those of the other
CAMERAS = {4: (1, 0, 2, 3), 2: (1, 0), 1: (1,)}  # the first sees the fox from the side
LEFT, RIGHT = [10, 11, 12, 16, 17, 18, 19], [7, 8, 9, 20, 21, 22, 23]  # bones of the legs
PAWS, OTHER_PAWS = [12, 19, 9, 23], [9, 23, 12, 19]
ASIDE, TWIST = np.radians(10), np.radians(45)
USUAL = ("prior", "pulls")  # what a fit does unasked
ONE: list[tuple[str, ...]] = [("limits",), ("locks",), ("landmarks in 1 view",), ("landmarks in 2 views",)]
HELPS = [(), ("prior",), ("pulls",), *ONE, USUAL, *((*USUAL, *one) for one in ONE)]
HELPS += [(*USUAL, "limits", "locks"), (*USUAL, "limits", "locks", "landmarks in 2 views")]
Row = dict[str, Any]


def helps(few: bool) -> Iterator[Row]:
    """Frames of the walk by themselves, from their true pose with left and right legs exchanged, and with every bone
    some degrees aside and twisted. A lock holds what is given, so with locks the twist has been cleared before."""
    fox = Fox()
    for frame in FRAMES[:1] if few else FRAMES:
        swapped, aside = fox.exchanged(fox.angles[frame]), fox.aside(fox.angles[frame], frame)
        starts = {"exchanged": (swapped, swapped), "twisted": (fox.twisted(aside), aside)}
        for cameras in CAMERAS:
            for name, (start, cleared) in starts.items():
                yield {"start": name, "help": "(start)", **fox.fitted(frame, cameras, start, None)}
                for given in HELPS:
                    if cameras > 1 or "landmarks in 2 views" not in given:
                        row = fox.fitted(frame, cameras, cleared if "locks" in given else start, given)
                        yield {"start": name, "help": " + ".join(given) or "masks alone", **row}


def problem_of(rig: Rig, part: str, views: list[View], **weights: float) -> PoseProblem:
    """Of one frame, as a fit makes it."""
    cull = closed(rig.vertices(), rig.mesh.faces)
    return PoseProblem.of(
        rig,
        (part,),
        [views],
        weights=default_weights("poses") | weights,
        cull=cull,
        renderers=Renderers("auto", torch.device("cpu")),
    )


def found(search: Search) -> Poses:
    """What a search returns."""
    while True:
        try:
            next(search)
        except StopIteration as end:
            return end.value


class Fox:
    """The fox at rest, where no bone is turned, and its walk.

    Poses are Euler angles (B, 3) of the bones, whose own axis is x; the hip is where it is in the walk.
    """

    def __init__(self) -> None:
        self.rest = rigs.fox(DATA)
        self.walk = [rigs.fox_pose(DATA, frame) for frame in range(8)]
        self.angles = np.array([[bone.pose.angles() for bone in armature(rig).bones] for rig in self.walk])
        self.bones = armature(self.rest).bones
        self.below = np.array([b.pose.free_rotation[0] and not b.pose.free_location[0] for b in self.bones])  # the hip
        self.every = fox_views(4)

    def views(self, frame: int, cameras: int) -> list[View]:
        views = [view for view in self.every if view.frame == frame]
        return [views[k] for k in CAMERAS[cameras]]

    def parameters(self, problem: PoseProblem, angles: np.ndarray, frame: int) -> np.ndarray:
        """(P,) of a problem that is given the fox at rest, for a pose, within the bounds."""
        own = {bone.name: (k, bone.pose) for k, bone in enumerate(armature(problem.given).bones)}
        found = []
        for name in problem.figure.names:
            bone, kind, axis = name.removeprefix("pose.").split(".")
            k, pose = own[bone]
            turn = Rotation.from_euler("xyz", angles[k]).as_rotvec() if pose.turns_freely else angles[k]
            place = armature(self.walk[frame]).bones[k].pose.location
            found.append((turn if kind == "rotation" else place)["xyz".index(axis)])
        return np.clip(found, *problem.figure.bounds.T)

    def aside(self, angles: np.ndarray, seed: int) -> np.ndarray:
        """Every bone turned by 10 degrees about some axis."""
        axes = np.random.default_rng(seed).normal(size=angles.shape)
        turns = Rotation.from_rotvec(ASIDE * axes / np.linalg.norm(axes, axis=1, keepdims=True))
        return (Rotation.from_euler("xyz", angles) * turns).as_euler("xyz")

    def exchanged(self, angles: np.ndarray) -> np.ndarray:
        """Every leg as that of the other side, mirrored."""
        out = angles.copy()
        out[LEFT + RIGHT] = angles[RIGHT + LEFT] * [-1, -1, 1]
        return out

    def twisted(self, angles: np.ndarray) -> np.ndarray:
        """Every bone below the hip turned about its own axis, while those that follow it keep their directions."""
        signs = np.random.default_rng(0).choice([-1, 1], len(self.bones))
        twist = Rotation.from_rotvec(np.outer(signs * TWIST * self.below, [1, 0, 0]))
        out = angles.copy()
        for k, bone in enumerate(self.bones):
            if self.below[k]:
                offset = Rotation.from_matrix((np.linalg.inv(self.bones[bone.parent].rest) @ bone.rest)[:3, :3])
                above = offset.inv() * twist[bone.parent].inv() * offset
                out[k] = (above * Rotation.from_euler("xyz", angles[k]) * twist[k]).as_euler("xyz")
        return out

    def given(self, helps: Sequence[str]) -> Rig:
        """The fox at rest, with limits on its legs: what the walk of both sides needs and 15 degrees more, 10 at least
        (about x and y 10); with locks of every bone below the hip about its own axis."""
        poses = [bone.pose for bone in self.bones]
        for k in LEFT + RIGHT if "limits" in helps else ():
            z = self.angles[:, [k, (LEFT + RIGHT)[(RIGHT + LEFT).index(k)]], 2]
            ends = np.radians([[-10, 10], [-10, 10], [-15, 15]])
            ends[2] += min(z.min(), 0.0), max(z.max(), 0.0)
            poses[k] = replace(poses[k], limits=ends)
        if "locks" in helps:
            held = [replace(pose, free_rotation=(False, True, True)) for pose in poses]
            poses = [lock if below else pose for lock, pose, below in zip(held, poses, self.below, strict=True)]
        bones = tuple(replace(bone, pose=pose) for bone, pose in zip(self.bones, poses, strict=True))
        return replace(self.rest, armature=replace(armature(self.rest), bones=bones))

    def marked(self, frame: int, views: Sequence[View]) -> list[View]:
        """The views with a landmark on each paw, where they see it."""
        truth = self.walk[frame]
        skin, world, height = armature(truth), truth.vertices(), truth.mesh.vertices[:, 1]
        chosen = []
        for paw in PAWS:
            own = skin.skin_vertices[(skin.skin_bones == paw) & (skin.skin_weights > 0.5)]
            chosen.append(int(own[height[own].argmin()]))
        marks = [tuple(Landmark(v, tuple(view.camera.project(world[v]))) for v in chosen) for view in views]
        return [replace(view, landmarks=own) for view, own in zip(views, marks, strict=True)]

    def fitted(self, frame: int, cameras: int, start: np.ndarray, helps: Sequence[str] | None) -> Row:
        """What a fit of one frame comes to; the start itself without helps."""
        helps, fits = helps or (), helps is not None
        views = self.views(frame, cameras)
        marks = max((k for k in (1, 2) if f"landmarks in {k} view" in " ".join(helps)), default=0)
        views[:marks] = self.marked(frame, views[:marks])
        prior = default_weights("poses")["prior"] if "prior" in helps else 0.0
        problem = problem_of(self.given(helps), "pose", views, prior=prior)
        stages = [replace(stage, pull=stage.pull if "pulls" in helps else 0.0) for stage in (*POSE, *FINE)]
        poses = replace(Poses.start(problem), frames=self.parameters(problem, start, frame)[None])
        poses = found(apart(problem, poses, [0], stages)) if fits else poses
        rig = problem.rig_at(poses.frames[0])
        iou = evaluate(rig.vertices(), rig.mesh.faces, self.views(frame, 4))
        row = {"cameras": cameras, "frame": frame, "iou": float(iou[:cameras].mean()), "iou_of_4": float(iou.mean())}
        return row | {"joint_error": self.joint_error(frame, rig), **self.errors(frame, rig)}

    def joint_error(self, frame: int, rig: Rig) -> float:
        """Mean, in percent of the height at rest."""
        away = np.linalg.norm(joints(rig) - joints(self.walk[frame]), axis=1)
        return float(100 * away.mean() / np.ptp(self.rest.mesh.vertices[:, 1]))

    def errors(self, frame: int, rig: Rig) -> Row:
        """Mean angle about their own axes between bones and true ones, degrees; and how many paws of four are nearer to
        where they should be than to where that of the other side should."""
        truth, found = (armature(r).pose_matrices() for r in (self.walk[frame], rig))
        x, _, _, w = Rotation.from_matrix((np.linalg.inv(truth) @ found)[self.below, :3, :3]).as_quat().T
        twist = np.degrees(np.abs(2 * np.arctan(x / w)))  # within half a turn
        here, there = found[PAWS, :3, 3], truth[:, :3, 3]
        own, other = (np.linalg.norm(here - there[paws], axis=1) for paws in (PAWS, OTHER_PAWS))
        return {"twist_error": float(twist.mean()), "legs_right": float((own < other).sum())}


def armature(rig: Rig) -> Armature:
    assert rig.armature is not None
    return rig.armature
