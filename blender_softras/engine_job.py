# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder of a job, and what the engine is asked to do with it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from . import prefs
from .engine.softras import InputError, Mesh
from .engine.softras.cage import Cage
from .engine.softras.camera import Camera
from .engine.softras.files import read_array, read_json
from .engine.softras.io.poses import load_poses
from .engine.softras.job import RESULT, Job, start_instead
from .engine.softras.rig import Rig
from .engine_client import EngineError

# Yields the progress messages that came since the last time, which may be none, and returns the result message.
Run = Generator[list[dict[str, Any]], None, dict[str, Any]]


class EngineJob:
    """A job in a folder of its own, and the engine that runs tasks on it, one after the other.

    Attributes:
        folder: the job's folder.
        engine: the engine process.
        request: the id of the run that goes on, once the engine was asked for it; else None.
    """

    def __init__(self, context: bpy.types.Context, job: Job) -> None:
        """Write the job and start the engine; does not wait. Raises InputError or EngineError."""
        self._rig, self._views = job.rig, len(job.views)  # the job is not kept: its masks take memory
        start = job.rig.mesh if job.rig is not None else job.mesh
        self._vertices = 0 if start is None else len(start.vertices)
        try:
            self.folder = Path(tempfile.mkdtemp(prefix="softras-", dir=bpy.app.tempdir or None))
        except OSError as error:
            raise InputError(f"Blender's temporary folder cannot be written ({error.strerror}).") from None
        try:
            job.save(self.folder, self_contained=False)  # the engine is on this machine too
            photos = [Path(view.photo) for view in job.views if view.photo is not None]
            self._photo_folders = sorted({str(photo.resolve().parent) for photo in photos})
            self.engine = prefs.start_engine(context)
        except BaseException:
            self.close()
            raise
        self._is_old = self.engine.hello is not None  # it was started before this job
        self.request: int | None = None

    def start_from(self, start: Mesh | Rig, cage: Cage | None, settings: dict[str, Any]) -> None:
        """Make the job start elsewhere; as `start_instead`."""
        start_instead(self.folder, start, cage, settings)
        self._rig = start if isinstance(start, Rig) else None

    def run(self, task: str, report: Path | None = None) -> Run:
        """Have the engine run a task on the folder.

        Where an engine fails that was started before this job and has sent nothing about it, because it may have died
        or hung long ago, a new one is asked. Raises EngineError for any other failure, and InputError where the engine
        refuses the job.

        Args:
            task: its name.
            report: a folder for the engine's picture report, or None.
        """
        fields: dict[str, Any] = {}
        if report is not None:  # Only a report shows photographs: the engine may read those that the scene names.
            fields = {"report": str(report), "allow": self._photo_folders}
        self.engine = prefs.start_engine(bpy.context)  # another one, where it has failed
        while True:
            try:
                return (yield from self._run(task, fields))
            except EngineError:
                if not self._is_old:
                    raise
                prefs.stop_engine()
                self.engine, self._is_old = prefs.start_engine(bpy.context), False
            finally:
                self.request = None

    def _run(self, task: str, fields: dict[str, Any]) -> Run:
        while True:
            messages = self.engine.messages()
            if self.request is None and self.engine.hello is not None:
                self.request = self.engine.run(task, self.folder, **fields)
            progress = []
            for message in messages:
                if message.get("id") != self.request:
                    continue  # it belongs to an earlier job
                if message["type"] == "error":
                    text = str(message.get("message"))
                    raise InputError(text) if message.get("kind") == "input" else EngineError(text)
                if message["type"] == "result":
                    return message
                if message["type"] == "progress":
                    self._is_old = False
                    progress.append(message)
            yield progress

    def stop(self) -> None:
        """Ask the run for the best so far. Where the engine is gone, the run hears of it by itself."""
        if self.request is not None and self.engine.usable:
            try:
                self.engine.stop(self.request)
            except EngineError:
                pass

    def kept(self) -> dict[str, Any] | None:
        """The message of the best that a failed fit has left in the folder; None where it had found nothing yet."""
        try:
            kept = read_json(self.folder / RESULT)
        except InputError:
            return None
        return kept if kept.get("step") else None  # step 0 is the start

    def vertices(self, name: Any) -> np.ndarray | None:
        """(V, 3) vertices from a file in the folder; None without a name."""
        if name is None:
            return None
        # Only the last part of the path counts: the engine writes into the job's folder and nowhere else.
        try:
            vertices = read_array(self.folder, Path(str(name)).name, (None, 3), "f")
        except InputError as error:
            raise EngineError(f"the engine's result cannot be read ({error}).") from None
        if vertices.shape != (self._vertices, 3) or not np.isfinite(vertices).all():
            raise EngineError("the engine's result does not belong to this mesh; nothing was changed.")
        return vertices

    def poses(self, name: Any) -> tuple[dict[int, Rig], list[Camera]]:
        """Rigs by frame and the cameras of all views, from a file in the folder; empty without a name."""
        if name is None:
            return {}, []
        try:
            rigs, cameras = load_poses(self.folder / Path(str(name)).name, self._rig)
        except InputError as error:
            raise EngineError(f"the engine's result cannot be read ({error}).") from None
        if cameras and len(cameras) != self._views:
            raise EngineError("the engine's result does not belong to these views; nothing was changed.")
        return rigs, cameras

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
