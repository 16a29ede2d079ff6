"""A report on a fit or a measurement: two pictures for each view, and a page that shows them with numbers and charts.

The first picture is the photograph (or the mask) with the outlines of the mesh before and after the fit, the second the
map of errors. Both are PNG files beside report.html, which holds smaller copies of them.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..camera import Camera
from ..files import make_folder, write_png, write_text
from ..fitting.observed.evaluate import covered, covered_areas, intersection_over_union, iou_by_area
from ..io.images import load_colours
from ..mesh import Mesh
from ..rig import Rig, mesh_in_world
from ..views import View
from .outlines import stroke
from .page import Card, page

if TYPE_CHECKING:
    from ..fitting.progress import FitResult

PICTURE = 560  # The longer side of a picture in pixels,
SMALL_PICTURE = 400  # and with more than MANY_VIEWS views.
MANY_VIEWS = 24
FIT_COLOUR, START_COLOUR = (25, 200, 255), (255, 165, 30)
MISSING_COLOUR, EXCESS_COLOUR = (230, 60, 60), (50, 110, 235)
AGREE_COLOUR, EMPTY_COLOUR, IGNORE_COLOUR = (196, 200, 206), (24, 27, 32), (92, 84, 60)


@dataclass(frozen=True)
class _Window:
    """The part of a view's image that pictures show, in pixels, and the size of the picture."""

    x0: int
    y0: int
    x1: int
    y1: int
    width: int
    height: int

    def cut(self, image: np.ndarray) -> np.ndarray:
        return image[self.y0 : self.y1, self.x0 : self.x1]

    def camera(self, camera: Camera) -> Camera:
        return camera.crop(self.x0, self.y0, self.x1, self.y1, self.width, self.height)


def write_report(folder: Path | str, views: Sequence[View], start: Mesh | Rig | None, result: FitResult) -> Path:
    """Write report.html, overview.png and two PNGs per view into folder; returns the path of report.html.

    Args:
        folder: the folder, which is created if it is missing.
        views: the views as given, with the cameras before the fit.
        start: the mesh or the rig before the fit, or None if there was none.
        result: the result of the fit.

    Raises InputError when the folder cannot be written.
    """
    start_mesh = None if start is None else mesh_in_world(start)
    fitted = {view.frame: result.mesh_in(view.frame) for view in views}
    cards = _write_pictures(make_folder(folder), views, start_mesh, fitted, result.cameras, result.iou)
    legend = {"fitted outline": FIT_COLOUR} | ({} if start is None else {"start outline": START_COLOUR})
    title = f"{'Reconstructed' if start is None else 'Refined'} from {len(views)} silhouettes"
    seconds, history = result.elapsed, result.history
    text = page(title, cards, result.mesh, _legend(legend, views), result.notes, seconds, history)
    return _write_page(folder, text)


def write_measurement(
    folder: Path | str, views: Sequence[View], meshes: Mapping[int, Mesh], iou: Sequence[float] | np.ndarray
) -> Path:
    """As `write_report`, for meshes (by frame) that were only compared with the views."""
    cameras = [view.camera for view in views]
    cards = _write_pictures(make_folder(folder), views, None, meshes, cameras, iou)
    title = f"Measured against {len(views)} silhouettes"
    legend = _legend({"outline of the mesh": FIT_COLOUR}, views)
    return _write_page(folder, page(title, cards, meshes[views[0].frame], legend))


def _write_page(folder: Path | str, text: str) -> Path:
    path = Path(folder) / "report.html"
    write_text(path, text)
    return path


