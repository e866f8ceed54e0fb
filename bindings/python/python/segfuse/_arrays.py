"""Arrays that segfuse makes for its callers."""

from __future__ import annotations

from typing import Any

from ._errors import InvalidType


def empty_like(array: Any) -> tuple[Any, Any]:
    """A new array of the shape, type and order of `array`, to be written to; and what makes of it an array of its library.

    numpy and torch arrays are made by numpy and torch. For other libraries a numpy array is written and handed to `asarray` of
    their namespace.
    """
    library = type(array).__module__.partition(".")[0]
    if library == "torch":
        import torch

        return torch.empty_like(array, requires_grad=False), _same
    try:
        import numpy
    except ImportError:
        raise InvalidType(f"numpy is needed to make a gradient for {type(array).__name__}; or give `out`") from None
    if library == "numpy":
        return numpy.empty_like(array, subok=False), _same
    view = array if hasattr(array, "dtype") and hasattr(array, "shape") else numpy.asarray(memoryview(array))
    made = numpy.empty(tuple(view.shape), numpy.dtype(view.dtype))
    namespace = getattr(array, "__array_namespace__", None)
    return made, _same if namespace is None else namespace().asarray


def _same(array: Any) -> Any:
    return array
