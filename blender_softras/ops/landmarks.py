# SPDX-License-Identifier: GPL-3.0-or-later
"""Landmarks of the active view."""

from __future__ import annotations

from typing import TYPE_CHECKING

import bpy
import numpy as np

from ..props import target_of
from ..scene.landmarks import add_landmark

if TYPE_CHECKING:
    from ..props import SOFTRAS_PG_view


class SOFTRAS_OT_landmark_add(bpy.types.Operator):
    """Add a landmark of the selected vertex, with an Empty to be moved over the place where the image shows it"""

    bl_idname = "softras.landmark_add"
    bl_label = "Add from Selected Vertex"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """There must be a view with a camera, and a mesh."""
        item, target = _active_view(context), target_of(context)
        if item is None or item.camera is None:
            cls.poll_message_set("The active view has no camera.")
        elif target is None or target.type != "MESH":
            cls.poll_message_set("There is no mesh; choose one in the Softras panel or make it the active object.")
        else:
            return True
        return False

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Add one landmark."""
        target = target_of(context)
        if target.mode == "EDIT":
            target.update_from_editmode()
        selected = np.zeros(len(target.data.vertices), dtype=np.bool_)
        target.data.vertices.foreach_get("select", selected)
        if selected.sum() != 1:
            self.report({"ERROR"}, f"Select one vertex of '{target.name}' in Edit Mode; {selected.sum()} are selected.")
            return {"CANCELLED"}
        add_landmark(context.scene, _active_view(context), target, int(selected.argmax()))
        return {"FINISHED"}


class SOFTRAS_OT_landmark_remove(bpy.types.Operator):
    """Remove the active landmark and its Empty"""

    bl_idname = "softras.landmark_remove"
    bl_label = "Remove Landmark"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """There must be something to remove."""
        item = _active_view(context)
        if item is not None and 0 <= item.active_landmark < len(item.landmarks):
            return True
        cls.poll_message_set("The active view has no landmarks.")
        return False

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Remove it from the list, and the Empty unless another landmark has it too."""
        item = _active_view(context)
        empty = item.landmarks[item.active_landmark].empty
        item.landmarks.remove(item.active_landmark)
        item.active_landmark = max(min(item.active_landmark, len(item.landmarks) - 1), 0)
        others = (mark for view in context.scene.softras.views for mark in view.landmarks)
        if empty is not None and all(mark.empty != empty for mark in others):
            bpy.data.objects.remove(empty)
        return {"FINISHED"}


def _active_view(context: bpy.types.Context) -> SOFTRAS_PG_view | None:
    settings = context.scene.softras
    return settings.views[settings.active_view] if 0 <= settings.active_view < len(settings.views) else None


register, unregister = bpy.utils.register_classes_factory((SOFTRAS_OT_landmark_add, SOFTRAS_OT_landmark_remove))
