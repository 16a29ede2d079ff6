# SPDX-License-Identifier: GPL-3.0-or-later
"""Masks from Blender's images: stills, image sequences and movies."""

from __future__ import annotations

import re
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import bpy
import numpy as np

from ..access import present
from ..engine.softras import InputError

_CHANNELS = {"RED": 0, "GREEN": 1, "BLUE": 2, "ALPHA": 3}
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)  # Rec. 709
MOVING = {"SEQUENCE", "MOVIE"}  # sources of images that have frames


class Footage:
    """What an image holds: a still image, or the numbered pictures of an image sequence or a movie.

    A context manager: the pictures of a sequence or a movie are read through a copy, so that the image stays as it is.
    """

    def __init__(self, image: bpy.types.Image) -> None:
        self._image = image
        self._copy: bpy.types.Image | None = None
        if image.source in MOVING:
            self._copy = _copy_without_colour_space(image)
            # Only an image user chooses a picture, and of what has one only a texture needs no window. After that the
            # image itself has the picture it was last asked for.
            self._texture = cast(bpy.types.ImageTexture, bpy.data.textures.new("Softras", "IMAGE"))
            self._texture.image = self._copy

    def __enter__(self) -> Footage:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._copy is not None:
            bpy.data.textures.remove(self._texture)
            bpy.data.images.remove(self._copy)

    def mask(self, number: int, channel: str, threshold: float, invert: bool) -> np.ndarray | None:
        """(H, W) float32, 1 where the channel is above the threshold (or, inverted, where it is not); row 0 on top.

        Args:
            number: of the picture: 1 is the first of a movie; those of a sequence have theirs in their files' names.
                A still image has one picture only.
            channel: where in the image the mask is.
            threshold: 0..1.
            invert: swap object and background.

        None where the sequence or the movie has no such picture. Raises InputError when the image cannot be read.
        """
        if channel == "ALPHA" and self._image.alpha_mode == "NONE":
            raise InputError(
                f"image '{self._image.name}' ignores its alpha; choose another mask channel or alpha mode."
            )
        values = self.read(number, channel)
        return None if values is None else ((values > threshold) != invert).astype(np.float32)

    def read(self, number: int, channel: str) -> np.ndarray | None:
        """(H, W) float32 of a channel of the numbered picture, as stored in the file; None where there is none."""
        image = self._image
        if self._copy is not None:
            if image.source == "MOVIE" and not 1 <= number <= self._copy.frame_duration:
                return None
            user = present(self._texture.image_user)
            user.frame_duration, user.frame_current = max(number, 1), number
            self._texture.evaluate((0, 0, 0))
            image = self._copy
            if not (image.channels and np.array(image.size).all()):
                return None
        pixels = _read_pixels(image)
        return pixels[..., :3] @ _LUMINANCE if channel == "LUMINANCE" else pixels[..., _CHANNELS[channel]]


def first_picture(image: bpy.types.Image) -> int:
    """The number of the picture that the image was opened with."""
    digits = _digits(Path(image.filepath).stem)
    return int(digits[0]) if image.source == "SEQUENCE" and digits else 1


def image_of_clip(clip: bpy.types.MovieClip) -> tuple[bpy.types.Image, int, int]:
    """The clip's file as an image, and the start frame and the offset with which it shows the same pictures.

    Blender gives the pixels of images only. Raises InputError when there is no such file.
    """
    try:
        image = bpy.data.images.load(bpy.path.abspath(clip.filepath, library=clip.library), check_existing=True)
    except RuntimeError:
        raise InputError(
            f"movie clip '{clip.name}' cannot be read from {clip.filepath}; check that the file exists."
        ) from None
    if clip.source == "SEQUENCE":
        image.source = "SEQUENCE"
    # A clip begins with its own file, an image sequence with the file of number 1.
    return image, clip.frame_start, clip.frame_offset + first_picture(image) - 1


def file_of(image: bpy.types.Image, number: int) -> Path | None:
    """Where the image, or the numbered picture of a sequence, lies on disk; None where no file is the picture."""
    path = Path(bpy.path.abspath(image.filepath, library=image.library))
    if image.source == "SEQUENCE" and (digits := _digits(path.stem)):
        start, end = digits.span()
        path = path.with_name(f"{path.stem[:start]}{number:0{end - start}d}{path.stem[end:]}{path.suffix}")
    return path if image.source in {"FILE", "SEQUENCE"} and path.is_file() else None


def mask_channel(image: bpy.types.Image) -> str:
    """Where the image's mask probably is: in its alpha if that says anything, else in its brightness."""
    try:
        with Footage(image) as footage:
            alpha = footage.read(first_picture(image), "ALPHA")
    except InputError:
        alpha = None
    if alpha is None:
        return "ALPHA"  # the fit will say why it cannot be read
    return "ALPHA" if image.alpha_mode != "NONE" and alpha.min() < 0.5 else "LUMINANCE"


def looks_like_photo(image: bpy.types.Image, channel: str) -> bool:
    """Whether much of the image is neither dark nor bright, where it is its brightness that is the mask."""
    if channel != "LUMINANCE":
        return False
    with Footage(image) as footage:
        brightness = footage.read(first_picture(image), channel)
    return brightness is not None and bool(((brightness > 0.15) & (brightness < 0.85)).mean() > 0.2)


def _copy_without_colour_space(image: bpy.types.Image) -> bpy.types.Image:
    """A copy of the image whose pixels Blender does not convert."""
    copy = present(image.copy())
    settings: Any = copy.colorspace_settings  # Blender's type stubs do not know the names of colour spaces
    settings.name = "Non-Color"
    return copy


def _digits(stem: str) -> re.Match[str] | None:
    """The number in the name of a file of a sequence: the last one."""
    return re.search(r"\d+(?=\D*$)", stem)


def _read_pixels(image: bpy.types.Image) -> np.ndarray:
    """(H, W, 4) float32 as stored in the file, whatever the image's colour space; the one place that flips rows."""
    if image.source not in {"FILE", "GENERATED", *MOVING}:
        raise InputError(
            f"image '{image.name}' is a {image.source.lower()} image; choose a file, a sequence or a movie."
        )
    width, height = np.array(image.size).tolist()  # reads the file
    channels = image.channels
    if width == 0 or height == 0 or channels == 0:
        where = bpy.path.abspath(image.filepath, library=image.library) or "its packed data"
        raise InputError(
            f"image '{image.name}' cannot be read from {where}; check that the file exists and is an image."
        )
    flat = np.empty(width * height * channels, dtype=np.float32)
    if (
        image.is_float
        and image.source == "FILE"
        and not image.is_dirty
        and not present(image.colorspace_settings).is_data
    ):
        # Only float buffers are converted on load: read those from a copy, so that the user's setting stays.
        raw = _copy_without_colour_space(image)
        try:
            raw.pixels.foreach_get(flat)
        finally:
            bpy.data.images.remove(raw)
    else:
        image.pixels.foreach_get(flat)
    pixels = flat.reshape(height, width, channels)[::-1]
    if channels == 4:
        return pixels
    full = np.ones((height, width, 4), dtype=np.float32)  # grey images have no alpha: it is 1
    full[..., :3] = pixels[..., :3] if channels == 3 else pixels[..., :1]
    return full
