"""Fits of poses, shape keys and objects: small ones, judged as users judge them."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from rig_scenes import (
    ALL,
    BENDS,
    POSE,
    angles_of,
    around,
    bent,
    keyed_rig,
    matches,
    moved,
    pixel_errors,
    seen_from,
    shots,
    tube,
    tube_rig,
)

from softras import FitResult, InputError, Mesh, fit, fit_events
from softras.deform.cameras import rotations
from softras.fitting.observed.evaluate import evaluate
from softras.rig import Rig, Transform
from softras.views import Landmark, View

FREE = Transform(free_location=ALL, free_rotation=ALL, free_scale=True)


# Poses


def test_a_pose_is_found_and_what_is_locked_stays(rest, views):
    result = fit(rest, views, optimize="pose")
    (found,) = result.rigs.values()
    assert result.mean_iou > 0.98 and result.status == "finished"
    assert np.abs(angles_of(found) - POSE).max() < 0.05
    matches(result, views)
    np.testing.assert_array_equal(result.mesh.vertices, found.vertices())
    assert (angles_of(found)[:, 1] == 0).all(), "locked"
    for bone, given in zip(found.armature.bones, rest.armature.bones, strict=True):
        assert (bone.pose.location == given.pose.location).all() and (bone.pose.scale == given.pose.scale).all()
        assert bone.pose.free_rotation == BENDS and bone.pose.mode == "XYZ"
    np.testing.assert_array_equal(found.transform.matrix(), rest.transform.matrix())
    assert [camera.K.tolist() for camera in result.cameras] == [view.camera.K.tolist() for view in views]


def test_limits_hold(views):
    limits = np.array([[-0.1, 0.3], [0, 0], [-0.25, 0.25]])
    result = fit(tube_rig(limits=limits), views, optimize="pose")
    angles = angles_of(result.rigs[0])
    assert (angles >= limits[:, 0] - 1e-12).all() and (angles <= limits[:, 1] + 1e-12).all()
    assert angles[1, 0] == pytest.approx(0.3, abs=1e-12), "the true angle is beyond"


def test_shape_keys_are_found_and_stay_in_their_range():
    cameras = around()
    result = fit(keyed_rig(), shots({0: keyed_rig((0.7, 0.4))}, cameras), optimize="shape_keys")
    wide, thick = (key.value for key in result.rigs[0].shape_keys)
    assert wide == pytest.approx(0.7, abs=0.05) and thick == pytest.approx(0.4, abs=0.1)
    start = keyed_rig()
    narrow = replace(start, shape_keys=(replace(start.shape_keys[0], high=0.3), start.shape_keys[1]))
    result = fit(narrow, shots({0: keyed_rig((0.7, 0))}, cameras), optimize="shape_keys")
    wide, thick = (key.value for key in result.rigs[0].shape_keys)
    assert wide == pytest.approx(0.3, abs=1e-12) and 0 <= thick <= 1


def test_a_shape_key_without_a_range_stays(rest):
    start = keyed_rig()
    stuck = replace(start.shape_keys[0], name="Stuck", low=0.0, high=0.0)
    result = fit(
        replace(start, shape_keys=(stuck, *start.shape_keys)),
        shots({0: keyed_rig((0.7, 0))}, around()),
        optimize="shape_keys",
    )
    assert [key.value for key in result.rigs[0].shape_keys[:2]] == pytest.approx([0, 0.7], abs=0.05)


def test_a_pose_and_the_cameras_are_found_together(rest, posed, views):
    cameras = [view.camera for view in views]
    off = [moved(camera, (0.02, -0.02, 0.02), (0.05, -0.05, 0)) for camera in cameras]
    result = fit(rest, seen_from(views, off), optimize=("pose", "cameras"), camera_parts=("location", "rotation"))
    errors = pixel_errors(posed.vertices(), result.cameras, cameras)
    assert result.mean_iou > 0.97 and errors.max() < 0.5 * pixel_errors(posed.vertices(), off, cameras).min()
    matches(result, views)
    for camera, given in zip(result.cameras, off, strict=True):
        np.testing.assert_allclose(camera.K, given.K, rtol=1e-12)


def test_a_pose_is_found_by_orthographic_cameras(rest, posed):
    views = shots({0: posed}, around(orthographic=True))
    result = fit(rest, views, optimize="pose")
    assert np.abs(angles_of(result.rigs[0]) - POSE).max() < 0.06


# Free vertices on top

SHORT = [{"resolution": 96, "steps": 60, "blur": (0.5, 0.25), "rate": (0.03, 0.003)}]


def test_free_vertices_come_on_top_of_an_object():
    parent = Transform(location=[0.3, 0, 0], rotation=[0.4, 0.1, 0], scale=[2, 2, 2], mode="XYZ").matrix()
    truth = keyed_rig((1.0, 0.0))
    start = replace(truth, parent=parent, shape_keys=())
    onto = np.linalg.inv(parent)
    start = replace(start, mesh=Mesh(tube().vertices @ onto[:3, :3].T + onto[:3, 3] + 0.05, tube().faces))
    start = replace(start, transform=FREE)
    views = shots({5: truth}, around())
    alone = fit(start, views, optimize="object", turns=0)
    result = fit(start, views, optimize=("object", "vertices"), turns=0, schedule=SHORT)
    (rig,) = result.rigs.values()
    assert list(result.rigs) == [5] and result.mean_iou > max(0.97, alone.mean_iou + 0.01)
    np.testing.assert_allclose(rig.vertices(), result.mesh.vertices, atol=1e-9)
    assert np.abs(rig.mesh.vertices - start.mesh.vertices).max() > 0.01
    assert np.abs(rig.transform.matrix() - np.eye(4)).max() > 0.01
    matches(result, views)


def test_free_vertices_come_on_top_of_a_pose_and_locked_ones_follow_it(rest, posed):
    truth = replace(posed, mesh=Mesh(posed.mesh.vertices * [1.2, 1.2, 1], posed.mesh.faces))
    views = shots({0: truth}, around())
    lock = rest.mesh.vertices[:, 2] < 1
    result = fit(rest, views, lock=lock, optimize=("pose", "vertices"), schedule=SHORT)
    rig = result.rigs[0]
    np.testing.assert_allclose(rig.vertices(), result.mesh.vertices, atol=1e-9)
    np.testing.assert_array_equal(rig.mesh.vertices[lock], rest.mesh.vertices[lock])
    assert np.abs(rig.mesh.vertices - rest.mesh.vertices)[~lock].max() > 0.01
    assert np.abs(angles_of(rig)[1, 0]) > 0.3, "posed as well"
    assert result.mean_iou > 0.93


@pytest.mark.parametrize("optimize", ["vertices", ("cameras", "vertices")])
def test_free_vertices_of_a_rig_are_those_of_its_mesh(posed, optimize):
    """In the views' frame, and with nothing else of the rig moving."""
    views = shots({7: replace(posed, mesh=Mesh(posed.mesh.vertices * [1.2, 1.2, 1], posed.mesh.faces))}, around())
    result = fit(posed, views, optimize=optimize, schedule=SHORT)
    assert list(result.rigs) == [7]
    np.testing.assert_allclose(result.rigs[7].vertices(), result.mesh.vertices, atol=1e-9)
    assert np.abs(result.rigs[7].mesh.vertices - posed.mesh.vertices).max() > 0.01
    np.testing.assert_array_equal(angles_of(result.rigs[7]), angles_of(posed))


