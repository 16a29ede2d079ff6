"""What fits of objects, poses, shape keys and cameras reach, on data with known answers.

    python benchmarks/fit_poses.py [--only NAME ...] [--few] [--json FILE] [--keep DIR]

Needs the test data (SOFTRAS_DATA, default ../shared/data beside the repository). Joint errors are means over the bones
that carry the mesh, relative to its height; rotations are judged in degrees, cameras by where they see the mesh.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rigs
import torch
from scipy.spatial.transform import Rotation

import softras
from softras import Camera, Mesh, Rig, View
from softras.render.silhouette import camera_tensors
from softras.report.pictures import write_report

REPOSITORY = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("SOFTRAS_DATA", REPOSITORY.parent / "shared" / "data"))
RANGES = ((15, 35), (35, 55), (55, 75))
FINGERS = ("thumb_", "index_", "middle_", "ring_", "pinky_")  # how the names of their bones begin
Row = dict[str, Any]


def fox_views(cameras: int) -> list[View]:
    """Eight frames of the walk."""
    every = softras.load_views(DATA / "fox_walk")
    return [replace(view, frame=int(view.name[1:3])) for view in every if int(view.name[-1]) < cameras]


def joints(rig: Rig) -> np.ndarray:
    """(B, 3) heads of the bones that carry the mesh, in the world."""
    armature = rig.armature
    assert armature is not None
    heads = armature.pose_matrices()[armature.carries()][:, :3, 3]
    matrix = rig.parent @ rig.transform.matrix() @ armature.follows
    return heads @ matrix[:3, :3].T + matrix[:3, 3]


def fox(name: str, cameras: int, known: int | None, bars: Row, **settings: Any) -> Iterator[Row]:
    """The walk from the rest pose, or from a pose that is known in one frame."""
    truth = [rigs.fox_pose(DATA, frame) for frame in range(8)]
    start = rigs.fox(DATA) if known is None else _free_like(truth[known], rigs.fox(DATA))
    views = fox_views(cameras)
    result = softras.fit(start, views, optimize="pose", known_frame=known, **settings)
    height = np.ptp(start.vertices()[:, 1])
    error = [np.linalg.norm(joints(result.rigs[f]) - joints(truth[f]), axis=1).mean() / height for f in range(8)]
    counted = [e for f, e in enumerate(error) if f != known]
    row = {"iou": result.mean_iou, "joint_error": float(np.mean(counted)), "seconds_per_frame": result.elapsed / 8}
    yield {"name": name, **row, "worst_frame": max(error), "bars": bars, "views": len(views)}


def _free_like(posed: Rig, free: Rig) -> Rig:
    """The posed rig; what may change as in the free one."""
    assert posed.armature is not None and free.armature is not None
    bones = tuple(
        replace(
            bone, pose=replace(bone.pose, free_rotation=like.pose.free_rotation, free_location=like.pose.free_location)
        )
        for bone, like in zip(posed.armature.bones, free.armature.bones, strict=True)
    )
    return replace(posed, armature=replace(posed.armature, bones=bones))


def ring(mesh: Mesh, count: int, size: int = 256, distance: float = 2.2) -> list[View]:
    """Views of a mesh from around it, masks of exact coverage."""
    used = mesh.vertices[np.unique(mesh.faces)]
    centre, extent = (used.min(axis=0) + used.max(axis=0)) / 2, np.ptp(used, axis=0).max()
    K = np.array([[1.2 * size, 0, size / 2], [0, 1.2 * size, size / 2], [0, 0, 1]])
    views = []
    for k in range(count):
        azimuth, elevation = 2 * np.pi * k / count + 0.4, (0.3, -0.2, 0.6)[k % 3]
        away = np.array([np.cos(elevation) * np.sin(azimuth), np.sin(elevation), np.cos(elevation) * np.cos(azimuth)])
        right = np.cross([0, 1, 0], away) / np.linalg.norm(np.cross([0, 1, 0], away))
        R = np.stack([right, -np.cross(away, right), -away])
        eye = centre + distance * extent * away
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = R, -R @ eye
        camera = Camera(K, matrix, size, size)
        views.append(View(f"view {k}", camera, mask_of(mesh, camera)))
    return views


def mask_of(mesh: Mesh, camera: Camera) -> np.ndarray:
    """(H, W) the share of each pixel that the mesh covers."""
    vertices, faces = torch.as_tensor(mesh.vertices), torch.as_tensor(mesh.faces, dtype=torch.int64)
    seen_from = camera_tensors([camera], torch.float64, vertices.device)
    return softras.coverage(vertices, faces, height=camera.height, width=camera.width, **seen_from)[0].float().numpy()


def spot(views: int, starts: int, bars: Sequence[float]) -> Iterator[Row]:
    """A known mesh, turned at random and shifted a little: how often its rotation is found."""
    mesh = softras.load_mesh(DATA / "meshes" / "spot.obj")
    seen = ring(mesh, views)
    for (low, high), bar in zip(RANGES, bars, strict=True):
        random = np.random.default_rng(0)
        errors, seconds = [], []
        for _ in range(starts):
            axis = random.normal(size=3)
            angle = np.radians(random.uniform(low, high))
            turn = Rotation.from_rotvec(axis / np.linalg.norm(axis) * angle).as_matrix()
            centre = mesh.vertices.mean(axis=0)
            moved = (mesh.vertices - centre) @ turn.T + centre + random.normal(0, 0.03, 3)
            result = softras.fit(Mesh(moved, mesh.faces), seen, optimize="object")
            errors.append(_angle_between(result.mesh.vertices, mesh.vertices))
            seconds.append(result.elapsed)
        found = np.array(errors) < 5
        row = {"success": float(found.mean()), "median_error": float(np.median(np.array(errors)[found]))}
        row |= {"seconds": float(np.mean(seconds)), "longest": float(np.max(seconds))}
        bar = {"success": bar, "median_error": 1.0, "seconds": 3.0}
        yield {"name": f"spot, {views} views, {low}-{high} degrees", **row, "starts": starts, "bars": bar}


def _angle_between(a: np.ndarray, b: np.ndarray) -> float:
    """Degrees of the best rotation from one to the other."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    return float(np.degrees(Rotation.align_vectors(a / np.abs(a).max(), b / np.abs(b).max())[0].magnitude()))


