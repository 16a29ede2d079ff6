"""What a reader may do with a damaged file, and what it took."""

import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from softras import InputError

MEMORY = 1 << 30  # bytes that a reader may take
SECONDS = 20  # of the processor after which it hangs; so much idle time and more passes on a loaded machine
LINUX = sys.platform.startswith("linux")
_CODE = tuple(
    os.path.join(os.path.realpath(folder), "")
    for folder in {sys.prefix, sys.base_prefix, os.path.dirname(os.__file__), os.path.dirname(os.__file__) + "/../.."}
)
_PROGRAMS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect", "socket.bind")
_CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_touched: list[str] = []
_watching: list[Path] = []
peaks: dict[str, int] = {}  # by test: bytes that the process has grown by at most
last = 0  # of what ran last


def _audit(event: str, arguments: tuple) -> None:
    if not _watching:
        return
    if event in _PROGRAMS or event == "pickle.find_class":
        _touched.append(f"{event} {arguments}")
    elif event == "open" and isinstance(arguments[0], str | bytes):
        writes = bool((arguments[2] or 0) & _WRITES)
        if not (_inside(arguments[0]) or (not writes and _is_code(arguments[0]))):
            _touched.append(f"open {arguments}")
    elif event in _CHANGES:
        paths = (
            arguments[:2]
            if event in ("os.rename", "os.link")
            else arguments[1:2]
            if event == "os.symlink"
            else arguments[:1]
        )
        if not all(_inside(path) for path in paths if isinstance(path, str | bytes | Path)):
            _touched.append(f"{event} {arguments}")


def _inside(path: str | bytes | Path) -> bool:
    return os.path.realpath(os.fsdecode(path)).startswith(str(_watching[0].resolve()))


def _is_code(path: str | bytes) -> bool:
    """What Python and torch read while they load a module late."""
    found = os.path.realpath(os.fsdecode(path))
    engine = os.path.join(Path(sys.modules["softras"].__file__ or "").resolve().parent, "")
    return found.startswith((engine, *_CODE, "/proc/", "/sys/", "/dev/null", "/usr/lib", "/etc/localtime"))


sys.addaudithook(_audit)


@contextmanager
def guarded(folder: Path, what: str) -> Iterator[None]:
    """What runs inside may raise an InputError of one line, and neither hang, fill the memory nor leave the folder."""
    _touched.clear()
    before = _start_of_peak()
    with warnings.catch_warnings(record=True) as said, _limits():
        warnings.simplefilter("always")
        _watching.append(folder)
        try:
            yield
        except InputError as error:
            assert "\n" not in str(error) and str(error).strip(), what
            cause: BaseException | None = error
            while cause is not None:  # a limit that was met is none the less met where it is told as the user's error
                assert not isinstance(cause, MemoryError), f"{what}: more than {MEMORY >> 20} MB: {error}"
                cause = cause.__cause__ or cause.__context__
        finally:
            _watching.clear()
    global last
    last = taken = _peak() - before
    test = os.environ.get("PYTEST_CURRENT_TEST", "").partition(" ")[0].rpartition("/")[2]
    peaks[test] = max(peaks.get(test, 0), taken)
    assert taken < MEMORY, f"{what}: {taken >> 20} MB"
    assert not _touched, f"{what}: {_touched}"
    # A terminal shows nothing but the error, and our own sentences.
    others = [
        f"{warning.category.__name__}: {warning.message}"
        for warning in said
        if warning.category is not UserWarning or warning.filename.startswith(_CODE)
    ]
    assert not others, f"{what}: {others}"


class Hang(BaseException):
    """Raised in what runs for too long."""


def _hang(number: int, frame: object) -> None:
    raise Hang(f"longer than {SECONDS} s")


def _start_of_peak() -> int:
    """Bytes of memory in use; what `_peak` says from then on is not older."""
    if not LINUX:
        return 0
    os.pwrite(_CLEAR, b"5", 0)
    return _peak()


def _peak() -> int:
    """Bytes of memory that were in use at most (resident, so what was asked for and never touched does not count)."""
    return int(os.pread(_STATUS, 4096, 0).partition(b"VmHWM:")[2].split()[0]) << 10 if LINUX else 0


if LINUX:  # opened once: an example takes less than opening these
    _CLEAR, _STATUS = os.open("/proc/self/clear_refs", os.O_WRONLY), os.open("/proc/self/status", os.O_RDONLY)
    _STATM = os.open("/proc/self/statm", os.O_RDONLY)


@contextmanager
def _limits() -> Iterator[None]:
    if not LINUX:
        yield
        return
    import resource

    before, before_cpu = resource.getrlimit(resource.RLIMIT_AS), resource.getrlimit(resource.RLIMIT_CPU)
    taken = int(os.pread(_STATM, 4096, 0).split()[0]) * resource.getpagesize()
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + 3 * SECONDS
    handler = signal.signal(signal.SIGALRM, _hang)
    spent = signal.signal(signal.SIGPROF, _hang)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.alarm(10 * SECONDS)  # what waits for something takes no time of the processor
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, before_cpu[1]))  # ends the process: loops in C hear no signal
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        resource.setrlimit(resource.RLIMIT_CPU, before_cpu)
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGALRM, handler)
        signal.signal(signal.SIGPROF, spent)
