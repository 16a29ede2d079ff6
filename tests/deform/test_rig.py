"""Rigs as functions of parameters: against the plain numpy definition, finite differences and the fox's true poses."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from random_rigs import ALL, random_rig

from softras import InputError, Mesh
from softras.deform import PosedRig
from softras.rig import INHERIT_SCALE, LOCKED, Armature, Bone, Rig, ShapeKey, Transform
from softras.rotations import EULER_ORDERS, ROTATION_MODES, rotation_matrix, rotation_numbers

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import rigs


def random_parameters(posed: PosedRig, seed: int, reach: float = 0.6) -> torch.Tensor:
    random = np.random.default_rng(seed)
    parameters = random.uniform(-reach, reach, posed.count) * posed.units
    return torch.tensor(np.clip(parameters, *posed.bounds.T))


@pytest.mark.parametrize("seed", range(8))
def test_vertices_are_those_of_the_definition(seed):
    rig = random_rig(seed)
    posed = PosedRig(rig, dtype=torch.float64)
    np.testing.assert_allclose(posed.vertices(torch.zeros(posed.count).double()), rig.vertices(), atol=1e-12)
    parameters = random_parameters(posed, seed)
    moved = posed.rig(parameters)
    np.testing.assert_allclose(posed.vertices(parameters), moved.vertices(), atol=1e-9)
    assert np.abs(moved.vertices() - rig.vertices()).max() > 0.1
    single = PosedRig(rig)
    np.testing.assert_allclose(single.vertices(parameters.float()), moved.vertices(), atol=1e-4)


@pytest.mark.parametrize(("seed", "inherit"), [(0, INHERIT_SCALE), (1, ("FULL",)), (2, ("FULL",)), (3, INHERIT_SCALE)])
@pytest.mark.parametrize("reach", [0.0, 0.6])
def test_jacobian_is_the_derivative(seed, inherit, reach):
    posed = PosedRig(random_rig(seed, inherit), dtype=torch.float64)
    parameters = random_parameters(posed, seed, reach)
    jacobian = posed.jacobian(parameters)
    torch.testing.assert_close(torch.func.jacfwd(posed.vertices)(parameters), jacobian, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(torch.func.jacrev(posed.vertices)(parameters), jacobian, rtol=1e-9, atol=1e-9)
    step = 1e-6 * torch.eye(posed.count, dtype=torch.float64)
    numeric = torch.stack([(posed.vertices(parameters + h) - posed.vertices(parameters - h)) / 2e-6 for h in step], 2)
    torch.testing.assert_close(jacobian, numeric, rtol=1e-5, atol=1e-6)


def test_frames_are_evaluated_together():
    posed = PosedRig(random_rig(4), dtype=torch.float64)
    frames = torch.stack([random_parameters(posed, seed) for seed in range(3)])
    for together in (posed.vertices, posed.joints):
        expected = torch.stack([together(frame) for frame in frames])
        torch.testing.assert_close(torch.func.vmap(together)(frames), expected)


def test_parts_are_optimized_one_by_one():
    rig = random_rig(5)
    everything = PosedRig(rig)
    for part in ("object", "pose", "shape_keys"):
        posed = PosedRig(rig, (part,), dtype=torch.float64)
        assert posed.slices[part] == slice(0, posed.count)
        assert posed.names == everything.names[everything.slices[part]]
        assert all(name.startswith(part) for name in posed.names)
        assert len(posed.names) == len(posed.bounds) == len(posed.units) == posed.count
        moved = posed.rig(random_parameters(posed, 1))
        changed = {
            "object": not np.allclose(moved.transform.matrix(), rig.transform.matrix()),
            "pose": not np.allclose(moved.armature.pose_matrices(), rig.armature.pose_matrices()),
            "shape_keys": [key.value for key in moved.shape_keys] != [key.value for key in rig.shape_keys],
        }
        assert changed == {other: other == part for other in changed}
        # The moved rig can be optimized again, in all its parts.
        assert PosedRig(moved).names == everything.names
    with pytest.raises(InputError, match="no part 'hair'"):
        PosedRig(rig, ("hair",))
    with pytest.raises(InputError, match="nothing of pose may change"):
        PosedRig(dataclasses.replace(rig, armature=None), ("pose",))


def test_locks_and_limits_hold():
    limits = np.radians([(-10, 50), (0, 0), (-90, 20)])
    pose = Transform(rotation=[0.1, 0, -0.2], mode="XYZ", free_rotation=(True, False, True), limits=limits)
    rig = Rig(Mesh(np.eye(3), [[0, 1, 2]]), pose)
    posed = PosedRig(rig, dtype=torch.float64)
    assert posed.names == ["object.rotation.x", "object.rotation.z"]
    np.testing.assert_allclose(posed.bounds, limits[[0, 2]] - [[0.1], [-0.2]])
    moved = posed.rig(torch.tensor(posed.bounds[:, 1])).transform
    np.testing.assert_allclose(moved.rotation, [np.radians(50), 0, np.radians(20)])
    keys = PosedRig(random_rig(0), ("shape_keys",))
    np.testing.assert_allclose(keys.bounds, [(-0.3, 0.7), (-0.9, 2.1)])
    np.testing.assert_allclose(keys.units, [1, 3])


def test_vertices_of_next_to_no_weight_stay():
    leg = Bone("Leg", -1, np.eye(4), Transform(location=[1, 0, 0], free_rotation=ALL))
    armature = Armature((leg,), skin_vertices=[0, 1, 1], skin_bones=[0, 0, 0], skin_weights=[9e-5, 9e-5, 9e-5])
    rig = small_rig(armature=armature)
    expected = rig.mesh.vertices + np.array([[0, 0, 0], [1, 0, 0], [0, 0, 0]])
    np.testing.assert_allclose(rig.vertices(), expected)
    np.testing.assert_allclose(PosedRig(rig).vertices(torch.zeros(3)), expected)


def test_bones_without_weight_move_no_vertex():
    rig = random_rig(6)
    armature = rig.armature
    keep = armature.skin_bones < 6
    armature = dataclasses.replace(
        armature,
        skin_vertices=armature.skin_vertices[keep],
        skin_bones=armature.skin_bones[keep],
        skin_weights=armature.skin_weights[keep],
    )
    assert armature.carries()[:6].all()
    posed = PosedRig(dataclasses.replace(rig, armature=armature), ("pose",), dtype=torch.float64)
    jacobian = posed.jacobian(random_parameters(posed, 0)).abs().amax((0, 1))
    below = [not armature.carries()[int(name.split(".")[1].split()[1])] for name in posed.names]
    assert any(below)
    np.testing.assert_array_equal(jacobian == 0, below)
    assert (jacobian[~torch.tensor(below)] > 1e-6).all()


@pytest.mark.parametrize("mode", ROTATION_MODES)
def test_rotations_keep_their_mode_and_stay_near(mode):
    random = np.random.default_rng(3)
    for _ in range(50):
        near = random.normal(size=4 if mode in ("QUATERNION", "AXIS_ANGLE") else 3) * 3
        if len(near) == 4 and mode == "QUATERNION":
            near /= np.linalg.norm(near)
        elif len(near) == 4:
            near[1:] /= np.linalg.norm(near[1:])
        matrix = rotation_matrix(near, mode)
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(matrix) > 0
        np.testing.assert_allclose(rotation_numbers(matrix, mode, near), near, atol=1e-6)
        other = rotation_matrix(random.normal(size=4), "QUATERNION")
        np.testing.assert_allclose(rotation_matrix(rotation_numbers(other, mode, near), mode), other, atol=1e-9)


@pytest.mark.parametrize("mode", EULER_ORDERS)
def test_gimbal_lock_is_read_too(mode):
    angles = np.array([0.3, 0.4, -0.8])
    angles["XYZ".index(mode[1])] = np.pi / 2
    matrix = rotation_matrix(angles, mode)
    np.testing.assert_allclose(rotation_matrix(rotation_numbers(matrix, mode, angles), mode), matrix, atol=1e-7)


def small_armature(**change: object) -> Armature:
    bones = change.pop("bones", (Bone("Hip", -1, np.eye(4)), Bone("Leg", 0, np.eye(4))))
    entries = {"skin_vertices": [0, 1], "skin_bones": [0, 1], "skin_weights": [1.0, 0.5], **change}
    return Armature(bones, **entries)


def small_rig(**change: object) -> Rig:
    return Rig(**{"mesh": Mesh(np.eye(3), [[0, 1, 2]]), **change})


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Transform(mode="XZZ"), "a rotation mode cannot be 'XZZ'; choose from QUATERNION"),
        (lambda: Transform(free_location=[1, 0, 0]), "free_location must be true or false, not 1"),
        (lambda: Transform(location=["1", 0, 0]), "a location must hold numbers"),
        (lambda: Transform(location=[1e30, 0, 0]), "a location must hold finite numbers of at most 1e"),
        (lambda: Transform(location=[0, np.nan, 0]), "location must hold finite numbers .* no NaN"),
        (lambda: Transform(rotation=[0, 0, 0]), r"must have shape \(4\)"),
        (lambda: Transform(rotation=[0, 0, 0, 0]), "quaternion must not be zero"),
        (lambda: Transform(scale=[1, 0, 1]), "scale must not be zero"),
        (lambda: Transform(limits=[(0, 1), (1, 0), (0, 1)]), "lower limit"),
        (lambda: Transform(mode="XYZ", rotation=[2, 0, 0], limits=[(0, 1)] * 3), "within its limits"),
        (lambda: Bone("Hip", -1, np.zeros((4, 4))), "bone 'Hip' must be affine"),
        (lambda: Bone("Hip", -1, np.diag([2.0, 2, 2, 1])), "bone 'Hip' must have no scale"),
        (lambda: Bone("Hip", -1, np.eye(3)), r"bone 'Hip' must have shape \(4, 4\)"),
        (lambda: Bone("Hip", -1, np.eye(4), inherit_scale="HALF"), "inherit_scale of bone 'Hip' cannot be 'HALF'"),
        (lambda: Bone("Hip", 0.5, np.eye(4)), "parent of bone 'Hip' must be a whole number"),
        (lambda: Bone("Hip", 10**30, np.eye(4)), "parent of bone 'Hip' must be a whole number"),
        (lambda: Bone("Hip" * 1000, -1, np.eye(4)), "the name of a bone must be text of at most 1000 characters"),
        (lambda: ShapeKey("Smile", np.zeros((3, 3)), high=10**400), "high of shape key 'Smile' must be a finite"),
        (lambda: ShapeKey("Smile", np.zeros((3, 3)), value=True), "value of shape key 'Smile' must be a number"),
        (lambda: small_armature(bones=()), "no bones"),
        (lambda: small_armature(bones=(Bone("Hip", 1, np.eye(4)), Bone("Leg", 0, np.eye(4)))), "parent of bone 'Hip'"),
        (lambda: small_armature(bones=(Bone("Hip", -2, np.eye(4)),)), "parent of bone 'Hip' must be a whole"),
        (lambda: small_armature(bones=(Bone("Hip", 0, np.eye(4)),)), "missing parent"),
        (lambda: small_armature(skin_bones=[0, 2]), "bones outside 0..1"),
        (lambda: small_armature(skin_weights=[1, -1]), "not be negative"),
        (lambda: small_armature(skin_weights=[1, np.inf]), "no NaN"),
        (lambda: small_armature(skin_vertices=[0.5, 1]), "whole numbers"),
        (lambda: ShapeKey("Smile", np.zeros((3, 2))), "shape key 'Smile'"),
        (lambda: ShapeKey("Smile", np.zeros((3, 3)), value=2), "'Smile' must be in its range"),
        (
            lambda: small_rig(shape_keys=[ShapeKey("Smile", np.zeros((4, 3)))]),
            "'Smile' has 4 vertices but the mesh has 3",
        ),
        (lambda: small_rig(armature=small_armature(skin_vertices=[0, 3])), "vertices outside 0..2"),
        (lambda: small_rig(parent=np.zeros((4, 4))), "scaled to nothing"),
    ],
)
def test_bad_rigs_are_refused_in_a_sentence(make, sentence):
    with pytest.raises(InputError, match=sentence) as error:
        make()
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


def test_the_fox_walks(data):
    truth = np.load(data / "fox_walk" / "vertices.npz")
    np.testing.assert_allclose(rigs.fox(data).vertices(), truth["rest"], atol=1e-3)
    size = np.ptp(truth["rest"], axis=0).max()
    frames = json.loads((data / "fox_walk" / "poses.json").read_bytes())["frames"]
    for frame, joints in enumerate(frames):
        rig = rigs.fox_pose(data, frame)
        posed = PosedRig(rig)
        assert posed.count == 69
        zero = torch.zeros(posed.count)
        for vertices in (rig.vertices(), posed.vertices(zero).numpy()):
            np.testing.assert_allclose(vertices, truth["V"][frame], atol=1e-4 * size)
        expected = np.array([joints["joint_world"][bone.name] for bone in rig.armature.bones])
        np.testing.assert_allclose(posed.joints(zero), expected, atol=1e-4 * size)


def test_the_human_has_its_bones_in_its_body(data):
    rig = rigs.human(data)
    posed = PosedRig(rig, dtype=torch.float64)
    parameters = random_parameters(posed, 0, 0.3)
    np.testing.assert_allclose(posed.vertices(parameters), posed.rig(parameters).vertices(), atol=1e-9)
    heads = posed.joints(torch.zeros(posed.count).double()).numpy()
    low, high = rig.vertices().min(axis=0), rig.vertices().max(axis=0)
    assert 1.5 < high[2] - low[2] < 1.9
    named = dict(zip([bone.name for bone in rig.armature.bones], heads, strict=True))
    assert (heads >= low - 0.05).all() and (heads <= high + 0.05).all()
    assert named["head"][2] > named["pelvis"][2] > named["calf_l"][2] > named["foot_l"][2]
    assert named["hand_l"][0] * named["hand_r"][0] < 0
    assert rig.armature.bones[0].pose.free_rotation == LOCKED


@pytest.mark.parametrize("limit", [(-90, 90), (-10, 100), (-180, 180)])
def test_a_rotation_within_wide_limits_is_one_however_its_angles_are_read(limit):
    """The same rotation has other Euler angles too, which may be beyond."""
    limits = np.radians([limit] * 3)
    angles = np.random.default_rng(0).uniform(*np.radians(limit), (200, 3))
    posed = PosedRig(
        dataclasses.replace(random_rig(0), transform=Transform(free_rotation=ALL, limits=limits), shape_keys=()),
        ("object",),
        dtype=torch.float64,
    )
    for given in angles:
        found = posed.rig(torch.tensor(given)).transform
        assert (found.angles() >= limits[:, 0] - 1e-5).all() and (found.angles() <= limits[:, 1] + 1e-5).all()
        np.testing.assert_allclose(found.matrix()[:3, :3], rotation_matrix(given, "XYZ"), atol=1e-9)
