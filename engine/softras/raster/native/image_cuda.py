"""Images by the CUDA kernels of csrc/cuda_image.h and cuda_image_backward.h; docs/cuda.md says why."""

from __future__ import annotations

import torch
from torch import Tensor

from ..images.appearance import Appearance, Drawn
from ..images.conorms import CONORMS
from ..scene import Scene, dense
from . import cuda
from .cuda_structures import FACE_SUMS, SHOWN_FACE, Call, ImageCall

WORK = 1 << 24  # the numbers of 8 bytes that a launch may keep, as cuda.WORK
LARGEST = [
    row.index for row in CONORMS.values() if row.fold == "largest"
]  # the T-conorms that take one face's coverage


def images(scene: Scene, appearance: Appearance) -> tuple[Tensor, ...]:
    """Alpha, image and nearest faces, and the state, depth and weight of `Drawn`; see `ops.render`."""
    choices, like = appearance.choices, scene.vertices
    launcher = cuda.Launcher(scene, appearance.numbers.sigma)
    shown = _Shown(launcher, appearance)
    n, height, width = scene.size
    alpha, weight = (like.new_empty(scene.size) for _ in range(2))
    depth = shown.behind[:, None, None].repeat(1, height, width)
    image = like.new_empty(n, choices.channels, height, width)
    state = like.new_empty(scene.size, dtype=like.dtype if choices.plain else torch.float64)
    nearest = like.new_full(scene.size if choices.wants_nearest else (0,), -1, dtype=torch.int32)
    if not alpha.numel():
        return alpha, image, nearest, state, depth, weight
    with launcher.gpu.current():
        status = torch.zeros(1, dtype=torch.int32, device=like.device)
        bad = None
        of_view = (choices.channels + 4) * height * width + SHOWN_FACE[like.dtype] // 8 * len(scene.faces)
        for part in launcher.parts(of_view, WORK):
            count = part.stop - part.start
            sums = torch.zeros(choices.channels + 2, count, height, width, dtype=torch.int64, device=like.device)
            nearest_depth = depth.new_full((count, height, width), torch.inf)
            largest = nearest.new_full((count, height, width), -1) if choices.conorm in LARGEST else None
            magnitudes = torch.zeros(3, dtype=torch.float64, device=like.device)
            inner = launcher.call(part, status=status, sums=sums[0], alpha=alpha[part], transmittance=state[part])
            call = shown.call(
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
            launcher.launch("check", inner, launcher.checks())
            shown.launch("measure", call, shown.blocks)
            shown.launch("prepare_face", call, -(-len(scene.faces) // cuda.THREADS), count)
            if part.stop == n and not launcher.gpu.capturing():
                bad = launcher.gpu.read(status)  # copied before drawing is queued, so that only the check is waited for
            for kernel in ("cover", "blend"):
                shown.launch(kernel, call, *launcher.face_blocks(count, inner.splits))
            shown.launch("finish", call, -(-sums[0].numel() // cuda.THREADS))
        if bad is not None:
            cuda.refuse(bad())
    return alpha, image, nearest, state, depth, weight


def images_backward(
    scene: Scene, appearance: Appearance, drawn: Drawn, grad_alpha: Tensor, grad_image: Tensor
) -> tuple[Tensor, ...]:
    """Gradients to vertices, K, world_to_camera, attributes, texels and face levels.

    The gradient to the texels has the same bits in every run. For the others see cuda.silhouettes_backward.
    """
    like, texels, choices = scene.vertices, appearance.texels, appearance.choices
    launcher = cuda.Launcher(scene, appearance.numbers.sigma)
    shown, backward = _Shown(launcher, appearance), cuda.Backward(launcher)
    drawn, grad_alpha, grad_image = dense(drawn), grad_alpha.contiguous(), grad_image.contiguous()
    attributes, attribute_faces = shown.appearance.attributes, shown.appearance.attribute_faces
    by_attributes = torch.zeros_like(attributes)
    levels = torch.zeros_like(appearance.face_levels, memory_format=torch.contiguous_format)
    with launcher.gpu.current():
        sums = torch.zeros(texels.shape if choices.wants_texels else 0, dtype=torch.int64, device=texels.device)
        unit = shown.texel_unit(grad_image)
        status = torch.zeros(1, dtype=torch.int32, device=like.device)
        of_face = FACE_SUMS + SHOWN_FACE[like.dtype] // 8 + 3 * attributes.shape[-1]
        for part in launcher.parts(backward.numbers + of_face * len(scene.faces), WORK):
            corners = cuda.CornerGradients(backward, part)
            inner = corners.call(status=status, transmittance=drawn.state[part], grad_alpha=grad_alpha[part])
            of_corners = like.new_zeros(inner.views, len(scene.faces), 3, attributes.shape[-1])
            face_sums = torch.zeros(inner.views, len(scene.faces), FACE_SUMS, dtype=torch.float64, device=unit.device)
            call = shown.call(
                inner,
                part,
                image=drawn.image[part],
                depth=drawn.depth[part],
                weight=drawn.weight[part],
                grad_image=grad_image[part],
                face_sums=face_sums,
                grad_corners=of_corners,
                grad_levels=levels[part] if levels.numel() else None,
                grad_texels=None if not sums.numel() else sums if choices.shared_texels else sums[part],
                texel_unit=unit,
            )
            shown.launch("prepare_face", call, -(-len(scene.faces) // cuda.THREADS), inner.views)
            shown.launch("gather", call, *launcher.face_blocks(inner.views, inner.splits))
            shown.launch("corners_backward", call, -(-len(scene.faces) // cuda.THREADS), inner.views)
            corners.finish(inner)
            _add_corners(by_attributes if appearance.shared else by_attributes[part], attribute_faces, of_corners)
    return *backward.grads, by_attributes, (sums * unit).to(texels.dtype), levels


class _Shown:
    """A contiguous appearance on a GPU, and the launches of the kernels of images on it.

    behind: (N,) the depth of the background.
    kind: which kernels: "plain" for SoftRas's modes without a texture, "textured" for these with one, else "any".
    """

    def __init__(self, launcher: cuda.Launcher, appearance: Appearance) -> None:
        self.appearance, self._launcher = dense(appearance), launcher
        far, near, choices = self.appearance.far, launcher.scene.near, appearance.choices
        self.behind = (far - appearance.numbers.eps * (far - near)).to(launcher.scene.vertices.dtype)
        self.kind = "any" if not choices.plain else "textured" if choices.texture else "plain"
        self._shown_faces = self.behind.new_empty(0)

    @property
    def blocks(self) -> int:
        """The number of blocks of the kernel that measures attributes, texels and background."""
        most = max(x.numel() for x in (self.appearance.attributes, self.appearance.texels, self.appearance.background))
        return min(1 + most // cuda.THREADS, 8 * self._launcher.gpu.processors)

    def texel_unit(self, grad_image: Tensor) -> Tensor:
        """(1,) float64, the unit in which gradients of texels are added up as whole numbers; no sum overflows."""
        most = grad_image.new_zeros(1, dtype=torch.float64)
        if self.appearance.texels.numel() and grad_image.numel():
            most = grad_image.abs().max().double().view(1)
            if self.appearance.choices.lit:
                most = most * self.appearance.attributes.detach().abs().max().double()
        return most.clamp_min(1e-20) * (max(1, grad_image.numel()) / 2**61)

    def call(self, scene: Call, part: slice, **tensors: Tensor | None) -> ImageCall:
        """The structure that kernels take for a part of the views.

        tensors: those of these views, by the names of the structure's fields; they must outlive the kernels.
        """
        appearance, choices = self.appearance, self.appearance.choices
        call = ImageCall(scene=scene)
        for name in ("distance", "squared", "distribution", "conorm", "channels", "texture", "texture_channels"):
            setattr(call, name, getattr(choices, name))
        for name in ("lit", "shared_texels", "resolution", "texture_height", "texture_width", "levels", "wrap"):
            setattr(call, name, getattr(choices, name))
        for name in ("shape", "shift", "power", "cutoff", "radius", "gamma", "eps"):
            setattr(call, name, getattr(appearance.numbers, name))
        call.rows, call.width = appearance.attributes.shape[-2:]
        call.shared_attributes, call.texel_count = appearance.shared, appearance.texel_count
        size = scene.views * scene.faces * SHOWN_FACE[self._launcher.scene.vertices.dtype]
        self._shown_faces = torch.empty(size, dtype=torch.uint8, device=self.behind.device)
        of_part = {
            "attributes": appearance.attributes if appearance.shared else appearance.attributes[part],
            "attribute_faces": appearance.attribute_faces,
            "background": appearance.background[part],
            "behind": self.behind[part],
            "texels": appearance.texels if choices.shared_texels else appearance.texels[part],
            "face_levels": appearance.face_levels[part] if appearance.face_levels.numel() else None,
            "far_planes": appearance.far[part],
            "shown_faces": self._shown_faces,
        }
        for name, tensor in (of_part | tensors).items():
            setattr(call, name, None if tensor is None else tensor.data_ptr())
        return call

    def launch(self, name: str, call: ImageCall, x: int, y: int = 1, z: int = 1) -> None:
        """Queue a kernel of this kind on a grid of x, y and z blocks."""
        self._launcher.launch(f"{name}_{self.kind}", call, x, y, z, part=self.kind)


def _add_corners(by_attributes: Tensor, attribute_faces: Tensor, corners: Tensor) -> None:
    """Add the gradients of faces' corners (n, F, 3, C) to those of the attributes, (A, C) or (n, A, C)."""
    index = attribute_faces.flatten()
    if by_attributes.dim() == 2:
        by_attributes.index_add_(0, index, corners.sum(0).flatten(0, 1))
    else:
        by_attributes.index_add_(1, index, corners.flatten(1, 2))
