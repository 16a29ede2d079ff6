"""The settings of a fit, all of them plain values that a job document can hold.

Importing this module does not load torch, so that the command line's help can list the settings quickly. The tables of
renderers and of terms, which load torch, are imported when a value is checked against them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ..checks import affine, flag, mapping, names, numbers, one_of, positive, whole
from ..errors import InputError, shown
from ..knobs import checked, described, knob, or_none, refuse_unknown
from .schedule import VARIABLES, Stage, default_schedule

MODES = ("refine", "reconstruct")
MOST_VOXELS = 512  # With so many voxels along each side, the grid of the visual hull has 134 million.
MOST_TURNS = 10_000  # So many rotations lie less than 10 degrees apart; more would find nothing new.
MOST_WEIGHT = 1e9  # Beyond it, a term leaves the range of float32.
CAMERA_PARTS = ("location", "rotation", "focal", "shift")
DEVICES = ("auto", "cpu", "cuda")
AXES = ("x", "y", "z")


def _weights(name: str, value: Any) -> dict[str, float]:
    """The weights of terms, by their names."""
    from .terms.table import TERMS

    given = mapping(name, value, tuple(TERMS))
    return {term: positive(f"the weight of {term}", x, zero=True, most=MOST_WEIGHT) for term, x in given.items()}


def _renderer(name: str, value: Any) -> str:
    """A name in the table RENDERERS, to which a program may have added its own, or "auto"."""
    from .observed.renderer import renderer_names

    return one_of(name, value, renderer_names())


def _schedule(name: str, value: Any) -> tuple[Stage, ...]:
    """Stages; an empty list stands for those of the mode."""
    if not isinstance(value, list | tuple):
        raise InputError(f"{name} must be a list of stages, not {shown(value)}.")
    return tuple(map(Stage.of, value))


def _max_seconds(name: str, value: Any) -> float | None:
    """A positive number; None or infinity for no limit."""
    return None if value is None or value == math.inf else positive(name, value)


def _frame(name: str, value: Any) -> tuple[float, ...]:
    """A (4, 4) affine matrix, row by row."""
    matrix = affine(name, np.reshape(numbers(name, value, 16), (4, 4)))
    return tuple(matrix.ravel().tolist())


@dataclass(frozen=True)
class Settings:
    """The settings of a fit; docs/settings.md lists them in a table.

    Attributes:
    """

    mode: str = knob(
        partial(one_of, choices=MODES),
        '"refine" keeps the topology and the vertex order of the mesh; "reconstruct" makes a new mesh from the masks.',
        default="refine",
    )
    optimize: tuple[str, ...] = knob(
        partial(names, choices=VARIABLES),
        'The variables: "object" (location, rotation and uniform scale of the object), "pose" (of the bones), '
        '"shape_keys", "cameras" and "vertices". What a rig locks stays. Vertices are fitted last, on top of the rest.',
        default=("vertices",),
    )
    camera_parts: tuple[str, ...] = knob(
        partial(names, choices=CAMERA_PARTS),
        'What of the cameras may change: "location", "rotation", "focal" (length), "shift" (of the principal point).',
        default=("location", "rotation", "focal"),
    )
    cameras_together: bool = knob(
        flag, "Whether all cameras move as one rigid rig with one lens, in place of each by itself.", default=False
    )
    known_frame: int | None = knob(
        or_none(partial(whole, least=None)),
        "The frame in which the pose of the rig is right as given; the poses of other frames start from it.",
        default=None,
    )
    turns: int = knob(
        partial(whole, least=0, most=MOST_TURNS),
        "How many rotations of the object are tried at first; 0 tries the given one alone, and does not search for "
        "cameras from all sides.",
        default=30,
        unit="rotations",
    )
    seed: int = knob(
        partial(whole, least=0),
        "Start of the random numbers, which decide the order in which views are visited. On the CPU the same seed "
        "gives the same result.",
        default=0,
    )
    device: str = knob(
        partial(one_of, choices=DEVICES),
        'Where to compute: "cpu", "cuda" (an NVIDIA GPU), or "auto", which takes a GPU that can be used.',
        default="auto",
    )
    renderer: str = knob(
        _renderer,
        'What draws the silhouettes that are compared with the masks: "exact", `softras.coverage`; "soft", '
        '`softras.silhouettes`; "auto", soft ones in the first stages of a search for bones or cameras, which pull '
        "from afar, and exact ones in all others.",
        default="auto",
    )
    place: str = knob(
        partial(one_of, choices=("auto", "never")),
        '"auto" moves and scales the mesh onto the masks first where it matches them clearly better so, and turns it '
        'too where vertices alone are fitted and neither a lock mask nor symmetry holds them; "never" does not.',
        default="auto",
    )
    symmetry: str | None = knob(
        or_none(partial(one_of, choices=AXES)),
        'The axis, "x", "y" or "z", across which the displacements of the vertices are mirror-symmetric.',
        default=None,
    )
    symmetry_frame: tuple[float, ...] | None = knob(
        or_none(_frame),
        "The (4, 4) matrix, as 16 numbers row by row, from the space in which the plane of symmetry passes through the "
        "origin (in Blender: the object's) to the world; without it that space is the world.",
        default=None,
    )
    cull: bool | None = knob(
        or_none(flag),
        "Whether soft silhouettes leave out faces seen from behind, which makes outlines sharper but thin parts harder "
        "to fit. Without a choice they are left out of closed, outward-oriented meshes whose vertices are not free.",
        default=None,
    )
    preconditioned: bool = knob(
        flag,
        "Whether steps of the vertices are smooth over the surface (Nicolet et al. 2021), in place of each vertex by "
        "itself.",
        default=True,
    )
    batch: int = knob(partial(whole, least=1), "How many views one step of the vertices uses.", default=8, unit="views")
    weights: dict[str, float] = knob(
        _weights, "Factors of the terms of the objective that differ from the defaults.", default_factory=dict
    )
    schedule: tuple[Stage, ...] = knob(
        _schedule, "The stages of the vertices, coarse to fine; without any, those of the mode.", default=()
    )
    max_seconds: float | None = knob(
        _max_seconds,
        "When the fit ends with the best so far; every stage gets its share of the time. Without it there is no limit.",
        default=None,
        unit="seconds",
    )
    patience: int = knob(
        partial(whole, least=1),
        "After how many evaluations without improvement, of the ten in each stage, the rest of the stage is halved.",
        default=3,
        unit="evaluations",
    )
    voxels: int = knob(
        partial(whole, least=2, most=MOST_VOXELS),
        'How many voxels lie along the longest side of the visual hull from which "reconstruct" starts.',
        default=96,
        unit="voxels",
    )

    @classmethod
    def of(cls, /, **values: Any) -> Settings:
        """Settings from plain values. Raises InputError naming an unknown or unusable one."""
        refuse_unknown(cls, values, "there is no setting", "the settings are")
        settings = checked(cls, values)
        if not settings.schedule:
            settings = replace(settings, schedule=default_schedule(settings.mode))
        settings._check_together()
        return settings

    @property
    def pose_variables(self) -> tuple[str, ...]:
        """The variables with few parameters: all but the vertices."""
        return tuple(name for name in self.optimize if name != "vertices")

    def vertex_weights(self) -> dict[str, float]:
        """The weight of every term in a fit of free vertices."""
        return self._weights(self.mode)

    def pose_weights(self) -> dict[str, float]:
        """The weight of every term in a search for few parameters."""
        return self._weights("poses")

    def _weights(self, kind: str) -> dict[str, float]:
        """The weight of every term in a kind of fit: the default one, unless another is given."""
        from .terms.table import default_weights

        return default_weights(kind) | self.weights

    def _check_together(self) -> None:
        """Raises InputError for settings that contradict one another or would have no effect."""
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
        weights = self.vertex_weights()
        if not (weights["iou"] or weights["squared"]):
            raise InputError("the weights of iou and squared are both 0, so no mask counts; give one of them a weight.")
        if self.pose_variables and not self.pose_weights()["silhouettes"]:
            raise InputError("the weight of silhouettes is 0, so no mask counts; give it a weight.")


Settings.__doc__ = f"{(Settings.__doc__ or '').rstrip()}\n{described(Settings)}\n"
