# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engine finds goes into the scene: shown while a fit runs, written when it ends, or taken back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import bpy
import numpy as np

from ..engine.softras import Camera
from ..engine.softras.rig import Rig, Transform
from ..engine.softras.rotations import rotation_matrix, rotation_numbers
from ..props import settings_of
from .animation import keyed, write_keys
from .camera import camera_channels
from .channels import Channel, Remembered, rotation_property, write_channels
from .job import SceneJob
from .mesh import IntoMesh, IntoShapeKey, OwnMesh
from .posing import Posing
from .rig import channels_of
from .target import Target
from .views import Shot

# What writes vertices, by the panel's choice of a result.
WRITERS: dict[str, type[IntoShapeKey] | type[IntoMesh]] = {"SHAPE_KEY": IntoShapeKey, "MESH": IntoMesh}
Keys = dict[Channel, dict[int, np.ndarray]]  # the values of channels by frame


class IntoRig:
    """Shows a fitted rig as the transform, the pose and the shape key values of the target."""

    def __init__(self, target: Target, rig: Rig) -> None:
        """Remember what the target has; the rig must be the one that was read from it."""
        self._target = target
        self._original = Remembered(channels_of(target, rig), *target.objects)

    def problem(self) -> str | None:
        """Why the rig can be neither shown nor put back; None when it can."""
        return self._original.problem()

    def show(self, rig: Rig) -> None:
        """Show the rig of one frame."""
        write_channels(channels_of(self._target, rig))

    def keys(self, rigs: Mapping[int, Rig]) -> Keys:
        """The values of the target's channels, from the rigs of all frames."""
        keys: Keys = defaultdict(dict)
        for frame, rig in _continuous(rigs).items():
            for channel, value in channels_of(self._target, rig).items():
                keys[channel][frame] = value
        return keys

    def revert(self) -> None:
        """Give the target the values that it had."""
        self._original.put_back()


class IntoCameras:
    """Shows fitted cameras as the camera objects and lenses of the shots.

    A camera that stands still in the frames that are fitted is one camera to the engine, and stands still afterwards.
    """

    def __init__(self, scene: bpy.types.Scene, shots: Sequence[Shot]) -> None:
        self._render, self._shots = scene.render, shots
        self._parts = settings_of(scene).cameras.chosen()
        read = defaultdict(list)
        for shot in shots:
            read[shot.camera].append(shot.engine_camera)
        self._moving = {camera for camera, frames in read.items() if any(_differ(frames[0], one) for one in frames)}
        self._original = Remembered(channel for shot in shots for channel in self._channels(shot, shot.engine_camera))

    def problem(self) -> str | None:
        """Why the cameras can be neither shown nor put back; None when they can."""
        return self._original.problem()

    def show(self, cameras: Sequence[Camera], frame: int) -> None:
        """Show the cameras, of which there is one for each shot, as they are in this frame."""
        for shot, camera in zip(self._shots, cameras, strict=True):
            if shot.frame == frame or shot.camera not in self._moving:
                write_channels(self._channels(shot, camera))

    def keys(self, cameras: Sequence[Camera]) -> Keys:
        """The values of the channels, in all frames, of the cameras that move or have keyframes."""
        keys: Keys = defaultdict(dict)
        latest: dict[bpy.types.Object, np.ndarray] = {}  # each camera's rotation in the previous frame
        for shot, camera in sorted(zip(self._shots, cameras, strict=True), key=lambda pair: pair[0].frame):
            channels = self._channels(shot, camera, latest.get(shot.camera))
            for (owner, path), value in channels.items():
                if shot.camera in self._moving or keyed(owner, path):
                    keys[owner, path][shot.frame] = value
            rotation = rotation_property(shot.camera.rotation_mode)
            if (shot.camera, rotation) in channels:
                latest[shot.camera] = channels[shot.camera, rotation]
        return keys

    def revert(self) -> None:
        """Give the cameras the values that they had."""
        self._original.put_back()

    def _channels(self, shot: Shot, camera: Camera, near: np.ndarray | None = None) -> dict[Channel, np.ndarray]:
        return camera_channels(shot.camera, camera, shot.parent, self._parts, self._render, near)


