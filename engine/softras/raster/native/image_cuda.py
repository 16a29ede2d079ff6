"""Images by the CUDA backend: the kernels of csrc/cuda_image.h and cuda_image_backward.h. docs/cuda.md has the why."""

from __future__ import annotations

import torch
from torch import Tensor

from ..images.conorms import CONORMS
from ..images.modes import Choices, Numbers
from . import cuda
from .cuda_structures import FACE_SUMS, LOOK, ImageCall

WORK = 1 << 24  # as cuda.WORK
LARGEST = [row.index for row in CONORMS.values() if row.fold == "largest"]  # T-conorms that are one face's coverage


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
    """Alpha, image and nearest face, and what the backward pass needs: state, depth and weight; as image_cpu.images."""
    scene = cuda.Scene(vertices, faces, K, world_to_camera, orthographic, near, numbers.sigma, cull, height, width)
    look = _Look(scene, attributes, attribute_faces, background, texels, face_levels, far, numbers, choices)
    size, device = (scene.views, height, width), vertices.device
    alpha, weight = (vertices.new_empty(size) for _ in range(2))
    depth = look.behind[:, None, None].repeat(1, height, width)
    image = vertices.new_empty(scene.views, choices.channels, height, width)
    state = torch.empty(size, dtype=vertices.dtype if choices.plain else torch.float64, device=device)
    nearest = torch.full(size if choices.wants_nearest else (0,), -1, dtype=torch.int32, device=device)
    if not alpha.numel():
        return alpha, image, nearest, state, depth, weight
    with scene.gpu.current():
        status = torch.zeros(1, dtype=torch.int32, device=device)
        bad = None
        for part in scene.parts((choices.channels + 4) * height * width + LOOK[vertices.dtype] // 8 * len(faces), WORK):
            count = part.stop - part.start
            sums = torch.zeros(choices.channels + 2, count, height, width, dtype=torch.int64, device=device)
            nearest_depth = depth.new_full((count, height, width), torch.inf)
            largest = nearest.new_full((count, height, width), -1) if choices.conorm in LARGEST else None
            magnitudes = torch.zeros(3, dtype=torch.float64, device=device)
            inner = scene.call(part, status=status, sums=sums[0], alpha=alpha[part], transmittance=state[part])
            call = look.call(
                inner,
                part,
                image=image[part],
                depth=depth[part],
                weight=weight[part],
                nearest=nearest[part] if choices.wants_nearest else None,
                nearest_depth=nearest_depth,
                largest=largest,
                weights=sums[1],
                colours=sums[2:],
                magnitudes=magnitudes,
            )
            scene.launch("check", inner, scene.checks())
            look.launch("measure", call, look.blocks)
            look.launch("look", call, -(-len(faces) // cuda.THREADS), count)
            if part.stop == scene.views and not scene.gpu.capturing():
                bad = scene.gpu.read(status)  # what is drawn below need not be waited for
            for kernel in ("cover", "blend"):
                look.launch(kernel, call, *scene.face_blocks(count, inner.splits))
            look.launch("finish", call, -(-sums[0].numel() // cuda.THREADS))
        if bad is not None:
            cuda.refuse(bad())
    return alpha, image, nearest, state, depth, weight


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
    """Gradients to vertices, K, world_to_camera, attributes, texels and face levels.

    Those of texels have the same bits in any order. For the others see cuda.silhouettes_backward.
    """
    height, width = depth.shape[1:]
    scene = cuda.Scene(vertices, faces, K, world_to_camera, orthographic, near, numbers.sigma, cull, height, width)
    look = _Look(scene, attributes, attribute_faces, background, texels, face_levels, far, numbers, choices)
    saved = {"image": image, "depth": depth, "weight": weight, "grad_image": grad_image}
    grad_alpha, saved = grad_alpha.contiguous(), {name: x.contiguous() for name, x in saved.items()}
    by_attributes = torch.zeros_like(look.attributes)
    levels = torch.zeros_like(face_levels, memory_format=torch.contiguous_format)
    backward = cuda.Backward(scene)
    with scene.gpu.current():
        sums = torch.zeros(texels.shape if choices.wants_texels else 0, dtype=torch.int64, device=texels.device)
        unit = look.texel_unit(grad_image)
        status = torch.zeros(1, dtype=torch.int32, device=vertices.device)
        of_face = FACE_SUMS + LOOK[vertices.dtype] // 8 + 3 * attributes.shape[-1]
        for part in scene.parts(backward.numbers + of_face * len(faces), WORK):
            inner = backward.call(part, status=status, transmittance=state[part], grad_alpha=grad_alpha[part])
            corners = vertices.new_zeros(inner.views, len(faces), 3, attributes.shape[-1])
            face_sums = torch.zeros(inner.views, len(faces), FACE_SUMS, dtype=torch.float64, device=unit.device)
            call = look.call(
                inner,
                part,
                **{name: x[part] for name, x in saved.items()},
                face_sums=face_sums,
                grad_corners=corners,
                grad_levels=levels[part] if levels.numel() else None,
                grad_texels=None if not sums.numel() else sums if choices.shared_texels else sums[part],
                texel_unit=unit,
            )
            look.launch("look", call, -(-len(faces) // cuda.THREADS), inner.views)
            look.launch("gather", call, *scene.face_blocks(inner.views, inner.splits))
            look.launch("corners_backward", call, -(-len(faces) // cuda.THREADS), inner.views)
            backward.finish(inner)
            _add_corners(by_attributes if attributes.dim() == 2 else by_attributes[part], look.attribute_faces, corners)
    return *backward.grads, by_attributes, (sums * unit).to(texels.dtype), levels


class _Look:
    """What faces show and how it is blended: the inputs of a call beside the scene's, dense."""

    def __init__(
        self,
        scene: cuda.Scene,
        attributes: Tensor,
        attribute_faces: Tensor,
        background: Tensor,
        texels: Tensor,
        face_levels: Tensor,
        far: Tensor,
        numbers: Numbers,
        choices: Choices,
    ) -> None:
        inputs = (attributes, attribute_faces, background, texels, face_levels, far)
        self.attributes, self.attribute_faces, self.background, self.texels, self.face_levels, self.far = (
            x.contiguous() for x in inputs
        )
        self.scene, self.numbers, self.choices = scene, numbers, choices
        self.behind = (self.far - numbers.eps * (self.far - scene.near)).to(scene.vertices.dtype)
        self.kind = "any" if not choices.plain else "textured" if choices.texture else "plain"
        self._looks = scene.vertices.new_empty(0)

    @property
    def blocks(self) -> int:
        """Those that look at the values."""
        most = max(x.numel() for x in (self.attributes, self.texels, self.background))
        return min(1 + most // cuda.THREADS, 8 * self.scene.gpu.processors)

    def texel_unit(self, grad_image: Tensor) -> Tensor:
        """(1,) float64: the unit in which gradients of texels are added up, so that no sum overflows."""
        most = grad_image.new_zeros(1, dtype=torch.float64)
        if self.texels.numel() and grad_image.numel():
            most = grad_image.abs().max().double().view(1)
            if self.choices.lit:
                most = most * self.attributes.detach().abs().max().double()
        return most.clamp_min(1e-20) * (max(1, grad_image.numel()) / 2**61)

    def call(self, scene: cuda.Call, part: slice, **tensors: Tensor | None) -> ImageCall:
        """The argument of the kernels for some of the views; `tensors` are of these views, and must stay alive."""
        call = ImageCall(scene=scene)
        for name in ("distance", "squared", "distribution", "conorm", "channels", "texture", "texture_channels"):
            setattr(call, name, getattr(self.choices, name))
        for name in ("lit", "shared_texels", "resolution", "texture_height", "texture_width", "levels", "wrap"):
            setattr(call, name, getattr(self.choices, name))
        for name in ("shape", "shift", "power", "cutoff", "radius", "gamma", "eps"):
            setattr(call, name, getattr(self.numbers, name))
        call.rows, call.width = self.attributes.shape[-2:]
        call.shared_attributes = self.attributes.dim() == 2
        call.texel_count = self.texels.numel() // max(1, self.choices.texture_channels)
        if not self.choices.shared_texels:
            call.texel_count //= max(1, self.scene.views)
        self._looks = torch.empty(
            scene.views * scene.faces * LOOK[self.scene.vertices.dtype], dtype=torch.uint8, device=self.texels.device
        )
        of_part = {
            "attributes": self.attributes if call.shared_attributes else self.attributes[part],
            "attribute_faces": self.attribute_faces,
            "background": self.background[part],
            "behind": self.behind[part],
            "texels": self.texels if self.choices.shared_texels else self.texels[part],
            "face_levels": self.face_levels[part] if self.face_levels.numel() else None,
            "far_planes": self.far[part],
            "looks": self._looks,
        }
        for name, tensor in (of_part | tensors).items():
            setattr(call, name, None if tensor is None else tensor.data_ptr())
        return call

    def launch(self, name: str, call: ImageCall, x: int, y: int = 1, z: int = 1) -> None:
        """Queue one of the kernels of this kind of images."""
        self.scene.launch(f"{name}_{self.kind}", call, x, y, z, part=self.kind)


def _add_corners(by_attributes: Tensor, attribute_faces: Tensor, corners: Tensor) -> None:
    """Add the gradients of faces' corners (n, F, 3, C) to those of the attributes, (A, C) or (n, A, C)."""
    index = attribute_faces.flatten()
    if by_attributes.dim() == 2:
        by_attributes.index_add_(0, index, corners.sum(0).flatten(0, 1))
    else:
        by_attributes.index_add_(1, index, corners.flatten(1, 2))
