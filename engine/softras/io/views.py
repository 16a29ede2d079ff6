"""Views are read from and written to folders with a cameras.json.

The file holds {"views": [{"name", "mask", "K", "R", "t", "width", "height", ...}]}: x_camera = R x + t,
pixel ~ K x_camera, OpenCV axes, **pixel centres on integers**, paths relative to the folder. Optional in a
view: "image" (the photograph), "weight", "ignore" (an image, white = no opinion), "orthographic", "near", "frame",
"landmarks" (a list of {"vertex", "pixel": [x, y], "weight"}); how its mask is read: "mask_channel" (auto, alpha, grey,
red, green or blue), "mask_threshold" (0..1), "mask_invert" (true or false), "mask_label" (the object's value in a map
of labels: a number, or a colour as "#ff0000"). These four may stand beside "views" too, for all views that say nothing
else. Images lie in the folder, or in folders that the caller allows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..camera import Camera
from ..checks import array, numbers, positive, text, whole
from ..conventions.extrinsics import rigid
from ..conventions.opencv import HALF_PIXEL
from ..errors import InputError
from ..files import inside, is_file, make_folder, path_from, photo_inside, read_json, write_json, write_png
from ..views import Landmark, View
from .masks import MaskReading, load_mask, read_mask


@dataclass(frozen=True)
class ListedView:
    """A view as its folder lists it: `View` with the paths of the images in place of the images."""

    name: str
    camera: Camera
    mask: Path
    photo: Path | None
    weight: float
    ignore: Path | None
    frame: int
    landmarks: tuple[Landmark, ...]
    reading: MaskReading


def load_views(
    folder: Path | str,
    *,
    mask_channel: str | None = None,
    mask_threshold: float | None = None,
    mask_invert: bool | None = None,
    mask_label: int | str | None = None,
    allow: Sequence[Path | str] = (),
) -> list[View]:
    """The views of a folder with a cameras.json (or the path of such a file).

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
    listed = list_views(folder, {key: value for key, value in given.items() if value is not None}, allow)
    with ThreadPoolExecutor() as pool:  # decoding images lets go of the interpreter
        return list(pool.map(_load_view, listed))


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
    entries = document.get("views")
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path} lists no views; add at least one camera with a mask.")
    return [_listed(path, number, entry, document, reading or {}, allow) for number, entry in enumerate(entries)]


def save_views(folder: Path | str, views: list[View]) -> None:
    """Write views as folder/cameras.json with masks/NUMBER.png (and ignore/NUMBER.png); photos stay where they are.

    `load_views` shows photographs outside the folder where their own folder is allowed.
    Raises InputError when the folder cannot be written.
    """
    folder = make_folder(folder)
    entries = []
    for number, view in enumerate(views):
        camera = view.camera
        entry: dict[str, Any] = {
            "name": view.name,
            "mask": _save_grey(folder, f"masks/{number:03d}.png", np.rint(view.mask * 255)),
            "K": (camera.K - HALF_PIXEL).tolist(),
            "R": camera.world_to_camera[:3, :3].tolist(),
            "t": camera.world_to_camera[:3, 3].tolist(),
            "width": int(camera.width),
            "height": int(camera.height),
            "near": float(camera.near),
        }
        if camera.orthographic:
            entry["orthographic"] = True
        if view.frame:
            entry["frame"] = view.frame
        if view.landmarks:
            entry["landmarks"] = [
                {"vertex": mark.vertex, "pixel": [x - 0.5 for x in mark.pixel], "weight": mark.weight}
                for mark in view.landmarks
            ]
        if view.photo is not None:
            entry["image"] = path_from(folder, view.photo)
        if view.weight != 1:
            entry["weight"] = float(view.weight)
        if view.ignore is not None:
            entry["ignore"] = _save_grey(folder, f"ignore/{number:03d}.png", view.ignore * 255)
        entries.append(entry)
    convention = (
        "OpenCV axes (x right, y down, z forward); x_camera = R x + t; pixel ~ K x_camera; pixel centres on integers"
    )
    write_json(folder / "cameras.json", {"convention": convention, "views": entries})


