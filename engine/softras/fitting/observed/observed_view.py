"""Views of a fit: each crop averages their images anew over other cells, from integral images that are made once."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np

from ...io.images import load_colours
from ...views import View
from .integral import IntegralImage, lengths_within

Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels of the image; it may extend beyond the image.
UNKNOWN = 1e-6  # A cell of which less than this share is known counts as unknown: the rest is rounding.


class ViewImages:
    """What is computed from the images of a view, each at its first use.

    Attributes:
        mask, ignore, photo: as in `View`.
    """

    def __init__(self, mask: np.ndarray, ignore: np.ndarray | None, photo: Path | None) -> None:
        self.mask, self.ignore, self.photo = mask, ignore, photo

    def are_of(self, view: View) -> bool:
        """Whether these are the very images of a view."""
        return self.mask is view.mask and self.ignore is view.ignore and self.photo == view.photo

    @cached_property
    def bounds(self) -> np.ndarray:
        """(2, 2) low and high (x, y) of the mask's bounding box in pixels; the whole image where the mask is empty."""
        inside = self.mask > 0.5 if self.ignore is None else (self.mask > 0.5) & ~self.ignore
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        if not len(rows):
            return np.array([[0.0, 0.0], self.mask.shape[::-1]])
        return np.array([[columns[0], rows[0]], [columns[-1] + 1.0, rows[-1] + 1.0]])

    def mean_mask(self, box: Box, cells: int) -> tuple[np.ndarray, np.ndarray]:
        """The mask, averaged over each of S x S equal cells of a box (S = `cells`).

        Returns:
            (S, S) mean of the mask over the known part of each cell (0 where nothing is known), and
            (S, S) share of the cell that is known: inside the image and not ignored.
        """
        x0, y0, x1, y1 = box
        area = (x1 - x0) * (y1 - y0) / cells**2
        known = self._area_within(box, cells) if self._known is None else self._known.over(box, cells)
        mask = self._masked.over(box, cells)
        mean = np.divide(mask, known, out=np.zeros_like(mask), where=known > UNKNOWN * area)
        return mean.clip(0, 1), (known / area).clip(0, 1)

    def mean_photo(self, box: Box, cells: int) -> np.ndarray:
        """(3, S, S) mean colours, in 0..1, of the photograph over the part of each cell that lies inside the image."""
        if self.photo is None:
            raise ValueError("the view has no photograph")
        height, width = self._colours[0].shape
        down, across = height / self.mask.shape[0], width / self.mask.shape[1]  # The resolutions may differ.
        x0, y0, x1, y1 = box
        scaled = (x0 * across, y0 * down, x1 * across, y1 * down)
        inside = np.outer(
            lengths_within(scaled[1], scaled[3], cells, height), lengths_within(scaled[0], scaled[2], cells, width)
        )
        colours = np.stack([channel.over(scaled, cells) for channel in self._colours])
        return np.divide(colours, 255 * inside, out=np.zeros_like(colours), where=inside > 0).clip(0, 1)

    def _area_within(self, box: Box, cells: int) -> np.ndarray:
        """(S, S) the area of the part of each cell that lies inside the image, in square pixels."""
        x0, y0, x1, y1 = box
        height, width = self.mask.shape
        return np.outer(lengths_within(y0, y1, cells, height), lengths_within(x0, x1, cells, width))

    @cached_property
    def _masked(self) -> IntegralImage:
        return IntegralImage(self.mask, None if self.ignore is None else ~self.ignore)

    @cached_property
    def _known(self) -> IntegralImage | None:
        return None if self.ignore is None else IntegralImage(~self.ignore)

    @cached_property
    def _colours(self) -> list[IntegralImage]:
        assert self.photo is not None
        return [IntegralImage(channel) for channel in np.moveaxis(load_colours(self.photo), -1, 0)]


@dataclass(eq=False)
class ObservedView(View):
    """A view that keeps what was computed from its images.

    A copy by `dataclasses.replace` with another camera shares the images; a copy with another mask has its own.
    """

    images: ViewImages | None = None

    def __post_init__(self) -> None:
        if self.images is None or not self.images.are_of(self):  # Shared images belong to a view that was checked.
            super().__post_init__()
            self.images = ViewImages(self.mask, self.ignore, self.photo)

    @classmethod
    def of(cls, view: View) -> ObservedView:
        """The same view as an ObservedView."""
        if isinstance(view, ObservedView):
            return view
        known = {field.name: getattr(view, field.name) for field in fields(View)}
        return cls(**known, images=ViewImages(view.mask, view.ignore, view.photo))


def images_of(view: View) -> ViewImages:
    """The images of a view; the images of an `ObservedView` remember what was computed from them."""
    if isinstance(view, ObservedView) and view.images is not None:
        return view.images
    return ViewImages(view.mask, view.ignore, view.photo)
