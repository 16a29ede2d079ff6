"""How near the gradients of several renderers of silhouettes are to the true ones, in one table.

    python benchmarks/gradients.py [--size 128] [--views 3] [--out FILE.json] [--picture FILE.png]

For each mesh, view and loss, the gradient of the vertices by each renderer is set beside that of the true silhouette,
the area covered in each pixel: the mean and the worst cosine over the scenes, and the mean relative L2 distance; of all
vertices, and of the 12 parameters of an affine motion of the mesh. The true gradient is that of `softras.coverage`;
central differences of its image confirm it in the affine rows. Losses: "residual", the squared difference of each
renderer's own image to the silhouette of the mesh turned by thirty degrees and enlarged; "smooth", a fixed smooth
weight of every pixel. The picture shows what the smooth loss's gradient does to spot's vertices.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import softras
from softras.baselines import nmr, opendr
from softras.render.silhouette import camera_tensors

DATA = Path(os.environ.get("SOFTRAS_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
MESHES = ("spot", "teapot", "bunny", "knot", "chair")
MOTION = 1.05 * torch.linalg.matrix_exp(  # turned by some thirty degrees, and larger
    torch.tensor([[0.0, -0.36, 0.3], [0.36, 0.0, -0.24], [-0.3, 0.24, 0.0]], dtype=torch.float64)
)
METHODS: dict[str, Callable[..., Tensor]] = {
    "exact coverage": softras.coverage,
    "soft, sigma 1e-4": lambda *a, **k: softras.silhouettes(*a, **k, sigma=1e-4),
    "soft, sigma 1e-5": lambda *a, **k: softras.silhouettes(*a, **k, sigma=1e-5),
    "soft, sigma 1e-6": lambda *a, **k: softras.silhouettes(*a, **k, sigma=1e-6),
    "OpenDR": lambda *a, **k: opendr(*a, **k).alpha,
    "NMR": lambda *a, **k: nmr(*a, **k).alpha,
    "NMR without anti-aliasing": lambda *a, **k: nmr(*a, **k, anti_aliasing=False).alpha,
}


def load(name: str) -> tuple[Tensor, Tensor] | None:
    """Vertices within [-1, 1], and faces; None where the data set is not there."""
    path = next((p for p in (DATA / "meshes").glob(f"*{name}*") if p.suffix in (".obj", ".ply", ".off")), None)
    if name == "spot":
        path = Path(__file__).resolve().parents[1] / "examples" / "data" / "spot" / "spot.obj"
    if path is None:
        return None
    mesh = softras.load_mesh(path)
    used = mesh.vertices[np.unique(mesh.faces)]
    middle = (used.min(0) + used.max(0)) / 2
    vertices = (mesh.vertices - middle) / np.abs(used - middle).max()
    return torch.tensor(vertices), torch.tensor(mesh.faces)


def scene(size: int, view: int) -> dict:
    """A camera."""
    K = softras.perspective(35, size, size).numpy()
    eye = softras.eye_from_angles(4.2, 15.0 + 20 * view, 40.0 + 100 * view)
    camera = softras.Camera(K, softras.look_at(eye).double().numpy(), size, size)
    return camera_tensors([camera], torch.float64, torch.device("cpu")) | {"height": size, "width": size}


def smooth(size: int) -> Tensor:
    """(1, H, W) a weight of each pixel, of a few long waves."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(size) / size, torch.arange(size) / size, indexing="ij")
    waves = torch.rand(8, 3, generator=generator).double() * torch.tensor([12.0, 12.0, 6.3])
    return sum(torch.sin(fx * x + fy * y + phase) for fx, fy, phase in waves.tolist())[None].double()


def affine(vertices: Tensor, gradient: Tensor) -> Tensor:
    """(12,) the gradient of the parameters of an affine motion."""
    return torch.cat([(gradient.T @ vertices).flatten(), gradient.sum(0)])


