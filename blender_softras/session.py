# SPDX-License-Identifier: GPL-3.0-or-later
"""One fit, from the scene to the engine and back; the modal operator and scripts use the same."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from . import prefs
from .access import present
from .engine.softras import InputError, Mesh
from .engine.softras.camera import Camera
from .engine.softras.files import read_array, read_json
from .engine.softras.io.poses import load_poses
from .engine.softras.job import RESULT, add_cage, show_instead
from .engine.softras.rig import Rig
from .engine.softras.status import FAILED, FINISHED
from .engine_client import EngineError
from .props import NOT_MEASURED, chosen_object, settings_of
from .scene.choices import choices_problem
from .scene.frames import in_words
from .scene.job import SceneJob, read_job
from .scene.mesh import mixed_positions
from .scene.probing import Progress, mirror_planes, probe
from .scene.result import WRITERS, Result
from .scene.shown import shown_cameras, shown_mesh
from .scene.stage import Stage
from .scene.target import target_problem
from .scene.views import enabled_views

SLICE = 0.03  # Modifiers are tried for so many seconds between two looks at the window.
NOTED = 0.01  # A mean IoU that is lower than the engine's by more than this gets a note.

current: FitSession | None = None  # the session that runs, for the panel; there is never a second one


def problem(context: bpy.types.Context) -> str | None:
    """Why no fit can start now, cheap enough for a poll; None when one can."""
    if current is not None:
        return "A fit is running; Enter keeps the best so far, Esc reverts."
    scene, ob = present(context.scene), chosen_object(context)
    trouble = target_problem(ob) or (ob and choices_problem(settings_of(scene), ob))
    if trouble:
        return trouble
    views = enabled_views(scene)
    if not views:
        return "There are no views; add a camera and its mask to the Views list."
    for item in views:
        if item.camera is None:
            return "A view has no camera; choose one in the Views list, or disable the view."
        if item.mask is None:
            return f"View '{item.camera.name}' has no mask; choose its image in the Views list, or disable the view."
    return prefs.python_problem(context)


@dataclass(frozen=True)
class _Found:
    """What a fit has found.

    Attributes:
        message: the engine's result message.
        rigs: by frame.
        cameras: of all views.
        shown: the IoU by shot, and its mean, of what the scene shows of it, once that was measured and was so bad that
            the start is measured too.
    """

    message: dict[str, Any]
    rigs: dict[int, Rig]
    cameras: list[Camera]
    shown: tuple[Any, float] | None = None

    def is_worse(self, mean: Any) -> bool:
        """Whether a mean IoU is clearly lower than the one that the fit has told."""
        expected = self.message.get("mean_iou")
        return isinstance(expected, float) and isinstance(mean, float) and mean < expected - NOTED


class FitSession:
    """A fit in progress: call `step` until it is `finished`; then the scene holds the result.

    Whatever goes wrong, the scene is put back as it was, and then the error is raised. But where the engine fails
    after it has found something, the best that it has found is the result.

    Attributes:
        target_name: the name of the object that is fitted.
        progress: the engine's last progress message, empty before the first.
        iou: for each enabled view the mean IoU of its frames as last measured; empty before the first measurement.
        result: the engine's result message once `finished`; its "iou" and "mean_iou" are of what the scene shows.
        notes: what the artist should know about how the scene was read and what was found.
        failure: what happened, where the engine failed and the result is the best that it had found; else None.
    """

    def __init__(self, context: bpy.types.Context, report: Path | None = None) -> None:
        """Read the scene and start the engine; does not wait. Raises InputError or EngineError.

        `report` is a folder for the engine's picture report, or None.
        """
        global current
        if trouble := problem(context):
            raise InputError(trouble)
        present(context.view_layer).update()  # the matrices of objects that a script has moved are old until then
        self._scene = present(context.scene)
        scene_job = read_job(self._scene, chosen_object(context), prefs.get(context).device)
        job = scene_job.job  # is not kept: its masks take memory, and are written to disk below
        self._rig = job.rig
        start = job.rig.mesh if job.rig is not None else present(job.mesh)
        self._shots, self._frames = scene_job.shots, scene_job.frames
        self._vertex_count = len(start.vertices)
        self._target, self._frame = scene_job.target, self._scene.frame_current
        self.target_name = "', '".join(each.name for each in self._target.meshes)
        self.progress: dict[str, Any] = {}
        self.iou: list[float] = []
        self.result: dict[str, Any] | None = None
        self.failure: str | None = None
        self.notes = list(scene_job.notes)
        self._items = enabled_views(self._scene)
        self._request: int | None = None
        self._found: _Found | None = None  # what the fit has found, once what the scene then shows is being measured
        self._report = report
        self._probing: Progress | None = None  # how the evaluated mesh moves with the vertices, until that is known
        self._probed = 0, 1  # evaluations that are done, of how many
        self._stage: Stage | None = None
        self._at_start: Mesh | None = None  # what was seen of a cage before the fit
        self._result: Result | None = None  # writes into the scene; None once nothing can be taken back
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="softras-", dir=bpy.app.tempdir or None))
        except OSError as error:
            raise InputError(f"Blender's temporary folder cannot be written ({error.strerror}).") from None
        try:
            job.save(self._folder, self_contained=False)  # the engine is on this machine too
            photos = [Path(view.photo) for view in job.views if view.photo is not None]
            self._photo_folders = sorted({str(photo.resolve().parent) for photo in photos})
            self._engine = prefs.start_engine(context)
            self._engine_is_old = self._engine.hello is not None  # it was started before this fit
            self._result = Result(self._scene, scene_job)
            if scene_job.caged:
                self._probe(scene_job)
        except BaseException:
            self.close()
            raise
        current = self

    @property
    def finished(self) -> bool:
        """True once the result is in the scene."""
        return self.result is not None

    @property
    def fraction(self) -> float:
        """The share of the fit that is done, 0..1."""
        return self.progress.get("step", 0) / max(self.progress.get("steps", 1), 1)

    @property
    def text(self) -> str:
        """The state of the fit, in a few words."""
        if self._found is not None:
            return "Measuring what is shown"
        if self._probing is not None:
            return f"Trying the modifiers, {self._probed[0]} of {self._probed[1]}"
        if self._request is None:
            return "Starting the engine"
        if not self.progress:
            return "Reading the job"
        measured = [value for value in self.iou if value != NOT_MEASURED]
        mean = f", IoU {_mean(measured):.3f}" if measured else ""
        return f"Step {self.progress['step']} of {self.progress['steps']}{mean}"

    @property
    def summary(self) -> str:
        """The result of the finished fit, in one sentence."""
        mean = (self.result or {}).get("mean_iou")
        measured = f", mean IoU {mean:.3f}" if isinstance(mean, float) else ""
        frames = f" in {in_words(self._frames)}" if settings_of(self._scene).sequence else ""
        count = len({shot.item for shot in self._shots})
        status = (self.result or {}).get("status", FINISHED)
        ended = "" if status == FINISHED else f"; {status}"
        return f"Fitted '{self.target_name}' to {count} views{frames}{measured}{ended}."

    def table(self) -> list[str]:
        """The IoU that the finished fit reached: a line for each view, and in a sequence one for each frame."""
        iou = (self.result or {}).get("iou") or []
        lines = [f"IoU {item.iou:.4f}  {item.camera.name}" for item in self._items if item.iou != NOT_MEASURED]
        if settings_of(self._scene).sequence and iou:
            lines += [f"IoU {value:.4f}  frame {frame}" for frame, value in self._by_frame(iou).items()]
        return lines

    def wait(self) -> None:
        """Step until finished, and write a line of progress to the terminal now and then; for scripts.

        Raises as `step` does, and InputError when it is interrupted from the keyboard. When the engine failed, raises
        EngineError even where the best that it had found is in the scene; the session is `finished` then.
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
            raise InputError("the fit was stopped; nothing was changed.") from None
        print(*self.table(), sep="\n", flush=True)
        if self.failure:
            raise EngineError(self.failure)

    def step(self) -> bool:
        """Show what the engine has sent since the last step; True when there was something. Never waits.

        Raises EngineError or InputError, after putting the scene back.
        """
        try:
            return self._step()
        except BaseException:
            self.revert()
            raise

    def _probe(self, scene_job: SceneJob) -> None:
        """Begin to find out how the evaluated mesh moves with the vertices."""
        single = scene_job.target.single
        self._stage = Stage(self._scene, single, WRITERS[settings_of(self._scene).result])
        self._probing = probe(
            self._stage, single.mesh, mixed_positions(single), mirror_planes(single.object), single.object
        )

    def _go_on_probing(self) -> bool:
        """Probe for a little while; once all is known, the job is complete."""
        probing, until = present(self._probing), time.monotonic() + SLICE
        try:
            while time.monotonic() < until:
                self._probed = next(probing)
        except StopIteration as done:
            self._probing = None
            present(self._stage).close()
            self._at_start = done.value.shown
            add_cage(self._folder, done.value)
        return True

    def _step(self) -> bool:
        if self._probing is not None:
            return self._go_on_probing()
        try:
            messages = self._engine.messages()
            if self._request is None and self._engine.hello is not None:
                self._request = self._ask()
        except EngineError as error:
            return self._go_on_without(error)
        preview: dict[str, Any] = {}
        news = False
        for message in messages:
            if message.get("id") != self._request:
                continue  # it belongs to an earlier fit
            news = True
            if message["type"] == "progress" and self._found is not None:
                pass  # a measurement takes no longer than a look at it would
            elif message["type"] == "progress":
                self.progress = message
                if message.get("iou"):
                    self.iou = self._by_view(message["iou"])
                preview |= {name: message[name] for name in ("preview", "poses") if message.get(name)}
            elif message["type"] == "error":
                text = str(message.get("message"))
                return self._go_on_without(InputError(text) if message.get("kind") == "input" else EngineError(text))
            elif message["type"] == "result":
                if self._found is None:
                    self._show_found(message)
                else:
                    self._measured(message.get("iou"), message.get("mean_iou"))
                return True
        if preview:
            result = self._open_result()
            rigs, cameras = self._poses(preview.get("poses"))
            result.show(rigs, cameras, self._vertices(preview.get("preview")))
        return news

    def _ask(self) -> int:
        """Ask the engine for the fit, or for the measurement of what it has found."""
        if self._found is not None:
            return self._engine.run("measure", self._folder)
        # Only a report shows photographs; the engine may read those that the scene names, and no others.
        fields = {"report": str(self._report), "allow": self._photo_folders} if self._report else {}
        return self._engine.run("fit", self._folder, **fields)

    def _go_on_without(self, error: Exception) -> bool:
        """Go on after the engine failed: with a new engine, or with the best result that is in the job's folder.

        A new engine is started where the failed one had been started before this fit and has sent nothing about it,
        because it may have died or hung long ago. Raises the error where there is no result.
        """
        if self._found is not None:
            self._finish_unmeasured(error)
            return True
        if self._engine_is_old and not self.progress and isinstance(error, EngineError):
            prefs.stop_engine()
            self._engine, self._engine_is_old, self._request = prefs.start_engine(bpy.context), False, None
            return False
        try:
            kept = read_json(self._folder / RESULT)
        except InputError:
            raise error from None
        if not kept.get("step"):  # at step 0 nothing was found yet
            raise error
        self.failure = f"{error} The best that was found before is kept."
        self._show_found({**kept, "status": FAILED})
        return True

    def _show_found(self, message: dict[str, Any]) -> None:
        """Show what the fit has found, and have what the scene then shows measured."""
        result = self._open_result()
        rigs, cameras = self._poses(message.get("poses"))
        unposed = bool(message.get("rig_vertices"))
        vertices = self._vertices(message.get("rig_vertices") or message.get("vertices"))
        if not message.get("poses"):  # nothing was better than the start, and a preview may have shown something else
            result.start_again()
        result.show(rigs, cameras, vertices, unposed=unposed)
        self._found = _Found(message, rigs, cameras)
        # Each frame of a sequence would have to be measured by itself, and a new engine would hide that one has failed.
        if settings_of(self._scene).sequence or self.failure is not None:
            self._finish(message.get("iou"), message.get("mean_iou"))
            return
        try:
            if self._scene.frame_current != self._frame:
                raise InputError(f"the scene has left frame {self._frame}, which was fitted.")
            mesh = shown_mesh(self._target)
            show_instead(self._folder, mesh, shown_cameras(self._scene, self._shots))
            self._engine = prefs.start_engine(bpy.context)  # another one, where it has failed
            self._request = None
        except (InputError, EngineError) as error:
            self._finish_unmeasured(error)

    def _finish_unmeasured(self, error: Exception) -> None:
        """Keep what was found without knowing its IoU, which is better than to say another one."""
        self.notes.append(f"What the scene shows could not be compared with the masks: {error}")
        self._finish([None] * len(self._shots), None)

    def _measured(self, iou: Any, mean: Any) -> None:
        """Keep what is shown, unless the start matches better; iou: for each shot, of what was to be measured."""
        found = present(self._found)
        if found.shown is not None:  # it is the start that was measured
            shown = found.shown
            if isinstance(mean, float) and mean > shown[1]:
                self._open_result().take_back()
                self.notes.append(
                    f"Nothing that was found matches the masks better than the start (mean IoU {mean:.3f}), so all "
                    "stays as it was: the modifiers move vertices in a way that a fit cannot follow far enough."
                )
                found = replace(found, message={**found.message, "notes": []}, rigs={}, cameras=[])
            else:
                iou, mean = shown
            self._found = found
            self._finish(iou, mean)
        elif self._at_start is not None and found.is_worse(mean):
            self._found = replace(found, shown=(iou, mean))
            show_instead(self._folder, self._at_start, [shot.engine_camera for shot in self._shots])
            self._request = self._ask()
        else:
            self._finish(iou, mean)

    def _finish(self, iou: Any, mean: Any) -> None:
        """Keep what is shown; iou: of what the scene shows, for each shot."""
        found, result = present(self._found), self._open_result()
        self.notes += result.write(found.rigs, found.cameras)
        self._store(iou)
        self.notes += map(str, found.message.get("notes", []))
        if found.is_worse(mean):
            self.notes.append(
                f"What the scene shows matches the masks worse (mean IoU {mean:.3f}) than what was fitted "
                f"({found.message['mean_iou']:.3f}): something in the scene, such as a modifier, is not a part of it."
            )
        self.result = {**found.message, "iou": iou, "mean_iou": mean}
        self.close()

    def _store(self, iou: Any) -> None:
        """Store what was reached in the scene, where the panel finds it."""
        if not isinstance(iou, list) or len(iou) != len(self._shots):
            return
        for item, value in zip(self._items, self._by_view(iou), strict=True):
            item.iou = value
        settings = settings_of(self._scene)
        by_frame = self._by_frame(iou)
        settings.worst_frame = min(by_frame, key=by_frame.__getitem__)
        settings.worst_frame_iou = by_frame[settings.worst_frame] if settings.sequence else NOT_MEASURED

    def _by_view(self, iou: list[float | None]) -> list[float]:
        """The mean IoU of each enabled view; NOT_MEASURED for a view without a frame."""
        values: list[list[float]] = [[] for _ in self._items]
        for shot, value in zip(self._shots, iou, strict=True):
            if value is not None:  # None stands for a view that the engine has left out
                values[shot.item].append(value)
        return [_mean(of_view) if of_view else NOT_MEASURED for of_view in values]

    def _by_frame(self, iou: list[float | None]) -> dict[int, float]:
        """The mean IoU of each frame that was measured."""
        values: dict[int, list[float]] = {frame: [] for frame in self._frames}
        for shot, value in zip(self._shots, iou, strict=True):
            if value is not None:
                values[shot.frame].append(value)
        return {frame: _mean(of_frame) for frame, of_frame in values.items() if of_frame}

    def _open_result(self) -> Result:
        """What shows and writes the result. Raises InputError when nothing can be shown in the scene any more."""
        result = present(self._result)
        if trouble := result.problem():
            raise InputError(trouble)
        return result

    def _vertices(self, name: Any) -> np.ndarray | None:
        """(V, 3) vertices from a file in the job's folder; None without a name."""
        if name is None:
            return None
        # Only the last part of the path counts: the engine writes into the job's folder and nowhere else.
        try:
            vertices = read_array(self._folder, Path(str(name)).name, (None, 3), "f")
        except InputError as error:
            raise EngineError(f"the engine's result cannot be read ({error}).") from None
        if vertices.shape != (self._vertex_count, 3) or not np.isfinite(vertices).all():
            raise EngineError("the engine's result does not belong to this mesh; nothing was changed.")
        return vertices

    def _poses(self, name: Any) -> tuple[dict[int, Rig], list[Camera]]:
        """Rigs by frame and the cameras of all views, from a file in the job's folder; empty without a name."""
        if name is None:
            return {}, []
        try:
            rigs, cameras = load_poses(self._folder / Path(str(name)).name, self._rig)
        except InputError as error:
            raise EngineError(f"the engine's result cannot be read ({error}).") from None
        if cameras and len(cameras) != len(self._shots):
            raise EngineError("the engine's result does not belong to these views; nothing was changed.")
        return rigs, cameras

    def ask_to_stop(self) -> None:
        """Ask for the best result so far. It arrives in a later `step`, or at once where the engine is gone.

        Raises EngineError as `step` does.
        """
        if self._found is not None:
            return  # it is about to arrive
        if self._request is None:
            raise InputError("the fit had not begun yet; nothing was changed.")
        try:
            self._engine.stop(self._request)
        except EngineError as error:
            self._go_on_without(error)

    def revert(self) -> None:
        """Stop and put the scene back as it was."""
        if self._request is not None and self.result is None and self._engine.usable:
            try:
                self._engine.stop(self._request)
            except EngineError:
                pass  # it stopped, which is what is wanted
        try:
            if self._result is not None:
                self._result.revert()
        finally:
            self.close()

    def close(self) -> None:
        """Remove the job's folder; the scene keeps what it shows, which cannot be taken back any more."""
        global current
        self._result, self._probing = None, None
        if self._stage is not None:
            self._stage.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        if current is self:
            current = None


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
