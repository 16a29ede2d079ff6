# SPDX-License-Identifier: GPL-3.0-or-later
"""The Views list as the engine's views."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import bpy

from ..engine.softras import InputError, View
from .background import background_image
from .camera import camera_from_blender
from .layer import is_enabled
from .masks import read_mask

if TYPE_CHECKING:
    from ..props import SOFTRAS_PG_view


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


def image_file(image: bpy.types.Image) -> Path | None:
    """Where the image lies on disk, or None for one that is only in Blender."""
    path = Path(bpy.path.abspath(image.filepath, library=image.library))
    return path if image.source == "FILE" and path.is_file() else None
