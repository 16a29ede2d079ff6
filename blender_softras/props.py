# SPDX-License-Identifier: GPL-3.0-or-later
"""What a scene remembers: the Views list and how to fit. Nothing of a running fit is stored here."""

from __future__ import annotations

from typing import Any, cast

import bpy
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    FloatProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)

from .access import present

NOT_MEASURED = -1.0  # an IoU that no fit has measured yet


class SOFTRAS_PG_optimize(bpy.types.PropertyGroup):
    """What is fitted: a box for each variable, named and ordered as the engine has them (`VARIABLES`)."""

    vertices: BoolProperty(
        name="Vertices", description="Move the vertices; faces, UVs and vertex order stay", default=True
    )
    object: BoolProperty(
        name="Object",
        description="Move, turn and scale the object as a whole, with the armature that carries it. What the object "
        "locks stays",
    )
    pose: BoolProperty(
        name="Pose",
        description="Turn the bones, and move those without a parent. Locks and Limit Rotation constraints are kept",
    )
    shape_keys: BoolProperty(
        name="Shape Keys", description="Set the values of the shape keys, within their ranges. Muted ones stay out"
    )
    cameras: BoolProperty(name="Cameras", description="Move the cameras of the views")

    def chosen(self) -> list[str]:
        """The variables whose boxes are ticked."""
        return [name for name in VARIABLES if getattr(self, name)]


class SOFTRAS_PG_cameras(bpy.types.PropertyGroup):
    """How cameras are fitted: a box for each part of a camera that may change, named as the engine has them."""

    location: BoolProperty(name="Location", description="Where the cameras are", default=True)
    rotation: BoolProperty(name="Rotation", description="Where the cameras look", default=True)
    focal: BoolProperty(name="Focal Length", description="The focal length, or the scale of orthographic cameras")
    shift: BoolProperty(name="Shift", description="The shift of the lens")
    together: BoolProperty(
        name="Move Together",
        description="Keep the cameras' places among one another, as of cameras on one mount, and give them one lens",
    )

    def chosen(self) -> list[str]:
        """The parts whose boxes are ticked."""
        return [name for name in CAMERA_PARTS if getattr(self, name)]


class SOFTRAS_PG_landmark(bpy.types.PropertyGroup):
    """A landmark: a vertex, and where the image of a view shows it."""

    vertex: IntProperty(name="Vertex", description="Index of the vertex", min=0)
    empty: PointerProperty(
        name="Empty",
        description="Seen through the view's camera it stands where the image shows the vertex. Animate it for a "
        "sequence",
        type=bpy.types.Object,
        poll=lambda self, candidate: candidate.type == "EMPTY",
    )
    weight: FloatProperty(name="Weight", description="How much it counts", default=1.0, min=0.0, soft_max=10.0)


class SOFTRAS_PG_view(bpy.types.PropertyGroup):
    """A row of the Views list: a camera, and the mask that it should see."""

    camera: PointerProperty(
        name="Camera",
        description="The camera that took the photograph",
        type=bpy.types.Object,
        poll=lambda self, candidate: candidate.type == "CAMERA",
    )
    mask: PointerProperty(
        name="Mask",
        description="The image that holds the mask. Its size is the size of the view; render settings play no part",
        type=bpy.types.Image,
    )
    image: PointerProperty(type=bpy.types.Image, options={"HIDDEN"})  # the mask, in older files: see old_files.py
    channel: EnumProperty(
        name="Channel",
        description="Where in the image the mask is",
        items=[  # named as the engine names them; the numbers are in files
            ("AUTO", "Auto", "The alpha of an image that is not opaque everywhere, else its grey", 5),
            ("ALPHA", "Alpha", "The image's transparency", 0),
            ("GREY", "Grey", "How bright the image is, of its colours as stored. Bright is the object", 1),
            ("RED", "Red", "The red channel", 2),
            ("GREEN", "Green", "The green channel", 3),
            ("BLUE", "Blue", "The blue channel", 4),
        ],
        default="AUTO",
    )
    use_threshold: BoolProperty(
        name="Use Threshold",
        description="Make the mask hard: pixels above the threshold are the object, all others are not. Otherwise soft "
        "edges are kept",
    )
    threshold: FloatProperty(
        name="Threshold",
        description="Pixels above this value are the object",
        default=0.5,
        min=0.0,
        max=1.0,
        subtype="FACTOR",
    )
    invert: BoolProperty(name="Invert", description="Swap object and background")
    frame_start: IntProperty(
        name="Start Frame",
        description="The frame of the scene in which an image sequence or a movie shows its first picture",
        default=1,
    )
    frame_offset: IntProperty(
        name="Offset", description="How many pictures of an image sequence or a movie are passed over at the start"
    )
    landmarks: CollectionProperty(type=SOFTRAS_PG_landmark)
    active_landmark: IntProperty(name="Active landmark")
    weight: FloatProperty(name="Weight", description="How much this view counts", default=1.0, min=0.0, soft_max=10.0)
    enabled: BoolProperty(name="Enabled", description="Take part in the fit", default=True)
    iou: FloatProperty(
        name="IoU",
        description="Overlap of the last fit's silhouette and the mask: 1 is perfect",
        default=NOT_MEASURED,
        options={"HIDDEN"},
    )


