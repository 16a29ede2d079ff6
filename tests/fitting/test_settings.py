"""Every knob does something, is checked, and is on the page that lists them."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import MISSING, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fitting_scenes import ball, turned, views_of
from rig_scenes import BENDS, POSE, around, bent, moved, seen_from, shots, tube, tube_rig
from test_same_bits import digest

from softras import FitResult, InputError, Mesh, fit
from softras.fitting.schedule import Stage
from softras.fitting.settings import CAMERA_PARTS, Settings
from softras.fitting.terms.table import TERMS
from softras.knobs import knobs

ROOT = Path(__file__).resolve().parents[2]
STAGE = {"resolution": 48, "steps": 8, "rate": [0.03, 0.01], "blur": [1.0, 0.5]}
SLOW = {"resolution": 48, "steps": 30, "rate": [1e-4, 1e-4], "blur": [1.0, 0.5]}  # steps that hardly help
STRETCHED = Mesh(ball(2).vertices * [1.0, 0.6, 0.8], ball(2).faces)


def vertices(start: Mesh | None = ball(2), views: int = 3, **settings: Any) -> FitResult:
    """Free vertices of a ball become an ellipsoid, or a mesh is carved."""
    return fit(start, views_of(STRETCHED, views, 48), **{"schedule": [STAGE], "place": "never"} | settings)


def carved(**settings: Any) -> FitResult:
    stage = STAGE | {"edge": 0.15} | settings.pop("stage", {})
    return vertices(None, 4, **{"mode": "reconstruct", "voxels": 24, "schedule": [stage]} | settings)


def leaning(degrees: float = 50, **settings: Any) -> FitResult:
    """A tube that is turned, and has to be found."""
    bump = Mesh(np.where(tube().vertices[:, 2:] > 2, tube().vertices * [2.5, 1, 1], tube().vertices), tube().faces)
    return fit(turned(bump, degrees, 1.2, 0.3), views_of(bump, 2, 48), **{"optimize": "object", "turns": 4} | settings)


def walk(**settings: Any) -> FitResult:
    """Two frames of a tube that bends."""
    rig = tube_rig(free=BENDS)
    truth = {f: bent(rig, np.array(POSE) * (f + 1) / 2) for f in range(2)}
    return fit(truth[1], shots(truth, around(2, size=48)), **{"optimize": "pose"} | settings)


def cameras(**settings: Any) -> FitResult:
    rig = bent(tube_rig(), POSE)
    views = shots({0: rig}, around(2, size=64))
    off = [moved(view.camera, (0.05, -0.04, 0.06), (0.05, 0.05, -0.1), 1.04) for view in views]
    return fit(Mesh(rig.vertices(), rig.mesh.faces), seen_from(views, off), **{"optimize": "cameras"} | settings)


Change = tuple[Callable[..., FitResult], dict[str, Any], dict[str, Any]]  # a fit, and its settings before and after
QUARTER_TURN = [0, -1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]  # about z, row by row: its x axis is the world's y
CHANGES: dict[str, Change] = {
    "mode": (lambda **s: vertices(None if s else ball(2), 4, voxels=24, **s), {}, {"mode": "reconstruct"}),
    "optimize": (vertices, {}, {"optimize": ["object", "vertices"]}),
    "camera_parts": (cameras, {}, {"camera_parts": ["rotation"]}),
    "cameras_together": (cameras, {}, {"cameras_together": True}),
    "known_frame": (walk, {}, {"known_frame": 1}),
    "turns": (leaning, {"degrees": 110}, {"degrees": 110, "turns": 0}),
    "seed": (vertices, {"batch": 1}, {"batch": 1, "seed": 1}),
    "place": (leaning, {}, {"place": "never"}),
    "symmetry": (vertices, {}, {"symmetry": "x"}),
    "symmetry_frame": (vertices, {"symmetry": "x"}, {"symmetry": "x", "symmetry_frame": QUARTER_TURN}),
    "cull": (leaning, {"renderer": "soft"}, {"renderer": "soft", "cull": False}),
    "preconditioned": (vertices, {}, {"preconditioned": False}),
    "batch": (vertices, {}, {"batch": 1}),
    "schedule": (vertices, {}, {"schedule": [STAGE, STAGE]}),
    "patience": (vertices, {"schedule": [SLOW]}, {"schedule": [SLOW], "patience": 1}),
    "voxels": (carved, {}, {"voxels": 30}),
}
STAGES: dict[str, Any] = {
    "resolution": 24,
    "steps": 6,
    "blur": [1.0, 0.4],
    "rate": [0.02, 0.01],
    "smoothing": 0.2,
    "stiffness": [0.5, 0.5],
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_knob_changes_the_end(name):
    run, before, after = CHANGES[name]
    assert digest(run(**before)) != digest(run(**after))


@pytest.mark.parametrize("name", STAGES)
def test_a_knob_of_a_stage_changes_the_end(name):
    soft = {"renderer": "soft"} if name == "blur" else {}
    assert digest(vertices(**soft)) != digest(vertices(schedule=[STAGE | {name: STAGES[name]}], **soft))


@pytest.mark.parametrize("stage", [{"edge": 0.2}, {"remesh_every": 3}])
def test_a_knob_of_remeshing_changes_the_end(stage):
    assert digest(carved()) != digest(carved(stage=stage))


@pytest.mark.parametrize("term", [term for term in TERMS if term != "landmarks"])  # which test_pose_fit.py has
def test_a_weight_changes_the_end(term):
    run = walk if term in ("prior", "smoothness", "silhouettes") else cameras if term == "camera_prior" else vertices
    assert digest(run()) != digest(run(weights={term: 0.4}))


def test_no_knob_is_left_out():
    """Those that change no end have tests of their own: max_seconds in test_fit.py, device in test_device.py,
    renderer in test_renderer.py."""
    assert {one.name for one in knobs(Settings)} == {*CHANGES, "max_seconds", "device", "renderer", "weights"}
    assert {one.name for one in knobs(Stage)} == {*STAGES, "edge", "remesh_every"}


@pytest.mark.parametrize("cls", [Settings, Stage])
def test_every_knob_has_a_sentence_and_takes_its_default_and_no_nonsense(cls):
    for one in knobs(cls):
        assert one.sentence.endswith(".") and (one.sentence[0].isupper() or one.sentence[0] == '"')
        if one.default is not MISSING:
            one.check(one.name, one.default)
        json.dumps(None if one.default is MISSING else one.default)  # a job document holds it
        with pytest.raises(InputError, match=one.name):
            one.check(one.name, object())
        assert one.name in (cls.__doc__ or "")


def test_the_page_lists_the_knobs_as_they_are_declared():
    spec = importlib.util.spec_from_file_location("write_settings", ROOT / "docs" / "write_settings.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == module.page(), "run python docs/write_settings.py"


def test_the_parts_of_cameras_are_those_that_move():
    from softras.deform.cameras import PARTS

    assert set(CAMERA_PARTS) == set(PARTS)
    assert replace(Settings(), camera_parts=tuple(CAMERA_PARTS)).camera_parts == CAMERA_PARTS
