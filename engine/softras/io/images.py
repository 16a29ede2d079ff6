"""Pictures are read from files here and nowhere else: masks, photographs and textures.

Only decoders that do nothing but decode pixels are used: a PostScript file called mask.png would start a program. The
header of a picture says how much memory its pixels need. Before any is taken, a picture that is too large is refused,
and a thread whose picture finds too little memory left waits until other threads have decoded theirs.
"""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from ..errors import InputError
from ..files import is_file, open_data, read_array

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "TGA", "GIF", "PPM")
LARGEST = 120 * 10**6  # pixels of one picture, and of all pictures that are decoded at once: up to 1 GB
LARGEST_TEXTURE = 2**26  # pixels of a texture, which has three channels of float32: 0.8 GB
ROWS = 256  # rows of a picture that are converted at a time, so that the picture is never in memory twice

# How an array with row 0 on top is turned upright, by the value of the EXIF tag Orientation.
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
    8: lambda p: np.rot90(p),
}


def load_image(path: Path | str, data: bytes | None = None) -> np.ndarray:
    """(H, W, C) float32 in 0..1: C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.

    Formats: PNG, JPEG, TIFF, WebP, BMP, TGA, GIF, PPM (PGM, PBM), of one picture each and at most 120 megapixels.
    The EXIF orientation is applied. Colours of 16 bits are read as 8; grey keeps its 16 bits. CMYK becomes RGB. The
    array takes 4 bytes a channel and pixel, up to 1.9 GB for the largest pictures.

    Args:
        path: the file.
        data: the bytes of a picture that lies inside the file path, such as a texture inside a GLB; None to read the
            file itself.

    Raises InputError when the file is missing, damaged, too large or of another kind.
    """
    return unit(read_pixels(path, data=data), path)


def read_texture(path: Path | str, data: bytes | None = None) -> np.ndarray:
    """(H, W, 3) float32 in 0..1: what `load_image` reads without the alpha, of at most 67 megapixels."""
    pixels = read_pixels(path, data=data, most=LARGEST_TEXTURE)
    if pixels.shape[2] > 3:
        pixels = np.ascontiguousarray(pixels[..., :3])  # frees the alpha's memory
    return _in_rgb(pixels, np.float32, lambda rows: unit(rows, path))


def load_colours(path: Path | str) -> np.ndarray:
    """(H, W, 3) uint8 colours of a picture that is only shown: what `load_image` reads without the alpha."""
    pixels = read_pixels(path)
    if pixels.dtype == np.uint8:
        return rgb(pixels)
    return _in_rgb(pixels, np.uint8, lambda rows: (unit(rows, path) * 255).round())


