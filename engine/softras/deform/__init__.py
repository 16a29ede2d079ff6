"""How parameters move vertices and cameras."""

from .cage import ShownMesh, Sides, follow
from .cameras import CameraMoves
from .free import FreeVertices
from .mirror import Mirror, find_partners
from .posed import PosedRig

__all__ = ["CameraMoves", "FreeVertices", "Mirror", "PosedRig", "ShownMesh", "Sides", "find_partners", "follow"]
