"""What can be optimized of a scene, what the panel says of it, and the sentences for what cannot."""

from __future__ import annotations

import subprocess
from pathlib import Path

import bpy
import pytest

from .conftest import ROOT, armature_of, disc_image, give_images, optimize, part, read_job


@pytest.fixture
def still(arm: bpy.types.Object) -> bpy.types.Object:
    """The arm with an image for each view."""
    give_images(bpy.context.scene)
    return arm


def problem() -> str | None:
    """What the Fit button says."""
    return part("session").problem(bpy.context)


def locks(target: bpy.types.Object) -> list[str]:
    return list(part("scene.choices").locks(bpy.context.scene.softras, target))


def test_the_defaults_fit_vertices_of_one_frame(still: bpy.types.Object) -> None:
    settings = bpy.context.scene.softras
    assert settings.optimize.chosen() == ["vertices"]
    assert problem() is None
    job = read_job(bpy.context.scene).job
    assert job.rig is None and job.settings["optimize"] == ["vertices"]
    assert "camera_parts" not in job.settings


# Run by the engine's Python: the names that the engine knows, a line for each table.
TABLES = """
import sys
sys.path.insert(0, sys.argv[1])
from softras.fitting.schedule import VARIABLES
from softras.fitting.settings import AXES, CAMERA_PARTS, DEVICES
for table in (VARIABLES, CAMERA_PARTS, DEVICES, AXES):
    print(*table)
"""


def test_the_choices_are_what_the_engine_knows_in_its_order(preferences, engine_python: str) -> None:
    command = [engine_python, "-c", TABLES, str(ROOT / "engine")]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    variables, camera_parts, devices, axes = (tuple(line.split()) for line in lines)
    assert variables == part("props").VARIABLES
    assert camera_parts == part("props").CAMERA_PARTS
    assert tuple(preferences.bl_rna.properties["device"].enum_items.keys()) == devices
    symmetry = bpy.context.scene.softras.bl_rna.properties["symmetry"]
    assert tuple(symmetry.enum_items.keys()) == ("NONE", *axes)


def test_what_is_ticked_is_what_the_engine_is_asked_for(still: bpy.types.Object) -> None:
    settings = bpy.context.scene.softras
    optimize("vertices", "object", "pose", "shape_keys", "cameras")
    settings.cameras.focal, settings.cameras.location, settings.cameras.together = True, False, True
    job = read_job(bpy.context.scene).job
    assert job.mesh is None and job.rig.armature is not None
    assert job.settings["optimize"] == ["vertices", "object", "pose", "shape_keys", "cameras"]
    assert job.settings["camera_parts"] == ["rotation", "focal"]
    assert job.settings["cameras_together"] is True


def test_what_cannot_be_chosen_says_why(still: bpy.types.Object) -> None:
    settings = bpy.context.scene.softras
    reason = part("scene.choices").choice_problem
    assert {reason(name, still) for name in ("vertices", "object", "pose", "shape_keys", "cameras")} == {""}
    optimize()
    assert "tick at least one box under Optimize" in problem()
    optimize("pose")
    still.modifiers.clear()
    assert reason("pose", still) == "no armature"
    assert problem() == "'Arm' has no armature; untick Pose under Optimize, or choose another mesh."
    optimize("shape_keys")
    still.shape_key_clear()
    assert reason("shape_keys", still) == "no shape keys"
    still.shape_key_add(name="Basis")
    still.shape_key_add(name="Softras")  # holds a result
    assert problem() == "'Arm' has no shape keys; untick Shape Keys under Optimize, or choose another mesh."
    optimize("cameras")
    for name in ("location", "rotation"):
        setattr(settings.cameras, name, False)
    assert "Nothing of the cameras is to be optimized" in problem()


def test_an_armature_that_is_switched_off_has_no_line_in_the_panel(still: bpy.types.Object) -> None:
    optimize("pose")
    assert [line.partition(":")[0] for line in locks(still)] == ["Pose"]
    still.modifiers["Armature"].show_viewport = False
    assert locks(still) == []
    with pytest.raises(ValueError, match="'Arm' has no Armature modifier, so it has no pose to fit"):
        read_job(bpy.context.scene)


