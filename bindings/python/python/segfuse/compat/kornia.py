"""The segmentation losses of kornia 0.9: change ``from kornia.losses import DiceLoss`` to ``from segfuse.compat.kornia import …``.

`segfuse` computes the sums; see :mod:`segfuse.compat` for what that means.
"""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor, nn

from ._sums import Sums, channels_apart, channels_together, dense, labels, looks, missing, readable, result, sums


def _check(pred: Any, target: Tensor, rank: Optional[int]) -> None:
    if not isinstance(pred, Tensor):
        raise TypeError(f"pred type is not a torch.Tensor. Got {type(pred)}")
    if rank is not None and pred.dim() != rank:
        raise ValueError(f"Invalid pred shape, we expect BxNxHxW. Got: {pred.shape}")
    if pred.device != target.device:
        raise ValueError(f"pred and target must be in the same device. Got: {pred.device} and {target.device}")
    expected = torch.Size((pred.shape[0], *pred.shape[2:]))
    if target.shape != expected:
        raise ValueError(f"Expected target size {expected}, got {target.shape}")
    if target.is_floating_point():
        raise ValueError(f"labels must be of an integer dtype. Got: {target.dtype}")


def _check_weight(name: str, weight: Any, pred: Tensor) -> None:
    if not isinstance(weight, Tensor):
        raise TypeError(f"{name} must be torch.Tensor or None.")
    if weight.shape[0] != pred.shape[1] or weight.numel() != pred.shape[1]:
        raise ValueError(
            f"{name} must hold one value per class of pred: got {name} of shape {weight.shape} for pred of shape {pred.shape}"
        )
    if weight.device != pred.device:
        raise ValueError(f"{name} and pred must be in the same device. Got: {weight.device} and {pred.device}")


def _of_labels(spec: str, pred: Tensor, target: Tensor, ignore_index: Optional[int]) -> Sums:
    if pred.shape[1] == 1:
        raise NotImplementedError("the softmax of one class is 1 everywhere: kornia's loss is a constant; pass two channels")
    return sums(spec, "softmax", pred, labels(target), ignore_index=ignore_index)


def dice_loss(
    pred: Tensor,
    target: Tensor,
    average: str = "micro",
    eps: float = 1e-8,
    weight: Optional[Tensor] = None,
    ignore_index: Optional[int] = -100,
) -> Tensor:
    """Dice, one per sample ("micro") or per sample and class that is there ("macro"); as :py:func:`kornia.losses.dice_loss`."""
    _check(pred, target, 4)
    if average not in ("micro", "macro"):
        raise ValueError(f"The `average` has to be one of 'micro' and 'macro'. Got: {average}")
    if weight is not None:
        _check_weight("weight", weight, pred)
    s = _of_labels("dice", pred, target, ignore_index)
    w = torch.ones_like(s.n[0]) if weight is None else weight.to(s.n)
    if average == "micro":
        overlap, sizes = (w * s.i).sum(1), (w * (s.p + s.g)).sum(1)
    else:
        overlap, sizes = s.i, s.p + s.g
    empty = sizes == 0
    score = (2.0 * overlap / (sizes + eps).masked_fill(empty, 1.0)).masked_fill(empty, 0.0)
    loss = 1.0 - score
    if average == "macro":
        w = w * (s.g > 0)
        total = w.sum(-1)
        none = total == 0
        loss = ((loss * w).sum(-1) / total.masked_fill(none, 1.0)).masked_fill(none, 1.0)
    return result(loss.mean(), pred)


def tversky_loss(
    pred: Tensor,
    target: Tensor,
    alpha: float,
    beta: float,
    eps: float = 1e-8,
    ignore_index: Optional[int] = -100,
) -> Tensor:
    """Tversky of the classes that are there; as :py:func:`kornia.losses.tversky_loss`."""
    _check(pred, target, 4)
    s = _of_labels("dice", pred, target, ignore_index)
    present = s.g > 0
    whole = s.i + alpha * (s.p - s.i) + beta * (s.g - s.i) + eps
    score = (s.i / whole.masked_fill(~present, 1.0)).masked_fill(~present, 0.0)
    score = score.sum(-1) / present.sum(-1).clamp_min(1)
    return result(1.0 - score.mean(), pred)


def _reduction(reduction: str) -> None:
    if reduction == "none":
        raise NotImplementedError("reduction 'none', kornia's default, gives a value per voxel, which segfuse does not")
    if reduction not in ("mean", "sum"):
        raise NotImplementedError(f"Invalid reduction mode: {reduction}")


