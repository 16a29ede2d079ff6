"""Rendered images as a torch operator, `softras::images`: alpha and everything that faces show, in one pass.

The layers are those of silhouettes: this file checks and registers, `reference.py` defines, `image_cpu.py` and
`image_cuda.py` compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ... import checks
from ...errors import InputError, shown
from ...tensors import as_tensor
from .. import arguments, operands, transforms
from ..native import image_cpu, image_cuda
from ..silhouettes import ops
from ..sums import spread, total
from . import compat, conorms, distributions, fragments, textures
from . import reference as image_reference
from .modes import DISTANCES, Choices, Modes, Numbers, checked


class Rendering(NamedTuple):
    """What `images` gives.

    alpha: (N, H, W) the silhouette, 0..1. image: (N, C, H, W), row 0 on top, the background blended in. nearest:
    (N, H, W) int32, the nearest face that covers the pixel's centre, -1 for none; None where it was not asked for.
    """

    alpha: Tensor
    image: Tensor
    nearest: Tensor | None


def images(
    vertices: Tensor,
    faces: Tensor,
    K: Tensor,
    world_to_camera: Tensor,
    height: int,
    width: int,
    *,
    attributes: Tensor | None = None,
    attribute_faces: Tensor | None = None,
    texture: Tensor | textures.MipChain | None = None,
    wrap: str = "repeat",
    lit: bool = False,
    background: Tensor | Sequence[float] | float = 0.0,
    sigma: float = 1e-5,
    gamma: float = 1e-4,
    eps: float = 1e-3,
    dist_eps: float = distributions.LEVEL,
    near: Tensor | float | None = None,
    far: Tensor | float | None = None,
    orthographic: Tensor | None = None,
    cull: bool = False,
    colour: Literal["softmax", "hard"] = "softmax",
    nearest: bool = False,
    distance: Literal["euclidean", "barycentric", "hard"] = "euclidean",
    squared: bool = True,
    distribution: str = "logistic",
    shape: float = distributions.SHAPE,
    shift: float = 0.0,
    aggregation: str = "prod",
    power: float | None = None,
    softras_compat: bool = False,
) -> Rendering:
    """Alpha and images of a mesh in N cameras: SoftRas, and GenDR's generalisation of it, with correct gradients.

    A face covers a pixel by D of its signed distance; D of all faces make alpha by a T-conorm; what the faces show is
    blended by D exp((far - z) / (far - near) / gamma), over a background that lies at depth far - eps (far - near).
    reference.py has the formulas. Any number of channels in one pass: colours, normals, depth (an attribute whose
    value is the vertices' depth) are all attributes. Differentiable, once, with respect to vertices, K,
    world_to_camera, attributes, texture and background. Every face counts; memory: O(faces + pixels) times the
    channels, whatever the overdraw.

    Args:
        vertices, faces, K, world_to_camera, height, width, orthographic, cull: as for :func:`softras.silhouettes`.
        attributes: (A, C) or (N, A, C), interpolated perspective-correctly between the corners of a face.
        attribute_faces: (F, 3) int, the rows of attributes at the corners; default `faces`. Three equal numbers give a
            face one value.
        texture: (F, R * R, T) or (N, F, R * R, T), R^2 texels a face (SoftRas's surface texture); or a `MipChain`, read
            at (u, v), the first two attributes, in the level that a pixel's size on the face asks for.
        wrap: "repeat", "clamp" or "mirror": what lies outside the chain's image.
        lit: the T attributes that follow (u, v), or the first T beside a surface texture, multiply its colours.
        background: (C,) or (N, C), or one number, for the channels of the image: the texture's, then the attributes
            that are not used up by it.
        sigma: blur, in squared NDC (the shorter image side spans 2); in NDC if not `squared`.
        gamma: how sharply nearer faces hide others, at least 1e-7. eps: see above. dist_eps: a face with a smaller D
            does not count.
        near, far: (N,) or a number, scene units: what is not between them does not count, in alpha neither. Default:
            near is that of `silhouettes`, and nothing is too far: far - near is the power of ten that is 10 to 100
            times as much as the farthest vertex is beyond near, so that gamma means the same in metres and in
            millimetres: 100, nearly SoftRas's, where that vertex is 1 to 10 units away. With softras_compat 1 and 100.
        colour: "softmax" as above, or "hard": what the nearest face at the pixel's centre shows.
        nearest: find the nearest faces, for `softras.fragments_of`.
        distance: "euclidean" to the nearest edge, "barycentric" (the least barycentric coordinate), or "hard" (none).
        squared: D of the distance's square over sigma, or of the distance over sigma.
        distribution, shape, shift: D, one of `softras.DISTRIBUTIONS`, and its parameters.
        aggregation, power: one of `softras.CONORMS` and its parameter; "prod", "sum" and "hard" are SoftRas's.
        softras_compat: what SoftRas's public code gives, quirks included, slowly, to compare with published results;
            compat.py lists them.

    Raises:
        ValueError: a wrong shape, dtype or device, an index out of range, NaN or infinite input, a setting out
            of range.
    """
    if near is None:
        near = compat.NEAR if softras_compat else arguments.NEAR
    args = arguments.scene(vertices, faces, K, world_to_camera, height, width, sigma, orthographic, near, cull)
    modes = Modes(args[6], gamma, eps, distance, squared, distribution, shape, shift, aggregation)
    modes = checked(modes, len(faces), dist_eps=dist_eps, power=power)
    height, width, _, orthographic, front, cull = args[4:]
    scene = vertices, faces, K, world_to_camera, height, width
    n, dtype, device = K.shape[0], vertices.dtype, vertices.device
    if far is None:
        back = front.new_full((n,), compat.FAR) if softras_compat else _far(vertices, world_to_camera, front)
    else:
        back = arguments.plane("far", far, n).to(device)
        arguments.check_far(front, back)
    planes = front, back
    flags = {"lit": lit, "nearest": nearest, "softras_compat": softras_compat}
    lit, nearest, softras_compat = (checks.flag(name, value) for name, value in flags.items())
    if colour not in ("softmax", "hard"):
        raise InputError(f"colour must be softmax or hard, not {shown(colour)}")
    attributes = vertices.new_zeros(1, 0) if attributes is None else arguments.tensor("attributes", attributes)
    if attribute_faces is None:
        _check_of_vertices(attributes, vertices, faces)
        attribute_faces = faces if attributes.shape[-1:] != (0,) else torch.zeros_like(faces)
    choices = _choices(
        modes, n, vertices, faces, attributes, attribute_faces, texture, wrap, lit, nearest or colour == "hard"
    )
    background = as_tensor("background", background, dtype, device)
    if background.dim() == 0:
        background = spread(background, 0, choices.channels)
    if tuple(background.shape) not in ((choices.channels,), (n, choices.channels)):
        raise InputError(
            f"the background must have {choices.channels} channels, as the image, not shape {tuple(background.shape)}"
        )
    if background.dim() == 1:
        background = spread(background, 0, n)
    texels, levels = vertices.new_zeros(0), vertices.new_zeros(0)
    if isinstance(texture, Tensor):
        texels = texture
    elif texture is not None:
        texels, size = texture.texels, (texture.height, texture.width)
        if not transforms.batched(vertices, K, world_to_camera, attributes, attribute_faces):
            ops.check_values(vertices, faces, K, world_to_camera)  # which are looked up here
            _check_rows(attribute_faces, attributes)
        uv = attributes[..., :2]
        levels = textures.face_levels(
            vertices, faces, K, world_to_camera, uv, attribute_faces, *size, orthographic=orthographic
        )
    look = attributes, attribute_faces.to(faces.dtype), background, texels, levels
    appearance = appearance_of(attributes, attribute_faces, texels, levels, choices)
    native = ops.computes(vertices) and not softras_compat
    if not native:
        transforms.refuse("rendering with softras_compat or without the native library")
        ops.check_values(vertices, faces, K, world_to_camera)
        check_values(*look)
    if softras_compat:
        alpha, image, face = compat.images(*scene, appearance, background, modes, colour, orthographic, *planes, cull)
        return Rendering(alpha, image, face if choices.wants_nearest else None)
    if native:
        numbers = Numbers(
            modes.sigma, modes.gamma, modes.eps, modes.shape, modes.shift, modes.power, modes.cutoff, modes.reach
        )
        inputs = *scene, orthographic, *planes, cull, *look, [float(x) for x in numbers], [int(x) for x in choices]
        run = _Transformed.apply if transforms.active() else _images if ops.dispatches(vertices) else _Eager.apply
        alpha, image, face, *_ = run(*inputs)
    else:
        alpha, image, face = image_reference.images(*scene, appearance, background, modes, orthographic, *planes, cull)
    if colour == "hard":
        image = fragments.shade(*scene[:4], face, appearance, background, orthographic)
    return Rendering(alpha, image, face if choices.wants_nearest else None)


def _far(vertices: Tensor, world_to_camera: Tensor, near: Tensor) -> Tensor:
    """(N,) the far plane where none is given, see `images`: it moves by steps, so that gradients miss nothing."""
    with torch.no_grad():
        x, y, z, shift = (world_to_camera[:, 2, k, None].double() for k in range(4))
        depth = vertices[..., 0] * x + vertices[..., 1] * y + vertices[..., 2] * z + shift  # (N, V)
        farthest = depth.amax(1) - near if depth.shape[1] else torch.zeros_like(near)
        farthest = farthest.maximum(1e-6 * near.abs())  # of what is behind the camera, whatever is more than nothing
        return near + 10 ** (torch.where(farthest > 0, farthest, 1).log10().ceil() + 1)


def _check_of_vertices(attributes: Tensor, vertices: Tensor, faces: Tensor) -> None:
    """Refuse attributes that are not of vertices, where nothing says whose they are."""
    count = vertices.shape[-2]
    if attributes.dim() not in (2, 3) or attributes.shape[-2] == count or not attributes.shape[-1]:
        return
    hint = "attribute_faces, the row of each corner of each face"
    if attributes.shape[-2] == len(faces):
        hint = "attribute_faces=torch.arange(F)[:, None].expand(-1, 3) for colours of faces"
    raise InputError(f"attributes have {attributes.shape[-2]} rows, but the mesh has {count} vertices; give {hint}")


def check_values(
    attributes: Tensor, attribute_faces: Tensor, background: Tensor, texels: Tensor, levels: Tensor
) -> None:
    """What the kernels find out on their way: finite values and indices in range."""
    for name, tensor in (("attributes hold", attributes), ("texture holds", texels), ("background holds", background)):
        if not torch.isfinite(tensor).all():
            raise InputError(f"the {name} NaN or infinite numbers")
    _check_rows(attribute_faces, attributes)


def _check_rows(attribute_faces: Tensor, attributes: Tensor) -> None:
    rows = attribute_faces
    if rows.numel() and not 0 <= int(rows.min()) <= int(rows.max()) < attributes.shape[-2]:
        raise InputError("attribute_faces name attributes that do not exist")


def appearance_of(
    attributes: Tensor, attribute_faces: Tensor, texels: Tensor, levels: Tensor, choices: Choices
) -> image_reference.Appearance:
    """The same for the definition."""
    surface = texels if choices.texture == 1 else None
    chain = None
    if choices.texture == 2:
        chain = textures.MipChain(texels, choices.texture_height, choices.texture_width, choices.levels)
    wrap = textures.WRAPS[choices.wrap]
    return image_reference.Appearance(
        attributes, attribute_faces, surface, chain, levels if chain else None, wrap, bool(choices.lit)
    )


def _choices(
    modes: Modes,
    n: int,
    vertices: Tensor,
    faces: Tensor,
    attributes: Tensor,
    attribute_faces: Tensor,
    texture: Tensor | textures.MipChain | None,
    wrap: str,
    lit: bool,
    nearest: bool,
) -> Choices:
    """The choices by number. Raises ValueError for shapes and names that do not fit."""
    arguments.tensor("attributes", attributes)
    arguments.tensor("attribute_faces", attribute_faces)
    if attributes.dim() not in (2, 3) or (attributes.dim() == 3 and attributes.shape[0] != n):
        raise InputError(f"attributes must have shape (A, C) or ({n}, A, C), not {tuple(attributes.shape)}")
    if attribute_faces.shape != faces.shape:
        raise InputError(f"attribute_faces must have shape {tuple(faces.shape)}, not {tuple(attribute_faces.shape)}")
    if attribute_faces.dtype not in (torch.int32, torch.int64):
        raise InputError(f"attribute_faces must be int32 or int64, not {attribute_faces.dtype}")
    texels = texture.texels if isinstance(texture, textures.MipChain) else texture
    if isinstance(texture, textures.MipChain):
        texture.check()
    if texels is not None:
        arguments.tensor("texture", texels)
    for name, tensor in (("attributes", attributes), ("texture", texels)):
        if tensor is not None and (tensor.dtype != vertices.dtype or tensor.device != faces.device):
            raise InputError(
                f"{name} must be {vertices.dtype} on {faces.device}, as vertices, not {tensor.dtype} on {tensor.device}"
            )
    if wrap not in textures.WRAPS:
        raise InputError(f"wrap must be one of {', '.join(textures.WRAPS)}, not {wrap!r}")
    used, extra = 0, {}
    if isinstance(texture, textures.MipChain):
        used = 2
        extra = {"texture": 2, "texture_channels": texture.texels.shape[1], "levels": texture.levels}
        extra |= {"texture_height": texture.height, "texture_width": texture.width, "wrap": textures.WRAPS.index(wrap)}
    elif texture is not None:
        shared = texture.dim() == 3
        resolution = textures.surface_resolution(texture if shared else texture[0])
        if texture.shape[-3] != len(faces) or (not shared and texture.shape[0] != n):
            raise InputError(f"the texture must have texels of {len(faces)} faces, not shape {tuple(texture.shape)}")
        extra = {"texture": 1, "texture_channels": texture.shape[-1], "resolution": resolution, "shared_texels": shared}
    channels = extra.get("texture_channels", 0)
    if lit and texture is None:
        raise InputError("lit needs a texture; multiply the attributes themselves")
    used += channels if lit else 0
    if attributes.shape[-1] < used:
        raise InputError(f"the texture needs {used} attributes (u, v and light), not {attributes.shape[-1]}")
    return Choices(
        plain=modes.plain,
        distance=DISTANCES.index(modes.distance),
        squared=modes.squared,
        distribution=distributions.DISTRIBUTIONS[modes.distribution].index,
        conorm=conorms.CONORMS[modes.conorm].index,
        channels=channels + attributes.shape[-1] - used,
        wants_nearest=nearest,
        lit=lit,
        **extra,
    )


def compute(name: str, *args):
    """The function of that name of the backend that the tensors are for."""
    return ops.compute(name, *args, on_cpu=image_cpu, on_gpu=image_cuda)


def _compute_images(*inputs):
    return compute("images", *inputs[:-2], Numbers(*inputs[-2]), Choices(*inputs[-1]))


def _compute_backward(*inputs):
    return compute("images_backward", *inputs[:-2], Numbers(*inputs[-2]), Choices(*inputs[-1]))


@torch.library.custom_op("softras::images", mutates_args=())
def _images(
    vertices: Tensor,
    faces: Tensor,
    K: Tensor,
    world_to_camera: Tensor,
    height: int,
    width: int,
    orthographic: Tensor,
    near: Tensor,
    far: Tensor,
    cull: bool,
    attributes: Tensor,
    attribute_faces: Tensor,
    background: Tensor,
    texels: Tensor,
    face_levels: Tensor,
    numbers: Sequence[float],
    choices: Sequence[int],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    sigma = numbers[0] if numbers else 0.0
    args = arguments.scene(vertices, faces, K, world_to_camera, height, width, sigma, orthographic, near, cull)
    look = attributes, attribute_faces, background, texels, face_levels
    operands.check_images(args, far, look, numbers, choices)
    return _compute_images(*args[:6], *args[7:9], far, cull, *look, numbers, choices)


@_images.register_fake
def _(vertices, faces, K, world_to_camera, height, width, *rest):
    choices = Choices(*rest[-1])
    size = K.shape[0], height, width
    plane = [vertices.new_empty(size) for _ in range(3)]
    nearest = vertices.new_empty(size if choices.wants_nearest else 0, dtype=torch.int32)
    state = vertices.new_empty(size, dtype=vertices.dtype if choices.plain else torch.float64)
    image = vertices.new_empty(size[0], choices.channels, height, width)
    return plane[0], image, nearest, state, plane[1], plane[2]


@torch.library.custom_op("softras::images_backward", mutates_args=())
def _images_backward(
    grad_alpha: Tensor,
    grad_image: Tensor,
    image: Tensor,
    state: Tensor,
    depth: Tensor,
    weight: Tensor,
    vertices: Tensor,
    faces: Tensor,
    K: Tensor,
    world_to_camera: Tensor,
    orthographic: Tensor,
    near: Tensor,
    far: Tensor,
    cull: bool,
    attributes: Tensor,
    attribute_faces: Tensor,
    background: Tensor,
    texels: Tensor,
    face_levels: Tensor,
    numbers: Sequence[float],
    choices: Sequence[int],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    saved = grad_alpha, grad_image, image, state, depth, weight
    sigma, size = numbers[0] if numbers else 0.0, operands.sized("depth", depth, len(K))
    args = arguments.scene(vertices, faces, K, world_to_camera, *size, sigma, orthographic, near, cull)
    look = attributes, attribute_faces, background, texels, face_levels
    operands.check_images(args, far, look, numbers, choices)
    operands.check_saved(args, *saved, choices)
    scene = *args[:4], *args[7:9], far, cull
    return _compute_backward(*saved, *scene, *look, numbers, choices)


@_images_backward.register_fake
def _(grad_alpha, grad_image, image, state, depth, weight, vertices, faces, K, world_to_camera, *rest):
    attributes, _, _, texels, face_levels = rest[4:9]
    texels = texels if Choices(*rest[-1]).wants_texels else texels.new_empty(0)
    return tuple(
        torch.empty_like(x, memory_format=torch.contiguous_format)
        for x in (vertices, K, world_to_camera, attributes, texels, face_levels)
    )


def _save(ctx, inputs, output) -> None:
    _, image, _, state, depth, weight = output
    ctx.cull, ctx.numbers, ctx.choices = inputs[9], inputs[15], inputs[16]
    ctx.save_for_backward(*inputs[:4], *inputs[6:9], *inputs[10:15], image, state, depth, weight)
    ctx.set_materialize_grads(False)


def _gradients(ctx, grad_alpha, grad_image, backward):
    *tensors, image, state, depth, weight = ctx.saved_tensors
    vertices, faces, K, world_to_camera, orthographic, near, far = tensors[:7]
    attributes, attribute_faces, background, texels, face_levels = tensors[7:]
    grad_alpha = torch.zeros_like(depth) if grad_alpha is None else grad_alpha
    grad_image = torch.zeros_like(image) if grad_image is None else grad_image
    gv, gk, gw, ga, gt, gl = backward(
        *(grad_alpha, grad_image, image, state, depth, weight),
        *(vertices, faces, K, world_to_camera, orthographic, near, far, ctx.cull),
        *(attributes, attribute_faces, background, texels, face_levels, ctx.numbers),
        list(Choices(*ctx.choices)._replace(wants_texels=int(ctx.needs_input_grad[13]))),
    )
    gb = None
    gt = gt if ctx.needs_input_grad[13] else None
    if ctx.needs_input_grad[12]:
        share = background_share(depth, weight, near, far, Numbers(*ctx.numbers))
        gb = total((grad_image * share[:, None]).flatten(2), 2)
    return gv, None, gk, gw, None, None, None, None, None, None, ga, None, gb, gt, gl, None, None


def _backward(ctx, grad_alpha, grad_image, *_):
    return _gradients(ctx, grad_alpha, grad_image, _images_backward)


class _Eager(torch.autograd.Function):
    """The operator without the dispatcher's half a millisecond, for plain tensors outside a compiler."""

    @staticmethod
    def forward(ctx, *inputs):
        outputs = _compute_images(*inputs)
        ctx.mark_non_differentiable(*outputs[2:])
        _save(ctx, inputs, outputs)
        return outputs

    @staticmethod
    def backward(ctx, grad_alpha, grad_image, *_):
        watched = torch.is_grad_enabled() or transforms.active(grad_alpha, grad_image)
        return _gradients(ctx, grad_alpha, grad_image, _Gradients.apply if watched else _compute_backward)


class _Transformed(transforms.Transformable):
    """The operator under torch.func's transforms; in forward mode it is refused."""

    @staticmethod
    def forward(*inputs):
        orthographic, near, far = inputs[6:9]
        arguments.check_near(near, orthographic)
        arguments.check_far(near, far)  # which under vmap had no one value before
        return _images(*inputs)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mark_non_differentiable(*output[2:])
        _save(ctx, inputs, output)

    @staticmethod
    def backward(ctx, grad_alpha, grad_image, *_):
        return _gradients(ctx, grad_alpha, grad_image, _Gradients.apply)

    @staticmethod
    def jvp(ctx, *tangents):
        transforms.refuse_forward_mode("softras.images")


class _Gradients(transforms.Derivative):
    operator = "softras.images"

    @staticmethod
    def forward(*inputs):
        return _images_backward(*inputs)


def background_share(depth: Tensor, weight: Tensor, near: Tensor, far: Tensor, numbers: Numbers) -> Tensor:
    """(N, H, W) how much of a pixel's image is background, from the least depth and the sum of weights beside it."""
    behind = (far - numbers.eps * (far - near)).to(depth.dtype)[:, None, None]  # rounded as the kernels' least depth
    exponent = (depth - behind) / (numbers.gamma * (far - near))[:, None, None]
    return (exponent.clamp_max(0).exp() / weight).to(depth.dtype)


_images.register_autograd(_backward, setup_context=_save)
_images_backward.register_autograd(transforms.refuse_twice("softras.images"))
