"""What the operators `torch.ops.softras.*` check where they are called directly: that no kernel reads past a tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import checks
from ..errors import InputError
from . import arguments
from .images import conorms, distributions, textures
from .images.modes import DISTANCES, Choices, Numbers


def fitting(name: str, tensor: Tensor, shape: Sequence[int], like: Tensor, dtype: torch.dtype | None = None) -> None:
    """InputError unless the tensor has the shape, and dtype and device of another one."""
    dtype = dtype or like.dtype
    if tuple(tensor.shape) != tuple(shape) or tensor.dtype != dtype or tensor.device != like.device:
        raise InputError(
            f"{name} must have shape {tuple(shape)}, {dtype}, on {like.device}, "
            f"not {tuple(tensor.shape)}, {tensor.dtype}, on {tensor.device}"
        )


def sized(name: str, tensor: Tensor, n: int) -> tuple[int, int]:
    """H and W of a tensor (N, H, W)."""
    if tensor.dim() != 3 or len(tensor) != n:
        raise InputError(f"{name} must have shape ({n}, H, W), not {tuple(tensor.shape)}")
    return tensor.shape[1], tensor.shape[2]


def check_pixels(pixels: Tensor, count: int) -> None:
    """Places among so many pixels, ascending."""
    fitting("pixels", pixels, (pixels.numel(),), pixels, torch.int64)
    if not arguments.readable(pixels) or not pixels.numel():
        return
    if int(pixels[0]) < 0 or int(pixels[-1]) >= count or not (pixels[1:] > pixels[:-1]).all():
        raise InputError(f"pixels must ascend from 0 to at most {count - 1}")


def check_images(
    scene: tuple,
    far: Tensor,
    look: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
    numbers: Sequence[float],
    choices: Sequence[int],
) -> None:
    """scene: as `arguments.scene` gives it; look: attributes, their faces, background, texels and face levels."""
    vertices, faces, K = scene[:3]
    attributes, attribute_faces, background, texels, face_levels = look
    if len(numbers) != len(Numbers._fields) or len(choices) != len(Choices._fields):
        raise InputError(
            f"numbers must be {len(Numbers._fields)} and choices {len(Choices._fields)}; see raster/images/modes.py"
        )
    number, c, n = Numbers(*numbers), Choices(*choices), len(K)
    for name, value in number._asdict().items():
        least = {"gamma": 1e-7, "radius": 0.0}.get(name, -checks.LARGEST)
        checks.number(name, value, least)
    most = {
        "distance": len(DISTANCES) - 1,
        "distribution": len(distributions.DISTRIBUTIONS) - 1,
        "conorm": len(conorms.CONORMS) - 1,
        "texture": 2,
        "wrap": len(textures.WRAPS) - 1,
    } | dict.fromkeys(("plain", "squared", "lit", "shared_texels", "wants_nearest", "wants_texels"), 1)
    for name, value in c._asdict().items():
        checks.whole(name, value, 0, most.get(name, 1 << 24))
    fitting("far", far, (n,), vertices, torch.float64)
    width = attributes.shape[-1] if attributes.dim() in (2, 3) else -1
    used = (2 if c.texture == 2 else 0) + (c.texture_channels if c.lit else 0)
    shown = c.texture_channels if c.texture else 0
    if width < used or c.channels != shown + width - used or (c.lit and not c.texture):
        raise InputError(f"attributes of shape {tuple(attributes.shape)} do not make {c.channels} channels")
    per_view = () if attributes.dim() == 2 else (n,)
    fitting("attributes", attributes, (*per_view, attributes.shape[-2], width), vertices)
    fitting("attribute_faces", attribute_faces, faces.shape, faces)
    fitting("background", background, (n, c.channels), vertices)
    if c.texture == 1:
        of_view = () if c.shared_texels else (n,)
        fitting("texels", texels, (*of_view, len(faces), c.resolution**2, c.texture_channels), vertices)
    if c.texture == 2:
        textures.MipChain(texels, c.texture_height, c.texture_width, c.levels).check()
        fitting("texels", texels, (len(texels), c.texture_channels), vertices)
        fitting("face_levels", face_levels, (n, len(faces)), vertices)
        if not c.shared_texels:
            raise InputError("a mip chain is shared by all views; shared_texels must be 1")
    if not c.texture:
        fitting("texels", texels, (0,), vertices)
    if c.texture != 2:
        fitting("face_levels", face_levels, (0,), vertices)


def check_saved(
    scene: tuple,
    grad_alpha: Tensor,
    grad_image: Tensor,
    image: Tensor,
    state: Tensor,
    depth: Tensor,
    weight: Tensor,
    choices: Sequence[int],
) -> None:
    """What the forward pass of images left for the backward pass, and the gradients that come in."""
    vertices, c, size = scene[0], Choices(*choices), depth.shape
    for name, tensor in (("grad_alpha", grad_alpha), ("depth", depth), ("weight", weight)):
        fitting(name, tensor, size, vertices)
    fitting("state", state, size, vertices, vertices.dtype if c.plain else torch.float64)
    for name, tensor in (("grad_image", grad_image), ("image", image)):
        fitting(name, tensor, (size[0], c.channels, *size[1:]), vertices)
