"""OpenCV, PyTorch3D and SoftRas: their own formulas, written down here again, put points where our cameras do."""

from __future__ import annotations

import math

import numpy as np
import pytest
from camera_cases import CLOSE, RANDOM, assert_same, points_before, rotation, some_cameras

import softras
from softras import Camera, InputError


class TestOpenCV:
    """The pinhole model of OpenCV's calib3d: s [u v 1]^T = K [R t] [X 1]^T, whole numbers at centres of pixels."""

    @pytest.mark.parametrize("integers, shift", [(True, 0.5), (False, 0.0)])
    def test_points(self, integers: bool, shift: float) -> None:
        for camera in some_cameras(skew=True):
            K, matrix = camera.K, camera.world_to_camera
            seen = softras.camera_from_opencv(
                K, matrix[:3, :3], matrix[:3, 3:], camera.width, camera.height, centres_on_integers=integers
            )
            points = points_before(seen)
            uvw = K @ matrix[:3] @ np.column_stack([points, np.ones(len(points))]).T
            np.testing.assert_allclose(seen.project(points), (uvw[:2] / uvw[2]).T + shift, **CLOSE)

    @pytest.mark.parametrize("integers", [True, False])
    def test_round_trip(self, integers: bool) -> None:
        for camera in some_cameras(skew=True):
            if camera.orthographic:
                with pytest.raises(InputError, match="OpenCV has no orthographic cameras"):
                    softras.camera_to_opencv(camera)
                continue
            K, R, t = softras.camera_to_opencv(camera, centres_on_integers=integers)
            back = softras.camera_from_opencv(
                K, R, t, camera.width, camera.height, centres_on_integers=integers, near=camera.near
            )
            assert_same(back, camera)

    def test_the_middle_of_an_image(self) -> None:
        """An image of 5 x 3 pixels has its middle in the centre of pixel (2, 1)."""
        camera = softras.camera_from_opencv([[9, 0, 2], [0, 9, 1], [0, 0, 1]], np.eye(3), [0, 0, 0], 5, 3)
        np.testing.assert_allclose(camera.project([0, 0, 1]), (2.5, 1.5))

    def test_what_is_no_camera(self) -> None:
        with pytest.raises(InputError, match="R must be a rotation"):
            softras.camera_from_opencv(np.eye(3), 2 * np.eye(3), [0, 0, 0], 8, 8)
        with pytest.raises(InputError, match="last row of K must be 0 0 1"):
            softras.camera_from_opencv(2 * np.eye(3), np.eye(3), [0, 0, 0], 8, 8)
        with pytest.raises(InputError, match=r"R must have shape \(3, 3\), not \(3, 1\)"):
            softras.camera_from_opencv(np.eye(3), np.zeros((3, 1)), [0, 0, 0], 8, 8)

    def test_a_rounded_rotation_becomes_an_exact_one(self) -> None:
        """Text files hold rotations of four digits; a Camera holds the nearest rotation."""
        for camera in some_cameras():
            given = camera.world_to_camera[:3, :3]
            back = softras.camera_from_opencv(camera.K, given.round(4), [0, 0, 0], 8, 8).world_to_camera[:3, :3]
            np.testing.assert_allclose(back @ back.T, np.eye(3), atol=1e-14)
            np.testing.assert_allclose(back, given, atol=1e-4)


def pytorch3d_screen(
    points: np.ndarray, R: np.ndarray, T: np.ndarray, K: np.ndarray, width: int, height: int, in_ndc: bool = True
) -> np.ndarray:
    """(N, 2) of transform_points_screen: row vectors, the 4 x 4 calibration matrix of the docs, NDC, xy flipped.

    A camera in screen space has its principal point's sign turned on the way to NDC.
    """
    to_view = np.block([[R, np.zeros((3, 1))], [T[None], np.ones((1, 1))]])
    projected = np.column_stack([points, np.ones(len(points))]) @ to_view @ K.T
    xy = projected[:, :2] / projected[:, 3:]
    size, scale = np.array([width, height]), min(width, height) / 2
    if not in_ndc:
        orthographic = K[3, 3] == 1
        xy = (xy - 2 * K[:2, 3 if orthographic else 2] + size / 2) / scale
    return -(xy * scale - size / 2)


