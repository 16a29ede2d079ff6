# SPDX-License-Identifier: GPL-3.0-or-later
"""Which objects Blender keeps up to date."""

from __future__ import annotations

import bpy


def is_enabled(ob: bpy.types.Object) -> bool:
    """Whether Blender knows where the object is: enabled in a collection of today's view layer.

    Otherwise `matrix_world` is of whenever it was last enabled. Eyes, the object's or a collection's, play no
    part. That a dependency graph contains the object says nothing: pointers such as the Views list put it there.
    """
    return not ob.hide_viewport and _holds(bpy.context.view_layer.layer_collection, set(ob.users_collection))


def _holds(branch: bpy.types.LayerCollection, collections: set[bpy.types.Collection]) -> bool:
    """Whether one of the collections is enabled at or below the branch; an exclusion is of one collection only."""
    if branch.collection.hide_viewport:
        return False
    if branch.collection in collections and not branch.exclude:
        return True
    return any(_holds(child, collections) for child in branch.children)
