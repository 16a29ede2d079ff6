# SPDX-License-Identifier: GPL-3.0-or-later
"""One fit, from the scene to the engine and back; the modal operator and scripts use the same."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import bpy
import numpy as np

from . import prefs
from .access import present
from .engine.softras import InputError, Mesh
from .engine.softras.job import show_instead
from .engine.softras.rig import Rig
from .engine.softras.status import FAILED, FINISHED, STOPPED
from .engine_client import EngineError
from .engine_job import EngineJob
from .props import NOT_MEASURED, chosen_object, settings_of
from .scene.channels import write_channels
from .scene.choices import choices_problem
from .scene.frames import in_words
from .scene.job import read_job
from .scene.mesh import matrix_of, mixed_positions
from .scene.posing import Posing, halfway
from .scene.probing import mirror_planes, probe
from .scene.result import WRITERS, Result
from .scene.shown import shown_cameras, shown_mesh
from .scene.stage import Stage
from .scene.target import target_problem
from .scene.views import enabled_views
from .state import State

SLICE = 0.03  # The work goes on for so many seconds between two looks at the window.
ROUNDS = 6  # Vertices below modifiers are fitted at most so many times, each time from what was found before,
POSE_ROUNDS = 24  # and poses that only Blender can tell at most so many times.
HALVINGS = 3  # What was found is drawn near to where its round began at most so many times.
BETTER = 0.002  # A mean IoU that is higher than another by no more than this is no better;
BETTER_POSE = 0.0003  # for poses by no more than this, since their rounds converge.

Work = Generator[Any, None, Any]  # yields something that is true where there was anything to do

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
        self._start = present(scene_job.job.start)
        self._shots, self._frames = scene_job.shots, scene_job.frames
        self._target, self._caged, self._frame = scene_job.target, scene_job.caged, self._scene.frame_current
        self._posing = scene_job.posing
        self._rounds = ROUNDS if self._caged else POSE_ROUNDS if self._posing is not None else 1
        self.target_name = "', '".join(each.name for each in self._target.meshes)
        self.progress: dict[str, Any] = {}
        self.iou: list[float] = []
        self.result: dict[str, Any] | None = None
        self.failure: str | None = None
        self.notes = list(scene_job.notes)
        self._items = enabled_views(self._scene)
        self._report = report
        self._round = 0
        self._is_linear = True  # whether what is shown follows the vertices in the same way wherever they are
        self._probed = (0, 1) if self._rounds > 1 else None  # evaluations that are done, of how many
        self._measuring = self._stopping = False
        self._result: Result | None = None  # writes into the scene; None once nothing can be taken back
        self._job = EngineJob(context, scene_job.job)
        self._work = self._fit()
        try:
            self._result = Result(self._scene, scene_job)
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
        done = self.progress.get("step", 0) / max(self.progress.get("steps", 1), 1)
        return done if self._is_linear and self._round == 0 else (self._round + done) / self._rounds

    @property
    def text(self) -> str:
        """The state of the fit, in a few words."""
        if self._measuring:
            return "Measuring what is shown"
        if self._probed is not None:
            tried = "modifiers" if self._posing is None else "bones"
            return f"Trying the {tried}, {self._probed[0]} of {self._probed[1]}"
        if self._job.request is None:
            return "Starting the engine"
        if not self.progress:
            return "Reading the job"
        measured = [value for value in self.iou if value != NOT_MEASURED]
        mean = f", IoU {fmean(measured):.3f}" if measured else ""
        again = f"Round {self._round + 1}, step" if self._round else "Step"
        return f"{again} {self.progress['step']} of {self.progress['steps']}{mean}"

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
        news, until = False, time.monotonic() + SLICE
        try:
            try:
                while time.monotonic() < until and next(self._work):
                    news = True
            except StopIteration as done:
                self._finish(*done.value)
                return True
        except BaseException:
            self.revert()
            raise
        return news

    def _fit(self) -> Work:
        """All of the work. Returns the state that was found, which is shown, and the message of the last fit.

        Vertices below modifiers are fitted as if what is shown followed them in the same way wherever they are. Where
        what the scene then shows is not what the fit has told, the modifiers are tried again there, and the vertices
        fitted from there, as long as what is shown gets better. So are poses that only Blender can tell, which go less
        far each time that nothing gets better.
        """
        best, message = State(), dict[str, Any]()
        for number in range(self._rounds):
            self._round = number
            try:
                if self._posing is not None:
                    yield from self._probe_pose(best, self._posing)
                elif self._caged:
                    yield from self._probe(best)
                message = yield from self._fit_once()
                found = self._found(message, best)
                # Each frame of a sequence would have to be measured by itself, and a new engine would hide that one
                # has failed.
                if settings_of(self._scene).sequence or self.failure is not None:
                    found = replace(found, iou=message.get("iou") or (), mean=message.get("mean_iou"))
                else:
                    found = yield from self._measured(found)
            except (InputError, EngineError) as error:
                if self._round == 0:
                    raise
                if isinstance(error, EngineError):
                    self.failure = f"{error} The best that was found before is kept."
                message |= {"status": FAILED if self.failure else STOPPED if self._stopping else FINISHED}
                break
            if self._rounds == 1 or self.failure or found.mean is None:
                best = found if self._round == 0 else best
                break
            if self._posing is None and not found.is_worse(message):
                best = found if found.matches_better(best) else best
                break
            if best.mean is None:
                best = yield from self._measured(best)
            found = yield from self._nearer(found, best)
            is_better = found.matches_better(best, BETTER if self._posing is None else BETTER_POSE)
            if is_better or (self._posing is not None and found.matches_better(best)):
                best = found
            if not is_better and (self._posing is None or not self._posing.narrowed()):
                break
            if self._stopping:
                message |= {"status": STOPPED}
                break
        self._show(best)
        if self._rounds > 1 and self._report is not None and best.mean is not None:
            best = yield from self._measured(best, self._report)
        return best, message

    def _probe(self, here: State) -> Work:
        """Find out how what is shown moves with the vertices, and make the job start from here."""
        single, changes = self._target.single, dict[str, Any]()
        if self._round:
            self._show(here)
            self._check_frame()
            changes = {"optimize": ["vertices"]}
            if settings_of(self._scene).symmetry != "NONE":
                changes["symmetry_frame"] = matrix_of(single.object).ravel().tolist()
        stage = Stage(self._scene, single, WRITERS[settings_of(self._scene).result])
        probing = probe(stage, single.mesh, mixed_positions(single), mirror_planes(single.object), single.object)
        try:
            cage, is_linear = yield from self._tried(probing)
        finally:
            stage.close()
        self._is_linear = is_linear and self._round == 0
        changes["max_seconds"] = self._seconds()
        mesh = Mesh(self._vertices_of(here), _mesh_of(self._start).faces)
        start: Mesh | Rig = mesh
        if isinstance(self._start, Rig):
            start = replace(here.rigs.get(self._frame, self._start), mesh=mesh)
        self._job.start_from(start, cage, changes)

    def _probe_pose(self, here: State, posing: Posing) -> Work:
        """Find out how what is seen moves with the bones, and make the job start from here."""
        self._show(here)
        self._check_frame()
        rig = yield from self._tried(posing.linearized())
        self._is_linear = False
        self._job.start_from(rig, None, {"optimize": ["shape_keys"], "max_seconds": self._seconds()})

    def _tried(self, probing: Generator[tuple[int, int], None, Any]) -> Work:
        """What the probing returns."""
        try:
            while True:
                self._probed = next(probing)
                yield True
                if self._stopping:
                    raise InputError("the fit was stopped.")
        except StopIteration as done:
            return done.value
        finally:
            self._probed = None

    def _seconds(self) -> float | None:
        """The time limit of this round. All rounds share that of the panel, if it was known that there will be some."""
        limit = settings_of(self._scene).seconds
        first = limit if self._is_linear else limit / 2
        return (limit / 2 / (self._rounds - 1) if self._round else first) or None

    def _fit_once(self) -> Work:
        """The message of the fit that the job asks for, or of the best that it had found where the engine failed."""
        run = self._job.run("fit", None if self._rounds > 1 else self._report)  # what will be shown is not known yet
        self.progress = {}
        while True:
            try:
                news = next(run)
            except StopIteration as done:
                return done.value
            except (InputError, EngineError) as error:
                kept = self._job.kept()
                if kept is None:
                    raise
                self.failure = f"{error} The best that was found before is kept."
                return {**kept, "status": FAILED}
            self._show_progress(news)
            yield bool(news)

    def _show_progress(self, messages: list[dict[str, Any]]) -> None:
        files: dict[str, Any] = {}
        for message in messages:
            self.progress = message
            if message.get("iou"):
                self.iou = self._by_view(message["iou"])
            files |= {name: message[name] for name in ("preview", "poses") if message.get(name)}
        if files:
            result = self._open_result()
            rigs, cameras = self._job.poses(files.get("poses"))
            result.show(rigs, cameras, self._job.vertices(files.get("preview")))

    def _found(self, message: dict[str, Any], here: State) -> State:
        """What a fit from here has found."""
        rigs, cameras = self._job.poses(message.get("poses"))
        notes = tuple(map(str, message.get("notes", [])))
        if self._posing is not None:
            pose = self._posing.channels_of(rigs[self._frame]) if rigs else here.pose
            return State(pose=pose, notes=notes)
        own, seen = (self._job.vertices(message.get(name)) for name in ("rig_vertices", "vertices"))
        notes = tuple(dict.fromkeys((*here.notes, *notes)))
        if not self._caged:
            return State(rigs, cameras, seen if own is None else own, own is not None, notes=notes)
        vertices = seen
        if isinstance(self._start, Rig):
            vertices = self._vertices_of(here) if own is None else own
        return State(rigs or here.rigs, cameras or here.cameras, vertices, isinstance(self._start, Rig), notes=notes)

    def _vertices_of(self, state: State) -> np.ndarray:
        """(V, 3) as of the state; those of the start where it has none."""
        return _mesh_of(self._start).vertices if state.vertices is None else state.vertices

    def _measured(self, state: State, report: Path | None = None) -> Work:
        """Show the state, and return it with the IoU of what the scene then shows."""
        self._measuring = True
        self._show(state)
        try:
            self._check_frame()
            show_instead(self._job.folder, shown_mesh(self._target), shown_cameras(self._scene, self._shots))
            message = yield from self._job.run("measure", report)
        except (InputError, EngineError) as error:
            # It is better not to know the IoU than to say another one.
            self.notes.append(f"What the scene shows could not be compared with the masks: {error}")
            return replace(state, iou=[None] * len(self._shots), mean=None)
        finally:
            self._measuring = False
        return replace(state, iou=message.get("iou") or (), mean=message.get("mean_iou"))

    def _nearer(self, found: State, start: State) -> Work:
        """The best of what a round has found and of what lies halfway to its start, halfway again, and so on."""
        for _ in range(HALVINGS):
            if self._stopping:
                break
            half = yield from self._measured(self._between(found, start))
            if not half.matches_better(found):
                break
            found = half
        return found

    def _between(self, a: State, b: State) -> State:
        """The state halfway between two that differ in the pose or in the vertices."""
        if self._posing is None:
            return replace(a, vertices=(self._vertices_of(a) + self._vertices_of(b)) / 2)
        return replace(a, pose=halfway(present(a.pose), self._posing.start if b.pose is None else b.pose))

    def _check_frame(self) -> None:
        """Raises InputError where the scene shows another frame than the one that is fitted."""
        if self._scene.frame_current != self._frame:
            raise InputError(f"the scene has left frame {self._frame}, which was fitted.")

    def _show(self, state: State) -> None:
        result = self._open_result()
        if state.is_start:
            result.take_back()
            return
        if state.pose is not None:
            write_channels(state.pose)
            return
        if not state.rigs and not state.cameras:  # nothing was better, and a preview may have shown something else
            result.start_again()
        result.show(state.rigs, state.cameras, state.vertices, unposed=state.unposed)

    def _finish(self, state: State, message: dict[str, Any]) -> None:
        """Keep what is shown."""
        self.notes += self._open_result().write(state.rigs, state.cameras)
        self._store(state.iou)
        self.notes += state.notes
        cause = "modifiers move vertices" if self._posing is None else "bones move it"
        if state.is_start:
            self.notes.append(
                f"Nothing that was found matches the masks better than the start (mean IoU {state.mean:.3f}), so all "
                f"stays as it was: the {cause} in a way that a fit cannot follow far enough."
            )
        elif state.is_worse(message):
            what = f"its {cause} in a way that a fit follows so far only"
            if self._rounds == 1:
                what = "something in the scene, such as a modifier, is not a part of it"
            self.notes.append(
                f"What the scene shows matches the masks worse (mean IoU {state.mean:.3f}) than what was fitted "
                f"({message['mean_iou']:.3f}): {what}."
            )
        settings_of(self._scene).notes = "\n".join(dict.fromkeys([*filter(None, [self.failure]), *self.notes]))
        self.result = {**message, "iou": list(state.iou), "mean_iou": state.mean}
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
        return [fmean(of_view) if of_view else NOT_MEASURED for of_view in values]

    def _by_frame(self, iou: list[float | None]) -> dict[int, float]:
        """The mean IoU of each frame that was measured."""
        values: dict[int, list[float]] = {frame: [] for frame in self._frames}
        for shot, value in zip(self._shots, iou, strict=True):
            if value is not None:
                values[shot.frame].append(value)
        return {frame: fmean(of_frame) for frame, of_frame in values.items() if of_frame}

    def _open_result(self) -> Result:
        """What shows and writes the result. Raises InputError when nothing can be shown in the scene any more."""
        result = present(self._result)
        if trouble := result.problem():
            raise InputError(trouble)
        return result

    def ask_to_stop(self) -> None:
        """Ask for the best result so far. It arrives in a later `step`, or at once where the engine is gone.

        Raises EngineError as `step` does.
        """
        if self._round == 0 and self._job.request is None and not self._measuring:
            raise InputError("the fit had not begun yet; nothing was changed.")
        self._stopping = True
        if not self._measuring:
            self._job.stop()

    def revert(self) -> None:
        """Stop and put the scene back as it was."""
        self._job.stop()
        try:
            if self._result is not None:
                self._result.revert()
        finally:
            self.close()

    def close(self) -> None:
        """Remove the job's folder; the scene keeps what it shows, which cannot be taken back any more."""
        global current
        self._result = None
        self._work.close()
        self._job.close()
        if current is self:
            current = None


def _mesh_of(start: Mesh | Rig) -> Mesh:
    return start.mesh if isinstance(start, Rig) else start
