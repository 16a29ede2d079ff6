"""Exact coverage: the area of a mesh's silhouette inside each pixel, with analytic gradients.

`ops.py` checks and registers, `reference.py` defines, `topology.py` is what depends on faces alone;
`../native/coverage_cpu.py` and `coverage_cuda.py` compute.
"""
