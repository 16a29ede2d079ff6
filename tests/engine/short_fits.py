"""Settings of fits for tests."""

# Seconds long, and ended by their number of steps, not by the clock: the same on any machine.
QUICK = {"schedule": [{"resolution": 96, "steps": 60, "blur": [0.5, 0.25], "rate": [0.05, 0.005]}]}
QUICK_NEW = {
    "mode": "reconstruct",
    "voxels": 48,
    "schedule": [{"resolution": 96, "steps": 40, "edge": 0.06, "rate": [0.03, 0.01]}],
}
ENDLESS = {
    "schedule": [{"resolution": 128, "steps": 100_000, "rate": [0.01, 0.01]}],
    "patience": 100_000,
}