def calibration(focal: np.ndarray, point: np.ndarray, orthographic: bool) -> np.ndarray:
    """(4, 4) K of PerspectiveCameras and OrthographicCameras."""
    (fx, fy), (px, py) = focal, point
    if orthographic:
        return np.array([[fx, 0, 0, px], [0, fy, 0, py], [0, 0, 1, 0], [0, 0, 0, 1]])
    return np.array([[fx, 0, px, 0], [0, fy, py, 0], [0, 0, 0, 1], [0, 0, 1, 0]])


class TestPyTorch3D:
    @pytest.mark.parametrize("in_ndc", [True, False])
    @pytest.mark.parametrize("orthographic", [False, True])
    def test_points(self, in_ndc: bool, orthographic: bool) -> None:
        random = np.random.default_rng(6)
        for _ in range(RANDOM):
            R, T = rotation(random), random.normal(size=3)
            width, height = (int(x) for x in random.integers(10, 400, 2))
            focal, point = random.uniform(0.5, 300, 2), random.normal(size=2)
            camera = softras.camera_from_pytorch3d(
                R,
                T,
                width,
                height,
                focal_length=focal,
                principal_point=point,
                in_ndc=in_ndc,
                orthographic=orthographic,
            )
            points = points_before(camera)
            wanted = pytorch3d_screen(points, R, T, calibration(focal, point, orthographic), width, height, in_ndc)
            np.testing.assert_allclose(camera.project(points), wanted, **CLOSE)

    @pytest.mark.parametrize("degrees", [True, False])
    def test_points_of_cameras_with_a_field_of_view(self, degrees: bool) -> None:
        random = np.random.default_rng(7)
        for _ in range(RANDOM):
            R, T, angle, aspect = (
                rotation(random),
                random.normal(size=3),
                random.uniform(5, 150),
                random.uniform(0.5, 2),
            )
            width, height = (int(x) for x in random.integers(10, 400, 2))
            fov = angle if degrees else math.radians(angle)
            camera = softras.camera_from_pytorch3d_fov(
                R, T, width, height, fov=fov, aspect_ratio=aspect, degrees=degrees
            )
            points, half = points_before(camera), math.tan(math.radians(angle) / 2)
            K = np.array([[1 / (half * aspect), 0, 0, 0], [0, 1 / half, 0, 0], [0, 0, 1.01, -1.01], [0, 0, 1, 0]])
            np.testing.assert_allclose(
                camera.project(points), pytorch3d_screen(points, R, T, K, width, height), **CLOSE
            )

    def test_points_of_orthographic_cameras_with_sides(self) -> None:
        random = np.random.default_rng(8)
        for _ in range(RANDOM):
            R, T, scale = rotation(random), random.normal(size=3), random.uniform(0.5, 2, 3)
            width, height = (int(x) for x in random.integers(10, 400, 2))
            (left, bottom), (right, top) = -random.uniform(0.1, 2, 2), random.uniform(0.1, 2, 2)
            camera = softras.camera_from_pytorch3d_fov_orthographic(
                R, T, width, height, min_x=left, max_x=right, min_y=bottom, max_y=top, scale_xyz=scale
            )
            K = np.diag([2 / (right - left) * scale[0], 2 / (top - bottom) * scale[1], 0.01 * scale[2], 1])
            K[:2, 3] = -(right + left) / (right - left), -(top + bottom) / (top - bottom)
            points = points_before(camera)
            np.testing.assert_allclose(
                camera.project(points), pytorch3d_screen(points, R, T, K, width, height), **CLOSE
            )

    @pytest.mark.parametrize("in_ndc", [True, False])
    def test_round_trip(self, in_ndc: bool) -> None:
        for camera in some_cameras():
            given = softras.camera_to_pytorch3d(camera, in_ndc=in_ndc)
            assert given.pop("image_size").tolist() == [[camera.height, camera.width]]
            batch = {name: value[0] for name, value in given.items() if name != "in_ndc"}
            points = points_before(camera)
            K = calibration(batch["focal_length"], batch["principal_point"], camera.orthographic)
            there = pytorch3d_screen(points, batch["R"], batch["T"], K, camera.width, camera.height, in_ndc)
            np.testing.assert_allclose(there, camera.project(points), **CLOSE)
            back = softras.camera_from_pytorch3d(
                width=camera.width,
                height=camera.height,
                orthographic=camera.orthographic,
                in_ndc=in_ndc,
                near=camera.near,
                **batch,
            )
            assert_same(back, camera)

    def test_what_is_left_there_is_left_here(self) -> None:
        """PyTorch3D's default camera looks along +z from the origin with x to the left."""
        camera = softras.camera_from_pytorch3d(np.eye(3), [0, 0, 0], 200, 100)
        np.testing.assert_allclose(camera.project([[0, 0, 2], [1, 0, 2], [0, 1, 2]]), [(100, 50), (75, 50), (100, 25)])

    def test_its_look_at_view_transform_is_ours(self) -> None:
        eye, at, up = np.random.default_rng(9).normal(size=(3, 3))
        z = (at - eye) / np.linalg.norm(at - eye)
        x = np.cross(up, z) / np.linalg.norm(np.cross(up, z))
        R = np.stack([x, np.cross(z, x), z], axis=1)
        camera = softras.camera_from_pytorch3d(R, -R.T @ eye, 8, 8)
        np.testing.assert_allclose(camera.world_to_camera, softras.look_at(eye, at, up), **CLOSE)

    def test_what_is_no_camera(self) -> None:
        with pytest.raises(InputError, match="have no skewed pixels"):
            softras.camera_to_pytorch3d(next(some_cameras(skew=True)))
        with pytest.raises(InputError, match="R must be a rotation"):
            softras.camera_from_pytorch3d(np.diag([1.0, 1, -1]), [0, 0, 0], 8, 8)
        with pytest.raises(InputError, match="convert one camera at a time"):
            softras.camera_from_pytorch3d(np.eye(3)[None], [[0, 0, 0]], 8, 8)


