"""What the faces of a scene show: attributes, texture and background, as one named tuple."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...errors import InputError
from ...tensors import as_tensor
from .. import arguments, sums, transforms
from ..scene import Scene
from . import conorms, distributions, textures
from .modes import DISTANCES, Choices, Modes, Numbers


class Appearance(NamedTuple):
    """What the faces of a scene show and how that is blended. `appearance_of` makes one and checks it.

    attributes: (A, C), or (N, A, C) where each camera has its own; they are interpolated between the corners.
    attribute_faces: (F, 3) of the faces' dtype, the rows of the attributes at the corners of each face.
    background: (N, C) with C the channels of the image.
    texels: of a surface texture (F, R^2, T) or (N, F, R^2, T); of a mip chain (T, channels); without a texture (0,).
    face_levels: for a mip chain (N, F) by `textures.face_levels`; else (0,).
    far: (N,) float64, the depth of the far plane in scene units.
    numbers, choices: the modes and the layout of the texture, as the backends take them.

    The image has the channels of the texture, then the attributes that the texture does not use. A mip chain uses the
    first two as (u, v). With light, the texture uses as many of the next attributes as it has channels.
    """

    attributes: Tensor
    attribute_faces: Tensor
    background: Tensor
    texels: Tensor
    face_levels: Tensor
    far: Tensor
    numbers: Numbers
    choices: Choices

    @property
    def shared(self) -> bool:
        """Whether the attributes are the same in all cameras."""
        return self.attributes.dim() == 2

    @property
    def texel_count(self) -> int:
        """The number of texels, of one camera where each has its own."""
        c = self.choices
        views = 1 if c.shared_texels else max(1, len(self.far))
        return self.texels.numel() // max(1, c.texture_channels) // views

    def of_view(self, n: int) -> Appearance:
        """The appearance in camera n: no field has the dimension N."""
        return self._replace(
            attributes=self.attributes if self.shared else self.attributes[n],
            background=self.background[n],
            texels=self.texels if self.choices.shared_texels else self.texels[n],
            face_levels=self.face_levels[n] if self.choices.texture == textures.CHAIN else self.face_levels,
            far=self.far[n],
        )

    def shown(self, face: Tensor, barycentrics: Tensor, z: Tensor, orthographic: bool) -> Tensor:
        """(..., C) what faces (...) show at barycentrics (..., 3) and depths (...), in the appearance of one camera."""
        choices = self.choices
        values = (barycentrics[..., None] * sums.rows(self.attributes, self.attribute_faces.long()[face])).sum(-2)
        if choices.texture == textures.SURFACE:
            texels = textures.sample_surface_texture(self.texels, face, barycentrics)
        elif choices.texture == textures.CHAIN:
            chain = textures.MipChain(self.texels, choices.texture_height, choices.texture_width, choices.levels)
            level = textures.pixel_level(sums.rows(self.face_levels, face), z, orthographic)
            texels = textures.sample_chain(chain, values[..., :2], level, textures.WRAPS[choices.wrap])
            values = values[..., 2:]
        else:
            return values
        if choices.lit:
            channels = texels.shape[-1]
            texels, values = texels * values[..., :channels], values[..., channels:]
        return torch.cat([texels, values], -1)


class Drawn(NamedTuple):
    """What the forward pass of images leaves for its backward pass.

    image: (N, C, H, W).
    state: (N, H, W) the number from which the T-conorm gives alpha; float64 unless the modes are SoftRas's.
    depth: (N, H, W) the least depth of all fragments and the background at a pixel.
    weight: (N, H, W) the sum of the weights of all fragments and the background, relative to a weight at that depth.
    """

    image: Tensor
    state: Tensor
    depth: Tensor
    weight: Tensor


def appearance_of(
    scene: Scene,
    modes: Modes,
    far: Tensor,
    *,
    attributes: Tensor | None,
    attribute_faces: Tensor | None,
    texture: Tensor | textures.MipChain | None,
    wrap: str,
    lit: bool,
    background: Tensor | Sequence[float] | float,
    nearest: bool,
) -> Appearance:
    """Check the arguments of `images` and make an appearance of them. nearest: whether the nearest faces are wanted.

    Raises InputError for shapes, types and names that do not fit.
    """
    vertices, faces = scene.vertices, scene.faces
    attributes = vertices.new_zeros(1, 0) if attributes is None else arguments.tensor("attributes", attributes)
    if attribute_faces is None:
        _check_of_vertices(attributes, scene)
        attribute_faces = faces if attributes.shape[-1:] != (0,) else torch.zeros_like(faces)
    arguments.tensor("attribute_faces", attribute_faces)
    n = scene.K.shape[0]
    if attributes.dim() not in (2, 3) or (attributes.dim() == 3 and attributes.shape[0] != n):
        raise InputError(f"attributes must have shape (A, C) or ({n}, A, C), not {tuple(attributes.shape)}")
    if attribute_faces.shape != faces.shape:
        raise InputError(f"attribute_faces must have shape {tuple(faces.shape)}, not {tuple(attribute_faces.shape)}")
    if attribute_faces.dtype not in (torch.int32, torch.int64):
        raise InputError(f"attribute_faces must be int32 or int64, not {attribute_faces.dtype}")
    texels, layout = _texture(scene, texture, wrap)
    for name, tensor in (("attributes", attributes), ("texture", texels)):
        if tensor.dtype != vertices.dtype or tensor.device != faces.device:
            raise InputError(
                f"{name} must be {vertices.dtype} on {faces.device}, as vertices, not {tensor.dtype} on {tensor.device}"
            )
    if lit and texture is None:
        raise InputError("lit needs a texture; multiply the attributes themselves")
    channels = layout.get("texture_channels", 0)
    used = (2 if isinstance(texture, textures.MipChain) else 0) + (channels if lit else 0)
    if attributes.shape[-1] < used:
        raise InputError(f"the texture needs {used} attributes (u, v and light), not {attributes.shape[-1]}")
    choices = Choices(
        plain=modes.plain,
        distance=DISTANCES.index(modes.distance),
        squared=modes.squared,
        distribution=distributions.DISTRIBUTIONS[modes.distribution].index,
        conorm=conorms.CONORMS[modes.conorm].index,
        channels=channels + attributes.shape[-1] - used,
        wants_nearest=nearest,
        lit=lit,
        **layout,
    )
    return Appearance(
        attributes,
        attribute_faces.to(faces.dtype),
        _background(scene, background, choices.channels),
        texels,
        _face_levels(scene, texture, attributes, attribute_faces),
        far,
        modes.numbers,
        Choices(*map(int, choices)),
    )


def check_values(appearance: Appearance) -> None:
    """Raise InputError for numbers that are not finite and for indices out of range, as the kernels do."""
    attributes, texels, background = appearance.attributes, appearance.texels, appearance.background
    for name, tensor in (("attributes hold", attributes), ("texture holds", texels), ("background holds", background)):
        if not torch.isfinite(tensor).all():
            raise InputError(f"the {name} NaN or infinite numbers")
    _check_rows(appearance.attribute_faces, attributes)


def _check_rows(attribute_faces: Tensor, attributes: Tensor) -> None:
    rows = attribute_faces
    if rows.numel() and not 0 <= int(rows.min()) <= int(rows.max()) < attributes.shape[-2]:
        raise InputError("attribute_faces name attributes that do not exist")


def _check_of_vertices(attributes: Tensor, scene: Scene) -> None:
    """Refuse attributes whose number is not that of the vertices, if no attribute_faces say where they belong."""
    count = scene.vertices.shape[-2]
    if attributes.dim() not in (2, 3) or attributes.shape[-2] == count or not attributes.shape[-1]:
        return
    hint = "attribute_faces, the row of each corner of each face"
    if attributes.shape[-2] == len(scene.faces):
        hint = "attribute_faces=torch.arange(F)[:, None].expand(-1, 3) for colours of faces"
    raise InputError(f"attributes have {attributes.shape[-2]} rows, but the mesh has {count} vertices; give {hint}")


def _texture(scene: Scene, texture: Tensor | textures.MipChain | None, wrap: str) -> tuple[Tensor, dict[str, Any]]:
    """The texels, none without a texture, and their layout as fields of Choices."""
    if wrap not in textures.WRAPS:
        raise InputError(f"wrap must be one of {', '.join(textures.WRAPS)}, not {wrap!r}")
    if texture is None:
        return scene.vertices.new_zeros(0), {}
    if isinstance(texture, textures.MipChain):
        texture.check()
        return texture.texels, {
            "texture": textures.CHAIN,
            "texture_channels": texture.texels.shape[1],
            "texture_height": texture.height,
            "texture_width": texture.width,
            "levels": texture.levels,
            "wrap": textures.WRAPS.index(wrap),
        }
    shared = arguments.tensor("texture", texture).dim() == 3
    resolution = textures.surface_resolution(texture)
    n, count = scene.K.shape[0], len(scene.faces)
    if texture.shape[-3] != count or (not shared and texture.shape[0] != n):
        raise InputError(f"the texture must have texels of {count} faces, not shape {tuple(texture.shape)}")
    return texture, {
        "texture": textures.SURFACE,
        "texture_channels": texture.shape[-1],
        "resolution": resolution,
        "shared_texels": shared,
    }


def _background(scene: Scene, background: Tensor | Sequence[float] | float, channels: int) -> Tensor:
    """(N, channels)."""
    n = scene.K.shape[0]
    background = as_tensor("background", background, scene.vertices.dtype, scene.vertices.device)
    if background.dim() == 0:
        background = sums.spread(background, 0, channels)
    if tuple(background.shape) not in ((channels,), (n, channels)):
        raise InputError(
            f"the background must have {channels} channels, as the image, not shape {tuple(background.shape)}"
        )
    return sums.spread(background, 0, n) if background.dim() == 1 else background


def _face_levels(
    scene: Scene, texture: Tensor | textures.MipChain | None, attributes: Tensor, attribute_faces: Tensor
) -> Tensor:
    """(N, F) for a mip chain, else (0,). Indices are checked first, since corners are gathered by them here."""
    if not isinstance(texture, textures.MipChain):
        return scene.vertices.new_zeros(0)
    if not transforms.batched(scene.vertices, scene.K, scene.world_to_camera, attributes, attribute_faces):
        arguments.check_values(scene)
        _check_rows(attribute_faces, attributes)
    moving = scene.vertices, scene.faces, scene.K, scene.world_to_camera
    uv, size = attributes[..., :2], (texture.height, texture.width)
    return textures.face_levels(*moving, uv, attribute_faces, *size, orthographic=scene.orthographic)