def test_what_does_not_go_together(still: bpy.types.Object) -> None:
    settings = bpy.context.scene.softras
    settings.sequence = True
    assert problem() == "Vertices are fitted to one frame only; untick Vertices or Sequence."
    optimize("pose")
    assert problem() is None
    settings.frame_last = 0
    assert "The first frame of the sequence is after the last" in problem()
    settings.sequence, settings.symmetry = False, "x"
    assert problem() is None  # it is of vertices
    optimize("vertices", "pose")
    assert "A posed mesh is not symmetric" in problem()


def test_what_is_locked_in_few_words(still: bpy.types.Object) -> None:
    armature = armature_of(still)
    bones = armature.pose.bones
    optimize("object", "pose", "shape_keys")
    assert locks(still) == ["Pose: 3 bones turn, 0 locked, 0 limited", "Shape Keys: 2 move"]
    armature.lock_location, armature.lock_scale = (False, True, True), (True, False, False)
    bones["Bone 1"].lock_rotation = True, True, True
    bones["Bone 0"].lock_rotation = False, True, False
    bones["Bone 2"].constraints.new("LIMIT_ROTATION")
    still.data.shape_keys.key_blocks["Wide"].mute = True
    still.data.shape_keys.key_blocks["Deep"].driver_add("value")
    assert locks(still) == [
        "Object: location Y Z, scale locked",
        "Pose: 2 bones turn, 1 locked, 2 limited",
        "Shape Keys: 0 move, 1 muted, 1 driven",
    ]
    # Bones count that carry vertices, or a bone that does.
    still.vertex_groups.remove(still.vertex_groups["Bone 2"])
    assert "Pose: 1 bones turn, 1 locked, 1 limited" in locks(still)
    still.vertex_groups.remove(still.vertex_groups["Bone 0"])
    assert "Pose: 1 bones turn, 1 locked, 1 limited" in locks(still)
    armature.data.pose_position = "REST"
    assert any("switch it to Pose Position" in text for text in locks(still))


def test_edit_mode_of_the_armature(still: bpy.types.Object) -> None:
    optimize("pose")
    bpy.context.view_layer.objects.active = armature_of(still)
    bpy.ops.object.mode_set(mode="EDIT")
    try:
        with pytest.raises(RuntimeError, match="uses 'Rig', which is in Edit Mode; leave Edit Mode there"):
            bpy.ops.softras.fit()
    finally:
        bpy.ops.object.mode_set(mode="OBJECT")
    bpy.ops.object.mode_set(mode="POSE")
    try:
        assert problem() is None
        read_job(bpy.context.scene)
    finally:
        bpy.ops.object.mode_set(mode="OBJECT")


def test_a_bone_scaled_to_nothing(still: bpy.types.Object) -> None:
    optimize("pose", "shape_keys")
    armature_of(still).pose.bones["Bone 1"].scale = 1, 0, 1
    with pytest.raises(RuntimeError, match="Bone 'Bone 1': a scale must not be zero"):
        bpy.ops.softras.fit()


def cameras():
    """(what to do to the first camera, what the sentence says)."""

    def constraint(camera, scene):
        camera.constraints.new("LIMIT_LOCATION")

    def driver(camera, scene):
        camera.driver_add("location", 0)

    def lens_driver(camera, scene):
        camera.data.driver_add("lens")

    def shift_driver(camera, scene):
        camera.data.driver_add("shift_x")

    def delta(camera, scene):
        camera.delta_location.x = 1

    def parent(camera, scene):
        camera.parent = bpy.data.objects.new("Cart", None)
        scene.collection.objects.link(camera.parent)
        camera.parent.scale.x = 2

    def vertices(camera, scene):
        bpy.ops.mesh.primitive_cube_add()
        camera.parent, camera.parent_type = bpy.context.active_object, "VERTEX"

    def shared(camera, scene):
        camera.data = scene.softras.views[1].camera.data

    return [
        (constraint, "camera 'Camera 0' is held by constraints; apply or mute them, or disable its view"),
        (driver, "the transform of camera 'Camera 0' is driven; remove the drivers, or disable its view"),
        (lens_driver, "the lens of camera 'Camera 0' is driven"),
        (shift_driver, "the lens of camera 'Camera 0' is driven"),
        (delta, "camera 'Camera 0' has delta transforms"),
        (parent, "the parent of camera 'Camera 0' is scaled unevenly"),
        (vertices, "camera 'Camera 0' is parented to vertices"),
        (shared, "cameras 'Camera 0' and 'Camera 1' share one lens"),
    ]


