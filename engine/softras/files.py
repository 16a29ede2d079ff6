"""The one place that opens files: only regular files are read, files are written whole or not at all.

A file that cannot be read or written is one sentence, an InputError. Standard library and numpy only: Blender's side
uses it too.
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

LARGEST = 1 << 31  # bytes of a file that is read as data: what is larger is no mesh, mask or array of a fit
LARGEST_JSON = 1 << 26  # bytes
_PARTIAL = ".softras-{}.part"  # the name of a file that is being written
_LONGEST_HEADER = 10_000  # bytes of a .npy file before its numbers, as numpy has it
MOST_VALUES = 4_000_000  # of a JSON document, which take up to 160 bytes each

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
    """Open a file at path to write to it piece by piece, readable for its owner alone; what was there is removed first.

    A link there is removed, not followed. Raises OSError.
    """
    Path(path).unlink(missing_ok=True)
    return os.fdopen(os.open(path, _NEW, 0o600), "wb")


def open_data(path: Path | str, most: int = LARGEST) -> BinaryIO:
    """Open the regular file at path, or the one that a link there leads to, to read bytes.

    What else may lie there is refused, never waited for: opening a pipe or reading a device may take for ever.

    Args:
        path: of the file.
        most: bytes that it may have.

    Raises InputError when there is none, it cannot be read, is larger, or is a folder, pipe, socket or device.
    """
    try:
        descriptor = os.open(path, _READ)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.EOPNOTSUPP):  # a socket
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
    """What is in the regular file at path; `open_data` says what is refused."""
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
    """Write data to path in one step: a reader sees the old file or the new one, never a part.

    lasting: wait until the data are on the disk, some 10 ms, so that they survive a crash of the machine.
    Raises InputError when the disk is full, read-only, or the folder is missing.
    """
    path = Path(path)
    check_place(path)
    # Nobody can guess this name, and O_EXCL makes the file here or fails: a link that waits in its place, in a folder
    # that others may write to, would lead the data to another file of the user's. os.replace takes the place of a link.
    partial = path.with_name(_PARTIAL.format(secrets.token_hex(8)))
    try:
        try:
            with os.fdopen(os.open(partial, _NEW, 0o666), "wb") as file:
                file.write(data)
                if lasting:  # else a crash of the machine may leave the new name without the new data
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        if lasting:
            _sync_folder(path.parent)
    except OSError as error:
        raise write_error(path, error) from error


def check_place(path: Path) -> None:
    """Raises InputError where path is no name of a file, or is something that a file must not take the place of."""
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
    """Make a new name in folder survive a crash of the machine, on systems that know how."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    with contextlib.suppress(OSError):  # some network disks cannot, and some folders are not readable: no harm is done
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: Path | str, text: str) -> None:
    """`write_bytes` of text in UTF-8; what UTF-8 has no bytes for, as in the name of a Latin-1 file, becomes "?"."""
    write_bytes(path, text.encode(errors="replace"))


def write_json(path: Path | str, value: Any, *, lasting: bool = True) -> None:
    """`write_bytes` of value as JSON."""
    write_bytes(path, json.dumps(value, indent=1, allow_nan=False).encode() + b"\n", lasting=lasting)