def focal_loss(
    pred: Tensor,
    target: Tensor,
    alpha: Optional[float],
    gamma: float = 2.0,
    reduction: str = "none",
    weight: Optional[Tensor] = None,
    ignore_index: Optional[int] = -100,
) -> Tensor:
    """Focal loss of softmax; as :py:func:`kornia.losses.focal_loss`, reduction "mean" or "sum".

    As in kornia, "mean" divides by the number of classes too, and voxels that are ignored stay in it.
    """
    _reduction(reduction)
    _check(pred, target, None)
    if weight is not None:
        _check_weight("weight", weight, pred)
    loss = _of_labels(f"focal(gamma={gamma}, form=categorical)", pred, target, ignore_index).x[0]
    if alpha is not None:
        factors = torch.full_like(loss[0], alpha)
        factors[0] = 1 - alpha
        loss = factors * loss
    if weight is not None:
        loss = weight.to(loss) * loss
    total = loss.sum()
    return result(total / pred.numel() if reduction == "mean" else total, pred)


def binary_focal_loss_with_logits(
    pred: Tensor,
    target: Tensor,
    alpha: Optional[float] = 0.25,
    gamma: float = 2.0,
    reduction: str = "none",
    pos_weight: Optional[Tensor] = None,
    weight: Optional[Tensor] = None,
    ignore_index: Optional[int] = -100,
) -> Tensor:
    """Focal loss of sigmoid; as :py:func:`kornia.losses.binary_focal_loss_with_logits`, reduction "mean" or "sum".

    As in kornia, voxels that are ignored stay in the mean.
    """
    _reduction(reduction)
    if pred.shape != target.shape:
        raise ValueError(f"Expected target size {pred.shape}, got {target.shape}")
    if pred.device != target.device:
        raise ValueError(f"pred and target must be in the same device. Got: {pred.device} and {target.device}")
    for name, given in (("pos_weight", pos_weight), ("weight", weight)):
        if given is not None:
            _check_weight(name, given, pred)
    target = readable(target)
    y = dense(target)
    kept = None
    if ignore_index is not None:
        kept = target != ignore_index
        y = y.masked_fill(~kept, 0.0)
    shape = pred if pred.dim() > 2 else pred.unsqueeze(-1)
    spec = f"focal(gamma={gamma}, alpha=1, form=binary) + focal(gamma={gamma}, alpha=0, form=binary)"
    s = sums(
        spec,
        "sigmoid",
        channels_apart(shape),
        channels_apart(y.reshape(shape.shape)),
        mask=None if kept is None else channels_apart(kept.reshape(shape.shape)),
    )
    positive, negative = (channels_together(x, pred) for x in s.x)
    if alpha is not None:
        positive, negative = alpha * positive, (1.0 - alpha) * negative
    if pos_weight is not None:
        positive = pos_weight.to(positive) * positive
    loss = positive + negative
    if weight is not None:
        loss = weight.to(loss) * loss
    total = loss.sum()
    return result(total / pred.numel() if reduction == "mean" else total, pred)


class _Module(nn.Module):
    def _keep(self, **weights: Any) -> None:
        """Weights as kornia keeps them: a parameter stays one, any other is a buffer."""
        for name, weight in weights.items():
            if isinstance(weight, nn.Parameter):
                raise NotImplementedError(f"{name} is a parameter, and segfuse has no slope by the weights")
            self.register_buffer(name, weight, persistent=False)


class DiceLoss(_Module):
    """:func:`dice_loss` as a module."""

    def __init__(
        self,
        average: str = "micro",
        eps: float = 1e-8,
        weight: Optional[Tensor] = None,
        ignore_index: Optional[int] = -100,
    ) -> None:
        super().__init__()
        self.average = average
        self.eps = eps
        self.ignore_index = ignore_index
        self._keep(weight=weight)

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """`pred` `[N, C, H, W]` logits, `target` labels `[N, H, W]` of int64."""
        return dice_loss(pred, target, self.average, self.eps, self.weight, self.ignore_index)


class TverskyLoss(_Module):
    """:func:`tversky_loss` as a module."""

    def __init__(self, alpha: float, beta: float, eps: float = 1e-8, ignore_index: Optional[int] = -100) -> None:
        super().__init__()
        self.alpha = alpha
        self.beta = beta
        self.eps = eps
        self.ignore_index = ignore_index

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """`pred` `[N, C, H, W]` logits, `target` labels `[N, H, W]` of int64."""
        return tversky_loss(pred, target, self.alpha, self.beta, self.eps, self.ignore_index)


