"""Segmentation losses and their gradients, fused.

One pass over prediction and target computes every sum that a loss needs, and one more pass writes the gradient.

>>> import numpy as np, segfuse
>>> loss = segfuse.loss("dice + 0.5*ce", ignore_index=255)
>>> logits, labels = np.zeros((2, 3, 8, 8), np.float32), np.zeros((2, 8, 8), np.int64)
>>> value, gradient = loss.value_and_grad(logits, labels)

`segfuse.torch` has the same losses for PyTorch, with autograd.
"""

import os

from . import _segfuse
from ._distance import distance
from ._errors import DeviceError, Error, InvalidType, InvalidValue
from ._loss import (
    Evaluation,
    Explanation,
    Loss,
    LossInfo,
    Parameter,
    Stage,
    Term,
    devices,
    explain,
    list_losses,
    loss,
    value_and_grad,
)
from ._segfuse import VERSION as __version__

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_segfuse.after_fork)

__all__ = [
    "DeviceError",
    "Error",
    "Evaluation",
    "Explanation",
    "InvalidType",
    "InvalidValue",
    "Loss",
    "LossInfo",
    "Parameter",
    "Stage",
    "Term",
    "__version__",
    "devices",
    "distance",
    "explain",
    "list_losses",
    "loss",
    "value_and_grad",
]
