"""Masks are read from image files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import InputError

CHANNELS = ("auto", "alpha", "grey", "red", "green", "blue")


def load_mask(
    path: Path | str, *, channel: str = "auto", threshold: float | None = None, invert: bool = False
) -> np.ndarray:
    """The mask in an image file, (H, W) float32 in 0..1, 1 = object.

    Args:
        channel: where the mask is; "auto" takes alpha where the image is not opaque everywhere, else grey.
        threshold: 0..1; above it is 1, else 0. None keeps soft edges.
        invert: swap object and background (of an alpha mask too).

    Raises InputError when the file is missing, is no image, or has no such channel.
    """
    if channel not in CHANNELS:
        raise InputError(f"there is no mask channel '{channel}'; choose one of {', '.join(CHANNELS)}.")
    mask = _channel(load_image(path), channel, Path(path))
    if threshold is not None:
        mask = (mask > threshold).astype(np.float32)
    return 1 - mask if invert else mask


def load_image(path: Path | str) -> np.ndarray:
    """(H, W, C) float32 in 0..1: C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.

    Raises InputError when the file is missing or is no image.
    """
    from PIL import Image  # loads in 30 ms: only who reads images pays

    try:
        with Image.open(path) as opened:
            image: Image.Image = opened
            if image.mode in ("1", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV"):
                transparent = "transparency" in image.info or image.mode == "PA"
                image = image.convert("L" if image.mode == "1" else "RGBA" if transparent else "RGB")
            pixels = np.asarray(image)
    except FileNotFoundError as error:
        raise InputError(f"the image {path} does not exist.") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"the image {path} cannot be read; save it anew as PNG or JPEG.") from error
    if pixels.dtype.kind == "f":
        pixels = np.nan_to_num(pixels).clip(0, 1).astype(np.float32)
    else:  # 16-bit PNG arrives as uint16, or as int32 with 16-bit values
        full = 255 if pixels.dtype == np.uint8 else 65535
        pixels = pixels.astype(np.float32) / np.float32(full)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _channel(pixels: np.ndarray, channel: str, path: Path) -> np.ndarray:
    channels = pixels.shape[2]
    has_alpha = channels in (2, 4)
    if channel == "alpha" and not has_alpha:
        raise InputError(f"the image {path} has no alpha channel; choose another mask channel.")
    if has_alpha and (channel == "alpha" or (channel == "auto" and pixels[..., -1].min() < 1)):
        return pixels[..., -1].copy()
    if channels < 3:
        return pixels[..., 0].copy()
    if channel in ("red", "green", "blue"):
        return pixels[..., ("red", "green", "blue").index(channel)].copy()
    return (pixels[..., :3] @ np.array([0.299, 0.587, 0.114], dtype=np.float32)).clip(0, 1)  # ITU-R BT.601
