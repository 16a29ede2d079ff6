"""Every type of modifier that Blender has for meshes: its mesh is fitted as it is shown, or refused by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bpy
import numpy as np
import pytest

from .conftest import add_armature, local_positions, positions
from .test_cages import seen_iou, told

TYPES = [item.identifier for item in bpy.types.Modifier.bl_rna.properties["type"].enum_items]
# They change no mesh by themselves: they need a bake, a binding, a cache, or something that collides.
IDLE = {
    "DATA_TRANSFER", "MESH_CACHE", "MESH_SEQUENCE_CACHE", "NORMAL_EDIT", "WEIGHTED_NORMAL", "UV_PROJECT", "UV_WARP",
    "VERTEX_WEIGHT_EDIT", "VERTEX_WEIGHT_MIX", "VERTEX_WEIGHT_PROXIMITY", "CLOTH", "COLLISION", "DYNAMIC_PAINT",
    "EXPLODE", "FLUID", "PARTICLE_INSTANCE", "PARTICLE_SYSTEM", "SOFT_BODY", "TRIANGULATE", "LAPLACIANDEFORM",
    "SURFACE",
}  # fmt: skip


def other(kind: str = "MESH", at: tuple[float, float, float] = (0.1, 0, 0)) -> bpy.types.Object:
    """Another object, which no picture shows."""
    if kind == "MESH":
        bpy.ops.mesh.primitive_ico_sphere_add(subdivisions=3, radius=0.6, location=at)
    elif kind == "CURVE":
        bpy.ops.curve.primitive_bezier_circle_add(radius=2)
    else:
        bpy.ops.object.add(type=kind, location=at)
    found = bpy.context.active_object
    found.hide_render = True
    return found


def armature(ball: bpy.types.Object, modifier: Any) -> None:
    modifier.object = add_armature([("Top", "", (0, 0, 0), (0, 0, 1), 0)])
    modifier.object.pose.bones["Top"].location = (0, 0.1, 0)


def lattice(ball: bpy.types.Object, modifier: Any) -> None:
    modifier.object = other("LATTICE", (0, 0, 0))
    modifier.object.scale = (2, 2, 2)
    modifier.object.data.points[0].co_deform.x += 0.4


def hook(ball: bpy.types.Object, modifier: Any) -> None:
    modifier.object, modifier.vertex_group = other("EMPTY"), "Top"
    modifier.object.location.x += 0.1


def warp(ball: bpy.types.Object, modifier: Any) -> None:
    modifier.object_from, modifier.object_to = other("EMPTY"), other("EMPTY", (0.3, 0, 0))
    modifier.falloff_radius = 2


def multires(ball: bpy.types.Object, modifier: Any) -> None:
    bpy.context.view_layer.objects.active = ball
    bpy.ops.object.multires_subdivide(modifier=modifier.name)


def bound(ball: bpy.types.Object, modifier: Any) -> None:
    """Bound to a mesh around it, which is changed afterwards."""
    cage = other("MESH", (0, 0, 0))
    cage.scale = (1.5, 1.5, 1.5)
    setattr(modifier, "object" if modifier.type == "MESH_DEFORM" else "target", cage)
    bpy.context.view_layer.update()
    bpy.context.view_layer.objects.active = ball
    if modifier.type == "MESH_DEFORM":
        bpy.ops.object.meshdeform_bind(modifier=modifier.name)
    else:
        bpy.ops.object.surfacedeform_bind(modifier=modifier.name)
    for vertex in cage.data.vertices:
        vertex.co.z *= 1.2


def nodes(ball: bpy.types.Object, modifier: Any) -> None:
    """Geometry nodes that scale what they are given."""
    group = bpy.data.node_groups.new("Scale", "GeometryNodeTree")
    for way in ("INPUT", "OUTPUT"):
        group.interface.new_socket("Geometry", in_out=way, socket_type="NodeSocketGeometry")
    first, last = group.nodes.new("NodeGroupInput"), group.nodes.new("NodeGroupOutput")
    scale = group.nodes.new("GeometryNodeTransform")
    scale.inputs["Scale"].default_value = (1.2, 0.9, 1)
    group.links.new(first.outputs[0], scale.inputs["Geometry"])
    group.links.new(scale.outputs[0], last.inputs[0])
    modifier.node_group = group


def values(**settings: Any) -> Callable[[bpy.types.Object, Any], None]:
    def set_them(ball: bpy.types.Object, modifier: Any) -> None:
        for name, value in settings.items():
            setattr(modifier, name, other(*value) if isinstance(value, list) else value)

    return set_them


SET_UP: dict[str, Callable[[bpy.types.Object, Any], None]] = {
    "ARRAY": values(use_relative_offset=False, use_constant_offset=True, constant_offset_displace=(0.1, 0, 0)),
    "BEVEL": values(width=0.02, limit_method="NONE"),
    "BOOLEAN": values(object=[]),
    "BUILD": values(frame_start=-10, frame_duration=30),
    "DECIMATE": values(ratio=0.5),
    "EDGE_SPLIT": values(split_angle=0.1),
    "MASK": values(vertex_group="Top"),
    "SCREW": values(steps=4),
    "SOLIDIFY": values(thickness=0.1),
    "WIREFRAME": values(thickness=0.1),
    "WELD": values(merge_threshold=0.2),
    "ARMATURE": armature,
    "CAST": values(factor=0.5, cast_type="CUBOID"),
    "CURVE": values(object=["CURVE"]),
    "DISPLACE": values(strength=0.1),
    "HOOK": hook,
    "LATTICE": lattice,
    "LAPLACIANSMOOTH": values(iterations=3),
    "CORRECTIVE_SMOOTH": values(rest_source="ORCO", use_only_smooth=True, iterations=3),
    "SMOOTH": values(iterations=3),
    "SHRINKWRAP": values(target=[]),
    "SIMPLE_DEFORM": values(deform_method="TAPER", factor=0.3, deform_axis="Z"),
    "WARP": warp,
    "WAVE": values(time_offset=-20),
    "MULTIRES": multires,
    "REMESH": values(mode="VOXEL", voxel_size=0.1),
    "OCEAN": values(geometry_mode="DISPLACE", wave_scale=0.5),
    "MESH_DEFORM": bound,
    "SURFACE_DEFORM": bound,
    "NODES": nodes,
}


@pytest.mark.parametrize("kind", TYPES)
def test_what_is_shown_is_fitted_or_the_modifier_is_named(ball: bpy.types.Object, kind: str) -> None:
    modifier = ball.modifiers.new("Culprit", kind)
    if modifier is None:
        pytest.skip("not for meshes")
    top = [vertex.index for vertex in ball.data.vertices if vertex.co.z > 0.1]
    ball.vertex_groups.new(name="Top").add(top, 1.0, "REPLACE")
    SET_UP.get(kind, values())(ball, modifier)
    bpy.context.scene.softras.target = ball
    before, own = positions(ball), local_positions(ball)
    changed = before.shape != own.shape or np.abs(before - own).max() > 1e-4
    assert changed or kind in IDLE
    started = seen_iou() if len(before) else 0.0
    bpy.context.scene.softras.seconds = 3
    try:
        bpy.ops.softras.fit()
    except RuntimeError as error:
        assert "'Culprit' of 'Icosphere'" in str(error) or "modifiers of 'Icosphere' leave it no faces" in str(error)
        return
    assert told() == pytest.approx(seen_iou(), abs=0.015)
    assert told() > started - 0.015
