"""Exact coverage on the CPU beside soft silhouettes, forward + backward through torch, in one run.

    python benchmarks/coverage_cpu.py [--threads 2] [--repeat 15] [--out FILE.json]

Rounds alternate; medians in milliseconds and their ratio are printed. The meshes are those of raster_cpu.py.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
from raster_cpu import load, medians
from spheres import cameras

import softras
from softras.raster.native import cpu
from softras.render.silhouette import camera_tensors

SIZES = [
    ("icosphere 3", 64, 1),
    ("spot", 64, 1),
    ("spot", 256, 1),
    ("spot", 512, 1),
    ("spot", 256, 8),
    ("icosphere 5", 256, 1),
    ("icosphere 6", 512, 1),
    ("icosphere 7", 512, 1),
]


def both(name: str, size: int, views: int) -> tuple[int, Callable, Callable]:
    """The number of faces, and forward + backward of exact coverage and of soft silhouettes at sigma 1e-5."""
    vertices, faces = load(name)
    v = torch.tensor(vertices, dtype=torch.float32, requires_grad=True)
    f = torch.tensor(faces, dtype=torch.int32)
    scene = camera_tensors(cameras(views, size), torch.float32, torch.device("cpu")) | {"height": size, "width": size}
    grad = torch.rand(views, size, size)

    def run(render: Callable) -> None:
        v.grad = None
        render(v, f, **scene).backward(grad)

    return len(faces), lambda: run(softras.coverage), lambda: run(softras.silhouettes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{cpu.description()}, {args.threads} threads; milliseconds, forward + backward")
    rows = []
    for name, size, views in SIZES:
        faces, exact, soft = both(name, size, views)
        t = medians([exact, soft], args.repeat)
        rows.append({"mesh": name, "faces": faces, "size": size, "views": views, "coverage": t[0], "soft": t[1]})
        print(f"{faces:7} faces {size:4}² x {views}: coverage {t[0]:8.3f}   soft {t[1]:8.3f}   {t[1] / t[0]:5.1f}")
    if args.out:
        meta = {"isa": cpu.description(), "threads": args.threads, "torch": torch.__version__}
        args.out.write_text(json.dumps({**meta, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
