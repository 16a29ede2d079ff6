"""Files are written whole or not at all, and a failed write is one sentence."""

from __future__ import annotations

import errno
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EFBIG: "the file would be larger than this system allows; choose another folder",
    errno.EROFS: "the disk is read-only; choose another folder",
    errno.EACCES: "permission is denied; choose a folder you may write to",
    errno.EPERM: "permission is denied; choose a folder you may write to",
    errno.ENOENT: "the folder does not exist; create it first",
    errno.ENOTDIR: "a part of the path is a file; choose another folder",
    errno.EISDIR: "it is a folder; give a file name",
}


def write_error(path: Path, error: OSError) -> InputError:
    """The sentence for a failed write to path."""
    reason = _REASONS.get(error.errno or 0, (error.strerror or str(error)).lower())
    return InputError(f"cannot write {path}: {reason}.")


def write_bytes(path: Path | str, data: bytes | memoryview) -> None:
    """Write data to path in one step: a reader sees the old file or the new one, never a part.

    Raises InputError when the disk is full, read-only, or the folder is missing.
    """
    path = Path(path)
    if path.is_dir():
        raise write_error(path, OSError(errno.EISDIR, ""))
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            partial.write_bytes(data)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise write_error(path, error) from error


def write_text(path: Path | str, text: str) -> None:
    """`write_bytes` of text in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path | str, value: Any) -> None:
    """`write_bytes` of value as JSON."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def write_array(path: Path | str, array: np.ndarray) -> None:
    """`write_bytes` of array in .npy format, never pickled."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_bytes(path, buffer.getbuffer())


def write_png(path: Path | str, pixels: np.ndarray) -> None:
    """`write_bytes` of pixels, (H, W) or (H, W, 3) uint8, as PNG."""
    from PIL import Image  # loads in 30 ms: only who writes pictures pays

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=4)
    write_bytes(path, buffer.getbuffer())


def make_folder(path: Path | str) -> Path:
    """Create the folder path with its parents; fine if it is there already."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path, OSError(errno.ENOTDIR, "") if isinstance(error, FileExistsError) else error) from error
    return path


def remove(folder: Path, *names: str) -> None:
    """Remove the files of these names from folder, where they exist."""
    for name in names:
        try:
            (folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise write_error(folder / name, error) from error


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in the file path."""
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {(error.strerror or str(error)).lower()}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON; write it anew.") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} must hold a JSON object.")
    return value


def is_file(path: Path) -> bool:
    """Whether path is a file; a name that no file system takes is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # longer than names may be; a null character in it
        return False


def inside(folder: Path, name: str) -> Path:
    """The file name in folder; a link that leads out of the folder is refused."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{path} leads out of its folder; put the file itself there.")
    return path


def read_array(
    folder: Path, name: str, shape: tuple[int | None, ...], kinds: str, itemsize: int | None = None
) -> np.ndarray:
    """The array in the .npy file name of folder; its header is checked before any memory is taken.

    Args:
        folder: where it lies.
        name: of the file.
        shape: what it must have; None for any length.
        kinds: dtype.kind letters that it may be of.
        itemsize: bytes of a number, or None for any.
    """
    path = inside(folder, name)
    try:
        array = np.lib.format.open_memmap(path, mode="r")  # reads .npy only: no pickle, no archive
    except OSError as error:
        raise InputError(f"cannot read {path}: {(error.strerror or str(error)).lower()}.") from error
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path} is damaged or not a .npy file; write it anew.") from error
    wanted = " x ".join("any" if n is None else str(n) for n in shape)
    if array.ndim != len(shape) or any(n is not None and n != m for n, m in zip(shape, array.shape, strict=True)):
        raise InputError(f"{path} must hold an array of {wanted}, not {' x '.join(map(str, array.shape))}.")
    if array.dtype.kind not in kinds or (itemsize and array.dtype.itemsize != itemsize):
        raise InputError(f"{path} holds numbers of type {array.dtype}, which do not belong there.")
    return np.array(array)
