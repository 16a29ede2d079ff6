# SPDX-License-Identifier: GPL-3.0-or-later
"""Masks from Blender's images: stills, image sequences and movies.

What the mask in an image is, the engine defines (softras/io/masks.py): Blender only decodes the image.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import bpy
import numpy as np

from ..access import present
from ..engine.softras import InputError
from ..engine.softras.io.masks import MaskReading, auto_channel, mask_in
from ..props import SOFTRAS_PG_view

MOVING = {"SEQUENCE", "MOVIE"}  # sources of images that have frames


class Footage:
    """What an image holds: a still image, or the numbered pictures of an image sequence or a movie.

    A context manager: the pictures of a sequence or a movie are read through a copy, so that the image stays as it is.
    """

    def __init__(self, image: bpy.types.Image) -> None:
        self._image = image
        self._auto: str | None = None  # the channel that "auto" stands for
        self._copy: bpy.types.Image | None = None
        if image.source in MOVING:
            self._copy = _copy_without_colour_space(image)
            # Only an image user can choose a picture, and a texture is the one owner of an image user that works
            # without a window. Once the texture was evaluated, the image itself holds the chosen picture.
            self._texture = cast(bpy.types.ImageTexture, bpy.data.textures.new("Softras", "IMAGE"))
            self._texture.image = self._copy

    def __enter__(self) -> Footage:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._copy is not None:
            bpy.data.textures.remove(self._texture)
            bpy.data.images.remove(self._copy)

    def mask(self, number: int, reading: MaskReading) -> np.ndarray | None:
        """(H, W) float32 in 0..1, 1 = object, row 0 on top: the mask in the numbered picture.

        Args:
            number: of the picture: 1 is the first of a movie; those of a sequence have theirs in their files' names.
                A still image has one picture only.
            reading: where in the picture the mask is.

        None where the sequence or the movie has no such picture. Raises InputError when the image cannot be read.
        """
        name = f"image '{self._image.name}'"
        if reading.channel == "alpha" and self._image.alpha_mode == "NONE":
            raise InputError(f"{name} ignores its alpha; choose another mask channel or alpha mode.")
        pixels = self.pixels(number)
        if pixels is None:
            return None
        if reading.channel == "auto":
            reading = replace(reading, channel=self._auto_channel(pixels))
        return mask_in(pixels, reading, name)

    def pixels(self, number: int) -> np.ndarray | None:
        """(H, W, C) the numbered picture as its file stores it, or None where there is none: see `mask_in`."""
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
        return _read_pixels(image)

    def _auto_channel(self, pixels: np.ndarray) -> str:
        """What "auto" stands for in every picture: what it stands for in that with which the image was opened.

        A picture of a sequence that the object fills is opaque everywhere, and its mask is in its alpha all the same.
        """
        if self._auto is None:
            first = None if self._copy is None else self.pixels(first_picture(self._image))
            self._auto = auto_channel(pixels if first is None else first)
        return self._auto


def reading_of(item: SOFTRAS_PG_view) -> MaskReading:
    """How the mask of a view is read from its image."""
    return MaskReading(item.channel.lower(), item.threshold if item.use_threshold else None, item.invert)


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
    # The first picture of a clip is its own file; the first picture of an image sequence is the file of number 1.
    return image, clip.frame_start, clip.frame_offset + first_picture(image) - 1


def file_of(image: bpy.types.Image, number: int) -> Path | None:
    """The file of an image, or of the numbered picture of an image sequence; None where there is no such file."""
    path = Path(bpy.path.abspath(image.filepath, library=image.library))
    if image.source == "SEQUENCE" and (digits := _digits(path.stem)):
        start, end = digits.span()
        path = path.with_name(f"{path.stem[:start]}{number:0{end - start}d}{path.stem[end:]}{path.suffix}")
    return path if image.source in {"FILE", "SEQUENCE"} and path.is_file() else None


def looks_like_photo(image: bpy.types.Image) -> bool:
    """Whether the image is opaque, and much of it is neither dark nor bright, so that it can hardly be a mask."""
    try:
        with Footage(image) as footage:
            pixels = footage.pixels(first_picture(image))
    except InputError:  # the fit will say why it cannot be read
        return False
    if pixels is None or auto_channel(pixels) != "grey":
        return False
    grey = mask_in(pixels, MaskReading("grey"), image.name)
    return bool(((grey > 0.15) & (grey < 0.85)).mean() > 0.2)


def _copy_without_colour_space(image: bpy.types.Image) -> bpy.types.Image:
    """A copy of the image whose pixels Blender does not convert."""
    copy = present(image.copy())
    settings: Any = copy.colorspace_settings  # Blender's type stubs do not know the names of colour spaces
    settings.name = "Non-Color"
    return copy


def _digits(stem: str) -> re.Match[str] | None:
    """The digits in a file's name that number it in a sequence: the last ones."""
    return re.search(r"\d+(?=\D*$)", stem)


def _read_pixels(image: bpy.types.Image) -> np.ndarray:
    """(H, W, C) as stored in the file, whatever the image's colour space; the one place that flips rows.

    uint8, or float32 from 0 to 1 where Blender has no bytes: of files of 16 bits and more.
    """
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
    pixels = flat.reshape(height, width, channels)[::-1, :, _stored_channels(image)]
    if image.is_float:
        return np.nan_to_num(pixels.clip(0, 1), copy=False)  # what is brighter than white is white
    return np.rint(pixels * 255).astype(np.uint8)


def _stored_channels(image: bpy.types.Image) -> list[int]:
    """Which of Blender's channels the file has: Blender shows every image as red, green, blue and alpha."""
    count = image.depth // (32 if image.is_float else 8)
    stored = {1: [0], 2: [0, 3], 3: [0, 1, 2]}.get(count, [0, 1, 2, 3])[: image.channels]
    return [channel for channel in stored if channel < 3 or image.alpha_mode != "NONE"]
