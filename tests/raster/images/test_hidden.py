"""What others hide, and what no face reaches, is left out by the CPU backend: images are as if it were not."""

import math

import pytest
import torch
from image_scenes import error, gradients, picture_of
from scenes import Scene, by_threads, same_bits

HEIGHT, WIDTH = 43, 61
LENS = torch.tensor([[[50.0, 0, WIDTH / 2], [0, 50, HEIGHT / 2], [0, 0, 1]]], dtype=torch.float64)


def layers(seed, *, count=60, size=1.0, centre=(0.0, 0.0), depths=(2.0, 40.0), slant=0.3):
    """Faces over each other: `size` of the image's width across, about `centre`, which is 0.5 at its borders."""
    g = torch.Generator().manual_seed(seed)
    depth = depths[0] + (depths[1] - depths[0]) * torch.rand(count, 1, generator=g, dtype=torch.float64)
    depth = depth + slant * torch.randn(count, 3, generator=g, dtype=torch.float64)
    place = size * (torch.rand(count, 3, 2, generator=g, dtype=torch.float64) - 0.5)
    x = (place[..., 0] + centre[0]) * WIDTH / 50 * depth
    y = (place[..., 1] + centre[1]) * HEIGHT / 50 * depth
    vertices = torch.stack([x, y, depth], -1).reshape(-1, 3).float().double()
    return Scene(
        vertices,
        torch.arange(3 * count).view(count, 3),
        LENS.clone(),
        torch.eye(4, dtype=torch.float64)[None],
        HEIGHT,
        WIDTH,
        1e-4,
        torch.zeros(1, dtype=torch.bool),
        torch.tensor([0.5], dtype=torch.float64),
        False,
    )


def check(picture):
    """Against the definition."""
    exact = picture.inputs(torch.float64)
    expected, theirs = gradients(picture, exact, defined=True)
    got, ours = gradients(picture, exact)
    for name, a, b in zip(got._fields[:2], got, expected, strict=False):
        assert error(a.detach(), b.detach()) <= 1e-9, name
    assert expected.nearest is None or torch.equal(got.nearest, expected.nearest)
    for name, a, b in zip(picture.leaves, ours, theirs, strict=True):
        assert error(a, b) <= 1e-7, name


