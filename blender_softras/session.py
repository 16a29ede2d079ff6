# SPDX-License-Identifier: GPL-3.0-or-later
"""One fit, from the scene to the engine and back. The same for the modal operator and for scripts."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from . import prefs
from .engine.softras import InputError, job
from .engine_client import EngineError
from .props import target_of
from .scene import mesh as scene_mesh
from .scene.background import shown_elsewhere
from .scene.views import enabled_views, read_views

_WRITERS = {"SHAPE_KEY": scene_mesh.IntoShapeKey, "MESH": scene_mesh.IntoMesh}

current: FitSession | None = None  # the one that runs, for the panel; there is never a second


def problem(context: bpy.types.Context) -> str | None:
    """Why no fit can start now, cheap enough for a poll; None when one can."""
    if current is not None:
        return "A fit is running; Enter keeps the best so far, Esc reverts."
    trouble = scene_mesh.target_problem(target_of(context))
    if trouble:
        return trouble
    views = enabled_views(context.scene)
    if not views:
        return "There are no views; add a camera and its image to the Views list."
    for item in views:
        if item.camera is None:
            return "A view has no camera; choose one in the Views list, or disable the view."
        if item.image is None:
            return f"View '{item.camera.name}' has no image; choose one in the Views list, or disable the view."
    return prefs.python_problem(context)


class FitSession:
    """A fit in progress. Call `step` until `finished`; then the object holds the result, or raises.

    Whatever goes wrong, the scene is put back as it was before the error is raised.

    Attributes:
        progress: the engine's last progress message, empty before the first.
        iou: per view, as last measured; empty before that.
        result: the engine's result message once `finished`.
        notes: what the artist should know about how the scene was read.
    """

    def __init__(self, context: bpy.types.Context, report: Path | None = None) -> None:
        """Read the scene and ask the engine to fit; does not wait. Raises InputError or EngineError.

        report: a folder for the engine's picture report, or None.
        """
        global current
        self._scene = context.scene
        settings = self._scene.softras
        target = target_of(context)
        trouble = problem(context)
        if trouble or target is None:
            raise InputError(trouble or "")
        context.view_layer.update()  # matrices of what was moved by a script are of today
        mesh = scene_mesh.read_mesh(target)
        views = read_views(self._scene)
        self.target_name = target.name
        self.view_count = len(views)
        self.progress: dict[str, Any] = {}
        self.iou: list[float] = []
        self.result: dict[str, Any] | None = None
        self.notes: list[str] = []
        if any(modifier.show_viewport for modifier in target.modifiers):
            self.notes.append(f"'{target.name}' has modifiers; the fit is of the mesh without them.")
        self.notes += _background_notes(self._scene)
        self._target = target
        self._items = enabled_views(self._scene)
        self._vertex_count = len(mesh.vertices)
        self._request: int | None = None
        self._report = report
        self._writer: Any = None
        if scene_mesh.is_shared(target) and settings.mode == "VERTICES":
            self.notes.append(f"'{target.name}' shared its mesh with other objects; it has its own copy now.")
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="softras-", dir=bpy.app.tempdir or None))
        except OSError as error:
            raise InputError(f"Blender's temporary folder cannot be written ({error.strerror}).") from None
        try:
            lock = scene_mesh.read_lock(target, settings.lock) if settings.mode == "VERTICES" else None
            job.Job(views, mesh, lock, _settings(context, target)).save(self._folder)
            self._engine = prefs.start_engine(context)
            if settings.mode == "RIGID":
                self._writer = scene_mesh.IntoTransform(target)
            else:
                self._writer = _WRITERS[settings.result](target)
        except BaseException:
            self.close()
            raise
        current = self

    @property
    def finished(self) -> bool:
        """True once the result is in the object."""
        return self.result is not None

    @property
    def fraction(self) -> float:
        """How far the fit is, 0..1."""
        return self.progress.get("step", 0) / max(self.progress.get("steps", 1), 1)

    @property
    def text(self) -> str:
        """How the fit is, in a few words."""
        if self._request is None:
            return "Starting the engine"
        if not self.progress:
            return "Reading the job"
        mean = f", IoU {sum(self.iou) / len(self.iou):.3f}" if self.iou else ""
        return f"Step {self.progress['step']} of {self.progress['steps']}{mean}"

    @property
    def summary(self) -> str:
        """What the finished fit reached, in one sentence."""
        mean = (self.result or {}).get("mean_iou")
        measured = f", mean IoU {mean:.3f}" if isinstance(mean, float) else ""
        return f"Fitted '{self.target_name}' to {self.view_count} views{measured}."

    def wait(self) -> None:
        """Step until finished, with a line of progress on the terminal now and then; for scripts.

        Raises like `step`, and InputError when it is interrupted from the keyboard.
        """
        shown = 0.0
        try:
            while not self.finished:
                if not self.step():
                    time.sleep(0.01)
                elif time.monotonic() - shown > 0.5:
                    shown = time.monotonic()
                    print(f"Softras: {self.text}", flush=True)
        except KeyboardInterrupt:
            if current is self:
                self.revert()
            raise InputError("the fit was interrupted; nothing was changed.") from None

    def step(self) -> bool:
        """Take what the engine sent and show it; True when there was something new. Never waits.

        Raises EngineError or InputError, after putting the scene back.
        """
        try:
            return self._step()
        except ReferenceError:
            self.close()  # the object is gone: there is nothing to put back
            raise InputError(f"'{self.target_name}' was deleted while it was being fitted.") from None
        except BaseException:
            self.revert()
            raise

    def _step(self) -> bool:
        messages = self._engine.messages()
        if self._request is None and self._engine.hello is not None:
            fields = {"report": str(self._report)} if self._report else {}
            self._request = self._engine.request("fit", job=str(self._folder), **fields)
        preview = None
        news = False
        for message in messages:
            if message.get("id") != self._request:
                continue  # the answer to a cancel, or of an earlier fit
            news = True
            if message["type"] == "progress":
                self.progress = message
                self.iou = message.get("iou") or self.iou
                preview = message.get("preview") or preview
            elif message["type"] == "error":
                text = str(message.get("message"))
                raise InputError(text) if message.get("kind") == "input" else EngineError(text)
            elif message["type"] == "result":
                self._finish(message)
                return True
        if preview:
            self._show(preview)
        return news

    def _finish(self, message: dict[str, Any]) -> None:
        self._show(message.get("vertices"))
        iou = message.get("iou")
        if isinstance(iou, list) and len(iou) == len(self._items):
            for item, value in zip(self._items, iou, strict=True):
                item.iou = value
        self.notes += map(str, message.get("notes", []))
        self.result = message
        self.close()

    def _show(self, name: Any) -> None:
        # Only the file's last part: the engine writes into the job's folder and nowhere else.
        path = self._folder / Path(str(name)).name
        try:
            vertices = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise EngineError(f"the engine's result cannot be read ({error}).") from None
        if vertices.shape != (self._vertex_count, 3) or not np.isfinite(vertices).all():
            raise EngineError("the engine's result does not belong to this mesh; nothing was changed.")
        if not self._writer.intact():
            raise InputError(f"'{self.target_name}' was edited while it was being fitted; nothing was changed.")
        self._writer.show(vertices)

    def ask_to_stop(self) -> None:
        """Ask for the best result so far; it arrives in a later `step`. Raises EngineError like `step`."""
        if self._request is None:
            raise InputError("the fit had not begun yet; nothing was changed.")
        self._engine.request("cancel", of=self._request)

    def revert(self) -> None:
        """Stop and put the scene back as it was."""
        if self._request is not None and self.result is None and self._engine.usable:
            try:
                self._engine.request("cancel", of=self._request)
            except EngineError:
                pass  # it stopped, which is what is wanted
        try:
            if self._writer is not None and self._writer.intact():
                self._writer.revert()
        except ReferenceError:
            pass  # the object is gone: there is nothing to put back
        finally:
            self.close()

    def close(self) -> None:
        """Forget the job; the object keeps what it shows."""
        global current
        self._writer = None
        shutil.rmtree(self._folder, ignore_errors=True)
        if current is self:
            current = None


def _background_notes(scene: bpy.types.Scene) -> list[str]:
    """What the artist should know who placed a camera by its background image."""
    cameras = [
        item.camera.name
        for item in enabled_views(scene)
        if shown_elsewhere(item.camera, tuple(item.image.size), scene.render)
    ]
    if not cameras:
        return []
    more = f" and of {len(cameras) - 1} more" if len(cameras) > 1 else ""
    return [
        f"The background image of camera '{cameras[0]}'{more} is not shown where the fit has it, which is the camera's "
        "whole frame; give the render the image's aspect, and the background a scale of 1 and no offset, turn or flip."
    ]


def _settings(context: bpy.types.Context, target: bpy.types.Object) -> dict[str, Any]:
    """The keyword arguments of `softras.fit` that the panel's settings mean."""
    settings = context.scene.softras
    values: dict[str, Any] = {
        "mode": "refine",
        "optimize": ["rigid"] if settings.mode == "RIGID" else ["vertices"],
        "seed": settings.seed,
        "device": prefs.get(context).device,
        "place": "auto" if settings.place else "never",
        "max_seconds": settings.seconds or None,
    }
    if settings.symmetry != "NONE" and settings.mode == "VERTICES":
        values["symmetry"] = settings.symmetry
        values["symmetry_frame"] = scene_mesh.matrix_of(target).ravel().tolist()
    return values
