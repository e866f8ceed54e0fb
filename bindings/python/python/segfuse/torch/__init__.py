"""segfuse for PyTorch: losses with autograd, for training loops as they are.

`Loss` takes a spec string; `DiceLoss`, `CELoss`, `FocalLoss` and so on are one class per loss of :func:`segfuse.list_losses`.
"""

from typing import Any

from ._modules import MODULES as _MODULES
from ._modules import Loss

__all__ = ["Loss", *_MODULES]


def __getattr__(name: str) -> Any:
    try:
        return _MODULES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


def __dir__() -> "list[str]":
    return sorted(__all__)
