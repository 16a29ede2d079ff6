"""Camera truth: what the engine covers is what Blender renders."""

from __future__ import annotations

import subprocess
from pathlib import Path

import bpy
import numpy as np
import pytest
from mathutils import Euler, Matrix, Vector

from .conftest import part, read_mask

CAMERAS = 200
# Run by the engine's Python: the IoU of the engine's hard silhouette and each view's mask.
COMPARE = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from softras import hard_silhouettes
from softras.job import Job
job = Job.load(sys.argv[2])
vertices, faces = torch.tensor(job.mesh.vertices), torch.tensor(job.mesh.faces)
for view in job.views:
    covered = hard_silhouettes(vertices, faces, [view.camera])[0].numpy()
    mask = view.mask > 0.5
    print((covered & mask).sum() / (covered | mask).sum(), view.name)
"""


def random_camera(scene: bpy.types.Scene, random: np.random.Generator, number: int) -> bpy.types.Object:
    """A camera that sees the object at the origin, with everything about it at random; sets the render size."""
    width, height = [(256, 192), (192, 256), (256, 256), (256, 140), (150, 256)][random.integers(5)]
    render = scene.render
    render.resolution_x, render.resolution_y, render.resolution_percentage = width, height, 100
    aspects = [(1, 1), (1, 1), (1, 1.5), (2, 1), (1.0, 1.0667)]
    render.pixel_aspect_x, render.pixel_aspect_y = aspects[random.integers(len(aspects))]
    data = bpy.data.cameras.new(f"Camera {number}")
    data.type = ["PERSP", "ORTHO"][int(random.random() < 0.35)]
    data.sensor_fit = ["AUTO", "HORIZONTAL", "VERTICAL"][random.integers(3)]
    data.sensor_width, data.sensor_height = random.uniform(10, 50, 2)
    data.shift_x, data.shift_y = random.uniform(-0.15, 0.15, 2)
    distance = random.uniform(3, 9)
    # The object, about 2.7 long, spans some half of the sensor's longer side.
    sensor = data.sensor_height if data.sensor_fit == "VERTICAL" else data.sensor_width
    data.lens = max(1.0, sensor * distance / random.uniform(3.5, 6))
    data.ortho_scale = random.uniform(3.5, 6)
    data.clip_start = distance - random.uniform(0, 0.5) if random.random() < 0.15 else random.uniform(0.01, 0.5)
    camera = bpy.data.objects.new(data.name, data)
    scene.collection.objects.link(camera)
    direction = Vector(random.normal(size=3)).normalized()
    aim = (-direction).to_track_quat("-Z", "Y") @ Euler((0, 0, random.uniform(-3, 3))).to_quaternion()
    world = Matrix.LocRotScale(direction * distance + Vector(random.uniform(-0.2, 0.2, 3)), aim, None)
    if random.random() < 0.5:
        parent = bpy.data.objects.new(f"Parent {number}", None)
        scene.collection.objects.link(parent)
        parent.location = random.uniform(-3, 3, 3)
        parent.scale = [random.uniform(0.2, 4)] * 3 if random.random() < 0.5 else random.uniform(0.5, 2, 3)
        if parent.scale[0] == parent.scale[1]:
            parent.rotation_euler = random.uniform(-3, 3, 3)
        else:  # sheared: Cycles then clips along a plane that no camera's own axis leads to
            data.clip_start = 0.05
        camera.parent = parent
        bpy.context.view_layer.update()
    camera.matrix_world = world
    bpy.context.view_layer.update()
    return camera


def rendered_mask(scene: bpy.types.Scene, camera: bpy.types.Object, path: Path) -> np.ndarray:
    """(H, W) what Cycles covers at the pixel centres."""
    scene.camera = camera
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)
    image = bpy.data.images.load(str(path))
    try:
        return read_mask(image, "alpha", 0.5)
    finally:
        bpy.data.images.remove(image)


def test_silhouettes_equal_cycles_masks(scene: bpy.types.Scene, engine_python: str, tmp_path: Path) -> None:
    random = np.random.default_rng(20)
    bpy.ops.mesh.primitive_monkey_add(size=2)
    target = bpy.context.active_object
    render, cycles = scene.render, scene.cycles
    render.engine, render.film_transparent, render.use_persistent_data = "CYCLES", True, True
    render.image_settings.file_format, render.image_settings.color_mode = "PNG", "RGBA"
    cycles.device, cycles.samples, cycles.use_denoising = "CPU", 1, False
    cycles.pixel_filter_type, cycles.filter_width = "BOX", 0.01  # one ray through the pixel's centre
    nouns = part("engine.softras")
    views = []
    number = 0
    while len(views) < CAMERAS:
        number += 1
        camera = random_camera(scene, random, number)
        mask = rendered_mask(scene, camera, tmp_path / "mask.png")
        if mask.sum() < 500 or mask.all():
            continue  # shear by its parents has turned the camera away: nothing to compare
        height, width = mask.shape
        seen = part("scene.camera").camera_from_blender(camera, width, height, render)
        views.append(nouns.View(camera.name, seen, mask))
    single = part("scene.target").find_target(target, rigged=False).single
    part("engine.softras.job").Job(views, part("scene.mesh").read_mesh(single)).save(tmp_path / "job")
    arguments = [engine_python, "-c", COMPARE, str(part("prefs").package_folder()), str(tmp_path / "job")]
    output = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
    iou = np.array([float(line.split()[0]) for line in output.splitlines()])
    print(f"IoU of {len(iou)} cameras: min {iou.min():.4f}, mean {iou.mean():.5f}")
    assert len(iou) == CAMERAS >= 0.9 * number
    assert iou.min() >= 0.995, [line for line in output.splitlines() if float(line.split()[0]) < 0.995]


def test_cameras_come_back_from_blender(scene: bpy.types.Scene) -> None:
    """An engine's camera made a Blender camera is read as the same camera."""
    random = np.random.default_rng(0)
    cameras = part("scene.camera")
    for number in range(50):
        source = random_camera(scene, random, number)
        width, height = int(random.integers(30, 400)), int(random.integers(30, 400))
        camera = cameras.camera_from_blender(source, width, height, scene.render)
        if abs(camera.K[0, 1]) > 1e-3:
            continue  # sheared by its parents: no Blender camera without parents is like it
        copy = cameras.camera_to_blender(camera, "Copy", scene.render)
        scene.collection.objects.link(copy)
        bpy.context.view_layer.update()
        back = cameras.camera_from_blender(copy, width, height, scene.render)
        np.testing.assert_allclose(back.K, camera.K, rtol=1e-5, atol=2e-3)
        np.testing.assert_allclose(back.world_to_camera, camera.world_to_camera, atol=1e-5)
        assert back.orthographic == camera.orthographic
        assert back.near == pytest.approx(camera.near)


def test_views_do_not_depend_on_the_render_size(scene: bpy.types.Scene) -> None:
    camera = random_camera(scene, np.random.default_rng(1), 0)
    read = part("scene.camera").camera_from_blender
    before = read(camera, 300, 200, scene.render)
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 100, 1000, 30
    np.testing.assert_array_equal(read(camera, 300, 200, scene.render).K, before.K)
