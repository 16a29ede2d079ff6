"""The one error of the user's making."""


class InputError(ValueError):
    """What was given cannot be used; the message is one sentence that says what to do about it."""
