"""Images on the CPU beside silhouettes of the same scene, forward and forward + backward, in one run.

    python benchmarks/colour_cpu.py [--threads 2] [--repeat 15] [--out FILE.json]

Vertex colours (3 channels) and the silhouette alone in rounds that alternate, then a UV texture with mip levels; the
medians and their ratios are printed. What was measured: docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from raster_cpu import load
from spheres import cameras

import softras
from softras.raster.native import cpu
from softras.render.silhouette import camera_tensors

SCENES = [
    ("icosphere 3", 64, 1),
    ("spot", 256, 1),
    ("icosphere 5", 256, 1),
    ("spot", 512, 1),
    ("icosphere 6", 512, 1),
    ("spot", 256, 8),
]


def tasks(name: str, size: int, views: int) -> dict[str, Callable[[bool], None]]:
    """What is timed: each renders and, if asked to, differentiates."""
    vertices, faces = load(name)
    seen = camera_tensors(cameras(views, size), torch.float32, torch.device("cpu"))
    v = torch.tensor(vertices, dtype=torch.float32).requires_grad_()
    f = torch.tensor(faces)
    colours = torch.rand(len(v), 3).requires_grad_()
    uv = (v.detach()[:, :2] + 1) / 2
    chain = softras.mip_chain(torch.rand(512, 512, 3))
    grads = [torch.randn(views, size, size), torch.randn(views, 3, size, size)]
    scene = {"faces": f, "height": size, "width": size, **seen}
    images = {**scene, "near": 1.0, "far": 100.0}

    def finish(outputs: list[torch.Tensor], backward: bool) -> None:
        v.grad = colours.grad = None
        if backward:
            torch.autograd.backward(outputs, grads[: len(outputs)])

    def silhouette(backward: bool) -> None:
        finish([softras.silhouettes(v, **scene)], backward)

    def colour(backward: bool) -> None:
        finish(list(softras.images(v, attributes=colours, **images)[:2]), backward)

    def textured(backward: bool) -> None:
        finish(list(softras.images(v, attributes=uv, texture=chain, **images)[:2]), backward)

    return {"silhouette": silhouette, "colour": colour, "texture": textured}


def measure(task: dict[str, Callable[[bool], None]], repeat: int) -> dict[str, dict[str, float]]:
    """Medians of milliseconds, by task, forward and with the backward pass."""
    times: dict[str, dict[str, list[float]]] = {name: {"forward": [], "both": []} for name in task}
    for i in range(repeat + 2):
        for name, run in task.items():
            for key, backward in (("forward", False), ("both", True)):
                start = time.perf_counter()
                run(backward)
                if i >= 2:
                    times[name][key].append(1e3 * (time.perf_counter() - start))
    return {name: {key: statistics.median(x) for key, x in of.items()} for name, of in times.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    print(f"{cpu.description()}, {args.threads} threads, PyTorch {torch.__version__}")
    print(f"{'':26}{'silhouette':>18}{'colour':>18}{'texture':>18}    colour / silhouette")
    rows = []
    for name, size, views in SCENES:
        task = tasks(name, size, views)
        texture = {"texture": task.pop("texture")}
        medians = measure(task, args.repeat) | measure(texture, max(3, args.repeat // 5))
        rows.append({"mesh": name, "size": size, "views": views, **medians})
        cells = "".join(f"{m['forward']:9.2f}{m['both']:9.2f}" for m in medians.values())
        ratio = [medians["colour"][key] / medians["silhouette"][key] for key in ("forward", "both")]
        print(f"{name:>12} {size:4}^2 x {views}    {cells}    {ratio[0]:.2f} {ratio[1]:.2f}", flush=True)
    if args.out:
        args.out.write_text(json.dumps({"threads": args.threads, "isa": cpu.description(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
