"""Fit a mesh to silhouettes. Importing this loads no torch, so that the list of settings is there without it."""
