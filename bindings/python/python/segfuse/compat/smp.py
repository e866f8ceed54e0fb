"""The losses of segmentation_models_pytorch 0.6: change ``from segmentation_models_pytorch.losses import DiceLoss`` to
``from segfuse.compat.smp import DiceLoss``.

`segfuse` computes the sums; see :mod:`segfuse.compat` for what that means.
"""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor, nn

from ._sums import (
    Sums,
    channels_apart,
    channels_together,
    dense,
    labels,
    looks,
    missing,
    per_channel,
    readable,
    result,
    sums,
)

BINARY_MODE = "binary"
MULTICLASS_MODE = "multiclass"
MULTILABEL_MODE = "multilabel"

_MODES = (BINARY_MODE, MULTICLASS_MODE, MULTILABEL_MODE)


def _weights(class_weights: Any, mode: str) -> Optional[Tensor]:
    if class_weights is None:
        return None
    if mode == BINARY_MODE:
        raise ValueError("class_weights are not supported with mode=binary")
    return torch.as_tensor(class_weights, dtype=torch.float)


def _labels(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """Labels `[N, …]`."""
    return labels(y_true).reshape(y_pred.shape[0], *y_pred.shape[2:])


class _Overlap(nn.Module):
    """What Dice, Jaccard and Tversky share."""

    def __init__(
        self,
        mode: str,
        classes: Any,
        log_loss: bool,
        from_logits: bool,
        smooth: float,
        ignore_index: Optional[int],
        eps: float,
        class_weights: Any,
        alpha: float,
        beta: float,
        gamma: float,
    ) -> None:
        assert mode in _MODES
        super().__init__()
        self.mode = mode
        self.register_buffer("class_weights", _weights(class_weights, mode), persistent=False)
        if classes is not None:
            assert mode != BINARY_MODE, "Masking classes is not supported with mode=binary"
            classes = torch.as_tensor(classes, dtype=torch.long)
        self.register_buffer("classes", classes, persistent=False)
        self.log_loss = log_loss
        self.from_logits = from_logits
        self.smooth = smooth
        self.ignore_index = ignore_index
        self.eps = eps
        self.alpha = alpha
        self.beta = beta
        self.gamma = gamma

    def _sums(self, y_pred: Tensor, y_true: Tensor) -> tuple[Sums, bool]:
        """The sums, over the batch, and whether the overlap is that of soft targets."""
        if self.mode == MULTICLASS_MODE:
            activation = "softmax" if self.from_logits else "none"
            y = _labels(y_true, y_pred)
            return sums("dice", activation, y_pred, y, ignore_index=self.ignore_index).over_batch(), False
        activation = "sigmoid" if self.from_logits else "none"
        if self.mode == BINARY_MODE:
            shape = (y_true.shape[0], 1, -1)
            y_pred, y_true = y_pred.reshape(shape), y_true.reshape(shape)
        else:
            y_true = y_true.reshape(y_pred.shape)
        y_true = readable(y_true)
        if self.ignore_index is None:
            return sums("soft_dice", activation, y_pred, dense(y_true)).over_batch(), True
        kept = y_true != self.ignore_index
        s = sums(
            "soft_dice",
            activation,
            channels_apart(y_pred),
            channels_apart(dense(y_true * kept)),
            mask=channels_apart(kept),
        )
        return s.map(lambda x: channels_together(x, y_pred)).over_batch(), True

    def forward(self, y_pred: Tensor, y_true: Tensor) -> Tensor:
        """`y_pred` `[N, C, …]`, `y_true` labels `[N, …]` for multiclass, else of the shape of `y_pred`."""
        assert y_true.size(0) == y_pred.size(0)
        s, soft = self._sums(y_pred, y_true)
        p, g = s.p[0], s.g[0]
        overlap = s.x[0][0] if soft else s.i[0]
        whole = overlap + self.alpha * (p - overlap) + self.beta * (g - overlap)
        scores = (overlap + self.smooth) / (whole + self.smooth).clamp_min(self.eps)
        loss = -torch.log(scores.clamp_min(self.eps)) if self.log_loss else 1.0 - scores
        loss = loss * (g > 0)
        weights = self.class_weights
        if self.classes is not None:
            loss = loss[self.classes]
            weights = None if weights is None else weights[self.classes]
        if weights is None:
            loss = loss.mean()
        else:
            weights = weights.to(loss)
            loss = (loss * weights).sum() / weights.sum()
        return result(loss**self.gamma if self.gamma != 1.0 else loss, y_pred)


class DiceLoss(_Overlap):
    """Dice over the batch; arguments as smp's DiceLoss.

    As in smp, a class without a target voxel has the value 0 and counts in the mean.
    """

    def __init__(
        self,
        mode: str,
        classes: Any = None,
        log_loss: bool = False,
        from_logits: bool = True,
        smooth: float = 0.0,
        ignore_index: Optional[int] = None,
        eps: float = 1e-7,
        class_weights: Any = None,
    ) -> None:
        super().__init__(
            mode, classes, log_loss, from_logits, smooth, ignore_index, eps, class_weights, 0.5, 0.5, 1.0
        )


class JaccardLoss(_Overlap):
    """Jaccard over the batch; arguments as smp's JaccardLoss.

    As in smp, a class without a target voxel has the value 0 and counts in the mean.
    """

    def __init__(
        self,
        mode: str,
        classes: Any = None,
        log_loss: bool = False,
        from_logits: bool = True,
        smooth: float = 0.0,
        ignore_index: Optional[int] = None,
        eps: float = 1e-7,
        class_weights: Any = None,
    ) -> None:
        super().__init__(
            mode, classes, log_loss, from_logits, smooth, ignore_index, eps, class_weights, 1.0, 1.0, 1.0
        )


class TverskyLoss(_Overlap):
    """Tversky over the batch; arguments as smp's TverskyLoss.

    As in smp, `gamma` is the exponent of the mean over the classes and not of each class.
    """

    def __init__(
        self,
        mode: str,
        classes: Any = None,
        log_loss: bool = False,
        from_logits: bool = True,
        smooth: float = 0.0,
        ignore_index: Optional[int] = None,
        eps: float = 1e-7,
        alpha: float = 0.5,
        beta: float = 0.5,
        gamma: float = 1.0,
        class_weights: Any = None,
    ) -> None:
        super().__init__(
            mode, classes, log_loss, from_logits, smooth, ignore_index, eps, class_weights, alpha, beta, gamma
        )


class FocalLoss(nn.Module):
    """Focal loss of sigmoid, each class against the rest; arguments as smp's FocalLoss, hard targets, reduction "mean" or "sum"."""

    def __init__(
        self,
        mode: str,
        alpha: Optional[float] = None,
        gamma: Optional[float] = 2.0,
        ignore_index: Optional[int] = None,
        from_logits: bool = True,
        eps: float = 1e-7,
        reduction: Optional[str] = "mean",
        normalized: bool = False,
        reduced_threshold: Optional[float] = None,
        class_weights: Any = None,
    ) -> None:
        assert mode in _MODES
        super().__init__()
        self.register_buffer("class_weights", _weights(class_weights, mode), persistent=False)
        if normalized or reduced_threshold is not None:
            raise NotImplementedError("segfuse has no normalized and no reduced focal loss (reduced_threshold)")
        if reduction not in ("mean", "sum"):
            raise NotImplementedError(f"reduction {reduction!r} gives values per voxel, which segfuse does not")
        self.mode = mode
        self.alpha = alpha
        self.gamma = gamma
        self.ignore_index = ignore_index
        self.from_logits = from_logits
        self.eps = eps
        self.reduction = reduction

    def forward(self, y_pred: Tensor, y_true: Tensor) -> Tensor:
        """`y_pred` `[N, C, …]`, `y_true` labels `[N, …]` for multiclass, else of the shape of `y_pred`."""
        if not self.from_logits:
            y_pred = torch.clamp(y_pred, self.eps, 1 - self.eps)
            odds = y_pred if self.mode == MULTICLASS_MODE else y_pred / (1 - y_pred)
            y_pred = torch.log(odds)
        mask = ignore = None
        shape = y_pred
        if self.mode == MULTICLASS_MODE:
            target, ignore = _labels(y_true, y_pred), self.ignore_index
        else:
            y_true = readable(y_true)
            if self.mode == BINARY_MODE:
                shape = y_pred = y_pred.reshape(1, 1, -1)
                y_true = y_true.reshape(1, 1, -1)
            if self.ignore_index is not None:
                kept = y_true != self.ignore_index
                y_pred, y_true, mask = channels_apart(y_pred), channels_apart(y_true * kept), channels_apart(kept)
            if looks(((y_true != 0) & (y_true != 1)).any()):
                raise NotImplementedError("smp's focal loss of soft targets is one of its own; segfuse has none")
            target = dense(y_true)
        alpha = "none" if self.alpha is None else float(self.alpha)
        spec = f"focal(gamma={float(self.gamma or 0.0)}, alpha={alpha}, form=binary)"
        s = sums(spec, "sigmoid", y_pred, target, ignore_index=ignore, mask=mask)
        loss, voxels = (channels_together(x, shape).sum(0) for x in (s.x[0], s.n))
        if self.reduction == "mean":
            loss = loss / voxels
        if self.class_weights is not None:
            weights = self.class_weights.to(loss)
            return result((loss * weights).sum() / weights.sum(), y_pred)
        return result(loss.mean(), y_pred)


class MCCLoss(nn.Module):
    """Matthews correlation of probabilities, over the batch; arguments as smp's MCCLoss.

    As in smp, the prediction is probabilities, unlike in its other losses, and `eps` is added to each count.
    """

    def __init__(self, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, y_pred: Tensor, y_true: Tensor) -> Tensor:
        """Probabilities and labels, `[N, …]` or `[N, 1, …]`."""
        shape = (y_true.shape[0], 1, -1)
        s = sums("mcc", "none", y_pred.reshape(shape), dense(y_true.reshape(shape))).over_batch()
        counts = (s.i, s.x[0] - s.x[1], s.p - s.i, s.x[1])
        tp, tn, fp, fn = (count.sum() + self.eps for count in counts)
        mcc = (tp * tn - fp * fn) / torch.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
        return result(1.0 - mcc, y_pred)


class SoftBCEWithLogitsLoss(nn.Module):
    """Binary cross-entropy with label smoothing; arguments as smp's SoftBCEWithLogitsLoss, `weight` and `pos_weight` a number or
    one per channel, reduction "mean" or "sum".

    As in smp, voxels that are ignored stay in the mean.
    """

    def __init__(
        self,
        weight: Optional[Tensor] = None,
        ignore_index: Optional[int] = -100,
        reduction: str = "mean",
        smooth_factor: Optional[float] = None,
        pos_weight: Optional[Tensor] = None,
    ) -> None:
        super().__init__()
        if reduction not in ("mean", "sum"):
            raise NotImplementedError(f"reduction {reduction!r} gives a value per voxel, which segfuse does not")
        self.ignore_index = ignore_index
        self.reduction = reduction
        self.smooth_factor = smooth_factor
        self.register_buffer("weight", weight)
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, y_pred: Tensor, y_true: Tensor) -> Tensor:
        """`y_pred` `[N, C, …]` logits, `y_true` of its shape."""
        if y_true.shape != y_pred.shape:
            raise ValueError(f"Target size ({y_true.shape}) must be the same as input size ({y_pred.shape})")
        rank = y_pred.dim()
        shape = y_pred if rank > 2 else y_pred.reshape(*y_pred.shape, *[1] * (3 - rank))
        y_pred, y_true = y_pred.reshape(shape.shape), dense(y_true).reshape(shape.shape)
        kept = None
        soft = y_true
        if self.ignore_index is not None:
            kept = y_true != self.ignore_index
            soft = soft.masked_fill(~kept, 0.0)
        if self.smooth_factor is not None:
            soft = (1 - soft) * self.smooth_factor + soft * (1 - self.smooth_factor)
        s = sums(
            "balanced_ce",
            "sigmoid",
            channels_apart(y_pred),
            channels_apart(soft),
            mask=None if kept is None else channels_apart(kept),
        )
        positive, negative = (channels_together(x, shape) for x in s.x)
        loss = positive * per_channel(self.pos_weight, rank, positive) + negative
        loss = (loss * per_channel(self.weight, rank, loss)).sum()
        return result(loss / shape.numel() if self.reduction == "mean" else loss, y_pred)