class Result:
    """Puts a job's result into the scene. What is shown can be taken back until it is written."""

    def __init__(self, scene: bpy.types.Scene, scene_job: SceneJob) -> None:
        """Prepare the scene. Raises InputError when the scene could not keep a result, and leaves it as it was."""
        target, self._given, optimize = scene_job.target, scene_job.job.rig, scene_job.optimize
        self._scene, single = scene, target.meshes[0]  # what can be done with one only was checked
        self._still = None if settings_of(scene).sequence else scene.frame_current  # the one frame that is fitted
        self._own = OwnMesh(single) if {"vertices", "shape_keys"} & set(optimize) else None
        try:
            self._vertices = WRITERS[settings_of(scene).result](single) if "vertices" in optimize else None
            self._rig: IntoRig | Posing | None = scene_job.posing
            if self._rig is None and self._given is not None:
                self._rig = IntoRig(target, self._given)
            self._cameras = IntoCameras(scene, scene_job.shots) if "cameras" in optimize else None
        except BaseException:
            if self._own is not None:
                self._own.revert()
            raise

    def problem(self) -> str | None:
        """Why nothing can be shown any more, in a sentence; None when it can."""
        return next((problem for part in self._parts() if (problem := part.problem())), None)

    def show(
        self, rigs: Mapping[int, Rig], cameras: Sequence[Camera], vertices: np.ndarray | None, *, unposed: bool = False
    ) -> None:
        """Show what belongs to the frame that is fitted, in a sequence to the scene's current frame.

        Args:
            rigs: by frame, the rigs that changed.
            cameras: of all views, or none.
            vertices: (V, 3) fitted vertices, in world space as they are seen, or None.
            unposed: the vertices are those of the rig's mesh, in object space and without a pose.
        """
        frame = self._scene.frame_current if self._still is None else self._still  # playback may have gone on
        if cameras and self._cameras is not None:
            self._cameras.show(cameras, frame)
        if self._rig is not None and frame in rigs:
            self._rig.show(rigs[frame])
        if self._vertices is None or vertices is None:
            return
        if self._given is None:
            self._vertices.show(vertices)
        elif unposed:
            self._vertices.show_offset(vertices - self._given.mesh.vertices)
        elif frame in rigs:
            self._vertices.show_offset(rigs[frame].unposed(vertices) - self._given.mesh.vertices)

    def start_again(self) -> None:
        """Show what the scene had when the fit began."""
        for part in (self._rig, self._cameras):
            if part is not None:
                part.revert()
        if self._vertices is not None and self._given is not None:
            self._vertices.show_offset(np.zeros_like(self._given.mesh.vertices))

    def write(self, rigs: Mapping[int, Rig], cameras: Sequence[Camera]) -> list[str]:
        """Keep what was shown, in a sequence as keyframes of all frames. Returns notes for the artist."""
        settings = settings_of(self._scene)
        keys = self._rig.keys(rigs) if self._rig is not None else {}
        if cameras and self._cameras is not None:
            keys |= self._cameras.keys(cameras)
        if not settings.sequence:
            keys = {channel: values for channel, values in keys.items() if keyed(*channel)}
            if keys and not settings.replace_keys:
                name = next(iter(keys))[0].name
                return [f"'{name}' has keyframes, which show again when the frame changes; insert one to keep the fit."]
        write_keys(keys, replace=settings.replace_keys)
        return []

    def take_back(self) -> None:
        """Show what the scene had when the fit began, vertices included."""
        self.start_again()
        if self._vertices is not None:
            self._vertices.show_offset(np.zeros(self._vertices.shape))

    def revert(self) -> None:
        """Take back what was shown, as far as it still exists."""
        for part in self._parts():
            if part.problem() is None or isinstance(part, (IntoRig, Posing, IntoCameras)):
                part.revert()
        if self._own is not None:
            try:
                self._own.revert()
            except ReferenceError:
                pass  # the object is gone

    def _parts(self) -> Iterator[IntoShapeKey | IntoMesh | IntoRig | Posing | IntoCameras]:
        yield from filter(None, (self._vertices, self._rig, self._cameras))


def _differ(a: Camera, b: Camera) -> bool:
    """Whether two cameras see the world differently, whatever the sizes of their images."""
    return not (np.array_equal(a.K, b.K) and np.array_equal(a.world_to_camera, b.world_to_camera))


def _continuous(rigs: Mapping[int, Rig]) -> dict[int, Rig]:
    """The rigs by frame, with rotations whose numbers are close to those of the previous frame.

    Several sets of numbers give the same rotation, and F-curves interpolate between the numbers.
    """
    result: dict[int, Rig] = {}
    previous: Rig | None = None
    for frame in sorted(rigs):
        rig = rigs[frame]
        if previous is not None:
            rig = replace(rig, transform=_close(rig.transform, previous.transform))
            if rig.armature is not None and previous.armature is not None:
                bones = tuple(
                    replace(bone, pose=_close(bone.pose, last.pose))
                    for bone, last in zip(rig.armature.bones, previous.armature.bones, strict=True)
                )
                rig = replace(rig, armature=replace(rig.armature, bones=bones))
        result[frame] = previous = rig
    return result


def _close(now: Transform, previous: Transform) -> Transform:
    """The transform with the numbers for its rotation that are closest to the previous ones.

    Locked or limited angles are left alone: other numbers for the same rotation would break the lock or the limit.
    """
    if now.mode != "QUATERNION" and not now.turns_freely:
        return now
    if now.mode == "QUATERNION":  # only its sign changes, so that its length stays
        return replace(now, rotation=now.rotation * (1.0 if now.rotation @ previous.rotation >= 0 else -1.0))
    matrix = rotation_matrix(now.rotation, now.mode)
    return replace(now, rotation=rotation_numbers(matrix, now.mode, previous.rotation))