def test_free_vertices_get_their_share_of_the_time():
    """Also where the search for the object would take all of it."""
    thick = Mesh(tube().vertices * [1.3, 1.3, 1], tube().faces)
    search = {"start": Rig(tube(), FREE), "views": shots({0: thick}, around(12)), "turns": 60}
    alone = fit(**search, optimize="object")
    result = fit(**search, optimize=("object", "vertices"), max_seconds=0.4 * alone.elapsed)
    assert result.status == "out of time" and alone.mean_iou < 0.85
    assert result.mean_iou > 0.98, "hurried steps reach .97"


def test_symmetry_goes_with_an_object_even_a_flat_one():
    across = np.linspace(-1, 1, 9)
    corners = np.array([(x, 0, z) for x in across for z in across + 1])
    first = (9 * np.arange(8)[:, None] + np.arange(8)).ravel()
    faces = np.concatenate([first[:, None] + [0, 9, 10], first[:, None] + [0, 10, 1]])
    turn = rotations(np.array([[0, 0.2, 0]]))[0]
    moved_away = corners @ turn.T + [0.2, 0, 0.1]
    cameras = [camera for camera in around(5) if abs(camera.centre[1]) > 2]
    views = shots({0: Mesh(moved_away * [1, 1, 1.1], faces)}, cameras)
    result = fit(Mesh(corners, faces), views, optimize=("object", "vertices"), symmetry="x", schedule=SHORT, turns=0)
    rows = result.mesh.vertices.reshape(9, 9, 3)
    between = rows - rows[::-1]
    outer = between[0] / np.linalg.norm(between[0], axis=1, keepdims=True)
    assert result.mean_iou > 0.95 and np.abs(outer - outer[0]).max() < 1e-6, "all pairs face each other"
    assert abs(outer[0, 0]) < 0.999, "in a plane that turned with the object"


