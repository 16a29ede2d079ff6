"""Exact coverage: the area of a mesh's silhouette inside each pixel, with analytic gradients.

`ops.py` checks and registers, `reference.py` defines, `cpu.py` computes, `topology.py` is what depends on faces alone.
"""
