"""One picture file of many images, for the examples beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

LINE = 16  # pixels that a line of text needs


def save_grid(
    path: Path, rows: Sequence[Sequence[Tensor]], columns: Sequence[str] = (), names: Sequence[str] = (), scale: int = 1
) -> None:
    """Save rows of images (3, H, W) or (H, W), in 0..1 and of one size; titles of columns on top, names of rows left.

    scale: pixels of the file for each of an image.
    """
    height, width = (scale * x for x in rows[0][0].shape[-2:])
    left, top = 7 * max((len(name) + 2 for name in names), default=0), LINE if columns else 0
    sheet = Image.new("RGB", (left + width * max(map(len, rows)), top + height * len(rows)), "white")
    draw = ImageDraw.Draw(sheet)
    for i, title in enumerate(columns):
        draw.text((left + (i + 0.5) * width, LINE / 2), title, "black", anchor="mm")
    for j, row in enumerate(rows):
        if names:
            draw.text((left / 2, top + (j + 0.5) * height), names[j], "black", anchor="mm")
        for i, image in enumerate(row):
            rgb = image.detach().cpu().expand(3, *image.shape[-2:]).permute(1, 2, 0).clamp(0, 1).numpy()
            pixels = np.round(255 * rgb).astype(np.uint8).repeat(scale, 0).repeat(scale, 1)
            sheet.paste(Image.fromarray(pixels), (left + i * width, top + j * height))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    print(f"wrote {path}")
