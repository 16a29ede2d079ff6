"""The CUDA backend without a GPU: its kernels compile for every architecture, and compute what the definition says.

With a GPU, test_silhouettes.py runs on it too.
"""

import ctypes
import importlib.util
import json
import re
import subprocess
import sys

import emulation
import pytest
import torch
from emulation import EmulatedGpu, emulated, set_seed, spills
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scenes import FEW, compare, scenes, small_scene

from softras import doctor
from softras.raster.native import backends, cpu, cuda, cuda_structures, nvrtc

# ------------------------------------------------------------------------------------------------ compiling


@pytest.mark.parametrize("architecture", [75, 80, 86, 89, 90, 100, 120])
def test_the_kernels_compile_without_spills(architecture, compiler):
    options = [f"--gpu-architecture=sm_{architecture}", *nvrtc.defines("float32")]
    image, log = nvrtc.build(nvrtc.sources(), [*options, "--ptxas-options=-v"])
    assert image.startswith(b"\x7fELF")
    kernels = ("check", "draw", "finish", "faces_backward", "vertices_backward", "sum_gradients", "jacobian")
    assert spills(log) == {f"softras_{name}_float32": 0 for name in kernels}
    assert max(map(int, re.findall(r"(\d+) bytes stack frame", log))) <= 1024  # what the driver sets aside anyway


def test_a_second_program_takes_what_the_first_compiled(compiler, monkeypatch):
    image = nvrtc.compiled(90, "float64")
    monkeypatch.setattr(nvrtc, "build", lambda *_: pytest.fail("compiled again"))
    assert nvrtc.compiled(90, "float64") == image


def test_changed_sources_are_compiled_anew(compiler, monkeypatch):
    built = []
    monkeypatch.setattr(nvrtc, "build", lambda texts, options: (built.append(options[0]) or b"image", ""))
    nvrtc.compiled(90, "float32")
    nvrtc.compiled(90, "float64")
    nvrtc.compiled(86, "float32")
    texts = nvrtc.sources()
    monkeypatch.setattr(nvrtc, "sources", lambda: {**texts, "softras_math.h": texts["softras_math.h"] + "\n"})
    nvrtc.compiled(90, "float32")
    nvrtc.compiled(90, "float32")
    assert [option.split("=")[1] for option in built] == ["sm_90", "sm_90", "sm_86", "sm_90"]


