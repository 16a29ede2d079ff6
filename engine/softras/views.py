"""A view: a camera, the mask of the object in its image, and landmarks."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from .camera import Camera
from .checks import numbers, positive, text, whole
from .errors import InputError, shown

IMAGES = ("mask", "ignore")  # The fields of a view that are arrays of pixels; all others are plain values.


@dataclass(frozen=True)
class Landmark:
    """A vertex of the mesh, and the pixel at which a view should show it.

    Attributes:
        vertex: the index of the vertex.
        pixel: (x, y) in the view's image, with (0, 0) at the top-left corner; it may lie outside the image.
        weight: the factor, 0 or more, of the squared distance between the pixel and where the vertex is shown.
    """

    vertex: int
    pixel: tuple[float, float]
    weight: float = 1.0

    def __post_init__(self) -> None:
        vertex = whole("the vertex of a landmark", self.vertex, 0)
        pixel = numbers(f"the pixel of the landmark of vertex {vertex}", self.pixel, 2)
        weight = positive(f"the weight of the landmark of vertex {vertex}", self.weight, zero=True)
        for name, value in (("vertex", vertex), ("pixel", pixel), ("weight", weight)):
            object.__setattr__(self, name, value)


@dataclass(eq=False)
class View:
    """What a fit knows of one photograph. Its fields may be changed in place. A view equals itself only.

    Attributes:
        name: the name that messages and reports use.
        camera: the camera that took the photograph.
        mask: (H, W) float32 in 0..1, where 1 is the object; H and W are the camera's. A fit leaves out a view whose
            mask is empty or full, and says so.
        photo: the photograph that reports show behind the outlines, or None.
        weight: the factor, 0 or more, of this view in the objective.
        ignore: (H, W) bool, True for pixels of which the mask says nothing; None if there are none.
        frame: the number of the moment that the view shows. In a sequence, each frame has its own pose.
        landmarks: vertices of the mesh with the pixels that show them.
    """

    name: str
    camera: Camera
    mask: np.ndarray
    photo: Path | None = None
    weight: float = 1.0
    ignore: np.ndarray | None = None
    frame: int = 0
    landmarks: tuple[Landmark, ...] = ()

    def __post_init__(self) -> None:
        plain = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in IMAGES}
        for name, value in checked_values(plain).items():
            setattr(self, name, value)
        try:
            self.mask = np.ascontiguousarray(self.mask, dtype=np.float32)
            self.ignore = None if self.ignore is None else np.ascontiguousarray(self.ignore, dtype=bool)
        except (TypeError, ValueError, OverflowError, RuntimeError) as error:  # RuntimeError: it requires a gradient.
            raise InputError(f"the masks of view '{self.name}' must be arrays of numbers.") from error
        size = (self.camera.height, self.camera.width)
        if self.mask.shape != size:
            got = " x ".join(map(str, self.mask.shape[::-1]))
            raise InputError(
                f"the mask of view '{self.name}' is {got} pixels but its camera has {size[1]} x {size[0]}; "
                "use an image of the camera's size."
            )
        if not (np.isfinite(self.mask).all() and self.mask.min() >= 0 and self.mask.max() <= 1):
            raise InputError(f"the mask of view '{self.name}' must hold values from 0 to 1.")
        if self.ignore is not None and self.ignore.shape != size:
            raise InputError(
                f"the ignore mask of view '{self.name}' must be {size[1]} x {size[0]} pixels like its camera."
            )

    def blank(self) -> str | None:
        """A sentence that says why the mask shows no outline: it is empty or full. None if it shows one."""
        known = self.mask if self.ignore is None else self.mask[~self.ignore]
        if known.size == 0 or not (known > 0.5).any():
            brightest = "all of it is ignored"
            if known.size:
                brightest = f"its brightest pixel is {255 * known.max():.0f} of 255"
            return (
                f"the mask of view '{self.name}' is empty: {brightest}; "
                "the object must be white (255) in the channel that is read, and not inverted."
            )
        if (known > 0.5).all():
            return (
                f"the mask of view '{self.name}' covers the whole image: its darkest pixel is "
                f"{255 * known.min():.0f} of 255; the background must be black (0) in the channel that is read."
            )
        return None


def checked_values(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a view that are no images, checked and each in its own type. Raises InputError.

    A document is checked so before any of its images is read. Fields that have a default may be missing.
    """
    values = dict(given)
    name = text("the name of a view", values["name"])
    values["frame"] = whole(f"the frame of view '{name}'", values.get("frame", 0), None)
    values["weight"] = positive(f"the weight of view '{name}'", values.get("weight", 1.0), zero=True)
    if not isinstance(values["camera"], Camera):
        raise InputError(f"the camera of view '{name}' must be a softras.Camera, not {shown(values['camera'])}.")
    landmarks = values.get("landmarks", ())
    if not isinstance(landmarks, list | tuple) or not all(isinstance(mark, Landmark) for mark in landmarks):
        raise InputError(f"the landmarks of view '{name}' must be a list of softras.Landmark.")
    values["landmarks"] = tuple(landmarks)
    photo = values.get("photo")
    if not isinstance(photo, str | os.PathLike | None):
        raise InputError(f"the photo of view '{name}' must be the path of a picture, not {shown(photo)}.")
    values["photo"] = None if photo is None else Path(photo)
    return values


def mean_iou(iou: Sequence[float | None] | np.ndarray, views: Sequence[View] | None = None) -> float:
    """The mean IoU over the views, weighted by their weights if the views are given; NaN where no view counts.

    Args:
        iou: the IoU of each view; NaN or None for a view whose mask shows no outline, which does not count.
    """
    values = np.array(iou, dtype=float)
    weights = np.ones(len(values)) if views is None else np.array([view.weight for view in views])
    known = ~np.isnan(values)
    return float(np.average(values[known], weights=weights[known])) if weights[known].any() else math.nan
