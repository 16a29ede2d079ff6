"""Of the fuzz tests: what they took is told at the end of a run."""

import guard
import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for test, taken in sorted(guard.peaks.items()):
        if "-v" in terminalreporter.config.invocation_params.args:
            terminalreporter.write_line(f"{test}: at most {taken / (1 << 20):.1f} MB")