def test_a_cache_that_cannot_be_written_costs_only_time(compiler, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(nvrtc, "build", lambda *_: (b"image", ""))
    assert nvrtc.compiled(90, "float32") == b"image"


@pytest.fixture
def counted(compiler, monkeypatch):
    """The list of what was compiled, in place of compiling."""
    built = []
    monkeypatch.setattr(
        nvrtc, "build", lambda texts, options: (built.append(b"image %d" % len(built)) or built[-1], "")
    )
    return built


@pytest.mark.parametrize("damage", [b"", b"image", b"\x00" * 40, None])
def test_a_damaged_cache_entry_is_compiled_anew(counted, tmp_path, damage):
    assert nvrtc.compiled(90, "float32") == nvrtc.compiled(90, "float32") == b"image 0"
    (entry,) = nvrtc._cache().iterdir()
    entry.write_bytes(entry.read_bytes()[:-1] if damage is None else damage)
    assert nvrtc.compiled(90, "float32") == nvrtc.compiled(90, "float32") == b"image 1"
    assert nvrtc.compiled(90, "float32", anew=True) == nvrtc.compiled(90, "float32") == b"image 2"


@pytest.mark.skipif(sys.platform == "win32", reason="permissions and links as POSIX has them")
def test_the_cache_is_private_and_follows_no_link(counted, tmp_path):
    nvrtc.compiled(90, "float32")
    (entry,) = nvrtc._cache().iterdir()
    assert nvrtc._cache().stat().st_mode & 0o777 == 0o700
    # An entry that leads to a file outside is neither read nor written through.
    elsewhere = tmp_path / "elsewhere"
    entry.rename(elsewhere)
    entry.symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    assert nvrtc.compiled(90, "float32") == b"image 1"
    assert elsewhere.read_bytes() == before and not entry.is_symlink()
    # A cache that is a link is not used; one that others could write to becomes private.
    nvrtc._cache().chmod(0o777)
    assert nvrtc.compiled(90, "float32") == b"image 1" and nvrtc._cache().stat().st_mode & 0o777 == 0o700
    nvrtc._cache().rename(tmp_path / "moved")
    nvrtc._cache().symlink_to(tmp_path / "moved")
    assert nvrtc.compiled(90, "float32") == b"image 2" and nvrtc.compiled(90, "float32") == b"image 3"


def test_what_the_driver_does_not_load_is_compiled_anew(library):
    gpu, asked = EmulatedGpu(), []

    def compiled(*wanted, anew=False):
        asked.append(anew)
        return b"image" if anew else b"of another driver"

    with emulated(library, gpu), pytest.MonkeyPatch.context() as patch:
        patch.setattr(nvrtc, "compiled", compiled)
        gpu.module(torch.float32)
        gpu.module(torch.float32)
    assert asked == [False, True]


def test_a_gpu_newer_than_the_compiler_gets_ptx(compiler):
    image = nvrtc.compiled(999, "float32")
    assert b".target sm_" in image and b"softras_draw_float32" in image


def test_a_gpu_too_old_for_the_compiler_is_named(compiler):
    with pytest.raises(nvrtc.CompileError, match=r"compute capability 3\.5 is too old"):
        nvrtc.compiled(35, "float32")


def test_an_error_of_the_compiler_is_one_sentence(compiler):
    texts = nvrtc.sources()
    texts[nvrtc.SOURCE] += "nonsense"
    with pytest.raises(nvrtc.CompileError, match=r"does not compile the CUDA kernels: .*error") as caught:
        nvrtc.build(texts, ["--gpu-architecture=sm_90", *nvrtc.defines("float32")])
    assert "\n" not in str(caught.value)


def test_an_argument_that_the_kernels_declare_otherwise_is_named(compiler, monkeypatch):
    fields = [*cuda_structures.JacobianCall._fields_]
    fields[3], fields[4] = fields[4], fields[3]  # derivatives of positions and of intrinsics
    swapped = type("JacobianCall", (ctypes.Structure,), {"_fields_": fields})
    for name, value, named in (("JacobianCall", swapped, r"JacobianCall\.d_positions"), ("CELL", 17, "kCell")):
        with monkeypatch.context() as patch:
            patch.setattr(cuda_structures, name, value)
            with pytest.raises(nvrtc.CompileError, match=f'"{named} is not as cuda_structures.py has it"'):
                nvrtc.build(nvrtc.sources(), ["--gpu-architecture=sm_90", *nvrtc.defines("float32")])


def script(path):
    """A file of the repository as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_build_places_what_the_kernels_include():
    assert set(script(emulation.CSRC / "build.py").CUDA_SOURCES) == set(nvrtc.sources(emulation.CSRC))


def test_a_missing_source_is_named(tmp_path):
    (tmp_path / nvrtc.SOURCE).write_text('#include "cuda_faces.h"\n')
    with pytest.raises(nvrtc.CompileError, match=r"cuda_faces\.h\); 'python csrc/build\.py' puts them there"):
        nvrtc.sources(tmp_path)


def test_the_extension_holds_the_sources():
    contents = script(emulation.CSRC.parent / "build_addon.py").contents()
    for name in nvrtc.sources(emulation.CSRC):
        placed = contents[f"engine/softras/_native/{name}"].read_bytes()
        assert placed == (emulation.CSRC / name).read_bytes(), "older than csrc; run 'python csrc/build.py'"


# ------------------------------------------------------------------------------------------------ computing


@pytest.fixture
def gpu(library):
    """An emulated GPU, which the rasterizer uses for tensors of the CPU."""
    set_seed(library, 1)
    with emulated(library) as gpu:
        yield gpu


def results(scene, dtype=torch.float32):
    """Alpha and the gradients of a function of it."""
    inputs = scene.inputs(dtype)
    alpha = scene.render(inputs)
    return [alpha.detach(), *torch.autograd.grad(alpha.square().sum(), inputs)]


def close(a, b):
    """The same but for the rounding of sums in another order."""
    return (a - b).abs().max() <= 4 * torch.finfo(a.dtype).eps * a.abs().max()


def test_both_sides_agree_on_the_call(library):
    for name, call in (("call", cuda.Call), ("jacobian_call", cuda.JacobianCall)):
        assert ctypes.c_uint64.in_dll(library, f"emulator_{name}_size").value == ctypes.sizeof(call)


def compare_beside_the_cpu(scene, device="cpu"):
    """With the definition, where the CPU's kernels pass too: in float32 a scene may be too hard for both."""
    with emulation.native():
        try:
            compare(scene)
        except AssertionError:
            assume(False)
    compare(scene, device, slack=2)


SMALL = scenes(faces=st.integers(1, 50), sizes=st.tuples(st.integers(1, 64), st.integers(1, 48)))
LARGE = scenes(faces=st.just(200), sizes=st.just((80, 60)), views=st.just(1))


@FEW
@given(SMALL, st.integers(1, 2**32), st.sampled_from([1, 5, 1000]))
def test_the_kernels_agree_with_the_definition(library, gpu, scene, seed, processors):
    set_seed(library, seed)
    gpu.processors = processors  # from a warp that draws all cells of its faces to a warp for each cell
    compare_beside_the_cpu(scene)


@settings(FEW, max_examples=1)
@given(LARGE)
def test_several_blocks_agree_with_the_definition(gpu, scene):
    compare_beside_the_cpu(scene)


@pytest.mark.parametrize("where", ["cuda"])
@settings(FEW, max_examples=60)
@given(st.one_of(SMALL, LARGE))
def test_a_gpu_agrees_with_the_definition(device, scene):
    compare_beside_the_cpu(scene, device)


def test_the_image_is_the_same_in_any_order(library):
    """Bits of alpha, for any schedule and however many warps share a face; gradients but for rounding."""
    scene = small_scene()
    expected = None
    for seed, processors in ((1, 1), (2, 1), (3, 5), (4, 1000)):
        set_seed(library, seed)
        with emulated(library, EmulatedGpu(processors)):
            got = results(scene)
        expected = expected or got
        assert torch.equal(got[0], expected[0])
        assert all(close(a, b) for a, b in zip(got[1:], expected[1:], strict=True))


def test_deterministic_gradients_have_the_same_bits_in_any_order(library, gpu):
    scene = small_scene()
    scene.near = torch.full((2,), 1.0, dtype=torch.float64)  # some faces are clipped
    plain = results(scene)
    torch.use_deterministic_algorithms(True)
    try:
        runs = []
        for seed in (1, 2, 3):
            set_seed(library, seed)
            runs.append(results(scene))
    finally:
        torch.use_deterministic_algorithms(False)
    for run in runs:
        assert all(torch.equal(a, b) for a, b in zip(run, runs[0], strict=True))
        assert all(close(a, b) for a, b in zip(run, plain, strict=True))


@pytest.mark.parametrize("shared", [True, False])
def test_many_views_are_drawn_in_parts(shared, gpu, monkeypatch):
    scene = small_scene(views=5)
    if not shared:
        scene.vertices = scene.vertices * torch.linspace(0.8, 1.2, 5, dtype=torch.float64)[:, None, None]
    whole = results(scene, torch.float64)
    monkeypatch.setattr(cuda, "WORK", 2 * 5 * 20)  # two views backward, one forward
    parts = results(scene, torch.float64)
    assert torch.equal(whole[0], parts[0])
    assert all(close(a, b) for a, b in zip(whole[1:], parts[1:], strict=True))


@pytest.mark.parametrize("vertex", [20, 2**40])
def test_a_vertex_that_does_not_exist_is_not_read(vertex, gpu):
    scene = small_scene()
    scene.faces[3, 1] = vertex
    with pytest.raises(ValueError, match="faces name vertices"):
        scene.render(scene.inputs(torch.float32))


def test_in_a_cuda_graph_unusable_inputs_make_nan(gpu):
    scene = small_scene()
    gpu.captures = True
    assert scene.render(scene.inputs(torch.float32)).isfinite().all()
    scene.vertices[3, 1] = float("inf")
    assert scene.render(scene.inputs(torch.float32)).isnan().all()


@pytest.mark.parametrize(
    ("source", "before"),
    [
        ("cuda_faces.h", "edge_about_middle(cell, f.edge[lane], blur);\n"),
        ("softras_cuda.cu", "of_warp[warp_of_thread()][k] = s;\n  }\n"),
    ],
    ids=["of a warp", "of a block"],
)
def test_a_missing_barrier_is_found(source, before, tmp_path):
    """That the tests above can fail: without a barrier, some lane reads what another has not written yet."""
    library = emulation.build_without_barrier(tmp_path, source, before)
    scene = small_scene()
    scene.vertices = scene.vertices.repeat(20, 1)  # vertices for several warps
    with emulated(library), pytest.raises(AssertionError, match="differs by|is not finite"):
        compare(scene)


def test_the_check_for_a_machine_with_a_gpu_runs_on_the_emulator(library, tmp_path):
    """benchmarks/gpu_check.py must work the first time a GPU is there."""
    script = emulation.CSRC.parent / "benchmarks" / "gpu_check.py"
    command = [sys.executable, str(script), "--emulate", "--out", str(tmp_path / "report.json")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert len(report["rows"]) == 8 and max(report["agreement"].values()) < 1e-4
    assert report["coverage"][0]["coverage"]


# ------------------------------------------------------------------------------------------------ falling back


@pytest.fixture
def broken(monkeypatch):
    """A GPU whose kernels do not start."""

    def refuse(index):
        raise nvrtc.CompileError("the compiler is on holiday")

    cuda.failure.cache_clear()
    monkeypatch.setattr(cuda, "gpu", refuse)
    yield
    cuda.failure.cache_clear()


def test_kernels_that_do_not_start_warn_once_and_say_why(broken, recwarn):
    device = torch.device("cuda", 0)
    assert not cuda.available(device) and not cuda.available(device)
    assert [str(w.message) for w in recwarn] == [
        "Softras renders on the CPU, since its CUDA kernels do not start: the compiler is on holiday."
    ]


def test_without_kernels_a_gpu_gets_the_cpus_results(broken, monkeypatch):
    """No tensor of a GPU here: those of the CPU pass for some, and copies of them are what the CPU's kernels see."""
    scene = small_scene()
    expected = results(scene)
    seen = []
    monkeypatch.setattr(cpu, "silhouettes", lambda *args: seen.append(args) or NATIVE(*args))
    inputs = [x.detach() for x in scene.inputs(torch.float32)]
    alpha = backends.by_copies("silhouettes", scene.packed(inputs), scene.sigma)
    assert seen and torch.equal(alpha[0], expected[0])


NATIVE = cpu.silhouettes


def test_the_doctor_says_why(broken, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "A GPU")
    with pytest.warns(UserWarning, match="on holiday"):
        told = doctor.capabilities()
    assert told["device"] == "cpu" and told["backend"] == "native" and "the compiler is on holiday" in told["reason"]
    finding = next(f for f in doctor.findings() if f.part == "cuda")
    assert finding.ok is None and "the compiler is on holiday" in finding.found
