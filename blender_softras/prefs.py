# SPDX-License-Identifier: GPL-3.0-or-later
"""The extension's preferences, which say what Python runs the engine, and the engine's one process."""

from __future__ import annotations

import shutil
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy
from bpy.props import EnumProperty, StringProperty

from .access import present
from .engine.softras.files import is_file
from .engine_client import Engine, EngineError

if TYPE_CHECKING:
    from bpy.stub_internal.rna_enums import IconItems

_engine: Engine | None = None  # the process that was started last, until it is stopped
_log: Path | None = None  # the log of the process that was started last
_start_error: str | None = None  # the reason why the last start gave no process


class SOFTRAS_AP_preferences(bpy.types.AddonPreferences):
    """The preferences that Blender shows under Preferences > Add-ons > Softras."""

    bl_idname = __package__

    python: StringProperty(
        name="Engine Python",
        description="A Python 3.11 or newer with torch and the engine's other packages; Blender's own stays untouched",
        subtype="FILE_PATH",
    )
    device: EnumProperty(
        name="Device",
        description="Where to compute",
        items=[
            ("auto", "Automatic", "The fastest that works"),
            ("cpu", "CPU", "The processor"),
            ("cuda", "GPU (CUDA)", "An NVIDIA graphics card"),
        ],
        default="auto",
    )

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the settings and the state of the engine."""
        layout = present(self.layout)
        layout.use_property_split = True
        layout.prop(self, "python", placeholder=str(default_python()))
        layout.prop(self, "device")
        row = layout.row()
        row.operator("softras.test_engine", icon="CHECKMARK")
        row.operator("softras.open_log", icon="TEXT")
        text, icon = status()
        lines = textwrap.wrap(text, 90) + textwrap.wrap(details(), 90)
        for number, line in enumerate(lines):
            layout.label(text=line, icon=icon if number == 0 else "BLANK1")


def get(context: bpy.types.Context) -> Any:
    """The preferences of the extension (SOFTRAS_AP_preferences)."""
    return present(context.preferences).addons[str(__package__)].preferences


def default_python() -> Path:
    """The path at which the engine's Python is expected when the preferences name none."""
    user_folder = Path(bpy.utils.extension_path_user(__package__, create=False))
    return user_folder / "venv" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def log_path() -> Path | None:
    """The log of the engine that was started last; None before the first."""
    return _log


def _new_log() -> Path:
    """The path for the next engine's log, in a new folder that nobody else may use.

    In a folder for everybody's temporary files, somebody else's link with the name of the log could lead to another
    file of the artist's.
    """
    global _log
    _remove_log()
    try:
        folder = tempfile.mkdtemp(prefix="softras-log-", dir=bpy.app.tempdir or None)
    except OSError as error:
        raise EngineError(f"Blender's temporary folder cannot be written ({error.strerror}).") from error
    _log = Path(folder) / "softras-engine.log"
    return _log


def _remove_log() -> None:
    global _log
    if _log is not None:
        shutil.rmtree(_log.parent, ignore_errors=True)
    _log = None


def package_folder() -> Path:
    """The folder that holds the engine's package."""
    return Path(__file__).parent / "engine"


def python_problem(context: bpy.types.Context) -> str | None:
    """Why no engine can be started, cheap enough for a poll; None when one can."""
    chosen = get(context).python
    path = Path(chosen) if chosen else default_python()
    if chosen and (chosen.startswith("//") or not path.is_absolute()):
        # To Blender "//" is the folder of the .blend file: whoever sends such a file could send the program to run.
        return (
            f"The engine's Python '{chosen}' is a path relative to a folder; choose its whole path in Preferences > "
            "Add-ons > Softras."
        )
    if is_file(path):
        return None
    if chosen:
        return f"The engine's Python '{path}' does not exist; choose another in Preferences > Add-ons > Softras."
    return (
        "Softras needs a Python 3.11 or newer with torch and the other packages of its engine; "
        "choose it in Preferences > Add-ons > Softras."
    )


def start_engine(context: bpy.types.Context) -> Engine:
    """The running engine, or a new one; does not wait for it. Raises EngineError."""
    global _engine, _start_error
    chosen = get(context).python
    python = chosen or str(default_python())
    if _engine is not None and (not _engine.usable or _engine.python != python):
        stop_engine()
    if _engine is None:
        problem = python_problem(context)
        try:
            if problem:
                raise EngineError(problem)
            _engine = Engine(python, package_folder(), _new_log())
        except EngineError as error:
            _start_error = str(error)
            raise
        _start_error = None
    return _engine


def stop_engine() -> None:
    """End the engine process, if any."""
    global _engine
    if _engine is not None:
        _engine.kill()
    _engine = None


def poll_engine() -> bool:
    """Read what the engine has sent; True once the engine is ready or has failed, so that waiting can end."""
    if _engine is None:
        return True
    if _engine.usable and _engine.hello is None:
        try:
            _engine.messages()
        except EngineError:
            pass  # `status` shows it
    return not _engine.usable or _engine.hello is not None


def status() -> tuple[str, IconItems]:
    """The state of the engine in words, and an icon for it."""
    if _engine is None:
        problem = _start_error or python_problem(bpy.context)
        return (problem, "ERROR") if problem else ("Engine starts with the first fit", "RADIOBUT_OFF")
    if _engine.failure:
        return f"{_engine.failure[0].upper()}{_engine.failure[1:]}.", "ERROR"
    if _engine.hello is None:
        return "Engine is starting...", "SORTTIME"
    return f"Engine ready: {_engine.hello.get('device')}, {_engine.hello.get('backend')}", "RADIOBUT_ON"


def details() -> str:
    """What the running engine has said about itself: its versions, and why it computes on this device."""
    if _engine is None or _engine.hello is None or _engine.failure:
        return ""
    hello = _engine.hello
    reason = f" ({hello['reason']})" if hello.get("reason") else ""
    tasks = hello.get("tasks")
    lacking = [f". No {name}: {text}" for name, text in tasks.items() if text] if isinstance(tasks, dict) else []
    versions = f"Softras {hello.get('softras')}, Python {hello.get('python')}, torch {hello.get('torch')}{reason}"
    return versions + "".join(lacking)


def register() -> None:
    """Add the preferences. No process starts here."""
    bpy.utils.register_class(SOFTRAS_AP_preferences)


def unregister() -> None:
    """End the engine and remove the preferences and the log."""
    stop_engine()
    _remove_log()
    bpy.utils.unregister_class(SOFTRAS_AP_preferences)
