"""Jobs whose vertices are the cage of modifiers: they hold how the shown mesh moves, and run anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from softras import Mesh, Rig, View, measure
from softras.cage import Cage, of_blocks
from softras.job import Job, show_instead, start_instead
from softras.rig import Transform


@pytest.fixture
def cage(cube: Mesh) -> Cage:
    """The cube at half its size is what is seen, as of a cage that something pulls together."""
    numbers = np.arange(8)
    return of_blocks(
        cube.vertices, Mesh(cube.vertices / 2, cube.faces), numbers, numbers, np.tile(np.eye(3) / 2, (8, 1, 1)),
        np.array([[0.0, 0, 0, 0, 0, 1, 1e-3]]),
    )  # fmt: skip


def told(folder: Path) -> float:
    return json.loads((folder / "result.json").read_text())["mean_iou"]


def test_a_cage_comes_back_from_its_job_to_the_bit(
    cube: Mesh, cage: Cage, square_views: list[View], tmp_path: Path
) -> None:
    Job(square_views, cube, cage=cage).save(tmp_path / "whole")
    Job(square_views, cube).save(tmp_path / "later")
    start_instead(tmp_path / "later", cube, cage, {})
    assert (tmp_path / "later" / "job.json").read_text() == (tmp_path / "whole" / "job.json").read_text()
    for folder in (tmp_path / "whole", tmp_path / "later"):
        assert_same(Job.load(folder).cage, cage)


def assert_same(loaded: Cage | None, cage: Cage) -> None:
    assert loaded is not None
    for name in ("vertices", "starts", "columns", "values", "planes"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(cage, name))
    np.testing.assert_array_equal(loaded.shown.vertices, cage.shown.vertices)
    np.testing.assert_array_equal(loaded.shown.faces, cage.shown.faces)


@pytest.mark.parametrize("optimize", ["vertices", "object, vertices"])
def test_a_job_with_a_cage_is_fitted_measured_and_gone_on_with(
    cube: Mesh, cage: Cage, square_views: list[View], tmp_path: Path, softras: Callable, optimize: str
) -> None:
    folder = tmp_path / "job"
    start: dict = {"mesh": cube}
    if "object" in optimize:
        axes = (True, True, True)
        start = {"rig": Rig(cube, Transform(free_location=axes, free_rotation=axes, free_scale=True))}
    settings = {"max_seconds": 4, "optimize": optimize.split(", ")}
    Job(square_views, settings=settings, cage=cage, **start).save(folder)
    shown = json.loads(softras("measure", folder).stdout)["mean_iou"]
    assert shown == pytest.approx(measure(cage.shown, square_views).mean_iou)
    assert softras("fit", folder, "--report", tmp_path / "report").returncode == 0
    assert told(folder) > 0.95  # of what is seen, which was too small
    assert np.ptp(np.load(folder / "best.npy"), axis=0) == pytest.approx([1.6] * 3, abs=0.15)
    assert json.loads(softras("measure", folder, "--best").stdout)["mean_iou"] == pytest.approx(told(folder), abs=1e-9)
    before = told(folder)
    assert softras("fit", folder, "--resume").returncode == 0
    assert told(folder) >= before
    assert json.loads(softras("measure", folder, "--best").stdout)["mean_iou"] == pytest.approx(told(folder), abs=1e-9)


def test_what_is_shown_after_a_fit_is_measured_in_its_job(
    cube: Mesh, cage: Cage, square_views: list[View], tmp_path: Path, softras: Callable
) -> None:
    """Another mesh takes the place of the cage, and cameras that have moved that of those that were given."""
    rig = Rig(cube)
    Job(square_views, rig=rig, settings={"optimize": ["vertices"]}, lock=np.arange(8) < 2, cage=cage).save(tmp_path)
    shown = Mesh(cube.vertices * 0.7 + [0.1, 0, 0], cube.faces)
    cameras = [square_views[k].camera for k in (1, 0, 2)]
    show_instead(tmp_path, shown, cameras)
    moved = [View(view.name, camera, view.mask) for view, camera in zip(square_views, cameras, strict=True)]
    found = json.loads(softras("measure", tmp_path).stdout)["iou"]
    np.testing.assert_allclose(found, measure(shown, moved).iou)


@pytest.mark.parametrize("rigged", [False, True])
def test_a_job_that_was_measured_starts_again_elsewhere(
    cube: Mesh, cage: Cage, square_views: list[View], tmp_path: Path, rigged: bool
) -> None:
    """With another start, its map and other settings; masks, lock and the other settings stay."""
    start: Mesh | Rig = Rig(cube) if rigged else cube
    given = {"rig": start} if rigged else {"mesh": start}
    settings = {"optimize": ["object", "vertices"], "seed": 5}
    Job(square_views, settings=settings, lock=np.arange(8) < 2, cage=cage, **given).save(tmp_path)
    show_instead(tmp_path, Mesh(cube.vertices[:4], cube.faces[:1] * 0 + [0, 1, 2]), [v.camera for v in square_views])
    moved = Mesh(cube.vertices + 0.1, cube.faces)
    start_instead(tmp_path, Rig(moved) if rigged else moved, cage, {"seed": 6})
    job = Job.load(tmp_path)
    assert isinstance(job.start, Rig if rigged else Mesh)
    found = job.start.mesh if isinstance(job.start, Rig) else job.start
    np.testing.assert_array_equal(found.vertices, moved.vertices)
    np.testing.assert_array_equal(found.faces, cube.faces)
    assert job.settings == {"optimize": ["object", "vertices"], "seed": 6}
    np.testing.assert_array_equal(job.lock, np.arange(8) < 2)
    assert job.cage is not None and len(job.views) == len(square_views)
