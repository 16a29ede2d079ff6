"""What fitting reaches, as the user runs it: whole commands, mean hard IoU, seconds, and whether the mesh is sound.

    python benchmarks/fit_bars.py [--only NAME ...] [--seeds 0 1 2] [--json FILE] [--keep DIR]

Needs the test data (SOFTRAS_DATA, default ../shared/data beside the repository) and libigl, whose CGAL part counts
self-intersections; libigl is no dependency of softras. IoU alone is no judge: a mesh may turn inside out and
score well, so each result comes with its share of self-intersecting faces, its share of faces with an angle under
5 degrees, and its volume relative to the visual hull of the data set.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import igl.copyleft.cgal
import numpy as np
import torch
import trimesh

import softras
from softras.fitting.observed.evaluate import evaluate
from softras.io.meshes import load_mesh, save_mesh
from softras.io.views import load_views, save_views
from softras.render.silhouette import hard_silhouettes

REPOSITORY = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("SOFTRAS_DATA", REPOSITORY.parent / "shared" / "data"))


@dataclass
class Task:
    """One command and what is asked of it."""

    views: Path
    iou: float
    seconds: float = 20.0
    mesh: Path | None = None
    hull: Path | None = None  # the mesh must be sound, and its volume within 10 % of this one's
    left_out: list[softras.View] = field(default_factory=list)  # judged on these instead
    arguments: list[str] = field(default_factory=list)
    fitting_seconds: bool = False  # the limit is on the fit alone


def reconstruct(name: str, iou: float, *, gates: bool = True) -> Callable[[Path], Task]:
    hull = DATA / name / "visual_hull.ply" if gates else None
    return lambda folder: Task(DATA / name, iou, hull=hull)


def eight_views(folder: Path) -> Task:
    views = load_views(DATA / "oxford_dino")
    chosen = {round(k * len(views) / 8) for k in range(8)}
    save_views(folder / "views", [view for i, view in enumerate(views) if i in chosen])
    return Task(folder / "views", 0.96, left_out=[view for i, view in enumerate(views) if i not in chosen])


def sphere(name: str, iou: float) -> Callable[[Path], Task]:
    def task(folder: Path) -> Task:
        ball = load_mesh(DATA / "meshes" / "sphere_642.obj")
        finer = trimesh.Trimesh(ball.vertices, ball.faces, process=True).subdivide()
        save_mesh(folder / "sphere.obj", softras.Mesh(finer.vertices, finer.faces))
        return Task(DATA / name, iou, mesh=folder / "sphere.obj", hull=DATA / name / "visual_hull.ply")

    return task


def plane(iou: float, seconds: float, arguments: list[str], *, fitting_seconds: bool = False) -> Callable[[Path], Task]:
    folder = DATA / "softras_plane"
    return lambda _: Task(
        folder, iou, seconds, mesh=folder / "sphere_1352.obj", arguments=arguments, fitting_seconds=fitting_seconds
    )


def spot(folder: Path) -> Task:
    """From spot scaled by 1.3, turned by 20 degrees and smoothed, to 12 rendered views of spot."""
    truth = load_mesh(DATA / "meshes" / "spot.obj")
    save_views(folder / "views", spot_views(truth, 12))
    angle = np.radians(20)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    smooth = trimesh.Trimesh(truth.vertices, truth.faces, process=False)
    trimesh.smoothing.filter_laplacian(smooth, iterations=10)
    middle = truth.vertices.mean(axis=0)
    start = 1.3 * (smooth.vertices - middle) @ turn.T + middle
    save_mesh(folder / "start.obj", softras.Mesh(start, truth.faces), like=DATA / "meshes" / "spot.obj")
    return Task(folder / "views", 0.985, mesh=folder / "start.obj")


def spot_views(mesh: softras.Mesh, count: int, size: int = 512) -> list[softras.View]:
    """Hard silhouettes of a mesh from cameras spread evenly over a sphere (a Fibonacci spiral)."""
    middle = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2
    reach = np.linalg.norm(mesh.vertices - middle, axis=1).max()
    K = np.array([[1.2 * size, 0, size / 2], [0, 1.2 * size, size / 2], [0, 0, 1.0]])
    views = []
    for k in range(count):
        height = 1 - 2 * (k + 0.5) / count
        around = np.pi * (3 - np.sqrt(5)) * k
        out = np.array([np.sqrt(1 - height**2) * np.cos(around), height, np.sqrt(1 - height**2) * np.sin(around)])
        right = np.cross([0, -1, 0], -out) / np.linalg.norm(np.cross([0, -1, 0], -out))
        matrix = np.eye(4)
        matrix[:3, :3] = [right, np.cross(-out, right), -out]
        matrix[:3, 3] = -matrix[:3, :3] @ (middle + 3.2 * reach * out)
        camera = softras.Camera(K, matrix, size, size)
        points, faces = torch.as_tensor(mesh.vertices).float(), torch.as_tensor(mesh.faces)
        mask = hard_silhouettes(points, faces, [camera])[0].numpy().astype(np.float32)
        views.append(softras.View(f"{k:02d}", camera, mask))
    return views


TASKS: dict[str, Callable[[Path], Task]] = {
    "dino": reconstruct("oxford_dino", 0.982),
    "david": reconstruct("david_statue", 0.972),
    "teapot": reconstruct("ntust_teapot", 0.994),
    "bunny": reconstruct("ntust_bunny", 0.98, gates=False),
    "plane": reconstruct("softras_plane", 0.95, gates=False),
    "dino-8": eight_views,
    "refine-dino": sphere("oxford_dino", 0.96),
    "refine-teapot": sphere("ntust_teapot", 0.96),
    "refine-plane-4s": plane(0.88, 4.0, ["--max-seconds", "4"], fitting_seconds=True),
    "refine-plane": plane(0.93, 20.0, []),
    "refine-spot": spot,
}


def soundness(mesh: softras.Mesh, hull: Path | None) -> dict[str, float | None]:
    """Percent of self-intersecting faces, percent of faces with an angle under 5 degrees, volume over the hull's."""
    found = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    pairs = igl.copyleft.cgal.remesh_self_intersections(
        mesh.vertices, mesh.faces.astype(np.int64), detect_only=True, cutoff=10_000_000
    )[2]
    return {
        "intersecting": 100 * len(np.unique(pairs)) / len(mesh.faces),
        "thin": 100 * float((found.face_angles.min(axis=1) < np.radians(5)).mean()),
        "volume": None if hull is None else float(found.volume) / abs(trimesh.load_mesh(hull).volume),
    }