def _write_pictures(
    folder: Path,
    views: Sequence[View],
    start: Mesh | None,
    fitted: Mapping[int, Mesh],
    cameras: Sequence[Camera],
    iou: Sequence[float] | np.ndarray,
) -> list[Card]:
    """Write the pictures of all views; returns what the page shows of each.

    Args:
        folder: the folder, which exists.
        views: the views, with the cameras before the fit.
        start: the mesh before the fit, or None.
        fitted: the meshes after the fit, by frame.
        cameras: the camera of each view after the fit.
        iou: (N,) the IoU of the views after the fit.
    """
    size = PICTURE if len(views) <= MANY_VIEWS else SMALL_PICTURE

    def draw(pair: tuple[View, Camera]) -> _Pictures:
        view, camera = pair
        return _draw(view, start, fitted[view.frame], camera, size)

    with ThreadPoolExecutor() as pool:  # Threads help: drawing and compressing release Python's interpreter lock.
        pictures = list(pool.map(draw, zip(views, cameras, strict=True)))
        names = [f"{number:03d}" for number in range(len(views))]
        written = [
            pool.submit(write_png, folder / f"{name}-{kind}.png", pixels)
            for name, picture in zip(names, pictures, strict=True)
            for kind, pixels in (("outline", picture.outline), ("error", picture.error))
        ]
        embedded = list(pool.map(lambda p: (_data_url(p.outline), _data_url(p.error)), pictures))
        for future in written:
            future.result()
    write_png(folder / "overview.png", _overview([picture.outline for picture in pictures]))
    return [
        Card(
            name=view.name,
            start_iou=picture.start_iou,
            iou=float(at_end),
            iou_by_area=picture.iou_by_area,
            outline=outline,
            error=error,
            outline_file=f"{name}-outline.png",
            error_file=f"{name}-error.png",
        )
        for view, picture, at_end, name, (outline, error) in zip(views, pictures, iou, names, embedded, strict=True)
    ]


@dataclass(frozen=True, eq=False)
class _Pictures:
    outline: np.ndarray
    error: np.ndarray
    start_iou: float | None
    iou_by_area: float


def _draw(view: View, start: Mesh | None, fitted: Mesh, camera: Camera, size: int) -> _Pictures:
    """The pictures of one view; camera: that of the view after the fit; size: of the longer side, in pixels."""
    mask = view.mask > 0.5
    silhouette = _silhouette(fitted, camera)
    at_start = None if start is None else _silhouette(start, view.camera)
    window = _window(mask | silhouette, at_start, view.camera, size)
    picture = _background(view, window)
    if start is not None:
        picture = stroke(picture, _areas(start, window.camera(view.camera)), START_COLOUR, size / 230)
    picture = stroke(picture, _areas(fitted, window.camera(camera)), FIT_COLOUR, size / 160)
    return _Pictures(
        outline=picture.round().astype(np.uint8),
        error=_error_map(mask, silhouette, view.ignore, window),
        start_iou=None if at_start is None else intersection_over_union(at_start, view),
        iou_by_area=iou_by_area(_areas(fitted, camera), view),
    )


def _silhouette(mesh: Mesh, camera: Camera) -> np.ndarray:
    """(H, W) bool the hard silhouette of a mesh."""
    return covered(mesh.vertices, mesh.faces, [camera])[0]


def _areas(mesh: Mesh, camera: Camera) -> np.ndarray:
    """(H, W) in 0..1 the part of each pixel that a mesh covers."""
    return covered_areas(mesh.vertices, mesh.faces, camera)


def _window(shown: np.ndarray, at_start: np.ndarray | None, camera: Camera, size: int) -> _Window:
    """The window around the pixels `shown` (H, W), with a margin and with as much of the start as lies near.

    Args:
        at_start: (H, W) bool the silhouette before the fit, or None.
        size: the longer side of the picture in pixels.
    """
    x0, y0, x1, y1 = _box(shown)
    near = max(x1 - x0, y1 - y0) // 3
    if at_start is not None and at_start.any():
        start = _box(at_start)
        x0, y0 = min(x0, max(start[0], x0 - near)), min(y0, max(start[1], y0 - near))
        x1, y1 = max(x1, min(start[2], x1 + near)), max(y1, min(start[3], y1 + near))
    margin = max(3, round(0.06 * max(x1 - x0, y1 - y0)))
    x0, y0 = max(0, x0 - margin), max(0, y0 - margin)
    x1, y1 = min(camera.width, x1 + margin), min(camera.height, y1 + margin)
    scale = size / max(x1 - x0, y1 - y0)
    return _Window(x0, y0, x1, y1, max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale)))


