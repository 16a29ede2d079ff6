"""The real bpy module with the extension really installed from its zip, into a Blender user folder of its own.

SOFTRAS_PYTHON names the interpreter of the engine's environment.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULE = "bl_ext.user_default.softras"
_RESOURCES = tempfile.mkdtemp(prefix="softras-test-")
os.environ["BLENDER_USER_RESOURCES"] = _RESOURCES  # read when bpy is imported

bpy = pytest.importorskip("bpy")
Vector = pytest.importorskip("mathutils").Vector


@pytest.fixture(scope="session")
def engine_python() -> str:
    """The interpreter of the engine's environment."""
    python = os.environ.get("SOFTRAS_PYTHON")
    if not python:
        pytest.skip("SOFTRAS_PYTHON does not name the engine's Python")
    return python


@pytest.fixture(scope="session")
def addon_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extension, built from this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, str(ROOT / "build_addon.py"), "--out", str(folder)], check=True)
    return next(folder.glob("softras-*.zip"))


@pytest.fixture(scope="session")
def installed(addon_zip: Path, engine_python: str):
    """Install and enable the extension; disable it at the end (4.5 hangs at exit otherwise)."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.extensions.package_install_files(filepath=str(addon_zip), repo="user_default", enable_on_install=True)
    bpy.context.preferences.addons[MODULE].preferences.python = engine_python
    yield
    bpy.ops.preferences.addon_disable(module=MODULE)


@pytest.fixture
def preferences(installed: None, engine_python: str):
    """The extension's preferences, put right again afterwards."""
    yield bpy.context.preferences.addons[MODULE].preferences
    # Asked for anew: a test may have disabled and enabled the extension.
    bpy.context.preferences.addons[MODULE].preferences.python = engine_python
    part("prefs").stop_engine()


def part(name: str) -> ModuleType:
    """A module of the installed extension."""
    return importlib.import_module(f"{MODULE}.{name}")


@pytest.fixture
def scene(installed: None):
    """An empty file's scene."""
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=False)
    return bpy.context.scene


def disc_image(name: str, width: int = 64, height: int = 48, radius: float = 0.5) -> bpy.types.Image:
    """A generated image whose alpha is a disc of `radius` units at 1 unit = half the width, off-centre to no side."""
    x = (np.arange(width) + 0.5 - width / 2) / (width / 2)
    y = (np.arange(height) + 0.5 - height / 2) / (width / 2)
    inside = np.hypot(*np.meshgrid(x, y)) < radius
    pixels = np.ones((height, width, 4), dtype=np.float32)
    pixels[..., 3] = inside
    image = bpy.data.images.new(name, width, height, alpha=True)
    image.pixels.foreach_set(pixels.ravel())
    image.update()
    return image


@pytest.fixture
def ball(scene: bpy.types.Scene) -> bpy.types.Object:
    """An object to fit, a ball of radius 0.65, and three views that see one of radius 0.5."""
    for number, rotation in enumerate([(0, 0, 0), (np.pi / 2, 0, 0), (np.pi / 2, 0, np.pi / 2)]):
        data = bpy.data.cameras.new(f"Camera {number}")
        data.type, data.ortho_scale = "ORTHO", 2.0
        camera = bpy.data.objects.new(f"Camera {number}", data)
        camera.rotation_euler = rotation
        scene.collection.objects.link(camera)
        bpy.context.view_layer.update()
        camera.location = camera.matrix_world.to_3x3() @ Vector((0, 0, 4))
        item = scene.softras.views.add()
        item.camera, item.image = camera, disc_image(f"Disc {number}")
    bpy.ops.mesh.primitive_ico_sphere_add(subdivisions=3, radius=0.65)
    scene.softras.seconds = 2
    scene.softras.target = bpy.context.active_object
    return bpy.context.active_object


def positions(target: bpy.types.Object) -> np.ndarray:
    """(V, 3) world positions of what is seen of the object, modifiers included."""
    bpy.context.view_layer.update()
    evaluated = target.evaluated_get(bpy.context.evaluated_depsgraph_get())
    flat = np.empty(len(evaluated.data.vertices) * 3)
    evaluated.data.vertices.foreach_get("co", flat)
    matrix = np.array(target.matrix_world)
    return flat.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3]


def radius(target: bpy.types.Object) -> float:
    """Mean distance of the seen vertices from the world's origin."""
    return float(np.linalg.norm(positions(target), axis=1).mean())


def is_smaller(target: bpy.types.Object) -> bool:
    """Whether the ball went from 0.65 towards 0.5; how far it comes in its time depends on the machine."""
    return 0.45 < radius(target) < 0.63


def local_positions(target: bpy.types.Object) -> np.ndarray:
    """(V, 3) the object's own mesh, as stored: no shape keys, no modifiers, no transform."""
    flat = np.empty(len(target.data.vertices) * 3, dtype=np.float32)
    target.data.vertices.foreach_get("co", flat)
    return flat.reshape(-1, 3)


def snapshot(scene: bpy.types.Scene, without: bpy.types.Object | None = None) -> dict[str, object]:
    """What a fit must not touch, as plain values: settings, other objects, images, names of all data."""
    simple = (bool, int, float, str)

    def values(owner: bpy.types.bpy_struct) -> dict[str, object]:
        names = [prop.identifier for prop in owner.bl_rna.properties if prop.type != "POINTER"]
        found = {name: getattr(owner, name) for name in names if name != "rna_type"}
        return {name: value for name, value in found.items() if isinstance(value, simple)}

    objects = {}
    for item in scene.objects:
        matrix = tuple(map(tuple, item.matrix_world))
        objects[item.name] = (matrix, item.select_get(), item.hide_get(), item.mode, values(item.data))
        if item.type == "MESH" and item != without:
            objects[item.name] += (local_positions(item).tobytes(), item.data.name)
    if without is not None:
        matrix, *state, _ = objects[without.name]
        objects[without.name] = (matrix, *state)
    return {
        "render": values(scene.render),
        "scene": values(scene),
        "camera": scene.camera and scene.camera.name,
        "active": bpy.context.view_layer.objects.active and bpy.context.view_layer.objects.active.name,
        "objects": objects,
        "images": {
            image.name: (image.colorspace_settings.name, image.is_dirty, *image.size) for image in bpy.data.images
        },
        "collections": sorted(collection.name for collection in bpy.data.collections),
        "meshes": len(bpy.data.meshes),
    }
