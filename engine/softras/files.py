"""Reads and writes all files: only regular files are read, and files are written whole or not at all.

A file that cannot be read or written raises InputError, one sentence. Standard library and numpy only, since Blender's
side uses it too.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import math
import os
import secrets
import stat
import struct
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .errors import InputError, shown
from .text import Decoded, decode

LARGEST = 1 << 31  # A file of data has at most so many bytes: no mesh, mask or array of a fit has more.
LARGEST_JSON = 1 << 26  # A JSON file has at most so many bytes,
MOST_VALUES = 4_000_000  # and at most so many values, each of which takes up to 160 bytes of memory.
_PARTIAL = ".softras-{}.part"  # The name of a file while it is being written.
_LONGEST_HEADER = 10_000  # The header of a .npy file has at most so many bytes, as in numpy.

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

_READ = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_NEW |= sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"))


def open_new(path: Path | str) -> BinaryIO:
    """Open a new file at path, to be written piece by piece and readable for its owner only. Raises OSError.

    A file or a link at path is removed first; a link is not followed.
    """
    Path(path).unlink(missing_ok=True)
    return os.fdopen(os.open(path, _NEW, 0o600), "wb")


def open_data(path: Path | str, most: int = LARGEST) -> BinaryIO:
    """Open the regular file at path, or the one that a link there leads to, to read its bytes.

    Anything else is refused without waiting: opening a pipe or reading a device could take for ever.

    Args:
        path: the path of the file.
        most: how many bytes it may have.

    Raises InputError when the file is missing, cannot be read, is larger, or is a folder, pipe, socket or device.
    """
    try:
        descriptor = os.open(path, _READ)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.EOPNOTSUPP):  # It is a socket.
            raise InputError(f"{path} is not a regular file; put the file itself there.") from error
        raise _read_error(path, error) from error
    except ValueError as error:  # a null character, or one that this system has no bytes for
        raise InputError(f"cannot read {path}: it is no name of a file; choose another.") from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_size > most:
        os.close(descriptor)
        if stat.S_ISREG(found.st_mode):
            raise InputError(f"{path} has more than {most >> 20} MB, which is too large; choose another file.")
        kind = "is a folder" if stat.S_ISDIR(found.st_mode) else "is not a regular file"
        raise InputError(f"{path} {kind}; put the file itself there.")
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path | str, most: int = LARGEST) -> bytes:
    """The bytes of the regular file at path; `open_data` says what is refused."""
    with open_data(path, most) as file:
        try:
            return file.read()
        except OSError as error:
            raise _read_error(path, error) from error


def _read_error(path: Path | str, error: OSError) -> InputError:
    reason = (error.strerror or str(error)).lower()
    return InputError(f"cannot read {path}: {reason}; check the file.")


def write_error(path: Path, error: OSError) -> InputError:
    """The sentence for a failed write to path."""
    reason = _REASONS.get(error.errno or 0, (error.strerror or str(error)).lower())
    return InputError(f"cannot write {path}: {reason}.")


def write_bytes(path: Path | str, data: bytes | memoryview, *, lasting: bool = True) -> None:
    """Write data to path in one step: a reader sees the old file or the new one, never a part of one.

    lasting: whether to wait (some 10 ms) until the data are on the disk, so that they survive a crash of the machine.
    Raises InputError when the disk is full or read-only, or when the folder is missing.
    """
    path = Path(path)
    check_replaceable(path)
    # In a folder that others may write to, somebody could put a link at the name of the new file, which would lead the
    # data to another file of the user's. So nobody can guess the name, and O_EXCL fails where something is there.
    # os.replace does not follow a link at path, but replaces it.
    partial = path.with_name(_PARTIAL.format(secrets.token_hex(8)))
    try:
        try:
            with os.fdopen(os.open(partial, _NEW, 0o666), "wb") as file:
                file.write(data)
                if lasting:  # Without this, a crash of the machine may leave the new name without the new data.
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        if lasting:
            _sync_folder(path.parent)
    except OSError as error:
        raise write_error(path, error) from error


def check_replaceable(path: Path) -> None:
    """Raises InputError if path cannot be the name of a file, or is a folder, pipe, socket or device."""
    try:
        kind = stat.S_IFDIR if path.is_dir() else stat.S_IFMT(path.lstat().st_mode)
    except FileNotFoundError:
        return
    except OSError as error:
        raise write_error(path, error) from error
    except ValueError as error:  # a null character, or one that this system has no bytes for
        raise InputError(f"cannot write {path}: it is no name of a file; choose another.") from error
    if kind == stat.S_IFDIR:
        raise write_error(path, OSError(errno.EISDIR, ""))
    if kind not in (stat.S_IFREG, stat.S_IFLNK):
        raise InputError(f"cannot write {path}: there is a pipe, socket or device; choose another name.")


def _sync_folder(folder: Path) -> None:
    """Make a new name in a folder survive a crash of the machine, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    with contextlib.suppress(OSError):  # Some network disks cannot do it, and some folders cannot be read.
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: Path | str, text: str) -> None:
    """`write_bytes` of text in UTF-8; lone surrogates, as in the name of a Latin-1 file, become "?"."""
    write_bytes(path, text.encode(errors="replace"))


