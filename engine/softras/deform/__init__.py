"""How parameters move vertices and cameras."""

from .cameras import CameraMoves
from .free import FreeVertices
from .mirror import Mirror, find_partners
from .posed import PosedRig

__all__ = ["CameraMoves", "FreeVertices", "Mirror", "PosedRig", "find_partners"]