def _listed(
    path: Path,
    number: int,
    entry: Any,
    document: dict[str, Any],
    reading: Mapping[str, Any],
    allow: Sequence[Path | str],
) -> ListedView:
    if not isinstance(entry, dict):
        raise InputError(f"view {number} in {path} must be an object with a camera and a mask.")
    name = str(entry.get("name", number))
    if not isinstance(entry.get("mask"), str):
        raise InputError(f"view '{name}' in {path} has no mask; give the file name of its mask image.")
    try:
        camera = _camera(entry)
        how = _reading(reading, entry, document)
        weight = positive(f"the weight of view '{name}'", entry.get("weight", 1.0), zero=True)
        frame = whole(f"the frame of view '{name}'", entry.get("frame", 0), None)
        landmarks = _landmarks(name, entry.get("landmarks", []))
        mask, ignore = (_inside(path.parent, key, entry.get(key), allow) for key in ("mask", "ignore"))
    except InputError as error:
        raise InputError(f"view '{name}': {error}") from error
    assert mask is not None
    return ListedView(
        name=name,
        camera=camera,
        mask=mask,
        photo=photo_inside(path.parent, entry.get("image"), allow),
        weight=weight,
        ignore=ignore,
        frame=frame,
        landmarks=landmarks,
        reading=how,
    )


def _inside(folder: Path, key: str, name: Any, allow: Sequence[Path | str]) -> Path | None:
    return None if name is None else inside(folder, text(f"its {key}", name), allow)


def _reading(*levels: Mapping[str, Any]) -> MaskReading:
    """How a mask is read; of what several levels say the first one's word counts."""
    names = [field.name for field in fields(MaskReading)]
    said = [(name, level[f"mask_{name}"]) for level in reversed(levels) for name in names if f"mask_{name}" in level]
    return MaskReading(**dict(said))


def _landmarks(name: str, entries: Any) -> tuple[Landmark, ...]:
    if not isinstance(entries, list) or not all(isinstance(mark, dict) for mark in entries):
        raise InputError(f"the landmarks of view '{name}' must be a list of objects with a vertex and a pixel.")
    for mark in entries:
        if not {"vertex", "pixel"} <= set(mark):
            raise InputError(f"a landmark of view '{name}' lacks its vertex or its pixel.")
    pixels = [numbers("the pixel of a landmark", mark["pixel"], 2) for mark in entries]
    return tuple(
        Landmark(mark["vertex"], (x + 0.5, y + 0.5), mark.get("weight", 1.0))
        for mark, (x, y) in zip(entries, pixels, strict=True)
    )


def _load_view(listed: ListedView) -> View:
    try:
        size = (listed.camera.width, listed.camera.height)
        mask = read_mask(listed.mask, listed.reading, size)
        ignore = load_mask(listed.ignore, size=size) > 0.5 if listed.ignore else None
    except InputError as error:
        raise InputError(f"view '{listed.name}': {error}") from error
    return View(listed.name, listed.camera, mask, listed.photo, listed.weight, ignore, listed.frame, listed.landmarks)


def _camera(entry: dict[str, Any]) -> Camera:
    missing = [key for key in ("K", "R", "t", "width", "height") if key not in entry]
    if missing:
        raise InputError(f"its camera lacks {', '.join(missing)}; see the format in the documentation of load_views.")
    K, R = (array(f"its camera's {key}", entry[key], (3, 3)) for key in ("K", "R"))
    t = entry["t"]
    if isinstance(t, list):  # a column is fine too
        t = [row[0] if isinstance(row, list) and len(row) == 1 else row for row in t]
    t = array("its camera's t", t, (3,))
    return Camera(
        K=K + HALF_PIXEL,
        world_to_camera=rigid(R, t, "its camera's R"),
        width=entry["width"],
        height=entry["height"],
        orthographic=entry.get("orthographic", False),
        near=entry.get("near", 1e-3),
    )


def _save_grey(folder: Path, name: str, values: np.ndarray) -> str:
    make_folder(inside(folder, name.split("/")[0]))
    write_png(folder / name, values.astype(np.uint8))
    return name
