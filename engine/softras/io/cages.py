"""A cage as a folder of .npy files, read back without loss."""

from __future__ import annotations

from pathlib import Path

from ..cage import Cage
from ..files import make_folder, read_array, write_array
from ..mesh import Mesh

_ARRAYS = {"vertices": (None, 3), "values": (None,), "planes": (None, 7)}
_INDICES = {"starts": (None,), "columns": (None,)}


def save_cage(folder: Path | str, cage: Cage) -> None:
    """Write the cage into folder, which is created if it is missing. Raises InputError when that fails."""
    folder = make_folder(folder)
    for name in (*_ARRAYS, *_INDICES):
        write_array(folder / f"{name}.npy", getattr(cage, name))
    write_array(folder / "shown_vertices.npy", cage.shown.vertices)
    write_array(folder / "shown_faces.npy", cage.shown.faces)


def load_cage(folder: Path) -> Cage:
    """The cage in a folder. Raises InputError that names what is missing or wrong."""
    arrays = {name: read_array(folder, f"{name}.npy", shape, "f") for name, shape in _ARRAYS.items()}
    arrays |= {name: read_array(folder, f"{name}.npy", shape, "iu") for name, shape in _INDICES.items()}
    shown = Mesh(
        read_array(folder, "shown_vertices.npy", (None, 3), "f"), read_array(folder, "shown_faces.npy", (None, 3), "iu")
    )
    return Cage(shown=shown, **arrays)
