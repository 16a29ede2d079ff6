"""The forward mode of the rasterizer beside the silhouettes alone, forward and forward + backward, in one run.

    python benchmarks/raster_jacobian.py [--threads 2] [--repeat 15] [--parameters 69] [--out FILE.json]

One Levenberg-Marquardt step needs the silhouettes, the rows of the Jacobian, J^T J and J^T r; a gradient step needs
silhouettes and their backward pass. Both through Python, on the CPU, of the same culled meshes (spot if SOFTRAS_DATA
has it) in 4 views; rounds alternate. Medians in milliseconds, and the multiples of forward + backward.
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

VIEWS = 4
CASES = [  # mesh, image size, sigma
    ("icosphere 3", 64, 3e-3),
    ("icosphere 3", 128, 3e-4),
    ("icosphere 3", 256, 1e-5),
    ("spot", 128, 3e-4),
    ("spot", 256, 1e-4),
    ("spot", 256, 1e-5),
    ("icosphere 5", 256, 1e-5),
    ("spot", 512, 1e-5),
]


def case(name: str, size: int, sigma: float, parameters: int, moving_cameras: bool) -> tuple[list[Callable], int]:
    """Silhouettes, silhouettes + backward, Jacobian, Jacobian + J^T J and J^T r; and its pixels."""
    points, triangles = load(name)
    vertices, faces = torch.tensor(points, dtype=torch.float32), torch.tensor(triangles, dtype=torch.int32)
    tensors = camera_tensors(cameras(VIEWS, size), torch.float32, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    d_vertices = torch.randn(*vertices.shape, parameters, generator=generator)
    moves = {}
    if moving_cameras:
        moves = {f"d_{x}": torch.randn(*tensors[x].shape, parameters) for x in ("K", "world_to_camera")}
    upstream = torch.rand(VIEWS, size, size, generator=generator)
    modes = {"height": size, "width": size, "sigma": sigma, "cull": True, **tensors}
    leaf = vertices.clone().requires_grad_()

    def forward() -> None:
        softras.silhouettes(vertices, faces, **modes)

    def both() -> None:
        leaf.grad = None
        softras.silhouettes(leaf, faces, **modes).backward(upstream)

    def jacobian() -> softras.Jacobian:
        return softras.silhouettes_jacobian(vertices, faces, d_vertices=d_vertices, **moves, **modes)

    def step() -> None:
        alpha, pixels, rows = jacobian()
        r = (alpha - upstream).flatten()[pixels]
        _ = rows.T @ rows, rows.T @ r

    return [forward, both, jacobian, step], len(jacobian().pixels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--parameters", type=int, default=69)
    parser.add_argument("--cameras", action="store_true", help="move the cameras as well as the vertices")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{cpu.description()}, {args.threads} threads, {args.parameters} parameters, {VIEWS} views; milliseconds")
    rows = []
    for name, size, sigma in CASES:
        calls, pixels = case(name, size, sigma, args.parameters, args.cameras)
        forward, both, jacobian, step = times = medians(calls, args.repeat)
        rows.append({"mesh": name, "size": size, "sigma": sigma, "pixels": pixels, "milliseconds": times})
        print(
            f"{name:12} {size:4}², sigma {sigma:5g}: {pixels:6} pixels; "
            f"forward {forward:7.3f}, + backward {both:7.3f}, "
            f"Jacobian {jacobian:7.3f} ({jacobian / both:4.2f}), with JᵀJ {step:7.3f} ({step / both:4.2f})",
            flush=True,
        )
    if args.out:
        meta = {"isa": cpu.description(), "threads": args.threads, "parameters": args.parameters}
        args.out.write_text(json.dumps({**meta, "torch": torch.__version__, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
