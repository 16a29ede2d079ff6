"""The native CPU backend."""


def available() -> bool:
    return False
