"""Writes dist/softras-VERSION.zip: the Blender extension with the engine inside.

    python build_addon.py [--out FOLDER]

Standard library only. The same tree gives the same bytes. Native libraries go in as they lie in
engine/softras/_native (`python csrc/build.py --all` makes those of every platform first).
"""

from __future__ import annotations

import argparse
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
EXTENSION = ROOT / "blender_softras"
ENGINE = ROOT / "engine" / "softras"
_DATE = (2000, 1, 1, 0, 0, 0)  # of every file in the archive, so that it does not depend on the day
_LEFT_OUT = {".pyc", ".pyo", ".part"}


def contents() -> dict[str, Path]:
    """What goes into the archive: path inside -> file."""
    files = {path.relative_to(EXTENSION).as_posix(): path for path in EXTENSION.rglob("*") if _wanted(path)}
    files |= {
        f"engine/softras/{path.relative_to(ENGINE).as_posix()}": path for path in ENGINE.rglob("*") if _wanted(path)
    }
    files["LICENSE"] = ROOT / "LICENSE"
    files["engine/LICENSE"] = ROOT / "engine" / "LICENSE"
    return files


def build(folder: Path) -> Path:
    """Write the archive into folder and return its path."""
    manifest = tomllib.loads((EXTENSION / "blender_manifest.toml").read_text())
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{manifest['id']}-{manifest['version']}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, source in sorted(contents().items()):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, source.read_bytes())
    return path


def _wanted(path: Path) -> bool:
    hidden = any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(ROOT).parts)
    return path.is_file() and not hidden and path.suffix not in _LEFT_OUT


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="the folder to write into")
    path = build(parser.parse_args().out)
    print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
