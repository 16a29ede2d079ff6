"""Rendered images as operators of PyTorch, `softras::images`: alpha and everything that faces show, in one pass.

The layers are those of silhouettes: this file checks and registers, `reference.py` is the definition, the backends in
`raster/native` compute.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ... import checks
from ...errors import InputError, shown
from .. import arguments, operands, transforms
from ..native import backends
from ..operators import dispatches, operator
from ..scene import Scene
from ..sums import total
from . import compat, distributions, fragments, reference, textures
from .appearance import Appearance, Drawn, appearance_of, check_values
from .modes import Choices, Modes, Numbers, checked


class Rendering(NamedTuple):
    """The results of `images`.

    alpha: (N, H, W) the silhouette, 0..1.
    image: (N, C, H, W) what the faces show, blended with the background; row 0 on top.
    nearest: (N, H, W) int32, the nearest face that covers the pixel's centre, -1 for none; None if not asked for.
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

    The coverage of a pixel by a face is D, a cumulative distribution function of the face's signed distance. A T-conorm
    joins the coverages of all faces to alpha. What the faces show is blended with the weights
    D exp((far - z) / (far - near) / gamma), over a background at depth far - eps (far - near). reference.py has the
    formulas. One pass draws any number of channels: colours, normals and depth (an attribute whose value is the
    vertices' depth) are all attributes. Differentiable, once, with respect to vertices, K, world_to_camera, attributes,
    texture and background. No face is left out; memory: O(faces + pixels) times the channels, however many faces lie
    over each other.

    Args:
        vertices, faces, K, world_to_camera, height, width, orthographic, cull: as for `softras.silhouettes`.
        attributes: (A, C) or (N, A, C), interpolated perspective-correctly between the corners of a face.
        attribute_faces: (F, 3) int, the rows of attributes at the corners of each face; default `faces`. Three equal
            numbers give a face one value.
        texture: (F, R * R, T) or (N, F, R * R, T), a surface texture of R^2 texels a face (SoftRas's); or a `MipChain`,
            which is read at (u, v), the first two attributes, in the level that fits the size of a pixel on the face.
        wrap: what a chain shows outside its image: "repeat", "clamp" or "mirror".
        lit: multiply the texture's T colours by T attributes: those that follow (u, v), or the first ones beside a
            surface texture.
        background: (C,) or (N, C), or one number. The channels C of the image are those of the texture, then the
            attributes that the texture does not use.
        sigma: blur, in squared NDC (the shorter image side spans 2); in NDC if not `squared`.
        gamma: how sharply nearer faces hide others, at least 1e-7; small is sharp.
        eps: the depth of the background, see above.
        dist_eps: a face with a D below this does not count at the pixel.
        near, far: (N,) or a number, scene units: what is not between them does not count, in alpha neither. The default
            of near is that of `silhouettes`. The default of far leaves nothing out: far - near is the power of ten
            that is 10 to 100 times the distance of the farthest vertex beyond near, so that gamma means the same in
            metres and in millimetres; with that vertex 1 to 10 units away it is 100, nearly SoftRas's. With
            softras_compat the defaults are 1 and 100.
        colour: "softmax" as above, or "hard": what the nearest face at the pixel's centre shows.
        nearest: return the nearest faces, which `softras.fragments_of` takes.
        distance: "euclidean" from the nearest edge, "barycentric" (the least barycentric coordinate), or "hard" (none).
        squared: whether D is a function of the squared distance over sigma, or of the distance over sigma.
        distribution, shape, shift: D, one of `softras.DISTRIBUTIONS`, and its parameters.
        aggregation, power: one of `softras.CONORMS` and its parameter; "prod", "sum" and "hard" are SoftRas's.
        softras_compat: render as SoftRas's public code does, quirks included and slowly, to compare with published
            results; compat.py lists the quirks.

    Raises:
        ValueError: a wrong shape, dtype or device, an index out of range, NaN or infinite input, a setting out
            of range.
    """
    if near is None:
        near = compat.NEAR if softras_compat else arguments.NEAR
    scene = arguments.scene(vertices, faces, K, world_to_camera, height, width, orthographic, near, cull)
    modes = Modes(sigma, gamma, eps, distance, squared, distribution, shape, shift, aggregation)
    modes = checked(modes, len(faces), dist_eps=dist_eps, power=power)
    planes = _far(scene, far, softras_compat)
    flags = {"lit": lit, "nearest": nearest, "softras_compat": softras_compat}
    lit, nearest, softras_compat = (checks.flag(name, value) for name, value in flags.items())
    if colour not in ("softmax", "hard"):
        raise InputError(f"colour must be softmax or hard, not {shown(colour)}")
    appearance = appearance_of(
        *(scene, modes, planes),
        attributes=attributes,
        attribute_faces=attribute_faces,
        texture=texture,
        wrap=wrap,
        lit=lit,
        background=background,
        nearest=nearest or colour == "hard",
    )
    native = backends.computes("images", vertices.device) and not softras_compat
    if not native:
        transforms.refuse("rendering with softras_compat or without the native library")
        arguments.check_values(scene)
        check_values(appearance)
    if softras_compat:
        alpha, image, face = compat.images(scene, appearance, modes, colour)
    elif not native:
        alpha, image, face = reference.images(scene, appearance, modes)
    elif transforms.active():
        alpha, image, face, *_ = _Transformed.apply(*render.flat(scene, appearance))
    elif dispatches(vertices):
        alpha, image, face, *_ = render(scene, appearance)
    else:
        alpha, image, face, *_ = _Eager.apply(*render.flat(scene, appearance))
    if colour == "hard" and not softras_compat:
        image = fragments.shade(scene, face, appearance)
    return Rendering(alpha, image, face if appearance.choices.wants_nearest else None)


def _far(scene: Scene, far: Tensor | float | None, softras_compat: bool) -> Tensor:
    """(N,) the far planes. The default, see `images`, moves in steps with the vertices, so it needs no gradient."""
    near, n = scene.near, scene.K.shape[0]
    if far is not None:
        far = arguments.plane("far", far, n).to(near.device)
        arguments.check_far(near, far)
        return far
    if softras_compat:
        return near.new_full((n,), compat.FAR)
    with torch.no_grad():
        x, y, z, shift = (scene.world_to_camera[:, 2, k, None].double() for k in range(4))
        vertices = scene.vertices
        depth = vertices[..., 0] * x + vertices[..., 1] * y + vertices[..., 2] * z + shift  # (N, V)
        farthest = depth.amax(1) - near if depth.shape[1] else torch.zeros_like(near)
        farthest = farthest.maximum(1e-6 * near.abs())  # where the mesh is behind the camera, any positive depth
        return near + 10 ** (torch.where(farthest > 0, farthest, 1).log10().ceil() + 1)


@operator("softras::images")
def render(scene: Scene, appearance: Appearance) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Alpha, image and nearest faces of a `Rendering`, then state, depth and weight of `Drawn`.

    The nearest faces have the shape (0,) where they are not asked for.
    """
    scene = arguments.scene(*scene)
    return backends.compute("images", scene, operands.appearance(scene, appearance))


@render.fake
def _(scene, appearance):
    choices, like = Choices(*appearance.choices), scene.vertices
    alpha, depth, weight = (like.new_empty(scene.size) for _ in range(3))
    n, height, width = scene.size
    nearest = like.new_empty(scene.size if choices.wants_nearest else 0, dtype=torch.int32)
    state = like.new_empty(scene.size, dtype=like.dtype if choices.plain else torch.float64)
    return alpha, like.new_empty(n, choices.channels, height, width), nearest, state, depth, weight


@operator("softras::images_backward")
def render_backward(
    scene: Scene, appearance: Appearance, drawn: Drawn, grad_alpha: Tensor, grad_image: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients to vertices, K, world_to_camera, attributes, texels and face levels.

    The gradient to the texels has the shape (0,) unless the choices want it.
    """
    scene = arguments.scene(*scene)
    appearance = operands.appearance(scene, appearance)
    operands.check_drawn(scene, appearance, drawn, grad_alpha, grad_image)
    return backends.compute("images_backward", scene, appearance, drawn, grad_alpha, grad_image)


@render_backward.fake
def _(scene, appearance, drawn, grad_alpha, grad_image):
    wanted = appearance.texels if Choices(*appearance.choices).wants_texels else appearance.texels.new_empty(0)
    others = (appearance.attributes, wanted, appearance.face_levels)
    dense = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in others)
    return *scene.empty_gradients(), *dense


def _mark(ctx, output) -> None:
    """Tell autograd that only alpha and image have gradients."""
    _, _, *others = output
    ctx.mark_non_differentiable(*others)


def _save(ctx, inputs, output) -> None:
    _, image, _, state, depth, weight = output
    render.save(ctx, inputs, image, state, depth, weight)
    ctx.set_materialize_grads(False)


def _gradients(ctx, grad_alpha, grad_image, backward):
    (scene, appearance), kept = render.saved(ctx)
    drawn, (_, needed) = Drawn(*kept), render.packed(ctx.needs_input_grad)
    grad_alpha = torch.zeros_like(drawn.depth) if grad_alpha is None else grad_alpha
    grad_image = torch.zeros_like(drawn.image) if grad_image is None else grad_image
    appearance = appearance._replace(choices=Choices(*appearance.choices)._replace(wants_texels=int(needed.texels)))
    gv, gk, gw, ga, gt, gl = backward(scene, appearance, drawn, grad_alpha, grad_image)
    gb = None
    if needed.background:
        gb = total((grad_image * background_share(scene, appearance, drawn)[:, None]).flatten(2), 2)
    return render.gradients(
        vertices=gv,
        K=gk,
        world_to_camera=gw,
        attributes=ga,
        background=gb,
        texels=gt if needed.texels else None,
        face_levels=gl,
    )


@transforms.untraced  # the tensors of a transform are wrapped, which the compiler does not expect here
def _watched_gradients(ctx, grad_alpha, grad_image):
    backward = render_backward.flat
    return _gradients(ctx, grad_alpha, grad_image, lambda *args: _Gradients.apply(*backward(*args)))


def _backward(ctx, grad_alpha, grad_image, *_):
    return _gradients(ctx, grad_alpha, grad_image, render_backward)


render.differentiate(_backward, _save)
render_backward.differentiate(transforms.refuse_twice("softras.images"))
_Gradients = transforms.derivative_of("softras.images", render_backward)


class _Eager(torch.autograd.Function):
    """The operator as an autograd function of plain tensors, without the half millisecond of PyTorch's dispatcher."""

    @staticmethod
    def forward(ctx, *inputs):
        outputs = backends.compute("images", *render.packed(inputs))
        _mark(ctx, outputs)
        _save(ctx, inputs, outputs)
        return outputs

    @staticmethod
    def backward(ctx, grad_alpha, grad_image, *_):
        if torch.is_grad_enabled() or transforms.active(grad_alpha, grad_image):
            return _watched_gradients(ctx, grad_alpha, grad_image)
        return _gradients(ctx, grad_alpha, grad_image, functools.partial(backends.compute, "images_backward"))


class _Transformed(transforms.Transformable):
    """The operator under torch.func's transforms; in forward mode it is refused."""

    @staticmethod
    def forward(*inputs):
        scene, appearance = render.packed(inputs)
        arguments.check_near(scene.near, scene.orthographic)
        arguments.check_far(scene.near, appearance.far)  # under vmap the values can be read only here
        return render(scene, appearance)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _mark(ctx, output)
        _save(ctx, inputs, output)

    @staticmethod
    def backward(ctx, grad_alpha, grad_image, *_):
        return _watched_gradients(ctx, grad_alpha, grad_image)

    @staticmethod
    def jvp(ctx, *tangents):
        transforms.refuse_forward_mode("softras.images")


def background_share(scene: Scene, appearance: Appearance, drawn: Drawn) -> Tensor:
    """(N, H, W) the share of the background in a pixel's image."""
    near, far, numbers, depth = scene.near, appearance.far, Numbers(*appearance.numbers), drawn.depth
    behind = (far - numbers.eps * (far - near)).to(depth.dtype)[:, None, None]  # rounded as the kernels round it
    exponent = (depth - behind) / (numbers.gamma * (far - near))[:, None, None]
    return (exponent.clamp_max(0).exp() / drawn.weight).to(depth.dtype)
