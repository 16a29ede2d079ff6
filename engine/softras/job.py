"""The job document and the messages between Blender and the engine process.

Read by both sides, so standard library and numpy only. A job is a folder that holds everything a fit
needs and runs on any machine; docs/architecture.md describes it and the protocol.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .camera import Camera
from .errors import InputError
from .io.files import make_folder, read_json, remove, write_array, write_json
from .mesh import Mesh
from .views import View

PROTOCOL = 1
MAX_LINE = 1 << 20  # bytes of one message; arrays travel as files
BEST, BEST_FACES, PREVIEW, RESULT = "best.npy", "best_faces.npy", "preview.npy", "result.json"


@dataclass
class Job:
    """A fit as a document.

    Attributes:
        views: what the mesh should look like. A photo is remembered by its path only: pictures show it where it exists.
        mesh: the start, or None to reconstruct without one.
        lock: (V,) bool, True for vertices that must not move, or None.
        settings: keyword arguments of `softras.fit` (mode, optimize, seed, ...), JSON values only.
    """

    views: list[View]
    mesh: Mesh | None = None
    lock: np.ndarray | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.views:
            raise InputError("the job has no views; add at least one camera with a mask.")
        if self.lock is not None:
            self.lock = np.ascontiguousarray(self.lock, dtype=bool)
            count = 0 if self.mesh is None else len(self.mesh.vertices)
            if self.lock.shape != (count,):
                raise InputError(f"the lock mask has shape {self.lock.shape} but the mesh has {count} vertices.")

    def save(self, folder: Path | str) -> None:
        """Write the job into folder (created if missing); job.json comes last, so a half-written job is none.

        Raises InputError when the folder cannot be written.
        """
        folder = make_folder(folder)
        remove(folder, "job.json", BEST, BEST_FACES, PREVIEW, RESULT)
        make_folder(folder / "masks")
        entries = []
        for number, view in enumerate(self.views):
            write_array(folder / _view_file("masks", number), np.rint(view.mask * 255).astype(np.uint8))
            if view.ignore is not None:
                make_folder(folder / "ignore")
                write_array(folder / _view_file("ignore", number), view.ignore)
            entries.append(
                {
                    "name": view.name,
                    "weight": float(view.weight),
                    "ignore": view.ignore is not None,
                    "photo": None if view.photo is None else str(Path(view.photo).absolute()),
                    "camera": camera_to_json(view.camera),
                }
            )
        if self.mesh is not None:
            write_array(folder / "vertices.npy", self.mesh.vertices)
            write_array(folder / "faces.npy", self.mesh.faces)
        if self.lock is not None:
            write_array(folder / "lock.npy", self.lock)
        try:
            write_json(
                folder / "job.json",
                {
                    "protocol": PROTOCOL,
                    "mesh": self.mesh is not None,
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
    def load(cls, folder: Path | str) -> Job:
        """Read and check the job in folder. Raises InputError naming what is missing or wrong."""
        folder = Path(folder)
        if not (folder / "job.json").is_file():
            raise InputError(f"{folder} is not a job folder: it has no job.json.")
        document = read_json(_inside(folder, "job.json"))
        check_protocol(document.get("protocol"))
        entries, settings = document.get("views"), document.get("settings", {})
        if not isinstance(entries, list) or not isinstance(settings, dict):
            raise InputError(f"{folder / 'job.json'} must hold a list 'views' and an object 'settings'.")
        views = [_load_view(folder, number, entry) for number, entry in enumerate(entries)]
        mesh = lock = None
        if document.get("mesh"):
            mesh = Mesh(
                _load_array(folder, "vertices.npy", (None, 3), "fiu"), _load_array(folder, "faces.npy", (None, 3), "iu")
            )
        if document.get("lock"):
            lock = _load_array(folder, "lock.npy", (None,), "b")
        return cls(views=views, mesh=mesh, lock=lock, settings=settings)

    def new_faces(self, fitted: Mesh) -> np.ndarray | None:
        """(F, 3) the faces of a fitted mesh, or None where they are those of the start."""
        kept = self.mesh is not None and np.array_equal(fitted.faces, self.mesh.faces)
        return None if kept else fitted.faces


def save_best(folder: Path, vertices: np.ndarray, faces: np.ndarray | None) -> dict[str, str]:
    """Put the best state of a fit into its job folder; returns the file names as a result names them.

    Args:
        vertices: (V, 3) world points.
        faces: (F, 3) where the fit made its own mesh, else None.
    """
    files = {"vertices": BEST}
    if faces is not None:
        files["faces"] = BEST_FACES
        write_array(folder / BEST_FACES, faces)
    write_array(folder / BEST, np.asarray(vertices, dtype=np.float64))
    return files


def camera_to_json(camera: Camera) -> dict[str, Any]:
    """The camera as JSON values; `camera_from_json` reads them back without loss."""
    return {
        "K": camera.K.tolist(),
        "world_to_camera": camera.world_to_camera.tolist(),
        "width": int(camera.width),
        "height": int(camera.height),
        "orthographic": bool(camera.orthographic),
        "near": float(camera.near),
    }


def camera_from_json(value: Any) -> Camera:
    """The camera that `camera_to_json` wrote."""
    try:
        return Camera(
            K=np.array(value["K"], dtype=np.float64),
            world_to_camera=np.array(value["world_to_camera"], dtype=np.float64),
            width=int(value["width"]),
            height=int(value["height"]),
            orthographic=bool(value["orthographic"]),
            near=float(value["near"]),
        )
    except KeyError as error:
        raise InputError(f"a camera lacks {error}.") from error
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"a camera must hold numbers: {error}.") from error


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
            f"this engine speaks protocol {PROTOCOL}, not {protocol}; install the same Softras version on both sides."
        )


def finite(value: float | None) -> float | None:
    """value, or None where JSON has no number for it."""
    return None if value is None or not math.isfinite(value) else float(value)


def _view_file(kind: str, number: int) -> str:
    # Files are numbered: a view's name is the user's text and never becomes a path.
    return f"{kind}/{number:04d}.npy"


def _load_view(folder: Path, number: int, entry: Any) -> View:
    if not isinstance(entry, dict):
        raise InputError(f"view {number} in {folder / 'job.json'} must be an object.")
    name = str(entry.get("name", number))
    try:
        camera = camera_from_json(entry.get("camera"))
        weight = float(entry.get("weight", 1.0))
    except InputError as error:
        raise InputError(f"view '{name}': {error}") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"the weight of view '{name}' must be a number.") from error
    size = (camera.height, camera.width)
    mask = _load_array(folder, _view_file("masks", number), size, "u", itemsize=1)
    ignore = _load_array(folder, _view_file("ignore", number), size, "b") if entry.get("ignore") else None
    photo = Path(entry["photo"]) if isinstance(entry.get("photo"), str) else None
    if photo is not None and not photo.is_file():
        photo = None
    return View(name, camera, mask.astype(np.float32) / 255, photo, weight, ignore)


def _inside(folder: Path, name: str) -> Path:
    """The file name in folder; a link that leads out of the folder is refused."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{path} leads out of the job folder; put the file itself there.")
    return path


def _load_array(
    folder: Path, name: str, shape: tuple[int | None, ...], kinds: str, itemsize: int | None = None
) -> np.ndarray:
    """The array in the job's file name; its header is checked before any memory is taken."""
    path = _inside(folder, name)
    try:
        array = np.lib.format.open_memmap(path, mode="r")  # reads .npy only: no pickle, no archive
    except OSError as error:
        raise InputError(f"cannot read {path}: {(error.strerror or str(error)).lower()}.") from error
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path} is damaged or not a .npy file; write the job anew.") from error
    wanted = " x ".join("any" if n is None else str(n) for n in shape)
    if array.ndim != len(shape) or any(n is not None and n != m for n, m in zip(shape, array.shape, strict=True)):
        raise InputError(f"{path} must hold an array of {wanted}, not {' x '.join(map(str, array.shape))}.")
    if array.dtype.kind not in kinds or (itemsize and array.dtype.itemsize != itemsize):
        raise InputError(f"{path} holds numbers of type {array.dtype}, which do not belong there.")
    return np.array(array)
