"""Shading: the colour in the light of each face (flat), each vertex (Gouraud) or each pixel (Phong).

Flat and Gouraud shading give attributes for the renderer to draw, with the light baked in, as SoftRas bakes it into its
textures. Phong shading works on images of colours, normals and points that the renderer has drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..geometry.normals import corners, face_normals, vertex_normals
from .lights import Light, Reflection, diffuse_light, specular_light, towards, unit


@dataclass(frozen=True, eq=False)
class Gloss:
    """The gloss of a surface. color: (3,) of its highlights; the rest as in `softras.specular_light`."""

    color: Tensor
    shininess: float | Tensor = 64.0
    model: Reflection = "blinn_phong"


def shade_faces(
    colors: Tensor,
    vertices: Tensor,
    faces: Tensor,
    lights: Sequence[Light],
    *,
    gloss: Gloss | None = None,
    eye: Tensor | None = None,
    two_sided: bool = False,
) -> Tensor:
    """Flat shading: the colours of faces in the light at their middle. Differentiable with respect to all tensors.

    Args:
        colors: (F, 3), or (F, K, 3) such as a surface texture's.
        vertices: (V, 3), or (N, V, 3) for N views.
        faces: (F, 3), corners counter-clockwise as seen from outside.
        lights: any number of lights.
        gloss: adds highlights, for which `eye` is needed; default none.
        eye: (N, 4) the eyes of N views, as `softras.eyes` gives them.
        two_sided: turn normals towards `eye`. Otherwise a face is dark where the light is behind it.

    Returns:
        Colours of the shape of `colors`, with N in front if the vertices have it or the result depends on `eye`.
    """
    points = torch.stack(corners(vertices, faces.long())).mean(0)
    normals = face_normals(vertices, faces)
    if colors.dim() == 3:
        points, normals = points[..., None, :], normals[..., None, :]
    if eye is not None:
        eye = eye.reshape(-1, *[1] * (colors.dim() - 1), 4)
    return _reflected(colors, points, normals, lights, gloss, eye, two_sided)


def shade_vertices(
    colors: Tensor,
    vertices: Tensor,
    faces: Tensor,
    lights: Sequence[Light],
    *,
    gloss: Gloss | None = None,
    eye: Tensor | None = None,
    two_sided: bool = False,
) -> Tensor:
    """Gouraud shading: the colours (V, 3) of vertices in the light, with the mean normals of their faces.

    Arguments and the returned shape are those of `shade_faces`, with V for F.
    """
    normals = vertex_normals(vertices, faces)
    if eye is not None:
        eye = eye[:, None]
    return _reflected(colors, vertices, normals, lights, gloss, eye, two_sided)


def shade_pixels(
    colors: Tensor,
    normals: Tensor,
    points: Tensor,
    weight: Tensor,
    lights: Sequence[Light],
    *,
    gloss: Gloss | None = None,
    eye: Tensor | None = None,
    two_sided: bool = False,
    background: Tensor | None = None,
) -> Tensor:
    """Phong shading, deferred: from images of colours, normals and points to an image in the light.

    Differentiable with respect to all tensors. The images are weighted means over faces and a background of 0, as the
    renderer draws them; `weight` is its image of an attribute that is 1 everywhere. Normals are scaled to length 1, and
    points are divided by the weight.

    Args:
        colors, normals, points: (N, 3, H, W); normals and points in the world. Normals of vertices shade smoothly.
        weight: (N, H, W) the share of the faces in each pixel; the share of the background is 1 - weight.
        lights, gloss, eye, two_sided: as for `shade_faces`.
        background: (3,), default black.

    Returns:
        (N, 3, H, W).
    """
    colors, normals, points = (image.movedim(1, -1) for image in (colors, normals, points))
    share = weight[..., None]
    drawn = share > torch.finfo(weight.dtype).eps ** 2
    points = torch.where(drawn, points, 0) / torch.where(drawn, share, 1)
    if eye is not None:
        eye = eye[:, None, None]
    image = _reflected(colors, points, unit(normals), lights, gloss, eye, two_sided, share)
    if background is not None:
        image = image + (1 - share) * background
    return image.movedim(-1, 1)


def _reflected(
    colors: Tensor,
    points: Tensor,
    normals: Tensor,
    lights: Sequence[Light],
    gloss: Gloss | None,
    eye: Tensor | None,
    two_sided: bool,
    share: Tensor | float = 1.0,
) -> Tensor:
    """Colours (..., 3) in the light, plus highlights times share; eye (..., 4) broadcasts with points (..., 3)."""
    if eye is None and (two_sided or gloss is not None):
        raise ValueError("highlights and two-sided shading depend on where the mesh is seen from; give eye.")
    if eye is not None and two_sided:
        away = (normals * towards(eye, points)).sum(-1, keepdim=True) < 0
        normals = torch.where(away, -normals, normals)
    shaded = colors * diffuse_light(lights, points, normals)
    if eye is not None and gloss is not None:
        highlights = specular_light(lights, points, normals, eye, shininess=gloss.shininess, model=gloss.model)
        shaded = shaded + share * gloss.color * highlights
    return shaded
