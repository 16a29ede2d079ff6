"""How a run goes, on the terminal."""

from __future__ import annotations

import time
from typing import TextIO

from .tasks import Update

WIDTH = 24  # characters of the bar
LIVE_SECONDS = 0.1  # between two changes of the live line


class ProgressBar:
    """One live line on a terminal, a line every tenth of the way elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._started = time.monotonic()
        self._next = 0.0

    def show(self, update: Update) -> None:
        """Show an update if it is time for it; what it has to say to the user is always shown."""
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
        """What makes room for a line."""
        return "\r\x1b[K" if self._live else ""

    def end(self) -> None:
        """Leave the live line."""
        if self._live:
            print(file=self._stream)