class SOFTRAS_PG_scene(bpy.types.PropertyGroup):
    """Everything that a scene remembers of Softras: its Views list and how to fit."""

    views: CollectionProperty(type=SOFTRAS_PG_view)
    active_view: IntProperty(name="Active view")
    target: PointerProperty(
        name="Mesh",
        description="The mesh to fit; left empty, the active object",
        type=bpy.types.Object,
        poll=lambda self, candidate: candidate.type == "MESH",
    )
    optimize: PointerProperty(type=SOFTRAS_PG_optimize)
    cameras: PointerProperty(type=SOFTRAS_PG_cameras)
    sequence: BoolProperty(
        name="Sequence",
        description="Fit every frame from the first to the last, to the pictures that image sequences and movies show "
        "in it; the result is keyframes. Otherwise the current frame is fitted",
    )
    frame_first: IntProperty(name="First Frame", description="Where the sequence begins", default=1)
    frame_last: IntProperty(name="Last", description="Where the sequence ends", default=250)
    frame_step: IntProperty(name="Step", description="From one fitted frame to the next", default=1, min=1)
    known_pose: BoolProperty(
        name="Known Pose",
        description="The pose of the current frame is right and stays, and the fit starts from it; otherwise it is "
        "where the search starts for every frame",
    )
    replace_keys: BoolProperty(
        name="Replace Keys",
        description="Write into the actions that have keyframes already; otherwise into copies of them, and the "
        "actions are kept",
    )
    notes: StringProperty(
        name="Notes", description="What there is to know of the last fit, a sentence in each line", options={"HIDDEN"}
    )
    worst_frame: IntProperty(name="Worst frame", options={"HIDDEN"})
    worst_frame_iou: FloatProperty(name="IoU of the worst frame", default=NOT_MEASURED, options={"HIDDEN"})
    result: EnumProperty(
        name="Result",
        description="Where fitted vertices go",
        items=[
            ("SHAPE_KEY", "Shape Key", "A shape key named Softras; your mesh stays as it is"),
            ("MESH", "Mesh", "The mesh itself"),
        ],
        default="SHAPE_KEY",
    )
    seconds: FloatProperty(
        name="Time Limit",
        description="Stop after this time with the best so far, in a sequence after so much for each frame; 0 goes on "
        "until nothing improves any more",
        default=20.0,
        min=0.0,
        soft_max=120.0,
        step=100,
        precision=0,
        subtype="TIME_ABSOLUTE",
        unit="TIME_ABSOLUTE",
    )
    symmetry: EnumProperty(
        name="Symmetry",
        description="Keep the mesh mirrored across the object's own axis",
        items=[
            ("NONE", "Off", "No symmetry"),
            ("x", "X", "Left and right of the object"),
            ("y", "Y", "Front and back of the object"),
            ("z", "Z", "Top and bottom of the object"),
        ],
        default="NONE",
    )
    lock: StringProperty(name="Lock", description="Vertices in this group (weight 0.5 and more) do not move")
    place: BoolProperty(
        name="Move Onto the Masks",
        description="Move and scale the mesh onto the masks first when it does not yet overlap them",
        default=True,
    )
    seed: IntProperty(name="Seed", description="Same seed, same result", default=0, min=0)


# The engine's names, in its order: what can be fitted, and what of a camera can be.
VARIABLES = tuple(SOFTRAS_PG_optimize.__annotations__)
CAMERA_PARTS = tuple(name for name in SOFTRAS_PG_cameras.__annotations__ if name != "together")


def settings_of(scene: bpy.types.Scene | None) -> SOFTRAS_PG_scene:
    """The Softras settings of a scene, of which Blender's type stubs know nothing."""
    return cast(Any, present(scene)).softras


def chosen_object(context: bpy.types.Context) -> bpy.types.Object | None:
    """The object to fit: the one that is chosen in the panel, or else the active one."""
    return settings_of(context.scene).target or context.active_object


_CLASSES = (
    SOFTRAS_PG_optimize,
    SOFTRAS_PG_cameras,
    SOFTRAS_PG_landmark,
    SOFTRAS_PG_view,
    SOFTRAS_PG_scene,
)


def register() -> None:
    """Add `Scene.softras`."""
    for cls in _CLASSES:
        bpy.utils.register_class(cls)
    cast(Any, bpy.types.Scene).softras = PointerProperty(type=SOFTRAS_PG_scene)


def unregister() -> None:
    """Remove `Scene.softras`; files keep what they stored."""
    del cast(Any, bpy.types.Scene).softras
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
