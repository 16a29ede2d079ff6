"""Outlines lie where the shape ends, between the centres of pixels too."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from softras import Camera
from softras.raster.coverage.ops import coverage
from softras.render.silhouette import camera_tensors
from softras.report.outlines import stroke

SIZE, MIDDLE = 60, np.array([30.3, 29.6])


def line_along(corners: np.ndarray, width: float) -> np.ndarray:
    """(h, w) in 0..1 how much of each pixel the outline of a flat convex polygon (K, 2) covers."""
    before = np.eye(4)
    before[2, 3] = 5
    camera = Camera(np.eye(3), before, SIZE, SIZE, orthographic=True)
    vertices = torch.tensor(np.pad(corners, ((0, 0), (0, 1))))
    faces = torch.tensor([[0, k, k + 1] for k in range(1, len(corners) - 1)])
    areas = coverage(vertices, faces, height=SIZE, width=SIZE, **camera_tensors([camera], torch.float64, "cpu"))
    black = np.zeros((SIZE, SIZE, 3), np.float32)  # on which the rim, which is black, is not seen
    return stroke(black, areas[0].numpy(), (255, 255, 255), width)[..., 0] / 255


@pytest.mark.parametrize("degrees", [0, 10, 27, 45, 63, 80, 90, 135, 200])
def test_a_line_runs_along_a_straight_side_to_a_tenth_of_a_pixel(degrees: float) -> None:
    """The shape is all that lies on one side of a line through MIDDLE."""
    out = np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
    along = np.array([-out[1], out[0]])
    corners = MIDDLE + 200 * np.array([along, -along, -along - out, along - out])
    line = line_along(corners, 3)
    middle = MIDDLE
    if abs(out[0]) < abs(out[1]):  # A level line is looked at column by column, as an upright one is row by row.
        line, out, middle = line.T, out[::-1], middle[::-1]
    places = np.arange(SIZE) + 0.5
    rows = slice(12, 48)
    true = middle[0] - (places[rows] - middle[1]) * out[1] / out[0]
    np.testing.assert_allclose(line[rows] @ places / line[rows].sum(axis=1), true, atol=0.1)
    np.testing.assert_allclose(line[rows].sum(axis=1) * abs(out[0]), 3, atol=0.2)


def test_a_wire_thinner_than_a_pixel_has_one_line() -> None:
    wire = np.array([(20.3, 5), (20.7, 5), (20.7, 55), (20.3, 55)])
    rows = line_along(wire, 2)[10:50]
    np.testing.assert_allclose(rows @ (np.arange(SIZE) + 0.5) / rows.sum(axis=1), 20.5, atol=0.05)
    np.testing.assert_allclose(rows.sum(axis=1), 2, atol=0.1)


def test_what_the_picture_cuts_off_has_no_outline_there() -> None:
    beyond = np.array([(-9, 20), (99, 20), (99, 99), (-9, 99.0)])
    line = line_along(beyond, 3)
    assert (line[19:21] == 1).all() and line[23:].max() == 0
    assert line_along(beyond + np.array([0, 90]), 3).max() == 0
