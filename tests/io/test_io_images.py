"""Pictures as files: upright, transparent, of every kind of numbers, of named formats only, and never too large."""

import json
import resource
import struct
import subprocess
import sys
import textwrap
import threading
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from softras import InputError, load_views
from softras.io import images
from softras.io.images import load_colours, load_image, read_pixels
from softras.io.masks import load_mask
from softras.io.views import list_views, save_views

STEPS = np.array([[0, 0, 0], [255, 0, 0]], dtype=np.uint8)  # white at the bottom left


def png(width: int, height: int, depth: int, kind: int, rows: bytes, **chunks: bytes) -> bytes:
    """A PNG file from its bits: what Pillow reads and does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    middle = b"".join(chunk(name.encode(), data) for name, data in chunks.items())
    return b"\x89PNG\r\n\x1a\n" + header + middle + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_read_as_viewers_show_it(suffix: str, orientation: int, tmp_path: Path) -> None:
    shown = Image.fromarray(np.kron(STEPS, np.ones((16, 16), np.uint8)))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the inverse of what the tag asks for, as PIL.Image.Transpose
    stored = shown.transpose(undo[orientation]) if orientation > 1 else shown
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"mask.{suffix}", exif=exif.tobytes(), quality=100)
    for mask in (
        load_mask(tmp_path / f"mask.{suffix}", size=shown.size),
        load_colours(tmp_path / f"mask.{suffix}")[..., 0] / 255,
    ):
        np.testing.assert_allclose(mask, np.asarray(shown) / 255, atol=0.02)
    if orientation > 4:
        with pytest.raises(InputError, match="is 48 x 32 pixels but its camera has 32 x 48"):
            load_mask(tmp_path / f"mask.{suffix}", size=shown.size[::-1])


TRANSPARENT = {  # the pixel at the bottom left is opaque, the others have the transparent value
    "grey of 1 bit": png(3, 2, 1, 0, b"\0\0\0\x80", tRNS=b"\0\0"),
    "grey of 2 bits": png(3, 2, 2, 0, b"\0\x54\0\xd4", tRNS=b"\0\1"),
    "grey of 4 bits": png(3, 2, 4, 0, b"\0\x22\x20\0\x12\x20", tRNS=b"\0\2"),
    "grey of 8 bits": png(3, 2, 8, 0, b"\0\7\7\7\0\x08\7\7", tRNS=b"\0\7"),
    "grey of 16 bits": png(3, 2, 16, 0, b"\0" + b"\1\7" * 3 + b"\0\2\7" + b"\1\7" * 2, tRNS=b"\1\7"),
    "colours": png(3, 2, 8, 2, b"\0" + b"\1\2\3" * 3 + b"\0\1\2\4" + b"\1\2\3" * 2, tRNS=b"\0\1\0\2\0\3"),
    "a palette": png(3, 2, 8, 3, b"\0\0\0\0\0\1\0\0", PLTE=b"\1\2\3\1\2\3", tRNS=b"\0\xff"),
}


@pytest.mark.parametrize("name", TRANSPARENT)
def test_a_transparent_value_is_an_alpha_channel(name: str, tmp_path: Path) -> None:
    (tmp_path / "mask.png").write_bytes(TRANSPARENT[name])
    for channel in ("auto", "alpha"):
        np.testing.assert_array_equal(load_mask(tmp_path / "mask.png", channel=channel), STEPS / 255)
    assert load_image(tmp_path / "mask.png").shape[2] in (2, 4)


def test_half_transparent_entries_of_a_palette_are_kept(tmp_path: Path) -> None:
    (tmp_path / "mask.png").write_bytes(png(2, 1, 8, 3, b"\0\0\1", PLTE=b"\1\2\3\1\2\3", tRNS=b"\x40\xc0"))
    np.testing.assert_allclose(load_mask(tmp_path / "mask.png"), [[64 / 255, 192 / 255]], atol=1e-6)


def test_colours_of_16_bits_with_a_transparent_one_are_refused(tmp_path: Path) -> None:
    """The decoder keeps eight bits, and with them other colours would be transparent too."""
    (tmp_path / "mask.png").write_bytes(png(1, 1, 16, 2, b"\0" + b"\1\2" * 3, tRNS=b"\1\3" * 3))
    with pytest.raises(InputError, match="colours of 16 bits of which one is transparent"):
        load_mask(tmp_path / "mask.png")


@pytest.mark.parametrize(
    ("values", "suffix"),
    [
        ((STEPS.astype(np.uint16) * 257), "png"),
        ((STEPS.astype(np.uint16) * 257), "tif"),
        ((STEPS.astype(np.uint16) * 257), "pgm"),
        ((STEPS.astype(np.int32) * 257), "tif"),
        ((STEPS.astype(np.float32) / 255), "tif"),
    ],
)
def test_grey_of_more_than_8_bits_keeps_its_range(values: np.ndarray, suffix: str, tmp_path: Path) -> None:
    Image.fromarray(values).save(tmp_path / f"mask.{suffix}")
    np.testing.assert_array_equal(load_mask(tmp_path / f"mask.{suffix}"), STEPS / 255)


@pytest.mark.parametrize("values", [STEPS.astype(np.float32), STEPS * np.float32("nan"), STEPS.astype(np.int32) << 20])
def test_values_of_an_unknown_range_are_refused(values: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(values).save(tmp_path / "mask.tif")
    with pytest.raises(InputError, match="holds values from .* are possible"):
        load_mask(tmp_path / "mask.tif")


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB", "RGBX", "PA", "I;16B"])
def test_other_colour_spaces_are_right_or_refused_by_name(mode: str, tmp_path: Path) -> None:
    white = Image.new("L", (4, 4), 255)
    if mode == "PA":
        picture = Image.merge("LA", [white, white]).convert("PA")
    elif mode == "LAB":
        picture = Image.merge("LAB", [white, Image.new("L", (4, 4), 128), Image.new("L", (4, 4), 128)])
    elif mode == "I;16B":
        picture = Image.frombytes("I;16B", (4, 4), b"\xff\xff" * 16)
    else:
        picture = white.convert("RGB").convert(mode)
    picture.save(tmp_path / "mask.tif")
    if mode == "LAB":
        with pytest.raises(InputError, match="colours of the kind LAB"):
            load_mask(tmp_path / "mask.tif")
    else:
        np.testing.assert_array_equal(load_mask(tmp_path / "mask.tif"), np.ones((4, 4)))


@pytest.mark.parametrize("suffix", ["png", "gif", "tif", "webp"])
def test_several_pictures_in_a_file_are_refused(suffix: str, tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    pictures[0].save(tmp_path / f"mask.{suffix}", save_all=True, append_images=pictures[1:])
    with pytest.raises(InputError, match="holds 2 pictures"):
        load_mask(tmp_path / f"mask.{suffix}")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "bmp", "tga", "gif", "ppm"])
def test_each_format_is_read_and_a_part_of_it_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"mask.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path, **({"lossless": True} if suffix == "webp" else {}))
    if suffix not in ("jpg", "gif"):
        np.testing.assert_array_equal(load_colours(path), noise)
    assert load_mask(path).shape == (64, 64)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="cannot be read"):
        load_mask(path)


def test_a_postscript_file_starts_no_program(tmp_path: Path) -> None:
    """Pillow would start whatever is called gs on a mask.png that is PostScript."""
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    program.chmod(0o755)
    (tmp_path / "mask.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 24 20\n%%EndComments\n%%EndProlog\nshowpage\n%%EOF\n"
    )
    code = "import sys; from softras.io.images import load_image; load_image(sys.argv[1])"
    command = [sys.executable, "-c", code, str(tmp_path / "mask.png")]
    path = {"PATH": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(command, env=path, capture_output=True, text=True)
    assert "of another format than PNG, JPEG" in done.stderr
    assert not (tmp_path / "started").exists()


def bomb(width: int, height: int) -> bytes:
    """A small PNG of many black transparent pixels."""
    packed = zlib.compressobj(9)
    data = b"".join(packed.compress(b"\0" * (4 * width + 1)) for _ in range(height)) + packed.flush()
    empty = png(width, height, 8, 6, b"")
    at = empty.index(b"IDAT") - 4
    chunk = struct.pack(">I", len(data)) + b"IDAT" + data + struct.pack(">I", zlib.crc32(b"IDAT" + data))
    return empty[:at] + chunk + empty[-12:]


def test_a_bomb_is_refused_from_its_header(tmp_path: Path) -> None:
    (tmp_path / "header.png").write_bytes(png(12000, 12000, 8, 6, b""))
    (tmp_path / "wide.png").write_bytes(bomb(4000, 4000))
    code = f"""
    import resource
    from softras.io.masks import load_mask
    from softras.errors import InputError
    import PIL.Image, PIL.PngImagePlugin, numpy
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, size in (("header", None), ("wide", (400, 400))):
        try: load_mask({str(tmp_path)!r} + f"/{{name}}.png", size=size)
        except InputError as error: print(error)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    env = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=env, capture_output=True, text=True, check=True
    )
    first, second, grown = done.stdout.splitlines()
    assert "has more than 120 megapixels" in first and "is 4000 x 4000 pixels but its camera has 400 x 400" in second
    assert int(grown) < 10_000  # KB


