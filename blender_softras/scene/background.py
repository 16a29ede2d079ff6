# SPDX-License-Identifier: GPL-3.0-or-later
"""The images behind a camera, and where the viewport shows them."""

from __future__ import annotations

import bpy
import numpy as np

from ..access import lens_of, present
from .camera import pixel_aspect, spanned_side

_TOLERANCE = 5e-3  # a share of the camera's frame: what is shifted or scaled by less looks the same


def first_background(camera: bpy.types.Object) -> bpy.types.CameraBackgroundImage | None:
    """The first background of a camera object that has an image, or None."""
    return next((b for b in lens_of(camera).background_images if b.source == "IMAGE" and b.image), None)


def background_clip(camera: bpy.types.Object, scene: bpy.types.Scene) -> bpy.types.MovieClip | None:
    """The first movie clip behind a camera object, or None."""
    clips = (b for b in lens_of(camera).background_images if b.source == "MOVIE_CLIP")
    shown = (scene.active_clip if b.use_camera_clip else b.clip for b in clips)
    return next((clip for clip in shown if clip), None)


def show_behind(
    camera: bpy.types.Object, image: bpy.types.Image, size: tuple[int, int], render: bpy.types.RenderSettings
) -> None:
    """Show the image behind the scene, where the camera sees an image of this size (width, height)."""
    lens = lens_of(camera)
    lens.show_background_images = True
    background = lens.background_images.new()
    background.image = image
    background.alpha = 0.5
    background.frame_method = "FIT"
    background.scale = float((_photographed_size(lens, size, render) / _drawn_size(background, size, render)).mean())


def shown_elsewhere(camera: bpy.types.Object, size: tuple[int, int], render: bpy.types.RenderSettings) -> bool:
    """Whether the background image is not drawn where the camera sees an image of this size (width, height).

    False without a background image, with one that is hidden, and with one of a size that Blender does not know yet.
    """
    background, lens = first_background(camera), lens_of(camera)
    if background is None or not (lens.show_background_images and background.show_background_image):
        return False
    width, height = np.array(present(background.image).size).tolist()
    if not width or not height:  # the image of a sequence that was not shown yet
        return False
    shifts = [*np.array(background.offset), background.rotation, background.use_flip_x, background.use_flip_y]
    drawn = background.scale * _drawn_size(background, (width, height), render)
    scales = drawn / _photographed_size(lens, size, render)
    return bool(np.abs(shifts).max() > _TOLERANCE or np.abs(scales - 1).max() > _TOLERANCE)


def _photographed_size(lens: bpy.types.Camera, size: tuple[int, int], render: bpy.types.RenderSettings) -> np.ndarray:
    """(2,) the width and height that a photograph of this size has in the camera's frame.

    The unit is the width of a pixel of the render. The sensor spans one side of the photograph; in the viewport the
    sensor spans one side of the frame.
    """
    aspect = pixel_aspect(render)
    frame = spanned_side(lens, render.resolution_x, render.resolution_y, aspect)
    return np.array([size[0], size[1] * aspect]) * frame / spanned_side(lens, *size, aspect)


def _drawn_size(
    background: bpy.types.CameraBackgroundImage, size: tuple[int, int], render: bpy.types.RenderSettings
) -> np.ndarray:
    """(2,) the width and height at which the viewport draws an image of this size at scale 1, in the same unit."""
    aspect = pixel_aspect(render)
    frame = np.array([render.resolution_x, render.resolution_y * aspect])
    image = np.array([size[0], size[1] * aspect])
    if background.frame_method == "STRETCH":
        return frame
    ratios = frame / np.maximum(image, 1)
    return image * (ratios.min() if background.frame_method == "FIT" else ratios.max())
