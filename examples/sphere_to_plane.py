"""Sphere to plane: a sphere becomes an aeroplane that only silhouettes tell of.

    python examples/sphere_to_plane.py [--out FILE] [--steps N] [--views N] [--size PIXELS]

The vertices of a sphere move by Adam until its silhouettes are those of the target in every view, with the losses, the
parameters and the learning rate of SoftRas's demo (Liu et al., ICCV 2019). This is a loop to start one's own from; to
fit a mesh to photographs there is `softras.fit`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import trimesh
from pictures import save_grid
from torch import Tensor
from trimesh.transformations import scale_and_translate

import softras

TITLES = ("start", "5 %", "25 %", "end", "target")


def aeroplane() -> tuple[Tensor, Tensor]:
    """Vertices (V, 3) and faces (F, 3) of the target: hull, wings, tailplane and fin are stretched balls."""
    parts = []
    for size, at in (
        ((0.08, 0.55, 0.08), (0, 0, 0)),
        ((0.55, 0.11, 0.03), (0, -0.05, -0.02)),
        ((0.22, 0.07, 0.03), (0, 0.46, 0.03)),
        ((0.03, 0.09, 0.16), (0, 0.46, 0.08)),
    ):
        part = trimesh.creation.icosphere(3)
        part.apply_transform(scale_and_translate(size, at))
        parts.append(part)
    whole = trimesh.util.concatenate(parts)
    return torch.tensor(whole.vertices, dtype=torch.float32), torch.tensor(whole.faces)


def cameras(count: int, size: int) -> list[softras.Camera]:
    """Cameras in four rings around the object, 30 degrees wide, as many as asked for."""
    K = softras.perspective(30.0, size, size).numpy()
    azimuths = np.arange(count) * 360 / count
    elevations = np.array([-30.0, 0.0, 30.0, 60.0])[np.arange(count) % 4]
    eyes = softras.eye_from_angles(2.7, elevations, azimuths)
    return [softras.Camera(K, softras.look_at(eye).numpy(), size, size) for eye in eyes]


def deformed(base: Tensor, change: Tensor, centre: Tensor) -> Tensor:
    """Vertices (V, 3) within -1..1: logits of the base's coordinates are changed, so each stays on its side of centre.

    base, change: (V, 3); centre: (3,), whose tanh is where the base's origin goes.
    """
    moved = (base.abs().logit(eps=1e-4) + change).sigmoid() * base.sign()
    origin = centre.tanh()
    return moved * (1 - base.sign() * origin) + origin


def shaded(vertices: Tensor, faces: Tensor, camera: softras.Camera) -> Tensor:
    """(3, H, W) picture, flat, with light from above and from where the camera stands."""
    sun = torch.tensor(camera.centre, dtype=torch.float32) + torch.tensor([0.0, 0.0, 2.0])
    lights = (softras.AmbientLight(torch.full((3,), 0.3)), softras.DirectionalLight(torch.full((3,), 0.7), sun))
    color = torch.tensor([0.55, 0.7, 0.9]).expand(len(faces), 3)
    lit = softras.shade_faces(color, vertices, faces, lights)
    each = torch.arange(len(faces))[:, None].expand(-1, 3)
    return softras.render_images(vertices, faces, camera, attributes=lit, attribute_faces=each, background=1.0).image[0]


def main(argv: Sequence[str] | None = None) -> list[float]:
    """Deform the sphere, save pictures of its way; the loss of each step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/sphere_to_plane.png"))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--views", type=int, default=24)
    parser.add_argument("--size", type=int, default=64, help="of the silhouettes, in pixels")
    options = parser.parse_args(argv)

    seen = cameras(options.views, options.size)
    target, target_faces = aeroplane()
    fine = [camera.crop(0, 0, options.size, options.size, 2 * options.size, 2 * options.size) for camera in seen]
    covered = softras.hard_silhouettes(target, target_faces, fine).float()
    masks = torch.nn.functional.avg_pool2d(covered[:, None], 2)[:, 0]

    sphere = trimesh.creation.icosphere(3, radius=0.5)
    base, faces = torch.tensor(sphere.vertices, dtype=torch.float32), torch.tensor(sphere.faces)
    topology = softras.Topology(faces)
    change, centre = torch.zeros_like(base, requires_grad=True), torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.Adam([change, centre], lr=0.01, betas=(0.5, 0.99))

    shown = [cameras(24, 128)[k] for k in (3, 8)]
    losses, way = [], [base]
    for step in range(1, options.steps + 1):
        vertices = deformed(base, change, centre)
        silhouettes = softras.render_silhouettes(vertices, faces, seen, sigma=1e-4)
        iou = softras.silhouette_iou(silhouettes, masks).mean()
        smooth = 0.03 * softras.laplacian_loss(vertices, topology) + 0.0003 * softras.flatten_loss(vertices, topology)
        loss = 1 - iou + smooth
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step in (options.steps // 20, options.steps // 4, options.steps):
            way.append(vertices.detach())
            print(f"step {step}: loss {losses[-1]:.4f}, IoU {iou.item():.3f}")
    meshes = [*((vertices, faces) for vertices in way), (target, target_faces)]
    save_grid(options.out, [[shaded(*mesh, camera) for mesh in meshes] for camera in shown], TITLES)
    return losses


if __name__ == "__main__":
    main()
