"""Meshes, views and rendering from Python: what is taken, what is refused in one sentence, and what equals what."""

import dataclasses
import importlib
import pkgutil
from dataclasses import replace

import numpy as np
import pytest
import torch

import softras
from softras import Camera, InputError, Mesh, hard_silhouettes, render_silhouettes
from softras.views import mean_iou


@pytest.mark.parametrize(
    ("faces", "sentence"),
    [
        (np.array([[0, 1, 2.7]]), "whole numbers, not float64"),
        (np.array([[0, 1, 2 + 2**32]]), "outside 0..7"),
        (np.array([[0, 1, 2**32 - 1]], dtype=np.uint32), "outside 0..7"),
        (np.array([[0, 1, -1]]), "outside 0..7"),
        ([], "has no faces"),
        ([[0, 1, 2, 3]], r"shape \(F, 3\)"),
    ],
)
def test_faces_that_name_no_vertices_are_refused(cube, faces, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Mesh(cube.vertices, faces)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"width": 48.5}, "camera width must be a whole number"),
        ({"height": 0}, "camera height must be a whole number"),
        ({"width": 2**40}, "camera width must be a whole number from 1 to 65536"),
        ({"near": float("nan"), "orthographic": True}, "near distance of a camera must be a number, not nan"),
        ({"near": 0.0, "orthographic": False}, "near distance of a camera must be a number of 1e-15 or more, not 0.0"),
        ({"near": 1e308}, "near distance of a camera must be a finite number of at most"),
        ({"near": True}, "near distance of a camera must be a number, not True"),
        ({"orthographic": 1}, "camera orthographic must be true or false"),
        ({"K": np.eye(4)}, r"camera K must have shape \(3, 3\)"),
        ({"K": np.diag([0.0, 0, 1])}, "camera K must be invertible"),
        ({"K": [[1, 1, 0], [1, 1, 0], [0, 0, 1]]}, "camera K must be invertible"),
        ({"K": 2 * np.eye(3)}, "last row of camera K must be 0 0 1"),
        ({"K": [["1", 0, 0], [0, 1, 0], [0, 0, 1]]}, "camera K must hold numbers"),
        ({"K": [[True, 0, 0], [0, 1, 0], [0, 0, 1]]}, "camera K must hold numbers"),
        ({"K": [[10**400, 0, 0], [0, 1, 0], [0, 0, 1]]}, "camera K must hold numbers"),
        ({"world_to_camera": np.full((4, 4), np.inf)}, "camera world_to_camera must hold finite numbers"),
        ({"world_to_camera": np.zeros((4, 4))}, "last row of camera world_to_camera must be 0 0 0 1"),
        ({"world_to_camera": np.diag([0.0, 0, 0, 1])}, "must be a rotation: its rows must be perpendicular"),
        ({"world_to_camera": np.eye(4) + np.eye(4, k=1)}, "must be a rotation: its rows must be perpendicular"),
        ({"world_to_camera": np.diag([2.5, 2.5, 2.5, 1])}, "but is one that is scaled by 2.5; divide it by that"),
        ({"world_to_camera": np.diag([1.0, -1, 1, 1])}, "but is a reflection .* y and z change sign together"),
        ({"world_to_camera": np.eye(4) + 1e-4 * np.eye(4, k=1)[:, [1, 0, 2, 3]]}, "must be a rotation"),
    ],
)
def test_a_camera_is_made_of_numbers_that_make_sense(square_views, change: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        replace(square_views[0].camera, **change)


@pytest.mark.parametrize("weight", [float("inf"), float("nan"), -1, "2"])
def test_a_weight_is_a_number(square_views, weight) -> None:
    with pytest.raises(InputError, match="the weight of view 'along y' must be a "):
        replace(square_views[0], weight=weight)


@pytest.mark.parametrize("odd", ["3", None, 10**400])
def test_numbers_of_functions_are_numbers(cube, square_views, odd) -> None:
    camera = square_views[0].camera
    for call in (
        lambda: softras.perspective(odd, 8, 8),
        lambda: softras.perspective(30.0, odd, 8),
        lambda: softras.orthographic(odd, 8, 8),
        lambda: softras.look_at((odd, 1, 1)),
        lambda: softras.eye_from_angles(odd, 1, 1),
        lambda: camera.crop(0, 0, odd, 4, 8, 8),
        lambda: camera.crop(0, 0, 4, 4, odd, 8),
        lambda: softras.camera_to_opengl(camera, odd),
        lambda: softras.camera_to_blender(camera, sensor_width=odd),
        lambda: softras.camera_from_blender(np.eye(4), 8, 8, lens=odd),
        lambda: softras.camera_from_pytorch3d_fov(np.eye(3), [0, 0, 0], 8, 8, fov=odd),
        lambda: softras.camera_from_softras_look_at((0, 0, -3), odd),
        lambda: softras.sample_surface(cube.vertices, cube.faces, odd),
        lambda: softras.voxelize(cube.vertices, cube.faces, odd),
        lambda: softras.f_score(cube.vertices, cube.vertices, odd),
        lambda: softras.Landmark(0, (odd, 1)),
        lambda: softras.View("odd", camera, odd),
        lambda: softras.View("odd", odd, square_views[0].mask),
        lambda: softras.Rig(odd),
    ):
        with pytest.raises(InputError):
            call()


def test_a_mask_of_zeros_and_ones_of_255_is_told_so(square_views) -> None:
    view = square_views[0]
    assert view.blank() is None
    faint = replace(view, mask=view.mask / 255).blank()
    assert faint is not None and "is empty: its brightest pixel is 1 of 255; the object must be white" in faint
    unknown = replace(view, ignore=np.ones((40, 48), bool)).blank()
    assert unknown is not None and "is empty: all of it is ignored" in unknown
    full = replace(view, ignore=view.mask < 0.5).blank()
    assert full is not None and "covers the whole image" in full


def test_the_mean_iou_is_of_the_views_that_tell_something(square_views) -> None:
    heavy = [replace(square_views[0], weight=3.0), *square_views[1:]]
    assert mean_iou([0.5, 0.9, *[np.nan] * (len(heavy) - 2)], heavy) == pytest.approx(0.6)
    assert np.isnan(mean_iou([np.nan] * len(heavy), heavy)) and np.isnan(mean_iou([]))
    assert mean_iou([0.5, 0.9, None]) == mean_iou([0.5, 0.9, np.nan]) == pytest.approx(0.7)


def test_arrays_and_one_camera_render_as_tensors_and_a_list_do(cube, square_views) -> None:
    camera: Camera = square_views[0].camera
    vertices, faces = torch.from_numpy(cube.vertices), torch.from_numpy(cube.faces)
    wanted = render_silhouettes(vertices, faces, [camera])
    torch.testing.assert_close(render_silhouettes(cube.vertices, cube.faces, camera), wanted)
    assert hard_silhouettes(cube.vertices, cube.faces, [camera]).sum() == 400
    with pytest.raises(InputError, match="there are no cameras"):
        render_silhouettes(cube.vertices, cube.faces, [])


def test_cameras_of_equal_numbers_are_one_camera_in_a_set(square_views) -> None:
    camera = square_views[0].camera
    same = Camera(**{field.name: getattr(camera, field.name) for field in dataclasses.fields(Camera)})
    negative_zeros = replace(
        camera, world_to_camera=np.where(camera.world_to_camera == 0, -0.0, camera.world_to_camera)
    )
    others = [
        replace(camera, **change) for change in ({"near": 0.5}, {"width": 47}, {"K": camera.K + np.diag([1, 1, 0])})
    ]
    others += [replace(camera, orthographic=not camera.orthographic), "a camera", None]
    assert camera == same == negative_zeros
    assert camera in [same]
    assert len({camera, same, negative_zeros}) == 1
    assert camera not in others
    assert len({camera, *others}) == 7


def test_a_camera_does_not_change_with_the_arrays_it_was_made_of(square_views) -> None:
    K = square_views[0].camera.K.copy()
    camera = replace(square_views[0].camera, K=K)
    before = hash(camera)
    K[0, 0] += 1
    assert camera == square_views[0].camera
    assert hash(camera) == before
    with pytest.raises(ValueError, match="read-only"):
        camera.K[0, 0] = 1


def test_every_other_noun_with_arrays_equals_itself_only(cube, square_views) -> None:
    """An equality made of the arrays' own would have no truth value, and a hash could not follow their changes."""
    for noun in (cube, square_views[0], softras.Transform(), softras.AmbientLight([1, 1, 1])):
        other = replace(noun)
        assert noun == noun
        assert noun != other
        assert noun in [other, noun]
        assert len({noun, noun, other}) == 2
    for module in pkgutil.walk_packages(softras.__path__, "softras."):
        if module.name != "softras.__main__":
            for value in vars(importlib.import_module(module.name)).values():
                if value is not Camera and dataclasses.is_dataclass(value) and value.__dataclass_params__.eq:
                    kinds = {str(field.type).removesuffix(" | None") for field in dataclasses.fields(value)}
                    assert kinds.isdisjoint({"np.ndarray", "Tensor", "torch.Tensor"}), value
