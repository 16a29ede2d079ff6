"""Every knob of a fit, as plain values that fit into a job document."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from ..checks import affine, flag, mapping, names, numbers, one_of, positive, whole
from ..deform.mirror import AXES
from ..errors import InputError, shown
from .observed.renderer import RENDERERS
from .schedule import VARIABLES, Stage, default_schedule

MODES = ("refine", "reconstruct")
TERMS = (
    *("iou", "squared", "laplacian", "bilaplacian", "normal_consistency", "distortion", "edge_length"),
    *("prior", "smoothness", "landmarks", "camera_prior"),
)
WEIGHTS = {
    "refine": {"iou": 1.0, "squared": 0.2, "bilaplacian": 0.03, "normal_consistency": 1.5, "distortion": 0.035},
    "reconstruct": {"iou": 1.0, "squared": 0.2, "bilaplacian": 0.2},
}
POSE_WEIGHTS = {"prior": 3e-3, "smoothness": 1e-4, "landmarks": 100.0, "camera_prior": 3e-3}
MOST_VOXELS = 512  # a side of the hull: 134 million voxels
MOST_TURNS = 10_000  # rotations, less than 10 degrees apart
MOST_WEIGHT = 1e9
CAMERA_PARTS = ("location", "rotation", "focal", "shift")


@dataclass(frozen=True)
class Settings:
    """How to fit.

    Attributes:
        mode: "refine" keeps the mesh's topology and vertex order; "reconstruct" makes a new mesh from the masks.
        optimize: the variables: "object" (its location, rotation and uniform scale), "pose" (of its bones),
            "shape_keys", "cameras" and "vertices". Of a rig, what is not locked. Vertices come last, on top.
        camera_parts: what of the cameras may change, of "location", "rotation", "focal" and "shift".
        cameras_together: the cameras keep their places among one another and have one lens.
        known_frame: the frame in which the rig's pose is right as given, or None. Others start from it.
        turns: how many rotations of the object are tried at first; 0 for the given one alone, and for no search for
            cameras from all sides.
        seed: of the order in which views are visited; on the CPU the same seed gives the same result.
        device: "auto", "cpu" or "cuda".
        renderer: what draws the silhouettes that are compared with the masks, of `RENDERERS`.
        place: "auto" brings the mesh onto the masks first where it clearly matches them better so: moved and scaled,
            and with free vertices alone turned too (unless a lock mask or symmetry holds them); or "never".
        symmetry: mirror axis "x", "y" or "z" of the displacements, or None.
        symmetry_frame: 16 numbers, row by row: the (4, 4) matrix from the space whose origin and axes define the
            mirror plane (in Blender: the object's) to the world; None for the world itself.
        cull: leave out faces seen from behind, which makes outlines exact but thin parts harder to fit; None does so
            for closed, outward-oriented meshes whose vertices are not free.
        preconditioned: take smooth steps (Nicolet et al. 2021); otherwise plain steps of each vertex.
        batch: views in one step.
        weights: factors of the terms that differ from the defaults (`TERMS` are the names; docs/fitting.md).
        schedule: stages of the vertices as dictionaries (see `Stage`), coarse to fine; empty for the mode's default.
        max_seconds: stop after this time; every stage gets its share of it. None for no limit.
        patience: a stage goes on twice as fast after this many evaluations (of ten) without improvement.
        voxels: resolution of the carved hull that "reconstruct" starts from.
    """

    mode: str = "refine"
    optimize: tuple[str, ...] = ("vertices",)
    camera_parts: tuple[str, ...] = ("location", "rotation", "focal")
    cameras_together: bool = False
    known_frame: int | None = None
    turns: int = 30
    seed: int = 0
    device: str = "auto"
    renderer: str = "soft"
    place: str = "auto"
    symmetry: str | None = None
    symmetry_frame: tuple[float, ...] | None = None
    cull: bool | None = None
    preconditioned: bool = True
    batch: int = 8
    weights: dict[str, float] = field(default_factory=dict)
    schedule: tuple[Stage, ...] = ()
    max_seconds: float | None = None
    patience: int = 3
    voxels: int = 96

    @classmethod
    def of(cls, /, **values: Any) -> Settings:
        """Settings from plain values. Raises InputError naming an unknown or unusable one."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InputError(f"there is no setting {shown(unknown[0])}; the settings are {', '.join(sorted(known))}.")
        settings = cls(**values)._checked()
        settings._check_together()
        return settings

    @property
    def moves(self) -> tuple[str, ...]:
        """The variables of few parameters: all but the vertices."""
        return tuple(name for name in self.optimize if name != "vertices")

    def term_weights(self) -> dict[str, float]:
        """The factor of every term."""
        return WEIGHTS[self.mode] | POSE_WEIGHTS | self.weights

    def _checked(self) -> Settings:
        """Every value by itself checked, and of its own type."""
        mode = one_of("mode", self.mode, MODES)
        optimize = names("optimize", self.optimize, VARIABLES)
        weights = mapping("weights", self.weights, TERMS)
        stages = self.schedule or default_schedule(mode)
        if not isinstance(stages, list | tuple):
            raise InputError(f"schedule must be a list of stages, not {shown(stages)}.")
        endless = self.max_seconds is None or self.max_seconds == math.inf
        return replace(
            self,
            optimize=optimize,
            camera_parts=names("camera_parts", self.camera_parts, CAMERA_PARTS),
            cameras_together=flag("cameras_together", self.cameras_together),
            known_frame=None if self.known_frame is None else whole("known_frame", self.known_frame, None),
            turns=whole("turns", self.turns, 0, MOST_TURNS),
            seed=whole("seed", self.seed, 0),
            device=one_of("device", self.device, ("auto", "cpu", "cuda")),
            renderer=one_of("renderer", self.renderer, tuple(RENDERERS)),
            place=one_of("place", self.place, ("auto", "never")),
            symmetry=None if self.symmetry is None else one_of("symmetry", self.symmetry, AXES),
            symmetry_frame=None if self.symmetry_frame is None else _frame(self.symmetry_frame),
            cull=None if self.cull is None else flag("cull", self.cull),
            preconditioned=flag("preconditioned", self.preconditioned),
            batch=whole("batch", self.batch, 1),
            weights={
                name: positive(f"the weight of {name}", value, zero=True, most=MOST_WEIGHT)
                for name, value in weights.items()
            },
            schedule=tuple(map(Stage.of, stages)),
            max_seconds=None if endless else positive("max_seconds", self.max_seconds),
            patience=whole("patience", self.patience, 1),
            voxels=whole("voxels", self.voxels, 2, MOST_VOXELS),
        )

    def _check_together(self) -> None:
        """No setting is left without effect."""
        if self.mode == "reconstruct" and self.optimize != ("vertices",):
            raise InputError("reconstruct makes a new mesh, so it can only optimize vertices.")
        if self.mode == "reconstruct" and self.symmetry is not None:
            raise InputError("reconstruct makes a mesh without symmetry; leave out symmetry, or choose mode 'refine'.")
        if self.mode == "refine" and any(stage.edge is not None for stage in self.schedule):
            raise InputError("refine keeps the mesh's faces; leave out edge, or choose mode 'reconstruct'.")
        if self.symmetry is not None and {"pose", "shape_keys"} & set(self.optimize):
            raise InputError(
                "a posed mesh is not symmetric; leave out symmetry, or optimize vertices and object alone."
            )
        if self.symmetry is not None and "vertices" not in self.optimize:
            raise InputError("symmetry is of free vertices; leave it out, or optimize vertices too.")
        weights = self.term_weights()
        if not (weights["iou"] or weights["squared"]):
            raise InputError("the weights of iou and squared are both 0, so no mask counts; give one of them a weight.")


def _frame(value: Any) -> tuple[float, ...]:
    matrix = affine("symmetry_frame", np.reshape(numbers("symmetry_frame", value, 16), (4, 4)))
    return tuple(matrix.ravel().tolist())
