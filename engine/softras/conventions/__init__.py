"""Cameras of other programs as `softras.Camera`, and back: a module for each program, a function for each direction.

docs/cameras.md shows the conventions side by side.
"""
