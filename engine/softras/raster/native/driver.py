"""The few functions of the CUDA driver that load and launch a kernel, through ctypes."""

from __future__ import annotations

import ctypes
import functools
import sys

import torch

_OUT_OF_MEMORY = 2


class DriverError(RuntimeError):
    """The CUDA driver refused; the message says what, in one sentence."""


class Module:
    """Kernels loaded into the current device's context."""

    def __init__(self, image: bytes) -> None:
        self._module = ctypes.c_void_p()
        self._functions: dict[str, ctypes.c_void_p] = {}
        _make_context_current()
        _check(library().cuModuleLoadData(ctypes.byref(self._module), image))

    def launch(
        self, name: str, grid: tuple[int, int, int], threads: int, stream: int, argument: ctypes.Structure
    ) -> None:
        """Queue a kernel of one argument on a stream of the module's device."""
        _make_context_current()
        if name not in self._functions:
            function = ctypes.c_void_p()
            _check(library().cuModuleGetFunction(ctypes.byref(function), self._module, name.encode()))
            self._functions[name] = function
        arguments = (ctypes.c_void_p * 1)(ctypes.addressof(argument))
        _check(library().cuLaunchKernel(self._functions[name], *grid, threads, 1, 1, 0, stream, arguments, None))


@functools.cache
def library() -> ctypes.CDLL:
    """The driver. Raises DriverError where there is none."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        return declared(ctypes.CDLL(name))
    except OSError as error:
        raise DriverError(f"the NVIDIA driver does not load: {error}") from error


def declared(driver: ctypes.CDLL) -> ctypes.CDLL:
    """The same, with the types of arguments that ctypes would take for smaller ones."""
    integer, pointer = ctypes.c_uint, ctypes.c_void_p
    driver.cuLaunchKernel.argtypes = [pointer, *[integer] * 7, pointer, pointer, pointer]
    return driver


def _make_context_current() -> None:
    """A thread that torch has not used yet (a first call in autograd's thread, say) has no context: take torch's."""
    driver, context = library(), ctypes.c_void_p()
    _check(driver.cuCtxGetCurrent(ctypes.byref(context)))
    if not context.value:
        device = ctypes.c_int()
        _check(driver.cuDeviceGet(ctypes.byref(device), torch.cuda.current_device()))
        _check(driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
        _check(driver.cuCtxSetCurrent(context))


def _check(status: int) -> None:
    if not status:
        return
    words = ctypes.c_char_p()
    library().cuGetErrorString(status, ctypes.byref(words))
    message = f"the CUDA driver says: {(words.value or b'unknown error').decode()} (error {status})"
    raise torch.cuda.OutOfMemoryError(message) if status == _OUT_OF_MEMORY else DriverError(message)
