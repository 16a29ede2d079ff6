"""The snippets of docs/shading.md run, and print the shapes that their comments say."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

PAGE = Path(__file__).resolve().parents[2] / "docs" / "shading.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def run(*numbers: int) -> dict[str, Any]:
    """The names that snippets leave behind, one after the other."""
    names: dict[str, Any] = {}
    for number in numbers:
        exec(SNIPPETS[number], names)
    return names


def test_a_mip_chain_is_read():
    names = run(0)
    assert names["chain"].sizes == [(5, 8), (2, 4), (1, 2), (1, 1)]
    assert names["colors"].shape == (2, 3) and names["texture"].grad.abs().sum() > 0


def test_surface_textures_are_made():
    assert run(1)["surface"].shape == (1, 16, 3)


def test_a_lamp_shines():
    names = run(2)
    distance2 = 2.0**2 + 3.0**2
    expected = 0.2 + torch.tensor([[9.0, 8.0, 7.0]]) / distance2 * 3 / distance2**0.5
    torch.testing.assert_close(
        names["softras"].diffuse_light(names["lights"], names["points"], names["normals"]), expected
    )


def test_meshes_are_shaded():
    names = run(3)
    assert names["flat"].shape == (4, 3) and names["glossy"].shape == (2, 4, 3)


def test_shaded_meshes_are_rendered(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(PAGE.parents[1])
    names = run(4, 5)
    seen = (names["weight"] > 0.999).expand(-1, 3, -1, -1)
    phong, gouraud, flat = (names[kind] for kind in ("phong", "gouraud", "flat"))
    assert seen[:, 0].sum() > 500 and (phong[:, :, 0, 0] == 1).all()
    assert (phong - gouraud)[seen].abs().mean() < 0.01  # the same light on small faces
    assert (phong - flat)[seen].abs().mean() < 0.06 and (phong - flat)[seen].mean() > 0  # without highlights
    assert (
        names["image"][seen].max() < 0.97 * names["light"].max() <= 0.97
    )  # texels are less than 1, their means more so
    assert (names["texture"].grad >= 0).all() and names["texture"].grad.sum() > 0
    assert len(SNIPPETS) == 6
