"""Integrals of images over boxes, and what a view of a fit remembers of its images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fitting_scenes import camera_around
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from softras import InputError, View
from softras.fitting.observed.integral import BAND, IntegralImage
from softras.fitting.observed.observation import observe
from softras.fitting.observed.observed_view import ObservedView, images_of
from softras.fitting.observed.renderer import SOFT_ON_CPU
from softras.fitting.observed.unit import UnitSpace


def overlaps(start: float, end: float, cells: int, size: int) -> np.ndarray:
    """(cells, size) lengths that each cell shares with each pixel."""
    ends = np.linspace(start, end, cells + 1)
    pixels = np.arange(size)
    return (np.minimum(ends[1:, None], pixels + 1) - np.maximum(ends[:-1, None], pixels)).clip(0)


@settings(deadline=None)
@given(
    st.integers(0, 1000),
    st.sampled_from([(1, 1), (BAND - 1, 5), (BAND, 40), (5 * BAND + 3, 61), (130, 7)]),
    st.tuples(*[st.floats(-150, 150)] * 2, *[st.floats(0.1, 200)] * 2),
    st.integers(1, 40),
)
def test_integrals_are_those_of_every_pixel_s_share(seed, shape, place, cells):
    random = np.random.default_rng(seed)
    image = random.random(shape).astype(np.float32)
    known = random.random(shape) > 0.4
    x0, y0, width, height = place
    box = (x0, y0, x0 + width, y0 + height)
    rows, columns = overlaps(y0, box[3], cells, shape[0]), overlaps(x0, box[2], cells, shape[1])
    for found, wanted in (
        (IntegralImage(image), image),
        (IntegralImage(known), known),
        (IntegralImage(image, known), image * known),
    ):
        expected = rows @ wanted.astype(float) @ columns.T
        np.testing.assert_allclose(found.over(box, cells), expected, atol=1e-9)


def test_a_table_is_small_and_large_sums_lose_nothing():
    """A twentieth of a pixel must show beside the ten million whole ones above it."""
    image = np.ones((10_000, 1000), np.float32)
    image[-1, -1] = 0.05
    table = IntegralImage(image)
    assert table.over((999, 9999, 1000, 10_000), 1)[0, 0] == pytest.approx(0.05, abs=1e-9)
    assert table.over((0, 0, 1000, 10_000), 1)[0, 0] == pytest.approx(10_000_000 - 0.95, abs=1e-6)
    assert table.bytes <= 0.6 * image.size


@pytest.fixture
def view(tmp_path) -> View:
    random = np.random.default_rng(0)
    photo = random.integers(0, 256, (60, 120, 3), dtype=np.uint8)  # twice as wide, and as high, as the mask
    Image.fromarray(photo).save(tmp_path / "photo.png")
    camera = replace(camera_around(np.zeros(3), 5, 0, 1, 60), height=30)
    mask = (random.random((30, 60)) > 0.5).astype(np.float32)
    return View("v", camera, mask, photo=tmp_path / "photo.png")


def test_a_copy_with_another_camera_remembers_and_one_with_another_mask_does_not(view):
    first = ObservedView.of(view)
    moved = replace(first, camera=replace(first.camera, near=0.5))
    assert images_of(moved) is images_of(first) and ObservedView.of(first) is first
    inverted = replace(first, mask=1 - first.mask)
    box = (-3.0, 2.0, 40.0, 45.0)
    mean, known = images_of(inverted).mean_mask(box, 9)
    again = images_of(view).mean_mask(box, 9)
    np.testing.assert_allclose(mean, np.where(known > 0, 1 - again[0], 0), atol=1e-9)
    np.testing.assert_array_equal(known, again[1])


def test_photographs_are_averaged_over_the_same_boxes_whatever_their_size(view):
    photo = np.asarray(Image.open(view.photo)) / 255
    colours = images_of(view).mean_photo((10.0, 5.0, 30.0, 25.0), 10)
    expected = photo[10:50, 20:60].reshape(10, 4, 10, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(np.moveaxis(colours, 0, -1), expected, atol=1e-9)
    seen = observe([view], np.zeros((1, 3)), UnitSpace(np.zeros(3), 1.0), 48, SOFT_ON_CPU)
    (box,) = seen.boxes
    np.testing.assert_allclose(seen.photos[0], images_of(view).mean_photo(box, 48), atol=1e-6)
    with pytest.raises(InputError, match="view 'v' has no photograph"):
        _ = replace(seen, views=[replace(view, photo=None)]).photos
    beyond = images_of(view).mean_photo((-20.0, 0.0, 20.0, 40.0), 2)
    assert not beyond[:, :, 0].any()  # outside the photograph
    np.testing.assert_allclose(beyond[:, 0, 1], photo[:40, :40].mean(axis=(0, 1)), atol=1e-9)
