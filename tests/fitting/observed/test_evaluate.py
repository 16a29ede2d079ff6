"""How well a mesh matches masks: by the centres of pixels, and by areas."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from softras import Camera, Mesh, View, measure


def from_ahead(size: int) -> Camera:
    """A camera in which one unit of the world is one pixel, with x to the right and y down from the image's corner."""
    return Camera(np.eye(3), np.eye(4) + np.eye(4, k=1) * [[0], [0], [5], [0]], size, size, orthographic=True)


def strips(boxes: list[tuple[float, float, float, float]]) -> Mesh:
    """A flat mesh of upright rectangles (left, top, right, bottom)."""
    corners = [[(x0, y0, 0), (x1, y0, 0), (x1, y1, 0), (x0, y1, 0)] for x0, y0, x1, y1 in boxes]
    faces = [[4 * k + i for i in face] for k in range(len(boxes)) for face in ((0, 1, 2), (0, 2, 3))]
    return Mesh(np.array(corners, dtype=float).reshape(-1, 3), np.array(faces))


def test_a_fence_of_thin_wires_matches_its_own_mask_by_area_alone() -> None:
    """Wires 0.4 pixels wide cover no pixel's centre, and fill more than half of a pixel only where they cross."""
    size, width, places = 40, 0.4, np.arange(4, 36, 6) + 0.05
    fence = strips([(x, 0, x + width, size) for x in places] + [(0, y, size, y + width) for y in places])
    inside = np.zeros(size)
    inside[places.astype(int)] = width
    mask = 1 - np.outer(1 - inside, 1 - inside)  # what is covered by upright wires, by level ones, or by both
    view = View("fence", from_ahead(size), mask)
    found = measure(fence, [view])
    assert found.iou == 0
    assert found.iou_by_area == pytest.approx(1, abs=1e-4)
    beside = measure(Mesh(np.add(fence.vertices, [0.75, 0, 0]), fence.faces), [view])  # each half into the next pixel
    assert 0.4 < beside.mean_iou_by_area < 0.8


def test_areas_are_compared_pixel_by_pixel_where_they_are_known() -> None:
    """A square of 10 x 10 pixels that lies a quarter of a pixel beside its mask: no centre changes sides."""
    mask = np.zeros((20, 20))
    mask[4:14, 4:14] = 1
    view = View("square", from_ahead(20), mask)
    found = measure(strips([(4.25, 4, 14.25, 14)]), [view])
    assert found.iou == 1
    assert found.iou_by_area == pytest.approx(97.5 / 102.5, abs=1e-5)
    ignore = np.zeros((20, 20), dtype=bool)
    ignore[:, 13:] = True
    found = measure(strips([(4.25, 4, 14.25, 14)]), [dataclasses.replace(view, ignore=ignore)])
    assert found.iou_by_area == pytest.approx(87.5 / 90, abs=1e-5)
    half = measure(strips([(4, 4, 14, 14)]), [dataclasses.replace(view, mask=mask * 0.6)])
    assert found.iou == half.iou == 1 and half.iou_by_area == pytest.approx(0.6, abs=1e-5)