def _in_rgb(pixels: np.ndarray, dtype: type, convert: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """(H, W, 3) converted colours of pixels, some rows at a time, so that there is no third array of this size."""
    found = np.empty((*pixels.shape[:2], 3), dtype)
    for top in range(0, len(pixels), ROWS):
        found[top : top + ROWS] = convert(rgb(pixels[top : top + ROWS]))
    return found


def rgb(pixels: np.ndarray) -> np.ndarray:
    """The colours (H, W, 3) of pixels (H, W, C): alpha is left out, and grey becomes three equal colours."""
    return pixels[..., :3] if pixels.shape[2] > 2 else pixels[..., :1].repeat(3, axis=2)


def brightest(pixels: np.ndarray) -> int:
    """The number that stands for white and for opaque in an array of pixels, by its type of numbers."""
    return 255 if pixels.dtype == np.uint8 else 1 if pixels.dtype.kind == "f" else 65535


def unit(pixels: np.ndarray, path: Path | str) -> np.ndarray:
    """`to_unit` for pixels of the image file path."""
    return to_unit(pixels, f"the image {path}")


def to_unit(pixels: np.ndarray, name: str) -> np.ndarray:
    """Pixels as `read_pixels` returns them, scaled to float32 from 0 to 1.

    Raises InputError, calling the image by `name`, where numbers lie outside the range of their type.
    """
    if pixels.dtype == np.uint8:
        return np.multiply(pixels, np.float32(1 / 255), dtype=np.float32)
    most = brightest(pixels)
    low, high = (-1.0, 2.0) if most == 1 else (0, most)  # numbers of resampling may lie a little outside 0..1
    if not (pixels.min() >= low and pixels.max() <= high):  # NaN too
        raise InputError(
            f"{name} holds values from {pixels.min():g} to {pixels.max():g} where 0 to {most} are possible; "
            "save it anew with 8 bits."
        )
    found = np.multiply(pixels, np.float32(1 / most), dtype=np.float32, casting="same_kind")
    return found.clip(0, 1, out=found)


def read_pixels(
    path: Path | str,
    *,
    data: bytes | None = None,
    size: tuple[int, int] | None = None,
    exact: bool = False,
    indices: bool = False,
    most: int = LARGEST,
) -> np.ndarray:
    """The pixels of a picture as the file stores them, (H, W, C), turned upright, row 0 on top.

    Colours are uint8; grey (C = 1) and grey with alpha (C = 2) may also be uint16, int32 or float32. A .npy file holds
    an array (H, W) of uint8, or of bool, which becomes 0 and 255: jobs of version 1 have their masks in such files.

    Args:
        path: the file.
        data: the bytes of a picture that lies inside the file path; None to read the file itself.
        size: (width, height) that the picture must have; a picture of another size is refused before its pixels are
            read.
        exact: whether every single value matters, as in a map of labels; JPEG files, which change values, are refused.
        indices: whether the indices of a picture with a palette are wanted (C = 1), not their colours.
        most: how many pixels the picture may have.

    Raises InputError as `load_image`.
    """
    from PIL import Image  # loads in 30 ms: only who reads images pays

    path = Path(path)
    if data is None and path.suffix == ".npy":
        if is_file(path) and path.stat().st_size > most + 4096:  # a header is far smaller
            raise _too_large(path, most)
        array = read_array(path.parent, path.name, size[::-1] if size else (None, None), "ub", itemsize=1)
        return (array * np.uint8(255) if array.dtype == bool else array)[..., None]
    if data is None and not os.path.exists(path):
        raise InputError(f"the image {path} does not exist.")
    try:
        with _Bounded(path) if data is None else io.BytesIO(data) as file, _QUIET.hold():
            return _decode(file, path, size, exact, indices, most)
    except InputError:
        raise
    except Image.UnidentifiedImageError as error:
        raise InputError(
            f"the image {path} cannot be read: it is damaged or of another format than {', '.join(FORMATS)}; "
            "save it anew as PNG or JPEG."
        ) from error
    except Image.DecompressionBombError as error:
        raise _too_large(path, most) from error
    except MemoryError as error:
        raise InputError(f"the image {path} does not fit into memory; make it smaller.") from error
    except Exception as error:  # decoders of damaged files raise whatever they stumble over
        raise InputError(f"the image {path} cannot be read: it is damaged; save it anew as PNG or JPEG.") from error


class _Bounded(io.BufferedReader):
    """A file that gives a decoder no more bytes than it has.

    Python's own buffered file takes memory for as many bytes as it is asked for, before it reads any of them; a decoder
    asks for as many as a damaged file says.
    """

    def __init__(self, path: Path) -> None:
        file = open_data(path)
        self._size = os.fstat(file.fileno()).st_size
        super().__init__(file.detach())  # type: ignore[attr-defined]

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, self._size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


def _decode(
    file: BinaryIO, path: Path, size: tuple[int, int] | None, exact: bool, indices: bool, most: int
) -> np.ndarray:
    from PIL import Image

    with Image.open(file, formats=FORMATS) as image:
        # A phone's JPEG may come with its depth map: then Pillow calls the format MPO, and the first picture is meant.
        pictures = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        if pictures != 1:
            raise InputError(f"the image {path} holds {pictures} pictures; save the one that is meant as a PNG.")
        if exact and image.format in ("JPEG", "MPO"):
            raise InputError(f"the image {path} is a JPEG, which does not keep labels exactly; save them as a PNG.")
        if image.width * image.height > most:
            raise _too_large(path, most)
        if size is not None and sorted(image.size) != sorted(size):
            raise _other_size(path, image.size, size)
        with _ROOM.hold(image.width * image.height):
            pixels = _converted(image, path, indices)
            turn = image.getexif().get(0x0112)  # asked for after the pixels, since it may lie behind them in a PNG
            pixels = _UPRIGHT[turn](pixels) if turn in _UPRIGHT else pixels
    if size is not None and pixels.shape[1::-1] != tuple(size):
        raise _other_size(path, (pixels.shape[1], pixels.shape[0]), size)
    return pixels


def _converted(image: Image, path: Path, indices: bool) -> np.ndarray:
    """The pixels (H, W, C), as a kind of numbers and channels that `read_pixels` returns."""
    mode, key = image.mode, image.info.get("transparency")
    # Pillow's name for the bits of the file, such as "L;2", which it forgets when it reads the pixels.
    stored = next((tile[3] for tile in getattr(image, "tile", ())), "")
    stored = stored if isinstance(stored, str) else str((stored or ("",))[0])
    if mode in ("1", "L", "I", "F") or mode.startswith("I;16"):
        wanted = "L" if mode == "1" else mode
    elif mode == "P" and indices:
        wanted = "P"
    elif mode in ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "LA", "La", "CMYK", "YCbCr"):
        alpha = "A" in mode.upper() or (key is not None and mode in ("P", "RGB"))
        wanted = "LA" if mode in ("LA", "La") else "RGBA" if alpha else "RGB"
        if mode == "RGB" and alpha and stored.startswith("RGB;16"):
            raise InputError(
                f"the image {path} has colours of 16 bits of which one is transparent; save it with 8 bits or an alpha."
            )
    else:
        raise InputError(f"the image {path} has colours of the kind {mode}; save it anew as RGB or grey.")
    image.load()
    pixels = np.empty(0)
    for top in range(0, image.height, ROWS):
        part = image.crop((0, top, image.width, min(top + ROWS, image.height)))
        rows = np.asarray(part if part.mode == wanted else part.convert(wanted))
        if top == 0:
            pixels = np.empty((image.height, *rows.shape[1:]), rows.dtype)
        pixels[top : top + ROWS] = rows
    if pixels.dtype.byteorder == ">":
        pixels = pixels.astype(pixels.dtype.newbyteorder("="))
    if pixels.ndim == 3:
        return pixels
    if not isinstance(key, int) or mode == "F" or wanted == "P":
        return pixels[..., None]
    # In a grey PNG one value may be transparent. It is told in the file's own bits, which Pillow stretches to eight.
    key = key % 65536 if pixels.itemsize > 1 else key % 256 * {"L;2": 85, "L;4": 17}.get(stored, 1)
    full = 65535 if pixels.itemsize > 1 else 255
    return np.stack([pixels, np.where(pixels == key, 0, full).astype(pixels.dtype)], axis=-1)


