"""Views are written to documents and read from them: the cameras.json of a views folder and the job.json of a job.

A document holds {"version": 2, "views": [...]} among other things. Each view is an object with the fields of
`softras.View` under their own names:

- "name": how messages and reports call the view.
- "camera": an object with the fields of `softras.Camera`, "K" (3 x 3, in pixels), "world_to_camera" (4 x 4, in OpenCV's
  axes: x right, y down, z forward), "width" and "height"; also "orthographic" (false) and "near" (0.001) if they are
  not the values in brackets. The pixel of a world point x is K (R x + t), divided by its last number. Pixel
  coordinates are continuous and begin at the **top-left corner** of the image: the centre of the first pixel is
  (0.5, 0.5).
- "mask": the file name of an image, relative to the folder of the document. So are "ignore" (an image, white = no
  opinion) and "photo" (a photograph to show in reports), which may be missing.
- "weight" (1), "frame" (0) and "landmarks" (a list of {"vertex", "pixel": [x, y], "weight"}), which may be missing.
- How the mask is read, if not as `softras.io.masks` does by itself: "mask_channel" (auto, alpha, grey, red, green or
  blue), "mask_threshold" (0..1), "mask_invert" (true or false), "mask_label" (the object's value in a map of labels: a
  number, or a colour as "#ff0000"). These four may stand beside "views" too, for all views that say nothing else.

Images lie in the folder of the document, or in folders that the caller allows. A document without a version is older
and is read as `softras.io.old_views` describes.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..camera import ROTATION_TOLERANCE, Camera, camera_from_json, camera_to_json
from ..checks import array, text, whole
from ..conventions.extrinsics import rigid
from ..errors import InputError
from ..files import (
    inside,
    is_file,
    link_or_copy,
    make_folder,
    path_from,
    photo_inside,
    read_json,
    write_json,
    write_png,
)
from ..views import IMAGES, Landmark, View, checked_values
from .masks import MaskReading, load_mask, read_mask
from .old_views import upgraded

VERSION = 2  # of the list of views in a document
_CONVENTION = (
    "OpenCV axes (x right, y down, z forward); x_camera = world_to_camera x; pixel ~ K x_camera; "
    "pixel (0, 0) is the top-left corner of the image, the first pixel's centre is (0.5, 0.5)"
)


@dataclass(frozen=True)
class ListedView:
    """A view as a document lists it: the fields of `View`, with the paths of images in place of images.

    Attributes:
        mask, ignore: the paths of the images.
        reading: how the mask is read from its image.
    """

    name: str
    camera: Camera
    mask: Path
    photo: Path | None
    weight: float
    ignore: Path | None
    frame: int
    landmarks: tuple[Landmark, ...]
    reading: MaskReading

    def load(self) -> View:
        """The view with its images. Raises InputError, naming the view, when one cannot be read or has another size."""
        values = {field.name: getattr(self, field.name) for field in fields(View)}
        size = (self.camera.width, self.camera.height)
        with _naming(self.name):
            values["mask"] = read_mask(self.mask, self.reading, size)
            values["ignore"] = load_mask(self.ignore, size=size) > 0.5 if self.ignore else None
        return View(**values)


def load_views(
    folder: Path | str,
    *,
    mask_channel: str | None = None,
    mask_threshold: float | None = None,
    mask_invert: bool | None = None,
    mask_label: int | str | None = None,
    allow: Sequence[Path | str] = (),
) -> list[View]:
    """The views of a folder with a cameras.json (or the path of such a file); docs/views.md describes the file.

    Args:
        folder: where the cameras.json is.
        mask_channel: how the masks are read, as all that follow: see `softras.io.masks.MaskReading`. What is given
            here goes before what cameras.json says.
        mask_threshold: the same.
        mask_invert: the same.
        mask_label: the same.
        allow: folders that images may lie in beside that of the cameras.json. A photograph elsewhere is not shown, with
            a warning; a mask elsewhere is an error: a folder from elsewhere must not read other files of this machine.

    Raises InputError, naming the view, when something is missing, unreadable, of the wrong size or in another folder.
    """
    given = {
        "mask_channel": mask_channel,
        "mask_threshold": mask_threshold,
        "mask_invert": mask_invert,
        "mask_label": mask_label,
    }
    return loaded(list_views(folder, {key: value for key, value in given.items() if value is not None}, allow))


def list_views(
    folder: Path | str, reading: Mapping[str, Any] | None = None, allow: Sequence[Path | str] = ()
) -> list[ListedView]:
    """What `load_views` would load, no image opened: for programs that read images themselves.

    Args:
        folder: as of `load_views`.
        reading: those of its arguments about masks that are given.
        allow: as of `load_views`.

    Raises InputError, naming the view, when something is missing.
    """
    path = Path(folder)
    if path.suffix.lower() != ".json":
        if not path.is_dir():
            raise InputError(f"the views folder {path} does not exist.")
        path = path / "cameras.json"
    if not is_file(path):
        raise InputError(f"there is no {path}; a views folder needs a cameras.json that lists cameras and masks.")
    document = read_json(path)
    if not isinstance(document.get("views"), list) or not document["views"]:
        raise InputError(f"{path} lists no views; add at least one camera with a mask.")
    return views_in(document, path, reading or {}, allow)


def save_views(folder: Path | str, views: Sequence[View], *, self_contained: bool = False) -> None:
    """Write views as folder/cameras.json with masks/NUMBER.png (and ignore/NUMBER.png).

    Args:
        folder: created if missing.
        views: what to write; masks are kept to 1/255.
        self_contained: put the photographs into the folder too, so that it can be copied to another machine. Otherwise
            photographs stay where they are, and `load_views` shows those outside the folder where their own folder is
            allowed.

    Raises InputError when the folder cannot be written.
    """
    folder = make_folder(folder)
    write_json(folder / "cameras.json", {"convention": _CONVENTION, **views_document(folder, views, self_contained)})


def views_document(folder: Path, views: Sequence[View], self_contained: bool) -> dict[str, Any]:
    """The part of a document that describes views, and which `views_in` reads; their images are written into folder.

    Args:
        folder: of the document.
        views: as of `save_views`.
        self_contained: put the photographs into the folder too, by hard links where the disk allows it.
    """
    photos = [view.photo for view in views if view.photo is not None]
    names = _store_photos(folder, views) if self_contained else {photo: path_from(folder, photo) for photo in photos}
    entries = []
    for number, view in enumerate(views):
        entry: dict[str, Any] = {"name": view.name, "mask": _save_grey(folder, "masks", number, view.mask)}
        if view.ignore is not None:
            entry["ignore"] = _save_grey(folder, "ignore", number, view.ignore)
        if view.photo is not None and view.photo in names:
            entry["photo"] = names[view.photo]
        for field in fields(View):
            value = getattr(view, field.name)
            if field.name not in (*IMAGES, "name", "photo") and value != field.default:
                entry[field.name] = _WRITTEN[field.name](value) if field.name in _WRITTEN else value
        entries.append(entry)
    return {"version": VERSION, "views": entries}


def views_in(
    document: Mapping[str, Any], path: Path, reading: Mapping[str, Any], allow: Sequence[Path | str]
) -> list[ListedView]:
    """The views that a document lists, no image opened.

    Args:
        document: what is in the file path; its "views" is a list.
        path: of the document; images lie in its folder.
        reading: how masks are read, before what the document says: "mask_channel" and so on.
        allow: folders that images may lie in beside that of the document.

    Raises InputError, naming the view, when something is missing or wrong.
    """
    version = whole(f"the version of {path}", document.get("version", 1), 1)
    if version > VERSION:
        raise InputError(f"{path} is of version {version}, and this Softras reads none above {VERSION}; update it.")

    def listed(number: int, entry: Any) -> ListedView:
        if not isinstance(entry, dict):
            raise InputError(f"view {number} in {path} must be an object with a camera and a mask.")
        name = str(entry.get("name", number))
        with _naming(name):
            if version < VERSION:
                entry = upgraded(entry, number, of_job="protocol" in document)
        if not isinstance(entry.get("mask"), str):
            raise InputError(f"view '{name}' in {path} has no mask; give the file name of its mask image.")
        return _listed(name, entry, path.parent, _reading(reading, entry, document), allow)

    return [listed(number, entry) for number, entry in enumerate(document["views"])]


def loaded(listed: Iterable[ListedView]) -> list[View]:
    """The views with their images."""
    with ThreadPoolExecutor() as pool:  # decoding images lets go of the interpreter
        return list(pool.map(ListedView.load, listed))


def _listed(
    name: str, entry: dict[str, Any], folder: Path, reading: Mapping[str, Any], allow: Sequence[Path | str]
) -> ListedView:
    values = {field.name: entry[field.name] for field in fields(View) if field.name in entry}
    values["name"] = name
    with _naming(name):
        how = MaskReading(**reading)
        values["camera"] = _camera(entry.get("camera"))
        values["landmarks"] = _landmarks(entry.get("landmarks", []))
        values["photo"] = photo_inside(folder, entry.get("photo"), allow)
    values = checked_values(values)  # whose errors name the view by themselves
    with _naming(name):
        for key in IMAGES:
            image = entry.get(key)
            values[key] = None if image is None else inside(folder, text(f"its {key}", image), allow)
    return ListedView(**values, reading=how)


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Errors that do not say so by themselves say which view they are about."""
    try:
        yield
    except InputError as error:
        raise InputError(f"view '{name}': {error}") from error


