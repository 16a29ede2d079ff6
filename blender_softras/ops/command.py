# SPDX-License-Identifier: GPL-3.0-or-later
"""`blender --command softras_fit FILE`: a fit without a window and without a script."""

from __future__ import annotations

import argparse
from pathlib import Path

import bpy

from .. import prefs
from ..access import present
from ..engine.softras import InputError
from ..engine_client import EngineError
from ..props import settings_of
from ..session import FitSession

_handle: object = None  # what Blender has given for the command, to remove it again


def main(arguments: list[str]) -> int:
    """Fit the mesh, rig and cameras of a .blend file as its Softras panel says and save it.

    The exit status is 0, 1 when the engine failed, or 2 when something given cannot be used. The best that an engine
    had found before it failed is saved.
    """
    parser = argparse.ArgumentParser(prog="blender --command softras_fit", description=main.__doc__)
    parser.add_argument("file", type=Path, help="a .blend file with a filled Views list")
    parser.add_argument("--output", type=Path, help="where to save the result; default: FILE itself")
    parser.add_argument("--object", help="the mesh object to fit; default: as the panel says")
    parser.add_argument("--report", type=Path, help="write a report with pictures into this folder")
    parser.add_argument("--engine-python", help="the engine's interpreter; default: as the preferences say")
    options = parser.parse_args(arguments)
    try:
        _fit(options)
    except EngineError as error:
        return _refuse(str(error), 1)
    except InputError as error:
        return _refuse(str(error), 2)
    except RuntimeError as error:  # Blender's operators report errors to scripts in this way
        return _refuse(str(error).removeprefix("Error: ").strip(), 2)
    return 0


def _fit(options: argparse.Namespace) -> None:
    if not options.file.is_file():
        raise InputError(f"there is no file {options.file}.")
    output = (options.output or options.file).absolute()
    if not output.parent.is_dir():
        raise InputError(f"cannot write {output}: its folder does not exist.")
    bpy.ops.wm.open_mainfile(filepath=str(options.file.absolute()))
    if options.engine_python:
        prefs.get(bpy.context).python = options.engine_python
    if options.object:
        scene = present(bpy.context.scene)
        ob = scene.objects.get(options.object)
        if ob is None or ob.type != "MESH":
            raise InputError(f"the scene has no mesh object '{options.object}'.")
        settings_of(scene).target = ob
    fit = FitSession(bpy.context, report=options.report and options.report.absolute())
    try:
        fit.wait()
    except EngineError:
        if not fit.finished:
            raise
    bpy.ops.wm.save_as_mainfile(filepath=str(output), copy=True)
    for sentence in (*fit.notes, fit.summary):
        print(f"softras_fit: {sentence}")
    if fit.failure:
        raise EngineError(fit.failure)


def _refuse(text: str, status: int) -> int:
    print(f"softras_fit: {text}")
    return status


def register() -> None:
    """Add the command."""
    global _handle
    _handle = bpy.utils.register_cli_command("softras_fit", main)


def unregister() -> None:
    """Remove the command."""
    global _handle
    if _handle is not None:
        bpy.utils.unregister_cli_command(_handle)
    _handle = None
