"""segfuse for PyTorch: losses with autograd, for training loops as they are.

`Loss` takes a spec string; `DiceLoss`, `CELoss`, `FocalLoss` and so on are one class per loss of :func:`segfuse.list_losses`.
"""

from typing import Any

from .. import _segfuse
from ._modules import MODULES as _MODULES
from ._modules import Loss

__all__ = ["Loss", "empty_cache", *_MODULES]


def empty_cache() -> None:
    """Gives back the memory that large gradients had and that is kept for the next: at most 1 GiB."""
    _segfuse.release_memory()


def __getattr__(name: str) -> Any:
    try:
        return _MODULES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


def __dir__() -> "list[str]":
    return sorted(__all__)
