"""blender -b -P preferences.py: preferences for the tests, saved."""

import os

import bpy

preferences = bpy.context.preferences
preferences.view.show_splash = False
preferences.use_preferences_save = False
preferences.filepaths.use_auto_save_temporary_files = False
preferences.addons["bl_ext.user_default.softras"].preferences.python = os.environ["SOFTRAS_PYTHON"]
bpy.ops.wm.save_userpref()