@pytest.mark.parametrize("nearest", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_layers(seed, nearest):
    """Most faces are hidden, and some of these cross the far plane, where their alpha ends."""
    check(picture_of(layers(seed), seed, gamma=2e-4, far=30.0, nearest=nearest))


def flat(pieces):
    """A scene of triangles parallel to the image: their corners in pixels, and their depth."""
    scene = layers(0, count=len(pieces))
    corners = torch.tensor([corners for corners, _ in pieces], dtype=torch.float64).reshape(-1, 2)
    depth = torch.tensor([depth for _, depth in pieces], dtype=torch.float64).repeat_interleave(3)[:, None]
    scene.vertices = torch.cat([(corners - LENS[0, :2, 2]) / 50 * depth, depth], 1)
    return scene


@pytest.mark.parametrize("powers", [10, 20, 28, 35])
def test_what_is_not_far_enough_behind_shows(powers):
    """So many powers of 2, beside a wall: of a colour so bright that the wall does not outshine it."""
    gamma, far = 1e-3, 100.5
    step = powers * math.log(2) * gamma * (far - 0.5)
    wall, piece = ((-99.3, -97.1), (399.7, -98.4), (-99.9, 401.3)), ((20.1, 10.3), (40.7, 12.2), (25.4, 35.9))
    picture = picture_of(flat([(wall, 2.0), (piece, 2.0 + step)]), gamma=gamma, far=far)
    picture.attribute_faces = torch.tensor([[0, 0, 0], [1, 1, 1]])
    with torch.no_grad():
        picture.leaves["attributes"][0] = 0
        picture.leaves["attributes"][1] = 2.0**powers
    check(picture)
    assert 0.9 < float(picture.render(picture.inputs(torch.float64)).image.detach().max()) < 1.1


def test_faces_that_the_near_plane_cuts_hide_and_are_hidden():
    scene = layers(3, depths=(0.6, 6.0), slant=1.5)
    behind = (scene.vertices[:, 2] < 0.5).view(-1, 3).sum(1)
    assert ((behind > 0) & (behind < 3)).sum() >= 10
    check(picture_of(scene, gamma=1e-4, far=20.0))


def test_a_centre_is_not_covered_by_what_hides_it():
    """The slit between two faces is narrower than the blur: colours behind are hidden, the nearest face is not."""
    left, right = ((30.48, -99.7), (30.48, 199.2), (-199, 20.3)), ((30.51, -99.1), (30.51, 199.6), (299, 20.6))
    scene = flat([(left, 2.0), (right, 2.0), (((26.1, 17.2), (35.3, 17.9), (30.7, 23.4)), 20.0)])
    scene.sigma = 1e-2
    picture = picture_of(scene, gamma=1e-4, far=30.0)
    check(picture)
    assert 2 in picture.render(picture.inputs(torch.float32)).nearest


@pytest.mark.parametrize(
    "modes", [{}, {"aggregation": "einstein"}, {"aggregation": "max"}, {"distance": "barycentric"}]
)
@pytest.mark.parametrize("centre", [(0.42, 0.42), (-0.45, 0.1), (0.0, 2.0)])
def test_a_small_mesh_in_a_large_image(modes, centre):
    """At the borders, and beside the image."""
    scene = layers(1, count=12, size=0.2, centre=centre, depths=(2.0, 3.0))
    scene.sigma = 1e-4 if modes.get("distance") != "barycentric" else 0.1
    check(picture_of(scene, gamma=1e-2, far=10.0, **modes))


def test_a_face_that_reaches_behind_the_camera_reaches_the_border():
    scene = layers(1, count=1)
    scene.vertices = torch.tensor([[0.013, 0.007, 2], [0.11, 0.31, 2], [3, 0.23, -2]], dtype=torch.float64)
    picture = picture_of(scene, gamma=1e-2, far=10.0)
    check(picture)
    assert picture.render(picture.inputs(torch.float32)).alpha[0, :, -1].max() > 0.9


def check_threads(scene, **modes):
    """1, 2, 4 and 7 threads render and differentiate the same bits, in float32: these."""
    picture = picture_of(scene, **modes)

    def run():
        inputs = picture.inputs(torch.float32)
        got, grads = gradients(picture, inputs)
        alpha = scene.render(inputs[:3])
        return [*got, *grads, alpha, *torch.autograd.grad(alpha.square().sum(), inputs[:3])]

    first, *others = by_threads(run, (1, 2, 4, 7))
    assert all(same_bits(first, other) for other in others)
    return first


@pytest.mark.parametrize("gamma", [1e-4, 1e-2])
def test_any_number_of_threads_gives_the_same_bits(gamma):
    scene = layers(5, count=6000, size=1.2)
    scene.K, scene.height, scene.width = scene.K * torch.tensor([4.0, 4.0, 1.0])[:, None], 4 * HEIGHT, 4 * WIDTH
    check_threads(scene, gamma=gamma, far=30.0)


def test_faces_between_vertices_that_different_threads_project():
    """Whose vertices lie about the image, none within; and with a speck of a face in its middle."""
    wall = ((-3500.3, -3400.1), (3500.7, -3300.4), (-100.9, 5001.3))
    speck = ((240.2, 231.3), (250.1, 231.9), (241.2, 246.6))
    for pieces in ([(wall, 3.0)], [(wall, 3.0), (speck, 2.0)]):
        scene = flat(pieces)
        scene.height, scene.width = 400, 500
        assert check_threads(scene, gamma=1e-2, far=30.0)[0].detach().min() > 0.999
