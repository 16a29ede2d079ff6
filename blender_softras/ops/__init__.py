# SPDX-License-Identifier: GPL-3.0-or-later
"""What the artist does: one file for each thing."""
