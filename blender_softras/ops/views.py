# SPDX-License-Identifier: GPL-3.0-or-later
"""Fill the Views list, and look through its cameras."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import bpy
import numpy as np
from bpy.props import IntProperty, StringProperty

from ..access import lens_of, present
from ..engine.softras import InputError
from ..engine.softras.io.views import ListedView, list_views
from ..props import SOFTRAS_PG_view, settings_of
from ..scene.background import background_clip, first_background, show_behind
from ..scene.camera import camera_to_blender
from ..scene.masks import image_of_clip, looks_like_photo

if TYPE_CHECKING:
    from bpy.stub_internal.rna_enums import OperatorReturnItems

_COLLECTION = "Softras Views"


class SOFTRAS_OT_view_add(bpy.types.Operator):
    """Add a view; with a camera selected, of that camera and its background image"""

    bl_idname = "softras.view_add"
    bl_label = "Add View"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[OperatorReturnItems]:
        """Add one item and make it the active one."""
        settings = settings_of(context.scene)
        camera = context.active_object
        if camera is not None and camera.type == "CAMERA":
            items = _add_cameras(self, present(context.scene), [camera])
            if not items:
                return {"CANCELLED"}
            _warn_of_photos(self, items)
        else:
            settings.views.add()
        settings.active_view = len(settings.views) - 1
        return {"FINISHED"}


class SOFTRAS_OT_view_remove(bpy.types.Operator):
    """Remove the active view from the list; its camera and image stay"""

    bl_idname = "softras.view_remove"
    bl_label = "Remove View"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """There must be something to remove."""
        settings = settings_of(context.scene)
        if 0 <= settings.active_view < len(settings.views):
            return True
        cls.poll_message_set("The Views list is empty.")
        return False

    def execute(self, context: bpy.types.Context) -> set[OperatorReturnItems]:
        """Remove the item."""
        settings = settings_of(context.scene)
        settings.views.remove(settings.active_view)
        settings.active_view = max(min(settings.active_view, len(settings.views) - 1), 0)
        return {"FINISHED"}


class SOFTRAS_OT_view_clip(bpy.types.Operator):
    """Take the mask of the active view from a movie clip: its file, from the frame in which the clip begins"""

    bl_idname = "softras.view_clip"
    bl_label = "Mask from Movie Clip"
    bl_options = {"REGISTER", "UNDO"}

    clip: StringProperty(name="Movie Clip", options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """There must be a view and a clip."""
        settings = settings_of(context.scene)
        if 0 <= settings.active_view < len(settings.views) and len(bpy.data.movieclips):
            return True
        cls.poll_message_set("Add a view, and open a movie clip in the Movie Clip editor.")
        return False

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[OperatorReturnItems]:
        """Ask for the clip."""
        self.clip = bpy.data.movieclips[0].name
        return present(context.window_manager).invoke_props_dialog(self)

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the choice of a clip."""
        present(self.layout).prop_search(self, "clip", bpy.data, "movieclips")

    def execute(self, context: bpy.types.Context) -> set[OperatorReturnItems]:
        """Set mask, start frame and offset."""
        settings = settings_of(context.scene)
        clip = bpy.data.movieclips.get(self.clip)
        try:
            if clip is None:
                raise InputError(f"There is no movie clip '{self.clip}'; open it in the Movie Clip editor.")
            _show(settings.views[settings.active_view], *image_of_clip(clip))
        except InputError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class SOFTRAS_OT_views_from_cameras(bpy.types.Operator):
    """Add a view for every camera of the scene that has a background image or movie clip and is not in the list yet"""

    bl_idname = "softras.views_from_cameras"
    bl_label = "From Scene Cameras"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[OperatorReturnItems]:
        """Add the views, in the order of the cameras' names."""
        scene = present(context.scene)
        listed = {item.camera for item in settings_of(scene).views}
        cameras = [ob for ob in scene.objects if ob.type == "CAMERA" and ob not in listed]
        cameras = [camera for camera in cameras if first_background(camera) or background_clip(camera, scene)]
        if not cameras:
            self.report({"WARNING"}, "No other camera has a background image; give one to each camera, or use Add.")
            return {"CANCELLED"}
        items = _add_cameras(self, scene, sorted(cameras, key=lambda ob: ob.name))
        if not items:
            return {"CANCELLED"}
        _warn_of_photos(self, items)
        self.report({"INFO"}, f"Added {len(items)} views.")
        return {"FINISHED"}


class SOFTRAS_OT_views_import(bpy.types.Operator):
    """Add cameras, masks and views from a folder with a cameras.json"""

    bl_idname = "softras.views_import"
    bl_label = "Import Views Folder"
    bl_options = {"REGISTER", "UNDO"}

    directory: StringProperty(name="Folder", subtype="DIR_PATH")
    filter_folder: bpy.props.BoolProperty(default=True, options={"HIDDEN"})

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[OperatorReturnItems]:
        """Ask for the folder."""
        present(context.window_manager).fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> set[OperatorReturnItems]:
        """Add everything, or nothing when one view cannot be used."""
        made: list[bpy.types.Object] = []
        scene = present(context.scene)
        try:
            listed = list_views(Path(bpy.path.abspath(self.directory)))
            if len({view.frame for view in listed}) > 1:
                raise InputError(
                    "The folder shows several frames; add a view for each camera instead, whose image is the image "
                    "sequence of its masks."
                )
            for view in listed:
                made.append(_add_view(scene, view))
        except InputError as error:
            self.report({"ERROR"}, str(error))
            for camera in made:
                settings_of(scene).views.remove(len(settings_of(scene).views) - 1)
                bpy.data.cameras.remove(lens_of(camera))
            return {"CANCELLED"}
        locations = np.array([camera.matrix_world.translation for camera in made])
        spread = np.linalg.norm(locations - locations.mean(axis=0), axis=1).max()
        collection = bpy.data.collections.new(_COLLECTION)
        scene.collection.children.link(collection)
        for camera in made:
            collection.objects.link(camera)
            lens_of(camera).display_size = 0.1 * spread or 1.0  # small enough to see the object between them
        if any(view.landmarks for view in listed):
            self.report(
                {"WARNING"}, "The folder's landmarks are left out; add them to the views from selected vertices."
            )
        self.report({"INFO"}, f"Added {len(made)} views.")
        return {"FINISHED"}


