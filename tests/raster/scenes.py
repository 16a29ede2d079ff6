"""Random scenes for the rasterizer's tests, and the comparison with its definition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from torch import Tensor

from softras.raster import arguments, scene
from softras.raster.silhouettes import ops, reference

# Examples for tests on the emulator, which takes its time: as few as find something, and none is made simpler.
FEW = settings(
    max_examples=25,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)


@dataclass
class Scene:
    vertices: Tensor  # float64
    faces: Tensor
    K: Tensor
    world_to_camera: Tensor
    height: int
    width: int
    sigma: float
    orthographic: Tensor
    near: Tensor
    cull: bool

    def __repr__(self) -> str:
        size = f"{self.width}x{self.height}"
        return f"Scene(F={len(self.faces)}, N={len(self.K)}, {size}, sigma={self.sigma:.3g}, cull={self.cull})"

    def inputs(self, dtype: torch.dtype, device: str = "cpu") -> list[Tensor]:
        """vertices, K and world_to_camera as leaves of this dtype."""
        return [x.to(device, dtype).requires_grad_() for x in (self.vertices, self.K, self.world_to_camera)]

    def render(self, inputs: list[Tensor]) -> Tensor:
        v, K, w = inputs
        modes = {"sigma": self.sigma, "orthographic": self.orthographic, "near": self.near, "cull": self.cull}
        return ops.silhouettes(v, self.faces.to(v.device), K, w, self.height, self.width, **modes)

    def define(self, inputs: list[Tensor]) -> Tensor:
        return reference.silhouettes(self.packed(inputs), self.sigma)

    def packed(self, inputs: list[Tensor]) -> scene.Scene:
        """The tuple that operators draw, with such vertices, K and world_to_camera."""
        v, K, w = inputs
        modes = self.orthographic, self.near, self.cull
        return arguments.scene(v, self.faces.to(v.device), K, w, self.height, self.width, *modes)

    def settled(self, margin: float) -> Scene:
        """Without the faces of which rounding may decide how they count: about to be clipped, to be culled or to have
        no area, in any view."""
        keep = torch.ones(len(self.faces), dtype=torch.bool)
        for n in range(len(self.K)):
            camera, front, face = self.in_front(n)
            depth = camera[self.faces.long(), 2]
            keep &= ((depth - self.near[n]).abs() > margin * camera.abs().max().clamp_min(1)).all(1)
            extent = (front.amax(1) - front.amin(1)).amax(1).clamp_min(1e-300)
            area2 = reference.doubled_area(front).abs()
            thin = area2 / extent**2
            sliver = (thin < max(100 * reference.DEGENERATE, margin)) | (area2 / extent < 30 * margin)
            keep[face[sliver & (thin > 0.01 * reference.DEGENERATE)]] = False
        return replace(self, faces=self.faces[keep])

    def in_front(self, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """Vertices (V, 3) in camera n, its clipped and projected faces (G, 4, 2), and which they are (G,)."""
        v, K, w = self.vertices, self.K[n], self.world_to_camera[n]
        camera = (v if v.dim() == 2 else v[n]) @ w[:3, :3].T + w[:3, 3]
        corners, face = reference.clip_near(camera[self.faces.long()], self.near[n])
        return camera, reference.project(corners, K, bool(self.orthographic[n])), face

    def knife_edges(self, margin: float) -> Tensor:
        """(N, H, W) bool: pixels where rounding may decide: a face about to reach the cut-off, or a nearest edge about
        to change for another inside a face."""
        out = torch.zeros(len(self.K), self.height, self.width, dtype=torch.bool)
        sigma = self.sigma_pixels
        ys, xs = torch.meshgrid(torch.arange(self.height) + 0.5, torch.arange(self.width) + 0.5, indexing="ij")
        pixels = torch.stack([xs, ys], -1).reshape(-1, 2).double()
        for n in range(len(self.K)):
            polygons = self.in_front(n)[1]
            polygons = polygons[reference.visible(polygons, self.cull)]
            for start in range(0, len(pixels), 2000):
                d2, inside = reference.edge_distances(polygons, pixels[start : start + 2000])
                nearest = d2.sort(2).values
                at_cutoff = ~inside & ((nearest[..., 0] / sigma / reference.CUTOFF - 1).abs() < 30 * margin)
                tie = inside & (nearest[..., 1] - nearest[..., 0] < 30 * margin * (nearest[..., 1] + 1e-300))
                out[n].view(-1)[start : start + 2000] = (at_cutoff | tie).any(1)
        return out

    @property
    def sigma_pixels(self) -> float:
        """sigma in squared pixels."""
        return self.sigma * (min(self.height, self.width) / 2) ** 2

    def sum_of_coverages(self, inputs: list[Tensor]) -> Tensor:
        """(N, H, W): the sum of D over the faces."""
        v, K, w = inputs
        ys, xs = torch.meshgrid(torch.arange(self.height) + 0.5, torch.arange(self.width) + 0.5, indexing="ij")
        pixels = torch.stack([xs, ys], -1).reshape(-1, 2).double()
        sums = []
        for n in range(len(K)):
            camera = (v if v.dim() == 2 else v[n]) @ w[n, :3, :3].T + w[n, :3, 3]
            corners, _ = reference.clip_near(camera[self.faces.long()], self.near[n])
            polygons = reference.project(corners, K[n], bool(self.orthographic[n]))
            polygons = polygons[reference.visible(polygons, self.cull)]
            for pixel in pixels.split(2000):
                x, counts = reference.exponents(polygons, pixel, self.sigma_pixels)
                sums.append(torch.where(counts, torch.sigmoid(x), 0).sum(1))
        return torch.cat(sums).reshape(len(K), self.height, self.width) + 0 * (v.sum() + K.sum() + w.sum())


def small_scene(seed: int = 0, views: int = 2) -> Scene:
    """A dozen faces in general position."""
    g = torch.Generator().manual_seed(seed)
    matrix = torch.eye(4, dtype=torch.float64).repeat(views, 1, 1)
    matrix[:, 2, 3] = torch.linspace(3, 0.7, views, dtype=torch.float64)
    return Scene(
        vertices=torch.randn(20, 3, dtype=torch.float64, generator=g),
        faces=torch.randint(0, 20, (12, 3), generator=g),
        K=torch.tensor([[[20.0, 0.3, 12], [0.1, 22, 9], [0, 0, 1]]] * views, dtype=torch.float64),
        world_to_camera=matrix,
        height=18,
        width=24,
        sigma=1e-2,
        orthographic=torch.arange(views) % 2 == 1,
        near=torch.full((views,), 0.2, dtype=torch.float64),
        cull=False,
    )


def compare(scene: Scene, device: str = "cpu", slack: float = 1) -> None:
    """The operator in both precisions against the definition in float64 on the same numbers, away from knife edges.

    Values to 1e-9 and 1e-5; gradients to 1e-9 and 2e-5 of the largest there would be if no face hid another, because
    the rounding of an exponent counts the same wherever it happens, while the true gradients of opaque pixels vanish.
    That holds while the blur is at least 0.3 pixels; below, a pixel's rounded position counts for more, in proportion.
    All that times `slack`.
    """
    scene = scene.settled(1e-6)
    exact = scene.inputs(torch.float64)
    expected = scene.define(exact)
    edges = scene.knife_edges(1e-6)
    assert edges.float().mean() < 0.2, "too much of the scene is on a knife edge to be compared"
    noise = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    upstream = noise.masked_fill(edges, 0)
    if expected.requires_grad:
        theirs = torch.autograd.grad(expected, exact, upstream, allow_unused=True, materialize_grads=True)
        unhidden = torch.autograd.grad(scene.sum_of_coverages(exact), exact, upstream.abs())
    else:  # nothing in front of any camera
        theirs = unhidden = tuple(torch.zeros_like(x) for x in exact)
    sharp = max(1.0, 0.3 / scene.sigma_pixels**0.5)
    for dtype, of_alpha, of_gradient in ((torch.float64, 1e-9, 1e-9), (torch.float32, 1e-5, 2e-5)):
        inputs = scene.inputs(dtype, device)
        got = scene.render(inputs)
        assert got.dtype == dtype and got.device == inputs[0].device
        assert got.shape == expected.shape == (len(scene.K), scene.height, scene.width)
        difference = (got.detach().cpu().double() - expected.detach()).abs().masked_fill(edges, 0).max()
        assert difference <= slack * sharp * of_alpha, f"{dtype} alpha differs by {difference:.2e}"
        ours = torch.autograd.grad(got, inputs, upstream.to(device, dtype))
        for name, g, e, u in zip(("vertices", "K", "world_to_camera"), ours, theirs, unhidden, strict=True):
            assert torch.isfinite(g).all(), f"{dtype} gradient of {name} is not finite"
            scale = max(float(e.abs().max()), float(u.abs().max()), 1e-30)
            error = float((g.cpu().double() - e).abs().max()) / scale
            assert error <= slack * sharp * of_gradient, (
                f"{dtype} gradient of {name} differs by {error:.2e} of its largest"
            )


def random_scene(
    seed: int,
    faces: int,
    size: tuple[int, int],
    views: int = 1,
    *,
    sigma: float = 1e-3,
    near: float = 0.1,
    cull: bool = False,
    index: torch.dtype = torch.int64,
) -> Scene:
    """A scene with everything that goes wrong in practice: faces tiny, huge, degenerate, behind the camera, off-screen,
    through the near plane; perspective and orthographic. size: width and height."""
    g = torch.Generator().manual_seed(seed)
    (width, height), F, N = size, faces, views

    def rand(*shape):
        return torch.rand(*shape, generator=g, dtype=torch.float64)

    def randn(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    extent = 10 ** (-2.5 + 3 * rand(F, 1, 1))  # from a speck to far larger than the image
    triangles = 0.8 * randn(F, 1, 3) + extent * randn(F, 3, 3)
    kind = torch.randint(0, 12, (F,), generator=g)
    triangles[kind == 0, 2] = triangles[kind == 0, 1]  # two corners at one place
    triangles[kind == 1, 2] = (triangles[kind == 1, 0] + triangles[kind == 1, 1]) / 2  # collinear
    triangles[kind == 2] *= 30  # huge
    triangles[kind == 3, :, 2] -= 6  # behind
    triangles[kind == 4, :, 0] += 20  # off-screen
    # float32 numbers, so that both precisions see the same scene
    vertices = triangles.reshape(-1, 3).float().double()
    order = torch.randperm(len(vertices), generator=g)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))

    rotation = torch.linalg.qr(randn(N, 3, 3))[0]
    rotation = rotation * torch.linalg.det(rotation)[:, None, None]
    matrix = torch.eye(4, dtype=torch.float64).repeat(N, 1, 1)
    matrix[:, :3, :3] = rotation
    matrix[:, 2, 3] = 1 + 3 * rand(N)
    orthographic = torch.randint(0, 2, (N,), generator=g).bool()
    focal = min(width, height) * (0.3 + rand(N))
    K = torch.zeros(N, 3, 3, dtype=torch.float64)
    K[:, 0, 0], K[:, 1, 1], K[:, 0, 1], K[:, 2, 2] = focal, focal * (0.8 + 0.4 * rand(N)), 0.05 * focal * randn(N), 1
    K[:, 0, 2], K[:, 1, 2] = width * (0.3 + 0.4 * rand(N)), height * (0.3 + 0.4 * rand(N))
    return Scene(
        vertices=vertices[order],
        faces=place.reshape(F, 3).to(index),
        K=K.float().double(),
        world_to_camera=matrix.float().double(),
        height=height,
        width=width,
        sigma=sigma,
        orthographic=orthographic,
        near=torch.full((N,), near, dtype=torch.float64),
        cull=cull,
    )


@st.composite
def scenes(
    draw, faces=st.integers(1, 500), sizes=st.tuples(st.integers(1, 300), st.integers(1, 200)), views=st.integers(1, 3)
):
    """Random scenes of any size."""
    return random_scene(
        draw(st.integers(0, 2**31)),
        draw(faces),
        draw(sizes),
        draw(views),
        sigma=10 ** draw(st.floats(-6, -1)),
        near=draw(st.sampled_from([1e-3, 0.1, 0.5])),
        cull=draw(st.booleans()),
        index=draw(st.sampled_from([torch.int32, torch.int64])),
    )


def by_threads(run: Callable[[], Any], counts: Sequence[int] = (1, 2, 7)) -> list[Any]:
    """What `run` gives with each number of torch's threads."""
    before, results = torch.get_num_threads(), []
    try:
        for count in counts:
            torch.set_num_threads(count)
            results.append(run())
    finally:
        torch.set_num_threads(before)
    return results


def same_bits(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    """Whether tensors are equal one by one."""
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