def measure(name: str, seed: int, folder: Path) -> dict:
    """Run one task and judge its mesh."""
    task = TASKS[name](folder)
    out = folder / "fitted.obj"
    command = [
        sys.executable,
        "-m",
        "softras",
        "fit",
        "--views",
        str(task.views),
        "--out",
        str(out),
        "--seed",
        str(seed),
    ]
    command += task.arguments + (["--mesh", str(task.mesh)] if task.mesh else [])
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "engine")}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    mesh = load_mesh(out)
    views = task.left_out or load_views(task.views)
    iou = evaluate(mesh.vertices, mesh.faces, views)
    result = {
        "task": name,
        "seed": seed,
        "iou": float(iou.mean()),
        "worst": float(iou.min()),
        "seconds": seconds,
        "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "faces": len(mesh.faces),
        **soundness(mesh, task.hull),
        "asked_iou": task.iou,
        "asked_seconds": None if task.fitting_seconds else task.seconds,
    }
    if task.mesh is not None:
        start = load_mesh(task.mesh)
        result["same_topology"] = bool(
            np.array_equal(start.faces, mesh.faces) and len(start.vertices) == len(mesh.vertices)
        )
    result["pass"] = passes(result, gates=task.hull is not None)
    return result


def passes(result: dict, *, gates: bool) -> bool:
    """Whether a result meets what is asked; the mesh gates need a hull to compare with."""
    good = result["iou"] >= result["asked_iou"] and result.get("same_topology", True)
    if result["asked_seconds"] is not None:
        good = good and result["seconds"] <= result["asked_seconds"]
    if gates:
        good = good and result["intersecting"] < 1 and result["thin"] < 0.1 and abs(result["volume"] - 1) < 0.1
    return bool(good)


def main() -> None:
    """Run the chosen tasks and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS), metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--json", type=Path, help="write the results there")
    parser.add_argument("--keep", type=Path, help="keep the fitted meshes in this folder")
    options = parser.parse_args()
    print(f"{'task':16} seed    IoU  (asked)  worst  seconds   CPU  faces  intersect %  <5deg %  volume")
    results = []
    for name in options.only:
        for seed in options.seeds:
            with tempfile.TemporaryDirectory() as temporary:
                folder = Path(temporary)
                if options.keep:
                    folder = options.keep / f"{name}-{seed}"
                    folder.mkdir(parents=True, exist_ok=True)
                r = measure(name, seed, folder)
            results.append(r)
            volume = "     -" if r["volume"] is None else f"{r['volume']:6.3f}"
            print(
                f"{name:16} {seed:4}  {r['iou']:.4f} ({r['asked_iou']:.3f})  {r['worst']:.3f}  {r['seconds']:7.1f} "
                f"{r['cpu_seconds']:5.0f} {r['faces']:6} {r['intersecting']:12.2f} {r['thin']:8.2f}  {volume}  "
                f"{'ok' if r['pass'] else 'MISSED'}",
                flush=True,
            )
    if options.json:
        about = {
            "softras": softras.__version__,
            "torch": torch.__version__,
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
        }
        options.json.write_text(json.dumps({"about": about, "results": results}, indent=1))


if __name__ == "__main__":
    main()
