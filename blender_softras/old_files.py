# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that an older Softras has saved are brought up to date when Blender opens them."""

from __future__ import annotations

import bpy
from bpy.app.handlers import persistent

from .props import SOFTRAS_PG_view, settings_of


@persistent
def _update(*_: object) -> None:
    """Blender has opened a file."""
    for scene in bpy.data.scenes:
        for item in settings_of(scene).views:
            if item.image is not None:
                _update_view(item)


def _update_view(item: SOFTRAS_PG_view) -> None:
    """The mask of a view was called its image, and had always a threshold; one that was chosen still counts."""
    item.mask, item.image = item.image, None
    item.use_threshold = item.is_property_set("threshold")


def register() -> None:
    """Follow the opening of files."""
    bpy.app.handlers.load_post.append(_update)


def unregister() -> None:
    """Undo `register`."""
    bpy.app.handlers.load_post.remove(_update)
