"""The progress of a run on the terminal."""

from __future__ import annotations

import time
from typing import TextIO

from .tasks import Update

WIDTH = 24  # The bar has so many characters.
LIVE_SECONDS = 0.1  # The live line changes at most every so many seconds.


class ProgressBar:
    """Shows progress: on a terminal by one live line, elsewhere by a line after every tenth of the steps."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._started = time.monotonic()
        self._next = 0.0

    def show(self, update: Update) -> None:
        """Show an update if one is due; its notes to the user are always shown."""
        done = update.step / max(update.steps, 1)
        for note in update.notes:
            print(f"{self._clear()}note: {note}", file=self._stream, flush=True)
        now = time.monotonic()
        if (now if self._live else done) < self._next:
            return
        self._next = now + LIVE_SECONDS if self._live else (int(done * 10) + 1) / 10
        how = f"  {update.text}" if update.text else ""
        text = f"{done:4.0%}  step {update.step}/{update.steps}{how}  {now - self._started:.1f} s"
        if self._live:
            filled = round(done * WIDTH)
            bar = "█" * filled + "·" * (WIDTH - filled)
            print(f"\r{bar} {text}\x1b[K", end="", file=self._stream, flush=True)
        else:
            print(text, file=self._stream, flush=True)

    def _clear(self) -> str:
        """The characters that clear the live line."""
        return "\r\x1b[K" if self._live else ""

    def end(self) -> None:
        """End the live line, so that other output begins on a new one."""
        if self._live:
            print(file=self._stream)