def compare(found: Tensor, true: Tensor) -> tuple[float, float]:
    """Cosine and relative L2 distance."""
    f, t = found.flatten(), true.flatten()
    return float(f @ t / (f.norm() * t.norm()).clamp_min(1e-300)), float((f - t).norm() / t.norm())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--views", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args()
    rows: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    weight, used, worst = smooth(args.size), [], 0.0
    for name in MESHES:
        if (mesh := load(name)) is None:
            continue
        used.append(name)
        vertices, faces = mesh
        for view in range(args.views):
            camera = scene(args.size, view)
            target = softras.coverage(vertices @ MOTION.T, faces, **camera)
            true: dict[str, Tensor] = {}
            for method, render in METHODS.items():
                v = vertices.clone().requires_grad_()
                image = render(v, faces, **camera)
                for loss, upstream in (("residual", 2 * (image.detach() - target)), ("smooth", weight)):
                    (g,) = torch.autograd.grad(image, v, upstream, retain_graph=True)
                    true.setdefault(loss, g)
                    rows.setdefault((loss, "vertices", method), []).append(compare(g, true[loss]))
                    pair = affine(vertices, g), affine(vertices, true[loss])
                    rows.setdefault((loss, "affine", method), []).append(compare(*pair))
            worst = max(worst, confirmed(vertices, faces, camera, weight, true["smooth"]))
            if args.picture and name == "spot" and view == 0:
                draw(args.picture, vertices, faces, camera, weight)
    print(f"meshes: {', '.join(used)}; {args.views} views of {args.size}²")
    print(f"central differences of the true image: relative L2 of the affine gradient at most {worst:.1e}")
    table = []
    for (loss, of, method), values in rows.items():
        cosine, distance = np.array(values).T
        row = {"loss": loss, "of": of, "method": method, "cosine": cosine.mean(), "worst": cosine.min()}
        table.append(row | {"relative_l2": distance.mean()})
        print(f"{loss:9} {of:9} {method:26} {cosine.mean():6.3f} ({cosine.min():6.3f}) / {distance.mean():.3g}")
    if args.out:
        args.out.write_text(
            json.dumps({"size": args.size, "views": args.views, "meshes": used, "rows": table}, indent=1)
        )


def confirmed(vertices: Tensor, faces: Tensor, camera: dict, weight: Tensor, gradient: Tensor) -> float:
    """Relative L2 distance of the affine gradient from central differences of the image."""
    differences = []
    for matrix, shift in zip(*(x.split(1) for x in steps()), strict=True):
        ends = [
            (softras.coverage(vertices + h * (vertices @ matrix[0].T + shift[0]), faces, **camera) * weight).sum()
            for h in (1e-6, -1e-6)
        ]
        differences.append((ends[0] - ends[1]) / 2e-6)
    return compare(affine(vertices, gradient), torch.stack(differences))[1]


def steps() -> tuple[Tensor, Tensor]:
    """(12, 3, 3) and (12, 3) the unit motions, in the order of `affine`."""
    units = torch.eye(12, dtype=torch.float64)
    return units[:, :9].reshape(12, 3, 3), units[:, 9:]


def draw(path: Path, vertices: Tensor, faces: Tensor, camera: dict, weight: Tensor) -> None:
    """What each method's gradient of the smooth loss does to the vertices: lines, 12 pixels long at most."""
    from PIL import Image, ImageDraw

    scale, size = 3, camera["width"]
    sheets = []
    for method, render in METHODS.items():
        v = vertices.clone().requires_grad_()
        image = render(v, faces, **camera)
        (g,) = torch.autograd.grad(image, v, weight)
        K, w = camera["K"][0], camera["world_to_camera"][0]
        seen = vertices @ w[:3, :3].T + w[:3, 3]
        pixels = (seen[:, :2] / seen[:, 2:]) @ K[:2, :2].T + K[:2, 2]
        moved = g @ w[:3, :3].T
        flow = moved[:, :2] / moved[:, :2].norm(dim=1).quantile(0.999).clamp_min(1e-30)
        grey = (255 - 120 * image[0].detach().clamp(0, 1)).byte().numpy()
        sheet = Image.fromarray(grey).resize((scale * size, scale * size)).convert("RGB")
        pen = ImageDraw.Draw(sheet)
        for (x, y), (dx, dy) in zip((scale * pixels).tolist(), flow.clamp(-1, 1).tolist(), strict=True):
            if abs(dx) + abs(dy) > 0.02:
                pen.line((x, y, x + 36 * dx, y + 36 * dy), fill=(200, 60, 20))
        pen.text((6, 4), method, fill=(0, 0, 0))
        sheets.append(sheet)
    columns = 4
    whole = Image.new("RGB", (columns * scale * size, -(-len(sheets) // columns) * scale * size), "white")
    for i, sheet in enumerate(sheets):
        whole.paste(sheet, (i % columns * scale * size, i // columns * scale * size))
    whole.save(path)


if __name__ == "__main__":
    main()
