"""Files of poses: what a fit found for each frame of a rig, and where its cameras are.

Standard library and numpy only, for Blender reads them too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..camera import Camera, camera_from_json, camera_to_json
from ..checks import whole
from ..errors import InputError
from ..files import read_json, write_json
from ..rig import Rig, Transform


def save_poses(path: Path | str, rigs: Mapping[int, Rig], cameras: Sequence[Camera], *, lasting: bool = True) -> None:
    """Write the transforms and shape key values of a rig in some frames, and the cameras of all views, as JSON.

    lasting: as of `softras.files.write_bytes`.
    """
    frames = {
        str(frame): {
            "object": _channels(rig.transform),
            "bones": [_channels(bone.pose) for bone in rig.armature.bones] if rig.armature else [],
            "shape_keys": [float(key.value) for key in rig.shape_keys],
        }
        for frame, rig in rigs.items()
    }
    write_json(path, {"frames": frames, "cameras": [camera_to_json(camera) for camera in cameras]}, lasting=lasting)


def load_poses(path: Path | str, rig: Rig | None) -> tuple[dict[int, Rig], list[Camera]]:
    """The rig in each frame, and the cameras of the views in their order.

    Args:
        path: of the file.
        rig: the one that was fitted; None where only cameras were.

    Raises InputError when the file cannot be read or is of another rig.
    """
    path = Path(path)
    document = read_json(path)
    try:
        rigs = {}
        if rig is not None:
            rigs = {
                whole("a frame", int(frame), None): _posed(rig, entry) for frame, entry in document["frames"].items()
            }
        return rigs, [camera_from_json(entry) for entry in document["cameras"]]
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} does not belong to this rig; fit it anew.") from error


def _channels(transform: Transform) -> dict[str, Any]:
    return {name: getattr(transform, name).tolist() for name in ("location", "rotation", "scale")}


def _posed(rig: Rig, entry: dict[str, Any]) -> Rig:
    armature = rig.armature
    if armature is not None:
        pairs = zip(armature.bones, entry["bones"], strict=True)
        bones = tuple(replace(bone, pose=replace(bone.pose, **channels)) for bone, channels in pairs)
        armature = replace(armature, bones=bones)
    keys = tuple(replace(key, value=value) for key, value in zip(rig.shape_keys, entry["shape_keys"], strict=True))
    return replace(rig, transform=replace(rig.transform, **entry["object"]), armature=armature, shape_keys=keys)
