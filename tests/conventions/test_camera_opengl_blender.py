"""OpenGL and Blender: their own formulas, written down here again, put points where our cameras do."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from camera_cases import CLOSE, RANDOM, assert_same, points_before, rotation, some_cameras

import softras
from softras import Camera, InputError


def glu_look_at(eye: np.ndarray, centre: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Of gluLookAt's manual page."""
    f = (centre - eye) / np.linalg.norm(centre - eye)
    s = np.cross(f, up)
    s /= np.linalg.norm(s)
    turn, move = np.eye(4), np.eye(4)
    turn[:3, :3], move[:3, 3] = [s, np.cross(s, f), -f], -eye
    return turn @ move


def glu_perspective(fovy: float, aspect: float, near: float, far: float) -> np.ndarray:
    """Of gluPerspective's manual page."""
    f = 1 / math.tan(math.radians(fovy) / 2)
    return np.array(
        [
            [f / aspect, 0, 0, 0],
            [0, f, 0, 0],
            [0, 0, (far + near) / (near - far), 2 * far * near / (near - far)],
            [0, 0, -1, 0],
        ]
    )


def gl_frustum(left: float, right: float, bottom: float, top: float, near: float, far: float) -> np.ndarray:
    """Of glFrustum's manual page."""
    return np.array(
        [
            [2 * near / (right - left), 0, (right + left) / (right - left), 0],
            [0, 2 * near / (top - bottom), (top + bottom) / (top - bottom), 0],
            [0, 0, -(far + near) / (far - near), -2 * far * near / (far - near)],
            [0, 0, -1, 0],
        ]
    )


def gl_ortho(left: float, right: float, bottom: float, top: float, near: float, far: float) -> np.ndarray:
    """Of glOrtho's manual page."""
    return np.array(
        [
            [2 / (right - left), 0, 0, -(right + left) / (right - left)],
            [0, 2 / (top - bottom), 0, -(top + bottom) / (top - bottom)],
            [0, 0, -2 / (far - near), -(far + near) / (far - near)],
            [0, 0, 0, 1],
        ]
    )


def gl_window(points: np.ndarray, matrix: np.ndarray, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, 2) window coordinates (N, 2) from the top left, and depths (N,) in -1..1, of glViewport's manual page."""
    clip = np.column_stack([points, np.ones(len(points))]) @ matrix.T
    ndc = clip[:, :3] / clip[:, 3:]
    x, y = (ndc[:, 0] + 1) * width / 2, (ndc[:, 1] + 1) * height / 2  # y from the bottom
    return np.column_stack([x, height - y]), ndc[:, 2]