# Sequences


def test_a_sequence_is_found_with_a_known_frame_and_frames_that_nothing_counts_for(rest):
    angles = np.array(POSE)
    frames = {number: bent(rest, angles * number / 30) for number in (10, 20, 30, 40)}
    views = [replace(v, weight=0) if v.frame == 20 else v for v in shots(frames, around())]
    start = frames[10]
    result = fit(start, views, optimize="pose", known_frame=10)
    assert sorted(result.rigs) == [10, 20, 30, 40]
    np.testing.assert_array_equal(angles_of(result.rigs[10]), angles_of(start))
    for number in (30, 40):
        assert np.abs(angles_of(result.rigs[number]) - angles * number / 30).max() < 0.06
    between = (angles_of(result.rigs[10]) + angles_of(result.rigs[30])) / 2
    np.testing.assert_allclose(angles_of(result.rigs[20]), between, atol=1e-9)
    np.testing.assert_array_equal(result.mesh.vertices, result.rigs[10].vertices())
    matches(result, views)


@pytest.mark.parametrize("known", [None, 2])
def test_an_object_that_travels_is_followed_from_frame_to_frame(rest, known):
    """Far beyond where it overlaps its first place."""
    frames = {k: replace(rest, transform=replace(FREE, location=[0.6 * k - 1.5, 0, 0])) for k in range(6)}
    views = shots(frames, around(distance=8))
    result = fit(frames[known or 0], views, optimize="object", known_frame=known, turns=0)
    assert result.iou.min() > 0.87 and result.mean_iou > 0.95  # of masks a few pixels wide
    for frame, rig in result.rigs.items():
        np.testing.assert_allclose(rig.transform.location, frames[frame].transform.location, atol=0.02)


def test_a_sequence_is_placed_by_its_first_frame_and_a_known_one_not_at_all(rest):
    frames = {k: replace(rest, transform=replace(FREE, location=[0.2 * k, 0, 0])) for k in range(3)}
    views = [view for view in shots(frames, around(distance=8)) if view.frame != 1]
    away = replace(rest, transform=replace(FREE, location=[0.1, 4, 0.2]))
    result = fit(away, views, optimize="object", turns=0)
    assert result.iou.min() > 0.9 and any("moved onto" in note for note in result.notes)
    kept = fit(away, views, optimize="object", known_frame=0)
    np.testing.assert_array_equal(kept.rigs[0].transform.matrix(), away.transform.matrix())


def test_smoothness_holds_frames_together(rest):
    frames = {0: rest, 1: bent(rest, POSE), 2: rest}
    views = shots(frames, around(2))

    def jumps(weight: float) -> float:
        found = fit(rest, views, optimize="pose", weights={"smoothness": weight}).rigs
        return float(np.abs(np.diff([angles_of(found[f]) for f in range(3)], axis=0)).sum())

    assert jumps(10.0) < 0.5 * jumps(1e-4)


