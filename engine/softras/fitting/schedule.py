"""Stages of a fit, coarse to fine."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from ..checks import ends, number, positive, whole
from ..errors import InputError, shown

# What a stage may be told. Beyond it nothing can be seen, float32 ends, or memory does.
MOST_PIXELS, MOST_STEPS = 8192, 1_000_000
BLURS = (1e-3, 1e3)  # crop pixels
LENGTHS = (1e-9, 1e3)  # object sizes
LEAST_EDGE = 1e-3  # object sizes; a mesh of such edges has millions of faces
FACTORS = (1e-9, 1e9)

VARIABLES = ("vertices", "object", "pose", "shape_keys", "cameras")


@dataclass(frozen=True)
class Stage:
    """One resolution of a fit of free vertices. Lengths are in object sizes: the longest side of the object is 1.

    Attributes:
        resolution: side of the square crop around the object, pixels (fewer where the masks are coarser).
        steps: at most this many.
        blur: crop pixels of softness at the start and the end of the stage; sigma = (2 blur / resolution)^2.
        rate: step length at the start and the end of the stage.
        smoothing: length over which a preconditioned step is smooth.
        stiffness: factor of the mesh terms' weights at the start and the end of the stage.
        edge: edge length to remesh to (reconstruct only), or None.
        remesh_every: steps between remeshings; 0 remeshes only at the start of the stage.
    """

    resolution: int
    steps: int
    blur: tuple[float, float] = (0.35, 0.35)
    rate: tuple[float, float] = (0.01, 0.001)
    smoothing: float = 0.05
    stiffness: tuple[float, float] = (1.0, 1.0)
    edge: float | None = None
    remesh_every: int = 0

    @classmethod
    def of(cls, value: Stage | dict[str, Any]) -> Stage:
        """A stage from plain values. Raises InputError naming an unknown or missing one."""
        if isinstance(value, Stage):
            value = {f.name: getattr(value, f.name) for f in fields(cls)}
        if not isinstance(value, dict):
            raise InputError(f"a stage must be a dictionary with resolution and steps, not {shown(value)}.")
        known = {f.name for f in fields(cls)}
        for name in value:
            if name not in known:
                raise InputError(f"a stage has no {shown(name)}; it has {', '.join(sorted(known))}.")
        if not {"resolution", "steps"} <= set(value):
            raise InputError("a stage needs at least resolution and steps.")
        stage = cls(**value)
        return cls(
            resolution=whole("resolution of a stage", stage.resolution, 1, MOST_PIXELS),
            steps=whole("steps of a stage", stage.steps, 1, MOST_STEPS),
            blur=ends("blur of a stage", stage.blur, *BLURS),
            rate=ends("rate of a stage", stage.rate, *LENGTHS),
            smoothing=positive("smoothing of a stage", stage.smoothing, zero=True, most=LENGTHS[1]),
            stiffness=ends("stiffness of a stage", stage.stiffness, *FACTORS),
            edge=None if stage.edge is None else number("edge of a stage", stage.edge, LEAST_EDGE, LENGTHS[1]),
            remesh_every=whole("remesh_every of a stage", stage.remesh_every, 0, MOST_STEPS),
        )


@dataclass(frozen=True)
class PoseStage:
    """One resolution of a search for poses. All steps are Levenberg and Marquardt's.

    Attributes:
        resolution: side of the square crop around the object, pixels (fewer where the masks are coarser).
        steps: at most this many; a stage ends where steps hardly help any more.
        blur: crop pixels of softness; sigma = (2 blur / resolution)^2.
        prior: factor of the weight that holds the pose near the given one.
        reach: weight of the pulls towards parts of the masks that nothing covers (see `reach.py`).
    """

    resolution: int
    steps: int
    blur: float
    prior: float = 1.0
    reach: float = 0.0


# A pose that is far; one from a pose nearby.
POSE = (
    PoseStage(96, 14, 0.83, reach=300),
    PoseStage(96, 4, 0.48),
    PoseStage(128, 4, 0.35),
)
POSE_NEAR = (PoseStage(96, 5, 0.83, reach=300), *POSE[1:])
# A shape, or where an object is. A step goes as far as the blur, so that what is far takes coarse pixels.
SHAPE = (
    PoseStage(32, 6, 1.0, prior=0.1),
    PoseStage(64, 6, 0.8, prior=0.1),
    PoseStage(128, 6, 0.5, prior=0.03),
)
# Poses and cameras at once.
JOINT = (PoseStage(96, 10, 0.83), PoseStage(128, 6, 0.5))
# The last bit, where the prior lets go.
FINE = (PoseStage(128, 5, 0.3, prior=0.03), PoseStage(192, 5, 0.3, prior=0.03))
FINEST = (PoseStage(256, 8, 0.3, prior=0.0), PoseStage(400, 10, 0.15, prior=0.0))
# An object turned far: every rotation; the better ones; the best.
OBJECT = (PoseStage(32, 5, 1.0), PoseStage(64, 6, 0.8), PoseStage(128, 6, 0.5))
CAMERAS = (
    PoseStage(96, 10, 0.83, reach=300),
    PoseStage(128, 6, 0.6, reach=100),
    PoseStage(256, 8, 0.3),
)


def default_schedule(mode: str) -> tuple[Stage, ...]:
    """The stages of free vertices that work without tuning."""
    return RECONSTRUCT if mode == "reconstruct" else REFINE


RECONSTRUCT = (Stage(400, 200, (0.35, 0.16), (0.025, 0.0015), smoothing=0.028, edge=0.018),)

# Stiff at first, so that nothing folds while the shape is found; then soft, so that detail gets in.
REFINE = (
    Stage(128, 60, (1.5, 0.7), (0.04, 0.03), smoothing=0.12),
    Stage(128, 120, (0.5, 0.35), (0.04, 0.025), smoothing=0.08, stiffness=(1, 0.5)),
    Stage(256, 130, (0.35, 0.25), (0.02, 0.01), smoothing=0.04, stiffness=(0.5, 0.2)),
    Stage(512, 90, (0.25, 0.2), (0.01, 0.001), smoothing=0.025, stiffness=(0.2, 0.08)),
)
