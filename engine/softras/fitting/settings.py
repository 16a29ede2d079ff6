"""Every knob of a fit, as plain values that fit into a job document."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from ..deform.mirror import AXES
from ..errors import InputError
from .schedule import Stage, default_schedule

MODES = ("refine", "reconstruct")
VARIABLES = ("vertices", "rigid")
TERMS = ("iou", "squared", "laplacian", "bilaplacian", "normal_consistency", "distortion", "edge_length")


@dataclass(frozen=True)
class Settings:
    """How to fit.

    Attributes:
        mode: "refine" keeps the mesh's topology and vertex order; "reconstruct" makes a new mesh from the masks.
        optimize: the variables, of "vertices" and "rigid" (rotation, translation and uniform scale).
        seed: of the order in which views are visited; on the CPU the same seed gives the same result.
        device: "auto", "cpu" or "cuda".
        place: "auto" moves and scales the mesh onto the masks when it does not yet overlap them (unless a lock
            mask holds vertices in place); or "never".
        symmetry: mirror axis "x", "y" or "z" of the displacements, or None.
        symmetry_frame: 16 numbers, row by row: the (4, 4) matrix from the space whose origin and axes define the
            mirror plane (in Blender: the object's) to the world; None for the world itself.
        cull: leave out faces seen from behind, which makes outlines exact but thin parts harder to fit; None does so
            for closed, outward-oriented meshes whose vertices are not free.
        preconditioned: take smooth steps (Nicolet et al. 2021); otherwise plain steps of each vertex.
        batch: views in one step.
        weights: factors of the terms that differ from the mode's defaults (`TERMS` are the names).
        schedule: stages as dictionaries (see `Stage`), coarse to fine; None for the mode's default.
        max_seconds: stop after this time; every stage gets its share of it. None for no limit.
        patience: a stage goes on twice as fast after this many evaluations (of ten) without improvement.
        voxels: resolution of the carved hull that "reconstruct" starts from.
    """

    mode: str = "refine"
    optimize: tuple[str, ...] = ("vertices",)
    seed: int = 0
    device: str = "auto"
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
    def of(cls, **values: Any) -> Settings:
        """Settings from plain values. Raises InputError naming an unknown or unusable one."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InputError(f"there is no setting '{unknown[0]}'; the settings are {', '.join(sorted(known))}.")
        optimize = values.get("optimize", ("vertices",))
        values["optimize"] = (optimize,) if isinstance(optimize, str) else tuple(optimize)
        if values.get("symmetry_frame") is not None:
            values["symmetry_frame"] = tuple(float(x) for x in values["symmetry_frame"])
        stages = values.pop("schedule", None)
        settings = cls(**values)
        settings._check()
        stages = tuple(map(Stage.of, stages)) if stages else default_schedule(settings.mode, settings.optimize)
        object.__setattr__(settings, "schedule", stages)
        return settings

    def _check(self) -> None:
        _one_of("mode", self.mode, MODES)
        _one_of("device", self.device, ("auto", "cpu", "cuda"))
        _one_of("place", self.place, ("auto", "never"))
        if self.symmetry is not None:
            _one_of("symmetry", self.symmetry, AXES)
        for name in self.optimize:
            _one_of("optimize", name, VARIABLES)
        for name in self.weights:
            _one_of("weights", name, TERMS)
        if not self.optimize:
            raise InputError(f"optimize names nothing; choose from {', '.join(VARIABLES)}.")
        if self.mode == "reconstruct" and self.optimize != ("vertices",):
            raise InputError("reconstruct makes a new mesh, so it can only optimize vertices.")
        if self.symmetry_frame is not None and len(self.symmetry_frame) != 16:
            raise InputError(f"symmetry_frame must be 16 numbers, not {len(self.symmetry_frame)}.")
        for name in ("batch", "patience", "voxels"):
            if not (isinstance(getattr(self, name), int) and getattr(self, name) >= 1):
                raise InputError(f"{name} must be a whole number of at least 1, not {getattr(self, name)!r}.")
        if not isinstance(self.seed, int):
            raise InputError(f"seed must be a whole number, not {self.seed!r}.")
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise InputError(f"max_seconds must be positive, not {self.max_seconds}.")


def _one_of(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{name} cannot be {value!r}; choose from {', '.join(choices)}.")