# Landmarks


def marked(views: list[View], rig: Rig, vertices: list[int], **landmark: float) -> list[View]:
    """The views with landmarks where they would see vertices of the rig."""
    points = rig.vertices()[vertices]
    return [
        replace(
            view, landmarks=tuple(Landmark(v, tuple(pixel), **landmark) for v, pixel in zip(vertices, at, strict=True))
        )
        for view in views
        for at in [view.camera.project(points)]
    ]


def test_landmarks_pull_a_vertex_to_its_pixel(rest, posed):
    """Of two views, to where the masks would not have it."""
    views = shots({0: rest}, around(2))
    tip = len(rest.mesh.vertices) - 1
    pulled = marked(views, bent(rest, ((0.1, 0, 0), (0.1, 0, 0), (0.2, 0, 0))), [tip], weight=100)
    result = fit(rest, pulled, optimize="pose")
    for view in pulled:
        assert np.linalg.norm(view.camera.project(rest.vertices()[tip]) - view.landmarks[0].pixel) > 5
        assert np.linalg.norm(view.camera.project(result.mesh.vertices[tip]) - view.landmarks[0].pixel) < 1


def test_landmarks_settle_a_twist_that_masks_cannot():
    """Of a round tube, turned about its own length."""
    mesh = tube()
    round_tube = Mesh(mesh.vertices * [1, 1.5, 1], mesh.faces)
    start = replace(tube_rig(free=(False, True, False)), mesh=round_tube)
    truth = bent(start, ((0, 0.5, 0), (0, 0.2, 0), (0, -0.3, 0)))
    views = shots({0: truth}, around(2))

    def error(given: list[View]) -> float:
        return float(np.abs(fit(start, given, optimize="pose").mesh.vertices - truth.vertices()).max())

    with_marks = error(marked(views, truth, [10 * ring + k for ring in (0, 6, 12) for k in (0, 3)]))
    assert with_marks < 0.03 and error(views) > 0.1


# Objects


def test_a_rig_far_away_is_placed_through_its_parent(rest):
    """Turned, and scaled differently along its axes, so that the object's own axes are not the world's."""
    parent = Transform(location=[3, -2, 1], rotation=[0.5, 0.2, -0.4], scale=[2, 2, 2], mode="XYZ").matrix()
    away = replace(FREE, location=[4, 5, -3], scale=[0.3, 0.3, 0.3])
    truth = Rig(Mesh(rest.mesh.vertices - 1, rest.mesh.faces), replace(FREE, scale=[0.5, 0.5, 0.5]), parent)
    middle = truth.vertices().mean(axis=0) - [0, 0, 1.5]
    views = shots({0: Mesh(truth.vertices() - middle, truth.mesh.faces)}, around())
    result = fit(replace(truth, transform=away), views, optimize="object")
    assert result.mean_iou > 0.97 and any("moved onto" in note for note in result.notes)
    np.testing.assert_array_equal(result.rigs[0].parent, parent)
    np.testing.assert_array_equal(result.mesh.vertices, result.rigs[0].vertices())
    with pytest.raises(InputError, match="behind the camera"):
        fit(replace(truth, transform=away), views, optimize="object", place="never")


def test_locks_of_an_object_hold(rest):
    truth = Transform([0.2, 0.1, 0.15], [0.1, 0.2, 0.3], mode="XYZ")
    views = shots({0: replace(rest, transform=truth)}, around())
    free = {"free_location": (True, False, True), "free_rotation": (False, False, True)}
    start = replace(truth, location=[0, 0.1, 0], rotation=[0.1, 0.2, 0], **free)
    result = fit(replace(rest, transform=start), views, optimize="object")
    found = result.rigs[0].transform
    assert found.location[1] == 0.1 and (found.rotation[:2] == [0.1, 0.2]).all() and (found.scale == 1).all()
    np.testing.assert_allclose([*found.location, *found.rotation], [*truth.location, *truth.rotation], atol=0.05)
    np.testing.assert_array_equal(angles_of(result.rigs[0]), angles_of(rest))