@pytest.mark.parametrize(("change", "sentence"), cameras())
def test_cameras_that_cannot_be_moved(still: bpy.types.Object, change, sentence: str) -> None:
    scene = bpy.context.scene
    scene.softras.cameras.focal = scene.softras.cameras.shift = True
    optimize("cameras")
    read_job(scene)
    change(scene.softras.views[0].camera, scene)
    with pytest.raises(ValueError, match=sentence):
        read_job(scene)
    optimize("pose")  # then it may be held by whatever it likes
    read_job(scene)
    optimize("cameras")
    scene.softras.views[0].enabled = False
    read_job(scene)


def test_only_what_may_change_must_be_free(still: bpy.types.Object) -> None:
    scene = bpy.context.scene
    camera, parts = scene.softras.views[0].camera, scene.softras.cameras
    optimize("cameras")
    camera.data.driver_add("lens")
    camera.data = camera.data.copy()
    read_job(scene)
    parts.location = parts.rotation = False
    parts.shift = True
    camera.constraints.new("LIMIT_LOCATION")
    read_job(scene)


def test_cameras_that_move_together_may_share_a_lens(still: bpy.types.Object) -> None:
    scene = bpy.context.scene
    for item in scene.softras.views:
        item.camera.data = scene.softras.views[0].camera.data
    optimize("cameras")
    scene.softras.cameras.focal = scene.softras.cameras.together = True
    read_job(scene)


def test_a_camera_with_images_of_two_sizes(still: bpy.types.Object) -> None:
    scene = bpy.context.scene
    views = scene.softras.views
    views[1].camera = views[0].camera
    optimize("cameras")
    read_job(scene)  # two masks of one photograph
    views[1].mask = disc_image("Smaller", 32, 24)
    with pytest.raises(ValueError, match="camera 'Camera 0' has two views whose images differ in size"):
        read_job(scene)


def test_linked_cameras(still: bpy.types.Object, tmp_path: Path) -> None:
    scene = bpy.context.scene
    item = scene.softras.views[0]
    bpy.data.libraries.write(str(tmp_path / "cameras.blend"), {item.camera})
    with bpy.data.libraries.load(str(tmp_path / "cameras.blend"), link=True) as (_, into):
        into.objects = [item.camera.name]
    item.camera = into.objects[0]
    scene.collection.objects.link(item.camera)
    optimize("pose")
    read_job(scene)
    optimize("cameras")
    with pytest.raises(ValueError, match="camera 'Camera 0' is linked from another file; make it local"):
        read_job(scene)


def test_what_would_carry_what_is_fitted(still: bpy.types.Object) -> None:
    scene = bpy.context.scene
    camera, armature = scene.softras.views[0].camera, armature_of(still)
    camera.parent = armature
    optimize("pose")
    read_job(scene)
    for name, kind in (("object", "OBJECT"), ("pose", "BONE")):
        optimize(name)
        camera.parent_type, camera.parent_bone = kind, "Bone 1"
        with pytest.raises(ValueError, match="camera 'Camera 0' is parented to 'Rig', which is fitted"):
            read_job(scene)
    optimize("shape_keys", "cameras")
    read_job(scene)
    camera.parent = None
    armature.parent = camera
    with pytest.raises(ValueError, match="'Arm' is parented to camera 'Camera 0', which is fitted"):
        read_job(scene)
    optimize("pose")
    read_job(scene)
