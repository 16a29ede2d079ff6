# SPDX-License-Identifier: GPL-3.0-or-later
"""The Softras tab in the sidebar of the 3D viewport."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import bpy

from . import prefs, session
from .access import present
from .props import CAMERA_PARTS, NOT_MEASURED, VARIABLES, SOFTRAS_PG_scene, SOFTRAS_PG_view, chosen_object, settings_of
from .scene.choices import choice_problem, locks
from .scene.masks import MOVING
from .scene.views import enabled_views

if TYPE_CHECKING:
    from bpy.stub_internal.rna_enums import IconItems


def _iou_of(context: bpy.types.Context, item: SOFTRAS_PG_view) -> float:
    """The IoU of a view in the running fit, else in the last one."""
    running = session.current
    if running is not None:
        items = enabled_views(present(context.scene))
        return running.iou[items.index(item)] if item in items and len(running.iou) == len(items) else NOT_MEASURED
    return item.iou


class SOFTRAS_UL_views(bpy.types.UIList):
    """The Views list."""

    def draw_item(self, context, layout, data, item, icon, active_data, active_property, index=0, flt_flag=0):
        """Draw one row: enabled, camera, image, IoU, look through."""
        row = layout.row(align=True)
        row.prop(item, "enabled", text="")
        body = row.row(align=True)
        body.active = item.enabled
        if item.camera is None:
            body.label(text="no camera", icon="ERROR")
        else:
            body.label(text=item.camera.name, icon="CAMERA_DATA")
        iou = _iou_of(context, item)
        if item.mask is None:
            body.label(text="no mask", icon="ERROR")
        elif iou != NOT_MEASURED:
            body.label(text=f"{iou:.3f}")
        row.operator("softras.look_through", text="", icon="HIDE_OFF", emboss=False).index = index


class SOFTRAS_UL_landmarks(bpy.types.UIList):
    """The list of a view's landmarks."""

    def draw_item(self, context, layout, data, item, icon, active_data, active_property, index=0, flt_flag=0):
        """Draw one row: vertex, Empty, weight."""
        row = layout.row(align=True)
        row.label(text=f"Vertex {item.vertex}", icon="VERTEXSEL")
        row.prop(item, "empty", text="")
        row.prop(item, "weight", text="", emboss=False)


class _Panel(bpy.types.Panel):
    """A panel of the tab. Blender does not know this class itself, only those that are made from it."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Softras"


class SOFTRAS_PT_fit(_Panel):
    """The state of the engine, what to fit, and the Fit button."""

    bl_label = "Softras"
    bl_idname = "SOFTRAS_PT_fit"

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the panel; starts nothing and reads no image."""
        layout = present(self.layout)
        settings = settings_of(context.scene)
        self._draw_engine(context, layout)
        column = layout.column()
        column.use_property_split = True
        column.use_property_decorate = False
        column.enabled = session.current is None
        ob = chosen_object(context)
        column.prop(settings, "target", placeholder=ob.name if ob and ob.type == "MESH" else "")
        self._draw_choices(column, settings, ob)
        self._draw_sequence(column, settings)
        column.prop(settings, "seconds")

        button = layout.row()
        button.scale_y = 1.8
        button.operator("softras.fit")
        running = session.current
        if running is not None:
            layout.progress(factor=running.fraction, text=running.text)
            layout.label(text="Enter keeps the best, Esc reverts", icon="INFO")
            return
        reason = session.problem(context)
        if reason:
            self._draw_text(context, layout, reason, "INFO")
        measured = [item.iou for item in enabled_views(present(context.scene)) if item.iou != NOT_MEASURED]
        if measured:
            row = layout.row()
            row.label(text=f"Last fit: mean IoU {sum(measured) / len(measured):.3f}, worst {min(measured):.3f}")
        if settings.worst_frame_iou != NOT_MEASURED:
            layout.label(text=f"Worst frame: {settings.worst_frame}, IoU {settings.worst_frame_iou:.3f}")
        for note in settings.notes.splitlines():
            self._draw_text(context, layout, note, "INFO")

    def _draw_choices(
        self, column: bpy.types.UILayout, settings: SOFTRAS_PG_scene, ob: bpy.types.Object | None
    ) -> None:
        """Draw what may change, and what of it is locked; a grey choice says why."""
        optimize = settings.optimize
        boxes = column.column(heading="Optimize", align=True)
        for name in VARIABLES:
            reason = choice_problem(name, ob)
            row = boxes.row()
            row.enabled = not reason or getattr(optimize, name)  # what cannot be fitted can be unticked
            if reason:
                row.prop(optimize, name, text=reason.capitalize())
            else:
                row.prop(optimize, name)
        if optimize.cameras:
            boxes = column.column(heading="Cameras", align=True)
            for name in (*CAMERA_PARTS, "together"):
                boxes.prop(settings.cameras, name)
        if ob is not None and ob.type == "MESH":
            for text in locks(settings, ob):
                column.label(text=text, icon="LOCKED")
        if optimize.vertices:
            column.row().prop(settings, "result", expand=True)

    def _draw_sequence(self, column: bpy.types.UILayout, settings: SOFTRAS_PG_scene) -> None:
        column.prop(settings, "sequence")
        if settings.sequence:
            frames = column.column(align=True)
            frames.prop(settings, "frame_first")
            frames.prop(settings, "frame_last")
            frames.prop(settings, "frame_step")
            column.prop(settings, "known_pose")

    def _draw_engine(self, context: bpy.types.Context, layout: bpy.types.UILayout) -> None:
        text, icon = prefs.status()
        if icon == "ERROR":
            self._draw_text(context, layout, text, icon)
            row = layout.row(align=True)
            row.operator("softras.open_preferences", text="Preferences", icon="PREFERENCES")
            row.operator("softras.open_log", icon="TEXT")
        else:
            layout.label(text=text, icon=icon)

    def _draw_text(self, context: bpy.types.Context, layout: bpy.types.UILayout, text: str, icon: IconItems) -> None:
        """Draw a sentence in as many lines as the width of the sidebar asks for."""
        box = layout.box().column(align=True)
        width = present(context.region).width / present(context.preferences).system.ui_scale
        lines = textwrap.wrap(text, max(int(width / 7.5) - 6, 16))
        for number, line in enumerate(lines):
            box.label(text=line, icon=icon if number == 0 else "BLANK1")


