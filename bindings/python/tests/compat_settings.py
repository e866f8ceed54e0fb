"""Settings of the losses of MONAI, nnU-Net, smp and kornia, drawn at random: what `segfuse.compat` is compared on."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Callable, Iterator, Optional

import torch
from torch import Tensor

#: Bounds on a difference, by the largest entry: where the original computes in the type of its input, and where it goes through
#: float32 whatever that is.
DOUBLE, SINGLE = 1e-9, 3e-6


@dataclass
class Setting:
    """A loss with its arguments, and what it is called with. Tensors among the arguments are of float64."""

    loss: str
    options: dict[str, Any]
    prediction: Tensor
    others: tuple[Any, ...]
    tolerance: float = DOUBLE
    #: Where it is a function: the options go with the call.
    function: bool = False

    def __str__(self) -> str:
        options = ", ".join(f"{key}={_shown(value)}" for key, value in self.options.items())
        others = ", ".join("…" if not isinstance(x, Tensor) else str(tuple(x.shape)) for x in self.others)
        return f"{self.loss}({options}) on {tuple(self.prediction.shape)}, {others}"

    def run(self, library: Any, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Value and gradient, both float64."""
        options = {key: _fresh(value, dtype) for key, value in self.options.items()}
        if "dice_class" in options:
            options["dice_class"] = getattr(library, options["dice_class"])
        x = self.prediction.to(dtype, copy=True).requires_grad_()
        others = tuple(_fresh(y, dtype) for y in self.others)
        made = getattr(library, self.loss)
        value = made(x, *others, **options) if self.function else made(**options)(x, *others)
        factors = torch.linspace(0.5, 1.5, value.numel(), dtype=torch.float64).reshape(value.shape)
        (value.double() * factors).sum().backward()
        return value.detach().double(), x.grad.double()


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return str([round(x, 3) for x in value.flatten().tolist()])
    return getattr(value, "__name__", None) or repr(value)


def _fresh(value: Any, dtype: torch.dtype) -> Any:
    """A copy, since some originals change their arguments."""
    if isinstance(value, Tensor):
        return value.to(dtype, copy=True) if value.is_floating_point() else value.clone()
    if isinstance(value, dict):
        return {key: _fresh(x, dtype) for key, x in value.items()}
    return value


