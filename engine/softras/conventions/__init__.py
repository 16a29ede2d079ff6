"""Other programs' cameras as `softras.Camera`, and back: a module for each program, a function for each direction.

docs/cameras.md has the conventions side by side.
"""
