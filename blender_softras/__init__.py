# SPDX-License-Identifier: GPL-3.0-or-later
"""Softras for Blender: fit your own mesh to silhouettes in photographs. Registration only."""

from . import old_files, panels, prefs, props
from .ops import command, engine, fit, landmarks, views

_MODULES = (props, old_files, prefs, engine, views, landmarks, fit, panels, command)


def register() -> None:
    """Called by Blender when the extension is enabled."""
    for module in _MODULES:
        module.register()


def unregister() -> None:
    """Called by Blender when the extension is disabled and when Blender quits."""
    for module in reversed(_MODULES):
        module.unregister()
