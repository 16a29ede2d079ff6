"""Moves and scales a mesh onto the masks it does not overlap yet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import least_squares
from scipy.spatial import ConvexHull, QhullError

from ...camera import Camera
from ...checks import LARGEST
from ...errors import InputError
from ...mesh import Mesh
from ...views import View
from ..observed.observation import observe
from ..observed.observed_view import images_of
from ..observed.renderer import Renderer
from ..observed.unit import UnitSpace
from ..terms.silhouettes import silhouette_iou_loss

OVERLAP = 0.2  # mean IoU below which a mesh counts as not yet placed
MATCHED = 0.85  # mean IoU from which on it counts as placed
PLACED = "place='never' leaves it where it is"  # in the notes of what was moved first
GAIN = 1.1  # times the mean IoU: what a move must bring where mesh and masks overlap already
SHORTFALL = 0.6  # of what is missing to IoU 1, at most left over by what is clearly better
BLUR = 0.064  # pixels of the silhouettes by which the overlap of a mesh and the masks is measured
PRIOR = 1e-3  # keeps what the masks leave open (the depth in a single view) near where it was
MOST_LOG = 60.0  # natural logarithm of the largest factor by which a mesh is scaled: its square is still finite


def clearly_better(found: float, before: float) -> bool:
    """Whether a mean IoU is so much nearer to 1 than another that the difference is not one of taste."""
    return 1 - found < SHORTFALL * (1 - before)


def overlap(mesh: Mesh, views: Sequence[View], renderer: Renderer) -> float:
    """Mean soft IoU of the mesh with the masks, at some 128 pixels. 0 if half of them see it from inside.

    Where fewer do, they do not count: a camera that is wrong is no reason to move the mesh.
    """
    unit = UnitSpace.around(mesh.vertices)
    device = renderer.device
    observation = observe(views, mesh.vertices, unit, 128, device)
    vertices = torch.as_tensor(unit.to_unit(mesh.vertices), dtype=torch.float32, device=device)
    faces = torch.as_tensor(mesh.faces, dtype=torch.int64, device=device)
    everything = torch.arange(len(views), device=device)
    alpha = observation.render(renderer, vertices, faces, everything, blur=BLUR, cull=False)
    iou = 1 - silhouette_iou_loss(alpha, observation.masks_of(everything)).cpu().numpy()
    outside = np.array([not camera_inside(view.camera, mesh) for view in views])
    return float(iou[outside].mean()) if 2 * outside.sum() > len(views) else 0.0


def onto_masks(
    mesh: Mesh, views: Sequence[View], renderer: Renderer, *, only_from_afar: bool = False
) -> tuple[float, np.ndarray] | None:
    """Scale, and the (4, 4) matrix of all that moves the mesh onto the masks; None where it is there already.

    The mesh stays where its overlap with the masks is good, or is some and would hardly be better elsewhere; or, with
    `only_from_afar`, wherever there is some.
    """
    before = overlap(mesh, views, renderer)
    if before >= (OVERLAP if only_from_afar else MATCHED):
        return None
    used = np.unique(mesh.faces)
    scale, pivot, shift = place(mesh.vertices[used], views)
    matrix = np.eye(4) * [scale, scale, scale, 1]
    matrix[:3, 3] = pivot - scale * pivot + shift
    vertices = mesh.vertices @ matrix[:3, :3].T + matrix[:3, 3]
    if not (np.abs(vertices) <= LARGEST).all():  # cameras so far away that nothing can be told
        return None
    moved = Mesh(vertices, mesh.faces)
    if before >= OVERLAP and overlap(moved, views, renderer) < GAIN * before:
        return None
    return scale, matrix


def place(vertices: np.ndarray, views: Sequence[View]) -> tuple[float, np.ndarray, np.ndarray]:
    """Scale and shift that bring the bounds of the vertices to the bounds of the masks; the rotation stays.

    Returns scale s, pivot p (3,) and shift t (3,): x -> s (x - p) + p + t. Least squares over the sides of the
    bounding boxes in all views, leaving out sides where the mask is cut by the image's border.
    """
    bounds = [_bounds(view) for view in views]
    points = _extreme(vertices)
    pivot = (points.min(axis=0) + points.max(axis=0)) / 2
    size = max(float(np.ptp(points, axis=0).max()), 1e-30)
    if len(views) == 1 and not views[0].camera.orthographic:  # depth or scale, not both, can be told: keep the size
        middle, scale = _where_size_fits(views[0].camera, bounds[0][0], size), 1.0
    else:
        middle = nearest_point_to_rays([v.camera for v in views], [box.mean(axis=0) for box, _ in bounds], near=pivot)
        sizes = [wanted_size(view.camera, middle, box) for view, (box, _) in zip(views, bounds, strict=True)]
        scale = float(np.median(sizes)) / size
    start = np.array([np.log(scale), *((middle - pivot) / size)])

    def residuals(x: np.ndarray) -> np.ndarray:
        moved = np.exp(min(x[0], MOST_LOG)) * (points - pivot) + pivot + size * x[1:]
        rows = [PRIOR * (x - start)]
        for view, (box, whole) in zip(views, bounds, strict=True):
            z = np.maximum(view.camera.to_camera(moved)[:, 2], view.camera.near)
            pixels = view.camera.project(moved) if (z > view.camera.near).all() else None
            if pixels is None:
                rows.append(np.full(4, 10.0))
                continue
            found = np.stack([pixels.min(axis=0), pixels.max(axis=0)])
            rows.append((np.where(whole, found - box, 0) / max(view.camera.width, view.camera.height)).ravel())
        return np.concatenate(rows)

    x = least_squares(residuals, start, loss="soft_l1", f_scale=0.05, max_nfev=50).x
    return float(np.exp(min(x[0], MOST_LOG))), pivot, size * x[1:]


def moved_onto_masks(scale: float) -> str:
    """What the user should know of a placement."""
    return f"The mesh was moved onto the masks and scaled by {scale:.3g} first; {PLACED}."


def camera_inside(camera: Camera, mesh: Mesh) -> bool:
    """Whether the eye of a perspective camera lies inside the mesh: its winding number there is not near 0.

    Solid angles by van Oosterom and Strackee, 1983; holes in the mesh only soften the answer (Jacobson et al. 2013).
    """
    if camera.orthographic:
        return False
    eye = camera.centre
    if (eye < mesh.vertices.min(axis=0)).any() or (eye > mesh.vertices.max(axis=0)).any():
        return False
    a, b, c = (mesh.vertices[mesh.faces[:, k]] - eye for k in range(3))
    la, lb, lc = (np.linalg.norm(x, axis=1) for x in (a, b, c))
    triple = np.einsum("ij,ij->i", a, np.cross(b, c))
    dots = [np.einsum("ij,ij->i", x, y) for x, y in ((a, b), (b, c), (c, a))]
    angle = 2 * np.arctan2(triple, la * lb * lc + dots[0] * lc + dots[1] * la + dots[2] * lb)
    return abs(angle.sum()) / (4 * np.pi) > 0.5


def check_extent(mesh: Mesh) -> None:
    """Raises InputError where all faces are at one point."""
    if not np.ptp(mesh.vertices[np.unique(mesh.faces)], axis=0).any():
        raise InputError("all faces of the mesh are at one point; give a mesh with some extent.")


def check_cameras(mesh: Mesh, views: Sequence[View]) -> None:
    """Raises InputError naming the first view whose camera is inside the mesh or sees none of it in front of `near`."""
    for view in views:
        if camera_inside(view.camera, mesh):
            raise InputError(
                f"the camera of view '{view.name}' is inside the mesh; "
                "move the mesh or the camera, or leave that view out."
            )
        depth = view.camera.to_camera(mesh.vertices)[:, 2].max()
        if depth <= min(view.camera.near, 0):
            raise InputError(
                f"the mesh is behind the camera of view '{view.name}'; "
                "move the mesh or turn the camera, or leave that view out."
            )
        if depth <= view.camera.near:
            raise InputError(
                f"all of the mesh is nearer to the camera of view '{view.name}' than the camera's near distance "
                f"({view.camera.near:.3g}; in Blender: Clip Start); make that smaller, or move the mesh."
            )


def _where_size_fits(camera: Camera, box: np.ndarray, size: float) -> np.ndarray:
    """(3,) the point in the middle of a (2, 2) pixel box where a world length `size` spans its longer side."""
    eye, direction = pixel_ray(camera, box.mean(axis=0))
    unit_depth = camera.world_to_camera[2, :3] @ direction
    return eye + direction * size / wanted_size(camera, eye + direction / unit_depth, box) / unit_depth


def wanted_size(camera: Camera, point: np.ndarray, box: np.ndarray) -> float:
    """World length that spans the longer side of a (2, 2) pixel box at a point's depth."""
    depth = 1.0 if camera.orthographic else max(float(camera.to_camera(point)[2]), camera.near)
    focal = np.sqrt(abs(np.linalg.det(camera.K[:2, :2])))
    return float(np.ptp(box, axis=0).max() * depth / focal)


