"""Images by the native library, the CPU's backend."""

from __future__ import annotations

import torch
from torch import Tensor

from ..images.appearance import Appearance, Drawn
from ..scene import Scene, dense
from . import cpu
from .structures import Call, ImageCall


def images(scene: Scene, appearance: Appearance) -> tuple[Tensor, ...]:
    """Alpha, image and nearest faces, and the state, depth and weight of `Drawn`; see `ops.render`."""
    numbers, choices, like = appearance.numbers, appearance.choices, scene.vertices
    n, height, width = scene.size
    alpha, depth, weight = (like.new_empty(scene.size) for _ in range(3))
    image = like.new_empty(n, choices.channels, height, width)
    state = like.new_empty(scene.size, dtype=like.dtype if choices.plain else torch.float64)
    nearest = like.new_empty(scene.size if choices.wants_nearest else 0, dtype=torch.int32)
    scene, appearance, drawn = dense(scene), dense(appearance), Drawn(image, state, depth, weight)
    call = _call(cpu.call_of(scene, numbers.sigma, state, alpha=alpha), appearance, drawn)
    call.nearest = nearest.data_ptr() if choices.wants_nearest else None
    cpu.run("images", like.dtype, call)
    return alpha, image, nearest, state, depth, weight


def images_backward(
    scene: Scene, appearance: Appearance, drawn: Drawn, grad_alpha: Tensor, grad_image: Tensor
) -> tuple[Tensor, ...]:
    """Gradients to vertices, K, world_to_camera, attributes, texels and face levels."""
    numbers, choices, texels = appearance.numbers, appearance.choices, appearance.texels
    grads = scene.empty_gradients()
    of_attributes, of_levels = (
        torch.empty_like(x, memory_format=torch.contiguous_format)
        for x in (appearance.attributes, appearance.face_levels)
    )
    scene, appearance, drawn = dense(scene), dense(appearance), dense(drawn)
    grad_alpha, grad_image = grad_alpha.contiguous(), grad_image.contiguous()
    base = cpu.call_of(scene, numbers.sigma, drawn.state, grad_alpha=grad_alpha, grads=grads)
    call = _call(base, appearance, drawn)
    call.grad_image, call.grad_attributes = grad_image.data_ptr(), of_attributes.data_ptr()
    call.grad_levels = of_levels.data_ptr() if of_levels.numel() else None
    if not (choices.wants_texels and texels.numel()):
        cpu.run("images", grad_image.dtype, call)
        return *grads, of_attributes, texels.new_empty(texels.shape if choices.wants_texels else 0), of_levels
    # Gradients of texels are added up as whole numbers, whose sum is the same in any order of threads. The unit is such
    # that no sum overflows.
    most = float(grad_image.abs().max()) if grad_image.numel() else 0.0
    attributes = appearance.attributes.detach()
    light = float(attributes.abs().max()) if choices.lit and attributes.numel() else 1.0
    sums = torch.zeros(texels.shape, dtype=torch.int64)
    call.texel_unit = most * light * grad_image.numel() / 2**61 or 1.0
    call.grad_texels = sums.data_ptr()
    cpu.run("images", grad_image.dtype, call)
    return *grads, of_attributes, (sums.double() * call.texel_unit).to(texels.dtype), of_levels


def _call(scene: Call, appearance: Appearance, drawn: Drawn) -> ImageCall:
    """The structure of a call. It holds pointers to the tensors, which must be contiguous and outlive the call."""
    choices = appearance.choices
    call = ImageCall(scene=scene)
    for name in ("plain", "distance", "squared", "distribution", "conorm", "lit", "texture", "resolution"):
        setattr(call, name, getattr(choices, name))
    for name in ("channels", "texture_channels", "texture_height", "texture_width", "levels", "wrap", "shared_texels"):
        setattr(call, name, getattr(choices, name))
    for name in ("shape", "shift", "power", "cutoff", "radius", "gamma", "eps"):
        setattr(call, name, getattr(appearance.numbers, name))
    call.rows, call.width = appearance.attributes.shape[-2:]
    call.shared_attributes, call.texel_count = appearance.shared, appearance.texel_count
    for name in ("attributes", "attribute_faces", "background", "texels", "face_levels"):
        setattr(call, name, getattr(appearance, name).data_ptr())
    call.far_planes = appearance.far.data_ptr()
    for name in ("image", "depth", "weight"):
        setattr(call, name, getattr(drawn, name).data_ptr())
    return call
