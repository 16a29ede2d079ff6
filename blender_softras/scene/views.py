# SPDX-License-Identifier: GPL-3.0-or-later
"""The Views list as the engine's views."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import bpy
import numpy as np

from ..engine.softras import InputError, View
from .camera import camera_from_blender
from .layer import is_enabled

if TYPE_CHECKING:
    from ..props import SOFTRAS_PG_view

_CHANNELS = {"RED": 0, "GREEN": 1, "BLUE": 2, "ALPHA": 3}
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)  # Rec. 709


def enabled_views(scene: bpy.types.Scene) -> list[SOFTRAS_PG_view]:
    """The items of the Views list that take part in a fit."""
    return [item for item in scene.softras.views if item.enabled]


def read_views(scene: bpy.types.Scene) -> list[View]:
    """Every enabled view of the scene, masks read. Raises InputError naming the view that cannot be used."""
    views = []
    for item in enabled_views(scene):
        if item.camera is None:
            raise InputError("a view has no camera; choose one in the Views list, or disable the view.")
        if item.camera.data is None or item.camera.name not in scene.objects:
            raise InputError(f"camera '{item.camera.name}' is not in this scene; choose another or remove its view.")
        name = item.camera.name
        if not is_enabled(item.camera):
            raise InputError(
                f"camera '{name}' is disabled in this view layer, so Blender does not know where it is; "
                "enable it in the Outliner, or disable its view."
            )
        if item.image is None:
            raise InputError(f"view '{name}' has no image; choose one in the Views list, or disable the view.")
        mask = read_mask(item.image, item.channel, item.threshold, item.invert)
        height, width = mask.shape
        camera = camera_from_blender(item.camera, width, height, scene.render)
        photo = image_file(background_image(item.camera) or item.image)
        views.append(View(name=name, camera=camera, mask=mask, photo=photo, weight=item.weight))
    return views


def background_image(camera: bpy.types.Object) -> bpy.types.Image | None:
    """The first background image of a camera object, or None."""
    return next((b.image for b in camera.data.background_images if b.source == "IMAGE" and b.image), None)


def image_file(image: bpy.types.Image) -> Path | None:
    """Where the image lies on disk, or None for one that is only in Blender."""
    path = Path(bpy.path.abspath(image.filepath, library=image.library))
    return path if image.source == "FILE" and path.is_file() else None


def read_mask(image: bpy.types.Image, channel: str, threshold: float, invert: bool) -> np.ndarray:
    """(H, W) float32, 1 where the channel is above the threshold (or, inverted, where it is not); row 0 on top.

    Raises InputError when the image cannot be read.
    """
    if channel == "ALPHA" and image.alpha_mode == "NONE":
        raise InputError(f"image '{image.name}' ignores its alpha; choose another mask channel or alpha mode.")
    pixels = _read_pixels(image)
    if channel == "LUMINANCE":
        values = pixels[..., :3] @ _LUMINANCE
    else:
        values = pixels[..., _CHANNELS[channel]]
    return ((values > threshold) != invert).astype(np.float32)


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
