"""The job document and the messages between Blender and the engine process.

Both sides import this module, so it needs the standard library and numpy only. A job is a folder that holds all that a
fit needs, so that it runs on any machine; docs/architecture.md describes the folder and the protocol.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .cage import Cage, checked_cage
from .camera import Camera, camera_to_json
from .checks import flag
from .errors import InputError, shown
from .files import inside, is_file, make_folder, read_array, read_json, remove, write_array, write_json
from .io.cages import load_cage, save_cage
from .io.rigs import load_rig, save_rig
from .io.views import loaded, views_document, views_in
from .mesh import Mesh
from .rig import Rig, mesh_in_world
from .views import View

PROTOCOL = 2  # The version of the messages.
MAX_LINE = 1 << 20  # A message has at most so many bytes; arrays travel as files.
RESULT = "result.json"
BEST = ("best", "best_b")  # Names of files of a run's best state begin so; `keeping.py` says why there are two.
BEST_FILES = {"vertices": ".npy", "faces": "_faces.npy", "poses": "_poses.json", "rig_vertices": "_rig.npy"}
PREVIEWS = {"preview": "preview.npy", "poses": "preview_poses.json"}  # Files that the server writes during a run.


@dataclass(eq=False)
class Job:
    """A fit as a document.

    Attributes:
        views: the views to which the mesh is fitted.
        mesh: the mesh to start from; None where a rig is the start, and for a reconstruction.
        lock: (V,) bool, True for vertices that must not move, or None.
        settings: keyword arguments of `softras.fit` (mode, optimize, seed, ...), JSON values only.
        rig: the rig to start from, or None.
        cage: where another mesh is seen than that of the start, how that moves with it, in the world; or None.
    """

    views: list[View]
    mesh: Mesh | None = None
    lock: np.ndarray | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    rig: Rig | None = None
    cage: Cage | None = None

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
        if self.cage is not None:
            own = self.mesh if self.rig is None else self.rig.mesh
            checked_cage(self.cage, None if own is None else own.vertices)

    def save(self, folder: Path | str, *, self_contained: bool = True) -> None:
        """Write the job into a folder, which is created if it is missing. Raises InputError when that fails.

        job.json is written last, so that a job that is only half written is no job.

        Args:
            self_contained: whether the photographs are put into the folder too (as hard links where the disk allows
                it, else as copies), so that it can be copied to another machine. Otherwise job.json has the path of
                each photograph, and reports show those that lie in the folder or in one that is allowed at loading.
        """
        folder = make_folder(folder)
        remove(folder, "job.json")
        forget_results(folder)
        views = views_document(folder, self.views, self_contained)
        if self.mesh is not None:
            write_array(folder / "vertices.npy", self.mesh.vertices)
            write_array(folder / "faces.npy", self.mesh.faces)
        if self.rig is not None:
            save_rig(inside(folder, "rig"), self.rig)
        if self.lock is not None:
            write_array(folder / "lock.npy", self.lock)
        if self.cage is not None:
            save_cage(inside(folder, "cage"), self.cage)
        try:
            write_json(
                folder / "job.json",
                {
                    "mesh": self.mesh is not None,
                    "rig": self.rig is not None,
                    "lock": self.lock is not None,
                    "cage": self.cage is not None,
                    "settings": self.settings,
                    **views,
                },
            )
        except (TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"the settings of a job must be JSON values: {error}.") from error

    @classmethod
    def load(cls, folder: Path | str, allow: Sequence[Path | str] = ()) -> Job:
        """Read and check the job in a folder. Raises InputError that names what is missing or wrong.

        Args:
            allow: folders in which images may lie, beside the job's own. A job that somebody else has made must not
                read other files of this machine, so a mask elsewhere is an error; a photograph elsewhere is left out,
                with a warning.
        """
        folder = Path(folder)
        if not is_file(folder / "job.json"):
            raise InputError(f"{folder} is not a job folder: it has no job.json.")
        document = read_json(inside(folder, "job.json"))
        entries, settings = document.get("views"), document.get("settings", {})
        if not isinstance(entries, list) or not isinstance(settings, dict):
            raise InputError(f"{folder / 'job.json'} must hold a list 'views' and an object 'settings'.")
        views = loaded(views_in(document, folder / "job.json", {}, allow))
        mesh = lock = None
        if flag("mesh in job.json", document.get("mesh", False)):
            mesh = Mesh(
                read_array(folder, "vertices.npy", (None, 3), "fiu"), read_array(folder, "faces.npy", (None, 3), "iu")
            )
        if flag("lock in job.json", document.get("lock", False)):
            lock = read_array(folder, "lock.npy", (None,), "b")
        rig = load_rig(inside(folder, "rig")) if flag("rig in job.json", document.get("rig", False)) else None
        cage = load_cage(inside(folder, "cage")) if flag("cage in job.json", document.get("cage", False)) else None
        return cls(views, mesh, lock, settings, rig, cage)

    @property
    def start(self) -> Mesh | Rig | None:
        """The mesh or the rig that the fit starts from; None for a reconstruction."""
        return self.mesh if self.rig is None else self.rig

    @property
    def shown(self) -> Mesh | Rig | None:
        """What is seen of the start."""
        start = self.start
        return start if self.cage is None or start is None else self.cage.shown_at(mesh_in_world(start).vertices)

    @property
    def fits_poses(self) -> bool:
        """Whether a rig or cameras are part of the result, not only vertices."""
        optimize = self.settings.get("optimize", ())
        return self.rig is not None or bool(set([optimize] if isinstance(optimize, str) else optimize) - {"vertices"})

    def new_faces(self, fitted: Mesh) -> np.ndarray | None:
        """(F, 3) the faces of a fitted mesh; None where they are the faces of the start."""
        start = self.mesh if self.rig is None else self.rig.mesh
        kept = start is not None and np.array_equal(fitted.faces, start.faces)
        return None if kept else fitted.faces


def start_instead(folder: Path, start: Mesh | Rig, cage: Cage | None, settings: dict[str, Any]) -> None:
    """Make of the job in a folder one that starts elsewhere.

    Blender learns how what it shows moves with the vertices or the pose, once the job is written, and again where a fit
    has ended. Raises InputError when the folder cannot be written.

    Args:
        folder: the job's.
        start: where the fit starts, with as many vertices as the job's own start.
        cage: how what is shown moves with it; None where that is what is shown.
        settings: those that differ from the job's.
    """
    document: dict[str, Any] = read_json(inside(folder, "job.json"))
    remove(folder, "job.json")
    if isinstance(start, Rig):
        save_rig(inside(folder, "rig"), start)
    else:
        write_array(folder / "vertices.npy", start.vertices)
        write_array(folder / "faces.npy", start.faces)
    if cage is not None:
        save_cage(inside(folder, "cage"), cage)
    document["settings"] |= settings
    rigged, locked = isinstance(start, Rig), is_file(folder / "lock.npy")
    write_json(
        folder / "job.json", document | {"mesh": not rigged, "rig": rigged, "lock": locked, "cage": cage is not None}
    )


def show_instead(folder: Path, mesh: Mesh, cameras: Sequence[Camera]) -> None:
    """Make of the job in a folder, once it was fitted, a job of another mesh and other cameras before the same masks.

    Blender measures what it shows after a fit in this way. Raises InputError when the folder cannot be written.

    Args:
        folder: the job's.
        mesh: takes the place of the mesh or the rig from which the job starts.
        cameras: one for each view.
    """
    document: dict[str, Any] = read_json(inside(folder, "job.json"))
    remove(folder, "job.json")
    write_array(folder / "vertices.npy", mesh.vertices)
    write_array(folder / "faces.npy", mesh.faces)
    entries = [
        entry | {"camera": camera_to_json(camera)} for entry, camera in zip(document["views"], cameras, strict=True)
    ]
    write_json(
        folder / "job.json", document | {"mesh": True, "rig": False, "lock": False, "cage": False, "views": entries}
    )


def forget_results(folder: Path, *stems: str) -> None:
    """Remove the files that fits have left in a job folder; with stems of BEST, only the files that begin so."""
    if not stems:
        remove(folder, RESULT, *PREVIEWS.values())  # The result goes first, since it names the other files.
    remove(folder, *(stem + ending for stem in stems or BEST for ending in BEST_FILES.values()))


def encode(message: dict[str, Any]) -> bytes:
    """A message as a line of JSON."""
    return json.dumps(message, allow_nan=False).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """The message in a line. Raises InputError when the line is not a JSON object with a type."""
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
    """Raises InputError unless this is the version of the protocol that is spoken here."""
    if protocol != PROTOCOL or isinstance(protocol, bool):
        raise InputError(
            f"this engine speaks protocol {PROTOCOL}, not {shown(protocol)}; "
            "install the same Softras version on both sides."
        )


def finite(value: float | None) -> float | None:
    """The value, or None where it is NaN or infinite, for which JSON has no number."""
    return None if value is None or not math.isfinite(value) else float(value)
