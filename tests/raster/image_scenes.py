"""Random images for the rasterizer's tests: a scene of scenes.py, what its faces show, and how they are blended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from hypothesis import strategies as st
from scenes import Scene, scenes
from torch import Tensor

from softras.raster.images import conorms, distributions, textures
from softras.raster.images import ops as image_ops
from softras.raster.native import backends

POWERS = {"hamacher": 0.4, "frank": 2.5, "yager": 1.6, "aczel_alsina": 1.4, "dombi": 1.3, "schweizer_sklar": -0.7}
APPEARANCES = ["attributes", "surface", "surface+lit", "uv", "uv+lit"]  # what faces show, with light or without
MODES = [
    *(
        {"distance": distance, "squared": squared}
        for distance in ("euclidean", "barycentric")
        for squared in (True, False)
    ),
    {"distance": "hard"},
    {"colour": "hard"},
    {"gamma": 3.0},
    {"cull": True},
    *({"aggregation": name, "power": POWERS.get(name)} for name in conorms.CONORMS),
    *({"distribution": name} for name in distributions.DISTRIBUTIONS),
]


@dataclass
class Picture:
    """An image to be rendered.

    leaves: float64 by name: vertices, K, world_to_camera, attributes, background and perhaps texture.
    """

    scene: Scene
    leaves: dict[str, Tensor]
    attribute_faces: Tensor
    settings: dict[str, Any] = field(default_factory=dict)
    mipmapped: bool = False

    def __repr__(self) -> str:
        kind = {name: tuple(x.shape) for name, x in self.leaves.items()}
        return f"Picture({self.scene}, {kind}, {self.settings})"

    def inputs(self, dtype: torch.dtype, device: str = "cpu") -> list[Tensor]:
        """The leaves in this dtype."""
        return [x.to(device, dtype).requires_grad_() for x in self.leaves.values()]

    def render(self, inputs: list[Tensor], *, defined: bool = False) -> image_ops.Rendering:
        """By a backend, or by the definition."""
        given = dict(zip(self.leaves, inputs, strict=True))
        v, k, w = (given.pop(name) for name in ("vertices", "K", "world_to_camera"))
        if self.mipmapped:
            given["texture"] = textures.mip_chain(given["texture"])
        scene = self.scene
        computes = backends.computes
        try:
            if defined:
                backends.computes = lambda *_: False
            return image_ops.images(
                v,
                scene.faces.to(v.device),
                k,
                w,
                scene.height,
                scene.width,
                attribute_faces=self.attribute_faces.to(v.device),
                sigma=scene.sigma,
                orthographic=scene.orthographic,
                near=scene.near,
                cull=scene.cull,
                **given,
                **self.settings,
            )
        finally:
            backends.computes = computes


def picture_of(
    scene: Scene, seed: int = 0, *, appearance: str = "attributes", shared: bool = True, **settings: Any
) -> Picture:
    """The scene with random attributes and texture. appearance: attributes, surface or uv, with +lit for light."""
    g = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=g, dtype=torch.float64).float().double()

    kind, lit = appearance.partition("+")[::2]
    F, N = len(scene.faces), len(scene.K)
    rows, channels = 7, {"attributes": 4, "surface": 1, "uv": 3}[kind] + (3 if lit else 0)
    attributes = rand(rows, channels) if shared else rand(N, rows, channels)
    leaves = {"vertices": scene.vertices, "K": scene.K, "world_to_camera": scene.world_to_camera}
    leaves["attributes"] = attributes
    if kind == "surface":
        leaves["texture"] = rand(F, 9, 3) if shared else rand(N, F, 9, 3)
    if kind == "uv":
        attributes[..., :2] = 3 * attributes[..., :2] - 1
        leaves["texture"] = rand(11, 6, 3)
        settings.setdefault("wrap", "mirror")
    shown = channels if kind == "attributes" else 4
    leaves["background"] = rand(shown)
    settings = {"gamma": 0.05, "far": 5.0, "lit": bool(lit), "nearest": True, **settings}
    return Picture(scene, leaves, torch.randint(0, rows, (F, 3), generator=g), settings, kind == "uv")


@st.composite
def pictures(draw, **limits: Any) -> Picture:
    """Pictures of the scenes of scenes.py in all modes."""
    scene = draw(scenes(**limits)).settled(1e-6)
    scene.sigma = max(scene.sigma, 1e-5)
    distance = draw(st.sampled_from(["euclidean", "euclidean", "barycentric", "hard"]))
    settings: dict[str, Any] = {"gamma": 10 ** draw(st.floats(-3, 0)), "far": draw(st.sampled_from([3.0, 10.0]))}
    settings["distance"] = distance
    if draw(st.booleans()):
        settings["squared"] = draw(st.booleans())
        settings["distribution"] = draw(st.sampled_from(list(distributions.DISTRIBUTIONS)))
        settings["aggregation"] = draw(st.sampled_from(list(conorms.CONORMS)))
        settings["power"] = POWERS.get(settings["aggregation"])
    appearance = draw(st.sampled_from(APPEARANCES))
    settings["wrap"] = draw(st.sampled_from(textures.WRAPS))
    return picture_of(scene, draw(st.integers(0, 2**31)), appearance=appearance, shared=draw(st.booleans()), **settings)


def upstream(rendering: image_ops.Rendering) -> list[Tensor]:
    """The same random gradients for alpha and image, whatever the precision."""
    g = torch.Generator().manual_seed(0)
    return [torch.randn(x.shape, generator=g, dtype=torch.float64) for x in rendering[:2]]


def gradients(
    picture: Picture, inputs: list[Tensor], *, defined: bool = False
) -> tuple[image_ops.Rendering, Sequence[Tensor]]:
    """What is rendered, and the gradients of a sum of alpha and image with those random weights."""
    got = picture.render(inputs, defined=defined)
    loss = sum((x * g.to(x)).sum() for x, g in zip(got[:2], upstream(got), strict=True))
    if not loss.requires_grad:
        return got, [torch.zeros_like(x) for x in inputs]
    return got, torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True)


def error(a: Tensor, b: Tensor) -> float:
    """The greatest difference, relative to the greatest number."""
    return float((a.double() - b).abs().max() / b.abs().max().clamp_min(1e-12)) if a.numel() else 0.0