class Draw:
    """Random numbers that are the same on every machine."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def one(self, *values: Any) -> Any:
        return self.random.choice(values)

    def flag(self, chance: float = 0.5) -> bool:
        return self.random.random() < chance

    def number(self, low: float, high: float) -> float:
        return round(self.random.uniform(low, high), 3)

    def weights(self, count: int) -> Tensor:
        return torch.tensor([self.number(0.2, 3.0) for _ in range(count)], dtype=torch.float64)

    def values(self, shape: tuple[int, ...], low: float, high: float) -> Tensor:
        count = 1
        for extent in shape:
            count *= extent
        return torch.tensor(
            [self.random.uniform(low, high) for _ in range(count)], dtype=torch.float64
        ).reshape(shape)

    def labels(self, shape: tuple[int, ...], classes: int) -> Tensor:
        """Labels, of which one class may be absent."""
        there = list(range(classes))
        if classes > 2 and self.flag(0.3):
            there.remove(self.one(*there))
        count = 1
        for extent in shape:
            count *= extent
        return torch.tensor([self.one(*there) for _ in range(count)]).reshape(shape)

    def spatial(self, dimensions: Optional[int] = None) -> tuple[int, ...]:
        return tuple(self.one(3, 4, 5) for _ in range(dimensions or self.one(1, 2, 3)))


def one_hot(labels: Tensor, classes: int) -> Tensor:
    return torch.nn.functional.one_hot(labels, classes).movedim(-1, 1).double()


def _monai_inputs(draw: Draw, options: dict[str, Any], soft: bool = False, classes: Optional[int] = None) -> tuple:
    """A prediction that suits the activation, a target that suits the encoding."""
    samples, space = draw.one(1, 2, 3), draw.spatial()
    classes = classes or draw.one(1, 2, 3, 4)
    activated = options.get("sigmoid") or (options.get("softmax") and classes > 1) or options.get("other_act")
    low, high = (-3.0, 3.0) if activated else (0.02, 0.98)
    prediction = draw.values((samples, classes, *space), low, high)
    labels = draw.labels((samples, *space), max(classes, 2))
    if options.get("to_onehot_y") and classes > 1:
        target = labels.unsqueeze(1)
        if draw.flag(0.3):
            target = target.double()
    elif soft:
        target = draw.values((samples, classes, *space), 0.0, 1.0)
    elif classes == 1:
        target = labels.unsqueeze(1).double()
    else:
        target = one_hot(labels, classes)
    return prediction, target


def _monai_activation(draw: Draw) -> dict[str, Any]:
    return draw.one({}, {"sigmoid": True}, {"softmax": True}, {"softmax": True}, {"other_act": torch.sigmoid})


def _some(draw: Draw, **options: Callable[[], Any]) -> dict[str, Any]:
    """Each option with an even chance; the others keep their defaults."""
    return {key: value() for key, value in options.items() if draw.flag()}


def _ignore(draw: Draw, options: dict[str, Any], prediction: Tensor, target: Tensor) -> Tensor:
    """An index to ignore, and some voxels that have it."""
    classes = prediction.shape[1]
    index = draw.one(-1, 255, 0, 1)
    options["ignore_index"] = index
    outside = not 0 <= index < max(classes, 2)
    chosen = draw.values((target.shape[0], 1, *target.shape[2:]), 0.0, 1.0) < 0.2
    if not outside:
        return target
    if target.shape[1] == 1:
        return torch.where(chosen, torch.full_like(target, index), target)
    return target * ~chosen


def _monai_region(draw: Draw, loss: str) -> Setting:
    options = {
        **_monai_activation(draw),
        **_some(
            draw,
            include_background=lambda: False,
            to_onehot_y=lambda: True,
            reduction=lambda: draw.one("sum", "none"),
            smooth_nr=lambda: draw.one(0.0, 1e-3, 1.0),
            smooth_dr=lambda: draw.one(1e-6, 1e-3, 2.0),
            batch=lambda: True,
        ),
    }
    soft, tolerance = False, DOUBLE
    if loss in ("DiceLoss", "MaskedDiceLoss"):
        options |= _some(draw, squared_pred=lambda: True, jaccard=lambda: True, soft_label=lambda: True)
        soft = bool(options.get("soft_label"))
    elif loss == "TverskyLoss":
        options |= _some(
            draw, alpha=lambda: draw.number(0.1, 1.0), beta=lambda: draw.number(0.1, 1.0), soft_label=lambda: True
        )
        soft = bool(options.get("soft_label"))
    elif loss == "GeneralizedDiceLoss":
        options |= _some(draw, w_type=lambda: draw.one("simple", "uniform"), soft_label=lambda: True)
        soft, tolerance = bool(options.get("soft_label")), SINGLE
    elif loss == "MCCLoss" and "smooth_nr" in options:
        options["smooth_nr"] = draw.one(0.0, 1e-3)
    if options.get("to_onehot_y") and (soft or options.get("squared_pred")):
        # The norms of a target that MONAI encodes are float32.
        tolerance = SINGLE
    prediction, target = _monai_inputs(draw, options, soft)
    classes = prediction.shape[1]
    counted = classes - (not options.get("include_background", True) and classes > 1)
    if loss in ("DiceLoss", "MaskedDiceLoss") and draw.flag(0.4):
        options["weight"] = draw.one(draw.number(0.5, 2.0), draw.weights(counted))
    others: tuple[Any, ...] = (target,)
    if loss in ("DiceLoss", "TverskyLoss") and draw.flag(0.4):
        if target.shape == prediction.shape and classes > 1 and draw.flag():
            # One-hot with label smoothing, as far as it was one-hot.
            target = 0.9 * target + 0.1 / classes
        others = (_ignore(draw, options, prediction, target),)
    elif loss == "MaskedDiceLoss":
        mask = draw.values((draw.one(1, prediction.shape[0]), 1, *prediction.shape[2:]), 0.0, 1.0)
        others = (target, draw.one((mask < 0.7).double(), mask < 0.7, mask))
    return Setting(loss, options, prediction, others, tolerance=tolerance)


def _monai_focal_options(draw: Draw) -> dict[str, Any]:
    return _some(
        draw,
        include_background=lambda: False,
        to_onehot_y=lambda: True,
        gamma=lambda: draw.one(0.0, 0.5, 1.0, 3.0),
        reduction=lambda: "sum",
    )


def _monai_focal(draw: Draw, loss: str) -> Setting:
    options = _monai_focal_options(draw) | _some(draw, use_softmax=lambda: True)
    prediction, target = _monai_inputs(draw, {**options, "sigmoid": True})
    classes = prediction.shape[1]
    counted = classes - (not options.get("include_background", True) and classes > 1)
    if options.get("use_softmax") and counted == 1 and options.get("gamma") == 0.5:
        # The softmax of one class is 1, where MONAI's gradient is NaN for gamma below 1; ours is 0.
        options["gamma"] = 1.5
    if draw.flag():
        options["alpha"] = draw.one(draw.number(0.1, 0.9), draw.weights(counted))
    if draw.flag(0.4):
        options["weight"] = draw.weights(counted) if counted > 1 and draw.flag() else draw.number(0.5, 2.0)
    if draw.flag(0.4):
        target = _ignore(draw, options, prediction, target)
    return Setting(loss, options, prediction, (target,), tolerance=SINGLE)


def _monai_dice_ce(draw: Draw, loss: str) -> Setting:
    classes = draw.one(1, 2, 3, 4)
    options = {
        **draw.one({"sigmoid": True}, {"softmax": True}, {"softmax": True}, {"other_act": torch.sigmoid}),
        **_some(
            draw,
            include_background=lambda: False,
            to_onehot_y=lambda: True,
            squared_pred=lambda: True,
            jaccard=lambda: True,
            reduction=lambda: "sum",
            smooth_nr=lambda: draw.one(0.0, 1.0),
            smooth_dr=lambda: draw.one(1e-6, 1.0),
            batch=lambda: True,
            lambda_dice=lambda: draw.number(0.0, 2.0),
            lambda_ce=lambda: draw.number(0.0, 2.0),
            label_smoothing=lambda: draw.one(0.05, 0.2),
        ),
    }
    prediction, target = _monai_inputs(draw, {**options, "sigmoid": True}, classes=classes)
    if draw.flag(0.4):
        options["weight"] = draw.weights(classes)
    tolerance = SINGLE if options.get("to_onehot_y") and options.get("squared_pred") else DOUBLE
    return Setting(loss, options, prediction, (target,), tolerance=tolerance)


def _monai_with_focal(draw: Draw, loss: str) -> Setting:
    options = {
        **draw.one({"sigmoid": True}, {"softmax": True}, {"other_act": torch.sigmoid}),
        **_monai_focal_options(draw),
        **_some(draw, batch=lambda: True, lambda_focal=lambda: draw.number(0.0, 2.0)),
    }
    if loss == "DiceFocalLoss":
        options |= _some(
            draw,
            squared_pred=lambda: True,
            jaccard=lambda: True,
            alpha=lambda: draw.number(0.1, 0.9),
            lambda_dice=lambda: draw.number(0.0, 2.0),
        )
    else:
        options |= _some(
            draw, w_type=lambda: draw.one("simple", "uniform"), lambda_gdl=lambda: draw.number(0.0, 2.0)
        )
    prediction, target = _monai_inputs(draw, {**options, "sigmoid": True})
    counted = prediction.shape[1] - (not options.get("include_background", True) and prediction.shape[1] > 1)
    if draw.flag(0.3):
        options["weight"] = draw.weights(counted) if counted > 1 else draw.number(0.5, 2.0)
    return Setting(loss, options, prediction, (target,), tolerance=SINGLE)


def _monai_wasserstein(draw: Draw, loss: str) -> Setting:
    classes, samples, space = draw.one(2, 3, 4), draw.one(1, 2), draw.spatial()
    distances = draw.values((classes, classes), 0.1, 2.0)
    options = {"dist_matrix": (distances + distances.T).fill_diagonal_(0.0)}
    options |= _some(
        draw,
        weighting_mode=lambda: "GDL",
        reduction=lambda: draw.one("sum", "none"),
        smooth_nr=lambda: draw.one(0.0, 1.0),
        smooth_dr=lambda: draw.one(1e-6, 1.0),
    )
    target = draw.labels((samples, *space), classes)
    prediction = draw.values((samples, classes, *space), -3.0, 3.0)
    return Setting(loss, options, prediction, (draw.one(target, target.unsqueeze(1)),), tolerance=SINGLE)


def _monai_unified(draw: Draw, loss: str) -> Setting:
    options = _some(
        draw,
        to_onehot_y=lambda: True,
        weight=lambda: draw.number(0.0, 1.0),
        gamma=lambda: draw.one(0.0, 0.1, 0.3, 0.7),
        delta=lambda: draw.number(0.3, 0.9),
        reduction=lambda: draw.one("sum", "none"),
    )
    classes, samples, space = draw.one(1, 2), draw.one(1, 2), draw.spatial(draw.one(2, 3))
    prediction = draw.values((samples, classes, *space), 0.05, 0.95)
    labels = draw.labels((samples, *space), 2)
    if classes == 1 or options.get("to_onehot_y"):
        target = labels.unsqueeze(1) if classes > 1 else labels.unsqueeze(1).double()
    else:
        target = one_hot(labels, 2)
    return Setting(loss, options, prediction, (target,))


def _monai_distance(draw: Draw, loss: str) -> Setting:
    options = {
        **_monai_activation(draw),
        **_some(
            draw,
            include_background=lambda: loss != "BoundaryLoss",
            to_onehot_y=lambda: True,
            reduction=lambda: draw.one("sum", "none"),
            batch=lambda: True,
        ),
    }
    if loss != "BoundaryLoss":
        options |= _some(draw, alpha=lambda: draw.one(0.5, 1.0, 3.0))
    while True:
        prediction, target = _monai_inputs(draw, options)
        if prediction.dim() > 3:
            return Setting(loss, options, prediction, (target,), tolerance=SINGLE)


def monai() -> Iterator[Setting]:
    """Of MONAI."""
    makers = {
        "DiceLoss": (_monai_region, 150),
        "MaskedDiceLoss": (_monai_region, 60),
        "TverskyLoss": (_monai_region, 70),
        "GeneralizedDiceLoss": (_monai_region, 60),
        "MCCLoss": (_monai_region, 40),
        "GeneralizedWassersteinDiceLoss": (_monai_wasserstein, 30),
        "FocalLoss": (_monai_focal, 100),
        "DiceCELoss": (_monai_dice_ce, 100),
        "DiceFocalLoss": (_monai_with_focal, 40),
        "GeneralizedDiceFocalLoss": (_monai_with_focal, 40),
        "AsymmetricUnifiedFocalLoss": (_monai_unified, 30),
        "BoundaryLoss": (_monai_distance, 30),
        "HausdorffDTLoss": (_monai_distance, 40),
        "LogHausdorffDTLoss": (_monai_distance, 20),
    }
    yield from _all(makers)


def _all(makers: dict[str, tuple[Callable[[Draw, str], Setting], int]]) -> Iterator[Setting]:
    for number, (loss, (maker, count)) in enumerate(makers.items()):
        draw = Draw(1000 + number)
        for _ in range(count):
            yield maker(draw, loss)


def _nnunet_dice_options(draw: Draw, clip: bool) -> dict[str, Any]:
    options = _some(
        draw,
        batch_dice=lambda: True,
        do_bg=lambda: False,
        smooth=lambda: draw.one(0.0, 1e-5, 0.5),
    )
    options["ddp"] = False
    return options | (_some(draw, clip_tp=lambda: draw.one(0.5, 4.0)) if clip else {})


def _nnunet_target(draw: Draw, labels: Tensor, classes: int) -> Tensor:
    return draw.one(labels, labels.unsqueeze(1), labels.unsqueeze(1).double(), one_hot(labels, classes))


def _nnunet_dice(draw: Draw, loss: str) -> Setting:
    import nnunetv2.utilities.helpers as helpers

    nonlinearity = draw.one(None, helpers.softmax_helper_dim1, helpers.softmax_helper_dim1, torch.sigmoid)
    options = {"apply_nonlin": nonlinearity, **_nnunet_dice_options(draw, loss == "SoftDiceLoss")}
    classes, samples, space = draw.one(2, 3, 4), draw.one(1, 2, 3), draw.spatial(draw.one(2, 3))
    low, high = (0.02, 0.98) if nonlinearity is None else (-3.0, 3.0)
    prediction = draw.values((samples, classes, *space), low, high)
    target = _nnunet_target(draw, draw.labels((samples, *space), classes), classes)
    others: tuple[Any, ...] = (target,)
    if draw.flag():
        mask = draw.values((samples, 1, *space), 0.0, 1.0)
        others = (target, draw.one(mask < 0.7, (mask < 0.7).double(), (mask < 0.7).long(), mask))
    return Setting(loss, options, prediction, others, tolerance=SINGLE)


def _nnunet_ce(draw: Draw, loss: str) -> Setting:
    classes, samples, space = draw.one(2, 3, 4), draw.one(1, 2, 3), draw.spatial()
    options = _some(
        draw,
        weight=lambda: draw.weights(classes),
        reduction=lambda: "sum",
        label_smoothing=lambda: draw.one(0.1, 0.3),
        ignore_index=lambda: draw.one(0, 1, 255),
    )
    labels = draw.labels((samples, *space), classes)
    if options.get("ignore_index") == 255:
        labels = torch.where(draw.values(labels.shape, 0.0, 1.0) < 0.3, 255, labels)
    labels = draw.one(labels, labels.double(), labels.unsqueeze(1), labels.unsqueeze(1).double())
    return Setting(loss, options, draw.values((samples, classes, *space), -3.0, 3.0), (labels,))


def _nnunet_dice_ce(draw: Draw, loss: str) -> Setting:
    classes, samples, space = draw.one(2, 3, 4), draw.one(1, 2, 3), draw.spatial(draw.one(2, 3))
    efficient = draw.flag()
    options: dict[str, Any] = {
        "soft_dice_kwargs": _nnunet_dice_options(draw, not efficient),
        "ce_kwargs": _some(draw, weight=lambda: draw.weights(classes), label_smoothing=lambda: 0.1),
        **_some(draw, weight_ce=lambda: draw.number(0.0, 2.0), weight_dice=lambda: draw.one(0, 0.5, 2)),
    }
    if efficient:
        options["dice_class"] = "MemoryEfficientSoftDiceLoss"
    labels = draw.labels((samples, 1, *space), classes)
    if draw.flag():
        options["ignore_label"] = classes
        share = draw.one(0.3, 0.3, 2.0)
        labels = torch.where(draw.values(labels.shape, 0.0, 1.0) < share, classes, labels)
        if share > 1.0:
            # Where everything is ignored, a smoothing of 0 divides 0 by the clip.
            options["soft_dice_kwargs"]["smooth"] = 1.0
            options.pop("weight_dice", None)
    elif draw.flag(0.2):
        labels = one_hot(labels.squeeze(1), classes)
    if draw.flag():
        labels = labels.double()
    prediction = draw.values((samples, classes, *space), -3.0, 3.0)
    return Setting(loss, options, prediction, (labels,), tolerance=SINGLE)


def _nnunet_dice_bce(draw: Draw, loss: str) -> Setting:
    classes, samples, space = draw.one(1, 2, 3), draw.one(1, 2, 3), draw.spatial(draw.one(2, 3))
    ignore = draw.flag()
    bce = {"reduction": "sum"} if not ignore and draw.flag(0.3) else {}
    if draw.flag(0.4):
        per_channel = draw.weights(classes).reshape(classes, *[1] * len(space))
        bce["pos_weight"] = draw.one(per_channel, per_channel.unsqueeze(0), draw.weights(1), draw.weights(1).squeeze())
    options: dict[str, Any] = {
        "bce_kwargs": bce,
        "soft_dice_kwargs": _nnunet_dice_options(draw, False),
        "use_ignore_label": ignore,
        **_some(draw, weight_ce=lambda: draw.number(0.1, 2.0), weight_dice=lambda: draw.number(0.1, 2.0)),
    }
    if classes == 1:
        options["soft_dice_kwargs"].pop("do_bg", None)
    shape = (samples, classes + ignore, *space)
    target = (draw.values(shape, 0.0, 1.0) < 0.4).double()
    prediction = draw.values((samples, classes, *space), -3.0, 3.0)
    return Setting(loss, options, prediction, (target,), tolerance=SINGLE)


def nnunet() -> Iterator[Setting]:
    """Of nnU-Net."""
    makers = {
        "SoftDiceLoss": (_nnunet_dice, 130),
        "MemoryEfficientSoftDiceLoss": (_nnunet_dice, 110),
        "RobustCrossEntropyLoss": (_nnunet_ce, 90),
        "DC_and_CE_loss": (_nnunet_dice_ce, 120),
        "DC_and_BCE_loss": (_nnunet_dice_bce, 80),
    }
    yield from _all(makers)


def _smp_inputs(draw: Draw, mode: str, options: dict[str, Any], soft: bool) -> tuple[Tensor, Tensor]:
    samples, space = draw.one(1, 2, 3), draw.spatial(draw.one(1, 2))
    classes = 1 if mode == "binary" else draw.one(2, 3, 4)
    logits = options.get("from_logits", True)
    prediction = draw.values((samples, classes, *space), *((-3.0, 3.0) if logits else (0.05, 0.95)))
    if mode == "multiclass":
        target = draw.labels((samples, *space), classes)
    elif soft:
        target = draw.values(prediction.shape, 0.0, 1.0)
    else:
        target = (draw.values(prediction.shape, 0.0, 1.0) < 0.4).double()
        if draw.flag(0.3):
            target = target.long()
    if draw.flag(0.4):
        index = options["ignore_index"] = draw.one(-1, 255) if mode == "multiclass" else -1
        if mode == "multiclass" and draw.flag(0.2):
            options["ignore_index"] = 0
        else:
            target = torch.where(draw.values(target.shape, 0.0, 1.0) < 0.25, torch.full_like(target, index), target)
    return prediction, target


def _smp_region(draw: Draw, loss: str) -> Setting:
    mode = draw.one("binary", "multiclass", "multilabel")
    options: dict[str, Any] = {"mode": mode}
    options |= _some(
        draw,
        log_loss=lambda: True,
        from_logits=lambda: False,
        smooth=lambda: draw.one(1e-3, 1.0),
        eps=lambda: draw.one(1e-6, 1e-3),
    )
    if loss == "TverskyLoss":
        options |= _some(
            draw,
            alpha=lambda: draw.number(0.1, 1.0),
            beta=lambda: draw.number(0.1, 1.0),
            gamma=lambda: draw.one(0.75, 1.5, 2.0),
        )
    prediction, target = _smp_inputs(draw, mode, options, draw.flag(0.4))
    classes = prediction.shape[1]
    if mode != "binary":
        if draw.flag(0.3):
            options["classes"] = sorted(draw.random.sample(range(classes), draw.one(1, 2)))
        if draw.flag(0.3):
            options["class_weights"] = draw.weights(classes).tolist()
    return Setting(loss, options, prediction, (target,), tolerance=SINGLE)


def _smp_focal(draw: Draw, loss: str) -> Setting:
    mode = draw.one("binary", "multiclass", "multilabel")
    options: dict[str, Any] = {"mode": mode}
    options |= _some(
        draw,
        alpha=lambda: draw.number(0.1, 0.9),
        gamma=lambda: draw.one(0.0, 1.0, 1.5, 3.0),
        from_logits=lambda: False,
        reduction=lambda: "sum",
    )
    prediction, target = _smp_inputs(draw, mode, options, False)
    if mode == "multilabel" and "ignore_index" in options:
        # smp selects by a mask of all channels, which does not fit one channel.
        target = target.clamp(min=0)
        del options["ignore_index"]
    if mode != "binary" and draw.flag(0.3):
        options["class_weights"] = draw.weights(prediction.shape[1]).tolist()
    return Setting(loss, options, prediction, (target,), tolerance=SINGLE)


def _smp_mcc(draw: Draw, loss: str) -> Setting:
    samples, space = draw.one(1, 2, 3), draw.spatial(2)
    shape = draw.one((samples, *space), (samples, 1, *space))
    options = _some(draw, eps=lambda: draw.one(1e-7, 1e-2, 1.0))
    target = (draw.values(shape, 0.0, 1.0) < 0.4).double()
    return Setting(loss, options, draw.values(shape, 0.02, 0.98), (draw.one(target, target.long()),))


def _smp_bce(draw: Draw, loss: str) -> Setting:
    samples, classes, space = draw.one(1, 2, 3), draw.one(1, 2, 3), draw.spatial(2)
    shape = (samples, classes, *space)
    options = _some(
        draw,
        reduction=lambda: "sum",
        smooth_factor=lambda: draw.one(0.05, 0.3),
        weight=lambda: draw.weights(classes).reshape(classes, 1, 1),
        pos_weight=lambda: draw.one(draw.weights(1), draw.weights(classes).reshape(classes, 1, 1)),
        ignore_index=lambda: draw.one(None, -1),
    )
    target = (draw.values(shape, 0.0, 1.0) < 0.4).double()
    index = options.get("ignore_index", -100)
    if index is not None and draw.flag():
        target = torch.where(draw.values(shape, 0.0, 1.0) < 0.25, float(index), target)
    return Setting(loss, options, draw.values(shape, -3.0, 3.0), (target,))


def _smp_ce(draw: Draw, loss: str) -> Setting:
    samples, classes, space = draw.one(1, 2, 3), draw.one(2, 3, 4), draw.spatial()
    options: dict[str, Any] = {"smooth_factor": draw.one(0.0, 0.1, 0.3)}
    options |= _some(draw, reduction=lambda: "sum", ignore_index=lambda: draw.one(None, 0, 255))
    target = draw.labels((samples, *space), classes)
    index = options.get("ignore_index", -100)
    if index not in (None, 0) and draw.flag():
        target = torch.where(draw.values(target.shape, 0.0, 1.0) < 0.25, index, target)
    return Setting(loss, options, draw.values((samples, classes, *space), -3.0, 3.0), (target,))


def smp() -> Iterator[Setting]:
    """Of segmentation_models_pytorch."""
    makers = {
        "DiceLoss": (_smp_region, 120),
        "JaccardLoss": (_smp_region, 80),
        "TverskyLoss": (_smp_region, 90),
        "FocalLoss": (_smp_focal, 100),
        "MCCLoss": (_smp_mcc, 30),
        "SoftBCEWithLogitsLoss": (_smp_bce, 70),
        "SoftCrossEntropyLoss": (_smp_ce, 50),
    }
    yield from _all(makers)


def _kornia_labels(draw: Draw, options: dict[str, Any], shape: tuple[int, ...], classes: int) -> Tensor:
    options |= _some(draw, ignore_index=lambda: draw.one(None, 0, 255))
    target = draw.labels(shape, classes)
    index = options.get("ignore_index", -100)
    if index is not None and index != 0 and draw.flag():
        target = torch.where(draw.values(shape, 0.0, 1.0) < 0.25, index, target)
    return target


def _kornia_region(draw: Draw, loss: str) -> Setting:
    samples, classes, space = draw.one(1, 2, 3), draw.one(2, 3, 4), draw.spatial(2)
    options = _some(draw, eps=lambda: draw.one(1e-6, 1e-3, 0.5))
    if loss.lower().startswith("dice"):
        options |= _some(draw, average=lambda: "macro", weight=lambda: draw.weights(classes))
    else:
        options |= {"alpha": draw.number(0.1, 1.0), "beta": draw.number(0.1, 1.0)}
    target = _kornia_labels(draw, options, (samples, *space), classes)
    prediction = draw.values((samples, classes, *space), -3.0, 3.0)
    return Setting(loss, options, prediction, (target,), function=loss.islower())


def _kornia_focal(draw: Draw, loss: str) -> Setting:
    samples, classes, space = draw.one(1, 2, 3), draw.one(2, 3, 4), draw.spatial()
    options: dict[str, Any] = {"alpha": draw.one(None, draw.number(0.1, 0.9)), "reduction": draw.one("mean", "sum")}
    options |= _some(draw, gamma=lambda: draw.one(0.0, 0.5, 3.0), weight=lambda: draw.weights(classes))
    target = _kornia_labels(draw, options, (samples, *space), classes)
    prediction = draw.values((samples, classes, *space), -3.0, 3.0)
    return Setting(loss, options, prediction, (target,), function=loss.islower())


def _kornia_binary(draw: Draw, loss: str) -> Setting:
    samples, classes, space = draw.one(1, 2, 3), draw.one(1, 2, 3), draw.spatial()
    shape = (samples, classes, *space)
    options: dict[str, Any] = {"alpha": draw.one(None, draw.number(0.1, 0.9)), "reduction": draw.one("mean", "sum")}
    options |= _some(
        draw,
        gamma=lambda: draw.one(0.0, 0.5, 3.0),
        weight=lambda: draw.weights(classes),
        pos_weight=lambda: draw.weights(classes),
        ignore_index=lambda: draw.one(None, -1),
    )
    target = draw.one(
        draw.values(shape, 0.0, 1.0), (draw.values(shape, 0.0, 1.0) < 0.4).double(), draw.labels(shape, 2)
    )
    index = options.get("ignore_index", -100)
    if index is not None and draw.flag():
        chosen = draw.values(shape, 0.0, 1.0) < 0.25
        target = torch.where(chosen, torch.full_like(target, index), target)
    return Setting(loss, options, draw.values(shape, -3.0, 3.0), (target,), function=loss.islower())


def _kornia_erosion(draw: Draw, loss: str) -> Setting:
    """Mistakes side by side: else nothing is left to erode."""
    samples, classes, space = draw.one(1, 2), draw.one(1, 2, 3), draw.spatial(3 if loss.endswith("3D") else 2)
    options = _some(
        draw,
        alpha=lambda: draw.one(0.0, 1.0, 3.5),
        k=lambda: draw.one(1, 2, 5, 20),
        reduction=lambda: draw.one("mean", "sum"),
    )
    target = draw.labels((samples, *space), classes) if classes > 1 else torch.zeros((samples, *space), dtype=torch.int64)
    wrong = 1.0 - one_hot(target, classes) if classes > 1 else torch.zeros((samples, 1, *space), dtype=torch.float64)
    noise = draw.values((samples, classes, *space), 0.01, 0.45)
    right = draw.values((samples, classes, *space), 0.0, 1.0) < 0.1
    # Numbers of single precision: what an erosion leaves may hang on the last bit of one.
    prediction = (torch.where(right, 1.0 - wrong, wrong) * 0.54 + noise).float().double()
    return Setting(loss, options, prediction, (target.unsqueeze(1),))


def kornia() -> Iterator[Setting]:
    """Of kornia."""
    makers = {
        "DiceLoss": (_kornia_region, 100),
        "dice_loss": (_kornia_region, 50),
        "TverskyLoss": (_kornia_region, 80),
        "tversky_loss": (_kornia_region, 40),
        "FocalLoss": (_kornia_focal, 100),
        "focal_loss": (_kornia_focal, 40),
        "BinaryFocalLossWithLogits": (_kornia_binary, 100),
        "binary_focal_loss_with_logits": (_kornia_binary, 40),
        "HausdorffERLoss": (_kornia_erosion, 60),
        "HausdorffERLoss3D": (_kornia_erosion, 40),
    }
    yield from _all(makers)


LIBRARIES: dict[str, Callable[[], Iterator[Setting]]] = {
    "monai": monai,
    "nnunet": nnunet,
    "smp": smp,
    "kornia": kornia,
}


#: What is refused, and why: library, loss, arguments, reason. The last is part of the message.
REFUSED: list[tuple[str, str, dict[str, Any], str]] = [
    ("monai", "FocalLoss", {"reduction": "none"}, "a value per voxel"),
    ("monai", "DiceFocalLoss", {"reduction": "none"}, "a value per voxel"),
    ("monai", "AsymmetricUnifiedFocalLoss", {"ignore_index": 255}, "leaves such voxels out of the mean"),
    ("nnunet", "RobustCrossEntropyLoss", {"reduction": "none"}, "a value per voxel"),
    ("nnunet", "TopKLoss", {}, "the hardest k per cent"),
    ("nnunet", "DC_and_topk_loss", {"soft_dice_kwargs": {}, "ce_kwargs": {}}, "the hardest k per cent"),
    ("smp", "FocalLoss", {"mode": "binary", "normalized": True}, "no normalized"),
    ("smp", "FocalLoss", {"mode": "binary", "reduced_threshold": 0.5}, "no reduced focal loss"),
    ("smp", "FocalLoss", {"mode": "binary", "reduction": "none"}, "values per voxel"),
    ("smp", "SoftBCEWithLogitsLoss", {"reduction": "none"}, "a value per voxel"),
    ("smp", "SoftCrossEntropyLoss", {"reduction": "none"}, "a value per voxel"),
    ("kornia", "HausdorffERLoss", {"reduction": "none"}, "gives a value per voxel"),
    ("kornia", "HausdorffERLoss3D", {"k": 0}, "from 1 to 100 times"),
    ("kornia", "FocalLoss", {"alpha": 0.5}, "kornia's default, gives a value per voxel"),
    ("kornia", "BinaryFocalLossWithLogits", {"alpha": 0.5}, "kornia's default, gives a value per voxel"),
]


def compare(setting: Setting, ours: Any, theirs: Any) -> Optional[str]:
    """What differs: nothing, or a text. The original in float64, ours in float64 and float32."""
    value, slope = setting.run(theirs, torch.float64)
    for dtype, bound in ((torch.float64, setting.tolerance), (torch.float32, 1e-5)):
        own_value, own_slope = setting.run(ours, dtype)
        for what, expected, got in (("value", value, own_value), ("gradient", slope, own_slope)):
            if expected.shape != got.shape:
                return f"{what} of {dtype}: shape {tuple(got.shape)} for {tuple(expected.shape)}"
            lost = torch.isnan(expected)
            if not torch.equal(lost, torch.isnan(got)):
                return f"{what} of {dtype}: {int(torch.isnan(got).sum())} NaN for {int(lost.sum())}, or elsewhere"
            if lost.all():
                continue
            expected, got = expected[~lost], got[~lost]
            # A loss near 0 is the difference of halves that are not.
            largest = max(float(expected.abs().max()), 1e-3 if what == "gradient" else 0.1)
            difference = float((expected - got).abs().max()) / largest
            if not difference <= bound:
                return f"{what} of {dtype}: {difference:.2e} of {largest:.3g}, bound {bound:g}"
    return None