class SOFTRAS_OT_look_through(bpy.types.Operator):
    """See the scene through this view's camera; the scene's own camera stays"""

    bl_idname = "softras.look_through"
    bl_label = "Look Through"

    index: IntProperty(options={"SKIP_SAVE", "HIDDEN"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Only a 3D viewport can look."""
        if context.space_data is not None and context.space_data.type == "VIEW_3D":
            return True
        cls.poll_message_set("Looking through a camera needs a 3D viewport.")
        return False

    def execute(self, context: bpy.types.Context) -> set[OperatorReturnItems]:
        """Give the viewport its own camera."""
        settings = settings_of(context.scene)
        if not 0 <= self.index < len(settings.views) or settings.views[self.index].camera is None:
            self.report({"ERROR"}, "This view has no camera; choose one below the list.")
            return {"CANCELLED"}
        settings.active_view = self.index
        space = context.space_data
        if isinstance(space, bpy.types.SpaceView3D):
            space.use_local_camera = True
            space.camera = settings.views[self.index].camera
            present(space.region_3d).view_perspective = "CAMERA"
        return {"FINISHED"}


def _add_cameras(
    operator: bpy.types.Operator, scene: bpy.types.Scene, cameras: list[bpy.types.Object]
) -> list[SOFTRAS_PG_view]:
    """New items of the Views list, each for a camera and what is behind it; none when a movie clip cannot be read."""
    try:
        shown = [_behind(camera, scene) for camera in cameras]
    except InputError as error:
        operator.report({"ERROR"}, str(error))
        return []
    items = []
    for camera, behind in zip(cameras, shown, strict=True):
        item = settings_of(scene).views.add()
        item.camera = camera
        if behind is not None:
            _show(item, *behind)
        items.append(item)
    return items


def _behind(camera: bpy.types.Object, scene: bpy.types.Scene) -> tuple[bpy.types.Image, int, int] | None:
    """The image behind a camera, or its movie clip as an image, with start frame and offset."""
    background = first_background(camera)
    if background is not None and background.image is not None:
        return background.image, background.image_user.frame_start, background.image_user.frame_offset
    clip = background_clip(camera, scene)
    return image_of_clip(clip) if clip is not None else None


def _show(item: SOFTRAS_PG_view, image: bpy.types.Image, frame_start: int, frame_offset: int) -> None:
    item.mask, item.frame_start, item.frame_offset = image, frame_start, frame_offset


def _warn_of_photos(operator: bpy.types.Operator, items: list[SOFTRAS_PG_view]) -> None:
    """Say so when images were taken as masks that look like the photographs themselves."""
    photos = [item.mask.name for item in items if item.mask is not None and looks_like_photo(item.mask)]
    if photos:
        more = f" and {len(photos) - 1} more" if len(photos) > 1 else ""
        operator.report(
            {"WARNING"}, f"'{photos[0]}'{more} looks like a photograph, not a mask; choose the view's mask image."
        )


def _add_view(scene: bpy.types.Scene, view: ListedView) -> bpy.types.Object:
    """A camera object (in no collection yet) and an item of the Views list for a listed view."""
    if view.reading.label is not None:
        raise InputError(f"view '{view.name}': its mask is a map of labels; save the object's mask as an image.")
    camera = camera_to_blender(view.camera, view.name, scene.render)
    try:
        mask = _load_image(view.mask, view)
        photo = _load_image(view.photo, view) if view.photo is not None else mask
    except InputError:
        bpy.data.cameras.remove(lens_of(camera))
        raise
    show_behind(camera, photo, (view.camera.width, view.camera.height), scene.render)
    item = settings_of(scene).views.add()
    item.camera, item.mask, item.weight = camera, mask, view.weight
    reading = view.reading
    item.channel, item.invert = reading.channel.upper(), reading.invert
    if reading.threshold is not None:
        item.use_threshold, item.threshold = True, reading.threshold
    return camera


def _load_image(path: Path, view: ListedView) -> bpy.types.Image:
    try:
        image = bpy.data.images.load(str(path), check_existing=True)
    except RuntimeError:
        raise InputError(f"view '{view.name}': the image {path} cannot be read; check that it exists.") from None
    (width, height), wanted = np.array(image.size).tolist(), (view.camera.width, view.camera.height)
    if (width, height) != wanted:
        what = f"is {width} x {height} pixels" if width else "cannot be read as an image"
        raise InputError(
            f"view '{view.name}': {path} {what} but its camera has {wanted[0]} x {wanted[1]}; "
            "use an image of the camera's size."
        )
    return image


register, unregister = bpy.utils.register_classes_factory(
    (
        SOFTRAS_OT_view_add,
        SOFTRAS_OT_view_remove,
        SOFTRAS_OT_view_clip,
        SOFTRAS_OT_views_from_cameras,
        SOFTRAS_OT_views_import,
        SOFTRAS_OT_look_through,
    )
)
