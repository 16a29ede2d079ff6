"""Images by the CUDA kernels, on a GPU or under the emulator: every mode, and what is CUDA's own."""

import ctypes

import pytest
import torch
from emulation import EmulatedGpu, emulated, native, set_seed, spills
from hypothesis import given
from hypothesis import strategies as st
from image_scenes import APPEARANCES, MODES, error, gradients, picture_of, pictures
from scenes import FEW, small_scene

from softras.raster.images import ops as image_ops
from softras.raster.native import backends, image_cuda, nvrtc


@pytest.fixture(params=["cuda", "emulated"])
def where(request) -> str:
    return request.param


@pytest.fixture
def gpu(library):
    """An emulated GPU, which the rasterizer uses for tensors of the CPU."""
    set_seed(library, 1)
    with emulated(library) as gpu:
        yield gpu


def scene_of(seed=3, faces=9):
    """A few faces, some through the near plane, on an image that is not square."""
    scene = small_scene(seed)
    scene.height, scene.width, scene.faces = 13, 17, scene.faces[:faces]
    return scene


def compare(picture, device, dtype=torch.float64, image=1e-9, gradient=1e-7):
    """With the definition in float64, relative to the largest number."""
    expected, theirs = gradients(picture, picture.inputs(torch.float64), defined=True)
    got, ours = gradients(picture, picture.inputs(dtype, device))
    assert got.image.dtype == dtype and got.image.device.type == device
    for a, b in zip(got[:2], expected[:2], strict=True):
        assert error(a.detach().cpu(), b.detach()) <= image
    assert (got.nearest.cpu() == expected.nearest).all()
    for name, a, b in zip(picture.leaves, ours, theirs, strict=True):
        assert torch.isfinite(a).all(), name
        assert error(a.cpu(), b) <= gradient, name


@pytest.mark.parametrize("appearance", APPEARANCES)
@pytest.mark.parametrize("modes", [{}, {"aggregation": "einstein", "distribution": "gaussian"}], ids=["plain", "other"])
def test_what_faces_show(appearance, modes, device):
    picture = picture_of(scene_of(), 3, appearance=appearance, shared=appearance != "surface+lit", **modes)
    compare(picture, device)
    compare(picture, device, torch.float32, 1e-5, 2e-4)


@pytest.mark.parametrize("modes", MODES, ids=lambda modes: "-".join(str(x) for x in modes.values()))
def test_the_modes(modes, device):
    modes, scene = dict(modes), scene_of(faces=6)
    scene.cull = modes.pop("cull", False)
    if not modes.get("squared", True):
        scene.sigma = 0.1
    compare(picture_of(scene, 3, **modes), device)


@FEW
@given(
    pictures(faces=st.integers(1, 20), sizes=st.tuples(st.integers(1, 40), st.integers(1, 30))),
    st.integers(1, 2**32),
    st.sampled_from([1, 5, 1000]),
)
def test_the_kernels_agree_with_the_cpus(library, gpu, picture, seed, processors):
    """From a warp that draws all cells of its faces to a warp for each cell, in any order."""
    set_seed(library, seed)
    gpu.processors = processors
    inputs = picture.inputs(torch.float64)
    with native():
        expected, theirs = gradients(picture, inputs)
    got, ours = gradients(picture, inputs)
    for a, b in zip(got[:2], expected[:2], strict=True):
        assert error(a.detach(), b.detach()) <= 1e-8
    assert (got.nearest != expected.nearest).float().mean() <= 1e-3
    for name, a, b in zip(picture.leaves, ours, theirs, strict=True):
        assert error(a, b) <= 1e-6, name


def test_more_attributes_than_a_walk_takes(device):
    picture = picture_of(scene_of(), 3)
    g = torch.Generator().manual_seed(0)
    picture.leaves["attributes"] = torch.rand(7, 11, generator=g, dtype=torch.float64)
    picture.leaves["background"] = torch.rand(11, generator=g, dtype=torch.float64)
    compare(picture, device)


@pytest.mark.parametrize("appearance", ["attributes", "uv+lit"])
def test_the_image_is_the_same_in_any_order(library, appearance):
    """Bits of everything that comes forward; gradients but for rounding."""
    picture, runs = picture_of(scene_of(), 3, appearance=appearance), []
    for seed, processors in ((1, 1), (2, 1), (3, 5), (4, 1000)):
        set_seed(library, seed)
        with emulated(library, EmulatedGpu(processors)):
            runs.append(gradients(picture, picture.inputs(torch.float32)))
    for got, ours in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(got, runs[0][0], strict=True))
        assert all(error(a, b) <= 1e-6 for a, b in zip(ours, runs[0][1], strict=True))


