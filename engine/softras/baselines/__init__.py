"""Renderers to compare with: hard images with the gradients that others gave them.

`nmr.py`: Kato et al., Neural 3D Mesh Renderer, CVPR 2018. `opendr.py`: Loper and Black, OpenDR, ECCV 2014. Both stand
on `zbuffer.py`, the nearest face at each pixel's centre. Plain torch, written for clarity and for comparison.
"""

from .nmr import nmr
from .opendr import opendr
from .zbuffer import HardImages

__all__ = ["HardImages", "nmr", "opendr"]
