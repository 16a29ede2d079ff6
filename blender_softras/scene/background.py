# SPDX-License-Identifier: GPL-3.0-or-later
"""The images behind a camera, and where the viewport shows them."""

from __future__ import annotations

import bpy
import numpy as np

from .camera import spanned_side

_TOLERANCE = 5e-3  # of the frame: what nobody sees


def first_background(camera: bpy.types.Object) -> bpy.types.CameraBackgroundImage | None:
    """The first background of a camera object that is an image, or None."""
    return next((b for b in camera.data.background_images if b.source == "IMAGE" and b.image), None)


def background_clip(camera: bpy.types.Object, scene: bpy.types.Scene) -> bpy.types.MovieClip | None:
    """The first movie clip behind a camera object, or None."""
    clips = (b for b in camera.data.background_images if b.source == "MOVIE_CLIP")
    shown = (scene.active_clip if b.use_camera_clip else b.clip for b in clips)
    return next((clip for clip in shown if clip), None)


def show_behind(
    camera: bpy.types.Object, image: bpy.types.Image, size: tuple[int, int], render: bpy.types.RenderSettings
) -> None:
    """Show the image behind the scene where the camera sees an image of this size (width, height)."""
    camera.data.show_background_images = True
    background = camera.data.background_images.new()
    background.image = image
    background.alpha = 0.5
    background.frame_method = "FIT"
    background.scale = (_seen_size(camera.data, size, render) / _drawn_size(background, size, render)).mean()


def shown_elsewhere(camera: bpy.types.Object, size: tuple[int, int], render: bpy.types.RenderSettings) -> bool:
    """Whether the viewport shows the background image elsewhere than where the camera sees one of this size."""
    background = first_background(camera)
    if background is None or not all(background.image.size):  # none, or a sequence that nobody looked at yet
        return False
    if not (camera.data.show_background_images and background.show_background_image):
        return False
    moved = [*background.offset, background.rotation, background.use_flip_x, background.use_flip_y]
    drawn = background.scale * _drawn_size(background, tuple(background.image.size), render)
    return bool(
        np.abs(moved).max() > _TOLERANCE or np.abs(drawn / _seen_size(camera.data, size, render) - 1).max() > _TOLERANCE
    )


def _seen_size(data: bpy.types.Camera, size: tuple[int, int], render: bpy.types.RenderSettings) -> np.ndarray:
    """(2,) what an image of this size takes of the camera's frame, in pixels of the render and unit width.

    The sensor spans one side of the image; in the viewport it spans one side of the frame.
    """
    aspect = render.pixel_aspect_y / render.pixel_aspect_x
    frame = spanned_side(data, render.resolution_x, render.resolution_y, aspect)
    return np.array([size[0], size[1] * aspect]) * frame / spanned_side(data, *size, aspect)


def _drawn_size(
    background: bpy.types.CameraBackgroundImage, size: tuple[int, int], render: bpy.types.RenderSettings
) -> np.ndarray:
    """(2,) the size at which the viewport draws an image of this size at scale 1, in the same pixels."""
    aspect = render.pixel_aspect_y / render.pixel_aspect_x
    frame = np.array([render.resolution_x, render.resolution_y * aspect])
    image = np.array([size[0], size[1] * aspect])
    if background.frame_method == "STRETCH":
        return frame
    ratios = frame / np.maximum(image, 1)
    return image * (ratios.min() if background.frame_method == "FIT" else ratios.max())