class TestOpenGL:
    @pytest.mark.parametrize("kind", ["glu", "frustum", "ortho"])
    def test_points(self, kind: str) -> None:
        random = np.random.default_rng(5)
        for _ in range(RANDOM):
            view = glu_look_at(*random.normal(size=(3, 3)))
            width, height = (int(x) for x in random.integers(10, 400, 2))
            (left, bottom), (right, top) = -random.uniform(0.1, 2, 2), random.uniform(0.1, 2, 2)
            near, far = random.uniform(0.1, 1), random.uniform(2, 100)
            sides = left, right, bottom, top, near, far
            projection = {
                "glu": glu_perspective(random.uniform(5, 150), width / height, near, far),
                "frustum": gl_frustum(*sides),
                "ortho": gl_ortho(*sides),
            }[kind]
            camera = softras.camera_from_opengl(view, projection, width, height)
            assert camera.orthographic == (kind == "ortho")
            assert camera.near == pytest.approx(near)
            points = points_before(camera)
            window, _ = gl_window(points, projection @ view, width, height)
            np.testing.assert_allclose(camera.project(points), window, **CLOSE)

    def test_matrices_of_a_camera(self) -> None:
        """They put points where the camera sees them, near at depth -1 and far at 1, and lead back to it."""
        for camera in some_cameras(skew=True):
            far = camera.near + 7
            view, projection = softras.camera_to_opengl(camera, far)
            points = points_before(camera)
            window, _ = gl_window(points, projection @ view, camera.width, camera.height)
            np.testing.assert_allclose(window, camera.project(points), **CLOSE)
            ends = np.array([[0.1, 0.2, camera.near], [0.3, -0.1, far]])
            ends = (ends - camera.world_to_camera[:3, 3]) @ camera.world_to_camera[:3, :3]
            _, depths = gl_window(ends, projection @ view, camera.width, camera.height)
            np.testing.assert_allclose(depths, (-1, 1), atol=1e-9)
            assert_same(softras.camera_from_opengl(view, projection, camera.width, camera.height), camera)

    def test_a_far_plane_at_infinity(self) -> None:
        perspective, orthographic = list(some_cameras())[:2]
        view, projection = softras.camera_to_opengl(perspective, math.inf)
        _, limit = softras.camera_to_opengl(perspective, 1e12)
        np.testing.assert_allclose(projection, limit, atol=1e-9)
        assert_same(softras.camera_from_opengl(view, projection, perspective.width, perspective.height), perspective)
        with pytest.raises(InputError, match="far must be beyond the camera's near distance"):
            softras.camera_to_opengl(orthographic, math.inf)
        with pytest.raises(InputError, match="far must be beyond the camera's near distance of 0.01, not 0.001"):
            softras.camera_to_opengl(perspective, 0.001)

    def test_what_is_no_camera(self) -> None:
        view, projection = glu_look_at(*np.eye(3)), glu_perspective(40, 1, 1, 9)
        view[:3, 3] = 1, 2, 3
        with pytest.raises(InputError, match="last row of the view matrix must be 0 0 0 1; transpose"):
            softras.camera_from_opengl(view.T, projection, 8, 8)
        with pytest.raises(InputError, match="last row of the projection matrix .* transpose"):
            softras.camera_from_opengl(view, projection.T, 8, 8)
        with pytest.raises(InputError, match="view matrix's upper left must be a rotation"):
            softras.camera_from_opengl(view @ np.diag([1, 1, -1, 1.0]), projection, 8, 8)
        oblique = gl_ortho(-1, 1, -1, 1, 1, 9)
        oblique[0, 2] = 0.3
        with pytest.raises(InputError, match="oblique"):
            softras.camera_from_opengl(view, oblique, 8, 8)


def blender_frustum(width: int, height: int, aspect: float, clip_end: float, data: dict) -> np.ndarray:
    """(4, 4) OpenGL projection from the view plane, as Blender's camera parameters make it."""
    fit = data["sensor_fit"]
    sensor = data["sensor_height"] if fit == "VERTICAL" else data["sensor_width"]
    if fit == "AUTO":
        fit = "HORIZONTAL" if width >= aspect * height else "VERTICAL"
    across = width if fit == "HORIZONTAL" else aspect * height
    orthographic = data["type"] == "ORTHO"
    pixel = (data["ortho_scale"] if orthographic else sensor * data["clip_start"] / data["lens"]) / across
    x = (np.array([-0.5, 0.5]) * width + data["shift_x"] * across) * pixel
    y = (np.array([-0.5, 0.5]) * aspect * height + data["shift_y"] * across) * pixel
    return (gl_ortho if orthographic else gl_frustum)(*x, *y, data["clip_start"], clip_end)


def some_blender_cameras() -> Iterator[tuple[np.ndarray, int, int, float, dict]]:
    """matrix_world, width, height, pixel aspect and settings."""
    random = np.random.default_rng(12)
    for _ in range(2 * RANDOM):
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = rotation(random) * random.uniform(0.2, 3, 3), random.normal(size=3)
        width, height = (int(x) for x in random.integers(10, 400, 2))
        data = {
            "type": random.choice(["PERSP", "ORTHO"]),
            "sensor_fit": random.choice(["AUTO", "HORIZONTAL", "VERTICAL"]),
            "lens": random.uniform(10, 100),
            "ortho_scale": random.uniform(0.5, 9),
            "sensor_width": random.uniform(10, 50),
            "sensor_height": random.uniform(10, 50),
            "shift_x": random.normal(),
            "shift_y": random.normal(),
            "clip_start": random.uniform(0.01, 1),
        }
        yield matrix, width, height, random.choice([1.0, 1.0667, 0.5]), data


