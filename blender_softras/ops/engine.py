# SPDX-License-Identifier: GPL-3.0-or-later
"""Test the engine, open its log and the preferences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import bpy

from .. import prefs
from ..access import present
from ..engine_client import EngineError

if TYPE_CHECKING:
    from bpy.stub_internal.rna_enums import OperatorReturnItems


def redraw(context: bpy.types.Context) -> None:
    """Draw the panels and preferences again, wherever they are open."""
    for window in present(context.window_manager).windows:
        for area in present(window.screen).areas:
            if area.type in {"VIEW_3D", "PREFERENCES"}:
                area.tag_redraw()


class SOFTRAS_OT_test_engine(bpy.types.Operator):
    """Start the engine and say what it runs on"""

    bl_idname = "softras.test_engine"
    bl_label = "Test Engine"

    def execute(self, context: bpy.types.Context) -> set[OperatorReturnItems]:
        """Start a new engine; in the background wait for its answer, else let a timer look for it."""
        prefs.stop_engine()
        try:
            engine = prefs.start_engine(context)
            if bpy.app.background:
                engine.wait_until_ready()
        except EngineError as error:
            self.report({"ERROR"}, str(error))
            redraw(context)
            return {"CANCELLED"}
        if bpy.app.background:
            self.report({"INFO"}, f"{prefs.status()[0]}. {prefs.details()}")
        else:
            bpy.app.timers.register(_watch_start)
        return {"FINISHED"}


def _watch_start() -> float | None:
    """Redraw the state of the engine until it is ready or has failed; a timer calls this."""
    ready = prefs.poll_engine()
    redraw(bpy.context)
    return None if ready else 0.1


class SOFTRAS_OT_open_log(bpy.types.Operator):
    """Open the engine's log"""

    bl_idname = "softras.open_log"
    bl_label = "Open Log"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """There must be a log, which there is once the engine was started."""
        log = prefs.log_path()
        if log is not None and log.is_file():
            return True
        cls.poll_message_set("There is no log yet; the engine was never started.")
        return False

    def execute(self, context: bpy.types.Context) -> set[OperatorReturnItems]:
        """Hand the file to the system's text viewer."""
        bpy.ops.wm.path_open(filepath=str(prefs.log_path()))
        return {"FINISHED"}


class SOFTRAS_OT_open_preferences(bpy.types.Operator):
    """Open the preferences of Softras"""

    bl_idname = "softras.open_preferences"
    bl_label = "Open Preferences"

    def execute(self, context: bpy.types.Context) -> set[OperatorReturnItems]:
        """Show them in the Preferences window."""
        bpy.ops.preferences.addon_show(module=str(prefs.__package__))
        return {"FINISHED"}


_CLASSES = (SOFTRAS_OT_test_engine, SOFTRAS_OT_open_log, SOFTRAS_OT_open_preferences)


def register() -> None:
    """Add the operators."""
    for cls in _CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    """Remove the operators."""
    if bpy.app.timers.is_registered(_watch_start):
        bpy.app.timers.unregister(_watch_start)
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
