# SPDX-License-Identifier: MIT
"""Build the native CPU backend with ninja and zig, for this machine or for every platform; place the CUDA sources.

    python csrc/build.py              this machine's library, into engine/softras/_native/
    python csrc/build.py --all        Linux, Windows and macOS on x86_64 and arm64, all from this machine

It needs the packages `ninja` and `ziglang`, and no compiler of the system. The CUDA kernels are compiled on the machine
where they run, by the compiler that comes with PyTorch; their sources are copied to the same folder as they are.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).resolve().parent
OUT = SOURCES.parent / "engine" / "softras" / "_native"

CUDA_SOURCES = (  # softras_cuda.cu and what it includes, which raster/native/nvrtc.py reads
    "softras_cuda.cu",
    "coverage.h",
    "cuda_coverage.h",
    "cuda_coverage_backward.h",
    "cuda_coverage_samples.h",
    "cuda_faces.h",
    "cuda_image.h",
    "cuda_image_backward.h",
    "cuda_jacobian.h",
    "fragment.h",
    "softras_math.h",
    "softras_modes.h",
    "softras_texture.h",
)

# Sources that are compiled for every instruction set.
KERNELS = (
    "softras_cpu",
    "softras_jacobian",
    "softras_image",
    "softras_coverage",
    "softras_algebra",
    "softras_mesh",
    "softras_comparison",
)
# Sources that are compiled once, for the least instruction set.
COMMON = ("dispatch", "layout")

# -ffast-math is left out, because it would make the whole process take denormal numbers for zero, and because checks
# for NaN must work. -Wno-psabi silences a warning about vectors wider than the instruction set's: these are split into
# several, and no function takes one from another object file.
FLAGS = (
    "-std=c++17 -O3 -fno-math-errno -fno-trapping-math -ffp-contract=fast -fno-exceptions -fno-rtti "
    "-fvisibility=hidden -fno-sanitize=all -Wall -Wextra -Werror -Wno-psabi"
)

ZIG = f'"{sys.executable}" -m ziglang c++'
LINK = f"{ZIG} -target $target -shared -nostdlib++ -s $in -o $out"  # the command of a rule of ninja

# The instruction sets of each kind of processor: their names in dispatch.cpp, and what zig's option -mcpu calls them.
X86 = {"x86_64_v2": "x86_64_v2", "x86_64_v3": "x86_64_v3", "x86_64_v4": "x86_64_v4"}
ARM = {"baseline": "baseline"}
APPLE = {"baseline": "apple_m1"}
# Each library file, with zig's name of the platform and the instruction sets.
TARGETS = {
    "softras-linux-x86_64.so": ("x86_64-linux-gnu.2.17", X86),
    "softras-linux-aarch64.so": ("aarch64-linux-gnu.2.17", ARM),
    "softras-windows-x86_64.dll": ("x86_64-windows-gnu", X86),
    "softras-windows-arm64.dll": ("aarch64-windows-gnu", ARM),
    "softras-macos-x86_64.dylib": ("x86_64-macos.11.0", X86),
    "softras-macos-arm64.dylib": ("aarch64-macos.11.0", APPLE),
}


def this_machine() -> str | None:
    """The file name of the library for this machine, which native/cpu.py knows too; None if there is none."""
    system = {"Linux": "linux", "Windows": "windows", "Darwin": "macos"}.get(platform.system())
    machine = platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    return next((name for name, (target, _) in TARGETS.items() if target.startswith(f"{machine}-{system}")), None)


def write_ninja(path: Path, libraries: list[str], flags: str, link: str) -> None:
    """Write the rules by which ninja compiles and links the libraries; arguments as for `compile_libraries`."""
    lines = [
        "ninja_required_version = 1.8",
        f"builddir = {path.parent}",
        "rule compile",
        f"  command = {ZIG} -target $target -mcpu=$cpu {flags} -DSOFTRAS_ISA=$isa -MD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "  description = compile $out",
        "rule link",
        f"  command = {link}",
        "  description = link $out",
    ]
    for library in libraries:
        target, levels = TARGETS[library]
        objects = []
        jobs = [(source, isa, cpu) for source in KERNELS for isa, cpu in levels.items()]
        jobs += [(source, "none", next(iter(levels.values()))) for source in COMMON]
        for source, isa, cpu in jobs:
            obj = f"{library}.{source}.{isa}.o"
            objects.append(obj)
            lines += [
                f"build {obj}: compile {SOURCES / source}.cpp",
                f"  target = {target}",
                f"  cpu = {cpu}",
                f"  isa = {isa}",
            ]
        lines += [f"build {library}: link {' '.join(objects)}", f"  target = {target}"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def compile_libraries(libraries: list[str], build_dir: Path, flags: str = FLAGS, link: str = LINK) -> list[Path]:
    """Compile what changed into a folder; returns the library files there.

    Raises CalledProcessError where something does not compile; the compiler has said why.

    Args:
        libraries: some of TARGETS.
        build_dir: the folder, made if it is missing.
        flags: of the compiler.
        link: ninja's command that makes a library ($out) of object files ($in).
    """
    build_dir.mkdir(parents=True, exist_ok=True)
    write_ninja(build_dir / "build.ninja", libraries, flags, link)
    environment = {
        **os.environ,
        "ZIG_GLOBAL_CACHE_DIR": str(build_dir / "zig"),
        "ZIG_LOCAL_CACHE_DIR": str(build_dir / "zig"),
    }
    subprocess.run([sys.executable, "-m", "ninja", "-C", str(build_dir)], check=True, env=environment)
    return [build_dir / library for library in libraries]


def build(libraries: list[str], build_dir: Path | None = None) -> list[Path]:
    """Compile what changed and put the libraries where the engine loads them; returns those files."""
    OUT.mkdir(parents=True, exist_ok=True)
    for path in compile_libraries(libraries, build_dir or SOURCES.parent / "build" / "native"):
        # The file is renamed into its place, so that a process that has the old library loaded keeps it.
        shutil.copy2(path, OUT / f"{path.name}.new")
        os.replace(OUT / f"{path.name}.new", OUT / path.name)
    return [OUT / library for library in libraries]


def place_cuda_sources() -> None:
    """Copy the sources that the engine compiles on a machine with a GPU."""
    OUT.mkdir(parents=True, exist_ok=True)
    for name in CUDA_SOURCES:
        (OUT / name).write_bytes((SOURCES / name).read_bytes())


def main() -> int:
    """Build; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="build for every platform")
    args = parser.parse_args()
    place_cuda_sources()
    wanted = list(TARGETS) if args.all else [this_machine()]
    if wanted == [None]:
        print(f"no native backend for {platform.system()} on {platform.machine()}", file=sys.stderr)
        return 1
    try:
        built = build(wanted)
    except subprocess.CalledProcessError as error:
        return error.returncode
    for path in built:
        print(f"{path}  {path.stat().st_size // 1024} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
