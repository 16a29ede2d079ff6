# SPDX-License-Identifier: GPL-3.0-or-later
"""The Views list as the engine's views."""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import numpy as np

from ..access import present
from ..engine.softras import Camera, InputError, View
from ..props import SOFTRAS_PG_view, settings_of
from .background import first_background
from .camera import camera_from_blender, parent_matrix
from .frames import Evaluated
from .landmarks import read_landmarks
from .layer import is_enabled
from .masks import MOVING, Footage, file_of, reading_of


@dataclass(frozen=True)
class Shot:
    """What in the scene a view of a job was read from.

    Attributes:
        frame: the frame of the scene.
        item: the number of the item of the Views list, counted among the enabled items.
        camera: the camera object.
        parent: (4, 4) the space of the camera object's own channels: in this frame its world matrix is
            parent @ matrix_basis.
        engine_camera: the camera as the engine has it.
    """

    frame: int
    item: int
    camera: bpy.types.Object
    parent: np.ndarray
    engine_camera: Camera


def enabled_views(scene: bpy.types.Scene) -> list[SOFTRAS_PG_view]:
    """The items of the Views list that take part in a fit."""
    return [item for item in settings_of(scene).views if item.enabled]


def check_item(item: SOFTRAS_PG_view, scene: bpy.types.Scene) -> None:
    """Raises InputError, before any image is read, when a view lacks something or cannot be used."""
    if item.camera is None:
        raise InputError("a view has no camera; choose one in the Views list, or disable the view.")
    if item.camera.data is None or item.camera.name not in scene.objects:
        raise InputError(f"camera '{item.camera.name}' is not in this scene; choose another or remove its view.")
    name = item.camera.name
    if not is_enabled(item.camera):
        raise InputError(
            f"camera '{name}' is disabled in this view layer, so Blender does not know where it is; "
            "enable it in the Outliner, or disable its view."
        )
    if item.mask is None:
        raise InputError(f"view '{name}' has no mask; choose its image in the Views list, or disable the view.")
    if settings_of(scene).sequence and item.mask.source not in MOVING:
        raise InputError(
            f"the mask of view '{name}' is a still image; make it an image sequence or a movie, or untick Sequence."
        )


def picture_of(item: SOFTRAS_PG_view, frame: int) -> int:
    """The number of the picture that holds a view's mask in a frame of the scene, as Blender counts."""
    return frame - item.frame_start + 1 + item.frame_offset


def read_shot(
    scene: bpy.types.Scene, number: int, item: SOFTRAS_PG_view, footage: Footage, frame: int, evaluated: Evaluated
) -> tuple[Shot, View] | None:
    """What an enabled item shows in a frame, as a view of the engine; None where its sequence has no mask then.

    Raises InputError when the view cannot be used.
    """
    picture = picture_of(item, frame)
    mask = footage.mask(picture, reading_of(item))
    if settings_of(scene).sequence and (mask is None or not (mask > 0.5).any()):
        return None
    if mask is None:
        raise InputError(
            f"image '{item.mask.name}' has no picture {picture} to show in frame {frame}; go to another frame, or set "
            f"the Start Frame of view '{item.camera.name}'."
        )
    height, width = mask.shape
    camera_object = evaluated(item.camera)
    camera = camera_from_blender(camera_object, width, height, scene.render)
    background = first_background(item.camera)
    if background is None:
        photo = file_of(item.mask, picture)
    else:
        user = background.image_user
        photo = file_of(present(background.image), frame - user.frame_start + 1 + user.frame_offset)
    view = View(
        name=item.camera.name,
        camera=camera,
        mask=mask,
        photo=photo,
        weight=item.weight,
        frame=frame,
        landmarks=read_landmarks(item, camera, evaluated),
    )
    return Shot(frame, number, item.camera, parent_matrix(camera_object), camera), view
