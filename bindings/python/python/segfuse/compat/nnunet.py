"""The losses of nnU-Net v2: change ``from nnunetv2.training.loss.compound_losses import DC_and_CE_loss`` (and its neighbours) to
``from segfuse.compat.nnunet import …``.

`segfuse` computes the sums; see :mod:`segfuse.compat` for what that means.
"""

from __future__ import annotations

from typing import Any, Callable, Optional

import torch
from torch import Tensor, nn

from ._sums import Sums, dense, labels, per_channel, result, sums


def softmax_helper_dim1(x: Tensor) -> Tensor:
    """Softmax over the classes."""
    return torch.softmax(x, 1)


def _activation(nonlinearity: Optional[Callable], x: Tensor) -> tuple[str, Tensor]:
    """The activation that segfuse has inside, or none and the activated prediction."""
    if nonlinearity is None:
        return "none", x
    name = getattr(nonlinearity, "__name__", "")
    if name == "softmax_helper_dim1" and x.shape[1] > 1:
        return "softmax", x
    if nonlinearity in (torch.sigmoid, torch.nn.functional.sigmoid):
        return "sigmoid", x
    return "none", nonlinearity(x)


def _target(x: Tensor, y: Tensor) -> Tensor:
    """Labels, or one value per class."""
    if x.shape == y.shape:
        return dense(y)
    if y.dim() == x.dim() and y.shape[1] == 1:
        y = y.squeeze(1)
    return labels(y)


def _kept(mask: Optional[Tensor]) -> dict[str, Optional[Tensor]]:
    """Which voxels count, or by how much."""
    if mask is None or not mask.is_floating_point():
        return {"mask": None if mask is None else mask != 0}
    return {"weights": mask}


