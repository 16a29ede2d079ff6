"""Everything about the CUDA backend that needs a GPU, in one run: is it right, how fast is it, what does it need?

    python benchmarks/gpu_check.py [--out FILE.json] [--seconds 450]
    python benchmarks/gpu_check.py --emulate      the same path at tiny sizes without a GPU (needs ziglang)

Needs PyTorch with CUDA, numpy and pytest (the tests also hypothesis, the fits what softras depends on and the test data
in SOFTRAS_DATA; the CPU's times its native library, which csrc/build.py makes). What is missing is said and left out.
In turn: the kernels are compiled; the rasterizer's tests run on the device; compute-sanitizer watches a small case;
times, memory and the limits that bytes and operations set, beside a plain CUDA transcription of SoftRas's published
algorithm (published.cu) and our CPU backend; images beside silhouettes; exact coverage; the Jacobian's times; how many
warps to launch; seconds of two fits.
docs/performance.md keeps what was measured.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).resolve().parent
REPOSITORY = BENCHMARKS.parent
sys.path[:0] = [str(REPOSITORY / "engine"), str(REPOSITORY / "csrc"), str(REPOSITORY / "tests" / "raster")]

import build as native
import numpy as np
import torch
from gpu_clock import Clock, rates
from gpu_coverage import Areas, time_areas
from gpu_coverage import differences as differences_of_areas
from gpu_images import Pictures, differences, time_pictures
from published import Published
from spheres import cameras, icosphere, pairs

import softras
from softras.raster.native import cpu, cuda, nvrtc
from softras.raster.silhouettes import ops
from softras.render.silhouette import camera_tensors

DATA = Path(os.environ.get("SOFTRAS_DATA", REPOSITORY.parent / "shared" / "data"))
SIGMA = 1e-5
LEVELS, SIZES, VIEWS = (3, 4, 5, 6, 7), (64, 256, 512, 1024), (1, 8, 64)
MAIN = (4, 512, 8)  # the level, size and views that the targets are about
PARAMETERS = 69  # of the Jacobian
FORWARD, BACKWARD = 54, 86  # operations of a (face, pixel) pair, see docs/cuda.md
LONGEST = 1.5  # seconds of one call beyond which a backend is not timed at larger sizes

started = time.monotonic()


class Case:
    """One mesh in some views on one device, and the calls that are timed."""

    def __init__(self, level: int, size: int, views: int, device: str) -> None:
        points, triangles = icosphere(level)
        self.cameras = cameras(views, size)
        self.pairs = sum(pairs(points, triangles, camera, SIGMA) for camera in self.cameras[:8]) * views / min(8, views)
        self.size = size
        self.vertices = torch.tensor(points, dtype=torch.float32, device=device, requires_grad=True)
        self.faces = torch.tensor(triangles, dtype=torch.int32, device=device)
        self.tensors = camera_tensors(self.cameras, torch.float32, torch.device(device))
        generator = torch.Generator().manual_seed(0)
        self.upstream = torch.rand(views, size, size, generator=generator).to(device)

    def forward(self) -> torch.Tensor:
        return ops.silhouettes(
            self.vertices, self.faces, height=self.size, width=self.size, sigma=SIGMA, **self.tensors
        )

    def both(self) -> tuple[torch.Tensor, torch.Tensor]:
        alpha = self.forward()
        return alpha.detach(), torch.autograd.grad(alpha, self.vertices, self.upstream)[0]

    def moves(self) -> torch.Tensor:
        """Derivatives of the vertices with respect to PARAMETERS parameters: the same numbers on every device."""
        generator = torch.Generator().manual_seed(0)
        return torch.randn(*self.vertices.shape, PARAMETERS, generator=generator).to(self.vertices)

    def jacobian(self, moves: torch.Tensor, **between: float) -> softras.Jacobian:
        modes = {"height": self.size, "width": self.size, "sigma": SIGMA, **self.tensors, **between}
        return softras.silhouettes_jacobian(self.vertices, self.faces, d_vertices=moves, **modes)

    def limit(self, rates: dict[str, float]) -> dict[str, float]:
        """Bytes and operations of forward + backward that no implementation can avoid, and the time they take."""
        mesh = 2 * (self.vertices.numel() + self.faces.numel()) * 4 + self.vertices.numel() * 4
        moved = mesh + 16 * self.upstream.numel()  # alpha and transmittance out, transmittance and gradient in
        work = self.pairs * (FORWARD + BACKWARD)
        seconds = max(moved / rates["bytes"], work / rates["operations"])
        return {"bytes": moved, "operations": work, "ms": 1e3 * seconds}


# ------------------------------------------------------------------------------------------------ the parts


def time_cases(clock: Clock, known: dict[str, float], published: Published, deadline: float) -> list[dict]:
    emulated = not clock.real
    levels, sizes, views = ((0, 1), (16, 32), (1, 2)) if emulated else (LEVELS, SIZES, VIEWS)
    cases = [(level, size, count) for level in levels for size in sizes for count in views]
    cases.sort(key=lambda case: (case != MAIN, case[1] ** 2 * case[2] * (10 + 4 ** case[0])))
    rows: list[dict] = []
    slow: dict[str, float] = {}  # backend: the size of problem at which it took too long
    say("\nms forward / forward + backward, as called | on the device alone | limit | published algorithm | our CPU")
    for level, size, count in cases:
        problem = size**2 * count * 4.0**level
        if time.monotonic() > deadline:
            say("the time is up; larger cases are left out")
            break
        try:
            case = Case(level, size, count, clock.device)
            row: dict[str, Any] = {"faces": len(case.faces), "size": size, "views": count, "pairs": case.pairs}
            row["called"] = [clock.called(case.forward), clock.called(case.both)]
            row["replayed"] = [clock.replayed(case.forward), clock.replayed(case.both)]
            row["limit"] = case.limit(known)
            inputs = sum(x.nbytes for x in (case.vertices, case.faces, case.upstream, *case.tensors.values()))
            outputs = 2 * case.upstream.nbytes + case.vertices.nbytes
            row["memory"] = (inputs + clock.memory(case.both)) / (inputs + outputs)
            if problem < slow.get("published", float("inf")):
                row["published"] = timed(clock, lambda case=case: published.both(case), slow, "published", problem)
            if cpu.available() and problem < slow.get("cpu", float("inf")):
                with on_cpu(emulated):
                    here = Case(level, size, count, "cpu")
                    row["cpu"] = timed(Clock("cpu"), here.both, slow, "cpu", problem)
        except torch.cuda.OutOfMemoryError:
            say(f"{20 * 4**level} faces {size}² x {count}: out of memory")
            continue
        rows.append(row)
        say(line(row))
    return rows


def timed(clock: Clock, call: Callable[[], Any], slow: dict[str, float], name: str, problem: float) -> float:
    seconds = clock.once(call)
    if seconds > LONGEST:
        slow[name] = problem
        return 1e3 * seconds
    return clock.called(call, 0.3)


def line(row: dict) -> str:
    def ms(value: float | None) -> str:
        return "     -  " if value is None else f"{value:8.3f}"

    both = row["replayed"][1] or row["called"][1]
    text = f"{row['faces']:6} faces {row['size']:4}² x {row['views']:2}: " + " / ".join(map(ms, row["called"]))
    text += (
        f" | {' / '.join(map(ms, row['replayed']))} | {ms(row['limit']['ms'])} ({both / row['limit']['ms']:.1f} times)"
    )
    for name in ("published", "cpu"):
        if name in row:
            text += f" | {name} {ms(row[name])} ({row[name] / row['called'][1]:.1f} times)"
    return text + f" | memory {row['memory']:.2f} of inputs and outputs"


def time_jacobians(clock: Clock) -> list[dict]:
    say(f"\nms forward + backward | Jacobian by {PARAMETERS} parameters | the same on our CPU, as called")
    return [time_jacobian(clock, *case) for case in ([(3, 256, 4), MAIN] if clock.real else [(0, 16, 1)])]


def time_jacobian(clock: Clock, level: int, size: int, views: int) -> dict[str, Any]:
    """No CUDA graph can hold it: how many pixels have rows shows only in the middle of a call."""
    case = Case(level, size, views, clock.device)
    moves = case.moves()
    row: dict[str, Any] = {"faces": len(case.faces), "size": size, "views": views}
    row["pixels"] = len(case.jacobian(moves).pixels)
    row["both"], row["jacobian"] = clock.called(case.both), clock.called(lambda: case.jacobian(moves))
    if cpu.available():
        with on_cpu(not clock.real):
            here, moved = Case(level, size, views, "cpu"), moves.cpu()
            row["cpu"] = Clock("cpu").called(lambda: here.jacobian(moved))
    say(str(row))
    return row


def time_images(clock: Clock) -> list[dict[str, Any]]:
    say("\nms forward and forward + backward of silhouettes and images, as called and on the device alone")
    rows = []
    for case in [(3, 256, 4), MAIN, (6, 512, 8)] if clock.real else [(0, 16, 1)]:
        rows.append(time_pictures(clock, Case(*case, clock.device), SIGMA))
        say(str(rows[-1]))
    return rows


def time_coverage(clock: Clock) -> list[dict[str, Any]]:
    say("\nms forward and forward + backward of exact coverage, of silhouettes, and of coverage on our CPU, as called")
    rows = []
    cases = [((3, 256, 4), 0), (MAIN, 0), ((6, 512, 8), 0), ((3, 256, 1), 100_000)] if clock.real else [((0, 16, 1), 0)]
    for case, heap in cases:
        here = Case(*case, "cpu")
        rows.append(time_areas(clock, lambda: on_cpu(not clock.real), Case(*case, clock.device), here, heap))
        say(str(rows[-1]))
    return rows


def agree(device: str, published: Published) -> dict[str, float]:
    """The largest differences from the CPU backend in float64, and of the published algorithm's image."""
    everywhere = {"low": -1, "high": 2}
    level, size = (0, 16) if device == "cpu" else (3, 64)
    case = Case(level, size, 2, device)
    alpha, gradient = case.both()
    rows = case.jacobian(case.moves(), **everywhere).rows
    pictures = {look: Pictures(case, look, SIGMA).both() for look in ("colours", "texture")}
    heap = 2000 if device == "cpu" else 100_000
    with on_cpu(device == "cpu"):
        exact = Case(level, size, 2, "cpu")
        exact.vertices = exact.vertices.detach().double().requires_grad_()
        double = ("K", "world_to_camera")
        exact.tensors = {name: x.double() if name in double else x for name, x in exact.tensors.items()}
        exact.upstream = exact.upstream.double()
        expected, slope = exact.both()
        slopes = exact.jacobian(exact.moves(), **everywhere).rows
        defined = {look: Pictures(exact, look, SIGMA).both() for look in pictures}
    return {
        "alpha": float((alpha.cpu() - expected).abs().max()),
        "gradient": float((gradient.cpu() - slope).abs().max() / slope.abs().max()),
        "jacobian": float((rows.cpu() - slopes).abs().max() / slopes.abs().max()),
        **{f"{look}, {name}": x for look in pictures for name, x in differences(pictures[look], defined[look])},
        **{
            f"coverage, {name}": x
            for name, x in differences_of_areas(case, exact, lambda: on_cpu(device == "cpu"), heap)
        },
        "published": float((published.both(case).cpu() - expected).abs().max()),
    }


