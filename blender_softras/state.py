# SPDX-License-Identifier: GPL-3.0-or-later
"""What a fit has found at some moment, and how well it matches the masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .engine.softras.camera import Camera
from .engine.softras.rig import Rig
from .scene.channels import Channel

NOTED = 0.01  # A mean IoU that is lower than the engine's by more than this is another one.


@dataclass(frozen=True, eq=False)
class State:
    """A state of the target and the cameras, and how well what the scene then shows matches the masks.

    Attributes:
        rigs: by frame, where they are not those of the start.
        cameras: of all views, where they are not those of the start.
        vertices: (V, 3) in the world, or the own ones of the job's rig if there is one; None for those of the start.
        unposed: whether they are the rig's own.
        pose: the channels of the bones, where Blender was asked how they move what is seen; None for the start's.
        notes: of the fits that led to it.
        iou: for each shot; empty where it was not measured.
        mean: of all shots; None where it was not measured.
    """

    rigs: Mapping[int, Rig] = field(default_factory=dict)
    cameras: Sequence[Camera] = ()
    vertices: np.ndarray | None = None
    unposed: bool = False
    pose: Mapping[Channel, np.ndarray] | None = None
    notes: tuple[str, ...] = ()
    iou: Sequence[float | None] = ()
    mean: float | None = None

    def matches_better(self, other: State, by: float = 0.0) -> bool:
        """Whether the mean IoU is higher than that of another one by more than this."""
        return self.mean is not None and (other.mean is None or self.mean > other.mean + by)

    @property
    def is_start(self) -> bool:
        """Whether nothing differs from the start."""
        return self.vertices is None and self.pose is None and not self.rigs and not self.cameras

    def is_worse(self, message: Mapping[str, Any]) -> bool:
        """Whether the mean IoU is clearly lower than the one that the message of a fit has told."""
        told = message.get("mean_iou")
        return isinstance(told, float) and self.mean is not None and self.mean < told - NOTED
