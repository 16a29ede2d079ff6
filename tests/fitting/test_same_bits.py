"""The same fit has the same bits with any number of threads, and whatever the BLAS is told."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fitting_scenes import ball, turned, views_of
from rig_scenes import ALL, BENDS, POSE, around, bent, keyed_rig, moved, seen_from, shots, tube, tube_rig

from softras import FitResult, Mesh, Rig, fit
from softras.cage import of_blocks
from softras.rig import Transform
from softras.views import Landmark

SETTINGS = [{"OMP_NUM_THREADS": "2"}, {"OMP_NUM_THREADS": "3", "MKL_CBWR": "COMPATIBLE"}]


def poses() -> FitResult:
    """Two frames, joints that inherit in two ways, a landmark, an object that moves, and cameras too."""
    free = Transform(free_location=ALL, free_rotation=ALL, free_scale=True)
    rig = tube_rig(transform=free, free=ALL)
    truth = {f: bent(rig, np.array(POSE) * (f + 1) / 2) for f in range(2)}
    given = shots(truth, around(2, size=64))
    where = truth[0].vertices()[131]
    marks = (Landmark(131, tuple(given[0].camera.project(where[None])[0])),)
    given = [replace(given[0], landmarks=marks), *given[1:]]
    return fit(rig, given, optimize=("object", "pose", "cameras"), camera_parts="rotation")


def limited_pose() -> FitResult:
    """Angles with limits, and scales that children take on average."""
    limits = np.tile([-1.0, 1.0], (3, 1))
    rig = tube_rig(free=BENDS, limits=limits)
    bones = tuple(replace(bone, inherit_scale="AVERAGE") for bone in rig.armature.bones)
    rig = replace(rig, armature=replace(rig.armature, bones=bones))
    return fit(rig, shots({0: bent(rig, POSE)}, around(2, size=80)), optimize="pose")


def shape_keys() -> FitResult:
    return fit(keyed_rig(), shots({0: keyed_rig((0.6, 0.4))}, around(2)), optimize="shape_keys")


def turned_object() -> FitResult:
    """Turned so far that it is searched for."""
    mesh = tube()
    mesh = Mesh(np.where(mesh.vertices[:, 2:] > 2, mesh.vertices * [2.5, 1, 1], mesh.vertices), mesh.faces)
    return fit(mesh, views_of(turned(mesh, 70, 1.2, 0.3), 3, 64), optimize="object", turns=6)


def cameras() -> FitResult:
    rig = bent(tube_rig(), POSE)
    views = shots({0: rig}, around(2, size=160))
    off = [moved(view.camera, (0.05, -0.04, 0.06), (0.1, 0.1, -0.2), 1.04) for view in views]
    return fit(Mesh(rig.vertices(), rig.mesh.faces), seen_from(views, off), optimize="cameras")


def vertices() -> FitResult:
    """So many that torch shares the work, symmetric."""
    mesh = ball(6)
    schedule = [{"resolution": 256, "steps": 2, "rate": [0.05, 0.01], "blur": [1.0, 0.5]}]
    views = views_of(Mesh(mesh.vertices * [1.0, 0.6, 0.8], mesh.faces), 3, 256)
    return fit(mesh, views, schedule=schedule, symmetry="x")


def caged() -> FitResult:
    """The cage of a mesh that is seen smoother, placed first, with a plane that its vertices stay in or beside."""
    mesh = ball(5)
    start, end = np.unique(np.sort(mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)), axis=0).T
    itself = np.arange(len(mesh.vertices))
    seen, moving = np.concatenate([itself, start, end]), np.concatenate([itself, end, start])
    share = np.where(seen == moving, 0.4, 0.1)
    blocks = share[:, None, None] * np.eye(3)
    shown = np.zeros_like(mesh.vertices)
    np.add.at(shown, seen, share[:, None] * mesh.vertices[moving])
    cage = of_blocks(
        mesh.vertices, Mesh(shown, mesh.faces), seen, moving, blocks, np.array([[0, 0, 0, 0, 0, 1.0, 0.01]])
    )
    schedule = [{"resolution": 128, "steps": 2, "rate": [0.05, 0.01], "blur": [1.0, 0.5]}]
    views = views_of(turned(Mesh(mesh.vertices * [2.0, 1.2, 1.6], mesh.faces), 20), 3, 128)
    return fit(mesh, views, cage=cage, schedule=schedule)


def reconstruction() -> FitResult:
    schedule = [{"resolution": 96, "steps": 3, "edge": 0.05, "rate": [0.03, 0.01]}]
    views = views_of(Mesh(ball(3).vertices * [1.0, 0.6, 0.8], ball(3).faces), 5, 96)
    return fit(None, views, mode="reconstruct", voxels=40, schedule=schedule)


FITS: dict[str, Callable[[], FitResult]] = {
    run.__name__: run
    for run in (poses, limited_pose, shape_keys, turned_object, cameras, vertices, caged, reconstruction)
}


def digest(result: FitResult) -> str:
    """Of all that was found."""
    found: list[np.ndarray] = [result.mesh.vertices, result.mesh.faces, result.iou]
    for rig in result.rigs.values():
        found += numbers_of(rig)
    for camera in result.cameras:
        found += [camera.K, camera.world_to_camera]
    return hashlib.sha256(b"".join(np.ascontiguousarray(x).tobytes() for x in found)).hexdigest()[:16]


def numbers_of(rig: Rig) -> Iterable[np.ndarray]:
    """The transforms and the values of the shape keys."""
    transforms = [rig.transform, *(bone.pose for bone in (rig.armature.bones if rig.armature else ()))]
    for transform in transforms:
        yield from (transform.location, transform.rotation, transform.scale)
    yield np.array([key.value for key in rig.shape_keys])


def digests(settings: dict[str, str]) -> dict[str, str]:
    """Of every fit, in a process of its own with these environment variables."""
    environment = {key: value for key, value in os.environ.items() if key not in ("MKL_CBWR", "OMP_NUM_THREADS")}
    program = "import json, test_same_bits as t; print(json.dumps({n: t.digest(f()) for n, f in t.FITS.items()}))"
    here = str(Path(__file__).parent)
    paths = os.pathsep.join([here, *sys.path])
    found = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, "PYTHONPATH": paths, "OMP_WAIT_POLICY": "PASSIVE", **settings},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout.splitlines()[-1])


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: " ".join(settings.values()))
def test_threads_and_the_code_of_the_blas_change_no_bit(settings, alone):
    assert digests(settings) == alone


@pytest.fixture(scope="module")
def alone() -> dict[str, str]:
    """By one thread."""
    return digests({"OMP_NUM_THREADS": "1"})
