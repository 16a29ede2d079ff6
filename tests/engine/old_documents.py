"""Documents of version 1: what Softras wrote before there were versions, and what scripts still write."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image


def make_old_views(folder: Path) -> None:
    """Rewrite a views folder in version 1: cameras spread over the views, pixel centres on integers, "image"."""
    document = json.loads((folder / "cameras.json").read_text())
    del document["version"]
    for entry in document["views"]:
        camera = entry.pop("camera")
        matrix = np.array(camera.pop("world_to_camera"))
        K = np.array(camera.pop("K"))
        K[:2, 2] -= 0.5
        entry.update(camera, K=K.tolist(), R=matrix[:3, :3].tolist(), t=matrix[:3, 3].tolist())
        if "photo" in entry:
            entry["image"] = entry.pop("photo")
        for mark in entry.get("landmarks", []):
            mark["pixel"] = [mark["pixel"][0] - 0.5, mark["pixel"][1] - 0.5]
    (folder / "cameras.json").write_text(json.dumps(document))


def make_old_job(folder: Path) -> None:
    """Rewrite a job folder in version 1: masks as numbered arrays, every field of a view written out."""
    document = json.loads((folder / "job.json").read_text())
    del document["version"]
    document["protocol"] = 1  # stood there in its place
    for number, entry in enumerate(document["views"]):
        for kind in ("mask", "ignore"):
            if kind in entry:
                path = folder / entry.pop(kind)
                pixels = np.asarray(Image.open(path))
                path.unlink()
                new = folder / ("masks" if kind == "mask" else "ignore") / f"{number:04d}.npy"
                np.save(new, pixels if kind == "mask" else pixels > 0)
        entry["ignore"] = (folder / "ignore" / f"{number:04d}.npy").exists()
        for key, default in (("photo", None), ("weight", 1.0), ("frame", 0), ("landmarks", [])):
            entry.setdefault(key, default)
    (folder / "job.json").write_text(json.dumps(document))
