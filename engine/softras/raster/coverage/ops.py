"""Exact coverage as operators of PyTorch: `softras::coverage` and its gradients, and its forward mode."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import arguments, operands, transforms
from ..native import backends
from ..operators import dispatches, operator
from ..scene import Scene
from ..silhouettes.jacobian import Jacobian
from ..silhouettes.ops import silhouettes
from . import reference

HARD_SIGMA = 1e-10  # in squared NDC: a blur of 1e-5 NDC, far below a pixel in images of any size


def coverage(
    vertices: Tensor,
    faces: Tensor,
    K: Tensor,
    world_to_camera: Tensor,
    height: int,
    width: int,
    *,
    orthographic: Tensor | None = None,
    near: Tensor | float = 1e-3,
    cull: bool = False,
    warn: bool = True,
) -> Tensor:
    """The area of a mesh's silhouette inside each pixel of N cameras: exact anti-aliasing, with exact gradients.

    Differentiable with respect to `vertices`, `K` and `world_to_camera`. Nothing is blurred, so the true pose of a mesh
    is the best match of its own silhouette. But only the pixels on the outline have a gradient, so a search that starts
    far from the solution should begin with `softras.silhouettes`.

    The silhouette is the union of the projected faces, clipped at `near`. The mesh may be open, its faces may overlap
    and be oriented either way. Vertices with exactly the same coordinates are one vertex and share its gradient
    equally. The bits are the same for any number of threads; for a GPU see docs/cuda.md. Memory: O(faces + pixels +
    pixels of the outline). Where very many edges cross, as in a heap of triangles, 8 x 8 samples a pixel cost less than
    the exact area: they are taken instead, and a RuntimeWarning says so.

    Args:
        vertices, faces, K, world_to_camera, height, width, orthographic, near, cull: as in `softras.silhouettes`.
        warn: whether there is that warning; False where samples will do.

    Returns:
        (N, H, W) in [0, 1], row 0 on top, dtype of `vertices`.

    Raises:
        ValueError: as `softras.silhouettes`.
    """
    scene = arguments.scene(vertices, faces, K, world_to_camera, height, width, orthographic, near, cull)
    if not backends.computes("coverage", vertices.device):
        transforms.refuse("rendering without the native library")
        arguments.check_values(scene)
        return reference.coverage(scene)
    if transforms.active():
        return _Transformed.apply(*render.flat(scene, warn))[0]
    if dispatches(vertices):
        return render(scene, warn)
    return _Eager.apply(vertices, K, world_to_camera, scene, warn)


def coverage_jacobian(
    vertices: Tensor,
    faces: Tensor,
    K: Tensor,
    world_to_camera: Tensor,
    height: int,
    width: int,
    d_vertices: Tensor | None,
    d_K: Tensor | None = None,
    d_world_to_camera: Tensor | None = None,
    *,
    orthographic: Tensor | None = None,
    near: Tensor | float = 1e-3,
    cull: bool = False,
    warn: bool = True,
) -> Jacobian:
    """Exact coverage and its derivatives with respect to P parameters, for Gauss-Newton and Levenberg-Marquardt.

    This is the forward mode of `softras.coverage`, as `softras.silhouettes_jacobian` is that of the soft silhouettes.
    The caller gives the derivatives of vertices (V, 3, P) or (N, V, 3, P), of K (N, 3, 3, P) and of world_to_camera
    (N, 4, 4, P), None for zero. Rows are given for the pixels on the outline; all others do not change.
    `warn` is that of `coverage`.

    Raises:
        ValueError: what `coverage` refuses, and derivatives of a wrong shape, dtype or device, or none at all.
    """
    transforms.refuse("softras.coverage_jacobian")
    scene = arguments.scene(vertices, faces, K, world_to_camera, height, width, orthographic, near, cull).detached()
    tangents = arguments.tangents(scene, d_vertices, d_K, d_world_to_camera)
    alpha, kept = backends.compute("coverage", scene, True, warn)
    return Jacobian(alpha, *backends.compute("coverage_jacobian", scene, kept, tangents))


def covers_centres(
    vertices: Tensor,
    faces: Tensor,
    K: Tensor,
    world_to_camera: Tensor,
    height: int,
    width: int,
    *,
    orthographic: Tensor | None = None,
    near: Tensor | float = 1e-3,
) -> Tensor:
    """(N, H, W) bool, whether a face covers the pixel's centre. No gradient.

    Arguments and errors are those of `softras.coverage`. The contour decides, as for exact coverage; in a transform of
    torch.func, inside a compiler, and without a backend it is a soft silhouette whose blur is far below a pixel.
    """
    with torch.no_grad():
        if not backends.computes("coverage", vertices.device) or transforms.active() or dispatches(vertices):
            views = (K, world_to_camera, height, width)
            return silhouettes(vertices, faces, *views, sigma=HARD_SIGMA, orthographic=orthographic, near=near) > 0.5
        scene = arguments.scene(vertices, faces, K, world_to_camera, height, width, orthographic, near, False)
        return backends.compute("coverage_centres", scene)


class _Eager(torch.autograd.Function):
    """The operator as an autograd function of plain tensors; the outline that its forward pass found is kept.

    Only the three tensors that have gradients are its inputs: each further one would cost PyTorch some time at every
    call. They are saved as inputs, so that PyTorch notices when they are changed before the backward pass.
    """

    @staticmethod
    def forward(ctx, vertices, K, world_to_camera, scene, warn):
        alpha, ctx.kept = backends.compute("coverage", scene, any(ctx.needs_input_grad), warn)
        ctx.save_for_backward(vertices, scene.faces, K, world_to_camera, scene.orthographic, scene.near)
        ctx.height, ctx.width, ctx.cull = scene.height, scene.width, scene.cull
        return alpha

    @staticmethod
    def backward(ctx, grad_alpha):
        vertices, faces, K, world_to_camera, orthographic, near = ctx.saved_tensors
        scene = Scene(vertices, faces, K, world_to_camera, ctx.height, ctx.width, orthographic, near, ctx.cull)
        if torch.is_grad_enabled() or transforms.active(grad_alpha):
            return *_watched_gradients(scene, grad_alpha), None, None
        wanted = ctx.needs_input_grad[:3]
        return *backends.compute("coverage_backward", scene, ctx.kept, grad_alpha, wanted), None, None


class _Transformed(transforms.Transformable):
    """The operator under torch.func's transforms; in forward mode it is refused."""

    @staticmethod
    def forward(*inputs):
        scene, warn = render.packed(inputs)
        arguments.check_near(scene.near, scene.orthographic)  # under vmap the values can be read only here
        return (render(scene, warn),)

    @staticmethod
    def setup_context(ctx, inputs, output):
        render.save(ctx, inputs)

    @staticmethod
    def backward(ctx, grad_alpha):
        return _gradients(ctx, grad_alpha, _watched_gradients)

    @staticmethod
    def jvp(ctx, *tangents):
        transforms.refuse_forward_mode("softras.coverage")


