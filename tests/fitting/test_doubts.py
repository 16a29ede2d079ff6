"""Masks that look wrong, views that tell nothing, and ends below what the masks allow are said in a sentence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fitting_scenes import ball, hook, turned, views_of

from softras import InputError, fit, fit_events
from softras.fitting.doubts import doubts, odd_one, remarks
from softras.fitting.observed.evaluate import evaluate
from softras.report.pictures import write_report

SHORT = [{"resolution": 64, "steps": 10}]


@pytest.fixture(scope="module")
def many(cow):
    return views_of(cow, 8, 96)


def test_good_masks_raise_no_doubt(many):
    assert doubts(many) == []
    assert doubts([replace(view, mask=0.1 + 0.8 * view.mask) for view in many]) == []
    assert odd_one(many) is None


def test_masks_that_look_wrong_are_named(many):
    rows, columns = np.mgrid[:96, :96] / 95
    photograph = (0.2 + 0.6 * (0.5 * rows + 0.5 * columns)).astype(np.float32)
    for wrong, words in (
        (1 - many[2].mask, "border; if white is the background there, invert"),
        (photograph, "grey levels of a photograph"),
        (np.roll(many[2].mask, 25, axis=0), "contradicts the others"),
        (np.roll(many[2].mask, 25, axis=1), "contradicts the others"),
    ):
        (sentence,) = doubts([*many[:2], replace(many[2], name="odd", mask=wrong), *many[3:]])
        assert "view 'odd'" in sentence and words in sentence
    # Cameras that are still to be found tell nothing of the masks.
    assert not doubts(
        [*many[:2], replace(many[2], mask=np.roll(many[2].mask, 25, axis=1)), *many[3:]], cameras_known=False
    )


def test_what_is_in_doubt_is_said_before_the_fit_and_in_its_result(many):
    views = [*many[:2], replace(many[2], mask=np.roll(many[2].mask, 25, axis=1)), *many[3:]]
    start = ball(1)
    *events, result = fit_events(start, views, schedule=SHORT, place="never")
    assert "contradicts" in events[0].notes[0] and events[0].notes[0] in result.notes
    assert sum(len(event.notes) for event in events) <= len(result.notes)


@pytest.mark.parametrize("optimize", ["object", "vertices", "cameras"])
@pytest.mark.parametrize("value", [0, 1])
def test_a_view_that_tells_nothing_is_left_out(optimize, value, tmp_path):
    views = views_of(hook(), 5, 64)
    views[3] = replace(views[3], name="void", mask=np.full((64, 64), value))
    start = turned(hook(), 4, 1.03)
    result = fit(start, views, optimize=optimize, schedule=SHORT)
    assert np.isnan(result.iou[3]) and np.delete(result.iou, 3).min() > 0.9 and result.mean_iou > 0.9
    assert any("left out: the mask of view 'void'" in note for note in result.notes)
    assert "left out" in write_report(tmp_path, views, start, result).read_text()


def test_a_reconstruction_leaves_out_what_tells_nothing(many):
    views = [*many[:3], replace(many[3], mask=np.zeros((96, 96))), *many[4:]]
    schedule = [{"resolution": 64, "steps": 10, "edge": 0.1}]
    result = fit(None, views, mode="reconstruct", voxels=32, schedule=schedule)
    assert np.isnan(result.iou[3]) and result.mean_iou > 0.8


def test_masks_that_all_tell_nothing_are_refused(cow, many):
    views = [replace(view, mask=np.zeros((96, 96))) for view in many]
    with pytest.raises(InputError, match="no mask shows an outline: the mask of view '0' is empty"):
        fit(cow, views)


def test_ends_that_the_user_should_look_at_are_remarked(many):
    iou = np.full(8, 0.97)
    assert remarks(many, iou, ("object",)) == []
    assert "One view shows no depth" in remarks(many[:1], iou[:1], ("object",))[0]
    assert remarks(many[:1], iou[:1], ("cameras",)) == []
    (far,) = remarks(many, np.where(np.arange(8) == 2, 0.5, iou), ("object",))
    assert "View '2' matches far worse (IoU 0.50) than the others (median 0.97)" in far
    (low,) = remarks(many, iou - 0.2, ("object",))
    assert "mean IoU of 0.77" in low


@pytest.mark.parametrize("optimize", ["object", "cameras", "vertices"])
def test_a_fit_never_ends_below_its_start(optimize):
    """From the truth, masks of few pixels leave room for steps that lower the soft difference and the IoU."""
    truth = hook()
    views = views_of(truth, 6, 48)
    result = fit(truth, views, optimize=optimize, schedule=SHORT)
    assert result.mean_iou == 1
    if any("Nothing that was found" in note for note in result.notes):
        np.testing.assert_array_equal(result.mesh.vertices, truth.vertices)
        assert list(result.cameras) == [view.camera for view in views]
    wrong = [replace(view, mask=np.roll(view.mask, (-1) ** k, axis=1)) for k, view in enumerate(views)]
    start = turned(truth, 2)
    found = fit(start, wrong, optimize=optimize, schedule=SHORT)
    assert found.mean_iou >= evaluate(start.vertices, start.faces, wrong).mean()
