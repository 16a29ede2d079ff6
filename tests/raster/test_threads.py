"""The same bits for any number of threads, of what is drawn and of all its gradients, where torch would share the work:
tensors of more than 32768 numbers."""

import pytest
import torch
from hypothesis import settings
from image_scenes import gradients, picture_of
from scenes import Scene, by_threads, same_bits

import softras
from softras.raster import sums
from softras.raster.images.textures import mip_chain, sample_chain

THREADS = (1, 2, 3, 7)


def same(run):
    first, *others = by_threads(run, THREADS)
    assert all(same_bits(first, other) for other in others)
    return first


def sheet(columns=120, rows=100, size=(230, 190), views=2):
    """A wavy surface, whose vertices belong to six faces each, before a background."""
    j, i = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    x, y = 2.4 * i / (columns - 1) - 1.2, 2 * j / (rows - 1) - 1.1
    vertices = torch.stack([x, y, 3 + 0.2 * torch.sin(9 * x) * torch.cos(7 * y)], -1).reshape(-1, 3).double()
    corner = (columns * j + i)[:-1, :-1].reshape(-1, 1)
    faces = torch.cat([corner + torch.tensor([0, 1, columns]), corner + torch.tensor([1, columns + 1, columns])])
    (width, height), focal = size, min(size) * torch.tensor([1.1, 0.35], dtype=torch.float64)[:views]
    K = torch.zeros(views, 3, 3, dtype=torch.float64)
    K[:, 0, 0] = K[:, 1, 1] = focal
    K[:, 0, 2], K[:, 1, 2], K[:, 2, 2] = width / 2, height / 2, 1
    pose = torch.eye(4, dtype=torch.float64).repeat(views, 1, 1)
    near = torch.full((views,), 0.5, dtype=torch.float64)
    return Scene(vertices, faces, K, pose, height, width, 1e-4, torch.arange(views) == 1, near, False)


@pytest.mark.parametrize(
    ("appearance", "colour"),
    [("surface+lit", "softmax"), ("uv", "softmax"), ("attributes", "hard"), ("uv+lit", "hard")],
)
def test_images(appearance, colour):
    picture = picture_of(sheet(), appearance=appearance, gamma=1e-3, far=30.0, colour=colour)

    def run():
        got, grads = gradients(picture, picture.inputs(torch.float32))
        return [*(x.detach() for x in got), *grads]

    for gradient in same(run)[3:]:
        assert gradient.abs().max() > 0


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", ["number", "shared", "each"])
def test_the_gradient_of_the_background(shape, channels):
    """Of one view and channel too, which torch would add up by parts."""
    scene = sheet(8, 8, (400, 300), 1 if channels == 1 else 2)
    args = scene.vertices.float(), scene.faces, scene.K.float(), scene.world_to_camera.float(), 300, 400
    background = torch.zeros({"number": (), "shared": (channels,), "each": (len(scene.K), channels)}[shape])
    background.requires_grad_()
    g = torch.Generator().manual_seed(0)
    attributes = torch.rand(scene.vertices.shape[0], channels, generator=g)
    upstream = torch.randn(len(scene.K), channels, 300, 400, generator=g)

    def run():
        image = softras.images(*args, attributes=attributes, background=background, near=0.5, far=30.0).image
        return torch.autograd.grad(image, background, upstream)

    assert same(run)[0].abs().min() > 0


def test_fragments():
    scene = sheet()
    picture = picture_of(scene, far=30.0)
    nearest = picture.render(picture.inputs(torch.float32)).nearest

    def run():
        leaves = scene.inputs(torch.float32)
        found = softras.fragments_of(leaves[0], scene.faces, *leaves[1:], nearest, scene.orthographic)
        seen = nearest >= 0
        loss = found.depth[seen].square() + found.barycentrics[seen][:, 0]
        return [found.depth.detach(), *torch.autograd.grad(loss, leaves, torch.ones_like(loss))]

    same(run)


def test_supersampled():
    scene = sheet(20, 20, (211, 97), 1)

    def run():
        v, K, w = scene.inputs(torch.float32)
        alpha = softras.supersampled(softras.silhouettes, v, scene.faces, K, w, 97, 211, samples=3, near=0.5)
        return [alpha.detach(), *torch.autograd.grad(alpha, [v, K, w], alpha.detach())]

    same(run)


def test_mip_chains():
    g = torch.Generator().manual_seed(0)
    texture, uv, level = torch.rand(301, 257, 3, generator=g), torch.rand(40000, 2, generator=g), torch.rand(40000)

    def run():
        leaf = texture.clone().requires_grad_()
        colours = sample_chain(mip_chain(leaf), uv, 5 * level)
        return [colours.detach(), *torch.autograd.grad(colours, leaf, colours.detach())]

    same(run)


def test_surface_textures():
    scene, g = sheet(), torch.Generator().manual_seed(0)
    texture, count = torch.rand(64, 64, 3, generator=g), len(scene.vertices)

    def run():
        leaf, uv = texture.clone().requires_grad_(), scene.vertices[:, :2].float().requires_grad_()
        colors = torch.rand(count, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
        of_image = softras.surface_texture_from_image(leaf, uv, scene.faces, 2)
        of_vertices = softras.surface_texture_from_vertices(colors, scene.faces, 2)
        loss = of_image.square() + of_vertices
        return [loss.detach(), *torch.autograd.grad(loss, [leaf, uv, colors], loss.detach())]

    same(run)


@pytest.mark.parametrize("shape", [(100001,), (1, 70001), (7, 9001), (9001, 7), (3, 2, 8000), (40000, 1), (0, 3), (1,)])
def test_totals_are_sums(shape):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for dim in range(-len(shape), len(shape)):
        torch.testing.assert_close(sums.total(values, dim), values.sum(dim))
        same(lambda dim=dim: [sums.total(values.float(), dim)])


def test_spread_and_rows_differentiate_as_torch_does():
    g = torch.Generator().manual_seed(0)
    values = torch.randn(4, 3, generator=g, dtype=torch.float64).requires_grad_()
    index = torch.randint(0, 3, (5, 2), generator=g)
    assert torch.equal(sums.rows(values, index, 1), values[:, index])
    for function in (lambda x: sums.spread(x, -2, 7), lambda x: sums.rows(x, index, 1)):
        assert torch.autograd.gradcheck(function, values)
        assert torch.autograd.gradgradcheck(function, values)


def test_examples_are_the_same_on_every_machine():
    assert settings.default.derandomize and settings.default.database is None and settings.default.deadline is None
