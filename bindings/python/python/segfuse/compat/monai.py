"""The segmentation losses of MONAI 1.6: change ``from monai.losses import DiceCELoss`` to ``from segfuse.compat.monai import …``.

`segfuse` computes the sums; see :mod:`segfuse.compat` for what that means.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Optional, Union

import torch
from torch import Tensor
from torch.nn.modules.loss import _Loss

from ._sums import Sums, dense, labels, looks, missing, overlap, readable, result, sums

Weight = Union[Sequence[float], float, int, Tensor, None]

_REDUCTIONS = ("none", "mean", "sum")


def _reduction(value: Any) -> str:
    """A name, or a member of MONAI's enumeration."""
    text = str(getattr(value, "value", value))
    if text not in _REDUCTIONS:
        raise ValueError(f"{text!r} is not a valid LossReduction")
    return text


def _activation(sigmoid: bool, softmax: bool, other_act: Any) -> None:
    if other_act is not None and not callable(other_act):
        raise TypeError(f"other_act must be None or callable but is {type(other_act).__name__}.")
    if int(sigmoid) + int(softmax) + int(other_act is not None) > 1:
        raise ValueError("Incompatible values: more than 1 of [sigmoid=True, softmax=True, other_act is not None].")


def _ignored(setting: str) -> None:
    warnings.warn(f"single channel prediction, `{setting}` ignored.", stacklevel=5)


class _Overlap(_Loss):
    """What the losses over sums of probabilities share: activation, target, mask and background."""

    def __init__(
        self,
        include_background: bool,
        to_onehot_y: bool,
        sigmoid: bool,
        softmax: bool,
        other_act: Optional[Callable],
        reduction: Any,
        ignore_index: Optional[int] = None,
    ) -> None:
        super().__init__(reduction=_reduction(reduction))
        _activation(sigmoid, softmax, other_act)
        self.include_background = include_background
        self.to_onehot_y = to_onehot_y
        self.sigmoid = sigmoid
        self.softmax = softmax
        self.other_act = other_act
        self.ignore_index = ignore_index

    def _sums(
        self,
        spec: str,
        input: Tensor,
        target: Tensor,
        mask: Optional[Tensor] = None,
        share: Optional[Tensor] = None,
        encoded: bool = False,
    ) -> Sums:
        """The sums of the classes that count.

        `mask` says which voxels do, `share` by how much: it multiplies probabilities and target. `encoded` says that the target is,
        whatever `to_onehot_y` says.
        """
        several = input.shape[1] > 1
        activation = "sigmoid" if self.sigmoid else "none"
        if self.softmax:
            if several:
                activation = "softmax"
            else:
                _ignored("softmax=True")
        if self.other_act is not None:
            input = self.other_act(input)
        ignore, target = self.ignore_index, readable(target)
        of_labels = self.to_onehot_y and several and not encoded
        if not of_labels:
            if self.to_onehot_y and not several:
                _ignored("to_onehot_y=True")
            if target.shape != input.shape:
                raise AssertionError(f"ground truth has different shape ({target.shape}) from input ({input.shape})")
            if ignore is not None and several and 0 <= ignore < target.shape[1] and target.is_floating_point():
                # What is not of the class that is ignored, which need not be 0 or 1.
                share = 1 - target[:, ignore : ignore + 1]
            elif ignore is not None:
                mask = _kept(target, ignore)
            ignore = None
        if share is not None:
            input, activation = _activated(input, activation) * share, "none"
            target = target * share
        y = _labels(target, input) if of_labels else dense(target)
        found = sums(spec, activation, input, y, ignore_index=ignore, mask=mask)
        if self.include_background:
            return found
        if not several:
            _ignored("include_background=False")
            return found
        return found.of_classes(slice(1, None))

    def _reduced(self, f: Tensor, input: Tensor) -> Tensor:
        if self.reduction == "mean":
            f = f.mean()
        elif self.reduction == "sum":
            f = f.sum()
        return result(f, input)


def _activated(input: Tensor, activation: str) -> Tensor:
    if activation == "none":
        return input
    return input.softmax(1) if activation == "softmax" else input.sigmoid()


def _labels(target: Tensor, input: Tensor) -> Tensor:
    """Labels `[N, …]`, as MONAI's one_hot takes them."""
    if target.dim() != input.dim() or target.shape[1] != 1:
        raise AssertionError("labels should have a channel with length equal to one.")
    if target.shape[0] != input.shape[0] or target.shape[2:] != input.shape[2:]:
        raise AssertionError(f"ground truth has different shape ({target.shape}) from input ({input.shape})")
    return labels(target).squeeze(1)


def _kept(target: Tensor, ignore: int) -> Tensor:
    """The voxels that count, as MONAI reads an ignore index in a target that is no map of labels."""
    if target.shape[1] == 1:
        return target != ignore
    if 0 <= ignore < target.shape[1]:
        return target[:, ignore : ignore + 1] == 0
    return target.sum(1, keepdim=True) > 0