def test_what_is_decoded_at_once_is_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Sixteen threads, room for three pictures."""
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / "mask.png")
    monkeypatch.setattr(images, "_ROOM", images._Room(3 * 1600))
    at_once, most, lock, decode = 0, 0, threading.Lock(), images._converted

    def counted(*arguments):
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.001)  # for others to come in
        pixels = decode(*arguments)
        with lock:
            at_once -= 1
        return pixels

    monkeypatch.setattr(images, "_converted", counted)
    threads = [
        threading.Thread(target=lambda: [read_pixels(tmp_path / "mask.png") for _ in range(10)]) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert 1 <= most <= 3 and at_once == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_large_picture_is_in_memory_once(tmp_path: Path) -> None:
    """36 megapixels with alpha: four bytes of each as they are decoded, four as they are handed on."""
    (tmp_path / "mask.png").write_bytes(bomb(6000, 6000))
    code = f"""
    from softras.io.masks import load_mask
    load_mask({str(tmp_path / "mask.png")!r}, channel="alpha")
    lines = open("/proc/self/status").read().splitlines()  # getrusage would count the parent's memory at the fork
    print(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
    """
    env = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=env, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 100_000 + 14 * 36_000  # KB


def test_no_warning_reaches_the_user(tmp_path: Path) -> None:
    """Pillow warns of an animation of no pictures, and of many pixels."""
    (tmp_path / "mask.png").write_bytes(png(1, 1, 8, 0, b"\0\xff", acTL=struct.pack(">II", 0, 0)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_mask(tmp_path / "mask.png") == 1


def test_arrays_are_pictures_too_and_no_larger_ones(tmp_path: Path) -> None:
    """Jobs of version 1 have their masks in .npy files."""
    steps = np.arange(256, dtype=np.uint8).reshape(8, 32)
    np.save(tmp_path / "mask.npy", steps)
    np.testing.assert_array_equal(load_mask(tmp_path / "mask.npy"), steps * np.float32(1 / 255))
    np.save(tmp_path / "ignore.npy", steps > 99)
    np.testing.assert_array_equal(load_mask(tmp_path / "ignore.npy"), steps > 99)
    with open(tmp_path / "mask.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (12_000, 12_000)})
        file.truncate(file.tell() + 12_000**2)
    with pytest.raises(InputError, match="more than 120 megapixels"):
        load_mask(tmp_path / "mask.npy")


def test_labels_are_values_as_they_are_stored(tmp_path: Path) -> None:
    labels = np.array([[0, 3, 3], [7, 3, 255]], dtype=np.uint8)
    indexed = Image.fromarray(labels, "P")
    indexed.putpalette(np.random.default_rng(0).integers(0, 256, 768).astype(np.uint8).tobytes())
    indexed.save(tmp_path / "indexed.png", transparency=3)
    Image.fromarray(labels).save(tmp_path / "grey.png")
    Image.fromarray(labels.astype(np.uint16) * 200).save(tmp_path / "wide.png")
    Image.fromarray(np.stack([labels] * 3, axis=-1)).save(tmp_path / "rgb.png")
    colours = np.stack([labels, labels * 0, labels * 0], axis=-1)
    Image.fromarray(colours).save(tmp_path / "red.png")
    for name, options in (
        ("indexed", {"label": 3}),
        ("grey", {"label": 3}),
        ("grey", {"label": "#030303"}),
        ("wide", {"label": 600}),
        ("rgb", {"label": 3}),
        ("red", {"label": 3, "channel": "red"}),
        ("red", {"label": "#030000"}),
    ):
        np.testing.assert_array_equal(load_mask(tmp_path / f"{name}.png", **options), labels == 3)
    np.testing.assert_array_equal(load_mask(tmp_path / "grey.png", label=7, invert=True), labels != 7)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"label": "red"}, "a colour such as #ff0000, not 'red'"),
        ({"label": 1.5}, "whole number"),
        ({"label": True}, "whole number"),
        ({"label": 3, "threshold": 0.5}, "leave the threshold out"),
        ({"label": "#ff0000", "channel": "red"}, "leave the channel out"),
        ({"label": 3}, "has colours; give the label as one"),
        ({"label": 3, "channel": "alpha"}, "no alpha channel"),
        ({"threshold": 1.5}, "threshold must be a number"),
        ({"threshold": float("nan")}, "threshold must be a number"),
        ({"invert": 1}, "invert must be true or false"),
        ({"channel": 3}, "channel cannot be 3"),
    ],
)
def test_a_reading_that_means_nothing_is_refused(options: dict, sentence: str, tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), (1, 2, 3)).save(tmp_path / "mask.png")
    with pytest.raises(InputError, match=sentence):
        load_mask(tmp_path / "mask.png", **options)


def test_labels_of_a_jpeg_are_refused(tmp_path: Path) -> None:
    Image.new("L", (4, 4), 3).save(tmp_path / "mask.jpg")
    with pytest.raises(InputError, match="JPEG, which does not keep labels exactly"):
        load_mask(tmp_path / "mask.jpg", label=3)


def test_a_folder_says_how_its_masks_are_read(square_views, tmp_path: Path) -> None:
    """The view goes before the folder, and the caller before both."""
    save_views(tmp_path, square_views)
    document = json.loads((tmp_path / "cameras.json").read_text())
    document["mask_invert"], document["mask_threshold"] = True, 0.25
    document["views"][1].update(mask_invert=False)
    document["views"][2].update(mask_label=255, mask_threshold=None, mask_invert=False)
    (tmp_path / "cameras.json").write_text(json.dumps(document))
    views = load_views(tmp_path)
    np.testing.assert_array_equal(views[0].mask, 1 - square_views[0].mask)
    np.testing.assert_array_equal(views[1].mask, square_views[1].mask)
    np.testing.assert_array_equal(views[2].mask, square_views[2].mask)
    assert [view.reading.threshold for view in list_views(tmp_path)] == [0.25, 0.25, None]
    views = load_views(tmp_path, mask_invert=False)
    np.testing.assert_array_equal(views[0].mask, square_views[0].mask)
    with pytest.raises(InputError, match="view 'along y': .*channel cannot be 'luma'"):
        load_views(tmp_path, mask_channel="luma")
    document["views"][1].update(mask_threshold="0.5")
    (tmp_path / "cameras.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="view 'along x': the mask's threshold must be a number"):
        load_views(tmp_path)


def test_the_limit_of_open_files_is_not_used_up(tmp_path: Path) -> None:
    """Refused files are closed."""
    Image.new("L", (4, 4), 3).save(tmp_path / "mask.png")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[1]), before[1]))
    try:
        for _ in range(300):
            with pytest.raises(InputError):
                load_mask(tmp_path / "mask.png", size=(8, 8))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
