"""Softras: fit a mesh to silhouettes by differentiable rendering.

Importing this package loads no torch; the names below that need it load it at first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .camera import Camera
from .errors import InputError
from .mesh import Mesh
from .rig import Armature, Bone, Rig, ShapeKey, Transform
from .views import Landmark, View

if TYPE_CHECKING:
    from .fitting import FitResult, Progress, fit, fit_events
    from .io.meshes import load_mesh, save_mesh
    from .io.views import load_views
    from .raster.jacobian import Jacobian, silhouettes_jacobian
    from .raster.ops import silhouettes
    from .render.silhouette import hard_silhouettes, render_silhouettes

__version__ = "0.1.0"

_LAZY = {
    "FitResult": ".fitting",
    "Jacobian": ".raster.jacobian",
    "Progress": ".fitting",
    "fit": ".fitting",
    "fit_events": ".fitting",
    "hard_silhouettes": ".render.silhouette",
    "load_mesh": ".io.meshes",
    "load_views": ".io.views",
    "render_silhouettes": ".render.silhouette",
    "save_mesh": ".io.meshes",
    "silhouettes": ".raster.ops",
    "silhouettes_jacobian": ".raster.jacobian",
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
