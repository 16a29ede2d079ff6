"""Integral images: sums, made once for an image, from which its integral over any box follows quickly."""

from __future__ import annotations

from functools import cached_property

import numpy as np

BAND = 16  # The table has one row for each so many rows of the image.
CACHED = 1 << 16  # Sums along rows are computed for so many pixels at a time, which fit the processor's cache.


class IntegralImage:
    """An image (H, W), constant within each pixel, and a table of the sums of its columns above every BAND-th row.

    A whole summed-area table (Crow, "Summed-area tables for texture mapping", SIGGRAPH 1984) makes the integral over
    any box a sum of four numbers, but takes 8 bytes a pixel in float64: 7 GB for 36 views of 24 megapixels. Float32
    would halve that and lose all precision in large images. One row of the table for every 16 of the image takes half a
    byte a pixel, 0.4 GB for these views; the rows between are added up from the image itself. The integrals over C x C
    cells of a box W pixels wide then cost some 8 C W additions; without a table they cost as many as the box has
    pixels. Boxes that have fewer are added up so, and the table is made when another one is asked for.
    """

    def __init__(self, image: np.ndarray, factor: np.ndarray | None = None) -> None:
        """The integral image of `image` (H, W) or, with a factor (H, W), of their product. Neither is copied."""
        self.shape = image.shape
        self._image, self._factor = image, factor

    @cached_property
    def _above(self) -> np.ndarray:
        """(bands, W) sums of the columns above every BAND-th row."""
        height, width = self.shape
        above = np.zeros((height // BAND + 1, width))
        for band in range(height // BAND):
            rows = self._rows(band * BAND, (band + 1) * BAND, 0, width)
            np.sum(rows, axis=0, dtype=np.float64, out=above[band + 1])
            above[band + 1] += above[band]
        return above

    @property
    def bytes(self) -> int:
        """How many bytes the table takes, without the image."""
        return self._above.nbytes

    def over(self, box: tuple[float, float, float, float], cells: int) -> np.ndarray:
        """(cells, cells) integrals over the equal cells of a box x0, y0, x1, y1 in pixels; outside, the image is 0."""
        x0, y0, x1, y1 = box
        height, width = self.shape
        left, right = int(np.clip(np.floor(x0), 0, width)), int(np.clip(np.ceil(x1), 0, width))
        top, bottom = int(np.clip(np.floor(y0), 0, height)), int(np.clip(np.ceil(y1), 0, height))
        if bottom - top <= BAND // 4 * cells:  # then they are about as many
            across = _along_rows(self._rows(top, bottom, left, right), x0 - left, x1 - left, cells)
            return _along_rows(across.T, y0 - top, y1 - top, cells).T
        above = np.stack([self._to(y, left, right) for y in np.linspace(y0, y1, cells + 1).clip(0, height)])
        return _along_rows(np.diff(above, axis=0), x0 - left, x1 - left, cells)

    def _to(self, y: float, left: int, right: int) -> np.ndarray:
        """(right - left,) integrals of the columns `left` to `right` from the image's top to y."""
        whole = int(y)
        band = whole // BAND
        total = self._above[band, left:right] + self._rows(band * BAND, whole, left, right).sum(
            axis=0, dtype=np.float64
        )
        return total if whole == y else total + (y - whole) * self._rows(whole, whole + 1, left, right)[0]

    def _rows(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        part = np.s_[top:bottom, left:right]
        return self._image[part] if self._factor is None else self._image[part] * self._factor[part]


def lengths_within(start: float, end: float, cells: int, size: int) -> np.ndarray:
    """(cells,) how much of each of the equal cells between `start` and `end` lies in 0..size."""
    return np.diff(np.linspace(start, end, cells + 1).clip(0, size))


def _along_rows(image: np.ndarray, start: float, end: float, cells: int) -> np.ndarray:
    """(H, cells) integrals of an image (H, W), along each row, over the equal cells between `start` and `end`."""
    width = image.shape[1]
    position = np.linspace(start, end, cells + 1).clip(0, width)
    whole = position.astype(int)
    part = position - whole
    result = np.empty((len(image), cells))
    step = max(1, CACHED // (width + 2))
    for top in range(0, len(image), step):
        rows = image[top : top + step]
        total = np.zeros((len(rows), width + 2))
        np.cumsum(rows, axis=1, out=total[:, 1:-1], dtype=np.float64)
        total[:, -1] = total[:, -2]
        result[top : top + step] = np.diff(total[:, whole] * (1 - part) + total[:, whole + 1] * part, axis=1)
    return result
