"""Arrays that segfuse makes for its callers."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from importlib import import_module
from operator import index
from typing import Any, ContextManager

from . import _segfuse
from ._errors import InvalidType, InvalidValue


def empty_like(array: Any) -> tuple[Any, Any]:
    """A new array of the shape, type and order of `array`, to be written to; and what makes of it an array of its library.

    Arrays of numpy, torch and CuPy are made by them. For other libraries a numpy array is written and handed to `asarray` of their
    namespace; on a GPU they make none that may be written to.
    """
    library = _library(array)
    if library == "torch":
        return _module("torch").empty_like(array, requires_grad=False), _same
    if library == "cupy":
        return _module("cupy").empty_like(array), _same
    _refuse_gpu(array, library)
    numpy = _module("numpy")
    if library == "numpy":
        return numpy.empty_like(array, subok=False), _same
    return empty(array, *_shape_and_type(array))


def empty(array: Any, shape: "tuple[int, ...]", dtype: Any) -> tuple[Any, Any]:
    """As :func:`empty_like`, contiguous and of this shape and type."""
    library = _library(array)
    if library == "torch":
        torch = _module("torch")
        return torch.empty(shape, dtype=getattr(torch, str(dtype)), device=array.device), _same
    if library == "cupy":
        return _module("cupy").empty(shape, str(dtype)), _same
    _refuse_gpu(array, library)
    numpy = _module("numpy")
    namespace = getattr(array, "__array_namespace__", None)
    return numpy.empty(shape, numpy.dtype(dtype)), _same if namespace is None else namespace().asarray


def on_device_of(array: Any) -> ContextManager[Any]:
    """Makes the device of an array the current one: torch exports memory of that alone, CuPy allocates and has its stream there."""
    library = _library(array)
    if library == "torch" and array.is_cuda:
        return _module("torch").cuda.device(array.device)
    return array.device if library == "cupy" else nullcontext()


def stream_of(array: Any, given: Any = None) -> int:
    """The handle of the stream that was given, else of the one that the library of an array works on; 0, the default stream, where
    there is none. The device of the array is the current one."""
    if given is not None:
        try:
            handle = index(given)
        except TypeError:
            kind = type(given).__name__
            raise InvalidType(f"stream must be the handle of a stream, an int, not {kind}") from None
        if not 0 <= handle <= 2 * sys.maxsize + 1:
            raise InvalidValue(f"stream must be the handle of a stream, or 0 for the default stream, got {handle}")
        return handle
    library = _library(array)
    if library == "torch" and array.is_cuda:
        return _module("torch").cuda.current_stream(array.device).cuda_stream
    return _module("cupy").cuda.get_current_stream().ptr if library == "cupy" else 0


def _refuse_gpu(array: Any, library: str) -> None:
    # Memory of CUDA, and memory that CUDA manages.
    device = getattr(array, "__dlpack_device__", None)
    if device is not None and device()[0] in (2, 13):
        raise InvalidType(f"arrays in the memory of a GPU are made for torch and CuPy alone, not {library}; give `out`")


def shape_and_type(source: Any) -> "tuple[tuple[int, ...], str]":
    """Shape, and name of the element type, of the source of distance maps."""
    shape, dtype = _shape_and_type(source, source=True)
    return shape, str(dtype).replace("torch.", "")


def _shape_and_type(array: Any, source: bool = False) -> "tuple[tuple[int, ...], Any]":
    if hasattr(array, "dtype") and hasattr(array, "shape"):
        return tuple(int(extent) for extent in array.shape), array.dtype
    shape, name = _segfuse.shape_and_type(array, source=source)
    return tuple(shape), name


def _library(array: Any) -> str:
    # A subclass, such as the tensors of MONAI, belongs to the library of its base.
    names = [base.__module__.partition(".")[0] for base in type(array).__mro__]
    return next((name for name in names if name in ("torch", "cupy", "numpy")), names[0])


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise InvalidType(f"{name} is needed to make an array; or give `out`") from None


def _same(array: Any) -> Any:
    return array
