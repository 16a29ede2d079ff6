"""torch.ops.softras.* called directly: what does not fit is refused, wherever it is, and nothing crashes."""

import pytest
import torch
from image_scenes import picture_of
from scenes import small_scene

from softras.raster.coverage import ops as coverage_ops
from softras.raster.images.appearance import Appearance, Drawn
from softras.raster.native import backends
from softras.raster.scene import Scene, Tangents
from softras.raster.silhouettes import ops as silhouette_ops

SCENE = small_scene()
OPS = torch.ops.softras
assert silhouette_ops and coverage_ops  # whose imports make their operators


def silhouettes():
    scene = SCENE.packed([x.detach() for x in SCENE.inputs(torch.float32)])
    args = *scene, 1e-2
    alpha, left = OPS.silhouettes(*args)
    pixels, moves = torch.arange(0, alpha.numel(), 5), torch.ones(*scene.vertices.shape, 3)
    return {
        OPS.silhouettes: args,
        OPS.silhouettes_backward: (*args, left, torch.ones_like(alpha)),
        OPS.silhouettes_jacobian: (*args, left, pixels, moves, None, None),
    }


def coverage():
    scene = SCENE.packed([x.detach() for x in SCENE.inputs(torch.float32)])
    alpha = OPS.coverage(*scene, True)
    return {OPS.coverage: (*scene, True), OPS.coverage_backward: (*scene, torch.ones_like(alpha))}


def images(appearance):
    """The arguments of the operators as `images` gives them."""
    calls, compute = [], backends.compute
    picture = picture_of(small_scene(), appearance=appearance)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backends, "compute", lambda *args: calls.append(args) or compute(*args))
        picture.render([x.detach() for x in picture.inputs(torch.float32)])
    ((_, scene, appearance),) = calls
    args = [list(x) if isinstance(x, tuple) else x for x in (*scene, *appearance)]
    alpha, image, _, state, depth, weight = OPS.images(*args)
    saved = image, state, depth, weight, torch.ones_like(alpha), torch.ones_like(image)
    return {OPS.images: args, OPS.images_backward: (*args, *saved)}


def test_arguments_are_the_fields_of_the_tuples_in_their_order():
    scene, appearance, drawn = Scene._fields, Appearance._fields, Drawn._fields
    wanted = {
        OPS.silhouettes_jacobian: [*scene, "sigma", "transmittance", "pixels", *Tangents._fields],
        OPS.coverage: [*scene, "warn"],
        OPS.images_backward: [*scene, *appearance, *drawn, "grad_alpha", "grad_image"],
    }
    for op, names in wanted.items():
        assert [argument.name for argument in op.default._schema.arguments] == names


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


APPEARANCES = ["silhouettes", "coverage", "attributes", "surface+lit", "uv+lit"]


def calls_of(appearance):
    """Every operator of a renderer with arguments that it takes."""
    return {"silhouettes": silhouettes, "coverage": coverage}.get(appearance, lambda: images(appearance))()


@pytest.mark.parametrize("appearance", APPEARANCES)
def test_operands_need_not_be_dense(appearance):
    """Numbers with others between them in memory are read as the same numbers close together."""
    for op, args in calls_of(appearance).items():
        expected = op(*args)
        got = op(*[apart(x) if isinstance(x, torch.Tensor) else x for x in args])
        for one, other in zip(*[x if isinstance(x, tuple) else (x,) for x in (got, expected)], strict=True):
            assert torch.equal(one, other), op


def apart(tensor):
    """The same numbers with others between them."""
    wide = torch.ones(*tensor.shape, 2, dtype=tensor.dtype)
    wide[..., 0] = tensor
    return wide[..., 0]


@pytest.mark.parametrize("appearance", APPEARANCES)
def test_operands_that_do_not_fit_are_refused(appearance):
    for op, args in calls_of(appearance).items():
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
