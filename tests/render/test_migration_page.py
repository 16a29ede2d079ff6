"""docs/migration.md: its snippets run, what it says of them holds, and every name that it gives exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh

import softras

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


def snippets(section: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", SECTIONS[section], re.MULTILINE | re.DOTALL)


def run(code: list[str]) -> dict[str, Any]:
    """The names that snippets leave behind, one after the other."""
    names: dict[str, Any] = {}
    for part in code:
        exec(part, names)
    return names


def test_softras_pictures_are_rendered_in_either_way() -> None:
    names = run(snippets("SoftRas")[:-1])
    eye = 2.732 * np.array([0.75**0.5 * 0.5**0.5, 0.5, -(0.75**0.5) * 0.5**0.5])  # SoftRas's for 30 and 45 degrees
    camera = softras.camera_from_softras_look_at(eye, 64, viewing_angle=30)
    np.testing.assert_allclose(names["world_to_camera"][0], camera.world_to_camera, atol=1e-6)
    np.testing.assert_allclose(names["K"][0], camera.K, rtol=1e-6)
    assert names["rgba"].shape == (1, 4, 64, 64) and names["alpha"].max() > 0.99
    torch.testing.assert_close(names["same"].alpha, names["alpha"], atol=1e-3, rtol=0)
    torch.testing.assert_close(names["same"].image, names["rgba"][:, :3], atol=1e-3, rtol=0)
    torch.testing.assert_close(names["published"].alpha, names["alpha"], atol=1e-3, rtol=0)
    assert 0.01 < (names["published"].image - names["rgba"][:, :3]).abs().max() < 0.2  # affine colours
    assert names["texture"].grad.abs().sum() > 0 and names["vertices"].grad.abs().sum() > 0


def test_the_aeroplane_script_deforms_a_sphere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On files like SoftRas's: RGBA of a flat ellipsoid by its cameras, and a sphere."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "obj" / "sphere").mkdir(parents=True)
    sphere = trimesh.creation.icosphere(2)
    softras.save_mesh("data/obj/sphere/sphere_1352.obj", softras.Mesh(sphere.vertices, sphere.faces.astype(np.int32)))
    angles = np.array([[2.732, elevation, azimuth] for elevation in (-30, 30) for azimuth in (0, -45, -90, -135)])
    np.save("data/camera.npy", angles.astype(np.float32))
    d, el, az = angles[:, 0], np.radians(angles[:, 1]), np.radians(angles[:, 2])
    eyes = d * np.stack([np.cos(el) * np.sin(az), np.sin(el), -np.cos(el) * np.cos(az)])
    cameras = [softras.camera_from_softras_look_at(eye, 64, viewing_angle=15) for eye in eyes.T]
    masks = softras.hard_silhouettes(sphere.vertices * (0.6, 0.15, 0.3) + (0.05, 0, 0), sphere.faces, cameras)
    np.save("data/source.npy", 255 * masks[:, None].expand(-1, 4, -1, -1).numpy().astype(np.uint8))

    names = run([snippets("SoftRas")[-1].replace("deform()", 'deform(steps=60, device="cpu")')])
    fitted = softras.load_mesh("plane.obj")
    iou = softras.silhouette_iou(softras.hard_silhouettes(fitted.vertices, fitted.faces, cameras), masks)
    assert names["loss"] < 0.5 * names["deform"](steps=1, device="cpu")[1]
    assert iou.min() > 0.6  # the start has 0.25 to 0.45


def test_culling_what_mirrored_pictures_turn_around() -> None:
    sphere = trimesh.creation.icosphere(1)
    camera = softras.camera_from_softras_look_at((0, 0, -3), 32)
    faces = torch.tensor(sphere.faces)

    depth = torch.tensor(sphere.vertices)[:, 2:] + 3
    settings = {"cull": True, "attributes": depth}
    front = softras.render_images(sphere.vertices, faces.flip(1), camera, **settings).image[0, 0, 16, 16]
    back = softras.render_images(sphere.vertices, faces, camera, **settings).image[0, 0, 16, 16]
    assert front < 2.1 and back > 3.9


def test_pytorch3d_scenes_are_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    names = run(snippets("PyTorch3D"))
    assert names["silhouettes"].shape == (3, 48, 64) and names["image"].shape == (3, 3, 48, 64)
    seen = names["silhouettes"] > 0.9
    assert (names["image"].amax(1)[seen] > 0.4).all() and (names["image"][:, :, 0, 0] == 1).all()
    assert names["texture"].grad.abs().sum() > 0 and names["moved"].grad.abs().sum() > 0
    covered = names["nearest"] >= 0
    assert torch.isfinite(names["fragments"].depth[covered]).all() and covered.any()


def test_every_name_exists() -> None:
    missing = {name for name in re.findall(r"softras\.([A-Za-z_]\w*)", PAGE) if not hasattr(softras, name)}
    assert not missing
    for name in set(re.findall(r"`(camera_(?:from|to)_\w+)", PAGE)):
        assert hasattr(softras, name), name