def _shown(f: Tensor, batch: bool, input: Tensor) -> Tensor:
    """A value per sample and class, so shaped that it can be multiplied by the input."""
    if batch:
        f = f[0]
    return f.view(list(f.shape[:2]) + [1] * (input.dim() - 2))


class DiceLoss(_Overlap):
    """Dice, or Jaccard; arguments as :py:class:`monai.losses.DiceLoss`."""

    def __init__(
        self,
        include_background: bool = True,
        to_onehot_y: bool = False,
        sigmoid: bool = False,
        softmax: bool = False,
        other_act: Optional[Callable] = None,
        squared_pred: bool = False,
        jaccard: bool = False,
        reduction: Any = "mean",
        smooth_nr: float = 1e-5,
        smooth_dr: float = 1e-5,
        batch: bool = False,
        weight: Weight = None,
        soft_label: bool = False,
        ignore_index: Optional[int] = None,
    ) -> None:
        super().__init__(include_background, to_onehot_y, sigmoid, softmax, other_act, reduction, ignore_index)
        self.squared_pred = squared_pred
        self.jaccard = jaccard
        self.smooth_nr = float(smooth_nr)
        self.smooth_dr = float(smooth_dr)
        self.batch = batch
        self.soft_label = soft_label
        self.register_buffer("class_weight", None if weight is None else torch.as_tensor(weight))
        self._negative = _is_negative(self.class_weight)

    @property
    def _spec(self) -> str:
        if self.squared_pred:
            return "dice(squared=true)"
        return "soft_dice" if self.soft_label else "dice"

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """`input` `[N, C, …]`, `target` of its shape or, with `to_onehot_y`, `[N, 1, …]`."""
        return self._of(self._sums(self._spec, input, target), input)

    def _of(self, s: Sums, input: Tensor) -> Tensor:
        if self.batch:
            s = s.over_batch()
        side = 1.0 if self.jaccard else 0.5
        top, bottom = overlap(s, side, side, soft=self._spec == "soft_dice")
        f = 1 - (2 * top + self.smooth_nr) / (2 * bottom + self.smooth_dr)
        if self.class_weight is not None and f.shape[1] != 1:
            f = f * _class_weight(self.class_weight, f, self._negative)
        return self._reduced(_shown(f, self.batch, input) if self.reduction == "none" else f, input)


def _is_negative(weight: Optional[Tensor]) -> bool:
    """Whether a weight is: looked at when a loss is made, since a call that looks waits for the device."""
    return weight is not None and bool((weight < 0).any())


def _class_weight(weight: Tensor, f: Tensor, negative: bool) -> Tensor:
    if weight.dim() > 0 and weight.shape[0] != f.shape[1]:
        raise ValueError(
            "The length of the `weight` sequence should be the same as the number of classes. "
            "If `include_background=False`, the weight should not include the background category class 0."
        )
    if negative:
        raise ValueError("the value/values of the `weight` should be no less than 0.")
    return weight.to(f)


