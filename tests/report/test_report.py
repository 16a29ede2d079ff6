"""The report: pictures that show what was compared, in one page that needs no other file."""

import dataclasses
import html.parser
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter
from short_fits import QUICK

from softras import InputError, fit, load_mesh, load_views, measure
from softras.report import pictures as report
from softras.report.pictures import write_report


@pytest.fixture(scope="module")
def fitted(spot: Path):
    views, start = load_views(spot)[:3], load_mesh(spot / "start.obj")
    return views, start, fit(start, views, **QUICK)


@pytest.fixture(scope="module")
def folder(fitted, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "new" / "folder"
    write_report(folder, *fitted)
    return folder


def test_a_report_has_two_pictures_per_view_and_a_page(folder: Path) -> None:
    names = {f"{n:03d}-{kind}.png" for n in range(3) for kind in ("outline", "error")}
    assert {path.name for path in folder.iterdir()} == names | {"report.html", "overview.png"}


def test_the_page_needs_no_other_file_and_is_whole(folder: Path, fitted) -> None:
    text = (folder / "report.html").read_text()
    assert not re.search(r"(src|href)=.?(https?:|//)", text)
    assert set(re.findall(r"<img src='(.{10})", text)) == {"data:image"}
    for linked in re.findall(r"href='([^']+)'", text):
        assert (folder / linked).is_file()
    views, _, result = fitted
    for iou, by_area in zip(result.iou, measure(result.mesh, views).iou_by_area, strict=True):
        assert f"<b>{iou:.4f}</b>, by area {by_area:.4f}" in text
    assert text.count("<polyline") == 1 + len(fitted[2].history[-1].loss)

    open_tags: list[str] = []

    class Checker(html.parser.HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "img", "line"):
                open_tags.append(tag)

        def handle_endtag(self, tag):
            assert open_tags.pop() == tag

        def handle_startendtag(self, tag, attrs):
            pass

    Checker().feed(text)
    assert open_tags == []


def test_error_maps_count_what_the_iou_counts(folder: Path, fitted) -> None:
    """Share of agreeing pixels among the coloured ones is the IoU, to the accuracy of the enlargement."""
    for number, iou in enumerate(fitted[2].iou):
        pixels = np.asarray(Image.open(folder / f"{number:03d}-error.png"))
        agree, missing, excess = (
            np.count_nonzero((pixels == colour).all(axis=-1))
            for colour in (report.AGREE_COLOUR, report.MISSING_COLOUR, report.EXCESS_COLOUR)
        )
        assert agree / (agree + missing + excess) == pytest.approx(iou, abs=0.01)


def test_the_outline_lies_on_the_border_of_the_mesh(spot: Path, tmp_path: Path, fitted) -> None:
    """Without a photograph the mask is the background: the outline of the true mesh runs along its edge."""
    views, _, result = fitted
    view = dataclasses.replace(views[0], photo=None)
    write_report(
        tmp_path,
        [view],
        None,
        dataclasses.replace(result, mesh=load_mesh(spot / "spot.obj"), iou=[1.0], cameras=[view.camera]),
    )
    picture = np.asarray(Image.open(tmp_path / "000-outline.png")).astype(int)
    line = np.abs(picture - report.FIT_COLOUR).max(axis=-1) < 40
    inside = np.asarray(Image.open(tmp_path / "000-error.png"))[..., 0] == report.AGREE_COLOUR[0]
    assert np.count_nonzero(line) > 500
    near = minimum_filter(inside, 9) != maximum_filter(inside, 9)
    assert near[line].mean() > 0.99


def test_an_unwritable_folder_is_one_sentence(fitted, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*; choose another folder\.$"):
        write_report(tmp_path / "file" / "report", *fitted)