class FocalLoss(_Module):
    """:func:`focal_loss` as a module."""

    def __init__(
        self,
        alpha: Optional[float],
        gamma: float = 2.0,
        reduction: str = "none",
        weight: Optional[Tensor] = None,
        ignore_index: Optional[int] = -100,
    ) -> None:
        super().__init__()
        _reduction(reduction)
        self.alpha = alpha
        self.gamma = gamma
        self.reduction = reduction
        self.ignore_index = ignore_index
        self._keep(weight=weight)

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """`pred` `[N, C, …]` logits, `target` labels `[N, …]` of int64."""
        return focal_loss(
            pred, target, self.alpha, self.gamma, self.reduction, self.weight, self.ignore_index
        )


class BinaryFocalLossWithLogits(_Module):
    """:func:`binary_focal_loss_with_logits` as a module."""

    def __init__(
        self,
        alpha: Optional[float],
        gamma: float = 2.0,
        reduction: str = "none",
        pos_weight: Optional[Tensor] = None,
        weight: Optional[Tensor] = None,
        ignore_index: Optional[int] = -100,
    ) -> None:
        super().__init__()
        _reduction(reduction)
        self.alpha = alpha
        self.gamma = gamma
        self.reduction = reduction
        self.ignore_index = ignore_index
        self._keep(pos_weight=pos_weight, weight=weight)

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """`pred` `[N, C, …]` logits, `target` of its shape."""
        return binary_focal_loss_with_logits(
            pred, target, self.alpha, self.gamma, self.reduction, self.pos_weight, self.weight, self.ignore_index
        )


class _HausdorffERLoss(_Module):
    _rank: int

    def __init__(self, alpha: float = 2.0, k: int = 10, reduction: str = "mean") -> None:
        super().__init__()
        if reduction == "none":
            raise NotImplementedError("reduction 'none' gives a value per voxel, which segfuse does not")
        _reduction(reduction)
        if not 1 <= k <= 100:
            raise NotImplementedError(f"segfuse erodes from 1 to 100 times, got k={k}")
        if not 0 <= alpha <= 16:
            raise NotImplementedError(f"segfuse takes alpha from 0 to 16, got {alpha}")
        self.alpha = alpha
        self.k = k
        self.reduction = reduction

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """`pred` `[N, C, …]` probabilities, `target` labels `[N, 1, …]` of int64."""
        if pred.dim() != self._rank:
            raise ValueError(f"Only {self._rank - 2}D images supported. Got {pred.dim()}.")
        if pred.shape[2:] != target.shape[2:] or pred.shape[0] != target.shape[0] or target.shape[1] != 1:
            raise ValueError(
                "Prediction and target need to be of same size, and target should not be one-hot."
                f"Got {pred.shape} and {target.shape}."
            )
        if target.dtype != torch.int64:
            raise ValueError(f"Expect long type target value in range [0, {pred.shape[1]}). Got {target.dtype}.")
        if looks((target < 0).any() | (target >= pred.shape[1]).any()):
            raise ValueError(f"Expect long type target value in range [0, {pred.shape[1]}).")
        # The only class of kornia is label 0, and that of segfuse label 1.
        labels = 1 - target if pred.shape[1] == 1 else target
        spec = f"hausdorff_erosion(alpha={self.alpha}, iterations={self.k})"
        total = sums(spec, "none", pred, labels).x[0].sum()
        return result(total / pred.numel() if self.reduction == "mean" else total, pred)


class HausdorffERLoss(_HausdorffERLoss):
    """Hausdorff loss by erosion of images; as :py:class:`kornia.losses.HausdorffERLoss`, reduction "mean" or "sum"."""

    _rank = 4


class HausdorffERLoss3D(_HausdorffERLoss):
    """Hausdorff loss by erosion of volumes; as :py:class:`kornia.losses.HausdorffERLoss3D`, reduction "mean" or "sum"."""

    _rank = 5


#: Segmentation losses of kornia that segfuse lacks.
MISSING = (
    "LovaszHingeLoss",
    "LovaszSoftmaxLoss",
    "MS_SSIMLoss",
    "SSIM3DLoss",
    "SSIMLoss",
    "lovasz_hinge_loss",
    "lovasz_softmax_loss",
    "ssim3d_loss",
    "ssim_loss",
)
for _name in MISSING:
    globals()[_name] = missing("kornia", _name)
