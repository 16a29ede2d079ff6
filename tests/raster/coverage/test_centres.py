"""Which pixels' centres a mesh covers, against soft silhouettes without blur in double precision, and by hand."""

import emulation
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scenes import by_threads, scenes
from test_coverage import ball, flat

import softras
from softras.raster.coverage.ops import HARD_SIGMA, covers_centres

QUICK = settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck), derandomize=True)


def without_blur(*scene, sigma=HARD_SIGMA, **modes):
    """On the CPU."""
    with emulation.native():
        return softras.silhouettes(*[x.cpu() if torch.is_tensor(x) else x for x in scene], sigma=sigma, **modes)


@QUICK
@given(
    scenes(faces=st.integers(1, 8), sizes=st.tuples(st.integers(1, 40), st.integers(1, 40))),
    st.sampled_from((torch.float32, torch.float64)),
)
def test_centres_are_covered_by_faces(device, scene, dtype):
    vertices, K, world_to_camera = scene.inputs(torch.float64)
    arguments = (vertices, scene.faces, K, world_to_camera, scene.height, scene.width)
    modes = {"orthographic": scene.orthographic, "near": scene.near}
    given, cameras = scene.inputs(dtype, device)[0], scene.inputs(dtype, device)[1:]
    found = covers_centres(given, scene.faces.to(device), *cameras, scene.height, scene.width, **modes).cpu()
    assert found.dtype == torch.bool
    # Centres that lie closer to an outline than this blur may count either way, since they are rounded.
    sure = without_blur(*arguments, sigma=HARD_SIGMA if dtype == torch.float64 else 1e-7, **modes)
    assert not (found & (sure < 1e-3)).any() and not (~found & (sure > 1 - 1e-3)).any()


def test_edges_and_corners_that_meet_at_a_centre_count_once(device) -> None:
    """A square of two triangles whose corners and diagonal run through centres: no hole and no line beside it."""
    square = [(1.5, 1.5), (5.5, 1.5), (5.5, 5.5), (1.5, 1.5), (5.5, 5.5), (1.5, 5.5)]
    vertices, faces, K, world_to_camera, height, width = flat(square, 8, 8, device)
    found = covers_centres(vertices, faces, K, world_to_camera, height, width, orthographic=torch.tensor([True]))[0]
    assert found.sum() == 16  # of 4 x 4 pixels: edges on the left and above belong to a face, others do not
    rows, columns = np.nonzero(found.cpu().numpy())
    assert np.ptp(rows) == np.ptp(columns) == 3


def test_an_open_mesh_and_both_orientations_count(device) -> None:
    vertices, faces, *camera = ball(device=device)
    whole = covers_centres(vertices, faces, *camera)
    assert torch.equal(covers_centres(vertices, faces.flip(1), *camera), whole)
    half = faces[: len(faces) // 2]
    expected = without_blur(vertices.double(), half, camera[0].double(), camera[1].double(), *camera[2:]) > 0.5
    assert torch.equal(covers_centres(vertices, half, *camera).cpu(), expected)


def test_any_number_of_threads_covers_the_same() -> None:
    scene = ball(5, views=3, size=200)
    first, *others = by_threads(lambda: covers_centres(*scene))
    assert first.any() and all(torch.equal(first, other) for other in others)


def test_faces_that_are_changed_in_place_are_seen(device) -> None:
    vertices, faces, *camera = ball(device=device)
    before = covers_centres(vertices, faces, *camera)
    faces[len(faces) // 2 :] = 0
    after = covers_centres(vertices, faces, *camera)
    assert after.sum() < before.sum()


@pytest.mark.parametrize("count", [0, 1])
def test_few_faces(device, count) -> None:
    vertices, faces, *camera = ball(device=device)
    found = covers_centres(vertices, faces[:count], *camera)
    assert found.shape == (1, *camera[2:]) and bool(found.any()) == (
        bool(count) and bool((without_blur(vertices, faces[:count], *camera) > 0.5).any())
    )
