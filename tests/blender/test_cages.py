"""Vertices that are fitted below modifiers: what is shown matches, and what Blender is asked for it leaves no trace."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
import pytest

from .conftest import add_armature, halved, local_positions, optimize, part, positions, radius, seen_iou, snapshot, told

SHOWN = 0.97  # of the ball: its masks have 64 x 48 pixels


def fit() -> None:
    bpy.context.scene.softras.seconds = 8
    assert bpy.ops.softras.fit() == {"FINISHED"}


def test_a_mirrored_half(ball: bpy.types.Object) -> None:
    halved(ball)
    before = local_positions(ball)
    seam = np.abs(before[:, 0]) < 1e-4
    assert seam.sum() > 10
    fit()
    assert told() > SHOWN
    assert seen_iou() == pytest.approx(told(), abs=0.01)
    after = np.array([point.co for point in ball.data.shape_keys.key_blocks["Softras"].data])
    np.testing.assert_allclose(after[seam, 0], before[seam, 0], atol=1e-6)
    assert (after[~seam, 0] > 1e-3).all()
    assert len(positions(ball)) == 2 * len(before) - seam.sum()


def test_a_mirror_does_what_symmetry_would(ball: bpy.types.Object) -> None:
    """The cage is a half, whose vertices have no mirror images."""
    halved(ball)
    bpy.context.scene.softras.symmetry = "x"
    fit()
    assert told() > SHOWN


def test_a_subdivided_cage(ball: bpy.types.Object) -> None:
    bpy.data.objects.remove(ball)
    bpy.ops.mesh.primitive_cube_add(size=1.6)
    cage = bpy.context.active_object
    cage.modifiers.new("Subdivision", "SUBSURF").levels = 2
    cage.modifiers[0].render_levels = 2
    bpy.context.scene.softras.target = cage
    fit()
    assert told() > 0.95  # eight vertices
    assert seen_iou() == pytest.approx(told(), abs=0.01)
    assert radius(cage) == pytest.approx(0.5, abs=0.03)


def test_a_mirrored_and_subdivided_half_that_is_turned_and_scaled(ball: bpy.types.Object) -> None:
    halved(ball)
    ball.modifiers.new("Subdivision", "SUBSURF").levels = 1
    ball.rotation_euler, ball.scale = (0.5, 1, 2), (1.2, 0.9, -1)
    fit()
    assert told() > SHOWN
    assert ball.rotation_euler[:] == pytest.approx((0.5, 1, 2))


def test_a_thick_shell(ball: bpy.types.Object) -> None:
    """Solidify is not linear in the vertices."""
    modifier = ball.modifiers.new("Solidify", "SOLIDIFY")
    modifier.thickness, modifier.offset = 0.1, 1
    fit()
    assert told() > SHOWN
    assert seen_iou() == pytest.approx(told(), abs=0.01)
    assert np.linalg.norm(positions(ball), axis=1).max() == pytest.approx(0.5, abs=0.03)


def test_a_mesh_in_a_pose(ball: bpy.types.Object) -> None:
    """What is shown is turned by a bone and moved with it: the vertices must go where the bone brings them to."""
    armature = add_armature([("Bone", "", (0, 0, 0), (0, 0, 1), 0)])
    ball.vertex_groups.new(name="Bone").add(range(len(ball.data.vertices)), 1.0, "REPLACE")
    ball.modifiers.new("Armature", "ARMATURE").object = armature
    pose = armature.pose.bones["Bone"]
    pose.rotation_mode, pose.rotation_euler, pose.location = "XYZ", (0.7, 0.4, 1), (0.2, 0, 0.1)
    bpy.context.scene.softras.target = ball
    fit()
    assert told() > SHOWN
    assert radius(ball) == pytest.approx(0.5, abs=0.02)
    assert np.linalg.norm(local_positions(ball), axis=1).mean() == pytest.approx(0.65, abs=0.01)


def test_the_object_is_moved_and_its_cage_bent(ball: bpy.types.Object) -> None:
    halved(ball)
    ball.location = (0.3, 0.2, 0.1)
    optimize("vertices", "object")
    fit()
    assert told() > SHOWN
    assert np.linalg.norm(ball.location) < 0.1


def test_the_result_goes_into_the_mesh(ball: bpy.types.Object) -> None:
    ball.modifiers.new("Subdivision", "SUBSURF")
    bpy.context.scene.softras.result = "MESH"
    fit()
    assert told() > SHOWN and ball.data.shape_keys is None


def test_a_hidden_object_is_measured_as_it_would_be_seen(ball: bpy.types.Object) -> None:
    ball.hide_set(True)
    ball.modifiers.new("Subdivision", "SUBSURF").levels = 2
    fit()
    assert told() > SHOWN


@pytest.mark.parametrize("kind", ["DECIMATE", "REMESH"])
def test_modifiers_that_make_other_faces_are_refused_by_name(ball: bpy.types.Object, kind: str) -> None:
    ball.modifiers.new("Subdivision", "SUBSURF")
    modifier = ball.modifiers.new("Culprit", kind)
    if kind == "DECIMATE":
        modifier.ratio = 0.5
    if kind == "REMESH":
        modifier.mode, modifier.voxel_size = "VOXEL", 0.1
    before = snapshot(bpy.context.scene)
    with pytest.raises(RuntimeError, match="Modifier 'Culprit' of 'Icosphere' makes other faces"):
        bpy.ops.softras.fit()
    assert snapshot(bpy.context.scene) == before
    assert ball.data.shape_keys is None and [m.show_viewport for m in ball.modifiers] == [True, True]


def test_probing_leaves_no_trace(ball: bpy.types.Object, tmp_path: Path) -> None:
    """No handler of others is called for it, no data stays, and nothing of it is in a file that is saved meanwhile."""
    ball.modifiers.new("Subdivision", "SUBSURF")
    session, path = part("session"), tmp_path / "meanwhile.blend"
    calls: list[str] = []
    counts = [len(kind) for kind in (bpy.data.scenes, bpy.data.objects, bpy.data.meshes)]

    def handler(scene: bpy.types.Scene, *_: object) -> None:
        calls.append(scene.name)

    bpy.app.handlers.depsgraph_update_post.append(handler)
    try:
        fitting = session.FitSession(bpy.context)
        while fitting.text.startswith("Trying the modifiers"):
            fitting.step()
            if not path.exists():
                assert len(bpy.data.scenes) == 2
                bpy.ops.wm.save_as_mainfile(filepath=str(path), copy=True)
                assert len(bpy.data.scenes) == 1
        fitting.wait()
    finally:
        bpy.app.handlers.depsgraph_update_post.remove(handler)
    assert set(calls) <= {bpy.context.scene.name}
    assert [len(kind) for kind in (bpy.data.scenes, bpy.data.objects, bpy.data.meshes)] == counts
    with bpy.data.libraries.load(str(path)) as (saved, _):
        assert (len(saved.scenes), len(saved.objects), len(saved.meshes)) == tuple(counts)


def test_a_fit_can_be_reverted_while_modifiers_are_tried(ball: bpy.types.Object) -> None:
    ball.modifiers.new("Subdivision", "SUBSURF")
    before = snapshot(bpy.context.scene)
    fitting = part("session").FitSession(bpy.context)
    fitting.step()
    fitting.revert()
    assert snapshot(bpy.context.scene) == before
    assert ball.data.shape_keys is None and len(bpy.data.scenes) == 1


def test_landmarks_of_vertices_that_are_not_shown_are_refused(ball: bpy.types.Object) -> None:
    """The object is placed as it is shown, so a landmark has to name a vertex that is seen."""
    ball.modifiers.new("Subdivision", "SUBSURF").levels = 1
    optimize("object", "vertices")
    scene = bpy.context.scene
    landmark = scene.softras.views[0].landmarks.add()
    landmark.vertex = 7
    landmark.empty = bpy.data.objects.new("Landmark", None)
    scene.collection.objects.link(landmark.empty)
    landmark.empty.location = ball.location
    bpy.context.view_layer.update()
    with pytest.raises(RuntimeError, match="change its vertices, so its landmarks cannot be found"):
        bpy.ops.softras.fit()
