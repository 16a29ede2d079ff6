"""The sanitizers watch the native library, and nothing else may pass for it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import softras
from softras.raster.native import cpu

ROOT = Path(__file__).resolve().parents[2]
ASK = "import os, sys; sys.path.append(sys.argv[1]); import sanitize; print(sanitize.instruction_set({**os.environ}))"


def asked(engine: Path) -> subprocess.CompletedProcess:
    """What the script says of the library of the engine in a folder."""
    command = [sys.executable, "-c", ASK, str(ROOT / "csrc")]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": str(engine)}, capture_output=True, text=True)


def test_an_engine_whose_library_does_not_load_is_refused(tmp_path):
    """It would render by the definitions, which no sanitizer watches, and everything would pass."""
    engine = Path(softras.__file__).parent
    assert asked(engine.parent).stdout.strip() == cpu.description()
    shutil.copytree(engine, tmp_path / "softras", ignore=shutil.ignore_patterns("_native", "__pycache__"))
    refused = asked(tmp_path)
    assert refused.returncode == 1 and "there is no native library for this machine" in refused.stderr