class MaskedDiceLoss(DiceLoss):
    """Dice of the voxels where a mask is 1; arguments as :py:class:`monai.losses.MaskedDiceLoss`.

    With `to_onehot_y`, MONAI multiplies the labels by the mask before it encodes them, so that the voxels outside of the mask
    are voxels of class 0 that were missed. `masked_as_background=False` leaves them out.
    """

    def __init__(self, *args: Any, masked_as_background: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.ignore_index is not None:
            raise TypeError("MaskedDiceLoss.__init__() got an unexpected keyword argument 'ignore_index'")
        self.masked_as_background = masked_as_background

    def forward(self, input: Tensor, target: Tensor, mask: Optional[Tensor] = None) -> Tensor:
        """`mask` `[N, 1, …]` or `[1, 1, …]`: of zeros and ones, or what multiplies probabilities and target.

        One that is not known to be of zeros and ones (it is not of bool, and compiled or on a device, where looking would wait) is
        multiplied, which takes a pass and a tensor of the input's size more.
        """
        if mask is None:
            warnings.warn("No mask value specified for the MaskedLoss.", stacklevel=2)
            return super().forward(input, target)
        if input.dim() != mask.dim():
            warnings.warn(f"Dim of input ({input.shape}) is different from mask ({mask.shape}).", stacklevel=2)
        if input.shape[0] != mask.shape[0] and mask.shape[0] != 1:
            raise ValueError(f"Batch size of mask ({mask.shape}) must be one or equal to input ({input.shape}).")
        if mask.shape[1] != 1:
            raise ValueError(f"Mask ({mask.shape}) must have only one channel.")
        encoded = self.to_onehot_y and input.shape[1] > 1
        if mask.dtype != torch.bool and not looks(((mask == 0) | (mask == 1)).all()):
            if encoded and not self.masked_as_background:
                target = torch.nn.functional.one_hot(_labels(target, input).long(), input.shape[1]).movedim(-1, 1)
                return self._of(self._sums(self._spec, input, target, share=mask, encoded=True), input)
            return self._of(self._sums(self._spec, input, target, share=mask), input)
        mask = (mask != 0).expand(input.shape[0], 1, *mask.shape[2:])
        s = self._sums(self._spec, input, target, mask)
        if self.masked_as_background and encoded and self.include_background:
            outside = torch.zeros_like(s.n)
            outside[:, 0] = input[0, 0].numel() - s.n[:, 0]
            s = Sums(s.n, s.p, _plus(s.g, outside), s.i, s.pp, _plus(s.gg, outside), s.cost, s.x)
        return self._of(s, input)


def _plus(s: Optional[Tensor], more: Tensor) -> Optional[Tensor]:
    return None if s is None else s + more


class TverskyLoss(_Overlap):
    """Tversky; arguments as :py:class:`monai.losses.TverskyLoss`."""

    def __init__(
        self,
        include_background: bool = True,
        to_onehot_y: bool = False,
        sigmoid: bool = False,
        softmax: bool = False,
        other_act: Optional[Callable] = None,
        alpha: float = 0.5,
        beta: float = 0.5,
        reduction: Any = "mean",
        smooth_nr: float = 1e-5,
        smooth_dr: float = 1e-5,
        batch: bool = False,
        soft_label: bool = False,
        ignore_index: Optional[int] = None,
    ) -> None:
        super().__init__(include_background, to_onehot_y, sigmoid, softmax, other_act, reduction, ignore_index)
        self.alpha = alpha
        self.beta = beta
        self.smooth_nr = float(smooth_nr)
        self.smooth_dr = float(smooth_dr)
        self.batch = batch
        self.soft_label = soft_label

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """`input` `[N, C, …]`, `target` of its shape or, with `to_onehot_y`, `[N, 1, …]`."""
        s = self._sums("soft_dice" if self.soft_label else "dice", input, target)
        if self.batch:
            s = s.over_batch()
        top, bottom = overlap(s, self.alpha, self.beta, soft=self.soft_label)
        score = 1.0 - (top + self.smooth_nr) / (bottom + self.smooth_dr)
        return self._reduced(score[0] if self.batch and self.reduction == "none" else score, input)


class GeneralizedDiceLoss(_Overlap):
    """Generalised Dice; arguments as :py:class:`monai.losses.GeneralizedDiceLoss`."""

    def __init__(
        self,
        include_background: bool = True,
        to_onehot_y: bool = False,
        sigmoid: bool = False,
        softmax: bool = False,
        other_act: Optional[Callable] = None,
        w_type: Any = "square",
        reduction: Any = "mean",
        smooth_nr: float = 1e-5,
        smooth_dr: float = 1e-5,
        batch: bool = False,
        soft_label: bool = False,
    ) -> None:
        super().__init__(include_background, to_onehot_y, sigmoid, softmax, other_act, reduction)
        self.w_type = str(getattr(w_type, "value", w_type))
        if self.w_type not in ("square", "simple", "uniform"):
            raise ValueError(f"w_type must be 'square', 'simple' or 'uniform', got {self.w_type!r}")
        self.smooth_nr = float(smooth_nr)
        self.smooth_dr = float(smooth_dr)
        self.batch = batch
        self.soft_label = soft_label

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """`input` `[N, C, …]`, `target` of its shape or, with `to_onehot_y`, `[N, 1, …]`."""
        s = self._sums("soft_dice" if self.soft_label else "dice", input, target)
        if self.batch:
            s = s.over_batch()
        top, bottom = overlap(s, 0.5, 0.5, soft=self.soft_label)
        w = {"square": lambda g: 1 / (g * g), "simple": lambda g: 1 / g, "uniform": torch.ones_like}[self.w_type](s.g)
        absent = torch.isinf(w)
        w = w.masked_fill(absent, 0.0)
        w = torch.where(absent, w.amax(1, keepdim=True), w)
        f = 1.0 - (2.0 * (top * w).sum(1, keepdim=True) + self.smooth_nr) / (
            2.0 * (bottom * w).sum(1, keepdim=True) + self.smooth_dr
        )
        return self._reduced(_shown(f, self.batch, input) if self.reduction == "none" else f, input)


class GeneralizedWassersteinDiceLoss(_Loss):
    """Generalised Wasserstein Dice; arguments as :py:class:`monai.losses.GeneralizedWassersteinDiceLoss`."""

    def __init__(
        self,
        dist_matrix: Any,
        weighting_mode: str = "default",
        reduction: Any = "mean",
        smooth_nr: float = 1e-5,
        smooth_dr: float = 1e-5,
    ) -> None:
        super().__init__(reduction=_reduction(reduction))
        if dist_matrix.shape[0] != dist_matrix.shape[1]:
            raise ValueError(f"dist_matrix must be C x C, got {dist_matrix.shape[0]} x {dist_matrix.shape[1]}.")
        if weighting_mode not in ["default", "GDL"]:
            raise ValueError(f"weighting_mode must be either 'default' or 'GDL', got {weighting_mode}.")
        m = torch.as_tensor(dist_matrix)
        self.m = m / m.max() if m.max() != 1 else m
        self.alpha_mode = weighting_mode
        self.num_classes = self.m.shape[0]
        self.smooth_nr = float(smooth_nr)
        self.smooth_dr = float(smooth_dr)
        rows = "; ".join(", ".join(repr(float(x)) for x in row) for row in self.m)
        self._spec = f"wasserstein_dice(matrix=[{rows}])"

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """`input` `[N, C, …]` logits, `target` labels of `[N, …]` or `[N, 1, …]`."""
        s = sums(self._spec, "softmax", input, labels(target).reshape(input.shape[0], *input.shape[2:]))
        if self.alpha_mode == "GDL":
            alpha = 1.0 / (s.g + 1.0)
            top = (alpha * (s.g - s.cost)).sum(1)
            bottom = (alpha * (2.0 * s.g - s.cost)).sum(1)
        else:
            top = (s.g - s.cost)[:, 1:].sum(1)
            bottom = 2 * top + s.cost.sum(1)
        loss = 1.0 - (2.0 * top + self.smooth_nr) / (bottom + self.smooth_dr)
        if self.reduction == "mean":
            loss = loss.mean()
        elif self.reduction == "sum":
            loss = loss.sum()
        return result(loss, input)


class MCCLoss(_Overlap):
    """Matthews correlation; arguments as :py:class:`monai.losses.MCCLoss`."""

    def __init__(
        self,
        include_background: bool = True,
        to_onehot_y: bool = False,
        sigmoid: bool = False,
        softmax: bool = False,
        other_act: Optional[Callable] = None,
        reduction: Any = "mean",
        smooth_nr: float = 0.0,
        smooth_dr: float = 1e-5,
        batch: bool = False,
    ) -> None:
        super().__init__(include_background, to_onehot_y, sigmoid, softmax, other_act, reduction)
        self.smooth_nr = float(smooth_nr)
        self.smooth_dr = float(smooth_dr)
        self.batch = batch

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """`input` `[N, C, …]`, `target` of its shape or, with `to_onehot_y`, `[N, 1, …]`."""
        s = self._sums("mcc", input, target)
        if self.batch:
            s = s.over_batch()
        # The pixel terms are Σ(1−p) and Σ(1−p)g.
        tp, fp, tn, fn = s.i, s.p - s.i, s.x[0] - s.x[1], s.x[1]
        root = torch.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn) + self.smooth_dr)
        score = 1.0 - (tp * tn - fp * fn + self.smooth_nr) / root
        score = torch.where((fp == 0) & (fn == 0), torch.zeros_like(score), score)
        return self._reduced(score[0] if self.batch and self.reduction == "none" else score, input)


