"""SoftRas's own images: its values, its gradients and, one by one, what it does that `softras.images` does not."""

import math

import pytest
import torch

import softras
from softras.raster.images import ops as image_ops
from softras.raster.silhouettes import reference

EYE = torch.eye(4, dtype=torch.float64)[None]
SETTINGS = {"near": 1.0, "far": 100.0, "sigma": 1e-2, "gamma": 1e-2, "dist_eps": 1e-4, "eps": 1e-3, "cull": False}
F0 = [(-0.5, -0.4, 3), (0.6, -0.3, 3.4), (0.1, 0.7, 3.2)]
F1 = [(-0.6, 0.1, 2.8), (0.4, -0.6, 3.6), (0.5, 0.5, 3.1)]
COLOURS = torch.tensor([[[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[1, 1, 0], [0, 1, 1], [1, 0, 1]]], dtype=torch.float64)


def render(corners, height=1, width=1, *, at=(0.0, 0.0), colours=None, softras_compat=True, dtype=None, **settings):
    """Triangles (F, 3, 3) given as SoftRas's rasterizer takes them: x and y in NDC, y up, beside the depth; the image's
    middle is at `at`."""
    corners = torch.as_tensor(corners, dtype=dtype or torch.float64)
    half = min(height, width) / 2
    K = torch.tensor(
        [[half, 0, width / 2 - half * at[0]], [0, -half, height / 2 + half * at[1]], [0, 0, 1]], dtype=torch.float64
    )
    settings = {"near": 1.0, "far": 100.0, "orthographic": torch.tensor([True]), **settings}
    attributes = None if colours is None else colours.reshape(-1, colours.shape[-1]).to(corners)
    modes = settings.pop("modes", {})
    return image_ops.images(
        corners.reshape(-1, 3),
        torch.arange(corners.shape[0] * 3).view(-1, 3),
        K[None].to(corners),
        EYE.to(corners),
        height,
        width,
        attributes=attributes,
        softras_compat=softras_compat,
        **settings,
        **modes,
    )


def pixel(corners, at, colours, *, held=None, distance="euclidean", aggregation="prod", colour="softmax", **settings):
    """(C,) colour and alpha of the pixel `at`, face after face, by the formulas of SoftRas's code in Python's numbers.

    colours: (F, 3, C) of corners or (F, R * R, C) texels with `resolution`. held: the corners at which barycentrics are
    taken, for the derivatives of SoftRas, which holds them fixed.
    """
    s = {**SETTINGS, **settings}
    cut = math.log(1 / s["dist_eps"] - 1) * s["sigma"]
    alphas, shown = [], []
    for f, face in enumerate(corners.tolist()):
        (x0, y0, _), (x1, y1, _), (x2, y2, _) = face if held is None else held[f].tolist()
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        w = [
            ((x2 - x1) * (at[1] - y1) - (at[0] - x1) * (y2 - y1)) / area,
            ((x0 - x2) * (at[1] - y2) - (at[0] - x2) * (y0 - y2)) / area,
        ]
        w.append(1 - w[0] - w[1])
        box = [(min(p[i] for p in face), max(p[i] for p in face)) for i in (0, 1)]
        if any(at[i] < box[i][0] - math.sqrt(cut) or at[i] > box[i][1] + math.sqrt(cut) for i in (0, 1)):
            continue
        inside = all(0 < x < 1 for x in w)
        if distance == "hard":
            covered = float(inside)
        elif distance == "barycentric":
            (a, b, _), (c, d, _), (e, g, _) = face
            area_now = (c - a) * (g - b) - (e - a) * (d - b)
            parts = [(e - c) * (at[1] - d) - (at[0] - c) * (g - d), (a - e) * (at[1] - g) - (at[0] - e) * (b - g)]
            m = min(parts[0] / area_now, parts[1] / area_now, 1 - sum(parts) / area_now)
            x = math.copysign(m * m, m)
        else:
            square = math.inf
            for (ax, ay, _), (bx, by, _) in zip(face, face[1:] + face[:1], strict=True):
                t = ((at[0] - ax) * (bx - ax) + (at[1] - ay) * (by - ay)) / ((bx - ax) ** 2 + (by - ay) ** 2)
                t = min(max(t, 0), 1)
                square = min(square, (ax + t * (bx - ax) - at[0]) ** 2 + (ay + t * (by - ay) - at[1]) ** 2)
            x = square if inside else -square
        if distance != "hard":
            if x <= -cut:
                continue
            covered = 1 / (1 + math.exp(-x / s["sigma"]))
        alphas.append(covered)
        clipped = [min(max(x, 0), 1) for x in w]
        clipped = [x / sum(clipped) for x in clipped]
        z = 1 / sum(x / p[2] for x, p in zip(clipped, face, strict=True))
        if not s["near"] <= z <= s["far"] or (distance == "hard" and not inside):
            continue
        if "resolution" in s:
            r = s["resolution"]
            i, j = int(clipped[0] * r), int(clipped[1] * r)
            low = (clipped[0] + clipped[1]) * r - i - j <= 1
            seen = colours[f, j * r + i if low else (r - 1 - j) * r + r - 1 - i]
        else:
            seen = sum(x * c for x, c in zip(clipped, colours[f], strict=True))
        shown.append((z, covered, inside, seen))
    mean = sum(alphas) / len(corners)
    alpha = {"prod": 1 - math.prod(1 - a for a in alphas), "sum": mean, "hard": float(any(a > 0.5 for a in alphas))}
    background = torch.tensor(s["background"], dtype=torch.float64)
    if colour == "hard":
        hits = [x for x in shown if x[2]]
        return (min(hits, key=lambda x: x[0])[3] if hits else background), alpha[aggregation]
    weights = [a * math.exp((s["far"] - z) / (s["far"] - s["near"]) / s["gamma"]) for z, a, *_ in shown]
    behind = math.exp(2 * s["eps"] / s["gamma"])
    total = sum((w * x[3] for w, x in zip(weights, shown, strict=True)), behind * background)
    return total / (sum(weights) + behind), alpha[aggregation]


def random_faces(seed, count=4):
    g = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 3, 3, dtype=torch.float64, generator=g)
    corners[..., :2] = 2.4 * corners[..., :2] - 1.2
    corners[..., 2] = 3 + 2 * corners[..., 2]
    return corners, torch.rand(count, 3, 2, dtype=torch.float64, generator=g)


