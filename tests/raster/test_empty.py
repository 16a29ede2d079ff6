"""No vertices, no faces and no cameras are a picture of nothing, with gradients of zero; the library is its own."""

import ctypes

import pytest
import torch

import softras
from softras.raster.native import cpu, structures
from softras.raster.scene import Scene, Tangents

K, POSE = torch.tensor([[[8.0, 0, 4], [0, 8, 4], [0, 0, 1]]]), torch.eye(4)[None]
MESH = torch.tensor([[-1.0, -1, 4], [1, -1, 5], [0, 1, 4]]), torch.tensor([[0, 1, 2]])
WITHOUT = {
    "no vertices": (torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.long), K, POSE),
    "no faces": (MESH[0], MESH[1][:0], K, POSE),
    "no cameras": (*MESH, K[:0], POSE[:0]),
    "no vertices of no cameras": (torch.zeros(0, 0, 3), MESH[1][:0], K[:0], POSE[:0]),
}


def leaves_of(scene, dtype=torch.float32):
    v, f, k, w = scene
    v, k, w = (x.to(dtype, copy=True).requires_grad_() for x in (v, k, w))
    return (v, f, k, w), [v, k, w]


def zero_gradients(outputs, leaves):
    """After memory full of other numbers has been given back, which an output that nobody writes would show."""
    junk = [torch.full((x.numel() + 1,), 7.0, dtype=x.dtype) for x in leaves for _ in range(50)]
    del junk
    loss = sum(x.sum() for x in outputs)
    for leaf, gradient in zip(leaves, torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True),
                              strict=True):  # fmt: skip
        assert gradient.shape == leaf.shape and (gradient == 0).all()


@pytest.mark.parametrize("name", WITHOUT)
def test_silhouettes(name):
    scene, leaves = leaves_of(WITHOUT[name])
    alpha = softras.silhouettes(*scene, 8, 9)
    assert alpha.shape == (len(scene[2]), 8, 9) and (alpha == 0).all()
    zero_gradients([alpha], leaves)
    found = softras.silhouettes_jacobian(*scene, 8, 9, torch.ones(*scene[0].shape, 5), low=-1)
    assert found.rows.shape == (alpha.numel(), 5) and (found.rows == 0).all()
    twice = softras.supersampled(softras.silhouettes, *scene, 8, 9)
    assert twice.shape == alpha.shape
    zero_gradients([twice], leaves)


@pytest.mark.parametrize("settings", [{}, {"aggregation": "max"}, {"colour": "hard"}, {"softras_compat": True}])
@pytest.mark.parametrize("appearance", ["attributes", "surface", "uv"])
@pytest.mark.parametrize("name", WITHOUT)
def test_images(name, appearance, settings):
    scene, leaves = leaves_of(WITHOUT[name])
    if settings.get("softras_compat") and appearance == "uv":
        pytest.skip("SoftRas has no UV textures")
    V, F = scene[0].shape[-2], len(scene[1])
    attributes = torch.rand(V, 3 if appearance == "attributes" else 2).requires_grad_()
    texture = {
        "attributes": None,
        "surface": torch.rand(F, 4, 3).requires_grad_(),
        "uv": torch.rand(5, 4, 3).requires_grad_(),
    }[appearance]
    leaves += [attributes] if texture is None else [attributes, texture]
    chain = softras.mip_chain(texture) if appearance == "uv" else texture
    got = softras.images(*scene, 8, 9, attributes=attributes, texture=chain, background=0.5, nearest=True, **settings)
    n = len(scene[2])
    assert got.alpha.shape == got.nearest.shape == (n, 8, 9) and (got.alpha == 0).all()
    assert got.image.shape[0] == n and (got.image == 0.5).all() and (got.nearest == -1).all()
    zero_gradients(got[:2], leaves)
    fragments = softras.fragments_of(*scene, got.nearest)
    assert fragments.depth.shape == (n, 8, 9) and torch.isinf(fragments.depth).all()