def test_deterministic_gradients_have_the_same_bits_in_any_order(library, gpu):
    picture, runs = picture_of(scene_of(), 3), []
    torch.use_deterministic_algorithms(True)
    try:
        for seed in (1, 2, 3):
            set_seed(library, seed)
            runs.append(gradients(picture, picture.inputs(torch.float32))[1])
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for run in runs for a, b in zip(run, runs[0], strict=True))


@pytest.mark.parametrize("appearance", ["attributes", "surface+lit"])
@pytest.mark.parametrize("shared", [True, False])
def test_many_views_are_drawn_in_parts(appearance, shared, gpu, monkeypatch):
    scene = small_scene(views=5)
    if not shared:
        scene.vertices = scene.vertices * torch.linspace(0.8, 1.2, 5, dtype=torch.float64)[:, None, None]
    picture = picture_of(scene, appearance=appearance, shared=shared)
    whole = gradients(picture, picture.inputs(torch.float64))
    monkeypatch.setattr(image_cuda, "WORK", 1000)  # two views backward, one forward
    parts = gradients(picture, picture.inputs(torch.float64))
    for a, b in zip(whole[0], parts[0], strict=True):
        assert error(a.detach(), b.detach()) <= 1e-12  # each part has its own unit of colours
    assert all(error(a, b) <= 1e-9 for a, b in zip(whole[1], parts[1], strict=True))


@pytest.mark.parametrize(
    ("leaf", "message"),
    [
        ("vertices", "vertices holds NaN"),
        ("attributes", "the attributes hold NaN"),
        ("texture", "the texture holds NaN"),
        ("background", "the background holds NaN"),
    ],
)
def test_numbers_that_are_none_are_refused(leaf, message, device):
    picture = picture_of(scene_of(), appearance="surface+lit")
    picture.leaves[leaf].view(-1)[1] = torch.nan
    with pytest.raises(ValueError, match=message):
        picture.render(picture.inputs(torch.float32, device))


@pytest.mark.parametrize("row", [7, -1, 2**40])
def test_an_attribute_that_does_not_exist_is_not_read(row, device):
    picture = picture_of(scene_of())
    picture.attribute_faces[3, 1] = row
    with pytest.raises(ValueError, match="attribute_faces name attributes that do not exist"):
        picture.render(picture.inputs(torch.float32, device))


@pytest.mark.parametrize("appearance", ["attributes", "uv+lit"])
def test_opcheck(appearance, device, monkeypatch):
    picture, calls = picture_of(scene_of(), appearance=appearance), []
    compute = backends.compute
    monkeypatch.setattr(backends, "compute", lambda *args: calls.append(args) or compute(*args))
    picture.render(picture.inputs(torch.float64, device))
    args = image_ops.render.flat(*calls[0][1:])
    leaves = [x.detach().requires_grad_(x.is_floating_point()) if isinstance(x, torch.Tensor) else x for x in args]
    torch.library.opcheck(torch.ops.softras.images.default, tuple(leaves))


def test_without_kernels_a_gpu_gets_the_cpus_results(monkeypatch):
    """No tensor of a GPU here: those of the CPU pass for some, and copies of them are what the CPU's kernels see."""
    picture, seen = picture_of(scene_of()), []
    inputs = picture.inputs(torch.float32)
    expected = gradients(picture, inputs)
    monkeypatch.setattr(backends, "compute", lambda name, *args: seen.append(name) or backends.by_copies(name, *args))
    got = gradients(picture, inputs)
    assert seen == ["images", "images_backward"]
    for a, b in zip((*expected[0], *expected[1]), (*got[0], *got[1]), strict=True):
        assert torch.equal(a, b)


def test_both_sides_agree_on_the_call(library):
    sizes = {"image_call": ctypes.sizeof(image_cuda.ImageCall)}
    sizes |= {f"shown_face_{str(dtype).removeprefix('torch.')}": size for dtype, size in image_cuda.SHOWN_FACE.items()}
    for name, size in sizes.items():
        assert ctypes.c_uint64.in_dll(library, f"emulator_{name}_size").value == size


@pytest.mark.parametrize(
    ("part", "architecture", "most"),
    [
        *(("plain", each, 0) for each in (75, 80, 86, 89, 90, 100, 120)),
        *((part, each, 256) for part in ("textured", "any") for each in (75, 90)),
    ],
)
def test_the_kernels_compile(part, architecture, most, compiler):
    """Without spilled registers; those of rare modes with few."""
    options = [f"--gpu-architecture=sm_{architecture}", *nvrtc.defines("float32", part), "--ptxas-options=-v"]
    spilled = spills(nvrtc.build(nvrtc.sources(), options)[1])
    assert len(spilled) == 7
    assert max(spilled.values()) <= most
