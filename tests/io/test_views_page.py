"""What docs/views.md shows is read, and its snippet runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from softras import Camera, load_views
from softras.job import Job

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "views.md").read_text()


def test_the_cameras_json_of_the_page_is_one(tmp_path: Path) -> None:
    (text,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "cameras.json").write_text(text)
    for name in ("masks", "photos"):
        (tmp_path / name).mkdir()
    Image.new("L", (640, 480)).save(tmp_path / "masks" / "left.png")
    Image.new("RGB", (640, 480)).save(tmp_path / "photos" / "left.jpg")
    (view,) = load_views(tmp_path)
    matrix = np.eye(4)
    matrix[2, 3] = 4
    assert view.camera == Camera([[1200, 0, 320], [0, 1200, 240], [0, 0, 1]], matrix, 640, 480)
    assert view.name == "left" and view.photo == tmp_path / "photos" / "left.jpg"


def test_every_key_of_a_view_is_on_the_page(tmp_path: Path) -> None:
    entry = json.loads((ROOT / "examples" / "data" / "spot" / "cameras.json").read_text())["views"][0]
    keys = {"ignore", "weight", "frame", "landmarks", *entry, *entry["camera"]}
    assert all(f"`{key}`" in PAGE for key in keys)


def test_the_snippet_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(code, {})
    photos = [view.photo for view in Job.load(tmp_path / "out" / "job").views]
    assert len(photos) == 12 and all(photo.parent == tmp_path / "out" / "job" / "photos" for photo in photos)