def centres(height, width):
    """NDC of the pixels of an image, row by row."""
    half = min(height, width) / 2
    return [
        ((column + 0.5 - width / 2) / half, (height / 2 - row - 0.5) / half)
        for row in range(height)
        for column in range(width)
    ]


MODES = [
    {},
    {"distance": "barycentric"},
    {"distance": "hard"},
    {"aggregation": "sum"},
    {"aggregation": "hard"},
    {"colour": "hard"},
    {"distance": "barycentric", "aggregation": "sum", "sigma": 3e-2},
    {"gamma": 0.3, "eps": 0.05, "dist_eps": 1e-2, "near": 3.5, "far": 4.5},
]


@pytest.mark.parametrize(
    ("at", "colour", "alpha"),
    [
        ((0.0, 0.0), (0.5524724, 0.50746707, 0.46071267), 0.99999773),
        ((-0.45, 0.3), (0.99938558, 0.76973893, 0.22965869), 0.13388105),
    ],
)
def test_reference_values(at, colour, alpha):
    """Evaluated from SoftRas's code beforehand; the second shows its halo, too: the colour of a face that hardly
    covers."""
    got = render([F0, F1], at=at, colours=COLOURS, background=(0.2, 0.1, 0.3), sigma=1e-2, gamma=1e-2)
    assert got.image.flatten().tolist() == pytest.approx(colour, abs=6e-9)
    assert float(got.alpha) == pytest.approx(alpha, abs=6e-9)


