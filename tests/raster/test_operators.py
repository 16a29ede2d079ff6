"""torch.ops.softras.* called directly: what does not fit is refused, wherever it is, and nothing crashes."""

import pytest
import torch
from image_scenes import picture_of
from scenes import small_scene

from softras.raster.coverage import ops as coverage_ops
from softras.raster.images import ops as image_ops
from softras.raster.silhouettes import jacobian

SCENE = small_scene()
OPS = torch.ops.softras
assert jacobian and coverage_ops  # whose imports make their operators


def silhouettes():
    v, k, w = (x.detach() for x in SCENE.inputs(torch.float32))
    modes = 1e-2, SCENE.orthographic, SCENE.near, False
    args = v, SCENE.faces, k, w, SCENE.height, SCENE.width, *modes
    alpha, left = OPS.silhouettes(*args)
    pixels, moves = torch.arange(0, alpha.numel(), 5), torch.ones(*v.shape, 3)
    inputs = v, SCENE.faces, k, w, *modes
    return {
        OPS.silhouettes: args,
        OPS.silhouettes_backward: (torch.ones_like(alpha), left, *inputs),
        OPS.silhouettes_jacobian: (left, pixels, *inputs, 3, moves, None, None),
    }


def coverage():
    v, k, w = (x.detach() for x in SCENE.inputs(torch.float32))
    modes = SCENE.orthographic, SCENE.near, False
    args = v, SCENE.faces, k, w, SCENE.height, SCENE.width, *modes
    alpha = OPS.coverage(*args)
    return {OPS.coverage: args, OPS.coverage_backward: (torch.ones_like(alpha), *args[:4], *modes)}


def images(look):
    """The arguments of the operators as `images` gives them."""
    calls, op = [], image_ops._images
    picture = picture_of(small_scene(), look=look)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_ops, "_images", lambda *args: calls.append(args) or op(*args))
        patch.setattr(image_ops.ops, "dispatches", lambda tensor: True)
        picture.render([x.detach() for x in picture.inputs(torch.float32)])
    (args,) = calls
    alpha, image, _, state, depth, weight = op(*args)
    saved = torch.ones_like(alpha), torch.ones_like(image), image, state, depth, weight
    return {OPS.images: args, OPS.images_backward: (*saved, *args[:4], *args[6:])}


def wrong(value):
    """Others in its place."""
    if isinstance(value, torch.Tensor):
        other = torch.float16 if value.is_floating_point() else torch.int8
        yield from (value.to(other) if value.dtype != torch.bool else value[:1], value.new_zeros(3, 1, 2, 2))
        yield value[: len(value) // 2] if len(value) > 1 else value.new_zeros(2, *value.shape[1:])
    elif isinstance(value, (list, tuple)):
        yield from (value[:-1], [*value, value[0]], [2 * 10**15] * len(value), [-1] * len(value))
    elif type(value) is int:
        yield from (0, -1, 2**40)
    elif isinstance(value, float):
        yield from (float("inf"), float("nan"), 0.0)


FREE = ("faces", "near", "pixels")  # there may be fewer of these, and near may be of another type


@pytest.mark.parametrize("look", ["silhouettes", "coverage", "attributes", "surface+lit", "uv+lit"])
def test_operands_that_do_not_fit_are_refused(look):
    calls = {"silhouettes": silhouettes, "coverage": coverage}.get(look, lambda: images(look))()
    for op, args in calls.items():
        op(*args)
        for place, argument in enumerate(op.default._schema.arguments):
            value = args[place]
            for other in wrong(value):
                if isinstance(value, torch.Tensor) and not value.numel() and not other.numel():
                    continue
                changed = [*args]
                changed[place] = other
                try:
                    op(*changed)
                except (ValueError, RuntimeError):
                    continue
                assert argument.name in FREE, (op, argument.name, other)
