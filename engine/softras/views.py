"""A view: a camera and the mask it should see."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from pathlib import Path

import numpy as np

from .camera import Camera
from .errors import InputError


@dataclass
class View:
    """One photograph's share of a fit.

    Attributes:
        name: how messages and reports call it.
        camera: the camera that took it.
        mask: (H, W) float32 in 0..1, 1 = object; H and W are the camera's.
        photo: the picture to show behind the outline in reports, if any.
        weight: this view's factor in the objective, >= 0.
        ignore: (H, W) bool, True where the mask has no opinion, or None.
    """

    name: str
    camera: Camera
    mask: np.ndarray
    photo: Path | None = None
    weight: float = 1.0
    ignore: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.mask = np.ascontiguousarray(self.mask, dtype=np.float32)
        size = (self.camera.height, self.camera.width)
        if self.mask.shape != size:
            got = " x ".join(map(str, self.mask.shape[::-1]))
            raise InputError(
                f"the mask of view '{self.name}' is {got} pixels but its camera has {size[1]} x {size[0]}; "
                "use an image of the camera's size."
            )
        if not (np.isfinite(self.mask).all() and self.mask.min() >= 0 and self.mask.max() <= 1):
            raise InputError(f"the mask of view '{self.name}' must hold values from 0 to 1.")
        if not (isinstance(self.weight, Real) and math.isfinite(self.weight) and self.weight >= 0):
            raise InputError(f"the weight of view '{self.name}' must be a number of 0 or more, not {self.weight!r}.")
        if self.ignore is not None:
            self.ignore = np.ascontiguousarray(self.ignore, dtype=bool)
            if self.ignore.shape != size:
                raise InputError(
                    f"the ignore mask of view '{self.name}' must be {size[1]} x {size[0]} pixels like its camera."
                )
        seen = self.mask if self.ignore is None else self.mask[~self.ignore]
        if seen.size == 0 or not (seen > 0.5).any():
            brightest = f"its brightest pixel is {255 * seen.max():.0f} of 255" if seen.size else "all of it is ignored"
            raise InputError(
                f"the mask of view '{self.name}' is empty: {brightest}; "
                "the object must be white (255) in the channel that is read, and not inverted."
            )
        if (seen > 0.5).all():
            raise InputError(
                f"the mask of view '{self.name}' covers the whole image: its darkest pixel is "
                f"{255 * seen.min():.0f} of 255; the background must be black (0) in the channel that is read."
            )
