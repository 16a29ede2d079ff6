"""Colour fitting: the texture of spot from its own renders.

    python examples/colour_fitting.py [--out FILE] [--steps N] [--views N] [--size PIXELS] [--texels N]

The target images show a cow with painted vertices in the light of a sun. Known are the shape, the cameras and the
light; unknown is the texture, an image that begins grey. Gradients go through the blend of faces, the light and the
mip chain into its texels. One more view, which is not fitted, shows how well the colours hold elsewhere.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from pictures import save_grid
from spot import load_spot, sun
from torch import Tensor

import softras


def main(argv: Sequence[str] | None = None) -> tuple[list[float], Tensor]:
    """Fit the texture, save pictures of the view left out; the loss of each step, and the texture (H, W, 3)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/colour_fitting.png"))
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--views", type=int, default=12)
    parser.add_argument("--size", type=int, default=128, help="of the images, in pixels")
    parser.add_argument("--texels", type=int, default=256, help="of a side of the texture")
    options = parser.parse_args(argv)

    spot = load_spot()
    azimuths = torch.arange(options.views + 1) * 360 / options.views  # the last is the one left out:
    azimuths[-1] = 110.0
    elevations = torch.tensor([25.0, -25.0]).repeat(options.views)[: options.views + 1]
    world_to_camera = softras.look_at(softras.eye_from_angles(4.0, elevations, azimuths), at=(0, -0.19, 0.11))
    K = softras.perspective(32.0, options.size, options.size).expand(len(world_to_camera), 3, 3)

    def render(views: slice, **look) -> Tensor:
        scene = spot.vertices, spot.faces, K[views], world_to_camera[views], options.size, options.size
        return softras.images(*scene, background=1.0, **look).image

    lights = sun()
    targets = render(slice(None), attributes=softras.shade_vertices(spot.colors, spot.vertices, spot.faces, lights))
    known, left_out = slice(0, options.views), slice(options.views, None)

    # u, v and the light of each corner: both have a row for each texture coordinate
    light = softras.shade_vertices(torch.ones_like(spot.colors), spot.vertices, spot.faces, lights)
    corner = torch.zeros(len(spot.uv), 3)
    corner[spot.uv_faces.long()] = light[spot.faces.long()]
    attributes = torch.cat([spot.uv, corner], 1)

    def render_texture(views: slice) -> Tensor:
        chain = softras.mip_chain(texture)
        return render(views, attributes=attributes, attribute_faces=spot.uv_faces, texture=chain, lit=True)

    texture = torch.full((options.texels, options.texels, 3), 0.5, requires_grad=True)
    optimizer = torch.optim.Adam([texture], lr=0.05)
    losses = []
    pictures = [render_texture(left_out)[0]]
    for step in range(1, options.steps + 1):
        loss = (render_texture(known) - targets[known]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step in (options.steps // 6, options.steps):
            pictures.append(render_texture(left_out)[0])
            error = (pictures[-1] - targets[-1]).square().mean()
            print(f"step {step}: loss {losses[-1]:.2e}; {-10 * error.log10().item():.1f} dB in the view left out")
    texels = torch.nn.functional.interpolate(texture.movedim(2, 0)[None], options.size, mode="area")[0]
    save_grid(options.out, [[*pictures, targets[-1], texels]], ["start", "early", "end", "target", "texture"])
    return losses, texture.detach()


if __name__ == "__main__":
    main()
