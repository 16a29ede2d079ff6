"""Cube pose: the rotation of a cube from one image of it, from starts where the faces to be seen are hidden.

    python examples/cube_pose.py [--out FILE] [--angle DEGREES] [--starts N] [--steps N] [--size PIXELS] [--sharp]

The loss is the mean squared difference of colours. A renderer that shows the nearest face alone gives no gradient to
faces at the back. Here sigma and gamma are large at first, so that the colours of hidden faces shine through and pull
them into view, and fall while the cube turns (the experiment of Liu et al., ICCV 2019, on colours and occlusion).
`--sharp` keeps both small, to compare.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import torch
import trimesh
from pictures import save_grid
from torch import Tensor

import softras

COLORS = torch.tensor(
    [[0.9, 0.2, 0.2], [0.2, 0.7, 0.2], [0.2, 0.3, 0.9], [0.9, 0.8, 0.1], [0.8, 0.3, 0.8], [0.2, 0.8, 0.8]]
)
SIGMA, GAMMA = (1e-2, 1e-4), (1e-1, 1e-2)  # from, to
SHARP_GAMMA = 1e-3


class Cube:
    """A cube with a colour on each side, seen by one camera."""

    def __init__(self, size: int) -> None:
        box = trimesh.creation.box([1.0, 1.0, 1.0])
        self.vertices = torch.tensor(box.vertices, dtype=torch.float32)
        self.faces = torch.tensor(box.faces)
        axis = torch.tensor(box.face_normals.round()) @ torch.tensor([1.0, 2.0, 3.0]).double()
        side = (axis.abs() - 1 + 3 * (axis < 0)).long()  # 0..5 for +x, +y, +z, -x, -y, -z
        self.sides = side[:, None].expand(-1, 3)
        self.K = softras.perspective(40.0, size, size)
        self.world_to_camera = softras.look_at((0.0, -3.0, 0.0))
        self.size = size

    def images(self, rotations: Tensor, sigma: float = 1e-5, gamma: float = 1e-4) -> Tensor:
        """(N, 3, H, W) of rotations (N, 3, 3), on black: colours times alpha, so that outlines count."""
        count = len(rotations)
        rendering = softras.images(
            self.vertices @ rotations.mT,
            self.faces,
            self.K.expand(count, 3, 3),
            self.world_to_camera.expand(count, 4, 4),
            self.size,
            self.size,
            attributes=COLORS,
            attribute_faces=self.sides,
            sigma=sigma,
            gamma=gamma,
            near=1.5,
            far=4.5,
        )
        return rendering.image * rendering.alpha[:, None]


def turned(vectors: Tensor) -> Tensor:
    """(N, 3, 3) the rotations about vectors (N, 3) by their lengths in radians."""
    x, y, z = vectors.T
    zero = torch.zeros_like(x)
    return torch.linalg.matrix_exp(torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).view(-1, 3, 3))


def degrees_between(one: Tensor, other: Tensor) -> Tensor:
    """(N,) the angles of the rotations from one (N, 3, 3) to the other."""
    cosine = ((one * other).sum((1, 2)) - 1) / 2
    return cosine.clamp(-1, 1).acos().rad2deg()


def find(cube: Cube, seen: Tensor, starts: Tensor, steps: int, sharp: bool) -> list[Tensor]:
    """The rotations (N, 3, 3) on the way from the starts to those of the images seen (N, 3, H, W), one a step."""
    vectors = torch.zeros(len(starts), 3, requires_grad=True)
    optimizer = torch.optim.Adam([vectors], lr=0.05, betas=(0.9, 0.99))
    way = [starts]
    for step in range(steps):
        softness = 0.0 if sharp else max(0.0, 1 - 1.25 * step / steps)  # 1 at first, 0 in the last fifth
        sigma = SIGMA[1] * (SIGMA[0] / SIGMA[1]) ** softness
        gamma = SHARP_GAMMA if sharp else GAMMA[1] * (GAMMA[0] / GAMMA[1]) ** softness
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / steps) + 0.002
        images = cube.images(turned(vectors) @ starts, sigma, gamma)
        optimizer.zero_grad()
        (images - seen).square().mean((1, 2, 3)).sum().backward()
        optimizer.step()
        way.append(turned(vectors.detach()) @ starts)
    return way


def main(argv: Sequence[str] | None = None) -> Tensor:
    """Find the poses, save pictures of the first four; the errors that are left (N,), in degrees."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/cube_pose.png"))
    parser.add_argument("--angle", type=float, default=60.0, help="how far away the starts are, in degrees")
    parser.add_argument("--starts", type=int, default=40, help="how many random cubes and starts")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--size", type=int, default=64, help="of the images, in pixels")
    parser.add_argument("--sharp", action="store_true", help="keep sigma and gamma small, to compare")
    options = parser.parse_args(argv)

    generator = torch.Generator().manual_seed(0)
    axes = torch.randn(2, options.starts, 3, generator=generator)
    axes = axes / axes.norm(dim=2, keepdim=True)
    truth = turned(math.pi * torch.rand(options.starts, 1, generator=generator) * axes[0])
    starts = turned(math.radians(options.angle) * axes[1]) @ truth
    cube = Cube(options.size)
    way = find(cube, cube.images(truth), starts, options.steps, options.sharp)
    errors = degrees_between(way[-1], truth)
    found = int((errors < 5).sum())
    print(f"{found} of {options.starts} within 5 degrees; median {errors.median():.2f}, mean {errors.mean():.1f}")

    shown = [*(way[options.steps * k // 10] for k in (0, 1, 2, 3, 5, 10)), truth]
    rows = zip(*(cube.images(rotations[:4]) for rotations in shown), strict=True)
    save_grid(options.out, list(rows), ["start", *(f"{k} %" for k in (10, 20, 30, 50)), "end", "seen"])
    return errors


if __name__ == "__main__":
    main()
