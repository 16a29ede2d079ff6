"""Masks are read from image files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import checks
from ..errors import InputError, shown
from .images import ROWS, read_pixels, unit

CHANNELS = ("auto", "alpha", "grey", "red", "green", "blue")
_COLOURS = ("red", "green", "blue")
_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601


@dataclass(frozen=True)
class MaskReading:
    """How a mask is read from an image; raises InputError for what cannot be.

    Attributes:
        channel: where the mask is; "auto" takes alpha where the image is not opaque everywhere, else grey.
        threshold: 0..1; above it is 1, else 0. None keeps soft edges.
        invert: swap object and background (of an alpha mask too).
        label: the object's value in a map of labels: a whole number as the file stores it (of a palette the index,
            of a channel its value), or a colour as "#ff0000"; it is 1, all else 0.
    """

    channel: str = "auto"
    threshold: float | None = None
    invert: bool = False
    label: int | str | None = None

    def __post_init__(self) -> None:
        checks.one_of("the mask's channel", self.channel, CHANNELS)
        if self.threshold is not None:
            checks.number("the mask's threshold", self.threshold, 0, 1)
        checks.flag("the mask's invert", self.invert)
        if self.label is None:
            return
        if isinstance(self.label, str):
            if not re.fullmatch("#[0-9a-fA-F]{6}", self.label):
                raise InputError(
                    f"the mask's label must be a whole number or a colour such as #ff0000, not {shown(self.label)}."
                )
            if self.channel != "auto":
                raise InputError("a mask's label that is a colour needs all channels; leave the channel out.")
        else:
            checks.whole("the mask's label", self.label, None)
        if self.threshold is not None:
            raise InputError("a mask's label is met or not; leave the threshold out.")


def load_mask(
    path: Path | str,
    *,
    channel: str = "auto",
    threshold: float | None = None,
    invert: bool = False,
    label: int | str | None = None,
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """The mask in an image file, (H, W) float32 in 0..1, 1 = object.

    Args:
        path: the file, of a format that `load_image` reads.
        channel: as all that follow but size, see `MaskReading`.
        threshold: the same.
        invert: the same.
        label: the same; of a JPEG it is refused, since its values are not kept exactly.
        size: (width, height) that the image must have.

    Raises InputError when the file is missing, is no image, or has no such channel.
    """
    return read_mask(path, MaskReading(channel, threshold, invert, label), size)


def read_mask(path: Path | str, reading: MaskReading, size: tuple[int, int] | None = None) -> np.ndarray:
    """`load_mask` with its arguments in one."""
    path = Path(path)
    if reading.label is not None:
        mask = _labelled(path, reading.label, reading.channel, size)
    else:
        mask = _channel(read_pixels(path, size=size), reading.channel, path)
    if reading.threshold is not None:
        np.greater(mask, reading.threshold, out=mask)  # in place: the largest masks take half a gigabyte
    return np.subtract(1, mask, out=mask) if reading.invert else mask


def _labelled(path: Path, label: Any, channel: str, size: tuple[int, int] | None) -> np.ndarray:
    pixels = read_pixels(path, size=size, indices=channel == "auto" and not isinstance(label, str), exact=True)
    if isinstance(label, str):
        if pixels.dtype != np.uint8:
            raise InputError(f"the image {path} has no colours; give the label as a number.")
        wanted = [int(label[i : i + 2], 16) for i in (1, 3, 5)]
        colours = pixels[..., :3] if pixels.shape[2] > 2 else pixels[..., [0, 0, 0]]
        return (colours == np.array(wanted, dtype=np.uint8)).all(axis=2).astype(np.float32)
    place = _place(pixels, channel, path)
    if place is None:
        if pixels.shape[2] > 2 and not (pixels[..., :1] == pixels[..., 1:3]).all():
            raise InputError(f"the image {path} has colours; give the label as one, such as #ff0000, or a channel too.")
        place = 0
    return (pixels[..., place] == label).astype(np.float32)


def _channel(pixels: np.ndarray, channel: str, path: Path) -> np.ndarray:
    """(H, W) float32 in 0..1."""
    has_alpha = pixels.shape[2] in (2, 4)
    opaque = channel != "auto" or not has_alpha or pixels[..., -1].min() == np.iinfo(pixels.dtype).max
    place = _place(pixels, channel if opaque else "alpha", path)
    if place is not None:
        return unit(pixels[..., place], path)
    grey = np.zeros(pixels.shape[:2], dtype=np.float32)
    for top in range(0, len(grey), ROWS):
        for i, part in enumerate(_LUMINANCE):
            grey[top : top + ROWS] += pixels[top : top + ROWS, :, i] * np.float32(part / 255)
    return grey.clip(0, 1, out=grey)


def _place(pixels: np.ndarray, channel: str, path: Path) -> int | None:
    """Where in (H, W, C) the channel is; None for the grey of colours."""
    count = pixels.shape[2]
    if channel == "alpha":
        if count not in (2, 4):
            raise InputError(f"the image {path} has no alpha channel; choose another mask channel.")
        return count - 1
    if count < 3:
        return 0
    return _COLOURS.index(channel) if channel in _COLOURS else None