def test_a_mesh_alone_is_an_object_too():
    """Turned by 60 degrees; a vertex in no face stays where it is."""
    mesh = keyed_rig((1.0, 0.0)).vertices()
    turn = rotations(np.array([[np.radians(60), 0, 0]]))[0]
    points = np.vstack([(mesh - 1.5) @ turn.T + 1.5, [[9, 9, 9]]])
    views = shots({3: Mesh(mesh, tube().faces)}, around())
    result = fit(Mesh(points, tube().faces), views, optimize="object")
    assert result.mean_iou > 0.97
    np.testing.assert_array_equal(result.mesh.vertices[-1], [9, 9, 9])
    before, after = points[:-1], result.mesh.vertices[:-1]
    ratios = np.linalg.norm(np.diff(after, axis=0), axis=1) / np.linalg.norm(np.diff(before, axis=0), axis=1)
    assert np.ptp(ratios) < 1e-9, "as one piece"


def test_a_thin_object_is_not_lost_between_coarse_pixels():
    """A wire of hundreds of faces in one column of the coarsest grid."""
    wire = tube(8, 100)
    start = Rig(Mesh(wire.vertices * [0.15, 0.15, 1] + [0.1, 0.1, 0], wire.faces), FREE)
    truth = replace(start, transform=replace(FREE, location=[0.1, 0, 0.1]))
    result = fit(start, shots({0: truth}, around(size=256, distance=5)), optimize="object", turns=0)
    assert result.mean_iou > 0.6


# Telling and stopping


def test_a_fit_tells_poses_and_cameras_on_the_way(rest, views):
    events = list(fit_events(rest, views, optimize=("pose", "cameras")))
    *progress, result = events
    assert isinstance(result, FitResult)
    steps = [event.step for event in progress]
    assert steps == sorted(steps) and all(event.step <= event.steps for event in progress)
    shown = [event for event in progress if event.rigs]
    assert shown and any(event.cameras for event in progress)
    assert not np.array_equal(angles_of(shown[0].rigs[0]), angles_of(result.rigs[0])), "as it was at that moment"
    for event in progress:
        if event.iou is not None:
            assert event.vertices is not None and len(event.iou) == len(views)


def test_previews_of_cameras_come_now_and_then(posed):
    cameras = around(9, 160)
    off = [moved(camera, (0.02, 0.02, 0.02)) for camera in cameras]
    given = seen_from(shots({0: posed}, cameras), off)
    progress = [e for e in fit_events(posed, given, optimize="cameras") if not isinstance(e, FitResult)]
    shown = [event.elapsed for event in progress if event.cameras]
    assert len(shown) < 5 + len(cameras) + progress[-1].elapsed / 0.3, "and after each camera"


@pytest.mark.parametrize("optimize", ["pose", "cameras", ("pose", "cameras"), ("pose", "vertices")])
def test_a_fit_that_is_stopped_ends_with_the_best_so_far(rest, views, optimize):
    asked = [0]

    def stop() -> bool:
        asked[0] += 1
        return asked[0] > 40  # times between the parts of a step, which are a few steps

    result = fit(rest, views, optimize=optimize, stop=stop)
    assert result.status == "stopped" and asked[0] < 43, "at once"
    start = evaluate(rest.vertices(), rest.mesh.faces, views)
    assert result.mean_iou > start.mean() and len(result.cameras) == len(views)


def test_an_object_search_that_is_stopped_is_no_worse_than_its_start():
    """On the way it tries what only coarse pixels take for a match."""
    upright = Rig(tube(), replace(FREE, location=[0, 0, 0.2]))
    lying = replace(upright, transform=replace(FREE, location=[0, 1, 1.5], rotation=[0.7, 0.7, 0, 0]))
    views = shots({0: upright}, around())
    asked = [0]

    def stop() -> bool:
        asked[0] += 1
        return asked[0] > 60

    result = fit(lying, views, optimize="object", place="never", stop=stop)
    start = evaluate(lying.vertices(), lying.mesh.faces, views)
    assert result.status == "stopped" and result.mean_iou >= start.mean() - 1e-6


