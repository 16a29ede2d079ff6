"""Forward rendering: what sigma and gamma do to an image.

    python examples/forward_rendering.py [--out FILE] [--size PIXELS]

From left to right sigma grows, and each face reaches further across its outline; from top to bottom gamma grows, and
nearer faces hide farther ones less, until the image is the mean of all faces at a pixel. The last row is alpha, which
has no gamma. Everything is as in Liu et al., ICCV 2019, figure 3, on the CPU in seconds.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from pictures import save_grid
from spot import load_spot, sun

import softras

SIGMAS = (1e-5, 1e-4, 1e-3, 1e-2)
GAMMAS = (1e-4, 1e-3, 1e-2, 1e-1)


def main(argv: Sequence[str] | None = None) -> list[list[torch.Tensor]]:
    """Render and save the grid; its images, row by row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/forward_rendering.png"))
    parser.add_argument("--size", type=int, default=160, help="of an image, in pixels")
    options = parser.parse_args(argv)

    spot = load_spot()
    eye = softras.eye_from_angles(4.0, elevation=20.0, azimuth=125.0)
    world_to_camera = softras.look_at(eye, at=(0, -0.19, 0.11))[None]
    K = softras.perspective(34.0, options.size, options.size)[None]
    lit = softras.shade_vertices(spot.colors, spot.vertices, spot.faces, sun())

    def render(sigma: float, gamma: float) -> softras.Rendering:
        scene = spot.vertices, spot.faces, K, world_to_camera, options.size, options.size
        return softras.images(*scene, attributes=lit, background=1.0, sigma=sigma, gamma=gamma)

    rows = [[render(sigma, gamma).image[0] for sigma in SIGMAS] for gamma in GAMMAS]
    rows.append([render(sigma, GAMMAS[0]).alpha[0] for sigma in SIGMAS])
    names = [*(f"gamma {gamma:g}" for gamma in GAMMAS), "alpha"]
    save_grid(options.out, rows, [f"sigma {sigma:g}" for sigma in SIGMAS], names)
    return rows


if __name__ == "__main__":
    main()