def _planes_and_volumes(input: Tensor, names: str) -> None:
    if input.dim() not in (4, 5):
        raise ValueError(f"Only 2D ({names}) and 3D ({names}D) supported")


class BoundaryLoss(_Overlap):
    """Boundary loss; arguments as :py:class:`monai.losses.BoundaryLoss`.

    The distances are made in the plan, exactly. A class that a sample lacks, or that fills it, has the distance 0 everywhere.
    """

    def __init__(
        self,
        include_background: bool = True,
        to_onehot_y: bool = False,
        sigmoid: bool = False,
        softmax: bool = False,
        other_act: Optional[Callable] = None,
        reduction: Any = "mean",
        batch: bool = False,
    ) -> None:
        super().__init__(include_background, to_onehot_y, sigmoid, softmax, other_act, reduction)
        self.batch = batch

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """`input` `[N, C, …]` with two or three spatial axes, `target` of its shape or, with `to_onehot_y`, `[N, …]` or `[N, 1, …]`."""
        _planes_and_volumes(input, "BNHW")
        if self.to_onehot_y and input.shape[1] > 1 and target.dim() == input.dim() - 1:
            target = target.unsqueeze(1)
        s = self._sums("boundary", input, target)
        loss = s.x[0] / s.n
        return self._reduced(loss.mean(0) if self.batch else loss, input)


class HausdorffDTLoss(_Overlap):
    """Hausdorff loss by distance transforms; arguments as :py:class:`monai.losses.HausdorffDTLoss`.

    The distances are made in the plan, exactly, and are constants of the gradient, as in MONAI. A class that a sample lacks, or
    that fills it, has the distance 0 everywhere: a prediction that is below 0.5 throughout is held against the target's distances
    alone.

    They are exact whatever the types are. MONAI writes them into tensors of the type of what they are made of: those of an integer
    target lose what is behind the point, those of a half-precision prediction are rounded to its type.
    """

    def __init__(
        self,
        alpha: float = 2.0,
        include_background: bool = False,
        to_onehot_y: bool = False,
        sigmoid: bool = False,
        softmax: bool = False,
        other_act: Optional[Callable] = None,
        reduction: Any = "mean",
        batch: bool = False,
    ) -> None:
        super().__init__(include_background, to_onehot_y, sigmoid, softmax, other_act, reduction)
        self.alpha = alpha
        self.batch = batch

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """`input` `[N, C, …]` with two or three spatial axes, `target` of its shape or, with `to_onehot_y`, `[N, 1, …]`."""
        _planes_and_volumes(input, "NCHW")
        s = self._sums(f"hausdorff_dt(alpha={self.alpha}, background=true)", input, target)
        if self.batch:
            s = s.over_batch()
        f = s.x[0] / s.n
        return self._reduced(f.view(*f.shape, *[1] * (input.dim() - 2)) if self.reduction == "none" else f, input)