@pytest.mark.parametrize("modes", MODES, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_values_are_those_of_the_formulas(modes, seed):
    corners, colours = random_faces(seed)
    settings = {"sigma": 1e-2, "gamma": 1e-2, "background": [0.2, 0.7], **modes}
    got = render(corners, 7, 9, colours=colours, **settings)
    expected = [pixel(corners, at, colours, **settings) for at in centres(7, 9)]
    assert torch.allclose(got.image[0].flatten(1).T, torch.stack([x[0] for x in expected]), atol=1e-12)
    assert torch.allclose(got.alpha.flatten(), torch.tensor([x[1] for x in expected], dtype=torch.float64), atol=1e-12)


def test_texels_are_those_of_the_formulas():
    corners, _ = random_faces(5)
    texels = torch.rand(4, 16, 3, dtype=torch.float64)
    settings = {"sigma": 1e-4, "gamma": 1e-2, "background": [0.2, 0.7, 0.1]}
    got = render(corners, 7, 9, texture=texels, **settings).image[0].flatten(1).T
    compared = 0
    for i, at in enumerate(centres(7, 9)):
        # on a face's border the index leaves the row: the pixel must be inside each face or far from it
        pixels = torch.tensor([at], dtype=torch.float64)
        distance2, inside = reference.edge_distances(corners[:, [0, 1, 2, 0], :2], pixels)
        if not (inside | (distance2.amin(2) > 1e-3)).all():
            continue
        expected, _ = pixel(corners, at, texels, resolution=4, **settings)
        assert torch.allclose(got[i], expected, atol=1e-12)
        compared += bool(inside.any())
    assert compared > 10


@pytest.mark.parametrize("modes", MODES[:2] + MODES[3:4] + MODES[5:7], ids=str)
def test_gradients_are_those_with_barycentrics_held_fixed(modes):
    """By finite differences of the formulas."""
    corners, colours = random_faces(1)
    settings = {"sigma": 1e-2, "gamma": 1e-2, "background": [0.2, 0.7], **modes}
    g = torch.Generator().manual_seed(0)
    upstream = torch.randn(3, 5 * 6, dtype=torch.float64, generator=g)

    def loss(x):
        values = [pixel(x, at, colours, held=corners, **settings) for at in centres(5, 6)]
        colour, alpha = torch.stack([v[0] for v in values]), torch.tensor([v[1] for v in values], dtype=torch.float64)
        return float((colour.T * upstream[:2]).sum() + (alpha * upstream[2]).sum())

    leaf = corners.clone().requires_grad_()
    got = render(leaf, 5, 6, colours=colours, **settings)
    ((got.image[0].flatten(1) * upstream[:2]).sum() + (got.alpha.flatten() * upstream[2]).sum()).backward()
    expected = torch.zeros_like(corners)
    for index in torch.cartesian_prod(*map(torch.arange, corners.shape)).tolist():
        step = torch.zeros_like(corners)
        step[tuple(index)] = 1e-6
        expected[tuple(index)] = (loss(corners + step) - loss(corners - step)) / 2e-6
    assert torch.allclose(leaf.grad, expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))


def test_the_gradient_of_hard_alpha_is_that_of_the_sum():
    corners, _ = random_faces(1)
    grads = []
    for aggregation, factor in (("hard", 1), ("sum", len(corners))):
        leaf = corners.clone().requires_grad_()
        alpha = render(leaf, 5, 6, sigma=1e-2, aggregation=aggregation).alpha
        (factor * alpha.sum()).backward()
        grads.append(leaf.grad)
    assert torch.allclose(*grads) and grads[0].abs().max() > 0


def whole(z=3.0):
    """A face across the whole image."""
    return torch.tensor([[[-9.0, -9, z], [9, -9, z], [0, 18, z]]], dtype=torch.float64)


def test_the_backgrounds_weight_is_squared():
    """At a depth that weighs exp(2 eps / gamma), the face has half of the pixel."""
    z = 100 - 99 * 2e-2
    shares = [
        float(
            render(
                whole(z), colours=torch.ones(1, 3, 1).double(), eps=1e-2, gamma=1e-2, softras_compat=quirk
            ).image.item()
        )
        for quirk in (True, False)
    ]
    assert shares == pytest.approx([0.5, 1 / (1 + math.exp(-1))])


def test_a_small_gamma_overflows_in_float32():
    ones = torch.ones(1, 3, 1)
    for gamma, dtype, quirk, finite in [
        (1.12e-5, torch.float32, True, False),
        (1.14e-5, torch.float32, True, True),
        (1.12e-5, torch.float32, False, True),
        (1.12e-5, torch.float64, True, True),
    ]:
        got = render(whole(), colours=ones, gamma=gamma, dtype=dtype, softras_compat=quirk)
        assert bool(torch.isfinite(got.image).all()) == finite
        assert torch.isfinite(got.alpha).all()


def test_colour_gradients_lack_the_motion_of_barycentrics():
    """A face beyond the image: only its colours at the pixels change, which SoftRas's gradient does not see."""
    for quirk in (True, False):
        corners = whole().requires_grad_()
        got = render(corners, 4, 4, colours=torch.eye(3, dtype=torch.float64)[None], softras_compat=quirk)
        got.image[:, 0, :2].sum().backward()
        assert (corners.grad[..., :2].abs().max() < 1e-12) == quirk


def test_a_face_behind_the_camera_covers_without_a_gradient():
    face = torch.tensor([[[-0.5, -0.5, -2], [0.5, -0.5, -2], [0, 0.6, -2]]], dtype=torch.float64)
    settings = {"colours": torch.ones(1, 3, 1), "background": 0.25, "sigma": 1e-3}
    got = render(face, 9, 9, **settings)
    in_front = render(face * torch.tensor([1.0, 1, -1]), 9, 9, **settings)
    assert torch.equal(got.alpha, in_front.alpha) and got.alpha.max() > 0.99
    assert (got.image == 0.25).all()
    assert (render(face, 9, 9, softras_compat=False, **settings).alpha == 0).all()
    for z, has_gradient in ((-2.0, False), (2.0, True), (101.0, False)):
        corners = torch.cat([face[..., :2], torch.full((1, 3, 1), z)], 2).requires_grad_()
        render(corners, 9, 9, **settings).alpha.sum().backward()
        assert (corners.grad.abs().max() > 0) == has_gradient


