"""Real fits, killed at random moments, leave what is whole, never worse than the start, and nothing else.

SOFTRAS_KILLS says how many are killed; without it a few.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rig_scenes import around, bent, seen_from, shots, tube_rig
from short_fits import ENDLESS, QUICK, QUICK_NEW

from softras import View, load_mesh, load_views
from softras.fitting.observed.evaluate import evaluate
from softras.io.poses import load_poses
from softras.job import BEST, BEST_FILES, PROTOCOL, Job

KILLS = int(os.environ.get("SOFTRAS_KILLS", "6"))
SOFTRAS = (sys.executable, "-m", "softras")
MOMENT = random.Random(0)
posix = pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
WRITTEN = {
    "result.json",
    "preview.npy",
    "preview_poses.json",
    *(stem + end for stem in BEST for end in BEST_FILES.values()),
}


def spot_views(spot: Path) -> list[View]:
    return [replace(view, photo=None) for view in load_views(spot)]


def vertices_job(folder: Path, spot: Path) -> None:
    Job(spot_views(spot)[:4], load_mesh(spot / "start.obj"), settings=ENDLESS).save(folder)


def new_mesh_job(folder: Path, spot: Path) -> None:
    stage = {**QUICK_NEW["schedule"][0], "steps": 100_000, "remesh_every": 5}
    Job(spot_views(spot), settings={**QUICK_NEW, "schedule": [stage], "patience": 100_000}).save(folder)


def poses_job(folder: Path, spot: Path) -> None:
    pose = np.array(((0.2, 0, 0.1), (0.5, 0, -0.2), (-0.3, 0, 0.4)))
    cameras = around(2)
    frames = {frame: bent(tube_rig(), pose * frame / 3) for frame in range(1, 4)}
    views = seen_from(shots(frames, cameras), 3 * cameras)
    settings = {"optimize": ["pose", "cameras"], "camera_parts": ["location"], "turns": 64, "seed": 1}
    Job(views, rig=tube_rig(), settings=settings).save(folder)


JOBS = {"vertices": vertices_job, "poses": poses_job, "reconstruction": new_mesh_job, "server": vertices_job}


class Watched:
    """A job folder, what is in it that is the user's, and the best that was kept so far."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.job = folder, Job.load(folder)
        (folder / "notes.txt").write_text("the user's own")
        (folder.parent / "beside.txt").write_text("the user's own")
        self.before = self.user_files()
        self.best = -1.0

    def user_files(self) -> dict[str, str]:
        files = [path for path in self.folder.parent.rglob("*") if path.is_file() and path.name not in WRITTEN]
        mine = {str(path): path for path in files if not path.match(".softras-*.part")}
        return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in mine.items()}

    def check(self) -> dict:
        """What is kept, if there is anything; its files exist, load and belong together."""
        assert self.user_files() == self.before
        assert len(list(self.folder.rglob("*.part"))) <= 1, "what one killed write has left, and not of others before"
        if not (self.folder / "result.json").is_file():
            return {}
        kept = json.loads((self.folder / "result.json").read_text())
        assert kept["status"] in ("running", "finished")
        vertices = np.load(self.folder / kept["vertices"])
        assert np.isfinite(vertices).all()
        job = self.job
        faces = job.start.faces if job.mesh else job.rig.mesh.faces if job.rig else None
        if job.start is None:
            faces = np.load(self.folder / kept["faces"])
            assert faces.max() == len(vertices) - 1
        else:
            start = job.mesh or job.rig.mesh
            assert vertices.shape == start.vertices.shape and "faces" not in kept
        views = job.views
        if "poses" in kept:
            rigs, cameras = load_poses(self.folder / kept["poses"], job.rig)
            first = rigs.get(min(view.frame for view in views), job.rig).vertices()  # none: the start
            np.testing.assert_allclose(vertices, first, atol=1e-9)
            assert len(cameras) == len(views)
        elif kept["iou"]:
            found = evaluate(vertices, faces, views)
            np.testing.assert_allclose(kept["iou"], found, atol=2e-3)
        if kept["iou"]:
            assert kept["mean_iou"] >= self.best - 1e-9
            self.best = kept["mean_iou"]
        return kept


def start(command: list[str], **options: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True, **options)


def kill_at_a_random_moment(process: subprocess.Popen[bytes], begun: Callable[[], bool]) -> None:
    """Before anything is kept, or some time after."""
    if MOMENT.random() < 0.2:
        time.sleep(MOMENT.uniform(0, 4 if KILLS > 20 else 1))
    else:
        deadline = time.monotonic() + 60
        while not begun() and process.poll() is None:
            assert time.monotonic() < deadline, "the fit kept nothing in a minute"
            time.sleep(0.001)
        time.sleep(MOMENT.uniform(0, 1.5 if KILLS > 20 else 0.3))
    process.kill()
    process.communicate()
    left = [path.parent.name for path in Path("/proc").glob("[0-9]*/stat") if group(path) == process.pid]
    assert not left, "a process outlives the fit"


def group(stat: Path) -> int:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[2])
    except (OSError, IndexError):
        return 0


@posix
@pytest.mark.parametrize("kind", JOBS)
def test_a_fit_that_is_killed_leaves_what_is_whole(kind: str, tmp_path: Path, spot: Path, setting_options) -> None:
    folder = tmp_path / "here" / "job"
    JOBS[kind](folder, spot)
    watched = Watched(folder)
    kept: dict = {}
    for number in range(-(-(KILLS - list(JOBS).index(kind)) // len(JOBS))):  # of KILLS each fourth
        resume = kind != "server" and number % 3 > 0
        if not resume:
            watched.best = -1.0
        if not (resume or kept):
            (folder / "result.json").unlink(missing_ok=True)
        stamp = (folder / "result.json").stat().st_mtime_ns if (folder / "result.json").is_file() else 0

        def begun(stamp: int = stamp) -> bool:
            try:
                return (folder / "result.json").stat().st_mtime_ns != stamp
            except FileNotFoundError:
                return False

        if kind == "server":
            process = start([*SOFTRAS, "serve"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
            request = {"type": "run", "id": 1, "protocol": PROTOCOL, "task": "fit", "job": str(folder)}
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        else:
            command = [*SOFTRAS, "fit", str(folder), *(["--resume"] if resume else [])]
            process = start(command, stdout=subprocess.DEVNULL)
        kill_at_a_random_moment(process, begun)
        kept = watched.check()
    quick = {"turns": 0} if kind == "poses" else QUICK_NEW if kind == "reconstruction" else QUICK
    if KILLS > 20:
        before = watched.best
        done = subprocess.run(
            [*SOFTRAS, "fit", str(folder), "--resume", *setting_options(quick)],
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        assert watched.check()["status"] == "finished" and watched.best >= before
        assert not list(folder.rglob("*.part")) and not list(folder.glob("best_b*"))
