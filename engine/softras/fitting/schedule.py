"""The stages of a fit, coarse to fine."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from ..checks import ends, number, positive, whole
from ..errors import InputError, shown
from ..knobs import checked, described, knob, or_none, refuse_unknown
from ..rig import PARTS

# The values that a stage accepts. Others would have no visible effect, leave the range of float32 or exceed the memory.
MOST_PIXELS, MOST_STEPS = 8192, 1_000_000
BLURS = (1e-3, 1e3)  # crop pixels
LENGTHS = (1e-9, 1e3)  # object sizes
LEAST_EDGE = 1e-3  # In object sizes; a mesh with such edges has millions of faces.
FACTORS = (1e-9, 1e9)

VARIABLES = ("vertices", *PARTS, "cameras")


@dataclass(frozen=True)
class Stage:
    """A part of a fit of free vertices, at one resolution. Lengths are in object sizes: the object's longest side is 1.

    Attributes:
    """

    resolution: int = knob(
        partial(whole, least=1, most=MOST_PIXELS),
        "Side of the square crop around the object; about, since exact coverage is compared in squares of whole pixels "
        "of the masks; fewer where the masks are coarser.",
        unit="pixels",
    )
    steps: int = knob(partial(whole, least=1, most=MOST_STEPS), "How many steps there are at most.", unit="steps")
    blur: tuple[float, float] = knob(
        partial(ends, least=BLURS[0], most=BLURS[1]),
        "Softness of soft silhouettes at the start and at the end of the stage; sigma = (2 blur / resolution)^2. Exact "
        "coverage has none.",
        default=(0.35, 0.35),
        unit="crop pixels",
    )
    rate: tuple[float, float] = knob(
        partial(ends, least=LENGTHS[0], most=LENGTHS[1]),
        "Length of a step at the start and at the end of the stage.",
        default=(0.01, 0.001),
        unit="object sizes",
    )
    smoothing: float = knob(
        partial(positive, zero=True, most=LENGTHS[1]),
        "Length over which a preconditioned step is smooth.",
        default=0.05,
        unit="object sizes",
    )
    stiffness: tuple[float, float] = knob(
        partial(ends, least=FACTORS[0], most=FACTORS[1]),
        "Factor of the weights of the mesh's own terms at the start and at the end of the stage.",
        default=(1.0, 1.0),
    )
    edge: float | None = knob(
        or_none(partial(number, low=LEAST_EDGE, high=LENGTHS[1])),
        "Edge length of the even triangles of which the stage makes the mesh anew (reconstruct only).",
        default=None,
        unit="object sizes",
    )
    remesh_every: int = knob(
        partial(whole, least=0, most=MOST_STEPS),
        "Steps from one remeshing to the next; 0 remeshes at the start of the stage alone.",
        default=0,
        unit="steps",
    )

    @classmethod
    def of(cls, value: Stage | dict[str, Any]) -> Stage:
        """A stage from plain values. Raises InputError naming an unknown or missing one."""
        if isinstance(value, Stage):
            value = {f.name: getattr(value, f.name) for f in fields(cls)}
        if not isinstance(value, dict):
            raise InputError(f"a stage must be a dictionary with resolution and steps, not {shown(value)}.")
        refuse_unknown(cls, value, "a stage has no", "it has")
        if not {"resolution", "steps"} <= set(value):
            raise InputError("a stage needs at least resolution and steps.")
        return checked(cls, value, " of a stage")


Stage.__doc__ = f"{(Stage.__doc__ or '').rstrip()}\n{described(Stage)}\n"


@dataclass(frozen=True)
class PoseStage:
    """A part of a search for poses, at one resolution. The steps are those of Levenberg-Marquardt.

    Attributes:
        resolution: side of the square crop around the object in pixels; fewer where the masks are coarser.
        steps: how many steps there are at most; the stage ends earlier where steps hardly lower the cost.
        blur: softness of the soft silhouette in crop pixels; sigma = (2 blur / resolution)^2.
        prior: factor of the weights of the prior, which keeps the pose near the given one.
        pull: weight of the pulls towards parts of the masks that the silhouette does not cover (`poses/pulls.py`).
        renderer: the one that suits the stage; it draws it where the setting `renderer` is "auto".
        cell: side of the cells in which vertices are merged, in crop pixels; 0 for the mesh in all its detail.
    """

    resolution: int
    steps: int
    blur: float
    prior: float = 1.0
    pull: float = 0.0
    renderer: str = "exact"
    cell: float = 2.0


# The bones of a frame: from a pose that may be far off, and from a pose that is nearly right.
POSE = (
    PoseStage(96, 14, 0.83, pull=300, renderer="soft"),
    PoseStage(96, 4, 0.48),
    PoseStage(128, 4, 0.35),
)
POSE_NEAR = (PoseStage(96, 5, 0.83, pull=300, renderer="soft"), *POSE[1:])
# A short look at what becomes of a bone that is turned far.
TURN = PoseStage(48, 5, 0.83, pull=300, renderer="soft")
# The object and the shape keys. A step moves an outline by about a pixel, so that large distances need coarse pixels.
SHAPE = (
    PoseStage(32, 6, 1.0, prior=0.1, pull=300),
    PoseStage(64, 6, 0.8, prior=0.1, pull=300),
    PoseStage(128, 6, 0.5, prior=0.03),
)
# All frames and the cameras together.
JOINT = (PoseStage(96, 10, 0.83), PoseStage(128, 6, 0.5))
# The last stages, for bones and for all else, in which the prior counts for little or nothing.
FINE = (PoseStage(128, 5, 0.3, prior=0.03), PoseStage(192, 8, 0.3, prior=0.003, cell=0.0))
FINEST = (PoseStage(256, 8, 0.3, prior=0.0), PoseStage(400, 10, 0.15, prior=0.0, cell=0.0))
# The object in many rotations: all of them in the first stage, the better ones in the second, the best in the third.
OBJECT = (PoseStage(32, 5, 1.0), PoseStage(64, 6, 0.8), PoseStage(128, 6, 0.5))
# The cameras of a mesh that stays.
CAMERAS = (
    PoseStage(96, 10, 0.83, pull=300, renderer="soft"),
    PoseStage(128, 6, 0.6, pull=100, renderer="soft"),
    PoseStage(256, 8, 0.3, cell=0.0),
)


def default_schedule(mode: str) -> tuple[Stage, ...]:
    """The stages of a fit of free vertices in a mode, for whoever gives none."""
    return RECONSTRUCT if mode == "reconstruct" else REFINE


RECONSTRUCT = (Stage(400, 200, (0.35, 0.16), (0.025, 0.0015), smoothing=0.028, edge=0.018),)

# Stiff at first, so that the mesh does not fold while it is still far from the masks; then soft, for the details.
REFINE = (
    Stage(128, 60, (1.5, 0.7), (0.04, 0.03), smoothing=0.12),
    Stage(128, 120, (0.5, 0.35), (0.04, 0.025), smoothing=0.08, stiffness=(1, 0.5)),
    Stage(256, 130, (0.35, 0.25), (0.02, 0.01), smoothing=0.04, stiffness=(0.5, 0.2)),
    Stage(512, 90, (0.25, 0.2), (0.01, 0.001), smoothing=0.025, stiffness=(0.2, 0.08)),
)