@contextlib.contextmanager
def on_cpu(emulated: bool) -> Iterator[None]:
    """Tensors of the CPU are the CPU's here, even while it emulates a GPU."""
    if not emulated:
        yield
        return
    import emulation

    with emulation.native():
        yield


def run_tests(seconds: float) -> str:
    """The rasterizer's tests on the device, in a process of their own; the last line of what they say."""
    if missing := [name for name in ("pytest", "hypothesis") if importlib.util.find_spec(name) is None]:
        return f"left out, {' and '.join(missing)} not installed"
    files = ["silhouettes", "coverage/test_coverage.py", "native/test_cuda.py::test_a_gpu_agrees_with_the_definition"]
    files += [
        f"native/test_image_cuda.py::test_{name}"
        for name in ("what_faces_show", "the_modes", "more_attributes_than_a_walk_takes")
    ]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", "cuda and not emulated"]
    return outcome([*command, *[str(REPOSITORY / "tests" / "raster" / name) for name in files]], seconds)


def sanitize(seconds: float) -> dict[str, str]:
    tool = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    if tool is None:
        return {"all": "compute-sanitizer is not installed"}
    small = [sys.executable, str(Path(__file__).resolve()), "--small"]
    return {
        name: outcome([tool, "--tool", name, "--error-exitcode", "9", *small], seconds / 3)
        for name in ("memcheck", "racecheck", "synccheck")
    }