def write_json(path: Path | str, value: Any, *, lasting: bool = True) -> None:
    """`write_bytes` of a value as JSON."""
    write_bytes(path, json.dumps(value, indent=1, allow_nan=False).encode() + b"\n", lasting=lasting)


def write_array(path: Path | str, array: np.ndarray, *, lasting: bool = True) -> None:
    """`write_bytes` of an array in .npy format, never pickled."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_bytes(path, buffer.getbuffer(), lasting=lasting)


def link_or_copy(source: Path, target: Path) -> None:
    """Put the regular file `source` at `target` too: as a hard link, which takes no room, or else as a copy.

    A hard link is possible where both are on one disk and the user may make it. A file or a link at target is replaced.
    Raises InputError when source cannot be read or target cannot be written.
    """
    open_data(source).close()  # This refuses a pipe or a device.
    check_replaceable(target)
    partial = target.with_name(f".softras-{secrets.token_hex(8)}.part")
    try:
        os.link(source.resolve(), partial)
    except (OSError, NotImplementedError):  # On another disk or a file system without links, or another user's file.
        write_bytes(target, read_bytes(source))
        return
    try:
        os.replace(partial, target)
    except OSError as error:
        raise write_error(target, error) from error
    finally:
        partial.unlink(missing_ok=True)  # os.replace leaves it where both names already were the same file.


def write_png(path: Path | str, pixels: np.ndarray) -> None:
    """`write_bytes` of pixels, (H, W) or (H, W, 3) uint8, as PNG. Grey pixels need no Pillow, which Blender lacks."""
    if pixels.ndim == 2:
        write_bytes(path, _grey_png(pixels))
        return
    from PIL import Image  # Loading it takes 30 ms, only where it is needed.

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=4)
    write_bytes(path, buffer.getbuffer())


def _grey_png(pixels: np.ndarray) -> bytes:
    """The PNG file of (H, W) uint8, without filters (W3C, "Portable Network Graphics", third edition)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = pixels.shape
    rows = np.zeros((height, width + 1), dtype=np.uint8)  # Each row begins with the number of its filter, 0.
    rows[:, 1:] = pixels
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)  # 8 bits, grey
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows.data, 3)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def make_folder(path: Path | str) -> Path:
    """Create a folder with its parents, unless it exists. Raises InputError."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path, OSError(errno.ENOTDIR, "") if isinstance(error, FileExistsError) else error) from error
    return path


def check_writable(folder: Path) -> None:
    """Create a folder with its parents, and write and remove a file there. Raises InputError where that fails."""
    make_folder(folder)
    probe = ".softras-probe"
    write_bytes(folder / probe, b"")
    remove(folder, probe)


def make_private_folder(path: Path) -> Path:
    """Create a folder with its parents, or take the one that is there, and let nobody but its owner use it.

    Raises InputError when it is a link, belongs to another user, or cannot be made private: then files in it could have
    been put there by anybody.
    """
    make_folder(path.parent)
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        if os.name == "posix":  # On Windows, a user's folders are private anyway.
            found = path.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                raise InputError(f"{path} must be a folder of your own and no link; remove it.")
            if stat.S_IMODE(found.st_mode) & 0o077:
                path.chmod(0o700)
    except OSError as error:
        raise write_error(path, error) from error
    return path


def remove(folder: Path, *names: str) -> None:
    """Remove the files with these names from a folder, if they exist."""
    for name in names:
        try:
            (folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise write_error(folder / name, error) from error


def remove_partial(folder: Path) -> None:
    """Remove files from a folder whose writing was cut short. Nobody else may be writing there."""
    remove(folder, *(path.name for path in folder.glob(_PARTIAL.format("*"))))


def read_text(path: Path) -> Decoded:
    """The text of a file in any encoding."""
    return decode(read_bytes(path), path)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file."""
    value = json_value(decode(read_bytes(path, LARGEST_JSON), path).text, path)
    if not isinstance(value, dict):
        raise InputError(f"{path} must hold a JSON object.")
    return value


