# SPDX-License-Identifier: GPL-3.0-or-later
"""Masks from Blender's images."""

from __future__ import annotations

import bpy
import numpy as np

from ..engine.softras import InputError

_CHANNELS = {"RED": 0, "GREEN": 1, "BLUE": 2, "ALPHA": 3}
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)  # Rec. 709


def read_mask(image: bpy.types.Image, channel: str, threshold: float, invert: bool) -> np.ndarray:
    """(H, W) float32, 1 where the channel is above the threshold (or, inverted, where it is not); row 0 on top.

    Raises InputError when the image cannot be read.
    """
    if channel == "ALPHA" and image.alpha_mode == "NONE":
        raise InputError(f"image '{image.name}' ignores its alpha; choose another mask channel or alpha mode.")
    return ((_read_channel(image, channel) > threshold) != invert).astype(np.float32)


def mask_channel(image: bpy.types.Image) -> str:
    """Where the image's mask probably is: in its alpha if that says anything, else in its brightness."""
    try:
        says = image.alpha_mode != "NONE" and _read_channel(image, "ALPHA").min() < 0.5
    except InputError:
        return "ALPHA"  # the fit will say why it cannot be read
    return "ALPHA" if says else "LUMINANCE"


def looks_like_photo(image: bpy.types.Image, channel: str) -> bool:
    """Whether much of the image is neither dark nor bright, where it is its brightness that is the mask."""
    if channel != "LUMINANCE":
        return False
    brightness = _read_channel(image, channel)
    return bool(((brightness > 0.15) & (brightness < 0.85)).mean() > 0.2)


def _read_channel(image: bpy.types.Image, channel: str) -> np.ndarray:
    pixels = _read_pixels(image)
    return pixels[..., :3] @ _LUMINANCE if channel == "LUMINANCE" else pixels[..., _CHANNELS[channel]]


def _read_pixels(image: bpy.types.Image) -> np.ndarray:
    """(H, W, 4) float32 as stored in the file, whatever the image's colour space; the one place that flips rows."""
    if image.source not in {"FILE", "GENERATED"}:
        raise InputError(
            f"image '{image.name}' is a {image.source.lower()}, not a still image; save the frame you need as an image."
        )
    width, height = image.size  # reads the file
    channels = image.channels
    if width == 0 or height == 0 or channels == 0:
        where = bpy.path.abspath(image.filepath, library=image.library) or "its packed data"
        raise InputError(
            f"image '{image.name}' cannot be read from {where}; check that the file exists and is an image."
        )
    flat = np.empty(width * height * channels, dtype=np.float32)
    if image.is_float and image.source == "FILE" and not image.is_dirty and not image.colorspace_settings.is_data:
        # Only float buffers are converted on load: read those from a copy, so that the user's setting stays.
        raw = image.copy()
        try:
            raw.colorspace_settings.name = "Non-Color"
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
