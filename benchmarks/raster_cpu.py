"""Silhouettes on the CPU, forward and forward + backward, beside DEODR in one run.

    pip install deodr
    python benchmarks/raster_cpu.py [--threads 2] [--sigma 1e-5] [--repeat 15] [--out FILE.json]

DEODR (a hard-edged C++ renderer with anti-aliased silhouettes, single-threaded) is the fastest CPU peer we know. Both
render the same icospheres and spot (if SOFTRAS_DATA has it) from the same cameras, called through Python with their
own differentiation; rounds alternate, and the medians and their ratio are printed. Before that: peak memory, and how
the time grows with the number of (face, pixel) pairs within the cut-off. What was measured: docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from spheres import cameras, icosphere, pairs

import softras
from softras.raster.native import cpu

DATA = Path(os.environ.get("SOFTRAS_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
SIZES = [
    ("icosphere 3", 64, 1),
    ("spot", 64, 1),
    ("spot", 256, 1),
    ("icosphere 5", 256, 1),
    ("icosphere 6", 256, 1),
    ("spot", 512, 1),
    ("icosphere 5", 512, 1),
    ("icosphere 6", 512, 1),
    ("icosphere 3", 64, 8),
    ("spot", 64, 8),
    ("spot", 256, 8),
    ("icosphere 5", 256, 8),
    ("icosphere 6", 256, 8),
    ("spot", 512, 8),
    ("icosphere 5", 512, 8),
    ("icosphere 6", 512, 8),
]


def load(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Vertices within [-1, 1], and faces."""
    if name == "spot" and (DATA / "meshes" / "spot.obj").is_file():
        mesh = softras.load_mesh(DATA / "meshes" / "spot.obj")
        vertices, faces = mesh.vertices, mesh.faces
    else:
        vertices, faces = icosphere(4 if name == "spot" else int(name.split()[1]))
    vertices = vertices - vertices.mean(0)
    return vertices / np.abs(vertices).max(), faces


def ours(vertices, faces, cams, sigma) -> tuple[Callable, Callable]:
    from softras.render.silhouette import camera_tensors

    v = torch.tensor(vertices, dtype=torch.float32, requires_grad=True)
    f = torch.tensor(faces, dtype=torch.int32)
    tensors = camera_tensors(cams, torch.float32, torch.device("cpu"))
    size = cams[0].width
    grad = torch.rand(len(cams), size, size)

    def forward():
        return softras.silhouettes(v, f, height=size, width=size, sigma=sigma, **tensors)

    def both():
        v.grad = None
        forward().backward(grad)

    return forward, both


def deodr(vertices, faces, cams) -> tuple[Callable, Callable]:
    from deodr import Camera, ColoredTriMesh, Scene3D

    size = cams[0].width
    mesh = ColoredTriMesh(faces=faces.astype(np.uint32), vertices=vertices, nb_colors=1, clockwise=False)
    mesh.set_vertices_colors(np.ones((len(vertices), 1)))
    scene = Scene3D(sigma=1)
    scene.set_light(light_directional=None, light_ambient=1.0)
    scene.set_mesh(mesh)
    scene.set_background_color(np.zeros(1))
    views = [Camera(extrinsic=c.world_to_camera[:3], intrinsic=c.K, height=size, width=size) for c in cams]
    grad = np.random.default_rng(0).random((size, size, 1))

    def forward():
        for view in views:
            scene.render(view)

    def both():
        for view in views:
            scene.render(view)
            scene.clear_gradients()
            scene.render_backward(grad)

    return forward, both


def medians(functions: list[Callable], repeat: int) -> list[float]:
    """Median milliseconds of each, one round after another."""
    for f in functions:
        f()
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeat):
        for f, t in zip(functions, times, strict=True):
            start = time.perf_counter()
            f()
            t.append(1e3 * (time.perf_counter() - start))
    return [statistics.median(t) for t in times]


def peak_memory(sigma: float) -> float | None:
    """MB that forward + backward at 81,920 faces 512² need at most, beyond the process before it (Linux)."""
    try:
        ours(*load("icosphere 3"), cameras(1, 64), sigma)[1]()  # torch loads the last of its own
        _, both = ours(*load("icosphere 6"), cameras(1, 512), sigma)
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        before = _status("VmRSS")
        both()
        return (_status("VmHWM") - before) / 1e6
    except OSError:
        return None


def _status(name: str) -> int:
    """A size of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


def print_growth(repeat: int) -> None:
    """Time per pair while the blur grows, and while the faces shrink."""
    cases = [(5, sigma) for sigma in (1e-6, 1e-5, 1e-4, 1e-3)] + [(level, 1e-5) for level in (2, 3, 4, 5, 6, 7)]
    for level, sigma in cases:
        vertices, faces = load(f"icosphere {level}")
        cams = cameras(1, 512)
        count = pairs(vertices, faces, cams[0], sigma)
        time_both = medians([ours(vertices, faces, cams, sigma)[1]], repeat)[0]
        print(
            f"{len(faces):7} faces, sigma {sigma:5g}: {count / 1e6:7.2f} M pairs, {time_both:8.2f} ms, "
            f"{1e6 * time_both / count:5.2f} ns a pair"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sigma", type=float, default=1e-5)
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(
        f"{cpu.description()}, {args.threads} threads, sigma {args.sigma:g}; milliseconds, forward / forward + backward"
    )
    memory = peak_memory(args.sigma)
    print(f"peak memory at 81,920 faces 512²: {'not measured here' if memory is None else f'{memory:.1f} MB'}")
    print_growth(args.repeat)
    rows = []
    for name, size, views in SIZES:
        vertices, faces = load(name)
        cams = cameras(views, size)
        t = medians([*ours(vertices, faces, cams, args.sigma), *deodr(vertices, faces, cams)], args.repeat)
        row = {"mesh": name, "faces": len(faces), "size": size, "views": views, "softras": t[:2], "deodr": t[2:]}
        rows.append(row)
        print(
            f"{name:12} {len(faces):6} faces {size:4}² x {views}: softras {t[0]:8.3f} / {t[1]:8.3f}   "
            f"deodr {t[2]:8.3f} / {t[3]:8.3f}   ratio {t[2] / t[0]:5.2f} / {t[3] / t[1]:5.2f}",
            flush=True,
        )
    if args.out:
        meta = {
            "isa": cpu.description(),
            "threads": args.threads,
            "sigma": args.sigma,
            "torch": torch.__version__,
            "peak_memory_mb": memory,
        }
        args.out.write_text(json.dumps({**meta, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