def get_tp_fp_fn_tn(
    net_output: Tensor, gt: Tensor, axes: Any = None, mask: Optional[Tensor] = None, square: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """True and false positives, false and true negatives, `[N, C]`, or `[C]` where `axes` has the samples'; as nnU-Net's.

    `net_output` `[N, C, …]` of probabilities, `gt` labels `[N, …]`, `[N, 1, …]` or of its shape, `mask` `[N, 1, …]`. `axes` are all
    spatial axes, with or without that of the samples.
    """
    spatial = set(range(2, net_output.dim()))
    summed = spatial if axes is None else {int(axis) for axis in axes}
    if square or summed - {0} != spatial:
        raise NotImplementedError("segfuse sums over all spatial axes, and squares no voxel's counts")
    s = sums("mcc", "none", net_output, _target(net_output, gt), **_kept(mask))
    if 0 in summed:
        s = s.map(lambda x: x.sum(0))
    # The pixel terms are Σ(1−p) and Σ(1−p)g.
    negatives, missed = s.x
    counts = (s.i, s.p - s.i, missed, negatives - missed)
    return tuple(count.to(torch.float32) for count in counts)  # type: ignore[return-value]


def _gathered(s: Sums, ddp: bool) -> Sums:
    """The sums of all ranks, where nnU-Net gathers them."""
    if ddp and torch.distributed.is_available() and torch.distributed.is_initialized():
        from torch.distributed.nn.functional import all_reduce

        return s.map(all_reduce)
    return s


class _Dice(nn.Module):
    def __init__(
        self,
        apply_nonlin: Optional[Callable],
        batch_dice: bool,
        do_bg: bool,
        smooth: float,
        ddp: bool,
        clip_tp: Optional[float],
    ) -> None:
        super().__init__()
        self.apply_nonlin = apply_nonlin
        self.batch_dice = batch_dice
        self.do_bg = do_bg
        self.smooth = smooth
        self.ddp = ddp
        self.clip_tp = clip_tp

    def forward(self, x: Tensor, y: Tensor, loss_mask: Optional[Tensor] = None) -> Tensor:
        """`x` `[N, C, …]`, `y` labels `[N, …]`, `[N, 1, …]` or of the shape of `x`, `loss_mask` `[N, 1, …]`."""
        activation, x = _activation(self.apply_nonlin, x)
        return self.of(sums("dice", activation, x, _target(x, y), **_kept(loss_mask)), x)

    def of(self, s: Sums, x: Tensor) -> Tensor:
        """The loss of these sums."""
        if self.batch_dice:
            s = _gathered(s.over_batch(), self.ddp)
        if not self.do_bg:
            s = s.of_classes(slice(1, None))
        top, sizes = 2 * s.i, s.p + s.g
        if self.clip_tp is not None:
            clipped = s.i.clip(min=self.clip_tp)
            top, sizes = 2 * clipped, sizes + 2 * (clipped - s.i)
        dice = (top + self.smooth) / (sizes + self.smooth).clip(1e-8)
        return result(-dice.mean(), x)


class SoftDiceLoss(_Dice):
    """Minus Dice; arguments as nnU-Net's SoftDiceLoss."""

    def __init__(
        self,
        apply_nonlin: Optional[Callable] = None,
        batch_dice: bool = False,
        do_bg: bool = True,
        smooth: float = 1.0,
        ddp: bool = True,
        clip_tp: Optional[float] = None,
    ) -> None:
        super().__init__(apply_nonlin, batch_dice, do_bg, smooth, ddp, clip_tp)


class MemoryEfficientSoftDiceLoss(_Dice):
    """Minus Dice; arguments as nnU-Net's MemoryEfficientSoftDiceLoss, of which it is the same."""

    def __init__(
        self,
        apply_nonlin: Optional[Callable] = None,
        batch_dice: bool = False,
        do_bg: bool = True,
        smooth: float = 1.0,
        ddp: bool = True,
    ) -> None:
        super().__init__(apply_nonlin, batch_dice, do_bg, smooth, ddp, None)


class RobustCrossEntropyLoss(nn.Module):
    """Cross-entropy of labels of any type, with or without an axis for the channel; arguments as torch's CrossEntropyLoss.

    `reduction` "mean" or "sum". As in PyTorch the mean of no voxel is NaN.
    """

    def __init__(
        self,
        weight: Optional[Tensor] = None,
        size_average: Any = None,
        ignore_index: int = -100,
        reduce: Any = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if size_average is not None or reduce is not None:
            raise NotImplementedError("size_average and reduce are deprecated in torch; segfuse has reduction alone")
        if reduction == "none":
            raise NotImplementedError("a cross-entropy with reduction 'none' gives a value per voxel, which segfuse does not")
        if reduction not in ("mean", "sum"):
            raise ValueError(f"{reduction} is not a valid value for reduction")
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        self.reduction = reduction
        self.label_smoothing = label_smoothing

    @property
    def spec(self) -> str:
        """The term whose sums it reads."""
        return f"ce(smoothing={self.label_smoothing})"

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """`input` `[N, C, …]` logits, `target` labels `[N, …]` or `[N, 1, …]`."""
        if target.dim() == input.dim():
            assert target.shape[1] == 1
            target = target[:, 0]
        return self.of(sums(self.spec, "softmax", input, labels(target), ignore_index=self.ignore_index), input)

    def of(self, s: Sums, x: Tensor) -> Tensor:
        """The loss of these sums."""
        w = 1.0 if self.weight is None else self.weight.to(s.x[-1])
        total = (w * s.x[-1]).sum()
        return result(total / (w * s.g).sum() if self.reduction == "mean" else total, x)


class DC_and_CE_loss(nn.Module):
    """Dice and cross-entropy; arguments as nnU-Net's DC_and_CE_loss.

    One pass has the sums of both, where the Dice half is a class of this module; any other `dice_class` is called. As in nnU-Net, a
    one-hot target is one of the Dice half alone: the cross-entropy takes its first channel for labels.
    """

    def __init__(
        self,
        soft_dice_kwargs: dict[str, Any],
        ce_kwargs: dict[str, Any],
        weight_ce: float = 1,
        weight_dice: float = 1,
        ignore_label: Optional[int] = None,
        dice_class: Any = SoftDiceLoss,
    ) -> None:
        super().__init__()
        if ignore_label is not None:
            ce_kwargs["ignore_index"] = ignore_label
        elif ce_kwargs.get("ignore_index", -100) >= 0:
            raise NotImplementedError("an ignore_index of the cross-entropy alone; ignore_label leaves voxels out of both halves")
        self.weight_dice = weight_dice
        self.weight_ce = weight_ce
        self.ignore_label = ignore_label
        self.ce = RobustCrossEntropyLoss(**ce_kwargs)
        self.dc = dice_class(apply_nonlin=softmax_helper_dim1, **soft_dice_kwargs)

    def forward(self, net_output: Tensor, target: Tensor) -> Tensor:
        """`net_output` `[N, C, …]` logits, `target` labels `[N, 1, …]`."""
        if self.ignore_label is not None:
            assert target.shape[1] == 1, (
                "ignore label is not implemented for one hot encoded target variables (DC_and_CE_loss)"
            )
        if not hasattr(self.dc, "of") or (target.dim() == net_output.dim() and target.shape[1] != 1):
            return self._apart(net_output, target)
        # Voxels with the label that the cross-entropy ignores by default would be a class of their own in the Dice half.
        ignore = self.ce.ignore_index if self.ignore_label is not None else None
        y = labels(target).squeeze(1)
        s = sums(f"dice + {self.ce.spec}", "softmax", net_output, y, ignore_index=ignore)
        dice = self.dc.of(s, net_output) if self.weight_dice != 0 else 0
        ce = self._entropy(s, net_output) if self.weight_ce != 0 else 0
        return self.weight_ce * ce + self.weight_dice * dice

    def _apart(self, net_output: Tensor, target: Tensor) -> Tensor:
        """The loss with halves that share no sums."""
        mask, y = None, target
        if self.ignore_label is not None:
            mask = target != self.ignore_label
            y = target.masked_fill(~mask, 0)
        dice = self.dc(net_output, y, loss_mask=mask) if self.weight_dice != 0 else 0
        ce = 0
        if self.weight_ce != 0:
            s = sums(self.ce.spec, "softmax", net_output, labels(target[:, 0]), ignore_index=self.ce.ignore_index)
            ce = self._entropy(s, net_output)
        return self.weight_ce * ce + self.weight_dice * dice

    def _entropy(self, s: Sums, x: Tensor) -> Tensor:
        ce = self.ce.of(s, x)
        if self.ignore_label is None:
            return ce
        # No voxel counts: no cross-entropy, in value and in slope.
        counted = s.g.sum() > 0
        return torch.where(counted, self.ce.of(_where(counted, s), x), torch.zeros_like(ce))


def _where(counted: Tensor, s: Sums) -> Sums:
    """The sums, and ones where nothing was counted, so that no slope is NaN."""
    return s.map(lambda x: torch.where(counted, x, torch.ones_like(x)))


class DC_and_BCE_loss(nn.Module):
    """Dice and binary cross-entropy of regions; arguments as nnU-Net's DC_and_BCE_loss.

    With `use_ignore_label`, the last channel of the target says which voxels do not count. As in nnU-Net, the mean of the
    cross-entropy then divides by the voxels and not by the channels too. `pos_weight` is a number or, so shaped that torch broadcasts
    it so, one per channel. A `dice_class` that is not of this module is called.
    """

    def __init__(
        self,
        bce_kwargs: dict[str, Any],
        soft_dice_kwargs: dict[str, Any],
        weight_ce: float = 1,
        weight_dice: float = 1,
        use_ignore_label: bool = False,
        dice_class: Any = MemoryEfficientSoftDiceLoss,
    ) -> None:
        super().__init__()
        if use_ignore_label:
            bce_kwargs["reduction"] = "none"
        options = dict(bce_kwargs)
        self.reduction = options.pop("reduction", "mean")
        self.register_buffer("pos_weight", options.pop("pos_weight", None))
        if options:
            raise NotImplementedError(f"segfuse has no {', '.join(options)} of BCEWithLogitsLoss")
        if self.reduction == "none" and not use_ignore_label:
            raise NotImplementedError("reduction 'none' gives a value per voxel, which segfuse does not")
        self.weight_dice = weight_dice
        self.weight_ce = weight_ce
        self.use_ignore_label = use_ignore_label
        self.dc = dice_class(apply_nonlin=torch.sigmoid, **soft_dice_kwargs)

    def forward(self, net_output: Tensor, target: Tensor) -> Tensor:
        """`net_output` `[N, C, …]` logits, `target` of its shape, with one channel more for `use_ignore_label`."""
        mask = None
        if self.use_ignore_label:
            mask = target[:, -1:] == 0
            target = target[:, :-1]
        s = sums("dice + balanced_ce", "sigmoid", net_output, dense(target), mask=mask)
        own = hasattr(self.dc, "of")
        dice = self.dc.of(s, net_output) if own else self.dc(net_output, target, loss_mask=mask)
        positive, negative = s.x
        ce = (positive * per_channel(self.pos_weight, net_output.dim(), positive) + negative).sum()
        if mask is not None:
            ce = ce / s.n[:, 0].sum().clip(min=1e-8)
        elif self.reduction == "mean":
            ce = ce / s.n.sum()
        return self.weight_ce * result(ce, net_output) + self.weight_dice * dice


class DeepSupervisionWrapper(nn.Module):
    """The weighted sum of a loss over lists of outputs and targets; arguments as nnU-Net's DeepSupervisionWrapper."""

    def __init__(self, loss: Any, weight_factors: Any = None) -> None:
        super().__init__()
        assert any(x != 0 for x in weight_factors), "At least one weight factor should be != 0.0"
        self.weight_factors = tuple(weight_factors)
        self.loss = loss

    def forward(self, *args: Any) -> Any:
        """Each argument of the loss as a list with one entry per output."""
        assert all(isinstance(i, (tuple, list)) for i in args), (
            f"all args must be either tuple or list, got {[type(i) for i in args]}"
        )
        pairs = zip(self.weight_factors, zip(*args))
        return sum(weight * self.loss(*inputs) for weight, inputs in pairs if weight != 0.0)


class _TopK(nn.Module):
    """A loss of the hardest fraction of the voxels."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError(
            f"{type(self).__name__} takes the hardest k per cent of the voxels; segfuse has topk_ce, which takes those below a "
            "threshold of the probability"
        )


class TopKLoss(_TopK):
    """Not in segfuse: raises NotImplementedError."""


class DC_and_topk_loss(_TopK):
    """Not in segfuse: raises NotImplementedError."""
