"""Stages of a fit, coarse to fine."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from ..errors import InputError
from .checks import ends, mapping, positive, whole

VARIABLES = ("vertices", "rigid")


@dataclass(frozen=True)
class Stage:
    """One resolution of a fit. Lengths are in object sizes: the longest side of the object is 1.

    Attributes:
        resolution: side of the square crop around the object, pixels (fewer where the masks are coarser).
        steps: at most this many.
        blur: crop pixels of softness at the start and the end of the stage; sigma = (2 blur / resolution)^2.
        rates: step length of each variable at the start and the end of the stage.
        smoothing: length over which a preconditioned step is smooth.
        stiffness: factor of the mesh terms' weights at the start and the end of the stage.
        edge: edge length to remesh to (reconstruct only), or None.
        remesh_every: steps between remeshings; 0 remeshes only at the start of the stage.
    """

    resolution: int
    steps: int
    blur: tuple[float, float] = (0.35, 0.35)
    rates: dict[str, tuple[float, float]] = field(default_factory=dict)
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
            raise InputError(f"a stage must be a dictionary with resolution and steps, not {value!r}.")
        known = {f.name for f in fields(cls)}
        for name in value:
            if name not in known:
                raise InputError(f"a stage has no '{name}'; it has {', '.join(sorted(known))}.")
        if not {"resolution", "steps"} <= set(value):
            raise InputError("a stage needs at least resolution and steps.")
        stage = cls(**value)
        rates = mapping("rates of a stage", stage.rates, VARIABLES)
        return cls(
            resolution=whole("resolution of a stage", stage.resolution, 1),
            steps=whole("steps of a stage", stage.steps, 1),
            blur=ends("blur of a stage", stage.blur),
            rates={name: ends(f"the rate of {name}", rate) for name, rate in rates.items()},
            smoothing=positive("smoothing of a stage", stage.smoothing, zero=True),
            stiffness=ends("stiffness of a stage", stage.stiffness),
            edge=None if stage.edge is None else positive("edge of a stage", stage.edge),
            remesh_every=whole("remesh_every of a stage", stage.remesh_every, 0),
        )


def default_schedule(mode: str, optimize: tuple[str, ...]) -> tuple[Stage, ...]:
    """The stages that work without tuning."""
    if mode == "reconstruct":
        return RECONSTRUCT
    return REFINE_VERTICES if "vertices" in optimize else REFINE_RIGID


RECONSTRUCT = (Stage(400, 200, (0.35, 0.16), {"vertices": (0.025, 0.0015)}, smoothing=0.028, edge=0.018),)

# Stiff at first, so that nothing folds while the shape is found; then soft, so that detail gets in.
REFINE_VERTICES = (
    Stage(128, 60, (1.5, 0.7), {"vertices": (0.04, 0.03), "rigid": (0.02, 0.01)}, smoothing=0.12),
    Stage(128, 120, (0.5, 0.35), {"vertices": (0.04, 0.025), "rigid": (0.01, 0.005)}, 0.08, stiffness=(1, 0.5)),
    Stage(256, 130, (0.35, 0.25), {"vertices": (0.02, 0.01), "rigid": (0.005, 0.002)}, 0.04, stiffness=(0.5, 0.2)),
    Stage(512, 90, (0.25, 0.2), {"vertices": (0.01, 0.001), "rigid": (0.002, 0.0002)}, 0.025, stiffness=(0.2, 0.08)),
)

REFINE_RIGID = (
    Stage(64, 60, (1.75, 1.0), {"rigid": (0.05, 0.03)}),
    Stage(128, 60, (1.0, 0.7), {"rigid": (0.02, 0.01)}),
    Stage(256, 60, (0.5, 0.3), {"rigid": (0.01, 0.003)}),
    Stage(512, 40, (0.3, 0.2), {"rigid": (0.003, 0.0003)}),
)
