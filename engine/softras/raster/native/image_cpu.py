"""Images by the native CPU backend: the C ABI of csrc/softras.h through ctypes."""

from __future__ import annotations

import torch
from torch import Tensor

from ..images.modes import Choices, Numbers
from . import cpu
from .structures import ImageCall


def images(
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
    numbers: Numbers,
    choices: Choices,
) -> tuple[Tensor, ...]:
    """Alpha, image and nearest face, and what the backward pass needs: state, depth and weight.

    Arguments as :func:`softras.images` prepares them.
    """
    size = K.shape[0], height, width
    alpha, depth, weight = (vertices.new_empty(size) for _ in range(3))
    image = vertices.new_empty(size[0], choices.channels, height, width)
    state = torch.empty(size, dtype=vertices.dtype if choices.plain else torch.float64, device=vertices.device)
    nearest = torch.empty(size, dtype=torch.int32, device=vertices.device) if choices.wants_nearest else None
    scene = cpu.Scene(vertices, faces, K, world_to_camera, orthographic, near)
    inputs = _Inputs(attributes, attribute_faces, background, texels, face_levels, far)
    call = inputs.call(scene.call(numbers.sigma, cull, state, alpha=alpha), numbers, choices, image, depth, weight)
    call.nearest = None if nearest is None else nearest.data_ptr()
    cpu.run("images", vertices.dtype, call)
    return alpha, image, nearest if nearest is not None else alpha.new_empty(0, dtype=torch.int32), state, depth, weight


def images_backward(
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
    numbers: Numbers,
    choices: Choices,
) -> tuple[Tensor, ...]:
    """Gradients to vertices, K, world_to_camera, attributes, texels and face levels."""
    dense = torch.contiguous_format
    grads = [torch.empty_like(x, memory_format=dense) for x in (vertices, K, world_to_camera, attributes)]
    levels = torch.empty_like(face_levels, memory_format=dense)
    grad_alpha, grad_image = grad_alpha.contiguous(), grad_image.contiguous()
    scene = cpu.Scene(vertices, faces, K, world_to_camera, orthographic, near)
    inputs = _Inputs(attributes, attribute_faces, background, texels, face_levels, far)
    base = scene.call(numbers.sigma, cull, state, grad_alpha=grad_alpha, grads=grads[:3])
    call = inputs.call(base, numbers, choices, image, depth, weight)
    call.grad_image, call.grad_attributes = grad_image.data_ptr(), grads[3].data_ptr()
    call.grad_levels = levels.data_ptr() if levels.numel() else None
    if not (choices.wants_texels and texels.numel()):
        cpu.run("images", vertices.dtype, call)
        return *grads, texels.new_empty(texels.shape if choices.wants_texels else 0), levels
    # Sums of whole numbers, which are the same in any order, in a unit in which none of them overflows.
    most = float(grad_image.abs().max()) if grad_image.numel() else 0.0
    light = float(attributes.detach().abs().max()) if choices.lit and attributes.numel() else 1.0
    sums = torch.zeros(texels.shape, dtype=torch.int64)
    call.texel_unit = most * light * grad_image.numel() / 2**61 or 1.0
    call.grad_texels = sums.data_ptr()
    cpu.run("images", vertices.dtype, call)
    return *grads, (sums.double() * call.texel_unit).to(texels.dtype), levels


class _Inputs:
    """The tensors of a call beside the scene's, dense; they must live while the library works."""

    def __init__(self, *inputs: Tensor) -> None:
        self._inputs = [x.contiguous() for x in inputs]

    def call(
        self,
        scene: cpu.Call,
        numbers: Numbers,
        choices: Choices,
        image: Tensor,
        depth: Tensor,
        weight: Tensor,
    ) -> ImageCall:
        attributes, attribute_faces, background, texels, face_levels, far = self._inputs
        call = ImageCall(scene=scene)
        for name in ("plain", "distance", "squared", "distribution", "conorm", "lit", "texture", "resolution"):
            setattr(call, name, getattr(choices, name))
        for name in ("channels", "texture_channels", "texture_height", "texture_width", "levels", "wrap"):
            setattr(call, name, getattr(choices, name))
        for name in ("shape", "shift", "power", "cutoff", "radius", "gamma", "eps"):
            setattr(call, name, getattr(numbers, name))
        call.rows, call.width = attributes.shape[-2:]
        call.shared_attributes, call.shared_texels = attributes.dim() == 2, choices.shared_texels
        call.texel_count = texels.numel() // max(1, choices.texture_channels)
        if not choices.shared_texels:
            call.texel_count //= max(1, scene.views)
        for name, tensor in (
            ("attributes", attributes),
            ("attribute_faces", attribute_faces),
            ("background", background),
            ("texels", texels),
            ("face_levels", face_levels),
            ("far_planes", far),
            ("image", image),
            ("depth", depth),
            ("weight", weight),
        ):
            setattr(call, name, tensor.data_ptr())
        return call
