# SPDX-License-Identifier: GPL-3.0-or-later
"""What a scene remembers: the Views list and how to fit. Nothing about a running fit is stored here."""

from __future__ import annotations

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

NOT_MEASURED = -1.0


class SOFTRAS_PG_view(bpy.types.PropertyGroup):
    """A camera and the image whose mask it should see."""

    camera: PointerProperty(
        name="Camera",
        description="The camera that took the image",
        type=bpy.types.Object,
        poll=lambda self, candidate: candidate.type == "CAMERA",
    )
    image: PointerProperty(
        name="Image",
        description="The image that holds the mask. Its size is the size of the view; render settings play no part",
        type=bpy.types.Image,
    )
    channel: EnumProperty(
        name="Mask",
        description="Where in the image the mask is",
        items=[
            ("ALPHA", "Alpha", "The image's transparency"),
            ("LUMINANCE", "Brightness", "Bright is the object"),
            ("RED", "Red", "The red channel"),
            ("GREEN", "Green", "The green channel"),
            ("BLUE", "Blue", "The blue channel"),
        ],
        default="ALPHA",
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
    weight: FloatProperty(name="Weight", description="How much this view counts", default=1.0, min=0.0, soft_max=10.0)
    enabled: BoolProperty(name="Enabled", description="Take part in the fit", default=True)
    iou: FloatProperty(
        name="IoU",
        description="Overlap of the last fit's silhouette and the mask: 1 is perfect",
        default=NOT_MEASURED,
        options={"HIDDEN"},
    )


class SOFTRAS_PG_scene(bpy.types.PropertyGroup):
    """The fit of one scene."""

    views: CollectionProperty(type=SOFTRAS_PG_view)
    active_view: IntProperty(name="Active view")
    target: PointerProperty(
        name="Mesh",
        description="The mesh to fit; left empty, the active object",
        type=bpy.types.Object,
        poll=lambda self, candidate: candidate.type == "MESH",
    )
    mode: EnumProperty(
        name="Fit",
        description="What may change",
        items=[
            ("VERTICES", "Shape", "Move the vertices; faces, UVs and vertex order stay"),
            ("RIGID", "Placement", "Move, turn and scale the object as a whole"),
        ],
        default="VERTICES",
    )
    result: EnumProperty(
        name="Result",
        description="Where the fitted shape goes",
        items=[
            ("SHAPE_KEY", "Shape Key", "A shape key named Softras; your mesh stays as it is"),
            ("MESH", "Mesh", "The mesh itself"),
        ],
        default="SHAPE_KEY",
    )
    seconds: FloatProperty(
        name="Time Limit",
        description="Stop after this time with the best so far; 0 goes on until nothing improves any more",
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


def target_of(context: bpy.types.Context) -> bpy.types.Object | None:
    """The object to fit: the chosen one, or else the active one."""
    return context.scene.softras.target or context.active_object


_CLASSES = (SOFTRAS_PG_view, SOFTRAS_PG_scene)


def register() -> None:
    """Add `Scene.softras`."""
    for cls in _CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.Scene.softras = PointerProperty(type=SOFTRAS_PG_scene)


def unregister() -> None:
    """Remove `Scene.softras`; files keep what they stored."""
    del bpy.types.Scene.softras
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