def test_through_cameras():
    camera = softras.Camera(K[0].numpy(), POSE[0].numpy(), 9, 8)
    for name in ("no vertices", "no faces"):
        v, f = WITHOUT[name][:2]
        assert (softras.render_silhouettes(v, f, camera) == 0).all()
        assert not softras.hard_silhouettes(v, f, [camera, camera]).any()
        assert (softras.render_images(v, f, camera, attributes=v).alpha == 0).all()
    with pytest.raises(softras.InputError, match="there are no cameras; give at least one"):
        softras.render_silhouettes(*MESH, [])


# ---------------------------------------------------------------------------------------------------- the library


def test_a_library_of_another_version_is_not_called(monkeypatch):
    monkeypatch.setattr(structures, "ABI", structures.ABI + 1)
    with pytest.warns(UserWarning, match=r"of another version of Softras; build it with csrc/build\.py"):
        library, reason = cpu._load.__wrapped__()
    assert library is None and "another version" in reason


def test_numbers_that_overflow_write_nowhere_else():
    """Past the checks, straight into the kernels: whatever comes out, it comes."""
    vertices = torch.tensor([[-0.8, -0.8, 3], [0.9, -0.7, 3], [0, 0.8, 3], [0.3, 0.2, 3.5], [-0.4, 0.6, 3.1]])
    faces = torch.tensor([[0, 1, 2], [1, 3, 4]], dtype=torch.int32)
    near, flat = torch.full((1,), 1e-3, dtype=torch.float64), torch.zeros(1, dtype=torch.bool)
    for sigma in (float("inf"), 1e200, 1e-300, float("nan")):
        for height, width in ((4, 1), (64, 64), (33, 7), (200, 3), (8, 8)):
            lens = torch.tensor([[[float(width), 0, width / 2], [0, float(height), height / 2], [0, 0, 1]]])
            for unit in (1.0, 1e30):
                scene = Scene(unit * vertices, faces, lens, POSE, height, width, flat, near, False)
                alpha, left = cpu.silhouettes(scene, sigma)
                cpu.silhouettes_backward(scene, sigma, left, torch.ones_like(alpha))
                pixels = torch.arange(0, alpha.numel(), 3)
                cpu.silhouettes_jacobian(scene, sigma, left, pixels, Tangents(torch.ones(5, 3, 7), None, None))


def test_the_structures_are_as_large_as_they_are_known_here():
    """Who changes one in csrc/softras.h changes SOFTRAS_ABI there and ABI in structures.py, and then these."""
    sizes = [ctypes.sizeof(x) for x in (structures.Call, structures.JacobianCall, structures.ImageCall)]
    assert (structures.ABI, *sizes) == (7, 144, 200, 408)


def with_fields(structure: type[ctypes.Structure], fields: list) -> type[ctypes.Structure]:
    """A structure of the same name with other fields."""
    return type(structure.__name__, (ctypes.Structure,), {"_fields_": fields})


@pytest.mark.parametrize("name", structures.STRUCTURES)
def test_a_structure_that_is_declared_otherwise_is_refused_by_name(name, monkeypatch):
    """Two fields exchanged, one more, one of another name, one of another type: each of them is named."""
    structure = structures.STRUCTURES[name]
    fields = structure._fields_
    i = next(i for i in range(len(fields)) if fields[i][1] is fields[i + 1][1])
    before, (last, kind) = fields[:-1], fields[-1]
    for changed, named in [
        ([*fields[:i], fields[i + 1], fields[i], *fields[i + 2 :]], {f"{name}.{fields[i + 1][0]}"}),
        ([*fields, ("more", ctypes.c_int64)], {name}),
        ([*before, ("unknown", kind)], {f"{name}.unknown"}),
        ([*before, (last, ctypes.c_int16)], {name, f"{name}.{last}"}),
    ]:
        monkeypatch.setitem(structures.STRUCTURES, name, with_fields(structure, changed))
        with pytest.warns(UserWarning, match=r"otherwise than structures\.py; build it with csrc/build\.py"):
            library, reason = cpu._load.__wrapped__()
        assert library is None and reason.split("declares ")[1].split()[0] in named
