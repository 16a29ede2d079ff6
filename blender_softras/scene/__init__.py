# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender data as the engine's nouns, and the engine's results as Blender data."""