def json_value(text: str, path: Path) -> Any:
    """The JSON value in the text of a file, whose path messages name."""
    if sum(map(text.count, ",[{")) > MOST_VALUES:
        raise InputError(f"{path} holds more than {MOST_VALUES} values, which is too large; choose another file.")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON; write it anew.") from error


def is_file(path: Path) -> bool:
    """Whether there is a file at path; False for a name that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # The name is too long, or has a null character.
        return False


def inside(folder: Path, name: str, allow: Sequence[Path | str] = ()) -> Path:
    """The path of the file or folder `name` in `folder`. Raises InputError if it leads out of all allowed folders.

    The name comes from a document, not from the user. A folder that somebody else has made could otherwise show any
    file of this machine, by a path or by a link.

    Args:
        allow: folders in which the file may lie, beside `folder`.
    """
    path = folder / name
    try:
        target = path.resolve()
        within = any(target.is_relative_to(Path(each).resolve()) for each in (folder, *allow))
    except (OSError, RuntimeError, ValueError) as error:  # Links in a circle, or a name that no file can have.
        raise InputError(f"{path} leads nowhere; put the file itself there.") from error
    if not within:
        raise InputError(f"{path} leads out of its folder; put the file itself there, or allow the folder it is in.")
    return path


def path_from(folder: Path, path: Path | str) -> str:
    """A path as a document in a folder names it: relative if it lies in the folder, which can then be moved."""
    target = Path(path).resolve()
    return target.relative_to(folder.resolve()).as_posix() if target.is_relative_to(folder.resolve()) else str(target)


def photo_inside(folder: Path, name: Any, allow: Sequence[Path | str]) -> Path | None:
    """The path of a photograph in a folder or in one of those of `allow`; None where there is none.

    A photograph is only shown, so one that lies elsewhere is left out, with a warning.
    """
    if not isinstance(name, str) or not is_file(folder / name):
        return None
    try:
        return inside(folder, name, allow)
    except InputError:
        target = shown(str((folder / name).resolve().parent))
        warnings.warn(
            f"Photographs that {folder} names are not shown, since they lie outside it; allow {target} to see them.",
            stacklevel=2,
        )
        return None


def read_array(
    folder: Path, name: str, shape: tuple[int | None, ...], kinds: str, itemsize: int | None = None
) -> np.ndarray:
    """The array in a .npy file, whose header is checked before any memory is taken. Raises InputError.

    Args:
        folder: the folder of the file.
        name: the name of the file.
        shape: the shape that the array must have; None for any length.
        kinds: the letters of dtype.kind that are allowed.
        itemsize: how many bytes a number must have; None for any.
    """
    path = inside(folder, name)
    with open_data(path) as file:
        found, fortran, dtype = _array_header(path, file)
        wanted = " x ".join("any" if n is None else str(n) for n in shape)
        if len(found) != len(shape) or any(n is not None and n != m for n, m in zip(shape, found, strict=True)):
            raise InputError(f"{path} must hold an array of {wanted}, not {' x '.join(map(str, found))}.")
        if dtype.kind not in kinds or (itemsize and dtype.itemsize != itemsize):
            raise InputError(f"{path} holds numbers of type {dtype}, which do not belong there.")
        damaged = InputError(f"{path} is damaged: it has not as many bytes as it says; write it anew.")
        count = math.prod(found)
        if count * dtype.itemsize != os.fstat(file.fileno()).st_size - file.tell():
            raise damaged
        numbers = np.empty(count, dtype)
        try:
            if file.readinto(numbers.view("u1")) != numbers.nbytes:  # type: ignore[attr-defined]
                raise damaged
        except OSError as error:
            raise _read_error(path, error) from error
    array = numbers.reshape(found, order="F" if fortran else "C")
    return np.ascontiguousarray(array, dtype=dtype.newbyteorder("="))


def _array_header(path: Path, file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """The shape, whether in Fortran order, and the type of the array in a .npy file, read up to its first number."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        start = io.BytesIO(file.read(_LONGEST_HEADER))  # The length that the header gives for itself is not trusted.
        shape, fortran, dtype = readers[np.lib.format.read_magic(start)](start)
        file.seek(start.tell())
        if min(shape, default=0) < 0 or dtype.hasobject:
            raise ValueError
    except Exception as error:  # numpy parses the header as Python, so a damaged one may raise anything.
        raise InputError(f"{path} is damaged or not a .npy file; write it anew.") from error
    return shape, fortran, dtype
