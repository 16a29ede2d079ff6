"""Of every suite: the examples that hypothesis finds are the same on all machines, and none fails for being slow."""

try:
    import hypothesis
except ImportError:  # in Blender's environments, whose tests have no such examples
    pass
else:
    hypothesis.settings.register_profile("same", derandomize=True, deadline=None, database=None)
    hypothesis.settings.load_profile("same")
