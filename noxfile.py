"""What a checkout can do by itself: `nox -s demo`, `nox -s tests`, `nox -s lint` and the suites one by one."""

from __future__ import annotations

import os
from pathlib import Path

import nox

nox.options.sessions = ["tests"]
nox.options.reuse_venv = "yes"
nox.needs_version = ">=2024.4"

ROOT = Path(__file__).parent
TORCH = "torch==2.13.0"  # exactly: a looser request may bring gigabytes
BLENDERS = {"4.5": ("3.11", "4.5.15"), "5.0": ("3.11", "5.0.1"), "5.2": ("3.13", "5.2.3")}  # Blender: Python, bpy
ENGINE = ROOT / ".nox" / "softras-engine"  # the environment of the engine process, apart from Blender's


def install_engine(session: nox.Session, *more: str) -> str:
    """Build and install the engine in an environment of its own; returns its interpreter."""
    python = ENGINE / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        session.run("python3.11", "-m", "venv", str(ENGINE), external=True)
    pip = (str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check")
    session.run(*pip, TORCH, ".", *more, external=True)
    return str(python)


@nox.session(python=False)
def tests(session: nox.Session) -> None:
    """Everything: lint and all suites, one after the other; any failure fails the whole."""
    for name in ("lint", "engine", *(f"blender-{version}" for version in BLENDERS), "app"):
        session.notify(name)


@nox.session(python="3.11")
def lint(session: nox.Session) -> None:
    """Formatting, lint and types."""
    session.install("-q", TORCH, "numpy", "scipy", "ruff==0.17.5", "mypy==2.4.1", "fake-bpy-module-latest", "pytest")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session(python=False)
def engine(session: nox.Session) -> None:
    """The engine's tests, run on the installed package."""
    python = install_engine(session, "pytest", "hypothesis")
    session.run(python, "-m", "pytest", "tests", *ignored("blender", "app"), *session.posargs, external=True)


@nox.session(python=False, name="blender")
@nox.parametrize("blender", [nox.param(version, id=version) for version in BLENDERS])
def blender(session: nox.Session, blender: str) -> None:
    """The extension's tests in the bpy module."""


@nox.session(python=False)
def app(session: nox.Session) -> None:
    """The extension's tests in the real Blender application, driven by real events."""


@nox.session(python="3.11")
def demo(session: nox.Session) -> None:
    """A real fit in headless Blender, through the extension and the engine process; leaves its results in out/."""


def ignored(*suites: str) -> list[str]:
    return [f"--ignore=tests/{suite}" for suite in suites]
