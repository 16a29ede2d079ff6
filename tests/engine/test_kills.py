"""Nothing that was found is lost: a fit that is killed, or that the disk has no room for, leaves its best."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from short_fits import ENDLESS, QUICK, QUICK_NEW

from softras import FitResult, InputError, Mesh, Progress, load_mesh, load_views
from softras.io.poses import load_poses
from softras.job import BEST, BEST_FILES, Job, forget_results
from softras.keeping import Keeper
from softras.status import STOPPED
from softras.tasks import Result
from softras.tasks.fit import follow
from softras.tasks.fit_state import FitDocument, FitState, resumed

SOFTRAS = (sys.executable, "-m", "softras")
posix = pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")


@pytest.fixture
def job(tmp_path: Path, spot: Path) -> Path:
    """A fit that does not end by itself."""
    Job(load_views(spot)[:4], load_mesh(spot / "start.obj"), settings=ENDLESS).save(tmp_path / "job")
    return tmp_path / "job"


def start(folder: Path, *options: object) -> subprocess.Popen[str]:
    command = [*SOFTRAS, "fit", folder, *options]
    return subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def wait_for(folder: Path, step: int, process: subprocess.Popen[str], seconds: float = 60) -> None:
    """Until something better than the start is kept."""
    deadline = time.monotonic() + seconds
    while not (folder / "result.json").is_file() or result(folder)["step"] < step:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


@posix
def test_sigterm_keeps_the_best_and_a_resumed_fit_goes_on_from_it(job: Path, setting_options, tmp_path: Path) -> None:
    process = start(job)
    wait_for(job, 10, process)
    assert result(job)["status"] == "running"
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM and "Traceback" not in stderr
    kept = result(job)
    assert kept["status"] == "stopped" and kept["mean_iou"] > 0.6 and kept["vertices"] == "best.npy"
    process = start(job, "--resume", "--out", tmp_path / "a.obj", *setting_options(QUICK))
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert f"goes on from the best state of step {kept['step']}, mean IoU {kept['mean_iou']:.4f}" in stderr
    assert result(job)["status"] == "finished" and result(job)["mean_iou"] >= kept["mean_iou"]
    np.testing.assert_allclose(load_mesh(tmp_path / "a.obj").vertices, np.load(job / "best.npy"), rtol=1e-7)
    assert not list(job.glob("best_b*"))


@posix
def test_a_killed_fit_leaves_a_best_that_is_whole(job: Path, setting_options) -> None:
    """At random moments; what result.json names belongs together and is never worse than what was there before."""
    count, moments = len(np.load(job / "vertices.npy")), random.Random(0)
    process = start(job)
    wait_for(job, 1, process)
    kill(process)
    before = result(job)["mean_iou"]
    for _ in range(3):
        process = start(job, "--resume")
        process.stderr.readline()  # that it goes on
        time.sleep(moments.uniform(0, 1.5))
        kill(process)
        kept = result(job)
        assert kept["status"] == "running" and kept["mean_iou"] >= before
        vertices = np.load(job / kept["vertices"])
        assert vertices.shape == (count, 3) and np.isfinite(vertices).all()
        before = kept["mean_iou"]
    process = start(job, "--resume", *setting_options(QUICK))
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert result(job)["status"] == "finished" and result(job)["mean_iou"] >= before


@posix
def test_a_killed_reconstruction_leaves_faces_that_belong_to_its_vertices(tmp_path: Path, spot: Path) -> None:
    endless = {**QUICK_NEW, "schedule": [{**QUICK_NEW["schedule"][0], "steps": 100_000, "remesh_every": 5}]}
    Job(load_views(spot), settings={**endless, "patience": 100_000}).save(tmp_path)
    process = start(tmp_path)
    wait_for(tmp_path, 0, process)
    time.sleep(0.5)
    kill(process)
    kept = result(tmp_path)
    faces, vertices = np.load(tmp_path / kept["faces"]), np.load(tmp_path / kept["vertices"])
    assert faces.max() == len(vertices) - 1 and kept["mean_iou"] > 0.5


def test_without_resume_the_old_result_is_removed_first(softras, tmp_path: Path, spot: Path) -> None:
    Job(load_views(spot)[:4], load_mesh(spot / "start.obj"), settings=QUICK).save(tmp_path)
    for stem in BEST:
        for ending in BEST_FILES.values():
            (tmp_path / (stem + ending)).write_text("old")
    refused = softras("fit", tmp_path, "--set", "speed=9")
    assert refused.returncode == 2 and (tmp_path / "best_poses.json").is_file(), "what cannot be run removes nothing"
    done = softras("fit", tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.glob("best*")) == ["best.npy"]
    assert np.load(tmp_path / "best.npy").shape == (2930, 3)


def test_resume_needs_a_job_folder_and_a_state_of_it(softras, tmp_path: Path, spot: Path, cube, square_views) -> None:
    done = softras("fit", "--views", spot, "--out", tmp_path / "a.obj", "--resume")
    assert done.returncode == 2 and "only a job folder keeps what was found" in done.stderr
    Job(square_views, cube).save(tmp_path)
    for wrong in ({"vertices": "../secret.npy"}, {"vertices": "best.npy", "iou": [2, 0, 0]}, {"vertices": 5}):
        (tmp_path / "result.json").write_text(json.dumps({"status": "running", "iou": [], **wrong}))
        done = softras("fit", tmp_path, "--resume")
        assert done.returncode == 2 and "does not belong to this job; fit the job anew." in done.stderr, done


@pytest.mark.parametrize(
    "wrong",
    [
        {"faces": "faces.npy"},
        {"poses": "other_poses.json"},
        {"rig_vertices": "vertices.npy"},
        {"iou": [0.5, 0.5]},
        {"iou": [0.5, 0.5, 1.5]},
        {"step": "3"},
    ],
)
def test_a_result_that_names_other_files_or_views_is_not_resumed(tmp_path: Path, cube, square_views, wrong) -> None:
    job = Job(square_views, cube)
    job.save(tmp_path)
    list(followed(tmp_path, job, told(cube.vertices * 0.9, [0.5] * 3, 3)))
    assert resumed(job, tmp_path)[1].step == 3
    (tmp_path / "result.json").write_text(json.dumps({**result(tmp_path), **wrong}))
    with pytest.raises(InputError, match="does not belong to this job"):
        resumed(job, tmp_path)


def told(vertices: np.ndarray, iou: list[float] | None, step: int, **shown: object) -> Progress:
    """An event of a fit."""
    return Progress(step, 10, 0, {}, 0.0, iou=None if iou is None else np.array(iou), vertices=vertices, **shown)


def followed(folder: Path, job: Job, *events: Progress | FitResult, before: FitState | None = None) -> Iterator[Keeper]:
    """A job folder in which a fit tells these events; the keeper after each."""
    document = FitDocument(job, before)
    keeper = Keeper(folder, document.first.kept(job.rig))
    keeper.begin(resume=before is not None)
    for event in follow(document, events, keeper):
        if isinstance(event, Result):
            keeper.keep(event.state)
            keeper.close(event.status, event.notes)
        yield keeper


def test_every_moment_of_writing_leaves_a_whole_state(tmp_path: Path, cube, square_views, monkeypatch) -> None:
    """A copy of the folder after each single file that is written holds one state, not parts of two."""
    from softras import keeping
    from softras.tasks import fit_state

    Job(square_views, settings={"mode": "reconstruct"}).save(tmp_path)
    found: list[tuple[int, int]] = []

    def check() -> None:
        if (tmp_path / "result.json").is_file():
            kept = result(tmp_path)
            faces, vertices = np.load(tmp_path / kept["faces"]), np.load(tmp_path / kept["vertices"])
            assert len(vertices) == len(faces) == 10 + kept["step"]
            found.append(kept["step"])

    for module, name in ((fit_state, "write_array"), (keeping, "write_json")):
        write = getattr(module, name)

        def checked(path, value, write=write) -> None:
            check()
            write(path, value)
            check()

        monkeypatch.setattr(module, name, checked)
    keeper = Keeper(tmp_path)
    keeper.begin()
    for step in range(6):
        vertices, faces = np.full((10 + step, 3), step), np.zeros((10 + step, 3), np.int32)
        assert keeper.keep(FitState(vertices, faces, iou=[step / 10] * 3, step=step).kept(None))
    kept = keeper.close(STOPPED)
    check()
    assert kept["vertices"] == "best.npy" and set(found) == set(range(6)) and not list(tmp_path.glob("best_b*"))
    assert not keeper.keep(FitState(vertices, faces, iou=[1, 1, 1], step=9).kept(None))
    assert result(tmp_path) == kept, "after the answer the files are the client's"


def test_only_what_is_better_takes_the_place_of_the_best(tmp_path: Path, cube, square_views) -> None:
    """By the views' weights; what was not measured is no better than the start."""
    square_views[0].weight = 4
    job = Job(square_views, cube)
    job.save(tmp_path)
    found = [([0.5, 0.5, 0.5], True), ([0.4, 0.8, 0.5], False), ([0.6, 0.4, 0.3], True), ([0.6, 0.4, 0.3], False)]
    events = [told(cube.vertices * (2 + step), iou, step + 1) for step, (iou, _) in enumerate(found)]
    run = followed(tmp_path, job, *events, told(cube.vertices, None, 9))
    for step, (_, kept) in enumerate(found):
        next(run)
        assert (result(tmp_path)["step"] == step + 1) is kept
    next(run)
    assert result(tmp_path)["step"] == 3 and result(tmp_path)["iou"] == [0.6, 0.4, 0.3]
    np.testing.assert_array_equal(np.load(tmp_path / result(tmp_path)["vertices"]), cube.vertices * 4)


