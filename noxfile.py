"""What a checkout can do by itself: `nox -s demo`, `nox -s tests`, and the suites of the latter one by one."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import nox

nox.options.sessions = ["tests"]
nox.options.reuse_venv = "yes"

PINNED = ("-c", "tests/constraints.txt")  # PyTorch exactly, too: a looser request may bring gigabytes
BLENDERS = {"4.5": ("3.11", "bpy==4.5.15"), "5.0": ("3.11", "bpy==5.0.1"), "5.2": ("3.13", "bpy==5.2.3")}
WORKERS = ("-n", "2")  # processes that share a suite
ENGINE = Path(".nox", "softras-engine").absolute()  # the engine process's environment, apart from Blender's


@nox.session(python=False)
def tests(session: nox.Session) -> None:
    """Lint and every suite, one after the other; a failure of one fails the whole."""
    for name in ("lint", "engine", *(f"blender-{version}" for version in BLENDERS), "app"):
        session.notify(name)


@nox.session(python="3.11")
def lint(session: nox.Session) -> None:
    """Lint, formatting, types, and which way imports run."""
    tools = ("ruff", "mypy", "import-linter", "fake-bpy-module-latest")
    session.install("-q", *PINNED, *tools, "numpy", "pillow", "pytest", "nox", "torch")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("lint-imports", "--no-logo", env={"PYTHONPATH": os.pathsep.join(["engine", "."])})


@nox.session(python=False)
def engine(session: nox.Session) -> None:
    """The engine's tests, on the installed package; the CUDA kernels through their compiler and on an emulator."""
    python = engine_python(session, "pytest", "pytest-xdist", "hypothesis", "ziglang", "nvidia-cuda-nvrtc")
    data = Path(os.environ.get("SOFTRAS_DATA", "../shared/data"))
    if not data.is_dir():
        session.log(f"there is no {data}: tests of data that may not be redistributed are skipped")
    command = (
        python,
        "-m",
        "pytest",
        *WORKERS,
        *chosen(session, "tests"),
        "--ignore=tests/blender",
        "--ignore=tests/app",
    )
    session.run(*command, external=True, env={"OMP_NUM_THREADS": "1"})


@nox.session(python=False)
def fuzz(session: nox.Session) -> None:
    """Every reader on 20,000 damaged inputs of each kind, where the suite takes a hundred."""
    python = engine_python(session, "pytest", "pytest-xdist", "hypothesis", "ziglang")
    env = {"OMP_NUM_THREADS": "1", "SOFTRAS_FUZZ_EXAMPLES": "20000", **os.environ}
    session.run(python, "-m", "pytest", *WORKERS, "tests/fuzz", *session.posargs, external=True, env=env)


@nox.session(python=False)
def sanitize(session: nox.Session) -> None:
    """Random scenes and tests on a native library that watches its memory, its arithmetic and its threads.

    Before a release; `-- --count 20` takes a minute once the libraries are built.
    """
    python = engine_python(session, "ninja", "ziglang", "pytest", "hypothesis")
    for kind in ("address", "thread"):
        session.run(python, "csrc/sanitize.py", kind, *session.posargs, external=True)


def blender(session: nox.Session, bpy: str) -> None:
    """The extension's tests, in the bpy module of one Blender version."""
    python = engine_python(session)
    build_addon(session, python, "--all")
    session.install("-q", bpy, "pytest==9.2.0", "pytest-xdist==3.8.0")
    tests = chosen(session, "tests/blender")
    session.run("python", "-m", "pytest", *WORKERS, *tests, env={"SOFTRAS_PYTHON": python})


for version, (python, bpy) in BLENDERS.items():
    nox.session(lambda session, bpy=bpy: blender(session, bpy), python=python, name=f"blender-{version}")


@nox.session(python=False)
def app(session: nox.Session) -> None:
    """The extension's tests in the real Blender application, by real mouse and keyboard events."""
    if shutil.which("apt-get") is None or os.getuid() != 0:
        session.skip("needs Debian or Ubuntu, and root")
    python = engine_python(session)
    build_addon(session, python, "--all")
    session.run("tests/app/run.sh", external=True, env={"SOFTRAS_PYTHON": python})


@nox.session(python="3.11")
def docs(session: nox.Session) -> None:
    """The documentation as a site, with a reference of every public name, in out/docs; a dead link fails it."""
    session.install("-q", *PINNED, "mkdocs", "mkdocstrings[python]")
    session.run("mkdocs", "build", "--strict", "--quiet")


@nox.session(python="3.11")
def demo(session: nox.Session) -> None:
    """A real fit in headless Blender, through the extension and the engine process; leaves its results in out/."""
    python = engine_python(session)
    build_addon(session, python)
    session.install("-q", BLENDERS["4.5"][1])
    session.run("python", "examples/demo_blender.py", env={"SOFTRAS_PYTHON": python})


def chosen(session: nox.Session, suite: str) -> list[str]:
    """The paths and options after `--`; paths take the place of the whole suite."""
    paths = [word for word in session.posargs if Path(word.partition("::")[0]).exists()]
    return [*session.posargs] if paths else [suite, *session.posargs]


DONE: set[tuple[str, ...]] = set()  # what one run of nox has prepared and need not prepare again


def once(session: nox.Session, *command: str) -> None:
    """Run a command that a former session of this run of nox has not run."""
    if command not in DONE:
        session.run(*command, external=True)
        DONE.add(command)


def engine_python(session: nox.Session, *more: str) -> str:
    """The interpreter of the engine's environment, with the checkout's engine installed."""
    python = str(ENGINE / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    if not Path(python).exists():
        session.run(sys.executable, "-m", "venv", str(ENGINE), external=True)
    pip = (python, "-m", "pip", "install", "-q", "--disable-pip-version-check")
    once(session, *pip, *PINNED, "torch", ".")
    if more:
        once(session, *pip, *PINNED, *more)
    return python


def build_addon(session: nox.Session, python: str, *options: str) -> None:
    """Write dist/softras-VERSION.zip; with "--all" it holds the native libraries of every platform."""
    pip = (python, "-m", "pip", "install", "-q", "--disable-pip-version-check")
    once(session, *pip, *PINNED, "ninja", "ziglang")
    once(session, python, "csrc/build.py", *options)
    once(session, python, "build_addon.py")