def outcome(command: list[str], seconds: float) -> str:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "engine"), "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    if "pytest" in command:
        del environment["PYTORCH_NO_CUDA_MEMORY_CACHING"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=max(1, seconds), env=environment)
    except subprocess.TimeoutExpired:
        return f"FAILED: not done after {seconds:.0f} s"
    last = (done.stdout.strip() or done.stderr.strip()).splitlines()[-1:]
    if done.returncode:
        print(done.stdout[-3000:], done.stderr[-2000:], flush=True)
    return ("" if done.returncode == 0 else "FAILED: ") + "".join(last)


def sweep(clock: Clock) -> dict[int, float | None]:
    """Milliseconds of the main case by cuda.WARPS, in case another number is better than ours."""
    if not clock.real:
        return {}
    case, kept, found = Case(*MAIN, clock.device), cuda.WARPS, {}
    for warps in (8, 16, 32, 64, 128, 256):
        cuda.WARPS = warps
        found[warps] = clock.replayed(case.both)
    cuda.WARPS = kept
    return found


def time_fits(device: str) -> dict[str, Any]:
    try:
        from softras.doctor import require
        from softras.tasks import TASKS

        require(TASKS["fit"])
    except softras.InputError as error:
        return {"left out": str(error)}
    found: dict[str, Any] = {}
    if (DATA / "softras_plane").is_dir():
        folder = DATA / "softras_plane"
        ball, views = softras.load_mesh(folder / "sphere_1352.obj"), softras.load_views(folder)
        for event in softras.fit_events(ball, views, device=device, max_seconds=30):
            if event.iou is not None and float(np.mean(event.iou)) >= 0.9:
                found["softras_plane to 0.90 mean IoU, s"] = event.elapsed
                break
    if (DATA / "oxford_dino").is_dir():
        views = softras.load_views(DATA / "oxford_dino")
        result = softras.fit(None, views, mode="reconstruct", device=device, max_seconds=60)
        found["oxford_dino, s"], found["oxford_dino, mean IoU"] = result.elapsed, float(np.mean(result.iou))
    return found or {"left out": f"no data in {DATA}"}


