"""Other differentiable renderers to compare with: hard images with gradients as their authors defined them.

`nmr.py`: Kato et al., Neural 3D Mesh Renderer, CVPR 2018. `opendr.py`: Loper and Black, OpenDR, ECCV 2014. Both begin
with `zbuffer.py`, the nearest face at each pixel's centre. Plain torch, written for clarity, not for speed.
"""

from .nmr import nmr
from .opendr import opendr
from .zbuffer import HardImages

__all__ = ["HardImages", "nmr", "opendr"]