def nearest_point_to_rays(cameras: Sequence[Camera], pixels: Sequence[np.ndarray], near: np.ndarray) -> np.ndarray:
    """(3,) the point with the least squared distance to the rays through one pixel (2,) of each camera.

    What the rays leave open (all of one ray, say) is chosen close to `near` (3,).
    """
    matrix, right = 1e-9 * np.eye(3), 1e-9 * near
    for camera, pixel in zip(cameras, pixels, strict=True):
        origin, direction = pixel_ray(camera, pixel)
        across = np.eye(3) - np.outer(direction, direction)
        matrix, right = matrix + across, right + across @ origin
    return np.linalg.solve(matrix, right)


def pixel_ray(camera: Camera, pixel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Origin and unit direction (3,) of the ray seen at a pixel (2,), in the world."""
    xy = np.linalg.solve(camera.K[:2, :2], pixel - camera.K[:2, 2])
    R, t = camera.world_to_camera[:3, :3], camera.world_to_camera[:3, 3]
    if camera.orthographic:
        return np.linalg.solve(R, np.array([*xy, 0.0]) - t), np.linalg.solve(R, np.array([0.0, 0.0, 1.0]))
    direction = np.linalg.solve(R, np.array([*xy, 1.0]))
    return camera.centre, direction / np.linalg.norm(direction)


def _bounds(view: View) -> tuple[np.ndarray, np.ndarray]:
    """(2, 2) low and high (x, y) of the mask, and which of these four sides lie inside the image."""
    box = images_of(view).bounds
    image = np.array([view.camera.width, view.camera.height])
    return box, np.stack([box[0] > 0, box[1] < image])


def _extreme(vertices: np.ndarray) -> np.ndarray:
    """The vertices that can touch a bounding box in some view: those of the convex hull."""
    try:
        return vertices[ConvexHull(vertices).vertices]
    except (QhullError, ValueError):  # flat or too few
        return vertices