def test_max_seconds_ends_a_fit(rest):
    """A long one: eight frames."""
    frames = {number: bent(rest, np.array(POSE) * number / 8) for number in range(8)}
    views = shots(frames, around())
    result = fit(rest, views, optimize="pose", max_seconds=0.5)
    assert result.status == "out of time"
    assert sorted(result.rigs) == list(range(8)) and np.isfinite(result.iou).all()


# Bad input


def test_bad_input_is_one_sentence(rest, posed, views):
    two = shots({0: rest, 1: posed}, around(1))
    hidden = [two[0], replace(two[1], weight=0)]
    locked = tube_rig(free=(False, False, False))
    mesh = rest.mesh
    count = len(mesh.vertices)
    marks = [replace(views[0], landmarks=(Landmark(count, (3, 4)),))]
    cases = [
        ("one shape for all", rest, two, {"optimize": ("pose", "vertices")}),
        ("one shape for all", rest, two, {}),
        (f"vertex {count}, but the mesh has {count}", rest, marks, {"optimize": "pose"}),
        ("free vertices do not follow", rest, marked(views, rest, [3]), {}),
        ("has no view", rest, two, {"optimize": "pose", "known_frame": 7}),
        ("has no view of positive weight", rest, hidden, {"optimize": "pose", "known_frame": 1}),
        ("nothing of pose may change", keyed_rig(), views, {"optimize": "pose"}),
        ("nothing of pose may change", locked, views, {"optimize": "pose"}),
        ("nothing of object may change", rest, views, {"optimize": "object"}),
        ("nothing of shape_keys may change", rest, views, {"optimize": "shape_keys"}),
        ("no pose and no shape keys", mesh, views, {"optimize": "pose"}),
        ("optimize vertices too", rest, views, {"optimize": "pose", "lock": np.ones(count, bool)}),
        ("no mesh to refine", None, views, {"optimize": "pose"}),
        ("camera_parts cannot be 'lens'", rest, views, {"optimize": "cameras", "camera_parts": "lens"}),
        ("cameras_together must be true or false", rest, views, {"optimize": "cameras", "cameras_together": 1}),
        ("known_frame must be a whole number", rest, views, {"optimize": "pose", "known_frame": 0.5}),
        ("optimize cannot be 'bones'", rest, views, {"optimize": "bones"}),
        ("at one point", Mesh(np.zeros((3, 3)), [[0, 1, 2]]), views, {"optimize": "object"}),
    ]
    for words, start, given, settings in cases:
        with pytest.raises(InputError, match=words) as error:
            fit(start, given, **settings)
        assert str(error.value).endswith(".") and "\n" not in str(error.value)
    for value in (np.nan, np.inf):
        with pytest.raises(InputError):
            Landmark(0, (value, 1))
        with pytest.raises(InputError):
            bent(rest, ((value, 0, 0),) * 3)
        with pytest.raises(InputError):
            fit(rest, views, optimize="pose", weights={"prior": value})


@pytest.mark.parametrize("optimize", ["object", "cameras", "vertices", "pose"])
def test_no_search_goes_on_long_after_its_time(rest, optimize):
    """Each would take minutes: thousands of turns, dozens of frames at once, a million steps."""
    frames = {frame: bent(rest, POSE) for frame in range(40 if optimize == "pose" else 1)}
    given = shots(frames, around())
    start: Mesh | Rig = rest if optimize == "pose" else Mesh(rest.vertices(), rest.mesh.faces)
    schedule = [{"resolution": 128, "steps": 1_000_000}]
    started = time.monotonic()
    result = fit(start, given, optimize=optimize, turns=5000, schedule=schedule, max_seconds=2.0)
    assert time.monotonic() - started < 30
    assert result.status == "out of time" or optimize == "cameras"
