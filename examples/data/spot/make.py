"""Makes this folder's views and start mesh from spot.obj: `python make.py` with bpy installed (`pip install bpy`).

Masks and photographs are rendered by Blender's Cycles, so they owe nothing to the engine that is tested on them.
"""

import json
import math
import tempfile
from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix

HERE = Path(__file__).parent
COUNT, SIZE, DISTANCE, LENS, SENSOR = 12, 512, 4.8, 70.0, 36.0
CENTRE = np.array([0.0, -0.19, 0.11])
CONVENTION = (
    "OpenCV axes (x right, y down, z forward); x_camera = world_to_camera x; pixel ~ K x_camera; "
    "pixel (0, 0) is the top-left corner of the image, the first pixel's centre is (0.5, 0.5)"
)


def read_obj():
    """Lines, vertices and polygons (vertex indices from 0) of spot.obj."""
    lines = (HERE / "spot.obj").read_text().splitlines()
    vertices = np.array([line.split()[1:4] for line in lines if line.startswith("v ")], dtype=np.float64)
    polygons = [[int(w.split("/")[0]) - 1 for w in line.split()[1:]] for line in lines if line.startswith("f ")]
    return lines, vertices, polygons


def write_start(lines, vertices, polygons):
    """start.obj: spot smoothed, scaled by 1.3 and turned by 20 degrees; every other line as it was."""
    neighbours = [set() for _ in vertices]
    for polygon in polygons:
        for a, b in zip(polygon, polygon[1:] + polygon[:1], strict=True):
            neighbours[a].add(b)
            neighbours[b].add(a)
    for _ in range(20):
        vertices = np.array([vertices[list(n)].mean(axis=0) for n in neighbours])
    angle = math.radians(20)
    turn = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    coordinates = iter((vertices @ turn.T * 1.3).round(5).tolist())
    text = [f"v {' '.join(map(repr, next(coordinates)))}" if line.startswith("v ") else line for line in lines]
    (HERE / "start.obj").write_text("\n".join(text) + "\n")


def look_at(eye):
    """Camera-to-world matrix of a Blender camera (looks along -Z, +Y up) at CENTRE."""
    backward = (eye - CENTRE) / np.linalg.norm(eye - CENTRE)
    right = np.cross([0, 0, 1], backward)
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3] = np.stack([right, np.cross(backward, right), backward, eye], axis=1)
    return matrix


def eyes():
    """COUNT points spread evenly (Fibonacci) over the sphere from 35 degrees below to 65 degrees above."""
    heights = np.linspace(math.sin(math.radians(-35)), math.sin(math.radians(65)), COUNT)
    for number, height in enumerate(heights):
        angle, radius = number * math.pi * (3 - math.sqrt(5)), math.sqrt(1 - height**2)
        yield CENTRE + DISTANCE * np.array([radius * math.cos(angle), radius * math.sin(angle), height])


def scene(vertices, polygons):
    """The scene with the object, a key and a fill light; returns its camera."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    mesh = bpy.data.meshes.new("spot")
    mesh.from_pydata(vertices.tolist(), [], polygons)
    mesh.shade_smooth()
    material = bpy.data.materials.new("clay")
    material.use_nodes = True
    shader = material.node_tree.nodes["Principled BSDF"]
    shader.inputs["Base Color"].default_value = (0.5, 0.17, 0.07, 1)
    shader.inputs["Roughness"].default_value = 0.55
    mesh.materials.append(material)
    bpy.context.scene.collection.objects.link(bpy.data.objects.new("spot", mesh))
    world = bpy.data.worlds.new("world")
    world.use_nodes = True
    world.node_tree.nodes["Background"].inputs["Color"].default_value = (0.4, 0.46, 0.55, 1)
    bpy.context.scene.world = world
    sun = bpy.data.objects.new("sun", bpy.data.lights.new("sun", "SUN"))
    sun.data.energy, sun.data.angle, sun.rotation_euler = 3.0, 0.2, (0.7, 0.2, 0.9)
    bpy.context.scene.collection.objects.link(sun)
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    camera.data.lens, camera.data.sensor_width = LENS, SENSOR
    bpy.context.scene.collection.objects.link(camera)
    bpy.context.scene.camera = camera
    settings = bpy.context.scene
    settings.render.engine = "CYCLES"
    settings.cycles.samples = 64
    settings.cycles.use_denoising = False
    settings.render.film_transparent = True
    settings.render.resolution_x = settings.render.resolution_y = SIZE
    settings.render.image_settings.color_mode = "RGBA"
    settings.view_settings.view_transform = "Standard"
    return camera


def save(pixels, path, **options):
    """Write (H, W) or (H, W, 3) values 0..1, row 0 on top, as a PNG or JPEG."""
    rgba = np.ones((SIZE, SIZE, 4), dtype=np.float32)
    rgba[..., :3] = pixels[..., None] if pixels.ndim == 2 else pixels
    image = bpy.data.images.new("out", SIZE, SIZE)
    image.pixels.foreach_set(rgba[::-1].ravel())
    image.file_format = "JPEG" if path.suffix == ".jpg" else "PNG"
    path.parent.mkdir(exist_ok=True)
    image.save(filepath=str(path), **options)


def main():
    """Write everything."""
    lines, vertices, polygons = read_obj()
    write_start(lines, vertices, polygons)
    camera = scene(vertices, polygons)
    backdrop = np.linspace(0.93, 0.72, SIZE, dtype=np.float32)[:, None, None] * np.ones((1, SIZE, 3), np.float32)
    views = []
    for number, eye in enumerate(eyes()):
        camera_to_world = look_at(eye)
        camera.matrix_world = Matrix(camera_to_world.tolist())
        with tempfile.TemporaryDirectory() as folder:
            bpy.context.scene.render.filepath = str(Path(folder) / "render.png")
            bpy.ops.render.render(write_still=True)
            image = bpy.data.images.load(bpy.context.scene.render.filepath)
            pixels = np.empty(SIZE * SIZE * 4, dtype=np.float32)
            image.pixels.foreach_get(pixels)
        pixels = pixels.reshape(SIZE, SIZE, 4)[::-1]  # Blender's rows go up
        alpha = pixels[..., 3:]
        save(alpha[..., 0], HERE / f"masks/{number:02d}.png")
        save(pixels[..., :3] * alpha + backdrop * (1 - alpha), HERE / f"photos/{number:02d}.jpg", quality=85)
        world_to_camera = np.linalg.inv(camera_to_world @ np.diag([1.0, -1.0, -1.0, 1.0]))
        focal, middle = LENS / SENSOR * SIZE, SIZE / 2
        views.append(
            {
                "name": f"{number:02d}",
                "mask": f"masks/{number:02d}.png",
                "photo": f"photos/{number:02d}.jpg",
                "camera": {
                    "K": [[focal, 0, middle], [0, focal, middle], [0, 0, 1]],
                    "world_to_camera": world_to_camera.tolist(),
                    "width": SIZE,
                    "height": SIZE,
                },
            }
        )
    document = {"convention": CONVENTION, "version": 2, "views": views}
    (HERE / "cameras.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
