"""Jobs with a rig: as a document, by the command line and by the engine process."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rig_scenes import angles_of, around, bent, moved, seen_from, shots, tube_rig
from short_fits import ENDLESS
from test_cli import one_sentence
from test_server import Client

from softras import FitResult, InputError, Mesh, fit
from softras.fitting.observed.evaluate import evaluate
from softras.io.poses import load_poses, save_poses
from softras.job import Job
from softras.report.pictures import write_report
from softras.rig import Rig

POSE = ((0.2, 0, 0.1), (0.5, 0, -0.2), (-0.3, 0, 0.4))
SHORT = [{"resolution": 96, "steps": 40, "blur": (0.5, 0.25), "rate": (0.03, 0.003)}]


def walk(count: int) -> dict[int, Rig]:
    """The tube in frames 3, 4, ..., bending."""
    return {3 + k: bent(tube_rig(), np.array(POSE) * (k + 1) / count) for k in range(count)}


@pytest.fixture
def engine():
    client = Client()
    assert client.next()["type"] == "hello"
    yield client
    client.process.kill()
    client.process.wait()


@pytest.fixture
def job() -> Job:
    """A pose in two frames, and the cameras as one."""
    cameras = around(2)
    off = [replace(c, world_to_camera=c.world_to_camera @ shift([0.03, 0, 0.02])) for c in cameras]
    settings = {"optimize": ["pose", "cameras"], "cameras_together": True, "camera_parts": ["location"], "seed": 1}
    views = seen_from(shots(walk(2), cameras), 2 * off)
    views = [
        replace(view, mask=np.rint(255 * view.mask) * np.float32(1 / 255)) for view in views
    ]  # as they are read from 8 bits, to the bit
    return Job(views, rig=tube_rig(), settings=settings)


def shift(by: list[float]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, 3] = by
    return matrix


def same_rig(a: Rig, b: Rig) -> None:
    np.testing.assert_array_equal(a.transform.matrix(), b.transform.matrix())
    np.testing.assert_array_equal(angles_of(a), angles_of(b))
    np.testing.assert_array_equal(a.vertices(), b.vertices())


def test_settings_views_and_the_rig_survive_the_folder(job: Job, tmp_path: Path) -> None:
    job.settings |= {"known_frame": 4, "turns": 3, "cull": None, "weights": {"prior": 0.1}, "place": "never"}
    job.save(tmp_path / "job")
    loaded = Job.load(tmp_path / "job")
    assert loaded.settings == job.settings and [view.frame for view in loaded.views] == [3, 3, 4, 4]
    assert loaded.mesh is None and loaded.rig is not None
    same_rig(loaded.rig, job.rig)
    first, second = (fit(j.start, j.views, **j.settings) for j in (job, loaded))
    np.testing.assert_array_equal(angles_of(first.rigs[4]), angles_of(job.rig))
    np.testing.assert_allclose(angles_of(first.rigs[3]), angles_of(second.rigs[3]), atol=1e-6)


def test_a_job_starts_from_a_mesh_or_from_a_rig(job: Job, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not from both"):
        Job(job.views, mesh=job.rig.mesh, rig=job.rig)
    job.save(tmp_path / "job")
    (tmp_path / "job" / "rig" / "rig.json").unlink()
    with pytest.raises(InputError, match="holds no rig"):
        Job.load(tmp_path / "job")


def test_the_command_writes_the_poses_that_it_found(softras, job: Job, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    job.save(folder)
    done = softras("fit", folder, "--out", tmp_path / "first.ply", "--optimize", "pose, cameras")
    assert done.returncode == 0, done.stderr
    result = json.loads((folder / "result.json").read_text())
    assert result["status"] == "finished" and result["poses"] == "best_poses.json" and "rig_vertices" not in result
    rigs, cameras = load_poses(folder / "best_poses.json", job.rig)
    views = Job.load(folder).views
    same = fit(job.rig, views, **job.settings)
    assert sorted(rigs) == [3, 4]
    for frame, rig in rigs.items():
        np.testing.assert_allclose(angles_of(rig), angles_of(same.rigs[frame]), atol=1e-6)
    for view, camera, iou in zip(views, cameras, result["iou"], strict=True):
        rig = rigs[view.frame]
        assert evaluate(rig.vertices(), rig.mesh.faces, [replace(view, camera=camera)])[0] == pytest.approx(
            iou, abs=2e-3
        )
    np.testing.assert_array_equal(np.load(folder / "best.npy"), rigs[3].vertices())
    assert result["mean_iou"] > 0.95


def test_free_vertices_of_a_rig_are_in_the_folder_too(softras, tmp_path: Path) -> None:
    rig = bent(tube_rig(), POSE)
    wide = replace(rig, mesh=replace(rig.mesh, vertices=rig.mesh.vertices * [1.2, 1.2, 1]))
    for optimize in (["pose", "vertices"], ["vertices"]):
        job = Job(shots({3: wide}, around()), rig=rig, settings={"optimize": optimize, "schedule": SHORT})
        job.save(tmp_path / "job")
        done = softras("fit", tmp_path / "job")
        assert done.returncode == 0, done.stderr
        result = json.loads((tmp_path / "job" / "result.json").read_text())
        rigs, _ = load_poses(tmp_path / "job" / result["poses"], rig)
        own = np.load(tmp_path / "job" / result["rig_vertices"])
        found = replace(rigs[3], mesh=replace(rig.mesh, vertices=own))
        np.testing.assert_allclose(found.vertices(), np.load(tmp_path / "job" / result["vertices"]), atol=1e-9)
        assert np.abs(own - rig.mesh.vertices).max() > 0.01


def test_the_command_says_what_is_wrong_with_a_rig(softras, job: Job, tmp_path: Path) -> None:
    job.settings = {"optimize": ["shape_keys"]}
    job.save(tmp_path / "job")
    done = softras("fit", tmp_path / "job")
    assert done.returncode == 2 and "nothing of shape_keys may change" in one_sentence(done.stderr)
    assert not (tmp_path / "job" / "best_poses.json").exists()


def test_the_engine_tells_poses_that_can_be_read_at_that_moment(engine: Client, job: Job, tmp_path: Path) -> None:
    job.save(tmp_path / "job")
    engine.fit(1, tmp_path / "job")
    told = 0
    while (message := engine.next())["type"] == "progress":
        assert "poses" in message
        if message["poses"]:
            rigs, cameras = load_poses(tmp_path / "job" / message["poses"], job.rig)
            assert set(rigs) <= {3, 4} and len(cameras) in (0, 4)
            told += bool(rigs)
    assert message["type"] == "result", message
    assert told and message["poses"] == "best_poses.json"
    rigs, cameras = load_poses(tmp_path / "job" / message["poses"], job.rig)
    np.testing.assert_array_equal(np.load(tmp_path / "job" / message["vertices"]), rigs[3].vertices())
    assert sorted(rigs) == [3, 4] and len(cameras) == 4 and message["mean_iou"] > 0.95
    assert not list(tmp_path.rglob("*.part"))


def test_the_engine_tells_the_poses_that_free_vertices_are_on_top_of(engine: Client, tmp_path: Path) -> None:
    """So that what a stop finds on the disk belongs together."""
    wide = replace(tube_rig(), mesh=replace(tube_rig().mesh, vertices=tube_rig().mesh.vertices * [1.2, 1.2, 1]))
    settings = {"optimize": ["pose", "vertices"], **ENDLESS}
    Job(shots({3: bent(wide, POSE)}, around()), rig=tube_rig(), settings=settings).save(tmp_path / "job")
    engine.fit(1, tmp_path / "job")
    while not (message := engine.until("progress"))["preview"] or "bilaplacian" not in message["loss"]:
        pass
    rigs, _ = load_poses(tmp_path / "job" / message["poses"], tube_rig())
    shown = np.load(tmp_path / "job" / message["preview"])
    unposed = rigs[3].unposed(shown)
    assert np.abs(replace(rigs[3], mesh=replace(wide.mesh, vertices=unposed)).vertices() - shown).max() < 1e-6
    assert np.abs(angles_of(rigs[3])[1, 0]) > 0.2
    engine.send({"type": "stop", "id": 2, "of": 1})
    result = engine.until("result")
    assert result["status"] == "stopped" and result["poses"] == "best_poses.json"
    rigs, _ = load_poses(tmp_path / "job" / result["poses"], tube_rig())
    best = np.load(tmp_path / "job" / result["vertices"])
    own = rigs[3].unposed(best)
    np.testing.assert_allclose(replace(rigs[3], mesh=replace(wide.mesh, vertices=own)).vertices(), best, atol=1e-9)
    assert result["mean_iou"] > 0.75


@pytest.mark.parametrize("after", [0.0, 0.3, 0.8])
def test_a_killed_engine_leaves_poses_that_can_be_read_or_none(engine: Client, tmp_path: Path, after: float) -> None:
    rig = tube_rig()
    Job(shots(walk(8), around()), rig=rig, settings={"optimize": ["pose"]}).save(tmp_path / "job")
    engine.fit(1, tmp_path / "job")
    engine.until("progress")
    time.sleep(after)
    engine.process.kill()
    engine.process.wait()
    for name in ("best_poses.json", "preview_poses.json"):
        if (tmp_path / "job" / name).exists():
            rigs, _ = load_poses(tmp_path / "job" / name, rig)
            assert all(np.isfinite(found.vertices()).all() for found in rigs.values())
    assert np.load(tmp_path / "job" / "best.npy").shape == rig.mesh.vertices.shape
    Job.load(tmp_path / "job")


def test_poses_of_another_rig_are_refused(tmp_path: Path) -> None:
    result = fit(tube_rig(), shots(walk(1), around(1)), optimize="pose", max_seconds=0.01)
    save_poses(tmp_path / "poses.json", result.rigs, result.cameras)
    armature = tube_rig().armature
    other = replace(
        tube_rig(), armature=replace(armature, bones=armature.bones[:1], skin_bones=0 * armature.skin_bones)
    )
    with pytest.raises(InputError, match="does not belong to this rig"):
        load_poses(tmp_path / "poses.json", other)
    (tmp_path / "poses.json").write_text('{"frames": [], "cameras": []}')
    with pytest.raises(InputError, match="does not belong"):
        load_poses(tmp_path / "poses.json", tube_rig())


def test_the_report_shows_each_picture_of_its_frame(tmp_path: Path) -> None:
    """The error map of every view is of the pose in its frame and of its fitted camera: almost nothing is wrong."""
    rigs, cameras = walk(3), around(2)
    off = [moved(camera, (0.05, 0.05, 0)) for camera in cameras]
    views = seen_from(shots(rigs, cameras), 3 * off)
    mesh = Mesh(rigs[3].vertices(), rigs[3].mesh.faces)
    result = FitResult(mesh, np.ones(len(views)), [], "finished", 1.0, [], rigs, 3 * cameras)
    write_report(tmp_path, views, tube_rig(), result)
    for number in range(len(views)):
        pixels = np.asarray(Image.open(tmp_path / f"{number:03d}-error.png").convert("RGB")).astype(int)
        wrong = (abs(pixels - [230, 60, 60]).sum(-1) < 30) | (abs(pixels - [50, 110, 235]).sum(-1) < 30)
        right = abs(pixels - [196, 200, 206]).sum(-1) < 30
        assert right.sum() > 1000 and wrong.sum() < 0.1 * right.sum(), views[number].name
