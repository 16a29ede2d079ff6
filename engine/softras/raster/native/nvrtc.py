"""CUDA source to machine code by NVRTC, the compiler that comes with PyTorch, with a cache on disk.

NVRTC needs neither a GPU nor a toolkit nor headers; ctypes calls its C functions (docs/cuda.md says why).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import re
import sys
from pathlib import Path

import torch

from ...errors import InputError
from ...files import inside, make_private_folder, read_bytes, write_bytes
from . import cuda_structures

SOURCE = "softras_cuda.cu"
_INCLUDE = re.compile(r'^#include "(.+)"', re.MULTILINE)
_DIGEST = hashlib.sha256().digest_size  # bytes of the checksum in front of a cache entry, since damaged code may load
SOURCES = Path(__file__).resolve().parents[2] / "_native"  # csrc/build.py puts them there


class CompileError(RuntimeError):
    """The kernels could not be compiled; the message says why in one sentence."""


def sources(folder: Path | None = None) -> dict[str, str]:
    """The CUDA source and all that it includes, by name, with the assertions of cuda_structures; folder: SOURCES.

    Raises CompileError when they are not there.
    """
    texts: dict[str, str] = {}
    wanted = [SOURCE]
    try:
        while wanted:
            name = wanted.pop()
            if name not in texts:
                texts[name] = ((folder or SOURCES) / name).read_text(encoding="utf-8")
                wanted += _INCLUDE.findall(texts[name])
    except OSError as error:
        raise CompileError(
            f"the CUDA sources are missing ({error.filename}); 'python csrc/build.py' puts them there"
        ) from error
    texts[SOURCE] += cuda_structures.assertions()
    return texts


def compiled(architecture: int, scalar: str, part: str = "silhouettes", *, anew: bool = False) -> bytes:
    """The machine code of the kernels for one kind of GPU, from the cache on disk or compiled into it.

    For a GPU that is newer than this NVRTC it is PTX, which the driver compiles. The cache is used only if its folder
    is writable for nobody else, and an entry only if its checksum is right.

    Args:
        architecture: ten times the compute capability of the GPU: 90 for 9.0.
        scalar: "float32" or "float64".
        part: "silhouettes", "coverage", or a kind of images: "plain", "textured", "any".
        anew: compile even if there is an entry in the cache.

    Raises:
        CompileError: no NVRTC, a GPU too old for it, or sources that do not compile.
    """
    texts, options = sources(), [target(architecture), *defines(scalar, part)]
    key = hashlib.sha256(repr((sorted(texts.items()), options, version())).encode()).hexdigest()[:32]
    cached = _cache() / f"{part}-{scalar}-{architecture}-{key}.bin"
    # A cache that cannot be read or written costs the time of compiling, no more.
    if not anew:
        with contextlib.suppress(InputError):
            make_private_folder(cached.parent)
            entry = read_bytes(inside(cached.parent, cached.name))
            if entry[:_DIGEST] == hashlib.sha256(entry[_DIGEST:]).digest():
                return entry[_DIGEST:]
    code = build(texts, options)[0]
    with contextlib.suppress(InputError):
        make_private_folder(cached.parent)
        write_bytes(cached, hashlib.sha256(code).digest() + code)
    return code


def defines(scalar: str, part: str = "silhouettes") -> list[str]:
    """The compiler's options that choose the part and the scalar type."""
    return ["-std=c++17", f"-DSOFTRAS_SCALAR={scalar}", f"-DSOFTRAS_PART={part}"]


def build(texts: dict[str, str], options: list[str]) -> tuple[bytes, str]:
    """Compile. Returns the machine code and the compiler's log; raises CompileError with the log's first error."""
    library = _library()
    program = ctypes.c_void_p()
    headers = {name: text for name, text in texts.items() if name != SOURCE}
    _check(
        library.nvrtcCreateProgram(
            ctypes.byref(program),
            texts[SOURCE].encode(),
            SOURCE.encode(),
            len(headers),
            _strings(headers.values()),
            _strings(headers),
        )
    )
    try:
        status = library.nvrtcCompileProgram(program, len(options), _strings(options))
        log = _output(program, "ProgramLog").decode(errors="replace").rstrip("\0")
        if status:
            lines = [line for line in log.splitlines() if "error" in line] or log.splitlines() or [f"status {status}"]
            raise CompileError(f"NVRTC {version()} does not compile the CUDA kernels: {lines[0].strip()}")
        return _output(program, "PTX" if "=compute_" in options[0] else "CUBIN"), log
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


@functools.cache
def version() -> str:
    """The version of NVRTC, such as "13.0"."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check(_library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
    return f"{major.value}.{minor.value}"


def target(architecture: int) -> str:
    """The compiler's option for a GPU of a compute capability; PTX for the next older one if it is unknown.

    Raises CompileError for a GPU that is too old.
    """
    count = ctypes.c_int()
    _check(_library().nvrtcGetNumSupportedArchs(ctypes.byref(count)))
    known = (ctypes.c_int * count.value)()
    _check(_library().nvrtcGetSupportedArchs(known))
    if architecture in known:
        return f"--gpu-architecture=sm_{architecture}"
    older = [each for each in known if each < architecture]
    if not older:
        capability = f"{architecture // 10}.{architecture % 10}"
        raise CompileError(f"the GPU's compute capability {capability} is too old for the compiler NVRTC {version()}")
    return f"--gpu-architecture=compute_{max(older)}"


@functools.cache
def _library() -> ctypes.CDLL:
    """NVRTC of the CUDA version that PyTorch is built for, from PyTorch's wheels or else from the system."""
    major = (torch.version.cuda or "").split(".")[0]
    package = Path(torch.__file__).parent
    if sys.platform == "win32":
        found = sorted((package / "lib").glob(f"nvrtc64_{major or '*'}*_0.dll"))
        names = [str(path) for path in found if ".alt" not in path.name] + [f"nvrtc64_{major}0_0.dll"]
    else:
        nvidia = package.parent / "nvidia"
        found = sorted(nvidia.glob(f"*/lib/libnvrtc.so.{major}*"))
        names = [str(path) for path in found] + [f"libnvrtc.so.{major}"]
    for name in names:
        with contextlib.suppress(OSError):
            for builtins in Path(name).parent.glob("libnvrtc-builtins.so.*"):  # which NVRTC looks for by name
                ctypes.CDLL(str(builtins))
            return ctypes.CDLL(name)
    raise CompileError(f"the CUDA compiler NVRTC is not where this PyTorch should have it ({names[-1]})")


def _cache() -> Path:
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "softras" / "kernels"


def _output(program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    _check(getattr(_library(), f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check(getattr(_library(), f"nvrtcGet{what}")(program, buffer))
    return buffer.raw


def _strings(texts) -> ctypes.Array:
    encoded = [text.encode() for text in texts]
    return (ctypes.c_char_p * len(encoded))(*encoded)


def _check(status: int) -> None:
    if status:
        raise CompileError(f"NVRTC failed with status {status}")