class SOFTRAS_PT_views(_Panel):
    """The Views list, and the settings of the active view."""

    bl_label = "Views"
    bl_idname = "SOFTRAS_PT_views"
    bl_parent_id = "SOFTRAS_PT_fit"

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the list and the settings of the active view."""
        layout = present(self.layout)
        layout.enabled = session.current is None
        settings = settings_of(context.scene)
        row = layout.row()
        row.template_list("SOFTRAS_UL_views", "", settings, "views", settings, "active_view", rows=4)
        side = row.column(align=True)
        side.operator("softras.view_add", text="", icon="ADD")
        side.operator("softras.view_remove", text="", icon="REMOVE")
        column = layout.column(align=True)
        column.operator("softras.views_from_cameras", icon="OUTLINER_OB_CAMERA")
        column.operator("softras.views_import", icon="IMPORT")
        if not 0 <= settings.active_view < len(settings.views):
            return
        item = settings.views[settings.active_view]
        column = layout.column()
        column.use_property_split = True
        column.use_property_decorate = False
        column.prop(item, "camera")
        row = column.row(align=True)
        row.template_ID(item, "mask", open="image.open", text="Mask")
        row.operator("softras.view_clip", text="", icon="TRACKER")
        column.prop(item, "channel")
        row = column.row(align=True, heading="Threshold")
        row.prop(item, "use_threshold", text="")
        value = row.row(align=True)
        value.enabled = item.use_threshold
        value.prop(item, "threshold", text="")
        column.prop(item, "invert")
        if item.mask is not None and item.mask.source in MOVING:
            column.prop(item, "frame_start")
            column.prop(item, "frame_offset")
        column.prop(item, "weight")
        layout.label(text="Landmarks")
        row = layout.row()
        row.template_list("SOFTRAS_UL_landmarks", "", item, "landmarks", item, "active_landmark", rows=2)
        side = row.column(align=True)
        side.operator("softras.landmark_add", text="", icon="ADD")
        side.operator("softras.landmark_remove", text="", icon="REMOVE")


class SOFTRAS_PT_options(_Panel):
    """Settings that are rarely changed."""

    bl_label = "Options"
    bl_idname = "SOFTRAS_PT_options"
    bl_parent_id = "SOFTRAS_PT_fit"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the options."""
        layout = present(self.layout)
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.enabled = session.current is None
        settings = settings_of(context.scene)
        shape = layout.column()
        shape.enabled = settings.optimize.vertices
        shape.prop(settings, "symmetry")
        ob = chosen_object(context)
        if ob is not None and ob.type == "MESH":
            shape.prop_search(settings, "lock", ob, "vertex_groups")
        layout.prop(settings, "replace_keys")
        layout.prop(settings, "place")
        layout.prop(settings, "seed")
        layout.prop(prefs.get(context), "device")


register, unregister = bpy.utils.register_classes_factory(
    (SOFTRAS_UL_views, SOFTRAS_UL_landmarks, SOFTRAS_PT_fit, SOFTRAS_PT_views, SOFTRAS_PT_options)
)
