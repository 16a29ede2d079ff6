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
from .engine.softras import InputError
from .engine.softras.camera import Camera
from .engine.softras.io.files import read_array, read_json
from .engine.softras.io.poses import load_poses
from .engine.softras.job import RESULT
from .engine.softras.rig import Rig
from .engine_client import EngineError
from .props import NOT_MEASURED, target_of
from .scene.choices import choices_problem
from .scene.frames import in_words
from .scene.job import read_job
from .scene.mesh import target_problem
from .scene.result import Result
from .scene.views import enabled_views

current: FitSession | None = None  # the one that runs, for the panel; there is never a second


def problem(context: bpy.types.Context) -> str | None:
    """Why no fit can start now, cheap enough for a poll; None when one can."""
    if current is not None:
        return "A fit is running; Enter keeps the best so far, Esc reverts."
    target = target_of(context)
    trouble = target_problem(target) or choices_problem(context.scene.softras, target)
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

    Whatever goes wrong, the scene is put back as it was before the error is raised; but where the engine fails after
    it has found something, the best of that is the result.

    Attributes:
        progress: the engine's last progress message, empty before the first.
        iou: of each enabled view, the mean of its frames as last measured; empty before that.
        result: the engine's result message once `finished`.
        notes: what the artist should know about how the scene was read and what was found.
        failure: where the engine failed and the result is the best that it had found before: what happened. Else None.
    """

    def __init__(self, context: bpy.types.Context, report: Path | None = None) -> None:
        """Read the scene and ask the engine to fit; does not wait. Raises InputError or EngineError.

        report: a folder for the engine's picture report, or None.
        """
        global current
        trouble = problem(context)
        target = target_of(context)
        if trouble or target is None:
            raise InputError(trouble or "")
        context.view_layer.update()  # matrices of what was moved by a script are of today
        self._scene = context.scene
        self._job = read_job(context.scene, target, prefs.get(context).device)
        self.target_name = target.name
        self.progress: dict[str, Any] = {}
        self.iou: list[float] = []
        self.result: dict[str, Any] | None = None
        self.failure: str | None = None
        self.notes = list(self._job.notes)
        self._items = enabled_views(self._scene)
        self._request: int | None = None
        self._report = report
        self._shown: Result | None = None
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="softras-", dir=bpy.app.tempdir or None))
        except OSError as error:
            raise InputError(f"Blender's temporary folder cannot be written ({error.strerror}).") from None
        try:
            self._job.job.save(self._folder)
            photos = [Path(view.photo) for view in self._job.job.views if view.photo is not None]
            self._photo_folders = sorted({str(photo.resolve().parent) for photo in photos})
            self._job.job.views.clear()  # their masks are on disk now, and take memory
            self._engine = prefs.start_engine(context)
            self._engine_is_old = self._engine.hello is not None  # it was started before this fit
            self._shown = Result(self._scene, self._job)
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
        measured = [value for value in self.iou if value != NOT_MEASURED]
        mean = f", IoU {_mean(measured):.3f}" if measured else ""
        return f"Step {self.progress['step']} of {self.progress['steps']}{mean}"

    @property
    def summary(self) -> str:
        """What the finished fit reached, in one sentence."""
        mean = (self.result or {}).get("mean_iou")
        measured = f", mean IoU {mean:.3f}" if isinstance(mean, float) else ""
        frames = f" in {in_words(self._job.frames)}" if self._scene.softras.sequence else ""
        count = len({shot.item for shot in self._job.shots})
        return f"Fitted '{self.target_name}' to {count} views{frames}{measured}."

    def table(self) -> list[str]:
        """What the finished fit reached: a line for each view, and in a sequence one for each frame."""
        iou = (self.result or {}).get("iou") or []
        lines = [f"IoU {item.iou:.4f}  {item.camera.name}" for item in self._items if item.iou != NOT_MEASURED]
        if self._scene.softras.sequence and iou:
            lines += [f"IoU {value:.4f}  frame {frame}" for frame, value in self._by_frame(iou).items()]
        return lines

    def wait(self) -> None:
        """Step until finished, with a line of progress on the terminal now and then; for scripts.

        Raises like `step`, InputError when it is interrupted from the keyboard, and EngineError when the engine failed,
        also where the best that it had found is in the scene: the session is `finished` then.
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
        print(*self.table(), sep="\n", flush=True)
        if self.failure:
            raise EngineError(self.failure)

    def step(self) -> bool:
        """Take what the engine sent and show it; True when there was something new. Never waits.

        Raises EngineError or InputError, after putting the scene back.
        """
        try:
            return self._step()
        except BaseException:
            self.revert()
            raise

    def _step(self) -> bool:
        try:
            messages = self._engine.messages()
        except EngineError as error:
            return self._go_on_without(error)
        if self._request is None and self._engine.hello is not None:
            # Only a report shows photographs; the engine reads those that this scene names, and no others.
            fields = {"report": str(self._report), "allow": self._photo_folders} if self._report else {}
            self._request = self._engine.request("fit", job=str(self._folder), **fields)
        preview: dict[str, Any] = {}
        news = False
        for message in messages:
            if message.get("id") != self._request:
                continue  # the answer to a cancel, or of an earlier fit
            news = True
            if message["type"] == "progress":
                self.progress = message
                if message.get("iou"):
                    self.iou = self._by_view(message["iou"])
                preview |= {name: message[name] for name in ("preview", "poses") if message.get(name)}
            elif message["type"] == "error":
                text = str(message.get("message"))
                return self._go_on_without(InputError(text) if message.get("kind") == "input" else EngineError(text))
            elif message["type"] == "result":
                self._finish(message)
                return True
        if preview:
            self._check()
            rigs, cameras = self._poses(preview.get("poses"))
            self._shown.show(rigs, cameras, self._vertices(preview.get("preview")))
        return news

    def _go_on_without(self, error: Exception) -> bool:
        """The engine failed: begin again with a new one, or end with the best that is in the job's folder; else raise.

        An engine from before this fit, which has told nothing of it, may have died or hung long ago.
        """
        if self._engine_is_old and not self.progress and isinstance(error, EngineError):
            prefs.stop_engine()
            self._engine, self._engine_is_old, self._request = prefs.start_engine(bpy.context), False, None
            return False
        try:
            kept = read_json(self._folder / RESULT)
        except InputError:
            raise error from None
        if not kept.get("step"):  # the start
            raise error
        self._finish({**kept, "status": "failed"})
        self.failure = f"{error} The best that was found before is kept."
        return True

    def _finish(self, message: dict[str, Any]) -> None:
        self._check()
        rigs, cameras = self._poses(message.get("poses"))
        unposed = bool(message.get("rig_vertices"))
        vertices = self._vertices(message.get("rig_vertices") or message.get("vertices"))
        if not message.get("poses"):  # nothing was better than the start, which a preview may have hidden
            self._shown.start_again()
        self._shown.show(rigs, cameras, vertices, unposed=unposed)
        self.notes += self._shown.write(rigs, cameras)
        self._tell(message.get("iou"))
        self.notes += map(str, message.get("notes", []))
        self.result = message
        self.close()

    def _tell(self, iou: Any) -> None:
        """Put what was reached where the panel finds it."""
        if not isinstance(iou, list) or len(iou) != len(self._job.shots):
            return
        for item, value in zip(self._items, self._by_view(iou), strict=True):
            item.iou = value
        settings = self._scene.softras
        by_frame = self._by_frame(iou)
        settings.worst_frame = min(by_frame, key=by_frame.__getitem__)
        settings.worst_frame_iou = by_frame[settings.worst_frame] if settings.sequence else NOT_MEASURED

    def _by_view(self, iou: list[float | None]) -> list[float]:
        """The means of the enabled views; NOT_MEASURED for one without a frame."""
        values: list[list[float]] = [[] for _ in self._items]
        for shot, value in zip(self._job.shots, iou, strict=True):
            if value is not None:  # of a view that is left out
                values[shot.item].append(value)
        return [_mean(of_view) if of_view else NOT_MEASURED for of_view in values]

    def _by_frame(self, iou: list[float | None]) -> dict[int, float]:
        """The means of the frames that have any."""
        values: dict[int, list[float]] = {frame: [] for frame in self._job.frames}
        for shot, value in zip(self._job.shots, iou, strict=True):
            if value is not None:
                values[shot.frame].append(value)
        return {frame: _mean(of_frame) for frame, of_frame in values.items() if of_frame}

    def _check(self) -> None:
        if trouble := self._shown.problem():
            raise InputError(trouble)

    def _vertices(self, name: Any) -> np.ndarray | None:
        if name is None:
            return None
        # Only the file's last part: the engine writes into the job's folder and nowhere else.
        try:
            vertices = read_array(self._folder, Path(str(name)).name, (None, 3), "f")
        except InputError as error:
            raise EngineError(f"the engine's result cannot be read ({error}).") from None
        start = self._job.job.mesh or self._job.job.rig.mesh
        if vertices.shape != start.vertices.shape or not np.isfinite(vertices).all():
            raise EngineError("the engine's result does not belong to this mesh; nothing was changed.")
        return vertices

    def _poses(self, name: Any) -> tuple[dict[int, Rig], list[Camera]]:
        if name is None:
            return {}, []
        try:
            rigs, cameras = load_poses(self._folder / Path(str(name)).name, self._job.job.rig)
        except InputError as error:
            raise EngineError(f"the engine's result cannot be read ({error}).") from None
        if cameras and len(cameras) != len(self._job.shots):
            raise EngineError("the engine's result does not belong to these views; nothing was changed.")
        return rigs, cameras

    def ask_to_stop(self) -> None:
        """Ask for the best result so far; it arrives in a later `step`, or at once where the engine is gone.

        Raises EngineError like `step`.
        """
        if self._request is None:
            raise InputError("the fit had not begun yet; nothing was changed.")
        try:
            self._engine.request("cancel", of=self._request)
        except EngineError as error:
            self._go_on_without(error)

    def revert(self) -> None:
        """Stop and put the scene back as it was."""
        if self._request is not None and self.result is None and self._engine.usable:
            try:
                self._engine.request("cancel", of=self._request)
            except EngineError:
                pass  # it stopped, which is what is wanted
        try:
            if self._shown is not None:
                self._shown.revert()
        finally:
            self.close()

    def close(self) -> None:
        """Forget the job; the scene keeps what it shows."""
        global current
        self._shown = None
        shutil.rmtree(self._folder, ignore_errors=True)
        if current is self:
            current = None


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
