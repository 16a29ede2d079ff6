"""Exact coverage by the CUDA kernels under the emulator, beside the CPU's; coverage/test_coverage.py runs on it too."""

import ctypes
import itertools
import re

import emulation
import pytest
import torch
from emulation import EmulatedGpu, emulated, native, set_seed, spills
from hypothesis import given
from hypothesis import strategies as st
from scenes import FEW, same_bits, scenes, small_scene

import softras
from softras.raster.native import backends, coverage_cuda, cuda, cuda_structures, nvrtc
from softras.raster.native.structures import STALE_TOPOLOGY

KERNELS = (
    "known", "project_vertices", "face_signs", "edge_windings", "make_contours", "list_rows", "sweep", "add_changes",
    "draw_samples", "finish_coverage", "outline_backward", "mark_outline", "move_ends", "add_pieces",
)  # fmt: skip


@pytest.fixture
def gpu(library):
    """An emulated GPU, which the rasterizer uses for tensors of the CPU."""
    set_seed(library, 1)
    with emulated(library) as gpu:
        yield gpu


def results(scene, inputs=None, dtype=torch.float64, warn=False):
    """Alpha, and the gradients of a weighted sum of it."""
    vertices, K, world_to_camera = inputs or scene.inputs(dtype)
    modes = {"orthographic": scene.orthographic, "near": scene.near, "cull": scene.cull, "warn": warn}
    alpha = softras.coverage(vertices, scene.faces, K, world_to_camera, scene.height, scene.width, **modes)
    weights = torch.rand(alpha.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(alpha.dtype)
    return [alpha.detach(), *torch.autograd.grad((alpha * weights).sum(), (vertices, K, world_to_camera))]


def rows(scene, parameters=7):
    """The pixels and rows of the Jacobian by random motions of vertices and cameras."""
    generator = torch.Generator().manual_seed(0)
    inputs = [x.detach() for x in scene.inputs(torch.float64)]
    moves = [torch.randn(*x.shape, parameters, dtype=x.dtype, generator=generator) for x in inputs]
    modes = {"orthographic": scene.orthographic, "near": scene.near, "cull": scene.cull, "warn": False}
    views = (inputs[1], inputs[2], scene.height, scene.width)
    return softras.coverage_jacobian(inputs[0], scene.faces, *views, *moves, **modes)


def relative(a, b):
    """The largest difference relative to the largest number."""
    return float((a - b).abs().max() / b.abs().max().clamp_min(1e-6)) if b.numel() else 0.0


def heap(faces=700, views=1):
    """Triangles at random places, so many in some rows that these are measured by samples."""
    scene, generator = small_scene(views=views), torch.Generator().manual_seed(0)
    middles = torch.rand(faces, 1, 3, dtype=torch.float64, generator=generator) * 1.4 - 0.7
    scene.vertices = (middles + 0.1 * torch.randn(faces, 3, 3, dtype=torch.float64, generator=generator)).reshape(-1, 3)
    scene.faces, scene.height, scene.width = torch.arange(3 * faces).reshape(-1, 3), 70, 66
    scene.K = torch.tensor([[[100.0, 0, 33], [0, 100, 35], [0, 0, 1]]] * views, dtype=torch.float64)
    return scene


@FEW
@given(
    scenes(faces=st.integers(1, 40), sizes=st.tuples(st.integers(1, 80), st.integers(1, 80))),
    st.integers(1, 2**32),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_the_kernels_agree_with_the_cpus(library, gpu, scene, seed, dtype):
    """Which of several coincident edges has the gradient is arbitrary, so that of vertices is compared by its sum."""
    set_seed(library, seed)
    with native():
        alpha, of_vertices, *of_cameras = results(scene, dtype=dtype)
    got, ours, *others = results(scene, dtype=dtype)
    assert (got - alpha).abs().max() <= 1e-6
    slack = 1e-3 if dtype == torch.float32 else 1e-5
    assert torch.isfinite(ours).all()
    assert (ours - of_vertices).sum(-2).abs().max() <= slack * of_vertices.abs().max().clamp_min(1e-6)
    assert all(relative(a, b) <= slack for a, b in zip(others, of_cameras, strict=True))


@pytest.mark.parametrize("seed", [73, 119, 236, 497])
def test_sheets_that_meet_at_a_line_leave_no_gap(gpu, seed):
    """Each divides the line by vertices of its own, whose rounding leaves many edges nearly on each other."""
    generator = torch.Generator().manual_seed(seed)

    def random(*size):
        return torch.rand(*size, generator=generator, dtype=torch.float64)

    a, b = 2 * random(3) - 1, 2 * random(3) - 1
    triangles = []
    for sheet in range(2 + seed % 5):
        side = 2 * random(3) - 1
        cuts = torch.cat([torch.zeros(1), random(1 + seed % 4).sort()[0], torch.ones(1)])
        line = a + cuts[:, None] * (b - a)
        for p, q in itertools.pairwise(line):
            triangles.append(torch.stack([p, q, side] if sheet % 2 else [q, p, side]))
    scene = small_scene(views=1)
    scene.vertices, scene.faces = torch.cat(triangles), torch.arange(3 * len(triangles)).reshape(-1, 3)
    scene.height, scene.width = 40, 48
    scene.K = torch.tensor([[[43.0, 0, 24], [0, 43, 20], [0, 0, 1]]], dtype=torch.float64)
    with native():
        wanted = results(scene)
    got = results(scene)
    assert (got[0] - wanted[0]).abs().max() <= 1e-7
    assert all(relative(x, y) <= 1e-5 for x, y in zip(got[2:], wanted[2:], strict=True))


def test_the_image_has_the_same_bits_in_any_order(library):
    """And so do the gradients under torch.use_deterministic_algorithms."""
    scenes, runs = (small_scene(), heap(views=2)), []
    torch.use_deterministic_algorithms(True)
    try:
        for seed in (1, 2, 3):
            set_seed(library, seed)
            with emulated(library, EmulatedGpu(seed)):
                runs.append([x for scene in scenes for x in results(scene)])
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(same_bits(run, runs[0]) for run in runs)


@pytest.mark.parametrize("shared", [True, False])
def test_many_views_are_drawn_in_parts(gpu, monkeypatch, shared):
    scene = small_scene(views=5)
    if not shared:
        scene.vertices = scene.vertices * torch.linspace(0.8, 1.2, 5, dtype=torch.float64)[:, None, None]
    whole, of_whole = results(scene), rows(scene)
    monkeypatch.setattr(cuda, "WORK", 1500)  # two views, and few parameters at once
    parts, of_parts = results(scene), rows(scene)
    assert torch.equal(whole[0], parts[0]) and torch.equal(of_whole.pixels, of_parts.pixels)
    assert all(relative(a, b) <= 1e-12 for a, b in zip(parts[1:], whole[1:], strict=True))
    assert relative(of_parts.rows, of_whole.rows) <= 1e-12


def test_samples_are_those_of_the_cpu(gpu, monkeypatch):
    """Which bands are sampled is decided in another way; of so many faces all are, on both."""
    monkeypatch.setattr(coverage_cuda, "MOST", 50)
    scene = heap(20_000)
    with native():
        wanted = results(scene)
    with pytest.warns(RuntimeWarning, match=r"coverage of 3 bands of 32 rows is that of 8 x 8 samples"):
        got = results(scene, warn=True)
    assert (got[0] - wanted[0]).abs().max() <= 1 / 64 and (got[0] != wanted[0]).float().mean() < 1e-3
    for x, y in zip(got[2:], wanted[2:], strict=True):
        assert relative(x, y) <= 0.02
    monkeypatch.setattr(cuda, "WORK", 20_000)  # rows at a time: 19
    assert torch.equal(results(scene)[0], got[0])


def test_samples_come_near_to_exact_areas(gpu, monkeypatch):
    scene = heap(60)
    exact, of_exact = results(scene), rows(scene)
    monkeypatch.setattr(coverage_cuda, "MOST", 0)
    sampled, of_samples = results(scene), rows(scene)
    assert (sampled[0] - exact[0]).abs().max() <= 0.15 and (sampled[0] - exact[0]).abs().mean() <= 0.01
    for x, y in zip(sampled[1:], exact[1:], strict=True):
        assert torch.nn.functional.cosine_similarity(x.flatten(), y.flatten(), dim=0) > 0.95
    weights = torch.rand(exact[0].numel(), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    moved, still = (weights[found.pixels] @ found.rows for found in (of_samples, of_exact))
    assert torch.nn.functional.cosine_similarity(moved, still, dim=0) > 0.95


def test_topology_that_is_stale_in_one_view_alone_is_noticed(gpu):
    """A seam of two copies of an edge, which come apart in the last of several views, drawn in parts."""
    scene = small_scene(views=3)
    scene.vertices = scene.vertices.repeat(3, 2, 1)
    scene.faces = torch.cat([scene.faces, scene.faces + 20])
    joined = results(scene)
    moved = scene.vertices.clone()
    moved[2, 20:] += 0.05
    inputs = [x.requires_grad_() for x in (moved, scene.K, scene.world_to_camera)]
    got = results(scene, inputs)  # before the CPU's, which finds a new topology for both
    with native():
        wanted = results(scene, inputs)
    assert (got[0] - wanted[0]).abs().max() <= 1e-9 and not torch.equal(got[0][2], joined[0][2])
    assert torch.equal(got[0][:2], joined[0][:2])


def test_a_missing_barrier_is_found(tmp_path):
    """That the tests above can fail: without it, some thread projects by a camera that is not loaded yet."""
    before = "  load_camera<T>(call.scene, view, camera);\n"
    scene = small_scene()
    scene.vertices = scene.vertices.repeat(20, 1)  # vertices for several warps
    wanted = results(scene)[0]
    with emulated(emulation.build_without_barrier(tmp_path, "cuda_coverage.h", before)):
        assert not torch.equal(results(scene)[0], wanted)


def test_without_kernels_a_gpu_gets_the_cpus_results(monkeypatch):
    """No tensor of a GPU here: those of the CPU pass for some, and copies of them are what the CPU's kernels see."""
    scene, seen = small_scene(), []
    expected = results(scene)
    monkeypatch.setattr(backends, "compute", lambda name, *args: seen.append(name) or backends.by_copies(name, *args))
    assert same_bits(results(scene), expected)
    assert seen == ["coverage", "coverage_backward"]


def test_both_sides_agree_on_the_call(library):
    size = ctypes.c_uint64.in_dll(library, "emulator_coverage_call_size").value
    assert size == ctypes.sizeof(cuda_structures.CoverageCall)
    text = (emulation.CSRC / "softras.h").read_text()
    statuses = re.findall(r"^  (SOFTRAS_[A-Z_]+)(?: = \d+)?,", text[text.index("What an entry point returns") :], re.M)
    assert statuses.index("SOFTRAS_STALE_TOPOLOGY") == STALE_TOPOLOGY


@pytest.mark.parametrize("architecture", [75, 80, 86, 89, 90, 100, 120])
@pytest.mark.parametrize("scalar", ["float32", "float64"])
def test_the_kernels_compile_without_spills(architecture, scalar, compiler):
    options = [f"--gpu-architecture=sm_{architecture}", *nvrtc.defines(scalar, "coverage"), "--ptxas-options=-v"]
    log = nvrtc.build(nvrtc.sources(), options)[1]
    assert spills(log) == {f"softras_{name}_{scalar}": 0 for name in KERNELS}
    assert max(map(int, re.findall(r"(\d+) bytes stack frame", log))) <= 1024  # what the driver sets aside anyway
