# SPDX-License-Identifier: MIT
"""Run random scenes on a native CPU backend that watches its own memory (Linux on x86-64, with g++).

    python csrc/sanitize.py address          addresses and undefined behaviour, 1,000 scenes of tests/raster/stress.py
    python csrc/sanitize.py address --count 100 --seed 7

The compiler is zig's, as of every build; the sanitizers' libraries, which zig does not have, are those of g++. The
watched library lies in a copy of the engine under build/, which the scenes are run on. The exit status is 1 if a
sanitizer reports or a scene fails.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from build import FLAGS, KERNELS, SOURCES, TARGETS, X86, this_machine

ROOT = SOURCES.parent
CHECKS = {"address": ("address", "undefined")}
ISA = "x86_64_v3"  # the one instruction set that is watched; the source is one
ENTRIES = ("softras_silhouettes", "softras_silhouettes_jacobian", "softras_images", "softras_coverage")
SCENES = {"address": 1000}
# Python and PyTorch keep what they have until the end: leaks are not looked for.
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1:exitcode=66",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:exitcode=66",
}


def build(kind: str) -> Path:
    """The folder of an engine whose library is watched."""
    library = this_machine()
    if library != "softras-linux-x86_64.so" or shutil.which("g++") is None:
        raise SystemExit("the sanitizers need Linux on x86-64 and g++, whose libraries they are")
    folder = ROOT / "build" / "sanitize" / kind
    objects = folder / "objects"
    objects.mkdir(parents=True, exist_ok=True)
    shutil.copytree(ROOT / "engine" / "softras", folder / "softras", dirs_exist_ok=True)
    watched = ["-Xclang", f"-fsanitize={kind}"]  # past zig, which drops what it has no library for
    if "undefined" in CHECKS[kind]:
        watched += [
            "-fsanitize=undefined",
            "-fno-sanitize=function,vptr",
        ]  # these two need the types that -fno-rtti drops
    flags = [*FLAGS.replace("-O3", "-O1").split(), "-g", "-fno-omit-frame-pointer", "-fPIC", *watched]
    environment = {**os.environ, **{f"ZIG_{name}_CACHE_DIR": str(folder / "zig") for name in ("GLOBAL", "LOCAL")}}

    def compiled(job: tuple[str, str]) -> str:
        source, isa = job
        out = str(objects / f"{source}.{isa}.o")
        zig = [sys.executable, "-m", "ziglang", "c++", "-target", TARGETS[library][0], f"-mcpu={isa}"]
        command = [*zig, *flags, f"-DSOFTRAS_ISA={isa}", "-c", str(SOURCES / f"{source}.cpp"), "-o", out]
        subprocess.run(command, check=True, env=environment)
        return out

    jobs = [(source, ISA) for source in (*KERNELS, "dispatch")]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        files = list(pool.map(compiled, jobs))
    target = folder / "softras" / "_native" / library
    links = [f"-fsanitize={check}" for check in CHECKS[kind]]
    functions = [
        f"{name}_float{bits}_" for name in ENTRIES for bits in (32, 64)
    ]  # the other instruction sets' are ISA's
    links += [f"-Wl,--defsym={name}{isa}={name}{ISA}" for name in functions for isa in X86 if isa != ISA]
    subprocess.run(["g++", "-shared", *links, *files, "-lm", "-o", str(target)], check=True)
    return folder


def run(kind: str, folder: Path, count: int, seed: int) -> int:
    """The exit status of the random scenes on the watched engine."""
    names = {"address": ("libasan.so", "libubsan.so")}[kind]
    found = [subprocess.run(["g++", f"-print-file-name={x}"], capture_output=True, text=True).stdout for x in names]
    preload = " ".join(os.path.realpath(path.strip()) for path in found)
    environment = {**os.environ, **OPTIONS, "LD_PRELOAD": preload, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "2"}
    stress = [sys.executable, str(ROOT / "tests" / "raster" / "stress.py"), "--count", str(count), "--seed", str(seed)]
    return subprocess.run(stress, env=environment).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=list(CHECKS))
    parser.add_argument("--count", type=int, help="scenes")
    parser.add_argument("--seed", type=int, default=0, help="the first scene")
    args = parser.parse_args()
    return run(args.kind, build(args.kind), args.count or SCENES[args.kind], args.seed)


if __name__ == "__main__":
    sys.exit(main())
