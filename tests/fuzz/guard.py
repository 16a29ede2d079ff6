"""What a reader may do with a damaged file."""

import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from softras import InputError

MEMORY = 1 << 30  # bytes that a reader may take
SECONDS = 20  # after which it hangs: a loaded machine is slow
_PYTHON = tuple(os.path.realpath(folder) for folder in {sys.prefix, sys.base_prefix, os.path.dirname(os.__file__)})
_touched: list[str] = []
_watching: list[Path] = []


def _audit(event: str, arguments: tuple) -> None:
    if not _watching:
        return
    if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect"):
        _touched.append(f"{event} {arguments}")
    elif event == "open" and isinstance(arguments[0], str | bytes):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        engine = Path(sys.modules["softras"].__file__ or "").parent
        allowed = (str(_watching[0].resolve()), str(engine.resolve()), "/proc", "/dev/null", *_PYTHON)
        if not path.startswith(allowed):
            _touched.append(f"open {path}")


sys.addaudithook(_audit)


@contextmanager
def guarded(folder: Path, what: str) -> Iterator[None]:
    """What runs inside may raise an InputError of one line, and neither hang, fill the memory nor leave the folder."""
    _touched.clear()
    with _limits(), warnings.catch_warnings():
        warnings.simplefilter("error")  # a terminal shows nothing but the error
        _watching.append(folder)
        try:
            yield
        except InputError as error:
            assert "\n" not in str(error) and str(error).strip(), what
        finally:
            _watching.clear()
    assert not _touched, f"{what}: {_touched}"


class Hang(BaseException):
    """Raised in what runs for too long."""


def _hang(number: int, frame: object) -> None:
    raise Hang(f"longer than {SECONDS} s")


@contextmanager
def _limits() -> Iterator[None]:
    if not sys.platform.startswith("linux"):
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    handler = signal.signal(signal.SIGALRM, _hang)
    signal.alarm(SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