def write_array(path: Path | str, array: np.ndarray, *, lasting: bool = True) -> None:
    """`write_bytes` of array in .npy format, never pickled."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_bytes(path, buffer.getbuffer(), lasting=lasting)


def link_or_copy(source: Path, target: Path) -> None:
    """Let the regular file source be at target too: as a hard link, which takes no room, or as a copy.

    A hard link needs both on one disk and the right to make it. A link or a file at target is replaced.
    Raises InputError when source cannot be read or target cannot be written.
    """
    open_data(source).close()  # a pipe or a device is refused
    check_place(target)
    partial = target.with_name(f".softras-{secrets.token_hex(8)}.part")
    try:
        os.link(source.resolve(), partial)
    except (OSError, NotImplementedError):  # another disk; a file system without links; another user's file
        write_bytes(target, read_bytes(source))
        return
    try:
        os.replace(partial, target)
    except OSError as error:
        raise write_error(target, error) from error
    finally:
        partial.unlink(missing_ok=True)  # os.replace leaves it where both names were the same file already


def write_png(path: Path | str, pixels: np.ndarray) -> None:
    """`write_bytes` of pixels, (H, W) or (H, W, 3) uint8, as PNG. Grey ones need no Pillow, which Blender lacks."""
    if pixels.ndim == 2:
        write_bytes(path, _grey_png(pixels))
        return
    from PIL import Image  # loads in 30 ms: only who writes pictures pays

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=4)
    write_bytes(path, buffer.getbuffer())


def _grey_png(pixels: np.ndarray) -> bytes:
    """The PNG of (H, W) uint8 (W3C Recommendation "Portable Network Graphics", third edition): no filter, no gaps."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = pixels.shape
    rows = np.zeros((height, width + 1), dtype=np.uint8)  # each begins with the number of its filter
    rows[:, 1:] = pixels
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)  # 8 bits, grey
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows.data, 3)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def make_folder(path: Path | str) -> Path:
    """Create the folder path with its parents; fine if it is there already."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path, OSError(errno.ENOTDIR, "") if isinstance(error, FileExistsError) else error) from error
    return path


def check_writable(folder: Path) -> None:
    """Create the folder with its parents, and write and remove a file there. Raises InputError where that fails."""
    make_folder(folder)
    probe = ".softras-probe"
    write_bytes(folder / probe, b"")
    remove(folder, probe)


def make_private_folder(path: Path) -> Path:
    """Create the folder path with its parents, or take the one that is there, so that its owner alone may use it.

    Raises InputError when it is a link, another user's, or cannot be made private: files in it could be anybody's.
    """
    make_folder(path.parent)
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        if os.name == "posix":  # elsewhere a user's folders are private by where they lie
            found = path.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                raise InputError(f"{path} must be a folder of your own and no link; remove it.")
            if stat.S_IMODE(found.st_mode) & 0o077:
                path.chmod(0o700)
    except OSError as error:
        raise write_error(path, error) from error
    return path


def remove(folder: Path, *names: str) -> None:
    """Remove the files of these names from folder, where they exist."""
    for name in names:
        try:
            (folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise write_error(folder / name, error) from error


def remove_partial(folder: Path) -> None:
    """Remove what is left in folder of writes that were killed; nobody else may be writing there."""
    remove(folder, *(path.name for path in folder.glob(_PARTIAL.format("*"))))


def read_text(path: Path) -> Decoded:
    """The text in the file path, of any encoding."""
    return decode(read_bytes(path), path)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in the file path."""
    value = json_value(decode(read_bytes(path, LARGEST_JSON), path).text, path)
    if not isinstance(value, dict):
        raise InputError(f"{path} must hold a JSON object.")
    return value


def json_value(text: str, path: Path) -> Any:
    """The JSON value in the text of the file path."""
    if sum(map(text.count, ",[{")) > MOST_VALUES:
        raise InputError(f"{path} holds more than {MOST_VALUES} values, which is too large; choose another file.")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON; write it anew.") from error


def is_file(path: Path) -> bool:
    """Whether path is a file; a name that no file system takes is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # longer than names may be; a null character in it
        return False


def inside(folder: Path, name: str, allow: Sequence[Path | str] = ()) -> Path:
    """The file or folder name in folder; a path or a link that leads out of it and of every folder of allow is refused.

    What a document names is not what the user named: a folder from elsewhere could show any file of this machine.
    """
    path = folder / name
    try:
        target = path.resolve()
        within = any(target.is_relative_to(Path(each).resolve()) for each in (folder, *allow))
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, or no name at all
        raise InputError(f"{path} leads nowhere; put the file itself there.") from error
    if not within:
        raise InputError(f"{path} leads out of its folder; put the file itself there, or allow the folder it is in.")
    return path


def path_from(folder: Path, path: Path | str) -> str:
    """How a document in folder names path: relative where it lies in there, so that the folder can be moved."""
    target = Path(path).resolve()
    return target.relative_to(folder.resolve()).as_posix() if target.is_relative_to(folder.resolve()) else str(target)


def photo_inside(folder: Path, name: Any, allow: Sequence[Path | str]) -> Path | None:
    """The photograph name in folder, or in a folder of allow; None where there is none.

    It is only shown, so one that leads elsewhere is left out, with a warning.
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
    """The array in the .npy file name of folder; its header is checked before any memory is taken.

    Args:
        folder: where it lies.
        name: of the file.
        shape: what it must have; None for any length.
        kinds: dtype.kind letters that it may be of.
        itemsize: bytes of a number, or None for any.
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
    """(shape, whether in Fortran order, type) of the .npy file, which is then at its first number."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        start = io.BytesIO(file.read(_LONGEST_HEADER))  # what the file says of its length is not believed
        shape, fortran, dtype = readers[np.lib.format.read_magic(start)](start)
        file.seek(start.tell())
        if min(shape, default=0) < 0 or dtype.hasobject:
            raise ValueError
    except Exception as error:  # numpy parses the header as Python; a damaged one raises whatever the parser raises
        raise InputError(f"{path} is damaged or not a .npy file; write it anew.") from error
    return shape, fortran, dtype