def test_a_face_without_area_covers_its_box_by_half():
    """A diagonal through the image's middle, all three corners on it."""
    line = torch.tensor([[[-0.5, -0.5, 3], [0, 0, 3], [0.5, 0.5, 3]]], dtype=torch.float64)
    for quirk in (True, False):
        alpha = render(line, 9, 9, sigma=1e-4, softras_compat=quirk).alpha[0]
        box = alpha[3:6, 3:6]
        assert torch.allclose(box, torch.full_like(box, 0.5 if quirk else 0.0))
        assert alpha[0, 0] == 0


@pytest.mark.parametrize("mirrored", [False, True])
def test_culling_leaves_alpha(mirrored):
    """Back faces lose their colour alone. Front is where `softras.images` has it; SoftRas's own cameras mirror."""
    K = torch.tensor([[[-2.0 if mirrored else 2.0, 0, 2], [0, 2, 2], [0, 0, 1]]], dtype=torch.float64)
    x = torch.tensor([[0.0, -18, 3], [9, 9, 3], [-9, 9, 3]], dtype=torch.float64)
    settings = {"attributes": torch.ones(3, 1).double(), "cull": True, "orthographic": torch.tensor([True])}
    for corners in ([0, 1, 2], [2, 1, 0]):
        faces = torch.tensor([corners])
        got = image_ops.images(x, faces, K, EYE, 4, 4, softras_compat=True, **settings)
        seen = image_ops.images(x, faces, K.abs(), EYE, 4, 4, **settings)
        assert (got.alpha > 0.99).all()
        assert torch.allclose(got.image, seen.image)
        assert (seen.image > 0.99).all() == (corners[0] == 2)


def test_cameras_colours_and_texels_have_gradients():
    corners, colours = random_faces(2)
    leaves = [
        corners.reshape(-1, 3).clone(),
        torch.tensor([[[3.0, 0, 3.5], [0, 3.0, 3], [0, 0, 1]]], dtype=torch.float64),
        EYE.clone(),
        colours.reshape(-1, 2).clone(),
        torch.rand(4, 4, 3, dtype=torch.float64),
        torch.rand(5, dtype=torch.float64),
    ]
    faces = torch.arange(12).view(4, 3)

    def image(v, k, w, attributes, texture, background):
        appearance = {"attributes": attributes, "texture": texture, "background": background}
        return image_ops.images(v, faces, k, w, 6, 7, sigma=1e-2, gamma=1e-2, softras_compat=True, **appearance).image

    for leaf in leaves:
        leaf.requires_grad_()
    got = image(*leaves)
    assert got.shape == (1, 5, 6, 7)
    got.square().sum().backward()
    assert all(torch.isfinite(x.grad).all() and x.grad.abs().max() > 0 for x in leaves)
    seen = [x.detach() for x in leaves[:3]]
    assert torch.autograd.gradcheck(lambda *appearance: image(*seen, *appearance), leaves[3:])


def test_no_faces_and_blocks(monkeypatch):
    got = render(torch.zeros(0, 3, 3), 3, 4, colours=torch.zeros(0, 3, 2), background=0.5)
    assert (got.alpha == 0).all() and (got.image == 0.5).all()
    corners, colours = random_faces(3)
    whole_image = render(corners, 6, 7, colours=colours, sigma=1e-2)
    monkeypatch.setattr(reference, "PAIRS", 12)
    in_blocks = render(corners, 6, 7, colours=colours, sigma=1e-2)
    assert torch.equal(whole_image.image, in_blocks.image) and torch.equal(whole_image.alpha, in_blocks.alpha)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"squared": False}, "SoftRas has no unsquared distances; leave it out, or softras_compat"),
        ({"distribution": "gaussian"}, "SoftRas has no distribution 'gaussian'"),
        ({"shift": 0.5}, "SoftRas has no shift of the distribution"),
        ({"aggregation": "einstein"}, "SoftRas has no aggregation 'einstein'"),
        ({"texture": softras.mip_chain(torch.rand(4, 4, 3).double())}, "SoftRas has no UV textures"),
        ({"texture": torch.rand(1, 4, 2).double(), "lit": True}, "SoftRas has no light beside a texture"),
    ],
)
def test_what_softras_has_not_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        render(whole(), colours=torch.ones(1, 3, 2), **change)
