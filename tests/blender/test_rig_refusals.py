"""Rigs that cannot be fitted are refused in one sentence."""

from __future__ import annotations

import bpy
import pytest

from .conftest import ALL_PARTS, armature_of, read_rig


def refusals():
    """(name, what to do to the snake and its armature, what the sentence says)."""

    def modifier(**values):
        def change(target, armature):
            for name, value in values.items():
                setattr(target.modifiers[0], name, value)

        return change

    def second(target, armature):
        target.modifiers.new("Second", "ARMATURE").object = armature

    def constrain(kind, bone="Bone 1", **values):
        def change(target, armature):
            constraint = armature.pose.bones[bone].constraints.new(kind)
            for name, value in values.items():
                setattr(constraint, name, value)

        return change

    def free_end(target, armature):  # it carries nothing, but its chain does
        target.vertex_groups.remove(target.vertex_groups["Side"])
        constrain("IK", bone="Side")(target, armature)

    def two_limits(target, armature):
        for _ in range(2):
            constrain("LIMIT_ROTATION", owner_space="LOCAL")(target, armature)

    def bendy(target, armature):
        armature.data.bones["Bone 1"].bbone_segments = 4

    def envelope(target, armature):
        armature.data.bones["Bone 1"].use_envelope_multiply = True

    def driver(target, armature):
        armature.pose.bones["Bone 1"].driver_add("rotation_euler", 0)

    def key_driver(target, armature):
        target.data.shape_keys.key_blocks["Wide"].driver_add("value")

    def edit(target, armature):
        bpy.context.view_layer.objects.active = armature
        bpy.ops.object.mode_set(mode="EDIT")

    def rest(target, armature):
        armature.data.pose_position = "REST"

    def hide(target, armature):
        armature.hide_viewport = True

    def virtual(target, armature):
        target.modifiers.clear()
        target.parent_type = "ARMATURE"

    def no_weights(target, armature):
        target.vertex_groups.clear()

    def zero(target, armature):
        armature.pose.bones["Bone 1"].scale = 1, 0, 1

    def object_constraint(target, armature):
        armature.constraints.new("COPY_LOCATION").target = bpy.data.objects.new("Goal", None)

    def object_driver(target, armature):
        armature.driver_add("location", 0)

    def delta(target, armature):
        armature.delta_location = 1, 0, 0

    def bone_parent(target, armature):
        target.parent_type, target.parent_bone = "BONE", "Bone 1"

    def pin(target, armature):
        target.show_only_shape_key = True

    def mute(target, armature):
        for key in target.data.shape_keys.key_blocks:
            key.mute = True

    return [
        (second, "has 2 Armature modifiers"),
        (modifier(use_bone_envelopes=True), "binds to bone envelopes"),
        (modifier(use_vertex_groups=False), "binds to bone envelopes"),
        (modifier(use_deform_preserve_volume=True), "untick Preserve Volume"),
        (modifier(vertex_group="Bone 1"), "acts on one vertex group"),
        (virtual, "give it an Armature modifier"),
        (constrain("COPY_ROTATION"), "bone 'Bone 1': constraint 'Copy Rotation'"),
        (constrain("LIMIT_ROTATION"), "constraint 'Limit Rotation'"),
        (constrain("LIMIT_ROTATION", owner_space="LOCAL", influence=0.5), "constraint 'Limit Rotation'"),
        (constrain("IK", bone="Bone 3"), "bone 'Bone 3': constraint 'IK'"),
        (free_end, "bone 'Side': constraint 'IK'"),
        (two_limits, "constraint 'Limit Rotation.001'"),
        (bendy, "'Bone 1' is a bendy bone"),
        (envelope, "bone 'Bone 1' multiplies"),
        (driver, "bone 'Bone 1': its pose is driven"),
        (key_driver, "shape key 'Wide' is driven"),
        (edit, "Edit Mode"),
        (rest, "switch it to Pose Position"),
        (hide, "'Rig', which is disabled"),
        (no_weights, "no bone of 'Rig' moves"),
        (zero, "bone 'Bone 1': a scale must not be zero"),
        (object_constraint, "'Rig' is held by constraints"),
        (object_driver, "transform of 'Rig' is driven"),
        (delta, "'Rig' has delta transforms"),
        (bone_parent, "parented to a part of 'Rig'"),
        (pin, "shows one shape key only"),
        (mute, "no shape keys to fit"),
    ]


@pytest.mark.parametrize(("change", "sentence"), refusals())
def test_what_cannot_be_fitted_is_refused_in_a_sentence(snake, change, sentence):
    read_rig(snake, ALL_PARTS)
    change(snake, armature_of(snake))
    try:
        with pytest.raises(ValueError, match=sentence) as error:
            read_rig(snake, ALL_PARTS)
    finally:
        if bpy.context.mode != "OBJECT":
            bpy.ops.object.mode_set(mode="OBJECT")
    assert type(error.value).__name__ == "InputError"
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


def test_linked_armatures_are_refused(snake, tmp_path):
    armature = armature_of(snake)
    path = str(tmp_path / "rig.blend")
    bpy.data.libraries.write(path, {armature})
    with bpy.data.libraries.load(path, link=True) as (_, into):
        into.objects = [armature.name]
    snake.modifiers[0].object = into.objects[0]
    with pytest.raises(ValueError, match="linked from another file"):
        read_rig(snake, ("pose",))
