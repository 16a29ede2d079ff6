# SPDX-License-Identifier: GPL-3.0-or-later
"""Which objects Blender keeps up to date: those that are enabled in the view layer of the window."""

from __future__ import annotations

import bpy

from ..access import present


def is_enabled(ob: bpy.types.Object) -> bool:
    """Whether Blender knows where the object is: whether a collection of the current view layer enables it.

    Blender does not update the `matrix_world` of any other object. The eyes in the Outliner, of the object or of a
    collection, play no part. That a dependency graph contains the object says nothing: pointers such as those of the
    Views list put it there, too.
    """
    layer = present(bpy.context.view_layer)
    return not ob.hide_viewport and _holds(layer.layer_collection, set(ob.users_collection))


def _holds(branch: bpy.types.LayerCollection, collections: set[bpy.types.Collection]) -> bool:
    """Whether one of the collections is enabled at or below the branch.

    A collection that is disabled disables those below it; one that is excluded does not.
    """
    if branch.collection.hide_viewport:
        return False
    if branch.collection in collections and not branch.exclude:
        return True
    return any(_holds(child, collections) for child in branch.children)