@operator("softras::coverage")
def render(scene: Scene, warn: bool) -> Tensor:
    """(N, H, W)."""
    return backends.compute("coverage", arguments.scene(*scene), False, warn)[0]


@render.fake
def _(scene, warn):
    return scene.vertices.new_empty(scene.size)


@operator("softras::coverage_backward")
def render_backward(scene: Scene, grad_alpha: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients to vertices, K and world_to_camera."""
    scene = arguments.scene(*scene)
    operands.fitting("grad_alpha", grad_alpha, scene.size, scene.vertices)
    _, kept = backends.compute("coverage", scene, True, False)  # The forward pass has warned.
    return backends.compute("coverage_backward", scene, kept, grad_alpha)


@render_backward.fake
def _(scene, grad_alpha):
    return scene.empty_gradients()


def _gradients(ctx, grad_alpha, backward):
    (scene, _), _ = render.saved(ctx)
    gv, gk, gw = backward(scene, grad_alpha)
    return render.gradients(vertices=gv, K=gk, world_to_camera=gw)


@transforms.untraced  # the tensors of a transform are wrapped, which the compiler does not expect here
def _watched_gradients(scene, grad_alpha):
    return _Gradients.apply(*render_backward.flat(scene, grad_alpha))


def _backward(ctx, grad_alpha):
    return _gradients(ctx, grad_alpha, render_backward)


render.differentiate(_backward, lambda ctx, inputs, output: render.save(ctx, inputs))
render_backward.differentiate(transforms.refuse_twice("softras.coverage"))
_Gradients = transforms.derivative_of("softras.coverage", render_backward)
