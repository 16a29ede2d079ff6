"""The functions of the CUDA driver that load and launch kernels, called through ctypes."""

from __future__ import annotations

import ctypes
import functools
import sys

import torch

_OUT_OF_MEMORY = 2


class DriverError(RuntimeError):
    """The CUDA driver refused; the message says what, in one sentence."""


class Module:
    """Machine code of kernels, loaded into the context of the current device."""

    def __init__(self, code: bytes) -> None:
        self._module = ctypes.c_void_p()
        self._functions: dict[str, ctypes.c_void_p] = {}
        _make_context_current()
        _check(library().cuModuleLoadData(ctypes.byref(self._module), code))

    def launch(
        self, name: str, grid: tuple[int, int, int], threads: int, stream: int, argument: ctypes.Structure
    ) -> None:
        """Queue a kernel, which takes one structure, on a stream of the module's device.

        grid: the number of blocks in x, y and z. threads: of a block.
        """
        _make_context_current()
        if name not in self._functions:
            function = ctypes.c_void_p()
            _check(library().cuModuleGetFunction(ctypes.byref(function), self._module, name.encode()))
            self._functions[name] = function
        arguments = (ctypes.c_void_p * 1)(ctypes.addressof(argument))
        _check(library().cuLaunchKernel(self._functions[name], *grid, threads, 1, 1, 0, stream, arguments, None))


@functools.cache
def library() -> ctypes.CDLL:
    """The driver's library. Raises DriverError if there is none."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        return declared(ctypes.CDLL(name))
    except OSError as error:
        raise DriverError(f"the NVIDIA driver does not load: {error}") from error


def declared(driver: ctypes.CDLL) -> ctypes.CDLL:
    """The library with the types of arguments for which ctypes would pass too few bytes."""
    integer, pointer = ctypes.c_uint, ctypes.c_void_p
    driver.cuLaunchKernel.argtypes = [pointer, *[integer] * 7, pointer, pointer, pointer]
    return driver


def _make_context_current() -> None:
    """Give this thread the context of PyTorch's current device, if it has none.

    A thread that has not used PyTorch yet, such as autograd's in its first backward pass, has no context.
    """
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
