"""Bones that are turned far from where the masks show them, of a human from four views (SOFTRAS_DATA)."""

import importlib
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from softras import Mesh, Rig, fit
from softras.fitting.poses import bone_search

ROOT = Path(__file__).resolve().parents[3]
DATA = Path(os.environ.get("SOFTRAS_DATA", ROOT.parent / "shared" / "data"))
pytestmark = pytest.mark.skipif(not (DATA / "mpfb_human").is_dir(), reason="mpfb_human is not there")
FINGERS = ("index", "middle", "pinky", "ring", "thumb")


@pytest.fixture(scope="module")
def benchmark():
    """The benchmark's module, with its rigs and its ring of views."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
        yield importlib.import_module("fit_poses")


@pytest.fixture(scope="module")
def human(benchmark) -> Rig:
    """With fingers that stay."""
    rig = benchmark.rigs.human(DATA)
    bones = [
        replace(bone, pose=replace(bone.pose, free_rotation=(False,) * 3)) if bone.name.startswith(FINGERS) else bone
        for bone in rig.armature.bones
    ]
    return replace(rig, armature=replace(rig.armature, bones=tuple(bones)))


def turned(rig: Rig, **vectors: tuple[float, float, float]) -> Rig:
    """The rig with some bones turned by rotation vectors, in radians."""
    assert rig.armature is not None
    bones = []
    for bone in rig.armature.bones:
        rotation = Rotation.from_rotvec(vectors.get(bone.name, (0, 0, 0))).as_quat(scalar_first=True)
        bones.append(replace(bone, pose=replace(bone.pose, rotation=rotation)))
    return replace(rig, armature=replace(rig.armature, bones=tuple(bones)))


def worst_joint(benchmark, start: Rig, truth: Rig) -> float:
    """How far the fit's worst joint is from the truth, relative to the height."""
    views = benchmark.ring_z(Mesh(truth.vertices(), truth.mesh.faces), 4)
    result = fit(start, views, optimize="pose")
    off = np.linalg.norm(benchmark.joints(result.rigs[0]) - benchmark.joints(truth), axis=1)
    return float(off.max() / np.ptp(truth.vertices()[:, 2]))


def test_a_foot_that_points_backwards_is_turned_round(benchmark, human, monkeypatch) -> None:
    start = turned(human, foot_l=(1.8, 0, 0))
    assert worst_joint(benchmark, start, human) < 0.005
    monkeypatch.setattr(bone_search, "ROUNDS", 0)
    monkeypatch.setattr(bone_search, "LIMB_MOTION", np.inf)
    assert worst_joint(benchmark, start, human) > 0.03  # Without the search of bones it stays where it is.


def test_a_body_that_leans_far_is_found_through_its_root(benchmark, human, monkeypatch) -> None:
    truth = turned(human, pelvis=(1.2, 0.4, 0.3), upperarm_l=(0.3, 0, 0.3), thigh_r=(0.4, 0, 0.2))
    monkeypatch.setattr(bone_search, "ROUNDS", 0)
    assert worst_joint(benchmark, human, truth) < 0.005
    monkeypatch.setattr(bone_search, "TURNS", 0)
    assert worst_joint(benchmark, human, truth) > 0.1  # Without other rotations of the root the limbs are exchanged.


def test_a_root_that_may_not_turn_freely_stays(benchmark, human) -> None:
    """Its limits would not hold for a rotation vector."""
    limits = np.array([[-0.1, 0.1]] * 3)
    bones = [
        replace(bone, pose=replace(bone.pose, rotation=np.zeros(3), mode="XYZ", limits=limits))
        if bone.name == "pelvis"
        else bone
        for bone in human.armature.bones
    ]
    limited = replace(human, armature=replace(human.armature, bones=tuple(bones)))
    truth = turned(human, pelvis=(0.9, 0.3, 0.3))
    views = benchmark.ring_z(Mesh(truth.vertices(), truth.mesh.faces), 4)
    result = fit(limited, views, optimize="pose", max_seconds=4)
    pelvis = next(bone for bone in result.rigs[0].armature.bones if bone.name == "pelvis")
    assert np.abs(pelvis.pose.rotation).max() <= 0.1 + 1e-6