# ------------------------------------------------------------------------------------------------ the run


def check(args: argparse.Namespace, device: str) -> int:
    clock, deadline = Clock(device), started + args.seconds
    gpu = cuda.gpu(0)
    report: dict[str, Any] = describe(device)
    say(", ".join(f"{key} {value}" for key, value in report.items()))
    with gpu.current():
        start = time.perf_counter()
        for dtype in (torch.float32, torch.float64):
            for part in ("silhouettes", "plain", "textured", "any", "coverage"):
                gpu.module(dtype, part)
        published = Published(gpu, SIGMA)
        report["compile, s"] = round(time.perf_counter() - start, 2)
        say(f"kernels compiled or taken from the cache in {report['compile, s']} s; NVRTC {nvrtc_version(device)}")
        report["agreement"] = agree(device, published)
        say(f"largest differences: {report['agreement']}")
        if device == "cuda":
            report["tests"] = run_tests(0.4 * args.seconds)
            say(f"tests: {report['tests']}")
            report["compute-sanitizer"] = sanitize(0.25 * args.seconds)
            say(f"compute-sanitizer: {report['compute-sanitizer']}")
        report["rates"] = rates(clock)
        report["rows"] = time_cases(clock, report["rates"], published, deadline - 0.15 * args.seconds)
        report["images"] = time_images(clock)
        report["coverage"] = time_coverage(clock)
        report["jacobian"] = time_jacobians(clock)
        report["milliseconds by warps"] = sweep(clock)
        report["fits"] = time_fits(device) if device == "cuda" else {"left out": "emulated"}
        say(f"milliseconds by warps a multiprocessor: {report['milliseconds by warps']}\nfits: {report['fits']}")
    if args.out:
        args.out.write_text(json.dumps(report, indent=1))
    ours = {name: x for name, x in report["agreement"].items() if name != "published"}
    slack = {"gradient": 1e-4, "jacobian": 1e-4, "heap": 1e-2}  # which bands are sampled may differ
    good = all(x < max([1e-5, *(y for part, y in slack.items() if part in name)]) for name, x in ours.items())
    good = good and not any("FAILED" in str(report.get(part)) for part in ("tests", "compute-sanitizer"))
    say(f"{time.monotonic() - started:.0f} s; {'all is well' if good else 'SOMETHING IS WRONG, see above'}")
    return 0 if good else 1