class TestBlender:
    def test_points(self) -> None:
        for matrix, width, height, aspect, data in some_blender_cameras():
            camera = softras.camera_from_blender(matrix, width, height, pixel_aspect=aspect, **data)
            points = points_before(camera)
            unscaled = matrix @ np.diag([*(1 / np.linalg.norm(matrix[:3, :3], axis=0)), 1])
            projection = blender_frustum(width, height, aspect, 100, data)
            window, _ = gl_window(points, projection @ np.linalg.inv(unscaled), width, height)
            np.testing.assert_allclose(camera.project(points), window, **CLOSE)
            assert camera.near == data["clip_start"]

    @pytest.mark.parametrize("change", ["mirrored", "sheared", "both"])
    def test_mirrored_and_sheared(self, change: str) -> None:
        """A negative scale is a negative K00, and a shear by parents is in K too: world_to_camera stays a rotation."""
        random = np.random.default_rng(6)
        for matrix, width, height, aspect, data in some_blender_cameras():
            if change != "sheared":
                matrix = matrix @ np.diag([*random.permutation([1, 1, -1]), 1])
            if change != "mirrored":
                matrix = np.diag([*random.uniform(0.5, 2, 3), 1]) @ matrix
            camera = softras.camera_from_blender(matrix, width, height, pixel_aspect=aspect, **data)
            shown = matrix @ np.diag([*(1 / np.linalg.norm(matrix[:3, :3], axis=0)), 1])
            projection = blender_frustum(width, height, aspect, 100, data)
            points = points_before(camera)
            window, _ = gl_window(points, projection @ np.linalg.inv(shown), width, height)
            np.testing.assert_allclose(camera.project(points), window, rtol=1e-7, atol=1e-6)
            assert (camera.K[0, 0] < 0) == (change != "sheared")
            on_axis = shown @ [0, 0, -data["clip_start"], 1]
            if not camera.orthographic:  # the near plane is Blender's; of parallel rays it is in one point
                on_axis += shown @ [0.3, 0.2, 0, 0]
            else:
                ray = np.linalg.inv(camera.world_to_camera)[:, 2]
                on_axis = shown[:, 3] - ray * data["clip_start"] / (np.linalg.inv(shown)[2] @ ray)
            np.testing.assert_allclose(camera.to_camera(on_axis[:3])[2], camera.near, rtol=1e-6)
            if change == "mirrored":
                world, settings = softras.camera_to_blender(camera, pixel_aspect=aspect)
                np.testing.assert_allclose(world, shown, atol=1e-12)
                assert_same(softras.camera_from_blender(world, width, height, pixel_aspect=aspect, **settings), camera)

    @pytest.mark.parametrize("same_sensor", [True, False])
    def test_round_trip(self, same_sensor: bool) -> None:
        for matrix, width, height, aspect, data in some_blender_cameras():
            camera = softras.camera_from_blender(matrix, width, height, pixel_aspect=aspect, **data)
            sensor = {name: data[name] for name in ("sensor_fit", "sensor_width", "sensor_height") if same_sensor}
            world, settings = softras.camera_to_blender(camera, pixel_aspect=aspect, **sensor)
            assert_same(softras.camera_from_blender(world, width, height, pixel_aspect=aspect, **settings), camera)
            if same_sensor:
                assert settings == {name: pytest.approx(data[name]) for name in settings}

    def test_the_default_camera(self) -> None:
        """50 mm over 36 mm along the longer side, looking down -z with y up."""
        for width, height in ((1920, 1080), (1080, 1920)):
            camera = softras.camera_from_blender(np.eye(4), width, height)
            half = max(width, height) / 2
            points = np.array([(0, 0, -10), (10 * 18 / 50, 0, -10), (0, 10 * 18 / 50, -10)])
            x, y = width / 2, height / 2
            np.testing.assert_allclose(camera.project(points), [(x, y), (x + half, y), (x, y - half)], **CLOSE)

    def test_what_is_no_camera(self) -> None:
        with pytest.raises(InputError, match="cameras of type PANO are not supported"):
            softras.camera_from_blender(np.eye(4), 8, 8, type="PANO")
        with pytest.raises(InputError, match="scale of zero"):
            softras.camera_from_blender(np.diag([1.0, 0, 1, 1]), 8, 8)
        for K in (
            [[9, 0, 4], [0, 8, 4], [0, 0, 1]],
            [[9, 1, 4], [0, 9, 4], [0, 0, 1]],
            [[9, 0, 4], [0, -9, 4], [0, 0, 1]],
        ):
            with pytest.raises(InputError, match="skewed or not of the scene's aspect"):
                softras.camera_to_blender(Camera(K, np.eye(4), 8, 8))