class _Quiet:
    """Silences warnings while pictures are decoded: what a decoder finds odd is either harmless or an InputError.

    Python's filters of warnings belong to all threads, so the first thread that decodes puts them aside, and the last
    one puts them back.
    """

    def __init__(self) -> None:
        self._decoding = 0
        self._lock = threading.Lock()
        self._filters = warnings.catch_warnings()

    @contextmanager
    def hold(self) -> Iterator[None]:
        with self._lock:
            if self._decoding == 0:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.simplefilter("ignore")
            self._decoding += 1
        try:
            yield
        finally:
            with self._lock:
                self._decoding -= 1
                if self._decoding == 0:
                    self._filters.__exit__(None, None, None)


class _Room:
    """A number of pixels that all threads share which decode at once; a thread that finds too few left waits."""

    def __init__(self, pixels: int) -> None:
        self._free = pixels
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._free >= pixels)
            self._free -= pixels
        try:
            yield
        finally:
            with self._changed:
                self._free += pixels
                self._changed.notify_all()


_ROOM = _Room(LARGEST)
_QUIET = _Quiet()


def _too_large(path: Path, most: int) -> InputError:
    return InputError(f"the image {path} has more than {most // 10**6} megapixels; make it smaller.")


def _other_size(path: Path, size: tuple[int, int], wanted: tuple[int, int]) -> InputError:
    return InputError(
        f"the image {path} is {size[0]} x {size[1]} pixels but its camera has {wanted[0]} x {wanted[1]}; "
        "use an image of the camera's size."
    )
