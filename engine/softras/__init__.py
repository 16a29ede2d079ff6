"""Softras: fit a mesh to silhouettes by differentiable rendering.

Importing this package does not load torch; the names below that need it load it at their first use.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

from .camera import Camera
from .errors import InputError
from .mesh import Mesh
from .rig import Armature, Bone, Rig, ShapeKey, Transform
from .views import Landmark, View

# Unless told otherwise, PyTorch's threads (OpenMP's) wait for work in a loop, which takes the processor from all other
# programs. OpenMP reads this variable once, when PyTorch is loaded. A value that the user has set stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from .conventions.blender import camera_from_blender, camera_to_blender
    from .conventions.opencv import camera_from_opencv, camera_to_opencv
    from .conventions.opengl import camera_from_opengl, camera_to_opengl
    from .conventions.pytorch3d import (
        camera_from_pytorch3d,
        camera_from_pytorch3d_fov,
        camera_from_pytorch3d_fov_orthographic,
        camera_to_pytorch3d,
    )
    from .conventions.softras import (
        camera_from_softras_look,
        camera_from_softras_look_at,
        camera_from_softras_projection,
        camera_to_softras,
    )
    from .fitting.fit import fit, fit_events
    from .fitting.progress import FitResult, Progress
    from .geometry.distances import FScore, chamfer_distance, f_score, nearest_distances
    from .geometry.normals import face_areas, face_normals, vertex_normals
    from .geometry.overlap import silhouette_iou, voxel_iou
    from .geometry.sampling import SurfacePoints, sample_surface
    from .geometry.smoothness import (
        edge_length_loss,
        flatten_loss,
        laplacian_loss,
        laplacian_smoothing_loss,
        normal_consistency_loss,
    )
    from .geometry.topology import Topology
    from .geometry.voxels import voxelize
    from .io.meshes import load_mesh, save_mesh
    from .io.textured import TexturedMesh, load_texture, load_textured_mesh
    from .io.views import load_views
    from .raster.coverage.ops import coverage, coverage_jacobian
    from .raster.images.conorms import CONORMS
    from .raster.images.distributions import DISTRIBUTIONS
    from .raster.images.fragments import Fragments, fragments_of
    from .raster.images.ops import Rendering, images
    from .raster.images.textures import MipChain, mip_chain
    from .raster.silhouettes.jacobian import Jacobian, silhouettes_jacobian
    from .raster.silhouettes.ops import silhouettes
    from .render.cameras import eye_from_angles, look, look_at, orthographic, perspective
    from .render.images import render_images
    from .render.lights import (
        AmbientLight,
        DirectionalLight,
        PointLight,
        SphericalHarmonics,
        diffuse_light,
        eyes,
        softras_lights,
        specular_light,
    )
    from .render.shading import Gloss, shade_faces, shade_pixels, shade_vertices
    from .render.silhouette import hard_silhouettes, render_silhouettes
    from .render.supersampling import supersampled
    from .render.textures import surface_texture_from_image, surface_texture_from_vertices
    from .tasks.measure import Measurement, measure

__version__ = "0.1.0"

_LAZY = {
    "AmbientLight": ".render.lights",
    "CONORMS": ".raster.images.conorms",
    "DISTRIBUTIONS": ".raster.images.distributions",
    "DirectionalLight": ".render.lights",
    "FScore": ".geometry.distances",
    "FitResult": ".fitting.progress",
    "Fragments": ".raster.images.fragments",
    "Gloss": ".render.shading",
    "Jacobian": ".raster.silhouettes.jacobian",
    "Measurement": ".tasks.measure",
    "MipChain": ".raster.images.textures",
    "PointLight": ".render.lights",
    "Progress": ".fitting.progress",
    "Rendering": ".raster.images.ops",
    "SphericalHarmonics": ".render.lights",
    "SurfacePoints": ".geometry.sampling",
    "TexturedMesh": ".io.textured",
    "Topology": ".geometry.topology",
    "camera_from_blender": ".conventions.blender",
    "camera_from_opencv": ".conventions.opencv",
    "camera_from_opengl": ".conventions.opengl",
    "camera_from_pytorch3d": ".conventions.pytorch3d",
    "camera_from_pytorch3d_fov": ".conventions.pytorch3d",
    "camera_from_pytorch3d_fov_orthographic": ".conventions.pytorch3d",
    "camera_from_softras_look": ".conventions.softras",
    "camera_from_softras_look_at": ".conventions.softras",
    "camera_from_softras_projection": ".conventions.softras",
    "camera_to_blender": ".conventions.blender",
    "camera_to_opencv": ".conventions.opencv",
    "camera_to_opengl": ".conventions.opengl",
    "camera_to_pytorch3d": ".conventions.pytorch3d",
    "camera_to_softras": ".conventions.softras",
    "chamfer_distance": ".geometry.distances",
    "coverage": ".raster.coverage.ops",
    "coverage_jacobian": ".raster.coverage.ops",
    "diffuse_light": ".render.lights",
    "edge_length_loss": ".geometry.smoothness",
    "eye_from_angles": ".render.cameras",
    "eyes": ".render.lights",
    "f_score": ".geometry.distances",
    "face_areas": ".geometry.normals",
    "face_normals": ".geometry.normals",
    "fit": ".fitting.fit",
    "fit_events": ".fitting.fit",
    "flatten_loss": ".geometry.smoothness",
    "fragments_of": ".raster.images.fragments",
    "hard_silhouettes": ".render.silhouette",
    "images": ".raster.images.ops",
    "laplacian_loss": ".geometry.smoothness",
    "laplacian_smoothing_loss": ".geometry.smoothness",
    "load_mesh": ".io.meshes",
    "load_texture": ".io.textured",
    "load_textured_mesh": ".io.textured",
    "load_views": ".io.views",
    "look": ".render.cameras",
    "look_at": ".render.cameras",
    "measure": ".tasks.measure",
    "mip_chain": ".raster.images.textures",
    "nearest_distances": ".geometry.distances",
    "normal_consistency_loss": ".geometry.smoothness",
    "orthographic": ".render.cameras",
    "perspective": ".render.cameras",
    "render_images": ".render.images",
    "render_silhouettes": ".render.silhouette",
    "sample_surface": ".geometry.sampling",
    "save_mesh": ".io.meshes",
    "shade_faces": ".render.shading",
    "shade_pixels": ".render.shading",
    "shade_vertices": ".render.shading",
    "silhouette_iou": ".geometry.overlap",
    "silhouettes": ".raster.silhouettes.ops",
    "silhouettes_jacobian": ".raster.silhouettes.jacobian",
    "softras_lights": ".render.lights",
    "specular_light": ".render.lights",
    "supersampled": ".render.supersampling",
    "surface_texture_from_image": ".render.textures",
    "surface_texture_from_vertices": ".render.textures",
    "vertex_normals": ".geometry.normals",
    "voxel_iou": ".geometry.overlap",
    "voxelize": ".geometry.voxels",
}
_NOUNS = ("Armature", "Bone", "Camera", "InputError", "Landmark", "Mesh", "Rig", "ShapeKey", "Transform", "View")
__all__ = [*_NOUNS, "__version__", *sorted(_LAZY)]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(importlib.import_module(_LAZY[name], __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
