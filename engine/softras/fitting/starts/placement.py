"""Placement: a mesh that hardly overlaps the masks is moved and scaled onto them before the fit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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
from ..observed.rays import nearest_point_to_rays, pixel_ray, wanted_size
from ..observed.renderer import Renderer
from ..observed.unit import UnitSpace
from ..terms.silhouettes import silhouette_iou_loss

OVERLAP = 0.2  # A mesh whose mean IoU with the masks is below this is placed wherever the masks are.
MATCHED = 0.85  # A mesh whose mean IoU is at least this stays where it is.
GAIN = 1.1  # Between these two, placement must multiply the mean IoU by at least this to be taken.
SHORTFALL = 0.6  # An IoU is clearly better where 1 - IoU is less than this share of what it was.
BLUR = 0.064  # The silhouettes by which the overlap is measured are softened over so many pixels.
PRIOR = 1e-3  # A small weight that keeps near its first value what the masks leave open: the depth in a single view.
MOST_LOG = 60.0  # A mesh is scaled by at most e to this power: the square of its size must still be a finite number.


class PlacementNote(str):
    """The note to the user that a mesh was moved onto the masks before the fit.

    It is a type of its own because it is no longer true of a result for which the mesh was put back.
    """

    __slots__ = ()

    @classmethod
    def of(cls, moved: str) -> PlacementNote:
        """moved: what was done to the mesh, as it stands behind "The mesh was"."""
        return cls(f"The mesh was {moved} first; place='never' leaves it where it is.")


def without_placement(notes: Iterable[str]) -> list[str]:
    """The notes but those that a mesh was moved onto the masks, for a mesh that was put back."""
    return [note for note in notes if not isinstance(note, PlacementNote)]


def clearly_better(found: float, before: float) -> bool:
    """Whether the mean IoU `found` is so much nearer to 1 than `before` that it is worth a change (see SHORTFALL)."""
    return 1 - found < SHORTFALL * (1 - before)


def overlap(mesh: Mesh, views: Sequence[View], renderer: Renderer) -> float:
    """The mean soft IoU of the mesh's silhouettes with the masks, in crops of about 128 pixels a side.

    Views whose camera is inside the mesh do not count, since one wrong camera is no reason to move the mesh; where
    they are at least half of the views, the overlap is 0.
    """
    unit = UnitSpace.around(mesh.vertices)
    device = renderer.device
    observation = observe(views, mesh.vertices, unit, 128, renderer)
    vertices = torch.as_tensor(unit.to_unit(mesh.vertices), dtype=torch.float32, device=device)
    faces = torch.as_tensor(mesh.faces, dtype=torch.int64, device=device)
    everything = torch.arange(len(views), device=device)
    alpha = observation.render(renderer, vertices, faces, everything, blur=BLUR, cull=False)
    iou = 1 - silhouette_iou_loss(observation.compared(alpha, everything)).cpu().numpy()
    outside = np.array([not camera_inside(view.camera, mesh) for view in views])
    return float(iou[outside].mean()) if 2 * outside.sum() > len(views) else 0.0


def onto_masks(
    mesh: Mesh,
    views: Sequence[View],
    renderer: Renderer,
    *,
    only_from_afar: bool = False,
    before: float | None = None,
) -> tuple[float, np.ndarray] | None:
    """The scale, and the (4, 4) matrix in the world, that place the mesh on the masks; None where it should stay.

    The mesh stays where it overlaps the masks well, and where it overlaps them a little and placement would hardly
    improve that.

    Args:
        only_from_afar: the mesh stays wherever it overlaps the masks at all (by OVERLAP).
        before: the mesh's overlap with the masks of these views, where it was measured already.
    """
    if before is None:
        before = overlap(mesh, views, renderer)
    if before >= (OVERLAP if only_from_afar else MATCHED):
        return None
    used = np.unique(mesh.faces)
    scale, pivot, shift = similarity_onto(mesh.vertices[used], views)
    matrix = np.eye(4) * [scale, scale, scale, 1]
    matrix[:3, 3] = pivot - scale * pivot + shift
    vertices = mesh.vertices @ matrix[:3, :3].T + matrix[:3, 3]
    if not (np.abs(vertices) <= LARGEST).all():  # The cameras are so far away that their pixels tell no position.
        return None
    moved = Mesh(vertices, mesh.faces)
    if before >= OVERLAP and overlap(moved, views, renderer) < GAIN * before:
        return None
    return scale, matrix


def similarity_onto(vertices: np.ndarray, views: Sequence[View]) -> tuple[float, np.ndarray, np.ndarray]:
    """The scale and the shift that bring the bounding boxes of the vertices onto those of the masks, without rotation.

    Robust least squares over the four sides of the bounding box in every view, leaving out sides where the border of
    the image cuts the mask off.

    Args:
        vertices: (V, 3) world points.

    Returns:
        Scale s, pivot p (3,) and shift t (3,): a vertex x goes to s (x - p) + p + t.
    """
    bounds = [_bounds(view) for view in views]
    points = _extreme(vertices)
    pivot = (points.min(axis=0) + points.max(axis=0)) / 2
    size = max(float(np.ptp(points, axis=0).max()), 1e-30)
    if len(views) == 1 and not views[0].camera.orthographic:  # One view cannot tell scale from depth: the size stays.
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
    """The `PlacementNote` to the user that a mesh was placed, and scaled by `scale`."""
    return PlacementNote.of(f"moved onto the masks and scaled by {scale:.3g}")


def camera_inside(camera: Camera, mesh: Mesh) -> bool:
    """Whether the eye of a perspective camera lies inside the mesh: the mesh's winding number there is above 1/2.

    The winding number is the sum of the faces' solid angles (van Oosterom and Strackee 1983) over 4 pi, which small
    holes in the mesh hardly change (Jacobson et al. 2013).
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
    """Raises InputError for a mesh whose faces all lie at one point."""
    if not np.ptp(mesh.vertices[np.unique(mesh.faces)], axis=0).any():
        raise InputError("all faces of the mesh are at one point; give a mesh with some extent.")


def check_cameras(mesh: Mesh, views: Sequence[View]) -> None:
    """Raises InputError for the first view whose camera cannot see the mesh.

    The camera is inside the mesh, or all of the mesh is behind it or nearer than its near distance.
    """
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
    """(3,) the world point on the ray through the middle of a pixel box (2, 2) where an object of a size fills the box.

    Args:
        size: the length in the world that spans the longer side of the box at that point's depth.
    """
    eye, direction = pixel_ray(camera, box.mean(axis=0))
    unit_depth = camera.world_to_camera[2, :3] @ direction
    return eye + direction * size / wanted_size(camera, eye + direction / unit_depth, box) / unit_depth


def _bounds(view: View) -> tuple[np.ndarray, np.ndarray]:
    """The mask's bounding box (2, 2), low and high (x, y) in pixels, and which of its sides are inside the image.

    A side at the image's border says only that the object extends at least that far.
    """
    box = images_of(view).bounds
    image = np.array([view.camera.width, view.camera.height])
    return box, np.stack([box[0] > 0, box[1] < image])


def _extreme(vertices: np.ndarray) -> np.ndarray:
    """The vertices of the convex hull: no other vertex can touch the bounding box of an image of the mesh."""
    try:
        return vertices[ConvexHull(vertices).vertices]
    except (QhullError, ValueError):  # The vertices lie in a plane, or are too few.
        return vertices
