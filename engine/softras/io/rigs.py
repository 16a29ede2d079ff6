"""A rig as a folder: rig.json and .npy files, read back without loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..files import inside, is_file, make_folder, read_array, read_json, remove, write_array, write_json
from ..mesh import Mesh
from ..rig import Armature, Bone, Rig, ShapeKey, Transform

_FILE = "rig.json"
_SKIN = ("skin_vertices", "skin_bones", "skin_weights")


def save_rig(folder: Path | str, rig: Rig) -> None:
    """Write the rig into folder (created if missing); rig.json comes last, so a half-written rig is none.

    Raises InputError when the folder cannot be written.
    """
    folder = make_folder(folder)
    remove(folder, _FILE)
    write_array(folder / "vertices.npy", rig.mesh.vertices)
    write_array(folder / "faces.npy", rig.mesh.faces)
    keys = []
    for number, key in enumerate(rig.shape_keys):
        # Files are numbered: a key's name is the user's text and never becomes a path.
        write_array(folder / _key_file(number), key.offsets)
        keys.append({name: getattr(key, name) for name in ("name", "value", "low", "high", "free")})
    armature = rig.armature
    if armature is not None:
        for name in _SKIN:
            write_array(folder / f"{name}.npy", getattr(armature, name))
    write_json(
        folder / _FILE,
        {
            "transform": _transform_to_json(rig.transform),
            "parent": rig.parent.tolist(),
            "follows": rig.follows.tolist(),
            "shape_keys": keys,
            "armature": armature
            and {
                "follows": armature.follows.tolist(),
                "bones": [
                    {
                        "name": bone.name,
                        "parent": bone.parent,
                        "rest": bone.rest.tolist(),
                        "pose": _transform_to_json(bone.pose),
                        "inherit_rotation": bone.inherit_rotation,
                        "inherit_scale": bone.inherit_scale,
                        "local_location": bone.local_location,
                    }
                    for bone in armature.bones
                ],
            },
        },
    )


def load_rig(folder: Path | str) -> Rig:
    """Read and check the rig in folder. Raises InputError naming what is missing or wrong."""
    folder = Path(folder)
    if not is_file(folder / _FILE):
        raise InputError(f"{folder} holds no rig: it has no {_FILE}.")
    path = inside(folder, _FILE)
    document = read_json(path)
    vertices = read_array(folder, "vertices.npy", (None, 3), "f")
    try:
        return Rig(
            Mesh(vertices, read_array(folder, "faces.npy", (None, 3), "iu")),
            Transform(**document["transform"]),
            document["parent"],
            document["follows"],
            tuple(
                ShapeKey(offsets=read_array(folder, _key_file(number), vertices.shape, "f"), **entry)
                for number, entry in enumerate(document["shape_keys"])
            ),
            None if document["armature"] is None else _load_armature(folder, document["armature"]),
        )
    except KeyError as error:
        raise InputError(f"{path} lacks {error}; write the rig anew.") from error
    except (TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is damaged; write the rig anew.") from error


def _load_armature(folder: Path, document: dict[str, Any]) -> Armature:
    bones = [Bone(**{**entry, "pose": Transform(**entry["pose"])}) for entry in document["bones"]]
    vertices, owners, weights = (
        read_array(folder, f"{name}.npy", (None,), "f" if name == "skin_weights" else "iu") for name in _SKIN
    )
    return Armature(tuple(bones), vertices, owners, weights, np.array(document["follows"]))


def _transform_to_json(transform: Transform) -> dict[str, Any]:
    return {
        "location": transform.location.tolist(),
        "rotation": transform.rotation.tolist(),
        "scale": transform.scale.tolist(),
        "mode": transform.mode,
        "free_location": transform.free_location,
        "free_rotation": transform.free_rotation,
        "free_scale": transform.free_scale,
        "limits": None if transform.limits is None else transform.limits.tolist(),
    }


def _key_file(number: int) -> str:
    return f"key_{number:04d}.npy"