def test_what_was_found_before_stays_the_result_of_a_run_that_finds_nothing_better(
    tmp_path: Path, cube, square_views
) -> None:
    job = Job(square_views, cube)
    job.save(tmp_path)
    list(followed(tmp_path, job, told(cube.vertices * 0.9, [0.9, 0.9, 0.9], 7)))
    again, before = resumed(job, tmp_path)
    worse = FitResult(Mesh(cube.vertices * 2, cube.faces), np.full(3, 0.2), [], "finished", 1.0, [])
    document, keeper = FitDocument(again, before), Keeper(tmp_path, before.kept(None))
    keeper.begin(resume=True)
    _, last = follow(document, [told(cube.vertices * 2, [0.2, 0.2, 0.2], 1), worse], keeper)
    np.testing.assert_array_equal(last.value.mesh.vertices, cube.vertices * 0.9)
    keeper.keep(last.state)
    kept = keeper.close(last.status, last.notes)
    np.testing.assert_array_equal(np.load(tmp_path / kept["vertices"]), cube.vertices * 0.9)
    assert kept["iou"] == [0.9] * 3 and kept["vertices"] == "best.npy"
    assert kept["notes"] == ["Nothing better was found than what the fit had found before, which is the result."]


@posix
def test_a_second_signal_ends_a_fit_that_does_not_stop(job: Path) -> None:
    """The first one waits for the step that runs, here for ever; the result on the disk is whole all the same."""
    hangs = (
        "import sys, time\n"
        "from dataclasses import replace\n"
        "from softras.cli import main\n"
        "from softras.tasks import TASKS\n"
        "fit = TASKS['fit']\n"
        "def run(document, context):\n"
        "    for event in fit.run(document, context):\n"
        "        yield event\n"
        "        while context.stopped():\n"
        "            print('waits', flush=True); time.sleep(0.05)\n"
        "TASKS['fit'] = replace(fit, run=run)\n"
        "sys.exit(main(['fit', sys.argv[1]]))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", hangs, str(job)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(job, 1, process)
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == b"waits\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM and result(job)["status"] == "running"
    assert np.load(job / result(job)["vertices"]).shape == (2930, 3)


@posix
def test_a_signal_that_is_ignored_stays_ignored(job: Path) -> None:
    """As Ctrl-C of a command that a script has put into the background."""
    ignores = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    )
    command = [sys.executable, "-c", ignores, *SOFTRAS, "fit", str(job)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(job, 1, process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None and result(job)["status"] == "running"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and result(job)["status"] == "stopped"


def test_what_killed_writes_have_left_is_removed_by_the_next_run(tmp_path: Path, cube, square_views) -> None:
    Job(square_views, cube).save(tmp_path)
    start = FitState(cube.vertices).kept(None)
    Keeper(tmp_path, start).begin()
    for resume in (False, True):
        (tmp_path / ".softras-0123456789abcdef.part").write_bytes(b"half")
        (tmp_path / "mine.part").write_bytes(b"the user's")
        Keeper(tmp_path, start).begin(resume=resume)
        assert [path.name for path in tmp_path.glob("*.part")] == ["mine.part"]


def test_a_resumed_job_starts_where_the_state_is(tmp_path: Path, cube, square_views) -> None:
    moved = replace(square_views[0].camera, world_to_camera=np.diag([1.0, 1, 1, 1]))
    job = Job(square_views, cube, settings={"optimize": ["vertices", "cameras"]})
    job.save(tmp_path)
    cameras = [moved, *(view.camera for view in square_views[1:])]
    keeper = Keeper(tmp_path, FitDocument(job).first.kept(None))
    keeper.begin()
    assert resumed(job, tmp_path)[0].start.vertices.tolist() == cube.vertices.tolist()
    keeper.keep(FitState(cube.vertices * 0.9, cameras=cameras, iou=[0.5] * 3, step=3).kept(None))
    again, state = resumed(Job.load(tmp_path), tmp_path)
    np.testing.assert_array_equal(again.start.vertices, cube.vertices * 0.9)
    assert [view.camera for view in again.views] == cameras and state.step == 3 and list(state.iou) == [0.5] * 3
    assert isinstance(again.start, Mesh) and len(load_poses(tmp_path / result(tmp_path)["poses"], None)[1]) == 3
    keeper = Keeper(tmp_path, state.kept(None))
    keeper.begin(resume=True)
    kept = keeper.close(STOPPED)
    assert kept["mean_iou"] == 0.5 and kept["step"] == 3 and kept["poses"] == "best_poses.json"
    forget_results(tmp_path)
    assert resumed(again, tmp_path) == (again, None)


def test_a_full_disk_on_the_way_costs_a_note_and_not_the_fit(
    job: Path, small_disk: Path, setting_options, tmp_path: Path
) -> None:
    """The mesh is written where there is room; what the job's folder still holds is whole and said to be older."""
    folder, filler = small_disk / "job", small_disk / "filler"
    Job.load(job).save(folder)
    process = start(folder, "--out", tmp_path / "a.obj")
    wait_for(folder, 1, process)
    with pytest.raises(OSError), open(filler, "wb") as file:
        while True:
            file.write(bytes(512))
            file.flush()
    kept = result(folder)
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130 and "the disk is full; free some space" in stderr, stderr
    assert "Traceback" not in stderr
    assert len(load_mesh(tmp_path / "a.obj").vertices) == 2930
    assert np.load(folder / result(folder)["vertices"]).shape == (2930, 3)
    assert result(folder)["mean_iou"] >= kept["mean_iou"]
