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
ALL_PARTS = ("object", "pose", "shape_keys")  # of a rig
_RESOURCES = tempfile.mkdtemp(prefix="softras-test-")
os.environ["BLENDER_USER_RESOURCES"] = _RESOURCES  # read when bpy is imported

bpy = pytest.importorskip("bpy")
bmesh = pytest.importorskip("bmesh")
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
    """An empty file's scene; a fit that the test leaves running, because it fails, is reverted."""
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=False)
    yield bpy.context.scene
    if part("session").current is not None:
        part("session").current.revert()


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
        item.camera, item.mask = camera, disc_image(f"Disc {number}")
    bpy.ops.mesh.primitive_ico_sphere_add(subdivisions=3, radius=0.65)
    scene.softras.seconds = 2
    scene.softras.target = bpy.context.active_object
    return bpy.context.active_object


def add_armature(bones: list[tuple[str, str, tuple, tuple, float]], name: str = "Rig") -> bpy.types.Object:
    """An armature object of bones (name, parent's name or "", head, tail, roll), active and in Object Mode."""
    armature = bpy.data.objects.new(name, bpy.data.armatures.new(name))
    bpy.context.scene.collection.objects.link(armature)
    bpy.context.view_layer.objects.active = armature
    bpy.ops.object.mode_set(mode="EDIT")
    for bone, parent, head, tail, roll in bones:
        edit = armature.data.edit_bones.new(bone)
        edit.head, edit.tail, edit.roll = head, tail, roll
        edit.parent = armature.data.edit_bones[parent] if parent else None
    bpy.ops.object.mode_set(mode="OBJECT")
    return armature


def add_cameras(scene: bpy.types.Scene, distance: float, height: float, *, tilt: float, first: float) -> None:
    """Three cameras around the z axis, as views without images; the tilt is in degrees, the first angle in radians."""
    for number in range(3):
        camera = bpy.data.objects.new(f"Camera {number}", bpy.data.cameras.new(f"Camera {number}"))
        scene.collection.objects.link(camera)
        angle = first + number * 2.1
        camera.location = (distance * np.sin(angle), -distance * np.cos(angle), height)
        camera.rotation_euler = (np.radians(tilt), 0, angle)
        camera.data.lens = 50
        scene.softras.views.add().camera = camera


@pytest.fixture
def arm(scene: bpy.types.Scene) -> bpy.types.Object:
    """A flat post along z with three bones in a chain, two shape keys, and three cameras around it, without images."""
    bpy.ops.mesh.primitive_cube_add(size=1, location=(0, 0, 1.5))
    target = bpy.context.active_object
    target.name, target.scale = "Arm", (0.7, 0.4, 3)
    bpy.ops.object.transform_apply()
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.ops.mesh.select_all(action="SELECT")
    bpy.ops.mesh.subdivide(number_cuts=11)
    bpy.ops.object.mode_set(mode="OBJECT")
    armature = add_armature(
        [(f"Bone {n}", f"Bone {n - 1}" if n else "", (0, 0, n), (0, 0, n + 1), 0) for n in range(3)]
    )
    height = local_positions(target)[:, 2]
    for number in range(3):
        share = np.clip((height - number + 0.25) / 0.5, 0, 1) - np.clip((height - number - 0.75) / 0.5, 0, 1)
        group = target.vertex_groups.new(name=f"Bone {number}")
        for vertex, weight in enumerate(share if number else 1 - np.clip((height - 0.75) / 0.5, 0, 1)):
            if weight > 0:
                group.add([vertex], weight, "REPLACE")
    target.parent = armature
    target.modifiers.new("Armature", "ARMATURE").object = armature
    target.shape_key_add(name="Basis")
    for name, axis in (("Wide", 0), ("Deep", 1)):
        key = target.shape_key_add(name=name)
        points = local_positions(target)
        points[:, axis] *= 1.6
        key.points.foreach_set("co", points.ravel())
        key.value = 0
    add_cameras(scene, 9, 3.5, tilt=78, first=0.3)
    scene.softras.target = target
    bpy.context.view_layer.objects.active = target
    bpy.context.view_layer.update()
    return target


@pytest.fixture
def snake(scene: bpy.types.Scene) -> bpy.types.Object:
    """A tube along z with a chain of bones and a branch, weighted automatically, and two shape keys."""
    bpy.ops.mesh.primitive_cylinder_add(vertices=8, radius=0.3, depth=4, location=(0, 0, 2), end_fill_type="NGON")
    target = bpy.context.active_object
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.ops.mesh.subdivide(number_cuts=6)
    bpy.ops.object.mode_set(mode="OBJECT")
    chain = [(f"Bone {n}", f"Bone {n - 1}" if n else "", (0, 0, n), (0.05, 0, n + 1), 0.3 * n) for n in range(4)]
    armature = add_armature([*chain, ("Side", "Bone 1", (0, 0.1, 1.5), (0, 0.6, 1.7), 0.0)])
    target.select_set(True)
    armature.select_set(True)
    bpy.ops.object.parent_set(type="ARMATURE_AUTO")
    bpy.context.view_layer.objects.active = target
    random = np.random.default_rng(0)
    target.shape_key_add(name="Basis")
    for name, value in (("Wide", 0.4), ("Bumps", 0.0)):
        key = target.shape_key_add(name=name)
        for point in key.points:
            point.co = np.array(point.co) + random.normal(size=3) * 0.05
        key.value = value
    return target


