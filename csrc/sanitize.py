# SPDX-License-Identifier: MIT
"""Run random scenes and tests on a native CPU backend that a sanitizer watches (Linux on x86-64, with g++).

    python csrc/sanitize.py address                        memory and undefined behaviour: 1,000 scenes, three times
    python csrc/sanitize.py thread                         data races: 500 scenes
    python csrc/sanitize.py address --count 20 --isa x86_64_v3     20 scenes on one instruction set, and no tests

The scenes are those of tests/raster/stress.py; the tests add what they leave out: exact coverage, the Jacobian of
silhouettes, the algebra of fits and what they minimize. All run on a copy of the engine under build/sanitize, whose
library is compiled by zig, as every build is, and linked by g++ with its sanitizers' libraries, which zig does not
have. The exit status is 1 if a sanitizer reports anything or a scene or test fails.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from build import FLAGS, SOURCES, X86, compile_libraries, this_machine

ROOT = SOURCES.parent
TEST_FOLDER = ROOT / "tests"
LIBRARY = "softras-linux-x86_64.so"
TESTS = (
    "raster/coverage/test_coverage.py",
    "raster/silhouettes/test_jacobian.py",
    "raster/test_algebra.py",
    "raster/test_threads.py",
    "raster/test_empty.py",
    "fitting/terms/test_closed_form.py",
    "fitting/observed/test_comparison.py",
)
NOT_NATIVE = "not emulated and not missing_barrier"  # tests of the CUDA kernels, which the library is no part of


@dataclass(frozen=True)
class Sanitizer:
    """One way to compile, link and run the library so that it reports its own errors."""

    compile: str  # flags beside build.py's; -Xclang takes a flag past zig, which drops what it has no library for
    link: str
    libraries: tuple[str, ...]  # of g++, loaded before Python
    calls: tuple[bytes, ...]  # how the names of the functions begin that a watched library calls
    options: dict[str, str]  # environment variables
    instruction_sets: tuple[str, ...]
    threads: int  # at most, that one call of the library is shared by
    scenes: int


UNDEFINED = (
    *("alignment", "array-bounds", "bool", "builtin", "enum", "float-cast-overflow", "integer-divide-by-zero"),
    *("nonnull-attribute", "null", "object-size", "pointer-overflow", "return", "returns-nonnull-attribute"),
    *("shift-base", "shift-exponent", "signed-integer-overflow", "unreachable", "vla-bound"),
)
SANITIZERS = {
    "address": Sanitizer(
        # What clang calls "undefined" is taken apart, since zig drops that name, and without the two checks that need
        # the types that -fno-rtti drops.
        compile="-Xclang -fsanitize=address -Xclang -fsanitize=" + ",".join(UNDEFINED),
        link="-fsanitize=address -fsanitize=undefined",
        libraries=("libasan.so", "libubsan.so"),
        calls=(b"__asan_report_", b"__ubsan_handle_"),
        # Leaks are not looked for, since Python and PyTorch keep what they have until the end.
        options={
            "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1:exitcode=66",
            "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:exitcode=66",
        },
        instruction_sets=tuple(X86),
        threads=2,
        scenes=1000,
    ),
    "thread": Sanitizer(
        # g++'s library watches memcpy and the like itself, under their own names. SOFTRAS_EAGER_THREADS shares the
        # smallest scene too.
        compile="-Xclang -fsanitize=thread -mllvm -tsan-instrument-memintrinsics=0 -DSOFTRAS_EAGER_THREADS",
        link="-fsanitize=thread",
        libraries=("libtsan.so",),
        calls=(b"__tsan_read", b"__tsan_write"),
        # Python's and PyTorch's own threads are not watched: they are not compiled for it.
        options={
            "TSAN_OPTIONS": "ignore_noninstrumented_modules=1:halt_on_error=1:exitcode=66:second_deadlock_stack=1"
        },
        instruction_sets=("x86_64_v3",),  # which threads meet where is the same in all
        threads=4,
        scenes=500,
    ),
}


def build(kind: str) -> Path:
    """The folder of an engine whose library is watched."""
    if this_machine() != LIBRARY or shutil.which("g++") is None:
        raise SystemExit("the sanitizers need Linux on x86-64 and g++, whose libraries they are")
    folder, sanitizer = ROOT / "build" / "sanitize" / kind, SANITIZERS[kind]
    flags = f"{FLAGS.replace('-O3', '-O1')} -g -fno-omit-frame-pointer -fPIC {sanitizer.compile}"
    link = f"g++ -shared -Wl,-z,defs {sanitizer.link} $in -lm -lpthread -o $out"
    (library,) = compile_libraries([LIBRARY], folder / "objects", flags, link)
    dropped = [name.decode() for name in sanitizer.calls if name not in library.read_bytes()]
    if dropped:
        raise SystemExit(f"the compiler has left out checks: nothing in {library} calls {' or '.join(dropped)}")
    unwatched = shutil.ignore_patterns("_native", "__pycache__")
    shutil.rmtree(folder / "softras", ignore_errors=True)
    shutil.copytree(ROOT / "engine" / "softras", folder / "softras", ignore=unwatched)
    (folder / "softras" / "_native").mkdir()
    shutil.copy2(library, folder / "softras" / "_native" / LIBRARY)
    return folder


def watched(kind: str, folder: Path, isa: str) -> dict[str, str]:
    """The environment in which Python loads the watched library."""
    sanitizer = SANITIZERS[kind]
    asked = [["g++", f"-print-file-name={name}"] for name in sanitizer.libraries]
    found = [subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() for command in asked]
    return {
        **os.environ,
        **sanitizer.options,
        "LD_PRELOAD": " ".join(map(os.path.realpath, found)),
        "PYTHONPATH": str(folder),
        "OMP_NUM_THREADS": str(sanitizer.threads),
        "SOFTRAS_ISA": isa,
    }


def instruction_set(environment: dict[str, str]) -> str:
    """The instruction set that the watched library takes there, which is a lesser one if the processor lacks that.

    Raises SystemExit where the library does not load: without it the definitions would render, which nobody watches.
    """
    ask = "from softras.raster.native import cpu; print(cpu.available(), cpu.description(), sep='\\n')"
    command = [sys.executable, "-c", ask]
    said = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    if said[0] != "True":
        raise SystemExit(said[1])
    return said[1]


def run(environment: dict[str, str], scenes: int, seed: int, tests: bool) -> bool:
    """Whether so many random scenes and, if asked for, the tests pass on the watched engine without a report."""
    stress = [sys.executable, str(TEST_FOLDER / "raster" / "stress.py"), "--count", str(scenes), "--seed", str(seed)]
    pytest = [sys.executable, "-m", "pytest", "-q", "-x", "-s", "-p", "no:cacheprovider", "-k", NOT_NATIVE]
    commands = [stress] if scenes else []
    commands += [[*pytest, *(str(TEST_FOLDER / name) for name in TESTS)]] if tests else []
    return all(subprocess.run(command, env=environment).returncode == 0 for command in commands)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=list(SANITIZERS))
    parser.add_argument("--only", choices=("scenes", "tests"), help="not both")
    parser.add_argument("--count", type=int, help="that many scenes, and no tests")
    parser.add_argument("--seed", type=int, default=0, help="the first scene")
    parser.add_argument("--isa", choices=list(X86), help="the only instruction set to watch")
    args = parser.parse_args()
    sanitizer, folder = SANITIZERS[args.kind], build(args.kind)
    for isa in (args.isa,) if args.isa else sanitizer.instruction_sets:
        environment = watched(args.kind, folder, isa)
        if instruction_set(environment) != isa:
            print(f"{args.kind} sanitizer: this processor does not have {isa}, which is left out", flush=True)
            continue
        print(f"{args.kind} sanitizer, {isa}", flush=True)
        scenes = 0 if args.only == "tests" else sanitizer.scenes if args.count is None else args.count
        if not run(environment, scenes, args.seed, tests=args.only != "scenes" and args.count is None):
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
