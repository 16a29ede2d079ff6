"""The job document and the messages between Blender and the engine process.

Read by both sides, so standard library and numpy only. A job is a folder that holds everything a fit
needs and runs on any machine; docs/architecture.md describes it and the protocol.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .camera import camera_from_json, camera_to_json
from .checks import flag
from .errors import InputError, shown
from .files import (
    inside,
    is_file,
    make_folder,
    path_from,
    photo_inside,
    read_array,
    read_json,
    remove,
    write_array,
    write_json,
)
from .io.rigs import load_rig, save_rig
from .mesh import Mesh
from .rig import Rig
from .views import Landmark, View

PROTOCOL = 1
MAX_LINE = 1 << 20  # bytes of one message; arrays travel as files
PREVIEW, PREVIEW_POSES, RESULT = "preview.npy", "preview_poses.json", "result.json"
BEST = ("best", "best_b")  # stems of the files of a fit's best state (softras/keeping.py says why there are two)
BEST_FILES = {"vertices": ".npy", "faces": "_faces.npy", "poses": "_poses.json", "rig_vertices": "_rig.npy"}


@dataclass(eq=False)
class Job:
    """A fit as a document.

    Attributes:
        views: what the mesh should look like. A photo is remembered by its path only: pictures show it where it exists
            in the job's folder or in one that who loads the job allows.
        mesh: the start; None with a rig, and to reconstruct without one.
        lock: (V,) bool, True for vertices that must not move, or None.
        settings: keyword arguments of `softras.fit` (mode, optimize, seed, ...), JSON values only.
        rig: the start where it has a pose, shape keys or a transform of its own, or None.
    """

    views: list[View]
    mesh: Mesh | None = None
    lock: np.ndarray | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    rig: Rig | None = None

    def __post_init__(self) -> None:
        if not self.views:
            raise InputError("the job has no views; add at least one camera with a mask.")
        if self.mesh is not None and self.rig is not None:
            raise InputError("a job starts from a mesh or from a rig, not from both.")
        if self.lock is not None:
            self.lock = np.ascontiguousarray(self.lock, dtype=bool)
            mesh = self.rig.mesh if self.rig is not None else self.mesh
            count = 0 if mesh is None else len(mesh.vertices)
            if self.lock.shape != (count,):
                raise InputError(f"the lock mask has shape {self.lock.shape} but the mesh has {count} vertices.")

    def save(self, folder: Path | str) -> None:
        """Write the job into folder (created if missing); job.json comes last, so a half-written job is none.

        Raises InputError when the folder cannot be written.
        """
        folder = make_folder(folder)
        remove(folder, "job.json")
        forget_results(folder)
        make_folder(inside(folder, "masks"))
        entries = []
        for number, view in enumerate(self.views):
            write_array(folder / _view_file("masks", number), np.rint(view.mask * 255).astype(np.uint8))
            if view.ignore is not None:
                make_folder(inside(folder, "ignore"))
                write_array(folder / _view_file("ignore", number), view.ignore)
            entries.append(
                {
                    "name": view.name,
                    "weight": float(view.weight),
                    "ignore": view.ignore is not None,
                    "photo": None if view.photo is None else path_from(folder, view.photo),
                    "frame": view.frame,
                    "landmarks": [asdict(landmark) for landmark in view.landmarks],
                    "camera": camera_to_json(view.camera),
                }
            )
        if self.mesh is not None:
            write_array(folder / "vertices.npy", self.mesh.vertices)
            write_array(folder / "faces.npy", self.mesh.faces)
        if self.rig is not None:
            save_rig(inside(folder, "rig"), self.rig)
        if self.lock is not None:
            write_array(folder / "lock.npy", self.lock)
        try:
            write_json(
                folder / "job.json",
                {
                    "protocol": PROTOCOL,
                    "mesh": self.mesh is not None,
                    "rig": self.rig is not None,
                    "lock": self.lock is not None,
                    "settings": self.settings,
                    "views": entries,
                },
            )
        except (TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"the settings of a job must be JSON values: {error}.") from error

    @classmethod
    def load(cls, folder: Path | str, allow: Sequence[Path | str] = ()) -> Job:
        """Read and check the job in folder. Raises InputError naming what is missing or wrong.

        allow: folders that photographs may lie in beside the job's own; one that lies elsewhere is not shown, with a
            warning: a job from elsewhere must not read other files of this machine.
        """
        folder = Path(folder)
        if not is_file(folder / "job.json"):
            raise InputError(f"{folder} is not a job folder: it has no job.json.")
        document = read_json(inside(folder, "job.json"))
        check_protocol(document.get("protocol"))
        entries, settings = document.get("views"), document.get("settings", {})
        if not isinstance(entries, list) or not isinstance(settings, dict):
            raise InputError(f"{folder / 'job.json'} must hold a list 'views' and an object 'settings'.")
        views = [_load_view(folder, number, entry, allow) for number, entry in enumerate(entries)]
        mesh = lock = None
        if flag("mesh in job.json", document.get("mesh", False)):
            mesh = Mesh(
                read_array(folder, "vertices.npy", (None, 3), "fiu"), read_array(folder, "faces.npy", (None, 3), "iu")
            )
        if flag("lock in job.json", document.get("lock", False)):
            lock = read_array(folder, "lock.npy", (None,), "b")
        rig = load_rig(inside(folder, "rig")) if flag("rig in job.json", document.get("rig", False)) else None
        return cls(views, mesh, lock, settings, rig)

    @property
    def start(self) -> Mesh | Rig | None:
        """What the fit starts from."""
        return self.mesh if self.rig is None else self.rig

    @property
    def moves(self) -> bool:
        """Whether a rig or cameras are part of the result, not only vertices."""
        optimize = self.settings.get("optimize", ())
        return self.rig is not None or bool(set([optimize] if isinstance(optimize, str) else optimize) - {"vertices"})

    def new_faces(self, fitted: Mesh) -> np.ndarray | None:
        """(F, 3) the faces of a fitted mesh, or None where they are those of the start."""
        start = self.mesh if self.rig is None else self.rig.mesh
        kept = start is not None and np.array_equal(fitted.faces, start.faces)
        return None if kept else fitted.faces


def forget_results(folder: Path, *stems: str) -> None:
    """Remove what fits have left in a job folder; with stems of BEST, only the files of those."""
    if not stems:
        remove(folder, RESULT, PREVIEW, PREVIEW_POSES)  # the result first: it names the others
    remove(folder, *(stem + ending for stem in stems or BEST for ending in BEST_FILES.values()))


def encode(message: dict[str, Any]) -> bytes:
    """One message as a line of JSON."""
    return json.dumps(message, allow_nan=False).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """The message in a line. Raises InputError when it is not a JSON object with a type."""
    if len(line) > MAX_LINE:
        raise InputError(f"a message must be shorter than {MAX_LINE} bytes.")
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError("the message is not valid JSON.") from error
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise InputError("a message must be a JSON object with a type.")
    return message


def check_protocol(protocol: object) -> None:
    """Raises InputError unless protocol is the one spoken here."""
    if protocol != PROTOCOL or isinstance(protocol, bool):
        raise InputError(
            f"this engine speaks protocol {PROTOCOL}, not {shown(protocol)}; "
            "install the same Softras version on both sides."
        )


def finite(value: float | None) -> float | None:
    """value, or None where JSON has no number for it."""
    return None if value is None or not math.isfinite(value) else float(value)


def _view_file(kind: str, number: int) -> str:
    # Files are numbered: a view's name is the user's text and never becomes a path.
    return f"{kind}/{number:04d}.npy"


def _load_view(folder: Path, number: int, entry: Any, allow: Sequence[Path | str]) -> View:
    if not isinstance(entry, dict):
        raise InputError(f"view {number} in {folder / 'job.json'} must be an object.")
    name = str(entry.get("name", number))
    try:
        camera = camera_from_json(entry.get("camera"))
        landmarks = _landmarks(entry.get("landmarks", []))
    except InputError as error:
        raise InputError(f"view '{name}': {error}") from error
    size = (camera.height, camera.width)
    mask = read_array(folder, _view_file("masks", number), size, "u", itemsize=1)
    ignored = flag(f"ignore of view '{name}'", entry.get("ignore", False))
    ignore = read_array(folder, _view_file("ignore", number), size, "b") if ignored else None
    photo = photo_inside(folder, entry.get("photo"), allow)
    mask = mask.astype(np.float32) / 255
    return View(name, camera, mask, photo, entry.get("weight", 1.0), ignore, entry.get("frame", 0), landmarks)


def _landmarks(entries: Any) -> tuple[Landmark, ...]:
    if not isinstance(entries, list) or not all(isinstance(mark, dict) for mark in entries):
        raise InputError("its landmarks must be a list of objects with a vertex, a pixel and a weight.")
    try:
        return tuple(Landmark(**mark) for mark in entries)
    except TypeError as error:
        raise InputError("a landmark of it needs a vertex, a pixel and a weight, and nothing else.") from error
