"""How parameters move vertices."""

from .free import FreeVertices
from .mirror import Mirror, find_partners
from .rigid import Rigid
from .variable import Variable

__all__ = ["FreeVertices", "Mirror", "Rigid", "Variable", "find_partners"]