class LogHausdorffDTLoss(HausdorffDTLoss):
    """ln(1 + :class:`HausdorffDTLoss`), after its reduction."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """As of :class:`HausdorffDTLoss`."""
        return torch.log(super().forward(input, target) + 1)


class FocalLoss(_Loss):
    """Focal loss; arguments as :py:class:`monai.losses.FocalLoss`, hard targets.

    ``reduction="none"``, which gives a value per voxel, raises NotImplementedError. As in MONAI, the mean divides by the number
    of classes too, except where `ignore_index` is set: then it divides by the voxels that count.
    """

    def __init__(
        self,
        include_background: bool = True,
        to_onehot_y: bool = False,
        gamma: float = 2.0,
        alpha: Union[float, Sequence[float], None] = None,
        weight: Weight = None,
        reduction: Any = "mean",
        use_softmax: bool = False,
        ignore_index: Optional[int] = None,
    ) -> None:
        super().__init__(reduction=_reduction(reduction))
        if self.reduction == "none":
            raise NotImplementedError("FocalLoss with reduction 'none' gives a value per voxel, which segfuse does not")
        self.include_background = include_background
        self.to_onehot_y = to_onehot_y
        self.gamma = gamma
        self.weight = weight
        self.use_softmax = use_softmax
        self.alpha = alpha if alpha is None or isinstance(alpha, (float, int)) else torch.as_tensor(alpha)
        self.register_buffer("class_weight", None if weight is None else torch.as_tensor(weight))
        self._negative = _is_negative(self.class_weight)
        self.ignore_index = ignore_index

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """`input` `[N, C, …]` logits, `target` of its shape or, with `to_onehot_y`, `[N, 1, …]`."""
        several = input.shape[1] > 1
        first = 0 if self.include_background or not several else 1
        ignore, mask = self.ignore_index, None
        if self.to_onehot_y and not several:
            _ignored("to_onehot_y=True")
        if not self.include_background and not several:
            _ignored("include_background=False")
        encoded = self.to_onehot_y and several
        if encoded:
            target = _labels(target, input)
            if ignore is not None:
                mask = (target != ignore).unsqueeze(1)
                target = target.masked_fill(target == ignore, 0)
        else:
            if target.shape != input.shape:
                raise ValueError(f"ground truth has different shape ({target.shape}) from input ({input.shape})")
            target = readable(target)
            if ignore is not None:
                mask = _kept(target, ignore)
                target = target * mask
            if looks(((target != 0) & (target != 1)).any()):
                raise NotImplementedError("MONAI's focal loss of soft targets is one of its own; segfuse has none")
            target = dense(target)
        loss = self._per_class(input, target, mask, first, encoded)
        loss = loss * _channel_weight(self.class_weight, loss, self._negative)
        voxels = input[0, 0].numel() if mask is None else mask.sum(tuple(range(1, mask.dim()))).to(loss).unsqueeze(1)
        if self.reduction == "sum":
            loss = (loss / _at_least_a_little(voxels)).sum()
        elif mask is not None:
            loss = loss.sum() / _at_least_a_little(voxels.sum())
        else:
            loss = loss.sum() / (loss.numel() * voxels)
        return result(loss, input)

    def _per_class(self, input: Tensor, target: Tensor, mask: Any, first: int, encoded: bool) -> Tensor:
        """The sums of the classes that count, with alpha."""
        if not self.use_softmax:
            spec = f"focal(gamma={self.gamma}, alpha=1, form=binary) + focal(gamma={self.gamma}, alpha=0, form=binary)"
            hit, miss = (x[:, first:] for x in sums(spec, "sigmoid", input, target, mask=mask).x)
            alpha = self.alpha
            if alpha is None:
                return hit + miss
            if isinstance(alpha, Tensor) and alpha.dim() > 0:
                return _alphas(alpha, hit) * hit + miss
            return float(alpha) * hit + (1.0 - float(alpha)) * miss
        if input.shape[1] - first == 1:
            return (input * 0.0).sum(tuple(range(2, input.dim())))[:, first:].double()
        spec = f"focal(gamma={self.gamma}, form=categorical)"
        if first and encoded:
            # The softmax is over the other classes, to which the voxels of class 0 belong by no part.
            hit = sums(spec, "softmax", input[:, 1:], target.to(torch.int64) - 1, ignore_index=-1, mask=mask).x[0]
        else:
            hit = sums(spec, "softmax", input[:, first:], target[:, first:] if not encoded else target, mask=mask).x[0]
        alpha = self.alpha
        if alpha is None:
            return hit
        if isinstance(alpha, Tensor) and alpha.dim() > 0:
            return _alphas(alpha, hit) * hit
        if first:
            warnings.warn("`include_background=False`, scalar `alpha` ignored when using softmax.", stacklevel=4)
            return hit
        factors = torch.full_like(hit[0], float(alpha))
        factors[0] = 1.0 - float(alpha)
        return factors * hit


def _alphas(alpha: Tensor, hit: Tensor) -> Tensor:
    if alpha.shape[0] != hit.shape[1]:
        raise ValueError(f"The length of alpha ({alpha.shape[0]}) must match the number of classes ({hit.shape[1]}).")
    return alpha.to(hit)


def _at_least_a_little(voxels: Any) -> Any:
    return voxels.clamp(min=torch.finfo(torch.float32).eps) if isinstance(voxels, Tensor) else voxels


def _channel_weight(weight: Optional[Tensor], loss: Tensor, negative: bool) -> Any:
    if weight is None:
        return 1.0
    if weight.dim() > 0:
        classes = loss.shape[1]
        if classes == 1:
            raise ValueError("Per-class class_weight is not supported for single-channel outputs.")
        if weight.numel() != classes:
            raise ValueError(
                f"The number of class_weight ({weight.numel()}) must match the number of output channels ({classes})."
            )
    if negative:
        raise ValueError("class_weight values must be non-negative.")
    return weight.to(loss)


def _check_shapes(input: Tensor, target: Tensor) -> None:
    if input.dim() != target.dim():
        raise ValueError(
            "the number of dimensions for input and target should be the same, "
            f"got shape {input.shape} (nb dims: {len(input.shape)}) and {target.shape} (nb dims: {len(target.shape)}). "
            "if target is not one-hot encoded, please provide a tensor with shape B1H[WD]."
        )
    if target.shape[1] != 1 and target.shape[1] != input.shape[1]:
        raise ValueError(
            "number of channels for target is neither 1 (without one-hot encoding) nor the same as input, "
            f"got shape {input.shape} and {target.shape}."
        )


def _no_less_than_0(**values: float) -> None:
    for name, value in values.items():
        if value < 0.0:
            raise ValueError(f"{name} should be no less than 0.0.")


class DiceCELoss(_Loss):
    """Dice and cross-entropy; arguments as :py:class:`monai.losses.DiceCELoss`.

    The cross-entropy is that of softmax (of sigmoid for one channel) whatever the activation of the Dice half. As in PyTorch, its
    mean with `weight` divides by the weights of the labels, but by the number of voxels where the target has a channel per class.
    """

    def __init__(
        self,
        include_background: bool = True,
        to_onehot_y: bool = False,
        sigmoid: bool = False,
        softmax: bool = False,
        other_act: Optional[Callable] = None,
        squared_pred: bool = False,
        jaccard: bool = False,
        reduction: Any = "mean",
        smooth_nr: float = 1e-5,
        smooth_dr: float = 1e-5,
        batch: bool = False,
        weight: Optional[Tensor] = None,
        lambda_dice: float = 1.0,
        lambda_ce: float = 1.0,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        reduction = str(getattr(reduction, "value", reduction))
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction must be 'mean' or 'sum', got {reduction!r}")
        self.dice = DiceLoss(
            include_background=include_background,
            to_onehot_y=to_onehot_y,
            sigmoid=sigmoid,
            softmax=softmax,
            other_act=other_act,
            squared_pred=squared_pred,
            jaccard=jaccard,
            reduction=reduction,
            smooth_nr=smooth_nr,
            smooth_dr=smooth_dr,
            batch=batch,
            weight=weight[1:] if weight is not None and not include_background else weight,
        )
        _no_less_than_0(lambda_dice=lambda_dice, lambda_ce=lambda_ce)
        self.lambda_dice = lambda_dice
        self.lambda_ce = lambda_ce
        self.label_smoothing = label_smoothing
        self.register_buffer("ce_weight", weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """`input` `[N, C, …]` logits, `target` of its shape or `[N, 1, …]`."""
        _check_shapes(input, target)
        several = input.shape[1] > 1
        encoded = several and target.shape[1] == 1
        if encoded and not self.dice.to_onehot_y:
            raise AssertionError(f"ground truth has different shape ({target.shape}) from input ({input.shape})")
        spec = f"ce(smoothing={self.label_smoothing})" if several else "balanced_ce"
        own = "softmax" if several else "sigmoid"
        theirs = self.dice.softmax if several else self.dice.sigmoid
        if theirs and self.dice.other_act is None:
            # One activation: one pass for both.
            whole = _whole(self.dice, f"{self.dice._spec} + {spec}", input, target)
            part = whole if self.dice.include_background or not several else whole.of_classes(slice(1, None))
            entropy = whole
        else:
            part = self.dice._sums(self.dice._spec, input, target)
            y = _labels(target, input) if encoded else dense(target)
            entropy = sums(spec, own, input, y)
        dice = self.dice._of(part, input)
        ce = _cross_entropy(entropy, self.ce_weight, encoded) if several else _binary(entropy, self.ce_weight)
        if self.dice.reduction == "mean":
            ce = ce[0] / ce[1]
        else:
            ce = ce[0]
        return self.lambda_dice * dice + self.lambda_ce * result(ce, input)


def _whole(dice: DiceLoss, spec: str, input: Tensor, target: Tensor) -> Sums:
    """The sums of all classes, where the loss itself may leave out the background."""
    included, dice.include_background = dice.include_background, True
    try:
        found = dice._sums(spec, input, target)
    finally:
        dice.include_background = included
    if not included and input.shape[1] == 1:
        _ignored("include_background=False")
    return found


def _cross_entropy(s: Sums, weight: Optional[Tensor], encoded: bool) -> tuple[Tensor, Any]:
    """The sum over the voxels, and what its mean divides by."""
    w = 1.0 if weight is None else weight.to(s.x[-1])
    voxels = (w * s.g).sum() if encoded else s.n[:, 0].sum()
    return (w * s.x[-1]).sum(), voxels


def _binary(s: Sums, weight: Optional[Tensor]) -> tuple[Tensor, Any]:
    positive, negative = s.x[-2:]
    return (positive * (1.0 if weight is None else weight.to(positive)) + negative).sum(), s.n.sum()


class _WithFocal(_Loss):
    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """`input` `[N, C, …]` logits, `target` of its shape or `[N, 1, …]`."""
        _check_shapes(input, target)
        region, factor, focal_factor = self._parts
        return factor * region(input, target) + focal_factor * self.focal(input, target)


class DiceFocalLoss(_WithFocal):
    """Dice and focal loss; arguments as :py:class:`monai.losses.DiceFocalLoss`.

    As in MONAI, the focal half is that of sigmoid, also with `softmax=True`.
    """

    def __init__(
        self,
        include_background: bool = True,
        to_onehot_y: bool = False,
        sigmoid: bool = False,
        softmax: bool = False,
        other_act: Optional[Callable] = None,
        squared_pred: bool = False,
        jaccard: bool = False,
        reduction: Any = "mean",
        smooth_nr: float = 1e-5,
        smooth_dr: float = 1e-5,
        batch: bool = False,
        gamma: float = 2.0,
        weight: Weight = None,
        lambda_dice: float = 1.0,
        lambda_focal: float = 1.0,
        alpha: Optional[float] = None,
    ) -> None:
        super().__init__()
        self.dice = DiceLoss(
            include_background=include_background,
            to_onehot_y=to_onehot_y,
            sigmoid=sigmoid,
            softmax=softmax,
            other_act=other_act,
            squared_pred=squared_pred,
            jaccard=jaccard,
            reduction=reduction,
            smooth_nr=smooth_nr,
            smooth_dr=smooth_dr,
            batch=batch,
            weight=weight,
        )
        self.focal = FocalLoss(
            include_background=include_background,
            to_onehot_y=to_onehot_y,
            gamma=gamma,
            weight=weight,
            alpha=alpha,
            reduction=reduction,
        )
        _no_less_than_0(lambda_dice=lambda_dice, lambda_focal=lambda_focal)
        self.lambda_dice = lambda_dice
        self.lambda_focal = lambda_focal
        self.to_onehot_y = to_onehot_y

    @property
    def _parts(self) -> tuple[_Loss, float, float]:
        return self.dice, self.lambda_dice, self.lambda_focal


class GeneralizedDiceFocalLoss(_WithFocal):
    """Generalised Dice and focal loss; arguments as :py:class:`monai.losses.GeneralizedDiceFocalLoss`."""

    def __init__(
        self,
        include_background: bool = True,
        to_onehot_y: bool = False,
        sigmoid: bool = False,
        softmax: bool = False,
        other_act: Optional[Callable] = None,
        w_type: Any = "square",
        reduction: Any = "mean",
        smooth_nr: float = 1e-5,
        smooth_dr: float = 1e-5,
        batch: bool = False,
        gamma: float = 2.0,
        weight: Weight = None,
        lambda_gdl: float = 1.0,
        lambda_focal: float = 1.0,
    ) -> None:
        super().__init__()
        self.generalized_dice = GeneralizedDiceLoss(
            include_background=include_background,
            to_onehot_y=to_onehot_y,
            sigmoid=sigmoid,
            softmax=softmax,
            other_act=other_act,
            w_type=w_type,
            reduction=reduction,
            smooth_nr=smooth_nr,
            smooth_dr=smooth_dr,
            batch=batch,
        )
        self.focal = FocalLoss(
            include_background=include_background,
            to_onehot_y=to_onehot_y,
            gamma=gamma,
            weight=weight,
            reduction=reduction,
        )
        _no_less_than_0(lambda_gdl=lambda_gdl, lambda_focal=lambda_focal)
        self.lambda_gdl = lambda_gdl
        self.lambda_focal = lambda_focal

    @property
    def _parts(self) -> tuple[_Loss, float, float]:
        return self.generalized_dice, self.lambda_gdl, self.lambda_focal


class DeepSupervisionLoss(_Loss):
    """The weighted sum of a loss over a list of outputs; arguments as :py:class:`monai.losses.DeepSupervisionLoss`."""

    def __init__(self, loss: Any, weight_mode: str = "exp", weights: Optional[list[float]] = None) -> None:
        super().__init__()
        self.loss = loss
        self.weight_mode = weight_mode
        self.weights = weights
        self.interp_mode = "nearest-exact"

    def get_weights(self, levels: int = 1) -> list[float]:
        """One weight per output."""
        levels = max(1, levels)
        if self.weights is not None and len(self.weights) >= levels:
            return self.weights[:levels]
        if self.weight_mode == "exp":
            return [max(0.5**level, 0.0625) for level in range(levels)]
        if self.weight_mode == "two":
            return [1.0 if level == 0 else 0.5 for level in range(levels)]
        return [1.0] * levels

    def get_loss(self, input: Tensor, target: Tensor) -> Tensor:
        """The loss of one output, with the target brought to its size."""
        if input.shape[2:] != target.shape[2:]:
            target = torch.nn.functional.interpolate(target, size=input.shape[2:], mode=self.interp_mode)
        return self.loss(input, target)

    def forward(self, input: Any, target: Tensor) -> Tensor:
        """A tensor, or a list of tensors, the largest first."""
        if input is None:
            raise ValueError("input shouldn't be None.")
        if not isinstance(input, (list, tuple)):
            return self.loss(input.float(), target)
        total = torch.tensor(0, dtype=torch.float, device=target.device)
        for weight, output in zip(self.get_weights(len(input)), input):
            total = total + weight * self.get_loss(output.float(), target)
        return total


class AsymmetricUnifiedFocalLoss(_Loss):
    """Unified focal loss of two classes; arguments as :py:class:`monai.losses.AsymmetricUnifiedFocalLoss`.

    As in MONAI, the input is probabilities whatever its documentation says, and since 1.6 the focal half is the mean over the two
    channels where the paper has their sum: `focal_sum=True` is the paper's. Voxels of `ignore_index` stay in the mean.
    """

    def __init__(
        self,
        to_onehot_y: bool = False,
        num_classes: int = 2,
        weight: float = 0.5,
        gamma: float = 0.5,
        delta: float = 0.7,
        reduction: Any = "mean",
        ignore_index: Optional[int] = None,
        focal_sum: bool = False,
    ) -> None:
        super().__init__(reduction=_reduction(reduction))
        if ignore_index is not None:
            raise NotImplementedError("AsymmetricUnifiedFocalLoss with ignore_index: segfuse leaves such voxels out of the mean")
        self.to_onehot_y = to_onehot_y
        self.num_classes = num_classes
        self.gamma = gamma
        self.delta = delta
        self.weight = weight
        self.focal_sum = focal_sum

    def forward(self, y_pred: Tensor, y_true: Tensor) -> Tensor:
        """`y_pred` `[N, 1 or 2, …]` probabilities with two or three spatial axes, `y_true` of its shape or `[N, 1, …]`."""
        if y_pred.dim() not in (4, 5):
            raise ValueError(f"input shape must be 4 or 5, but got {y_pred.shape}")
        y_true, single = readable(y_true), y_pred.shape[1] == 1
        if single and self.to_onehot_y:
            warnings.warn("single channel prediction, `to_onehot_y=True` ignored.", stacklevel=2)
        encoded = self.to_onehot_y and not single
        if not encoded and not (single and y_true.shape[1] == 1) and y_true.shape != y_pred.shape:
            raise ValueError(f"ground truth has different shape ({y_true.shape}) from input ({y_pred.shape})")
        if single:
            y_pred = torch.cat([1 - y_pred, y_pred], 1)
        if encoded:
            target = _labels(y_true, y_pred)
        elif y_true.shape[1] == 1:
            target = torch.cat([1 - y_true, y_true], 1)
        else:
            target = y_true
        if looks(target.max() > self.num_classes - 1):
            raise ValueError(f"Invalid class index found. Maximum class should be {self.num_classes - 1}")
        epsilon, gamma = 1e-7, self.gamma
        # The slope ends where the probability is clamped.
        y_pred = y_pred.clamp(epsilon, 1.0 - epsilon)
        target = target if encoded else dense(target)
        s = sums(f"dice + ce + focal(gamma={gamma}, form=categorical)", "none", y_pred, target)
        index = (s.i + epsilon) / (s.i + self.delta * (s.g - s.i) + (1 - self.delta) * (s.p - s.i) + epsilon)
        tversky = torch.stack([1 - index[:, 0], (1 - index[:, 1]) ** (1 - gamma)], -1).mean()
        # With gamma 0 the two are one.
        entropy, focused = s.x[0], s.x[-1]
        focal = ((1 - self.delta) * focused[:, 0] + self.delta * entropy[:, 1]).sum() / s.n[:, 0].sum()
        if not self.focal_sum:
            focal = focal / 2
        return result(self.weight * focal + (1 - self.weight) * tversky, y_pred)


Dice = DiceLoss
dice_ce = DiceCELoss
dice_focal = DiceFocalLoss
generalized_dice = GeneralizedDiceLoss
generalized_dice_focal = GeneralizedDiceFocalLoss
generalized_wasserstein_dice = GeneralizedWassersteinDiceLoss

#: Segmentation losses of MONAI that segfuse lacks.
MISSING = (
    "MaskedLoss",
    "NACLLoss",
    "SSIMLoss",
    "SoftDiceclDiceLoss",
    "SoftclDiceLoss",
)
for _name in MISSING:
    globals()[_name] = missing("MONAI", _name)
