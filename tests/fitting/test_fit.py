"""Whole fits, small ones, judged as users judge them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import trimesh
from fitting_scenes import ball, turned, views_of

from softras import FitResult, InputError, Mesh, View, fit, fit_events, load_mesh, load_views
from softras.fitting.observed.evaluate import evaluate, thinned

SHORT = [
    {"resolution": 64, "steps": 40, "blur": (0.6, 0.4), "rate": (0.05, 0.03), "smoothing": 0.1},
    {"resolution": 128, "steps": 60, "blur": (0.35, 0.2), "rate": (0.02, 0.002), "smoothing": 0.05},
]
NEW = {
    "mode": "reconstruct",
    "voxels": 48,
    "schedule": [{"resolution": 128, "steps": 60, "rate": (0.02, 0.002), "edge": 0.04, "remesh_every": 30}],
}


@pytest.fixture(scope="module")
def start(cow) -> Mesh:
    """The cow, smoothed until its horns are gone, turned and larger."""
    smooth = trimesh.Trimesh(cow.vertices, cow.faces, process=False)
    trimesh.smoothing.filter_laplacian(smooth, iterations=10)
    return turned(Mesh(smooth.vertices, cow.faces), 15, 1.2)


def test_refining_keeps_the_mesh_and_matches_views_it_did_not_see(cow, cow_views, start):
    result = fit(start, cow_views, schedule=SHORT)
    np.testing.assert_array_equal(result.mesh.faces, start.faces)
    assert result.mesh.vertices.shape == start.vertices.shape
    assert result.mean_iou > 0.97
    np.testing.assert_array_equal(result.iou, evaluate(result.mesh.vertices, result.mesh.faces, cow_views))
    unseen = views_of(cow, 7, 128)
    before = evaluate(start.vertices, start.faces, unseen).mean()
    assert evaluate(result.mesh.vertices, result.mesh.faces, unseen).mean() > max(0.93, before + 0.1)
    # Each vertex goes to its own place, not just to some place on the outline.
    distance = np.linalg.norm(result.mesh.vertices - cow.vertices, axis=1)
    assert np.median(distance) < 0.7 * np.median(np.linalg.norm(start.vertices - cow.vertices, axis=1))
    assert result.status == "finished"


def test_a_far_start_does_not_crumple(cow_views):
    """A sphere becomes a cow, and its faces keep their angles."""
    result = fit(ball(3), cow_views, schedule=SHORT)
    found = trimesh.Trimesh(result.mesh.vertices, result.mesh.faces, process=False)
    assert result.mean_iou > 0.9
    assert (found.face_angles.min(axis=1) < np.radians(5)).mean() < 0.002


def test_where_an_object_is_is_found(cow, cow_views):
    away = turned(cow, 20, 1.25, 0.15)
    result = fit(away, cow_views, optimize="object")
    assert result.mean_iou > 0.98
    np.testing.assert_allclose(result.mesh.vertices, cow.vertices, atol=0.005)
    np.testing.assert_allclose(result.rigs[0].vertices(), result.mesh.vertices, atol=1e-9)
    assert result.rigs[0].transform.scale == pytest.approx(1 / 1.25, rel=0.01)


def test_object_and_vertices_together(cow_views, start):
    result = fit(start, cow_views, optimize=("vertices", "object"), schedule=SHORT)
    assert result.mean_iou > 0.975
    np.testing.assert_allclose(result.rigs[0].vertices(), result.mesh.vertices, atol=1e-9)
    # The steps of both parts count on, and the object's come first.
    steps = [event.step for event in result.history]
    assert steps == sorted(steps) and "squares" in result.history[1].loss and "iou" in result.history[-1].loss


def test_plain_steps_work_too(cow_views, start):
    stages = [stage | {"rate": (0.01, 0.002)} for stage in SHORT]
    weights = {"laplacian": 0.1, "bilaplacian": 0.0, "normal_consistency": 0.0, "distortion": 0.0}
    result = fit(start, cow_views, preconditioned=False, weights=weights, schedule=stages)
    assert result.mean_iou > 0.9


def test_reconstruction_makes_a_sound_mesh(cow, cow_views):
    views = views_of(cow, 12, 128)
    result = fit(None, views, **NEW)
    assert result.mean_iou > 0.96
    found = trimesh.Trimesh(result.mesh.vertices, result.mesh.faces, process=False)
    truth = trimesh.Trimesh(cow.vertices, cow.faces)
    assert found.is_watertight and found.is_winding_consistent
    assert found.volume == pytest.approx(truth.volume, rel=0.2)
    assert (found.face_angles.min(axis=1) < np.radians(5)).mean() < 0.001


def test_a_reconstruction_never_returns_the_ragged_hull(cow_views):
    """Not even where triangles as large as asked for cannot match the masks as well as the hull does."""
    coarse = fit(None, cow_views, **NEW | {"schedule": [{"resolution": 64, "steps": 3, "edge": 0.2}]})
    edges = np.linalg.norm(np.diff(coarse.mesh.vertices[coarse.mesh.faces], axis=1), axis=2)
    assert np.median(edges) > 0.1 * np.ptp(coarse.mesh.vertices, axis=0).max()


def test_a_mesh_elsewhere_is_placed_first(cow, cow_views):
    away = turned(cow, 0, 0.01, 1.5)
    result = fit(away, cow_views, schedule=SHORT[1:])
    assert "onto the masks first" in result.notes[0]
    assert result.mean_iou > 0.97
    kept = fit(away, cow_views, schedule=SHORT[1:], place="never")
    assert kept.mean_iou < 0.05 and not any("onto the masks first" in note for note in kept.notes)


def test_a_mesh_need_not_be_manifold(cow_views, start):
    """A fin on an edge that two faces share already, and a face twice over."""
    a, b = start.faces[0, :2]
    tip = start.vertices[[a, b]].mean(axis=0) * 1.02
    fin = [[a, b, len(start.vertices)], start.faces[5]]
    odd = Mesh(np.concatenate([start.vertices, [tip]]), np.concatenate([start.faces, fin]))
    result = fit(odd, cow_views, schedule=SHORT)
    np.testing.assert_array_equal(result.mesh.faces, odd.faces)
    assert np.isfinite(result.mesh.vertices).all()
    assert result.mean_iou > 0.95


def test_locked_and_loose_vertices_keep_their_coordinates_to_the_bit(cow_views, start):
    vertices = np.concatenate([start.vertices, [[0.123456789012345, 8, 9]]])
    lock = np.zeros(len(vertices), dtype=bool)
    lock[:-1] = start.vertices[:, 1] > 0.4
    assert 100 < lock.sum() < len(lock) - 100
    result = fit(Mesh(vertices, start.faces), cow_views, lock=lock, schedule=SHORT)
    np.testing.assert_array_equal(result.mesh.vertices[lock], vertices[lock])
    np.testing.assert_array_equal(result.mesh.vertices[-1], vertices[-1])
    assert (np.linalg.norm(result.mesh.vertices - vertices, axis=1)[~lock][:-1] > 1e-3).mean() > 0.9


def test_loose_vertices_stay_where_they_are_through_all(cow, cow_views):
    away = turned(cow, 10, 0.02, 9.0)
    vertices = np.concatenate([away.vertices, [[0.1, 8, 9]]])
    result = fit(Mesh(vertices, away.faces), cow_views, optimize=["object"])
    assert result.notes and result.mean_iou > 0.9
    np.testing.assert_array_equal(result.mesh.vertices[-1], vertices[-1])


@pytest.mark.parametrize("place", ["never", "auto"])
def test_a_symmetric_mesh_stays_symmetric_in_its_own_frame(cow, place):
    """Also where the masks would be matched better from beside its plane."""
    sphere = ball(3)
    frame = np.eye(4)
    frame[:3, :3] = turned(Mesh(np.eye(3), np.array([[0, 1, 2]])), 0).vertices
    frame[:3, 3] = [0.5, 0, 0]
    sphere.vertices += frame[:3, 3]
    views = views_of(cow, 6, 96)
    result = fit(sphere, views, symmetry="x", symmetry_frame=frame.ravel().tolist(), place=place, schedule=SHORT)
    local = result.mesh.vertices - frame[:3, 3]
    image = local * [-1, 1, 1]
    nearest = np.linalg.norm(image[:, None] - local[None], axis=2).min(axis=1)
    assert nearest.max() < 1e-5
    assert np.abs(local - (sphere.vertices - frame[:3, 3])).max() > 0.1


def test_the_same_seed_gives_the_same_result_and_another_a_different_one(cow_views, start):
    options = {"schedule": [SHORT[0] | {"steps": 12}], "batch": 2, "place": "never"}
    first, again, other = (fit(start, cow_views, seed=seed, **options) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.mesh.vertices, again.mesh.vertices)
    assert not np.array_equal(first.mesh.vertices, other.mesh.vertices)


def test_the_best_state_is_the_result(cow, cow_views):
    """From the truth, with steps far too long, nothing found is better than the start."""
    result = fit(cow, cow_views, schedule=[{"resolution": 32, "steps": 10, "rate": (1.0, 1.0)}])
    np.testing.assert_array_equal(result.mesh.vertices, cow.vertices)
    assert result.mean_iou == 1


def test_what_the_mask_does_not_know_does_not_pull(cow, cow_views):
    """A bar across every mask, ignored, leaves the fit as good as without it."""
    views = []
    for view in cow_views:
        mask, ignore = view.mask.copy(), np.zeros(view.mask.shape, bool)
        mask[:, 70:80], ignore[:, 70:80] = 1, True
        views.append(replace(view, mask=mask, ignore=ignore))
    start = turned(cow, 0, 1.1)
    result = fit(start, views, schedule=SHORT[1:])
    assert evaluate(result.mesh.vertices, result.mesh.faces, cow_views).mean() > 0.96


def test_a_view_of_weight_zero_has_no_say(cow, cow_views):
    wrong = replace(cow_views[0], mask=np.roll(cow_views[0].mask, 30, axis=1), weight=0.0)
    result = fit(turned(cow, 0, 1.1), [wrong, *cow_views[1:]], schedule=SHORT[1:])
    assert result.iou[1:].mean() > 0.97 > 0.8 > result.iou[0]


def test_progress_tells_steps_losses_and_vertices_with_their_iou(cow_views, start):
    events = list(fit_events(start, cow_views, schedule=SHORT, place="never"))
    *progress, result = events
    assert isinstance(result, FitResult)
    steps = [event.step for event in progress]
    assert steps == sorted(steps) and steps[0] == 0 and steps[-1] == progress[-1].steps == 100
    assert {event.stage for event in progress} == {0, 1}
    assert all(event.loss["iou"] > 0 for event in progress[1:])
    measured = [event for event in progress if event.iou is not None]
    assert len(measured) > 10
    for event in measured[:: len(measured) // 3]:
        np.testing.assert_array_equal(evaluate(event.vertices, start.faces, cow_views), event.iou)
    assert max(event.iou.mean() for event in measured) == pytest.approx(result.mean_iou)
    assert all(event.vertices is None for event in result.history)


ENDLESS = [{"resolution": 128, "steps": 1_000_000, "rate": (0.01, 0.01)}]


def test_stop_ends_the_fit_with_its_best(cow_views, start):
    """Asked at every step."""
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 25

    result = fit(start, cow_views, schedule=ENDLESS, stop=stop)
    assert result.status == "stopped"
    assert len(asked) == 26
    assert result.mean_iou >= evaluate(start.vertices, start.faces, cow_views).mean()


def test_closing_the_iterator_ends_the_fit(cow_views, start):
    events = fit_events(start, cow_views, schedule=ENDLESS)
    next(events), next(events)
    events.close()
    assert next(events, None) is None


def test_a_fit_that_is_stopped_at_once_keeps_what_it_has_shown(cow, cow_views):
    """Here a mesh that is too large, whose first event has it after its placement."""
    shown: list[float] = []
    for event in fit_events(Mesh(cow.vertices * 1.5, cow.faces), cow_views, stop=lambda: bool(shown)):
        if not isinstance(event, FitResult) and event.iou is not None:
            shown.append(float(event.iou.mean()))
    assert isinstance(event, FitResult) and event.status == "stopped"
    assert event.mean_iou >= shown[0] - 1e-6 and shown[0] > 0.8, "the start has about a half"


def test_max_seconds_are_kept_and_every_stage_gets_its_share(cow_views, start):
    stages = [stage | {"steps": 100_000} for stage in SHORT]
    result = fit(start, cow_views, schedule=stages, max_seconds=3.0)
    assert result.status == "out of time"
    assert result.elapsed < 30, "all steps would take hours"
    assert {event.stage for event in result.history} == {0, 1}
    assert result.mean_iou > 0.9


def test_meshes_of_every_kind(cow_views):
    quick = {"schedule": [SHORT[0] | {"steps": 5}], "place": "never"}
    triangle = Mesh(np.array([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0, 0.5, 0]]), np.array([[0, 1, 2]]))
    fan = Mesh(
        np.array([[0, 0, 0], [0, 1, 0], [1, 0, 0], [-1, 0, 0], [0, 0, 1.0]]),
        np.array([[0, 1, 2], [1, 0, 3], [0, 1, 4]]),
    )
    flat = Mesh(np.array([[0, 0, 0], [0, 1, 0], [0, 2, 0], [1, 0, 0.0]]), np.array([[0, 1, 2], [0, 1, 3], [2, 2, 2]]))
    for mesh in (triangle, fan, flat):
        for optimize in ("vertices", "object"):
            result = fit(mesh, cow_views, optimize=optimize, **quick)
            assert np.isfinite(result.mesh.vertices).all()
            np.testing.assert_array_equal(result.mesh.faces, mesh.faces)


def test_two_hundred_thousand_faces_can_be_stopped(cow_views):
    fine = trimesh.creation.uv_sphere(count=[320, 320])
    assert len(fine.faces) > 200_000
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 3

    result = fit(Mesh(fine.vertices, fine.faces), cow_views, schedule=ENDLESS, stop=stop)
    assert asked == 4  # once a step
    assert result.status == "stopped" and len(result.mesh.faces) == len(fine.faces)


STAGE = {"resolution": 64, "steps": 5}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"views": []}, "there are no views"),
        ({"start": None}, "there is no mesh to refine"),
        ({"mode": "reconstruct"}, "leave out the given one"),
        ({"mode": "guess"}, "mode cannot be 'guess'; choose from refine, reconstruct"),
        ({"optimise": "vertices"}, "there is no setting 'optimise'"),
        ({"optimize": "colour"}, "optimize cannot be 'colour'"),
        ({"optimize": ()}, "optimize names nothing"),
        ({"weights": {"iuo": 1}}, "weights cannot be 'iuo'"),
        ({"weights": {"iou": 0, "squared": 0}}, "no mask counts"),
        ({"schedule": [{"resolution": 64, "stpes": 3}]}, "a stage has no 'stpes'"),
        ({"schedule": [{"resolution": 64}]}, "a stage needs at least resolution and steps"),
        ({"symmetry": "w"}, "symmetry cannot be 'w'"),
        ({"batch": 0}, "batch must be"),
        ({"max_seconds": -1}, "max_seconds must be a positive number, not -1"),
        ({"lock": np.zeros(3, bool)}, "the lock mask has shape"),
        ({"device": "cuda:7"}, "device cannot be"),
        ({"seed": -1}, "seed must be a whole number of at least 0, not -1"),
        ({"seed": 0.5}, "seed must be a whole number"),
        ({"max_seconds": "3"}, "max_seconds must be a positive number, not '3'"),
        ({"max_seconds": float("nan")}, "max_seconds must be a positive number"),
        ({"weights": {"iou": float("nan")}}, "the weight of iou must be a number from 0 to 1e\\+09, not nan"),
        ({"weights": {"iou": -1}}, "the weight of iou must be"),
        ({"weights": {"iou": "1"}}, "the weight of iou must be"),
        ({"weights": ["iou"]}, "weights must be a dictionary"),
        ({"weights": 3}, "weights must be a dictionary"),
        ({"optimize": 3}, "optimize must be a list of names"),
        ({"cull": "no"}, "cull must be true or false, not 'no'"),
        ({"symmetry_frame": 3}, "symmetry_frame must be 16 numbers"),
        ({"schedule": 3}, "schedule must be a list of stages"),
        ({"schedule": [3]}, "a stage must be a dictionary"),
        ({"schedule": [{"resolution": 64.5, "steps": 5}]}, "resolution of a stage must be a whole number"),
        ({"schedule": [STAGE | {"blur": 0.3}]}, "blur of a stage must be two positive numbers"),
        ({"schedule": [STAGE | {"rate": (0, 0)}]}, "rate of a stage must be a number from 1e-09 to 1000"),
        ({"schedule": [STAGE | {"edge": 0.1}]}, "refine keeps the mesh's faces; leave out edge"),
        ({"mode": "reconstruct", "start": None, "symmetry": "x"}, "leave out symmetry"),
        ({"mode": "reconstruct", "start": None, "lock": np.ones(3, bool)}, "nothing can be locked"),
        ({"optimize": "object", "lock": "one"}, "a lock mask holds free vertices; leave it out"),
        ({"optimize": "pose"}, "a mesh alone has no pose and no shape keys; give a rig"),
        ({"optimize": "rigid"}, "optimize cannot be 'rigid'; choose from vertices, object"),
        ({"optimize": "object", "symmetry": "x"}, "symmetry is of free vertices"),
        ({"optimize": "cameras", "camera_parts": "zoom"}, "camera_parts cannot be 'zoom'; choose from location"),
        ({"optimize": "object", "known_frame": 3}, "the known frame 3 has no view"),
        ({"optimize": "object", "turns": -1}, "turns must be a whole number of at least 0"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(cow, cow_views, change, message):
    if isinstance(change.get("lock"), str):
        change = change | {"lock": np.arange(len(cow.vertices)) == 0}
    with pytest.raises(InputError, match=message) as error:
        fit(**({"start": cow, "views": cow_views} | change))
    assert "\n" not in str(error.value)


def test_numbers_of_numpy_and_no_limit_are_fine(cow, cow_views):
    stage = {key: np.int64(value) for key, value in STAGE.items()} | {"blur": [np.float32(1), 1]}
    options = {"seed": np.int64(3), "batch": np.int32(2), "schedule": [stage], "max_seconds": float("inf")}
    assert fit(cow, cow_views, **options, weights={"iou": np.float32(1)}).status == "finished"


def test_all_views_of_weight_zero_are_refused(cow, cow_views):
    with pytest.raises(InputError, match="weight 0"):
        fit(cow, [replace(view, weight=0.0) for view in cow_views])


def test_a_camera_inside_the_mesh_is_told_by_name(cow, cow_views):
    inside = replace(cow_views[0].camera, world_to_camera=np.eye(4))
    views = [*cow_views[1:], replace(cow_views[0], name="bad", camera=inside)]
    with pytest.raises(InputError, match="the camera of view 'bad' is inside the mesh"):
        fit(cow, views)


@pytest.mark.parametrize("name, asked", [("oxford_dino", 0.97), ("ntust_teapot", 0.985)])
def test_reconstruction_from_real_masks(data, name, asked):
    views = load_views(data / name)[:12]
    stage = {"resolution": 256, "steps": 60, "blur": (0.35, 0.2), "rate": (0.02, 0.002), "edge": 0.03}
    result = fit(None, views, mode="reconstruct", schedule=[stage | {"smoothing": 0.03}], voxels=64)
    assert result.mean_iou > asked


def test_the_deformation_task_of_softras(data):
    folder = data / "softras_plane"
    stages = [
        {"resolution": 64, "steps": 60, "blur": (1.0, 0.5), "rate": (0.07, 0.05), "smoothing": 0.15},
        {"resolution": 128, "steps": 140, "blur": (0.5, 0.25), "rate": (0.04, 0.01), "smoothing": 0.08},
    ]
    result = fit(load_mesh(folder / "sphere_1352.obj"), load_views(folder), schedule=stages)
    assert result.mean_iou > 0.85


def test_a_model_far_from_the_origin_is_measured_and_fitted_alike(cow, cow_views, start):
    """As a scan in map coordinates is: half a million units away, where float32 steps by 3 % of a unit."""
    away = np.array([5e5, -4e5, 3e5])

    def moved(view: View) -> View:
        matrix = view.camera.world_to_camera.copy()
        matrix[:3, 3] -= matrix[:3, :3] @ away
        return replace(view, camera=replace(view.camera, world_to_camera=matrix))

    far_views = [moved(view) for view in cow_views]
    np.testing.assert_allclose(evaluate(cow.vertices + away, cow.faces, far_views), 1, atol=2e-3)
    result = fit(Mesh(start.vertices + away, start.faces), far_views, schedule=SHORT)
    assert result.mean_iou > 0.97


def test_a_mesh_at_one_point_is_refused(cow, cow_views):
    with pytest.raises(InputError, match="at one point"):
        fit(Mesh(np.zeros_like(cow.vertices), cow.faces), cow_views)


def test_camera_sized_masks_are_watched_in_part_and_judged_whole(cow, start):
    views = views_of(cow, 3, 2000)
    small = [thinned(view) for view in views]
    assert {view.mask.shape for view in small} == {(666, 666)}
    np.testing.assert_allclose(
        evaluate(start.vertices, start.faces, small), evaluate(start.vertices, start.faces, views), atol=2e-3
    )
    assert evaluate(cow.vertices, cow.faces, small).min() > 0.9999
    result = fit(start, views, schedule=SHORT[:1])
    np.testing.assert_array_equal(result.iou, evaluate(result.mesh.vertices, result.mesh.faces, views))