def _reading(*levels: Mapping[str, Any]) -> dict[str, Any]:
    """How a mask is read, as arguments of MaskReading; of what several levels say the first one's word counts."""
    names = [field.name for field in fields(MaskReading)]
    return {name: level[f"mask_{name}"] for level in reversed(levels) for name in names if f"mask_{name}" in level}


def _camera(value: Any) -> Camera:
    """The camera; a rotation that was rounded, as to four digits of a text file, becomes the nearest exact one."""
    if isinstance(value, dict) and "world_to_camera" in value:
        matrix = array("its camera's world_to_camera", value["world_to_camera"], (4, 4))
        R, t = matrix[:3, :3], matrix[:3, 3]
        if np.abs(R @ R.T - np.eye(3)).max() > ROTATION_TOLERANCE:
            matrix[:3] = rigid(R, t, "the upper left 3 x 3 of its camera's world_to_camera")[:3]
        value = value | {"world_to_camera": matrix}
    return camera_from_json(value)


def _landmarks(entries: Any) -> tuple[Landmark, ...]:
    if not isinstance(entries, list) or not all(isinstance(mark, dict) for mark in entries):
        raise InputError("its landmarks must be a list of objects with a vertex and a pixel.")
    if not all({"vertex", "pixel"} <= set(mark) for mark in entries):
        raise InputError("one of its landmarks lacks its vertex or its pixel.")
    return tuple(Landmark(mark["vertex"], mark["pixel"], mark.get("weight", 1.0)) for mark in entries)


