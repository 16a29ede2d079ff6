"""The snippets of docs/shading.md run, and print the shapes that their comments say."""

import re
from pathlib import Path
from typing import Any

import torch

PAGE = Path(__file__).resolve().parents[2] / "docs" / "shading.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def run(number: int) -> dict[str, Any]:
    """The names that a snippet leaves behind."""
    names: dict[str, Any] = {}
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
    assert len(SNIPPETS) == 4
