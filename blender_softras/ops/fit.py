# SPDX-License-Identifier: GPL-3.0-or-later
"""The Fit button: modal in the user interface, synchronous in scripts."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import bpy
from bpy.props import StringProperty

from .. import session
from ..access import present
from ..engine.softras import InputError
from ..engine_client import EngineError
from .engine import redraw

if TYPE_CHECKING:
    from bpy.stub_internal.rna_enums import OperatorReturnItems

_TICK = 0.05  # the seconds from one look at what the engine has sent to the next
# The events that a fit leaves to Blender, so that the artist can turn the view meanwhile.
_NAVIGATION = {
    "MIDDLEMOUSE", "WHEELUPMOUSE", "WHEELDOWNMOUSE", "WHEELINMOUSE", "WHEELOUTMOUSE",
    "TRACKPADPAN", "TRACKPADZOOM", "MOUSEROTATE", "NDOF_MOTION", "MOUSEMOVE", "INBETWEEN_MOUSEMOVE",
}  # fmt: skip


class SOFTRAS_OT_fit(bpy.types.Operator):
    """Fit what is ticked under Optimize to the masks of the views"""

    bl_idname = "softras.fit"
    bl_label = "Fit"
    bl_options = {"REGISTER", "UNDO"}

    report_folder: StringProperty(
        name="Report",
        description="A folder for a report with pictures; empty for none",
        subtype="DIR_PATH",
        options={"SKIP_SAVE", "HIDDEN"},
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Say why the button is grey."""
        reason = session.problem(context)
        if reason:
            cls.poll_message_set(reason)
        return reason is None

    def execute(self, context: bpy.types.Context) -> set[OperatorReturnItems]:
        """Fit and wait for the result; progress goes to the terminal."""
        if not self._begin(context):
            return {"CANCELLED"}
        try:
            self._session.wait()
        except (InputError, EngineError) as error:
            if not self._session.finished:
                return self._fail(error)
        return self._end(context)

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[OperatorReturnItems]:
        """Fit while the user watches."""
        if not self._begin(context):
            return {"CANCELLED"}
        manager = present(context.window_manager)
        self._timer = manager.event_timer_add(_TICK, window=context.window)
        self._area, self._keeping = context.area, False
        manager.modal_handler_add(self)
        self._show(context)
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[OperatorReturnItems]:
        """On the timer take a step; Enter keeps the best so far, Esc reverts, and the view can be turned."""
        try:
            if event.type == "ESC" and event.value == "PRESS":
                self._session.revert()
                self._clear(context)
                self.report({"INFO"}, "Fit reverted.")
                return {"CANCELLED"}
            if event.type in {"RET", "NUMPAD_ENTER"} and event.value == "PRESS" and not self._keeping:
                self._keeping = True
                self._session.ask_to_stop()
            elif event.type == "TIMER" and self._session.step():
                self._show(context)
        except Exception as error:  # of any kind: the fit must not go on without being shown
            if self._session is session.current:
                self._session.revert()
            self._clear(context)
            if not isinstance(error, (InputError, EngineError)):
                traceback.print_exc()
            return self._fail(error)
        if self._session.finished:
            self._clear(context)
            return self._end(context)
        return {"PASS_THROUGH"} if event.type in _NAVIGATION else {"RUNNING_MODAL"}

    def cancel(self, context: bpy.types.Context) -> None:
        """Revert the fit; Blender calls this when another file is opened, and when it quits."""
        self._session.revert()
        self._clear(context)

    def _begin(self, context: bpy.types.Context) -> bool:
        try:
            folder = bpy.path.abspath(self.report_folder)
            self._session = session.FitSession(context, report=Path(folder) if folder else None)
        except (InputError, EngineError) as error:
            self._fail(error)
            return False
        return True

    def _fail(self, error: Exception | str) -> set[OperatorReturnItems]:
        text = str(error)
        self.report({"ERROR"}, text[:1].upper() + text[1:])
        return {"CANCELLED"}

    def _end(self, context: bpy.types.Context) -> set[OperatorReturnItems]:
        fit = self._session
        for note in fit.notes:
            self.report({"WARNING"}, note)
        self.report({"INFO"}, fit.summary)
        if fit.failure:  # reported as an error, which scripts get as an exception; Ctrl-Z takes the result back
            self._fail(fit.failure)
        redraw(context)
        return {"FINISHED"}

    def _show(self, context: bpy.types.Context) -> None:
        text = "keeping the best so far..." if self._keeping else "Enter: keep the best so far    Esc: revert"
        if self._area is not None:
            self._area.header_text_set(f"Softras    {self._session.text}    {text}")
        present(context.workspace).status_text_set(f"Softras: {text}")
        redraw(context)

    def _clear(self, context: bpy.types.Context) -> None:
        present(context.window_manager).event_timer_remove(self._timer)
        if self._area is not None:
            self._area.header_text_set(None)
        present(context.workspace).status_text_set(None)
        redraw(context)


def register() -> None:
    """Add the operator."""
    bpy.utils.register_class(SOFTRAS_OT_fit)


def unregister() -> None:
    """Stop a running fit and remove the operator."""
    if session.current is not None:
        session.current.revert()
    bpy.utils.unregister_class(SOFTRAS_OT_fit)
