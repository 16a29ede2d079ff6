"""Checks of the operators `torch.ops.softras.*`, which anybody may call directly: no kernel reads past a tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import checks
from ..errors import InputError
from . import arguments
from .images import conorms, distributions, textures
from .images.appearance import Appearance, Drawn
from .images.modes import DISTANCES, Choices, Numbers
from .scene import Scene


def fitting(name: str, tensor: Tensor, shape: Sequence[int], like: Tensor, dtype: torch.dtype | None = None) -> None:
    """Raise InputError unless a tensor has the shape and, as `like` has them, the device and (by default) the dtype."""
    dtype = dtype or like.dtype
    if tuple(tensor.shape) != tuple(shape) or tensor.dtype != dtype or tensor.device != like.device:
        raise InputError(
            f"{name} must have shape {tuple(shape)}, {dtype}, on {like.device}, "
            f"not {tuple(tensor.shape)}, {tensor.dtype}, on {tensor.device}"
        )


def check_pixels(pixels: Tensor, count: int) -> None:
    """Raise InputError unless `pixels` are ascending indices of `count` pixels."""
    fitting("pixels", pixels, (pixels.numel(),), pixels, torch.int64)
    if not arguments.readable(pixels) or not pixels.numel():
        return
    if int(pixels[0]) < 0 or int(pixels[-1]) >= count or not (pixels[1:] > pixels[:-1]).all():
        raise InputError(f"pixels must ascend from 0 to at most {count - 1}")


def appearance(scene: Scene, given: Appearance) -> Appearance:
    """Check an appearance. PyTorch passes its numbers and choices as lists; they come back as named tuples."""
    if len(given.numbers) != len(Numbers._fields) or len(given.choices) != len(Choices._fields):
        raise InputError(
            f"numbers must be {len(Numbers._fields)} and choices {len(Choices._fields)}; see raster/images/modes.py"
        )
    numbers, c, n = Numbers(*given.numbers), Choices(*given.choices), len(scene.K)
    for name, value in numbers._asdict().items():
        low, high = arguments.SIGMA if name == "sigma" else (-checks.LARGEST, checks.LARGEST)
        checks.number(name, value, {"gamma": 1e-7, "radius": 0.0}.get(name, low), high)
    most = {
        "distance": len(DISTANCES) - 1,
        "distribution": len(distributions.DISTRIBUTIONS) - 1,
        "conorm": len(conorms.CONORMS) - 1,
        "texture": textures.CHAIN,
        "wrap": len(textures.WRAPS) - 1,
    } | dict.fromkeys(("plain", "squared", "lit", "shared_texels", "wants_nearest", "wants_texels"), 1)
    for name, value in c._asdict().items():
        checks.whole(name, value, 0, most.get(name, 1 << 24))
    vertices, faces, attributes, texels = scene.vertices, scene.faces, given.attributes, given.texels
    fitting("far", given.far, (n,), vertices, torch.float64)
    width = attributes.shape[-1] if attributes.dim() in (2, 3) else -1
    used = (2 if c.texture == textures.CHAIN else 0) + (c.texture_channels if c.lit else 0)
    shown = c.texture_channels if c.texture else 0
    if width < used or c.channels != shown + width - used or (c.lit and not c.texture):
        raise InputError(f"attributes of shape {tuple(attributes.shape)} do not make {c.channels} channels")
    per_view = () if attributes.dim() == 2 else (n,)
    fitting("attributes", attributes, (*per_view, attributes.shape[-2], width), vertices)
    fitting("attribute_faces", given.attribute_faces, faces.shape, faces)
    fitting("background", given.background, (n, c.channels), vertices)
    if c.texture == textures.SURFACE:
        of_view = () if c.shared_texels else (n,)
        fitting("texels", texels, (*of_view, len(faces), c.resolution**2, c.texture_channels), vertices)
    elif c.texture == textures.CHAIN:
        textures.MipChain(texels, c.texture_height, c.texture_width, c.levels).check()
        fitting("texels", texels, (len(texels), c.texture_channels), vertices)
        if not c.shared_texels:
            raise InputError("a mip chain is shared by all views; shared_texels must be 1")
    else:
        fitting("texels", texels, (0,), vertices)
    fitting("face_levels", given.face_levels, (n, len(faces)) if c.texture == textures.CHAIN else (0,), vertices)
    return given._replace(numbers=numbers, choices=c)


def check_drawn(scene: Scene, appearance: Appearance, drawn: Drawn, grad_alpha: Tensor, grad_image: Tensor) -> None:
    """Check what the forward pass of images has left for its backward pass, and the gradients that come in."""
    vertices, c, (n, height, width) = scene.vertices, appearance.choices, scene.size
    for name, tensor in (("grad_alpha", grad_alpha), ("depth", drawn.depth), ("weight", drawn.weight)):
        fitting(name, tensor, scene.size, vertices)
    fitting("state", drawn.state, scene.size, vertices, vertices.dtype if c.plain else torch.float64)
    for name, tensor in (("grad_image", grad_image), ("image", drawn.image)):
        fitting(name, tensor, (n, c.channels, height, width), vertices)