def softras_view(points: np.ndarray, eye: np.ndarray, direction: np.ndarray, up: np.ndarray) -> np.ndarray:
    """(N, 3) of SoftRas's look: z = norm(direction), x = norm(up x z), y = z x x."""
    z = direction / np.linalg.norm(direction)
    x = np.cross(up, z) / np.linalg.norm(np.cross(up, z))
    return (points - eye) @ np.stack([x, np.cross(z, x), z], axis=1)


def softras_pixels(xy: np.ndarray, size: int) -> np.ndarray:
    """(N, 2) of its NDC: x right, y up, -1..1 over the square."""
    return np.column_stack([(xy[:, 0] + 1) * size / 2, (1 - xy[:, 1]) * size / 2])


class TestSoftRas:
    @pytest.mark.parametrize("perspective", [True, False])
    @pytest.mark.parametrize("mode", ["look_at", "look"])
    def test_points(self, mode: str, perspective: bool) -> None:
        random = np.random.default_rng(10)
        for _ in range(RANDOM):
            eye, target, up = random.normal(size=(3, 3))
            size, angle, scale = int(random.integers(8, 300)), random.uniform(5, 70), random.uniform(0.1, 3)
            options = {"up": up, "perspective": perspective, "viewing_angle": angle, "viewing_scale": scale}
            if mode == "look_at":
                camera = softras.camera_from_softras_look_at(eye, size, at=target, **options)
                direction = target - eye
            else:
                camera = softras.camera_from_softras_look(eye, size, direction=target, **options)
                direction = target
            points = points_before(camera)
            x = softras_view(points, eye, direction, up)
            xy = x[:, :2] / x[:, 2:] / math.tan(math.radians(angle)) if perspective else x[:, :2] * scale
            np.testing.assert_allclose(camera.project(points), softras_pixels(xy, size), **CLOSE)
            np.testing.assert_allclose(camera.to_camera(points)[:, 2], x[:, 2], **CLOSE)

    def test_poses_are_those_of_the_cameras_as_tensors(self) -> None:
        random = np.random.default_rng(12)
        for _ in range(RANDOM):
            eye, target, up = random.normal(size=(3, 3)) * 10 ** random.uniform(-3, 3)
            for camera, pose in (
                (softras.camera_from_softras_look_at(eye, 8, at=target, up=up), softras.look_at(eye, target, up)),
                (softras.camera_from_softras_look(eye, 8, direction=target, up=up), softras.look(eye, target, up)),
            ):
                np.testing.assert_allclose(camera.world_to_camera, pose.numpy(), rtol=1e-12, atol=1e-12)

    def test_points_of_projection_matrices(self) -> None:
        """Right- and left-handed ones, of any scale."""
        random = np.random.default_rng(11)
        for _ in range(RANDOM):
            P = random.normal(size=(3, 4))
            P[:2] = 100 * P[:2] + 250 * P[2]
            size, orig_size = (int(x) for x in random.integers(8, 500, 2))
            camera = softras.camera_from_softras_projection(P, size, orig_size=orig_size)
            R = camera.world_to_camera[:3, :3]
            np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-9)
            points = points_before(camera)
            x, y, z = P @ np.column_stack([points, np.ones(len(points))]).T
            assert (z > 0).all()
            xy = np.column_stack([2 * (x / z - orig_size / 2) / orig_size, 2 * (y / z - orig_size / 2) / orig_size])
            np.testing.assert_allclose(camera.project(points), softras_pixels(xy, size), rtol=1e-9, atol=1e-8)

    def test_round_trip(self) -> None:
        mirrored = [softras.camera_from_softras_look_at((1, 2, z), 64, viewing_angle=15, near=2) for z in (3, -3)]
        cameras = [c for c in some_cameras(square=True, skew=True) if not c.orthographic]
        for camera in cameras + mirrored:
            P, orig_size = softras.camera_to_softras(camera)
            back = softras.camera_from_softras_projection(P, camera.width, orig_size=orig_size, near=camera.near)
            assert_same(back, camera)
            larger = softras.camera_from_softras_projection(7 * P, 2 * camera.width, orig_size=orig_size)
            points = points_before(camera)
            np.testing.assert_allclose(larger.project(points), 2 * camera.project(points), **CLOSE)

    def test_pictures_are_mirrored(self) -> None:
        """SoftRas's default camera looks along +z and has +x on the right, where a photograph has it on the left."""
        triangle, faces = np.array([(0.0, 0, 0), (1, 0, 0), (0, 1, 0)]), np.array([[0, 1, 2]])
        eye = np.array([0, 0, -(1 / math.tan(math.radians(30)) + 1)])
        camera = softras.camera_from_softras_look_at(eye, 32)
        picture = softras.render_silhouettes(triangle, faces, camera)[0]
        assert picture[12, 20] > 0.99 > 0.01 > picture[12, 12]
        K = softras.perspective(np.array(60.0), 32, 32).numpy()
        photograph = Camera(K, softras.look_at(eye, up=(0, 1, 0)).numpy(), 32, 32)
        np.testing.assert_allclose(
            picture, softras.render_silhouettes(triangle, faces, photograph)[0].flip(-1), atol=1e-5
        )

    def test_its_points_from_angles(self) -> None:
        d, el, az = 2.7, math.radians(30), math.radians(50)
        theirs = d * math.cos(el) * math.sin(az), d * math.sin(el), -d * math.cos(el) * math.cos(az)
        np.testing.assert_allclose(softras.eye_from_angles(2.7, 30, 180 - 50, up=(0, 1, 0)), theirs, rtol=1e-6)

    def test_what_is_no_camera(self) -> None:
        perspective, orthographic = list(some_cameras())[:2]
        with pytest.raises(InputError, match="SoftRas's projection matrices are perspective"):
            softras.camera_to_softras(orthographic)
        with pytest.raises(InputError, match="SoftRas's images are square"):
            softras.camera_to_softras(perspective)
        with pytest.raises(InputError, match="give another up"):
            softras.camera_from_softras_look_at((0, 3, 0), 64)
        with pytest.raises(InputError, match="up must not be zero"):
            softras.camera_from_softras_look((0, 3, 0), 64, up=(0, 0, 0))
        with pytest.raises(InputError, match="direction must not be zero"):
            softras.camera_from_softras_look((0, 3, 0), 64, direction=(0, 0, 0))
        with pytest.raises(InputError, match="eye and at must be different points"):
            softras.camera_from_softras_look_at((0, 3, 0), 64, at=(0, 3, 0))
        for P in (np.zeros((3, 4)), np.ones((3, 4)), np.eye(3, 4)[[0, 1, 1]]):
            with pytest.raises(InputError, match="P is the matrix of no perspective camera"):
                softras.camera_from_softras_projection(P, 64)
