"""How documents of version 1 list views, in terms of version 2 (softras/io/views.py).

In a cameras.json of version 1 the camera is spread over the view: "K", "R", "t" (x_camera = R x + t), "width",
"height", "orthographic" and "near". The pixel coordinates of "K" and of landmarks have **pixel centres on integers**,
as OpenCV has them, and the photograph is called "image". Scripts that take cameras from OpenCV find this form handy, so
it stays readable for good.

In a job.json of version 1 the masks are masks/0000.npy and so on, numbered as the views, and "ignore" is true where
there is an ignore/0000.npy.
"""

from __future__ import annotations

from typing import Any

from ..checks import array, flag, numbers
from ..conventions.extrinsics import rigid
from ..conventions.opencv import HALF_PIXEL
from ..errors import InputError

_CAMERA = ("K", "R", "t", "width", "height")  # what a camera of version 1 must have


def upgraded(entry: dict[str, Any], number: int, *, of_job: bool) -> dict[str, Any]:
    """A view of a document of version 1 as version 2 has it; InputError where its camera cannot be converted."""
    if of_job:
        return _of_job(entry, number)
    new = {key: value for key, value in entry.items() if key not in (*_CAMERA, "orthographic", "near", "photo")}
    new["camera"] = _camera(entry)
    new["photo"] = new.pop("image", None)
    if isinstance(entry.get("landmarks"), list):
        new["landmarks"] = [_landmark(mark) for mark in entry["landmarks"]]
    return new


def _of_job(entry: dict[str, Any], number: int) -> dict[str, Any]:
    new = {**entry, "mask": f"masks/{number:04d}.npy"}
    ignored = flag("its ignore", new.pop("ignore", False))
    return new | {"ignore": f"ignore/{number:04d}.npy"} if ignored else new


def _camera(entry: dict[str, Any]) -> dict[str, Any]:
    missing = [key for key in _CAMERA if key not in entry]
    if missing:
        raise InputError(f"its camera lacks {', '.join(missing)}; see the format in the documentation of load_views.")
    K, R = (array(f"its camera's {key}", entry[key], (3, 3)) for key in ("K", "R"))
    t = entry["t"]
    if isinstance(t, list):  # a column is fine too
        t = [row[0] if isinstance(row, list) and len(row) == 1 else row for row in t]
    t = array("its camera's t", t, (3,))
    camera = {"K": K + HALF_PIXEL, "world_to_camera": rigid(R, t, "its camera's R")}
    return camera | {key: entry[key] for key in ("width", "height", "orthographic", "near") if key in entry}


def _landmark(mark: Any) -> Any:
    if not isinstance(mark, dict) or "pixel" not in mark:
        return mark  # refused where landmarks are read
    x, y = numbers("the pixel of a landmark", mark["pixel"], 2)
    return {**mark, "pixel": (x + 0.5, y + 0.5)}