# How the fields of a view that are no numbers are written.
_WRITTEN: dict[str, Callable[[Any], Any]] = {
    "camera": camera_to_json,
    "landmarks": lambda landmarks: [asdict(mark) for mark in landmarks],
}


def _save_grey(folder: Path, kind: str, number: int, values: np.ndarray) -> str:
    """Write values 0..1 as an image in the folder kind; returns its name.

    Files are numbered, since the name of a view is the user's text and must never become a path.
    """
    make_folder(inside(folder, kind))
    name = f"{kind}/{number:03d}.png"
    write_png(folder / name, np.rint(values * np.float32(255)).astype(np.uint8))
    return name


def _store_photos(folder: Path, views: Sequence[View]) -> dict[Path, str]:
    """Put the photographs of views into folder, those that exist and are not there yet; returns their names there."""
    root = folder.resolve()
    photos = [(number, view.photo) for number, view in enumerate(views) if view.photo and is_file(view.photo)]
    sources = {photo: photo.resolve() for _, photo in photos}
    names = {source: path_from(folder, source) for source in sources.values() if source.is_relative_to(root)}
    for number, photo in photos:
        source = sources[photo]
        if source not in names:  # a photograph of several views is stored once
            ending = source.suffix.lower() if re.fullmatch(r"\.\w{1,5}", source.suffix) else ""
            numbered = (f"photos/{count:03d}{ending}" for count in itertools.count(number))
            names[source] = next(name for name in numbered if name not in names.values())
            make_folder(inside(folder, "photos"))
            link_or_copy(source, folder / names[source])
    return {photo: names[source] for photo, source in sources.items()}