def give_images(scene: bpy.types.Scene) -> None:
    """Every view sees a disc."""
    for number, item in enumerate(scene.softras.views):
        item.mask = disc_image(f"Disc {number}")


def give_sequences(scene: bpy.types.Scene, folder: Path, masks: dict[int, list[np.ndarray]]) -> None:
    """Every view sees an image sequence, written as files: masks (H, W), row 0 on top, by frame and view."""
    for number, item in enumerate(scene.softras.views):
        for frame, of_views in masks.items():
            write_png(folder / f"view{number}_{frame:04d}.png", of_views[number])
        item.mask = bpy.data.images.load(str(folder / f"view{number}_{min(masks):04d}.png"))
        item.mask.source, item.channel = "SEQUENCE", "GREY"
    scene.softras.sequence = True
    scene.softras.frame_first, scene.softras.frame_last = min(masks), max(masks)


def write_png(path: Path, mask: np.ndarray) -> None:
    """A mask (H, W), row 0 on top, as a file."""
    image = bpy.data.images.new("Mask", mask.shape[1], mask.shape[0], alpha=False)
    pixels = np.ones((*mask.shape, 4), dtype=np.float32)
    pixels[..., :3] = mask[::-1, :, None]
    image.pixels.foreach_set(pixels.ravel())
    image.filepath_raw, image.file_format = str(path), "PNG"
    image.save()
    bpy.data.images.remove(image)


def read_mask(
    image: bpy.types.Image, channel: str = "auto", threshold: float | None = None, invert: bool = False, number: int = 1
) -> np.ndarray:
    """(H, W) the mask that the extension reads from a picture of an image."""
    reading = part("engine.softras.io.masks").MaskReading(channel, threshold, invert)
    with part("scene.masks").Footage(image) as footage:
        return footage.mask(number, reading)


def read_job(scene: bpy.types.Scene):
    """The scene as the extension reads it."""
    bpy.context.view_layer.update()
    return part("scene.job").read_job(scene, scene.softras.target, "cpu")


def read_views(scene: bpy.types.Scene) -> list:
    """The views of the scene as the extension reads them, whatever the target."""
    bpy.context.view_layer.update()
    views, frames = part("scene.views"), part("scene.frames")
    found = []
    for number, item in enumerate(views.enabled_views(scene)):
        views.check_item(item, scene)
        with part("scene.masks").Footage(item.mask) as footage:
            for frame, seen in frames.moments(scene, [item.camera], shapes=False):
                found.append(views.read_shot(scene, number, item, footage, frame, seen)[1])
    return found


def find_target(ob: bpy.types.Object, *, rigged: bool = True):
    """The object as the target of a fit: of its rig, or of its mesh alone."""
    return part("scene.target").find_target(ob, rigged=rigged)


def read_rig(target: bpy.types.Object, optimize: tuple[str, ...]):
    """The rig of an object, as a fit of these variables reads it."""
    bpy.context.view_layer.update()
    return part("scene.rig").read_rig(find_target(target), optimize)


def armature_of(target: bpy.types.Object) -> bpy.types.Object:
    """The armature object that deforms the target."""
    return next(modifier.object for modifier in target.modifiers if modifier.type == "ARMATURE")


def optimize(*names: str) -> None:
    """Tick these boxes under Optimize and no others."""
    boxes = bpy.context.scene.softras.optimize
    for name in ("vertices", "object", "pose", "shape_keys", "cameras"):
        setattr(boxes, name, name in names)


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


def halved(ball: bpy.types.Object) -> bpy.types.Object:
    """The half at positive x, with a Mirror modifier."""
    mesh = bmesh.new()
    mesh.from_mesh(ball.data)
    everything = [*mesh.verts, *mesh.edges, *mesh.faces]
    bmesh.ops.bisect_plane(mesh, geom=everything, plane_co=(0, 0, 0), plane_no=(1, 0, 0), clear_inner=True)
    mesh.to_mesh(ball.data)
    mesh.free()
    if "Culprit" not in ball.modifiers:
        ball.modifiers.new("Mirror", "MIRROR").use_clip = True
    return ball


def told() -> float:
    """The mean IoU of all views that the last fit has told."""
    return float(np.mean([item.iou for item in bpy.context.scene.softras.views]))


def rendered() -> list[np.ndarray]:
    """For each view (48, 64), row 0 at the bottom: how much of each pixel the scene covers, as Cycles renders it."""
    scene = bpy.context.scene
    render, found = scene.render, []
    render.engine, scene.cycles.samples, render.film_transparent = "CYCLES", 16, True
    render.resolution_x, render.resolution_y, render.resolution_percentage = 64, 48, 100
    render.filepath = bpy.app.tempdir + "seen.png"
    for item in scene.softras.views:
        scene.camera = item.camera
        bpy.ops.render.render(write_still=True)
        image = bpy.data.images.load(render.filepath)
        found.append(np.array(image.pixels).reshape(48, 64, 4)[..., 3])
        bpy.data.images.remove(image)
    return found


def seen_iou() -> float:
    """The mean IoU of the masks, of 64 x 48 pixels, and what Cycles renders of the scene as it is."""
    found = []
    for item, alpha in zip(bpy.context.scene.softras.views, rendered(), strict=True):
        seen, mask = alpha > 0.5, np.array(item.mask.pixels).reshape(48, 64, 4)[..., 3] > 0.5
        found.append((seen & mask).sum() / (seen | mask).sum())
    return float(np.mean(found))


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
