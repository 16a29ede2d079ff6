# SPDX-License-Identifier: GPL-3.0-or-later
"""Add and remove landmarks of the active view."""

from __future__ import annotations

from typing import TYPE_CHECKING

import bpy
import numpy as np

from ..access import mesh_of, present
from ..props import SOFTRAS_PG_view, chosen_object, settings_of
from ..scene.landmarks import add_landmark

if TYPE_CHECKING:
    from bpy.stub_internal.rna_enums import OperatorReturnItems


class SOFTRAS_OT_landmark_add(bpy.types.Operator):
    """Add a landmark of the selected vertex, with an Empty to be moved over the place where the image shows it"""

    bl_idname = "softras.landmark_add"
    bl_label = "Add from Selected Vertex"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """There must be a view with a camera, and a mesh."""
        item, ob = _active_view(context), chosen_object(context)
        if item is None or item.camera is None:
            cls.poll_message_set("The active view has no camera.")
        elif ob is None or ob.type != "MESH":
            cls.poll_message_set("There is no mesh; choose one in the Softras panel or make it the active object.")
        else:
            return True
        return False

    def execute(self, context: bpy.types.Context) -> set[OperatorReturnItems]:
        """Add one landmark."""
        ob = present(chosen_object(context))
        if ob.mode == "EDIT":
            ob.update_from_editmode()
        vertices = mesh_of(ob).vertices
        selected = np.zeros(len(vertices), dtype=np.bool_)
        vertices.foreach_get("select", selected)
        if selected.sum() != 1:
            self.report({"ERROR"}, f"Select one vertex of '{ob.name}' in Edit Mode; {selected.sum()} are selected.")
            return {"CANCELLED"}
        add_landmark(present(context.scene), present(_active_view(context)), ob, int(selected.argmax()))
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

    def execute(self, context: bpy.types.Context) -> set[OperatorReturnItems]:
        """Remove the landmark from the list, and its Empty unless another landmark has the same."""
        item = present(_active_view(context))
        empty = item.landmarks[item.active_landmark].empty
        item.landmarks.remove(item.active_landmark)
        item.active_landmark = max(min(item.active_landmark, len(item.landmarks) - 1), 0)
        others = (mark for view in settings_of(context.scene).views for mark in view.landmarks)
        if empty is not None and all(mark.empty != empty for mark in others):
            bpy.data.objects.remove(empty)
        return {"FINISHED"}


def _active_view(context: bpy.types.Context) -> SOFTRAS_PG_view | None:
    settings = settings_of(context.scene)
    return settings.views[settings.active_view] if 0 <= settings.active_view < len(settings.views) else None


register, unregister = bpy.utils.register_classes_factory((SOFTRAS_OT_landmark_add, SOFTRAS_OT_landmark_remove))
