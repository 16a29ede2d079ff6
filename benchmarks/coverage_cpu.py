"""Exact coverage on the CPU beside soft silhouettes and DEODR, forward + backward through torch, in one run.

    python benchmarks/coverage_cpu.py [--threads 2] [--repeat 15] [--cpu-time] [--alone] [--out FILE.json]

Rounds alternate; of each the median and the least time in milliseconds are written, and the ratios of the medians are
printed. By turns, each finds the caches full of what the others have left there, which costs the small calls most; with
--alone, the rounds of each follow one another, as the steps of a fit do. With --cpu-time and one thread, what else runs
on the machine counts less. The meshes are those of
raster_cpu.py, a scan whose surface is rough, and heaps of triangles that have to be measured by samples. DEODR (`pip
install deodr trimesh`) is left out where it is not installed. What grows with the faces alone is the time of a mesh
that lies below the image; the rest is given for spheres of more and more faces.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from raster_cpu import DATA, deodr, load
from spheres import cameras

import softras
from softras.raster.native import cpu
from softras.render.silhouette import camera_tensors

SIZES = [
    ("icosphere 0", 16, 1),  # little to draw: the call itself
    ("icosphere 3", 64, 1),
    ("spot", 64, 1),
    ("spot", 256, 1),
    ("spot", 512, 1),
    ("spot", 256, 8),
    ("icosphere 5", 256, 1),
    ("icosphere 6", 512, 1),
    ("icosphere 7", 512, 1),
    ("icosphere 8", 512, 1),
    ("stanford_bunny", 512, 1),
    ("heap 100000 0.02", 256, 1),
    ("heap 10000 0.3", 256, 1),
]
GROWTH = ("icosphere 4", "icosphere 5", "icosphere 6", "icosphere 7", "icosphere 8")


def mesh(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Vertices within [-1, 1], and faces. "heap N S": N unconnected triangles of size S."""
    if name.startswith("heap"):
        count, size = int(name.split()[1]), float(name.split()[2])
        random = np.random.default_rng(0)
        corners = random.random((count, 1, 3)) * 1.4 - 0.7 + size * random.standard_normal((count, 3, 3))
        return corners.reshape(-1, 3), np.arange(3 * count).reshape(-1, 3)
    path = DATA / "meshes" / f"{name}.obj"
    if name == "spot" or not path.is_file():
        return load(name)
    read = softras.load_mesh(path)
    vertices = read.vertices - read.vertices.mean(0)
    return vertices / np.abs(vertices).max(), read.faces


def through_torch(vertices, faces, size: int, views: int) -> list[Callable[[], None]]:
    """Forward + backward of exact coverage and of soft silhouettes at sigma 1e-5."""
    v = torch.tensor(vertices, dtype=torch.float32, requires_grad=True)
    f = torch.tensor(faces, dtype=torch.int32)
    scene = camera_tensors(cameras(views, size), torch.float32, torch.device("cpu")) | {"height": size, "width": size}
    grad = torch.rand(views, size, size)

    def run(render: Callable) -> None:
        v.grad = None
        render(v, f, **scene).backward(grad)

    return [lambda: run(softras.coverage), lambda: run(softras.silhouettes)]


def times(
    functions: list[Callable[[], None]], repeat: int, clock: Callable[[], float], alone: bool = False
) -> list[tuple[float, float]]:
    """The median and the least milliseconds of each by a clock of seconds, by turns or each alone."""
    for f in functions:
        f()
    found: list[list[float]] = [[] for _ in functions]
    each = list(zip(functions, found, strict=True))
    for f, t in [one for one in each for _ in range(repeat)] if alone else repeat * each:
        start = clock()
        f()
        t.append(1e3 * (clock() - start))
    return [(statistics.median(t), min(t)) for t in found]


def growth(repeat: int, clock: Callable[[], float]) -> list[dict]:
    """For spheres in 512²: milliseconds that faces take wherever they are, and those of the rest."""
    rows = []
    for name in GROWTH:
        vertices, faces = load(name)
        seen, below = (through_torch(vertices + np.array((0, y, 0)), faces, 512, 1)[0] for y in (0, -100))
        (_, whole), (_, of_faces) = times([seen, below], repeat, clock)
        rows.append({"faces": len(faces), "of_faces": of_faces, "rest": whole - of_faces})
        print(f"{len(faces):8} faces: {of_faces:8.3f} ms for faces alone, {whole - of_faces:7.3f} ms for the rest")
    first, last = rows[0], rows[-1]
    least = 1e-3  # Where the rest is little, the noise of the clock may be more.
    exponent = math.log(max(last["rest"], least) / max(first["rest"], least)) / math.log(last["faces"] / first["faces"])
    print(f"the rest grows as faces to the power of {exponent:.2f}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    clock = time.process_time if args.cpu_time else time.perf_counter
    warnings.filterwarnings("ignore", "so many edges cross")
    peer = importlib.util.find_spec("deodr") is not None
    print(f"{cpu.description()}, {args.threads} threads; milliseconds, forward + backward: median (least)")
    rows = []
    for name, size, views in SIZES:
        vertices, faces = mesh(name)
        functions = through_torch(vertices, faces, size, views)
        if peer and len(faces) < 500_000 and not name.startswith("heap"):
            functions.append(deodr(vertices, faces, cameras(views, size))[1])
        found = times(functions, args.repeat if len(faces) < 200_000 else max(3, args.repeat // 3), clock, args.alone)
        named = dict(zip(("coverage", "soft", "deodr"), found, strict=False))
        rows.append({"mesh": name, "faces": len(faces), "size": size, "views": views, **named})
        columns = "   ".join(f"{key} {median:8.3f} ({least:8.3f})" for key, (median, least) in named.items())
        ratios = " ".join(f"{median / found[0][0]:6.1f}" for median, _ in found[1:])
        print(f"{len(faces):8} faces {size:4}² x {views}: {columns}   {ratios}", flush=True)
    grown = growth(args.repeat, clock)
    if args.out:
        meta = {"isa": cpu.description(), "threads": args.threads, "torch": torch.__version__, "clock": clock.__name__}
        meta["alone"] = args.alone
        args.out.write_text(json.dumps({**meta, "rows": rows, "growth": grown}, indent=1))


if __name__ == "__main__":
    main()
