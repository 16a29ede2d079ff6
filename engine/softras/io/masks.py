"""What the mask in an image is: the one definition, of which the command line and Blender make use.

A mask is where an image is not transparent; of an image that is opaque everywhere it is how bright the image is. Values
are taken as the file stores them, in whatever colour space, and a soft edge is kept. `MaskReading` says otherwise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import checks
from ..errors import InputError, shown
from .images import ROWS, brightest, read_pixels, rgb, to_unit

CHANNELS = ("auto", "alpha", "grey", "red", "green", "blue")
_COLOURS = ("red", "green", "blue")
_LUMA = (0.299, 0.587, 0.114)  # of red, green and blue as stored: ITU-R Recommendation BT.601


@dataclass(frozen=True)
class MaskReading:
    """How a mask is read from an image. Raises InputError for settings that mean nothing.

    Attributes:
        channel: where the mask is: "alpha", "red", "green", "blue", "grey" (of colours 0.299 R + 0.587 G + 0.114 B), or
            "auto", which is alpha in an image that is not opaque everywhere, else grey.
        threshold: a number from 0 to 1: values above it become 1, all others 0. None keeps soft edges.
        invert: whether object and background are swapped, also where the mask is in the alpha.
        label: the image is a map of labels: pixels with this value become 1, all others 0. The value is a whole number
            as the file stores it (for a palette the index), or a colour such as "#ff0000".
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
        channel: see `MaskReading`, as for the next three.
        threshold: see there.
        invert: see there.
        label: see there; JPEG files have no labels, since the format does not keep values exactly.
        size: (width, height) that the image must have.

    Raises InputError when the file is missing, is no image, or has no such channel.
    """
    return read_mask(path, MaskReading(channel, threshold, invert, label), size)


def read_mask(path: Path | str, reading: MaskReading, size: tuple[int, int] | None = None) -> np.ndarray:
    """`load_mask` with its arguments in one object."""
    labelled = reading.label is not None
    by_index = labelled and reading.channel == "auto" and not isinstance(reading.label, str)
    pixels = read_pixels(path, size=size, exact=labelled, indices=by_index)
    return mask_in(pixels, reading, f"the image {path}")


def mask_in(pixels: np.ndarray, reading: MaskReading, name: str) -> np.ndarray:
    """The mask in the pixels of an image, (H, W) float32 in 0..1, 1 = object: the one definition for every door.

    Args:
        pixels: (H, W, C) as the file stores them, C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha: uint8, other
            whole numbers from 0 to 65535, or floats from 0 to 1.
        reading: where in the pixels the mask is.
        name: how messages call the image.

    Raises InputError when the image has no such channel or no such label.
    """
    if reading.label is not None:
        mask = _labelled(pixels, reading.label, reading.channel, name)
    else:
        mask = _channel(pixels, auto_channel(pixels) if reading.channel == "auto" else reading.channel, name)
    if reading.threshold is not None:
        np.greater(mask, reading.threshold, out=mask)  # in place: the largest masks take half a gigabyte
    return np.subtract(1, mask, out=mask) if reading.invert else mask


def auto_channel(pixels: np.ndarray) -> str:
    """The channel that "auto" stands for: alpha in an image that is not opaque everywhere, else grey."""
    has_alpha = pixels.shape[2] in (2, 4)
    return "alpha" if has_alpha and pixels[..., -1].min() < brightest(pixels) else "grey"


def _labelled(pixels: np.ndarray, label: int | str, channel: str, name: str) -> np.ndarray:
    if isinstance(label, str):
        if pixels.dtype != np.uint8:
            raise InputError(f"{name} has no colours; give the label as a number.")
        colour = np.array([int(label[i : i + 2], 16) for i in (1, 3, 5)], dtype=np.uint8)
        return (rgb(pixels) == colour).all(axis=2).astype(np.float32)
    index = _channel_index(pixels, channel, name)
    if index is None:
        if not (pixels[..., :1] == pixels[..., 1:3]).all():
            raise InputError(f"{name} has colours; give the label as one, such as #ff0000, or a channel too.")
        index = 0
    return (pixels[..., index] == label).astype(np.float32)


def _channel(pixels: np.ndarray, channel: str, name: str) -> np.ndarray:
    """(H, W) float32 in 0..1 the values of a channel, or the grey of colours."""
    index = _channel_index(pixels, channel, name)
    if index is not None:
        return to_unit(pixels[..., index], name)
    most = brightest(pixels)
    grey = np.zeros(pixels.shape[:2], dtype=np.float32)
    for top in range(0, len(grey), ROWS):
        for i, weight in enumerate(_LUMA):
            grey[top : top + ROWS] += pixels[top : top + ROWS, :, i] * np.float32(weight / most)
    return grey.clip(0, 1, out=grey)


def _channel_index(pixels: np.ndarray, channel: str, name: str) -> int | None:
    """The index of a channel in pixels (H, W, C); None for the grey of colours, which is not stored."""
    count = pixels.shape[2]
    if channel == "alpha":
        if count not in (2, 4):
            raise InputError(f"{name} has no alpha channel; choose another mask channel.")
        return count - 1
    if count < 3:
        return 0
    return _COLOURS.index(channel) if channel in _COLOURS else None