def dino(together: bool, bars: Row) -> Iterator[Row]:
    """Every camera turned by up to 5 degrees and its focal length changed by up to 5 %, refined against the hull."""
    views = softras.load_views(DATA / "oxford_dino")
    hull = softras.load_mesh(DATA / "oxford_dino" / "visual_hull.ply")
    random = np.random.default_rng(0)
    used = hull.vertices[np.unique(hull.faces)]
    middle = (used.min(axis=0) + used.max(axis=0)) / 2
    if together:
        one = _nudge(random)
        nudged = [replace(view, camera=_nudged(view.camera, *one, middle)) for view in views]
    else:
        nudged = [replace(view, camera=_nudged(view.camera, *_nudge(random), None)) for view in views]
    result = softras.fit(
        hull, nudged, optimize="cameras", cameras_together=together, camera_parts=("rotation", "focal", "location")
    )
    before = [_distance(view.camera, moved.camera, used) for view, moved in zip(views, nudged, strict=True)]
    after = [_distance(view.camera, camera, used) for view, camera in zip(views, result.cameras, strict=True)]
    row = {"below_1_px": float((np.array(after) < 1).mean()), "median_px": float(np.median(after))}
    row |= {"worst_px": float(np.max(after)), "start_px": float(np.median(before)), "iou": result.mean_iou}
    yield {
        "name": "dino, cameras " + ("as one rig" if together else "each"),
        **row,
        "seconds": result.elapsed,
        "bars": bars,
    }