def _box(shown: np.ndarray) -> tuple[int, int, int, int]:
    """The bounding box (left, top, right, bottom) of the True pixels of (H, W) bool; the whole image without any."""
    if not shown.any():
        return 0, 0, shown.shape[1], shown.shape[0]
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _background(view: View, window: _Window) -> np.ndarray:
    """(h, w, 3) float 0..255 the photograph in the window, or the mask in dark greys."""
    if view.photo is not None:
        photo = Image.fromarray(load_colours(view.photo))
        scale = (photo.width / view.camera.width, photo.height / view.camera.height)
        box = (window.x0 * scale[0], window.y0 * scale[1], window.x1 * scale[0], window.y1 * scale[1])
        return np.asarray(photo.resize((window.width, window.height), Image.Resampling.BICUBIC, box)).astype(np.float32)
    empty, full = np.array(EMPTY_COLOUR, np.float32), np.array((120, 124, 130), np.float32)
    shades = empty + window.cut(view.mask)[..., None] * (full - empty)
    return _enlarge(shades.round().astype(np.uint8), window).astype(np.float32)


def _error_map(mask: np.ndarray, silhouette: np.ndarray, ignore: np.ndarray | None, window: _Window) -> np.ndarray:
    """(h, w, 3) uint8 where mask and silhouette agree, and where they differ, by colours."""
    colours = np.array([EMPTY_COLOUR, MISSING_COLOUR, EXCESS_COLOUR, AGREE_COLOUR, IGNORE_COLOUR], np.uint8)
    kind = mask.astype(np.uint8) + 2 * silhouette.astype(np.uint8)
    if ignore is not None:
        kind[ignore] = 4
    return _enlarge(colours[window.cut(kind)], window)


def _enlarge(pixels: np.ndarray, window: _Window) -> np.ndarray:
    """The pixels scaled to the size of the window's picture; enlarged ones stay squares, as they were compared."""
    shrink = window.width < pixels.shape[1]
    method = Image.Resampling.BOX if shrink else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(pixels).resize((window.width, window.height), method))


def _overview(pictures: list[np.ndarray], most: int = 12, cell: int = 320, gap: int = 8) -> np.ndarray:
    """One picture of up to `most` of the pictures, evenly chosen, in cells of `cell` pixels."""
    chosen = [
        pictures[i] for i in np.unique(np.linspace(0, len(pictures) - 1, min(most, len(pictures))).round().astype(int))
    ]
    columns = min(4, len(chosen))
    rows = -(-len(chosen) // columns)
    sheet = Image.new("RGB", (columns * (cell + gap) + gap, rows * (cell + gap) + gap), EMPTY_COLOUR)
    for number, pixels in enumerate(chosen):
        picture = Image.fromarray(pixels)
        picture.thumbnail((cell, cell), Image.Resampling.LANCZOS)
        x, y = gap + number % columns * (cell + gap), gap + number // columns * (cell + gap)
        sheet.paste(picture, (x + (cell - picture.width) // 2, y + (cell - picture.height) // 2))
    return np.asarray(sheet)


def _data_url(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=88, method=2)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _legend(outlines: dict[str, tuple[int, int, int]], views: Sequence[View]) -> dict[str, str]:
    """What each colour means, and the colour in the page's notation; outlines: the colours of the lines."""
    named = outlines | {"agrees": AGREE_COLOUR, "missing": MISSING_COLOUR, "excess": EXCESS_COLOUR}
    if any(view.ignore is not None for view in views):
        named["ignored"] = IGNORE_COLOUR
    return {name: "#{:02x}{:02x}{:02x}".format(*colour) for name, colour in named.items()}
