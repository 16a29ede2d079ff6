"""The command `softras`, run as a user runs it."""

import argparse
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from short_fits import ENDLESS, QUICK, QUICK_NEW

from softras import load_mesh, load_views
from softras.fitting.settings import Settings
from softras.io.views import save_views
from softras.job import Job
from softras.knobs import knobs
from softras.tasks import TASKS
from softras.tasks.fit_command import FitCommand


def table(stdout: str) -> dict[str, float]:
    """The IoU per view and their mean, as printed."""
    return {name: float(iou) for name, iou in re.findall(r"^(\w+) +(\d\.\d{4})$", stdout, re.MULTILINE)}


def one_sentence(stderr: str) -> str:
    """The message, after making sure that it is the only one and no traceback."""
    lines = stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("softras: ") and lines[0].endswith("."), stderr
    return lines[0]


def test_refine_writes_the_mesh_a_report_and_a_table(softras, setting_options, spot: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "new" / "fitted.obj", tmp_path / "report"
    done = softras(
        *("fit", "--mesh", spot / "start.obj", "--views", spot, "--out", out),
        *("--report", report, "--seed", 1, *setting_options(QUICK)),
    )
    assert done.returncode == 0, done.stderr
    ious = table(done.stdout)
    mean = ious.pop("mean")
    assert list(ious) == [f"{n:02d}" for n in range(12)]
    assert mean == pytest.approx(np.mean(list(ious.values())), abs=1e-4) and mean > 0.85, "it starts at 0.65"
    assert (report / "report.html").is_file()
    assert 2 <= len(done.stderr.splitlines()) <= 15, "a few plain lines of progress where there is no terminal"
    assert re.search(r"loss \d+\.\d+ +mean IoU 0\.\d+", done.stderr)
    start, fitted = (spot / "start.obj").read_text().splitlines(), out.read_text().splitlines()
    assert [s for s in start if s[:2] != "v "] == [f for f in fitted if f[:2] != "v "]
    assert len(start) == len(fitted)


def test_masks_are_read_as_the_options_say(softras, setting_options, spot: Path, tmp_path: Path) -> None:
    """Instance maps in which the cow is 3 and all else is brighter: as plain masks they would be inverted."""
    shutil.copytree(spot, tmp_path / "views", ignore=shutil.ignore_patterns("*.obj"))
    for view in load_views(spot):
        labels = np.where(view.mask > 0.5, 3, 255).astype(np.uint8)
        Image.fromarray(labels).save(tmp_path / "views" / "masks" / f"{view.name}.png")
    command = ("fit", "--mesh", spot / "start.obj", "--views", tmp_path / "views", "--out", tmp_path / "fitted.obj")
    options = ("--max-seconds", 0.01, *setting_options(QUICK))
    starts = [
        table(softras(*command, *how, *options).stdout)["mean"] for how in (["--mask-label", 3], ["--mask-invert"])
    ]
    assert min(starts) > 0.6
    bad = softras(*command, "--mask-label", "red")
    assert bad.returncode == 2 and "a colour such as #ff0000, not 'red'" in one_sentence(bad.stderr)


def test_without_a_mesh_a_new_one_is_made(softras, setting_options, spot: Path, tmp_path: Path) -> None:
    out = tmp_path / "new.ply"
    done = softras("fit", "--views", spot / "cameras.json", "--out", out, *setting_options(QUICK_NEW))
    assert done.returncode == 0, done.stderr
    assert table(done.stdout)["mean"] > 0.95
    assert len(load_mesh(out).faces) > 500


def test_a_job_folder_runs_and_holds_its_result(softras, spot: Path, tmp_path: Path) -> None:
    start = load_mesh(spot / "start.obj")
    Job(load_views(spot)[:4], start, settings=QUICK).save(tmp_path / "job")
    done = softras("fit", tmp_path / "job", "--set", "seed=2", "--out", tmp_path / "fitted.obj")
    assert done.returncode == 0, done.stderr
    best = np.load(tmp_path / "job" / "best.npy")
    np.testing.assert_allclose(load_mesh(tmp_path / "fitted.obj").vertices, best, rtol=1e-7)
    assert best.shape == start.vertices.shape and (tmp_path / "job" / "result.json").is_file()


def test_an_object_moves_as_one_piece(softras, spot: Path, tmp_path: Path) -> None:
    done = softras(
        *("fit", "--mesh", spot / "start.obj", "--views", spot, "--out", tmp_path / "moved.obj"),
        *("--optimize", "object", "--max-seconds", 20),
    )
    assert done.returncode == 0, done.stderr
    before, after = load_mesh(spot / "start.obj").vertices, load_mesh(tmp_path / "moved.obj").vertices
    ratios = np.linalg.norm(after[1:] - after[:-1], axis=1) / np.linalg.norm(before[1:] - before[:-1], axis=1)
    assert ratios.std() / ratios.mean() < 1e-3
    assert abs(ratios.mean() - 1) > 0.05, "the start is 1.3 times too large"


def test_fitted_cameras_are_written_as_views(softras, spot: Path, tmp_path: Path) -> None:
    views = load_views(spot)[:2]
    aside = np.eye(4)
    aside[0, 3] = 0.1
    moved = [replace(v, camera=replace(v.camera, world_to_camera=aside @ v.camera.world_to_camera)) for v in views]
    save_views(tmp_path / "given", moved)
    done = softras(
        *("fit", "--mesh", spot / "spot.obj", "--views", tmp_path / "given", "--optimize", "cameras"),
        *("--camera-parts", "location", "--out-views", tmp_path / "found"),
    )
    assert done.returncode == 0, done.stderr
    points = load_mesh(spot / "spot.obj").vertices
    for given, wanted, found in zip(moved, views, load_views(tmp_path / "found"), strict=True):
        assert np.linalg.norm(given.camera.project(points) - wanted.camera.project(points), axis=1).mean() > 5
        assert np.linalg.norm(found.camera.project(points) - wanted.camera.project(points), axis=1).mean() < 1
        np.testing.assert_allclose(found.camera.K, wanted.camera.K)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("fit", "there are no views; name their folder"),
        ("fit --views {spot}", "nowhere to put the fitted mesh"),
        ("fit --views /nowhere --out {out}/a.obj", "the views folder /nowhere does not exist"),
        ("fit --views {out} --out {out}/a.obj", "needs a cameras.json"),
        ("fit --views {spot} --mesh /nowhere.obj --out {out}/a.obj", "mesh file /nowhere.obj does not exist"),
        ("fit --views {spot} --mesh {spot}/README.md --out {out}/a.obj", "format of README.md is not known"),
        ("fit --views {spot} --out {out}/a.fbx", "format of a.fbx is not known"),
        ("fit --views {spot} --out {spot}/README.md/a.obj", "choose another folder"),
        ("fit --views {spot} --out /proc/softras/a.obj", "cannot write /proc/softras"),
        ("fit --views {spot} --mode refine --out {out}/a.obj", "there is no mesh to refine"),
        ("fit --views {spot} --out {out}/a.obj --set speed=9", "no setting 'speed'"),
        ("fit --views {spot} --out {out}/a.obj --set speed", "needs the form NAME=VALUE"),
        ("fit --views {spot} --mesh {spot}/start.obj --out {out}/a.obj --optimize colour", "colour"),
        ("fit --mode magic", "mode cannot be 'magic'; choose from refine, reconstruct"),
        ("fit --seed x", "seed must be a whole number of at least 0, not 'x'"),
        ("fit --set seed=x", "seed must be a whole number of at least 0, not 'x'"),
        ("fit --optimize object,colour", "optimize cannot be 'colour'"),
        ("fit --weights iou=2", "weights must be a dictionary"),
        ("fit --views {spot} --mesh {spot}/start.obj --out {out}/a.obj --max-seconds -1", "max_seconds"),
        ("fit {out}", "is not a job folder"),
        ("fit {out} --views {spot}", "either a job folder or"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(
    softras, spot: Path, tmp_path: Path, arguments: str, sentence: str
) -> None:
    done = softras(*(word.format(spot=spot, out=tmp_path) for word in arguments.split()))
    assert done.returncode == 2 and done.stdout == ""
    assert sentence in one_sentence(done.stderr)


@pytest.mark.parametrize(("out", "sentence"), [("a.gltf", r"use \.glb"), ("folder.obj", "it is a folder")])
def test_a_file_that_cannot_be_written_is_found_before_the_work(
    softras, setting_options, spot: Path, tmp_path: Path, out: str, sentence: str
) -> None:
    (tmp_path / "folder.obj").mkdir()
    done = softras(
        *("fit", "--mesh", spot / "start.obj", "--views", spot, "--out", tmp_path / out), *setting_options(QUICK)
    )
    assert done.returncode == 2
    assert re.search(sentence, one_sentence(done.stderr))


def test_a_start_mesh_of_any_line_ends_and_continued_lines_comes_back(
    softras, setting_options, spot: Path, tmp_path: Path
) -> None:
    text = (spot / "start.obj").read_text()
    first = next(line for line in text.splitlines() if line.startswith("v "))
    continued = text.replace(first, first.replace(" ", " \\\n"))
    one_step = {"schedule": [{"resolution": 32, "steps": 1}]}
    for changed in (text.replace("\n", "\r"), continued):
        (tmp_path / "start.obj").write_bytes(changed.encode())
        out = tmp_path / "fitted.obj"
        done = softras(
            *("fit", "--mesh", tmp_path / "start.obj", "--views", spot, "--out", out), *setting_options(one_step)
        )
        assert done.returncode == 0, done.stderr
        np.testing.assert_array_equal(load_mesh(out).faces, load_mesh(spot / "start.obj").faces)
        assert len(out.read_bytes().splitlines()) == len(text.splitlines())


@pytest.mark.parametrize("arguments", [[], ["dance"], ["fit", "--speed", "9"], ["fit", "--seed"]])
def test_a_wrong_command_line_is_status_2(softras, arguments: list[str]) -> None:
    done = softras(*arguments)
    assert done.returncode == 2 and "usage: softras" in done.stderr


def test_a_read_only_output_is_found_before_the_work(softras, spot: Path, tmp_path: Path, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = softras("fit", "--views", spot, "--out", small_disk / "a.obj")
    assert done.returncode == 2
    assert "cannot write" in one_sentence(done.stderr) and "read-only" in done.stderr


def test_ctrl_c_keeps_the_best_and_is_status_130(setting_options, spot: Path, tmp_path: Path) -> None:
    process = start_fit(spot, tmp_path / "a.obj", *setting_options(ENDLESS))
    assert any("step" in process.stderr.readline() for _ in range(5)), "the notes before the fit come first"
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert table(stdout)["mean"] > 0.6 and stdout.splitlines()[-2].endswith(" s, stopped")
    assert len(load_mesh(tmp_path / "a.obj").vertices) == 2930


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("library", ["libtorch_cpu", "libtorch_python"])
def test_ctrl_c_during_the_start_is_status_130(setting_options, spot: Path, tmp_path: Path, library: str) -> None:
    process = start_fit(spot, tmp_path / "a.obj", *setting_options(ENDLESS))
    while library not in Path(f"/proc/{process.pid}/maps").read_text():
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in stderr, stderr


def start_fit(spot: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "softras", "fit", "--mesh", spot / "start.obj", "--views", spot, "--out", out]
    return subprocess.Popen([*map(str, command), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_a_terminal_gets_one_live_line(setting_options, spot: Path, tmp_path: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "softras", "fit", "--mesh", spot / "start.obj", "--views", spot]
    command += ["--out", tmp_path / "a.obj", *setting_options(QUICK), "--set", "place=never"]  # nor any note before it
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    shown = b""
    while chunk := read(ours):
        shown += chunk
    assert process.wait() == 0
    text = shown.decode()
    assert text.count("\n") == 1 and text.count("\r") > 3 and "█" in text and "mean IoU" in text


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux says so when the other side is closed
        return b""


def test_the_doctor_says_what_runs_where(softras) -> None:
    done = softras("doctor")
    assert done.returncode == 0, done.stdout
    for part in ("softras", "python", "system", "numpy", "scipy", "torch", "native", "cuda"):
        assert re.search(rf"^{part} +(ok|-) ", done.stdout, re.MULTILINE), done.stdout
    assert "softras fit can run on this machine.\n" in done.stdout


def test_the_doctor_names_what_is_missing(bare_python: Path) -> None:
    done = subprocess.run([bare_python, "-m", "softras", "doctor"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr == ""
    assert re.search(r"^torch +MISSING", done.stdout, re.MULTILINE)
    assert "pip install torch==" in done.stdout and "softras fit cannot run: PyTorch is not installed" in done.stdout


def test_the_help_says_of_every_setting_what_its_declaration_says_without_pytorch(bare_python: Path) -> None:
    command = [bare_python, "-m", "softras", "fit", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "500"})
    assert done.returncode == 0, done.stderr
    said = dict(re.findall(r"^  --(\S+) VALUE\s+(.*)$", done.stdout, re.MULTILINE))
    for one in knobs(Settings):
        assert said.pop(one.name.replace("_", "-")).startswith(one.sentence)
    assert not said
    assert "Default: 8 views." in done.stdout and 'Default: ["vertices"].' in done.stdout
    done = subprocess.run([bare_python, "-m", "softras", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "fit a mesh to the masks" in done.stdout


@pytest.mark.parametrize(
    ("given", "settings"),
    [
        (
            ["--optimize", "pose, cameras", "--max-seconds", ".5"],
            {"optimize": ["pose", "cameras"], "max_seconds": 0.5},
        ),
        (["--cull", "false", "--seed", "007", "--symmetry", "x"], {"cull": False, "seed": 7, "symmetry": "x"}),
        (["--max-seconds", "inf", "--set", "known-frame=-3"], {"max_seconds": math.inf, "known_frame": -3}),
        (["--weights", '{"iou": 2}', "--set", "place=never"], {"weights": {"iou": 2}, "place": "never"}),
        (["--schedule", '[{"resolution": 32, "steps": 1}]'], {"schedule": [{"resolution": 32, "steps": 1}]}),
    ],
)
def test_options_become_settings(spot: Path, given: list[str], settings: dict) -> None:
    parser = argparse.ArgumentParser()
    command = FitCommand()
    command.add_options(parser)
    options = parser.parse_args(["--views", str(spot), "--out", "new.obj", *given])
    assert command.read(TASKS["fit"], options).job.settings == {"mode": "reconstruct", **settings}


def test_a_fit_without_pytorch_is_one_sentence(bare_python: Path, square_views, cube, tmp_path: Path) -> None:
    Job(square_views, cube).save(tmp_path / "job")
    done = subprocess.run([bare_python, "-m", "softras", "fit", tmp_path / "job"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "PyTorch is not installed in" in one_sentence(done.stderr)


def test_a_reader_that_leaves_is_no_error(softras) -> None:
    shell = shutil.which("bash") or pytest.skip("no bash")
    command = f"set -o pipefail; '{sys.executable}' -m softras doctor | true"
    done = subprocess.run([shell, "-c", command], capture_output=True, text=True)
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr


def test_the_version(softras) -> None:
    import softras as package

    assert softras("--version").stdout == f"softras {package.__version__}\n"