def _nudge(random: np.random.Generator) -> tuple[np.ndarray, float]:
    axis = random.normal(size=3)
    return axis / np.linalg.norm(axis) * np.radians(random.uniform(0, 5)), 1 + random.uniform(-0.05, 0.05)


def _nudged(camera: Camera, turn: np.ndarray, zoom: float, middle: np.ndarray | None) -> Camera:
    """Turned about its eye, or with all others about a middle in the world."""
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_rotvec(turn).as_matrix()
    if middle is None:
        matrix = motion @ camera.world_to_camera
    else:
        motion[:3, 3] = middle - motion[:3, :3] @ middle
        matrix = camera.world_to_camera @ motion
    return replace(camera, K=camera.K * [[zoom, zoom, 1], [zoom, zoom, 1], [1, 1, 1]], world_to_camera=matrix)


def _distance(a: Camera, b: Camera, points: np.ndarray) -> float:
    """Mean distance of where two cameras see points, pixels."""
    return float(np.linalg.norm(a.project(points) - b.project(points), axis=1).mean())


def human_keys(bars: Row, count: int = 10) -> Iterator[Row]:
    """Random values of four body shapes, from three views."""
    human = rigs.human(DATA)
    random = np.random.default_rng(0)
    errors, seconds = [], []
    for _ in range(count):
        truth = random.uniform(0, 1, len(human.shape_keys))
        keys = tuple(replace(key, value=value) for key, value in zip(human.shape_keys, truth, strict=True))
        shaped = replace(human, shape_keys=keys)
        views = ring_z(Mesh(shaped.vertices(), human.mesh.faces), 3)
        result = softras.fit(human, views, optimize="shape_keys")
        found = [key.value for key in result.rigs[0].shape_keys]
        errors.append(np.abs(found - truth))
        seconds.append(result.elapsed)
    worst = np.max(errors, axis=1)
    row = {
        "within": float((np.array(errors) < 0.05).mean()),
        "worst": float(worst.max()),
        "median": float(np.median(errors)),
    }
    yield {"name": "human, 4 shape keys, 3 views", **row, "seconds": float(np.mean(seconds)), "bars": bars}


def humans(count: int, bars: Row) -> Iterator[Row]:
    """Random poses of the human, from four views: every bone of the body is turned from the A-pose, no finger is."""
    human = rigs.human(DATA)
    assert human.armature is not None
    bones = human.armature.bones
    body = np.array([all(bone.pose.free_rotation) and not bone.name.startswith(FINGERS) for bone in bones])
    judged = body[human.armature.carries()]
    height = np.ptp(human.vertices()[:, 2])
    random = np.random.default_rng(0)
    errors, ious, seconds = [], [], []
    for _ in range(count):
        turns = Rotation.from_rotvec(random.normal(0, 0.3, (len(bones), 3)) * body[:, None])
        quaternions = turns.as_quat(scalar_first=True)
        poses = [replace(bone.pose, rotation=q) for bone, q in zip(bones, quaternions, strict=True)]
        posed = tuple(replace(bone, pose=pose) for bone, pose in zip(bones, poses, strict=True))
        truth = replace(human, armature=replace(human.armature, bones=posed))
        result = softras.fit(human, ring_z(Mesh(truth.vertices(), human.mesh.faces), 4), optimize="pose")
        off = np.linalg.norm(joints(result.rigs[0]) - joints(truth), axis=1)[judged]
        errors.append(float(off.mean() / height))
        ious.append(result.mean_iou)
        seconds.append(result.elapsed)
    row = {"median": float(np.median(errors)), "worst": float(np.max(errors)), "iou": float(np.mean(ious))}
    each = [round(error, 5) for error in errors]
    yield {"name": "humans, 4 views", **row, "seconds": float(np.mean(seconds)), "of_each": each, "bars": bars}


