"""How parameters move vertices."""

from .free import FreeVertices
from .mirror import Mirror, find_partners
from .posed import PosedRig
from .rigid import Rigid
from .variable import Variable

__all__ = ["FreeVertices", "Mirror", "PosedRig", "Rigid", "Variable", "find_partners"]