def describe(device: str) -> dict[str, Any]:
    found = {"date": datetime.date.today().isoformat(), "torch": torch.__version__, "python": platform.python_version()}
    found["cpu"] = f"{cpu.description()}, {torch.get_num_threads()} threads"
    if device == "cuda":
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        with contextlib.suppress(OSError):
            found["driver"] = subprocess.run(query, capture_output=True, text=True).stdout.strip().splitlines()[0]
        properties = torch.cuda.get_device_properties(0)
        found["gpu"] = f"{properties.name}, {properties.multi_processor_count} multiprocessors"
    else:
        found["gpu"] = "emulated"
    return found


def nvrtc_version(device: str) -> str:
    return nvrtc.version() if device == "cuda" else "emulated"


def prepare() -> None:
    """The CUDA sources where the engine looks for them, and the native library if it can be built."""
    native.place_cuda_sources()
    if not cpu.library_path().is_file():
        with contextlib.suppress(Exception):
            native.build([native.this_machine()])
        say(
            "the CPU's native library was built"
            if cpu.library_path().is_file()
            else "no native library for the CPU here"
        )


def say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write everything measured as JSON")
    parser.add_argument("--seconds", type=float, default=450, help="when to stop (default 450)")
    parser.add_argument("--emulate", action="store_true", help="run on the emulator at tiny sizes")
    parser.add_argument(
        "--small",
        action="store_true",
        help="one small forward and backward pass of each kind and Jacobian, for compute-sanitizer",
    )
    args = parser.parse_args()
    if args.emulate:
        import emulation

        with tempfile.TemporaryDirectory() as folder, emulation.emulated(emulation.build(Path(folder))):
            nvrtc.build = lambda texts, options: (b"image", "")
            nvrtc.target = lambda architecture: "none"
            return check(args, "cpu")
    if not torch.cuda.is_available():
        say("PyTorch finds no GPU; --emulate runs the same path without one.")
        return 2
    if not args.small:
        prepare()
    if not cuda.available(torch.device("cuda", 0)):
        say(f"the kernels do not run: {cuda.failure(0)}")
        return 1
    if args.small:
        case = Case(1, 48, 2, "cuda")
        case.both()
        case.jacobian(case.moves())
        for look in ("colours", "texture"):
            Pictures(case, look, SIGMA).both()
        for heap in (0, 5000):
            Areas(case, heap).both()
        Areas(case).jacobian(case.moves())
        torch.cuda.synchronize()
        return 0
    return check(args, "cuda")


if __name__ == "__main__":
    sys.exit(main())