def ring_z(mesh: Mesh, count: int) -> list[View]:
    """As `ring`, for a mesh whose z is up."""
    up = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # z up to y up
    views = ring(Mesh(mesh.vertices @ up.T, mesh.faces), count)
    turn = np.eye(4)
    turn[:3, :3] = up
    return [
        replace(view, camera=replace(view.camera, world_to_camera=view.camera.world_to_camera @ turn)) for view in views
    ]


def david(report: Path | None, bars: Row) -> Iterator[Row]:
    """The human placed, posed and shaped to photographs of a statue on its base, beside a stump.

    It starts upright, as the cameras stand, facing four ways; the best of the four counts.
    """
    views = softras.load_views(DATA / "david_statue")
    up = -np.mean([view.camera.world_to_camera[1, :3] for view in views], axis=0)
    upright = Rotation.align_vectors([up / np.linalg.norm(up)], [[0, 0, 1]])[0]
    human = rigs.human(DATA)
    centred = np.eye(4)
    centred[:3, 3] = -human.mesh.vertices.mean(axis=0)
    assert human.armature is not None
    every = (True, True, True)
    free = softras.Transform(free_location=every, free_rotation=every, free_scale=True)
    found = []
    for yaw in (0, 90, 180, 270):
        parent = np.eye(4)
        parent[:3, :3] = (Rotation.from_rotvec(up * np.radians(yaw)) * upright).as_matrix()
        armature = replace(human.armature, follows=centred)
        start = replace(human, parent=parent, transform=free, follows=centred, armature=armature)
        result = softras.fit(start, views, optimize=("object", "pose", "shape_keys"))
        found.append((result.mean_iou, start, result))
    iou, start, result = max(found, key=lambda entry: entry[0])
    if report is not None:
        write_report(report / "david", views, start, result)
    row = {"iou": iou, "least_iou": float(result.iou.min()), "seconds": float(np.mean([r.elapsed for *_, r in found]))}
    yield {
        "name": "david, the human from 4 ways",
        **row,
        "of_each": [round(entry[0], 4) for entry in found],
        "bars": bars,
    }


TASKS: dict[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
    "fox": lambda o: fox("fox, 4 views", 4, None, {"iou": 0.97, "joint_error": 0.02, "seconds_per_frame": 1.0}),
    "fox_known": lambda o: fox("fox, 4 views, frame 0 known", 4, 0, {"joint_error": 0.01}),
    "fox_two": lambda o: fox("fox, 2 views", 2, None, {"joint_error": 0.05}),
    "spot3": lambda o: spot(3, 10 if o.few else 50, (0.95, 0.9, 0.8)),
    "spot1": lambda o: spot(1, 10 if o.few else 50, (0.9, 0.75, 0.6)),
    "cameras": lambda o: dino(False, {"below_1_px": 0.95}),
    "camera_rig": lambda o: dino(True, {"below_1_px": 0.95}),
    "david": lambda o: david(o.keep, {"iou": 0.8}),
    "keys": lambda o: human_keys({"within": 1.0}, 3 if o.few else 10),
    "humans": lambda o: humans(5 if o.few else 20, {"median": 0.003, "worst": 0.03}),
}
LESS_IS_BETTER = {"joint_error", "seconds_per_frame", "seconds", "median_error", "median", "worst"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--few", action="store_true", help="fewer random starts")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path, help="a folder for pictures to look at")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for task in options.only:
        for row in TASKS[task](options):
            bars = row["bars"]
            met = all(row[key] <= bar if key in LESS_IS_BETTER else row[key] >= bar for key, bar in bars.items())
            figures = "  ".join(f"{key} {value:.4g}" for key, value in row.items() if isinstance(value, float))
            print(f"{'met ' if met else 'MISS'} {row['name']}: {figures}", flush=True)
            rows.append({**row, "met": met})
    if options.json:
        system = {"machine": platform.machine(), "python": platform.python_version(), "torch": torch.__version__}
        options.json.write_text(
            json.dumps({**system, "when": time.strftime("%Y-%m-%d"), "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