class SoftCrossEntropyLoss(nn.Module):
    """Cross-entropy with label smoothing; arguments as smp's SoftCrossEntropyLoss, reduction "mean" or "sum".

    As in smp, voxels that are ignored stay in the mean, and a call with `smooth_factor=None`, the default, is a TypeError.
    """

    def __init__(
        self,
        reduction: str = "mean",
        smooth_factor: Optional[float] = None,
        ignore_index: Optional[int] = -100,
        dim: int = 1,
    ) -> None:
        super().__init__()
        if reduction not in ("mean", "sum"):
            raise NotImplementedError(f"reduction {reduction!r} gives a value per voxel, which segfuse does not")
        if dim != 1:
            raise NotImplementedError(f"the classes of segfuse lie on axis 1, not {dim}")
        self.smooth_factor = smooth_factor
        self.ignore_index = ignore_index
        self.reduction = reduction
        self.dim = dim

    def forward(self, y_pred: Tensor, y_true: Tensor) -> Tensor:
        """`y_pred` `[N, C, …]` logits, `y_true` labels `[N, …]` or `[N, 1, …]`."""
        if self.smooth_factor is None:
            raise TypeError("unsupported operand type(s) for -: 'float' and 'NoneType'")
        y = _labels(y_true, y_pred)
        spec = f"ce(smoothing={self.smooth_factor})"
        loss = sums(spec, "softmax", y_pred, y, ignore_index=self.ignore_index).x[0].sum()
        return result(loss / y.numel() if self.reduction == "mean" else loss, y_pred)


#: Losses of smp that segfuse lacks.
MISSING = ("LovaszLoss",)
LovaszLoss = missing("segmentation_models_pytorch", "LovaszLoss")
