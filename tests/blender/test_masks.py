"""One definition of a mask: Blender and the command line read the same from one file, whatever its format."""

from __future__ import annotations

import subprocess
from pathlib import Path

import bpy
import numpy as np
import pytest

from .conftest import part

HEIGHT, WIDTH = 24, 32

# Writes images of random pixels into a folder, and the masks that the command line's reader finds in them.
WRITE_AND_READ = """
import struct, sys, zlib
from pathlib import Path
import numpy as np
from PIL import Image
from softras.errors import InputError
from softras.io.masks import load_mask

folder, height, width = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
random = np.random.default_rng(4)
kinds = {
    "L": random.integers(0, 256, (height, width), np.uint8),
    "LA": random.integers(0, 256, (height, width, 2), np.uint8),
    "RGB": random.integers(0, 256, (height, width, 3), np.uint8),
    "RGBA": random.integers(0, 256, (height, width, 4), np.uint8),
}
kinds["RGBA opaque"] = kinds["RGBA"] | np.array([0, 0, 0, 255], np.uint8)
kinds["RGB grey"] = kinds["L"][..., None].repeat(3, axis=2)
lossless = {"png": {}, "tif": {}, "tga": {}, "webp": {"lossless": True, "exact": True}}
for name, pixels in kinds.items():
    image = Image.fromarray(pixels)
    for ending, options in lossless.items():
        image.save(folder / f"{name}.{ending}", **options)
    if name in ("L", "RGB"):
        image.save(folder / f"{name}.bmp")
        image.resize((width // 4, height // 4)).resize((width, height)).save(folder / f"{name}.jpg", quality=90)
Image.fromarray(kinds["L"]).convert("1").save(folder / "bits.png")
indexed = Image.fromarray(kinds["RGB"]).quantize(16)
indexed.save(folder / "palette.png")
indexed.save(folder / "palette with a clear colour.png", transparency=3)
Image.fromarray(kinds["L"]).save(folder / "grey with a clear value.png", transparency=int(kinds["L"][0, 0]))
wide = random.integers(0, 65536, (height, width, 4)).astype(">u2")
Image.fromarray(wide[..., 0].astype(np.uint16)).save(folder / "L of 16 bits.png")
Image.fromarray(wide[..., 0].astype(np.uint16)).save(folder / "L of 16 bits.tif")
Image.fromarray((wide[..., 0] / 65535).astype(np.float32)).save(folder / "float.tif")


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


for name, kind, channels in (("RGB", 2, 3), ("RGBA", 6, 4)):  # Pillow writes no colours of 16 bits
    rows = b"".join(b"\\0" + row.tobytes() for row in wide[..., :channels])
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (folder / f"{name} of 16 bits.png").write_bytes(b"\\x89PNG\\r\\n\\x1a\\n" + data)

masks = {}
for path in sorted(folder.iterdir()):
    for channel in ("auto", "alpha", "grey", "red", "green", "blue"):
        for threshold, invert in ((None, False), (None, True), (0.35, False)):
            try:
                mask = load_mask(path, channel=channel, threshold=threshold, invert=invert)
            except InputError as error:
                mask = np.frombuffer(str(error).encode(), np.uint8)
            masks[f"{path.name}|{channel}|{threshold}|{invert}"] = mask
np.savez(folder / "masks.npz", **masks)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, engine_python: str) -> Path:
    """Images, and the masks that the command line reads from them."""
    folder = tmp_path_factory.mktemp("masks")
    subprocess.run([engine_python, "-c", WRITE_AND_READ, folder, str(HEIGHT), str(WIDTH)], check=True)
    return folder


def read(image: bpy.types.Image, channel: str, threshold: float | None, invert: bool) -> np.ndarray:
    """The mask that a view reads which has the image, with these settings in the panel."""
    scene, masks = bpy.context.scene, part("scene.masks")
    item = scene.softras.views.add()
    item.mask, item.channel, item.invert = image, channel.upper(), invert
    if threshold is not None:
        item.use_threshold, item.threshold = True, threshold
    with masks.Footage(item.mask) as footage:
        return footage.mask(1, masks.reading_of(item))


@pytest.mark.parametrize("how", ["file", "packed", "colour space", "generated"])
def test_blender_and_the_command_line_read_the_same_mask(scene: bpy.types.Scene, folder: Path, how: str) -> None:
    """To the bit, but for colours of 16 bits, and for grey files that Blender shows as colours: within 1/255 and in the
    last bit of a float."""
    found: dict[str, float] = {}
    for key, wanted in np.load(folder / "masks.npz").items():
        name, channel, threshold, invert = key.split("|")
        image = bpy.data.images.load(str(folder / name), check_existing=True)
        if how == "packed" and not image.packed_file:
            image.pack()
        if how == "colour space":
            image.colorspace_settings.name = "Linear Rec.709"
        if how == "generated":
            image = as_generated(image)
        try:
            mask = read(image, channel, None if threshold == "None" else float(threshold), invert == "True")
        except ValueError as error:
            assert wanted.ndim == 1, f"{key}: {error}"
            assert "has no alpha channel; choose another mask channel" in str(error)
            assert "has no alpha channel; choose another mask channel" in wanted.tobytes().decode()
            continue
        if wanted.ndim == 1:  # Blender gives the alpha of some files that have none as 1
            assert how == "generated" and (mask == (invert != "True")).all(), key
            continue
        assert mask.dtype == wanted.dtype == np.float32 and mask.shape == wanted.shape
        found[key] = float(np.abs(mask - wanted).max()) if threshold == "None" else float((mask != wanted).mean())
    assert len(found) > 300
    off = {key: difference for key, difference in found.items() if difference}
    deep = {key: difference for key, difference in off.items() if key.startswith(("RGB of 16", "RGBA of 16"))}
    # The command line takes the upper eight of the sixteen bits of a colour.
    assert all(difference <= 1 / 255 for key, difference in deep.items() if "None" in key)
    assert all(difference < 0.02 for key, difference in deep.items() if "None" not in key)
    # The grey of three equal colours may differ in the last bit from a grey that is one number in the file.
    expanded = {key.split("|")[0] for key in off if key not in deep}
    assert all(difference < 2e-7 for key, difference in off.items() if key not in deep)
    assert how == "generated" or expanded <= {"L.bmp", "LA.png", "LA.tif", "LA.tga", "grey with a clear value.png"}


def as_generated(image: bpy.types.Image) -> bpy.types.Image:
    """An image without a file that has the same pixels."""
    values = np.empty(len(image.pixels), np.float32)
    raw = image.copy()
    raw.colorspace_settings.name = "Non-Color"
    raw.pixels.foreach_get(values)
    bpy.data.images.remove(raw)
    made = bpy.data.images.new("Made", *image.size, alpha=True, float_buffer=image.is_float, is_data=True)
    made.pixels.foreach_set(values)
    return made


def test_the_channels_of_the_panel_are_the_engines(scene: bpy.types.Scene) -> None:
    channels = part("engine.softras.io.masks").CHANNELS
    items = scene.softras.views.add().bl_rna.properties["channel"].enum_items
    assert [item.identifier for item in items] == [channel.upper() for channel in channels]
