"""The task `measure`: a mesh against masks, with the numbers of a fit, from Python, the command line and the engine."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rig_scenes import around, bent, shots, tube_rig
from short_fits import QUICK
from test_cli import one_sentence
from test_rig_jobs import POSE, SHORT
from test_server import Client

import softras as package
from softras import FitResult, InputError, Mesh, View, fit, load_mesh, load_views, measure, save_mesh
from softras.io.views import save_views
from softras.job import Job
from softras.report.pictures import AGREE_COLOUR, EXCESS_COLOUR, MISSING_COLOUR


@pytest.fixture(scope="module")
def fitted(spot: Path) -> tuple[list[View], FitResult]:
    """A short fit to masks as a job has them."""
    views = [dataclasses.replace(v, mask=np.rint(v.mask * 255).astype(np.float32) / 255) for v in load_views(spot)[:3]]
    return views, fit(load_mesh(spot / "start.obj"), views, **QUICK)


def test_the_numbers_are_those_of_the_fit(fitted) -> None:
    views, result = fitted
    found = measure(result.mesh, views)
    np.testing.assert_array_equal(found.iou, result.iou)
    assert found.mean_iou == result.mean_iou and 0.85 < found.mean_iou < 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.iou = None


def test_a_rig_is_measured_in_its_pose_and_a_sequence_by_its_frames() -> None:
    rigs = {3: tube_rig(), 4: bent(tube_rig(), POSE)}
    views = shots(rigs, around(2))
    assert (measure(rigs, views).iou > 0.98).all()
    still = measure(rigs[3], views).iou
    assert (still[:2] > 0.98).all() and (still[2:] < 0.95).all()
    with pytest.raises(InputError, match="no mesh for frame 4; give one for the frame of every view"):
        measure({3: rigs[3]}, views)
    with pytest.raises(InputError, match="there are no views"):
        measure(rigs, [])


def test_views_that_tell_nothing_are_left_out(square_views, cube) -> None:
    empty = dataclasses.replace(square_views[0], mask=np.zeros((40, 48), np.float32))
    found = measure(cube, [empty, *square_views[1:]])
    assert math.isnan(found.iou[0]) and found.mean_iou == pytest.approx(np.mean(found.iou[1:]))
    assert math.isnan(found.iou_by_area[0]) and found.mean_iou_by_area == pytest.approx(np.mean(found.iou_by_area[1:]))
    assert math.isnan(measure(cube, [empty]).mean_iou)


def test_the_command_prints_json_and_draws_the_errors(softras, fitted, tmp_path: Path) -> None:
    views, result = fitted
    save_views(tmp_path / "views", views)
    save_mesh(tmp_path / "fitted.obj", result.mesh)
    done = softras(
        *("measure", "--mesh", tmp_path / "fitted.obj", "--views", tmp_path / "views"),
        *("--report", tmp_path / "report"),
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["status"], said["views"], said["notes"]) == ("finished", [view.name for view in views], [])
    np.testing.assert_allclose(said["iou"], result.iou, atol=1e-4)  # the OBJ's digits
    assert said["mean_iou"] == pytest.approx(np.mean(said["iou"]))
    by_area = measure(result.mesh, views)
    np.testing.assert_allclose(said["iou_by_area"], by_area.iou_by_area, atol=1e-4)
    assert said["mean_iou_by_area"] == pytest.approx(by_area.mean_iou_by_area, abs=1e-4)
    for number, iou in enumerate(said["iou"]):
        pixels = np.asarray(Image.open(tmp_path / "report" / f"{number:03d}-error.png"))
        agree, missing, excess = (
            np.count_nonzero((pixels == colour).all(axis=-1))
            for colour in (AGREE_COLOUR, MISSING_COLOUR, EXCESS_COLOUR)
        )
        assert agree / (agree + missing + excess) == pytest.approx(iou, abs=0.01)
    page = (tmp_path / "report" / "report.html").read_text()
    assert "Measured against 3 silhouettes" in page and "start" not in page
    assert f"<b>{said['iou'][0]:.4f}</b>, by area {said['iou_by_area'][0]:.4f}" in page


def test_a_job_folder_is_measured_at_its_start_and_at_its_best_and_stays_as_it_is(softras, tmp_path: Path) -> None:
    rigs = {frame: bent(tube_rig(), np.array(POSE) * share) for frame, share in ((3, 0.5), (4, 1))}
    job = Job(shots(rigs, around(2)), rig=tube_rig(), settings={"optimize": ["pose"]})
    job.save(tmp_path / "job")
    refused = softras("measure", tmp_path / "job", "--best")
    assert refused.returncode == 2 and "fit the job first, or leave --best out" in one_sentence(refused.stderr)
    done = softras("fit", tmp_path / "job")
    assert done.returncode == 0, done.stderr
    files = {path.name: path.read_bytes() for path in (tmp_path / "job").iterdir() if path.is_file()}
    kept = json.loads(files["result.json"])
    start, best = (json.loads(softras("measure", tmp_path / "job", *how).stdout) for how in ([], ["--best"]))
    assert best["iou"] == pytest.approx(kept["iou"], abs=2e-3) and best["mean_iou"] > 0.95
    assert start["iou"] == list(measure(tube_rig(), Job.load(tmp_path / "job").views).iou)
    assert start["mean_iou"] < best["mean_iou"] - 0.1
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "job").iterdir() if path.is_file()}


def test_the_best_of_a_rig_has_the_free_vertices_on_top(softras, tmp_path: Path) -> None:
    rig = bent(tube_rig(), POSE)
    wide = dataclasses.replace(rig, mesh=Mesh(rig.mesh.vertices * [1.2, 1.2, 1], rig.mesh.faces))
    settings = {"optimize": ["pose", "vertices"], "schedule": SHORT}
    Job(shots({3: wide}, around()), rig=rig, settings=settings).save(tmp_path)
    assert softras("fit", tmp_path).returncode == 0
    best = json.loads(softras("measure", tmp_path, "--best").stdout)
    kept = json.loads((tmp_path / "result.json").read_text())
    assert "rig_vertices" in kept and best["iou"] == pytest.approx(kept["iou"], abs=2e-3)


def test_the_engine_process_measures_what_it_fitted(fitted, spot: Path, tmp_path: Path) -> None:
    """To the bit; and a mesh that no view sees has a report too."""
    views, _ = fitted
    Job(views, load_mesh(spot / "start.obj"), settings=QUICK).save(tmp_path / "job")
    client = Client()
    client.next()
    client.fit(1, tmp_path / "job")
    fit_result = client.until("result")
    mesh = Mesh(np.load(tmp_path / "job" / "best.npy"), load_mesh(spot / "start.obj").faces)
    Job(views, mesh).save(tmp_path / "fitted")
    client.send({"type": "run", "id": 2, "task": "measure", "job": str(tmp_path / "fitted")})
    result = client.until("result")
    assert (result["iou"], result["mean_iou"]) == (fit_result["iou"], fit_result["mean_iou"])
    assert (result["id"], result["status"]) == (2, "finished") and "vertices" not in result
    assert not (tmp_path / "fitted" / "result.json").exists()
    blank = dataclasses.replace(views[0], mask=np.zeros_like(views[0].mask))
    Job([blank], Mesh(mesh.vertices + 1000, mesh.faces)).save(tmp_path / "away")
    request = {"type": "run", "id": 3, "task": "measure", "job": str(tmp_path / "away")}
    client.send({**request, "report": str(tmp_path / "report")})
    result = client.until("result")
    assert (result["iou"], result["mean_iou"], result["notes"]) == ([None], None, [])
    assert (result["iou_by_area"], result["mean_iou_by_area"]) == ([None], None)
    assert "left out" in (tmp_path / "report" / "report.html").read_text()
    client.process.kill()
    client.process.wait()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("measure", "there are no views; name their folder"),
        ("measure --views {spot}", "there is no mesh to measure; name one with --mesh"),
        ("measure --views {spot} --mesh {spot}/start.obj --best", "only a job folder keeps what a fit has found"),
        ("measure {out} --mesh {spot}/start.obj", "either a job folder or"),
        ("measure {out}", "is not a job folder"),
    ],
)
def test_bad_input_is_one_sentence(softras, spot: Path, tmp_path: Path, arguments: str, sentence: str) -> None:
    done = softras(*(word.format(spot=spot, out=tmp_path) for word in arguments.split()))
    assert done.returncode == 2 and done.stdout == ""
    assert sentence in one_sentence(done.stderr)


ONLY = """
import importlib.abc, importlib.metadata, sys
from softras.cli import main
from softras.tasks import TASKS
IMPORTED = {"pillow": "PIL", "scikit-image": "skimage"}
def names(task):
    return {IMPORTED.get(name, name) for name in task.needs}
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in names(TASKS["fit"]) - names(TASKS["measure"]):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
sys.exit(main())
"""


def test_it_needs_no_more_than_it_says(fitted, tmp_path: Path) -> None:
    views, result = fitted
    Job(views, result.mesh).save(tmp_path / "job")
    command = [sys.executable, "-c", ONLY, "measure", tmp_path / "job", "--report", tmp_path / "report"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(package.__file__).parents[1])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["iou"] == list(result.iou)
