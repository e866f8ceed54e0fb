"""Which public library computes the same thing, and under which setting.

`peers(problem, terms, reduction)` yields (call, function, tolerance): the function takes the prediction [N, C, d1, …]
and returns the loss; its value and gradient must agree with ours. The call's text goes into the case's `peers` list.
Where a library is known to differ, there is no peer; README.md lists those places.
"""

import importlib.util
import sys
import types
import warnings
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F

warnings.filterwarnings("ignore", message="single channel prediction")


def import_smp_losses():
    """segmentation_models_pytorch.losses without the package's models, which would need torchvision and timm."""
    name = "segmentation_models_pytorch"
    package = types.ModuleType(name)
    package.__path__ = list(importlib.util.find_spec(name).submodule_search_locations)
    sys.modules[name] = package
    return importlib.import_module(name + ".losses")


import losses  # noqa: E402

import kornia.losses as kornia  # noqa: E402
import monai.losses as monai  # noqa: E402

smp = import_smp_losses()
smp_functional = sys.modules["segmentation_models_pytorch.losses._functional"]

# Relative to the largest magnitude of the compared values. float64 on both sides: only the order of sums differs.
DOUBLE = 1e-11
# MONAI casts the focal input, and the volumes behind the weights of generalised (Wasserstein) Dice, to float32.
FLOAT32 = 2e-6

SENTINEL = 255  # what a library is told to ignore


@dataclass
class View:
    """A case as the libraries want it."""

    problem: object
    reduction: str
    batch: bool
    background: bool
    absent: str
    class_weights: list | None

    def __post_init__(self):
        p = self.problem
        self.N, self.C, self.spatial = p.N, p.C, p.shape[2:]
        self.kept = p.kept()
        self.all_kept = bool(self.kept.all())
        self.g = p.target().reshape(p.shape)
        self.hard = bool(((self.g == 0) | (self.g == 1)).all())
        self.m = p.voxel_weights().reshape(self.N, 1, *self.spatial)
        self.unweighted = p.weights is None
        sums = self.g.flatten(2).sum(2)
        self.present = (sums.sum(0, keepdim=True) if self.batch else sums) != 0
        self.everywhere_present = bool(self.present.all())
        self.first = 0 if self.background or self.C == 1 else 1
        self.channels = self.C - self.first
        self.w = torch.tensor(self.class_weights or [1.0] * self.C, dtype=torch.float64)
        if p.labels is not None:
            labels = p.label_tensor().clone()
            labels[~self.kept] = SENTINEL
            self.labels = labels.reshape(self.N, *self.spatial)
        else:
            self.labels = None

    def activation(self):
        a = self.problem.activation
        return {} if a == "none" else {a: True}

    def probabilities(self, z):
        return {"softmax": partial(torch.softmax, dim=1), "sigmoid": torch.sigmoid, "none": lambda x: x}[
            self.problem.activation
        ](z)

    # a library's own mean or sum where it has ours, else its per-group values and our means

    def own_reduction(self):
        own = self.reduction != "none" and self.class_weights is None and self.absent == "count"
        return self.reduction if own else "none"

    def finish(self, values):
        """Group values [N or 1, C'] to our reduction; a scalar is through."""
        if values.numel() == 1 and values.dim() == 0:
            return values
        values = values.reshape(-1, self.channels)
        w = self.w[self.first :].expand_as(values)
        present = self.present[:, self.first :]
        if self.absent == "skip":
            w = w * present
        if self.absent == "zero":
            values = values * present
        if self.reduction == "sum":
            return (w * values).sum()
        if self.reduction == "mean":
            return (w * values).sum() / w.sum()
        return (w * values).sum(1) / w.sum(1)

    def countable(self):
        """False where a mean of nothing would be 0/0."""
        return self.absent != "skip" or bool(self.present[:, self.first :].any(1).all())


def text(x):
    return "…" if isinstance(x, torch.Tensor) else repr(x)


def arguments(options):
    return ", ".join(f"{k}={text(v)}" for k, v in options.items())


def peers(problem, terms, reduction):
    if len(terms) == 1 and terms[0][0] == 1:
        yield from single(problem, terms[0][1], dict(terms[0][2]), reduction)
    else:
        yield from compound(problem, terms, reduction)


def single(problem, name, parameters, reduction):
    view = View(
        problem,
        reduction,
        parameters.pop("batch", False),
        parameters.pop("background", name not in losses.WITHOUT_BACKGROUND),
        parameters.pop("absent", "count"),
        parameters.pop("class_weights", None) or problem.class_weights,
    )
    if name in PIXEL:
        yield from PIXEL[name](view, **parameters)
    elif name in REGION and view.unweighted and view.countable():
        yield from REGION[name](view, **parameters)


# ---- region losses ---------------------------------------------------------------------------------------------------


def monai_region(view, cls, can_ignore=True, masked=None, tolerance=DOUBLE, then=None, **options):
    """A MONAI loss with one value per sample (or pool) and class; `then` (text, function) follows on each of them."""
    if options.get("soft_label") and "edge" in view.problem.tags:
        return  # MONAI takes P as an L1 norm, whose slope at p = 0 is 0
    options |= view.activation()
    if view.batch:
        options["batch"] = True
    if not view.background:
        options["include_background"] = False
    target, mask = view.g, None
    if not view.all_kept:
        if view.labels is not None and can_ignore:
            options |= {"ignore_index": SENTINEL}
            if view.C > 1:
                options |= {"to_onehot_y": True}
                if options.get("squared_pred") or options.get("soft_label"):
                    tolerance = FLOAT32  # its one-hot target is float32, and so are that target's norms
            target = view.labels[:, None].double() if view.C == 1 else view.labels[:, None]
        elif masked is not None:
            cls, mask = masked, view.kept.reshape(view.N, 1, *view.spatial).double()
        else:
            return
    options["reduction"] = "none" if then else view.own_reduction()
    loss = cls(**options)
    suffix, function = then or ("", lambda f: f)

    def call(z):
        f = loss(z, target) if mask is None else loss(z, target, mask)
        return view.finish(function(f))

    yield f"monai {cls.__name__}({arguments(options)}){suffix}", call, tolerance


monai_dice = partial(monai_region, cls=monai.DiceLoss, masked=monai.MaskedDiceLoss)
monai_tversky = partial(monai_region, cls=monai.TverskyLoss)


def smp_region(view, cls, hard_only=True, **options):
    """smp sums over the batch, and an absent class contributes 0 and counts: batch=true with absent=zero."""
    zeroed = view.absent == "zero" or (view.absent == "count" and view.everywhere_present)
    if not view.batch or not zeroed or view.reduction != "mean" or (hard_only and not view.hard):
        return
    if view.problem.labels is None and not view.all_kept:
        return
    if view.C == 1:
        mode, target = "binary", view.g
        if view.class_weights is not None:
            return
    elif view.problem.activation == "softmax" and view.labels is not None:
        mode, target = "multiclass", view.labels.long()
    elif view.all_kept:
        mode, target = "multilabel", view.g
        if view.problem.activation == "softmax":
            return
    else:
        return
    if not view.all_kept:
        options["ignore_index"] = SENTINEL
        if mode == "binary":
            target = view.labels[:, None]
    if view.problem.activation == "none":
        options["from_logits"] = False
    if view.first == 1:
        options["classes"] = list(range(1, view.C))
    if view.class_weights is not None:
        options["class_weights"] = view.class_weights
    loss = cls(mode, **options)
    yield (
        f"segmentation_models_pytorch {cls.__name__}({mode!r}, {arguments(options)})",
        lambda z: loss(z, target),
        DOUBLE,
    )


def kornia_macro(view, function, **options):
    """kornia leaves absent classes out of a sample's mean: absent=skip per sample, or every class present."""
    usable = view.problem.activation == "softmax" and view.labels is not None and len(view.spatial) == 2
    if not usable or view.batch or view.first == 1 or view.class_weights is not None:
        return
    if not (view.everywhere_present or (view.absent == "skip" and view.reduction == "none")):
        return
    if not view.all_kept:
        options["ignore_index"] = SENTINEL
    per_sample = lambda z: torch.stack(
        [function(z[i : i + 1], view.labels[i : i + 1].long(), **options) for i in range(view.N)]
    ).flatten()
    if view.reduction == "none":
        yield f"kornia {function.__name__}({arguments(options)}), one sample at a time", per_sample, DOUBLE
    elif view.reduction == "mean":
        yield (
            f"kornia {function.__name__}({arguments(options)})",
            lambda z: function(z, view.labels.long(), **options),
            DOUBLE,
        )


def dice(view, smooth_nr=1e-5, smooth_dr=1e-5, squared=False, log=False):
    if not log:
        options = {"squared_pred": True} if squared else {}
        yield from monai_dice(view, smooth_nr=smooth_nr, smooth_dr=smooth_dr, **options)
    if not squared and smooth_nr == smooth_dr:
        options = {"log_loss": True} if log else {}
        yield from smp_region(view, smp.DiceLoss, smooth=smooth_nr / 2, **options)
    if not squared and not log and smooth_nr == 0:
        yield from kornia_macro(view, kornia.dice_loss, average="macro", eps=smooth_dr)


def jaccard(view, smooth=1e-5, squared=False):
    options = {"squared_pred": True} if squared else {}
    yield from monai_dice(view, jaccard=True, smooth_nr=2 * smooth, smooth_dr=2 * smooth, **options)
    if not squared:
        yield from smp_region(view, smp.JaccardLoss, smooth=smooth)


def tversky(view, alpha=0.3, beta=0.7, smooth=1e-5):
    yield from monai_tversky(view, alpha=alpha, beta=beta, smooth_nr=smooth, smooth_dr=smooth)
    yield from smp_region(view, smp.TverskyLoss, alpha=alpha, beta=beta, smooth=smooth)
    if smooth == 0:
        yield from kornia_macro(view, kornia.tversky_loss, alpha=alpha, beta=beta, eps=0.0)


def asymmetric_similarity(view, beta=1.5, smooth=1e-5):
    yield from tversky(view, 1 / (1 + beta**2), beta**2 / (1 + beta**2), smooth)


def focal_tversky(view, alpha=0.3, beta=0.7, smooth=1e-5, gamma=4 / 3):
    if "perfect" in view.problem.tags:
        return  # no floor there: a NaN gradient
    then = (f", to the power 1/{text(gamma)}", lambda f: f ** (1 / gamma))
    if view.kept.flatten(1).any(1).all():
        yield from monai_tversky(view, alpha=alpha, beta=beta, smooth_nr=smooth, smooth_dr=smooth, then=then)
    if view.C == 1:  # smp raises the mean over the classes, so the two agree for one class
        yield from smp_region(view, smp.TverskyLoss, alpha=alpha, beta=beta, smooth=smooth, gamma=1 / gamma)


def log_cosh_dice(view, smooth=1.0):
    if "perfect" not in view.problem.tags:
        then = (", ln cosh of it", lambda f: f.cosh().log())
        yield from monai_dice(view, smooth_nr=smooth, smooth_dr=smooth, then=then)


def mcc(view, smooth=1e-5):
    if "perfect" not in view.problem.tags:  # MONAI sets the gradient to 0 where FP = FN = 0
        yield from monai_region(view, monai.MCCLoss, can_ignore=False, smooth_nr=0.0, smooth_dr=smooth)


def power_jaccard(view, power=2.0, smooth=1e-5):
    if power in (1, 2):
        yield from jaccard(view, smooth, squared=power == 2)


def soft_dice(view, smooth_nr=1e-5, smooth_dr=1e-5, log=False):
    if not log:
        yield from monai_dice(view, soft_label=True, smooth_nr=smooth_nr, smooth_dr=smooth_dr)
    if smooth_nr == smooth_dr:
        options = {"log_loss": True} if log else {}
        yield from smp_region(view, smp.DiceLoss, hard_only=False, smooth=smooth_nr / 2, **options)


def soft_jaccard(view, smooth=1e-5):
    yield from monai_dice(view, soft_label=True, jaccard=True, smooth_nr=2 * smooth, smooth_dr=2 * smooth)
    yield from smp_region(view, smp.JaccardLoss, hard_only=False, smooth=smooth)


def soft_tversky(view, alpha=0.3, beta=0.7, smooth=1e-5):
    yield from monai_tversky(view, soft_label=True, alpha=alpha, beta=beta, smooth_nr=smooth, smooth_dr=smooth)
    yield from smp_region(view, smp.TverskyLoss, hard_only=False, alpha=alpha, beta=beta, smooth=smooth)


def measured(view):
    """MONAI measures distances in planes and volumes, in voxels."""
    return len(view.spatial) in (2, 3) and view.problem.spacing is None


def boundary(view):
    """Only where the map is made, or the caller's is the signed distance that MONAI makes itself."""
    if "signed distance" in view.problem.tags:
        yield from monai_region(view, monai.BoundaryLoss, can_ignore=False)
    elif view.problem.map is None and measured(view):
        yield from monai_region(view, monai.BoundaryLoss, can_ignore=False, tolerance=FLOAT32)


def hausdorff_dt(view, alpha=2.0, one_sided=False, cls=monai.HausdorffDTLoss, then=None):
    if measured(view) and not one_sided:
        options = {"include_background": True} if view.background else {}
        yield from monai_region(view, cls, can_ignore=False, tolerance=FLOAT32, then=then, alpha=alpha, **options)


def log_hausdorff_dt(view, alpha=2.0, one_sided=False):
    """Group by group: MONAI's own mean is taken before the logarithm."""
    yield from hausdorff_dt(view, alpha, one_sided, monai.LogHausdorffDTLoss, ("", lambda f: f))


def hausdorff_erosion(view, alpha=2.0, iterations=10):
    classes = {2: kornia.HausdorffERLoss, 3: kornia.HausdorffERLoss3D}
    if view.labels is None or not view.all_kept or len(view.spatial) not in classes:
        return
    torch.set_default_dtype(torch.float64)  # the type of kornia's weights of a neighbour
    cls = classes[len(view.spatial)]
    loss = cls(alpha, iterations, reduction="none")
    torch.set_default_dtype(torch.float32)

    def call(z):
        p = view.probabilities(z)
        p = torch.cat([1 - p, p], 1) if view.C == 1 else p
        values = loss(p, view.labels[:, None])[-view.channels :, :, 0].flatten(2).mean(2).T
        return view.finish(values.mean(0, keepdim=True) if view.batch else values)

    yield f"kornia {cls.__name__}({alpha}, {iterations}, reduction='none')", call, DOUBLE


def combo(view, alpha=0.5, beta=0.5, smooth=1.0):
    if view.C > 1 or view.reduction != "mean" or view.batch or not view.all_kept or view.absent != "count":
        return
    if view.problem.activation != "sigmoid":
        return
    dice_loss = monai.DiceLoss(sigmoid=True, smooth_nr=smooth, smooth_dr=smooth)
    weight = beta * view.g + (1 - beta) * (1 - view.g) if view.hard else None
    if weight is None:
        return

    def call(z):
        bce = F.binary_cross_entropy_with_logits(z, view.g, weight=weight)
        return alpha * bce - (1 - alpha) * (1 - dice_loss(z, view.g))

    yield "torch binary_cross_entropy_with_logits(weight=…) and monai DiceLoss(sigmoid=True)", call, DOUBLE


def generalized_dice(view, weight="square", smooth=1e-5, penalty=0.0):
    if penalty or view.class_weights is not None or view.absent != "count" or not view.all_kept:
        return
    options = {"w_type": weight, "smooth_nr": smooth, "smooth_dr": smooth, "reduction": view.reduction}
    options |= view.activation() | ({"batch": True} if view.batch else {})
    options |= {} if view.background else {"include_background": False}
    loss = monai.GeneralizedDiceLoss(**options)
    yield (
        f"monai GeneralizedDiceLoss({arguments(options)})",
        lambda z: loss(z, view.g).reshape(() if view.reduction != "none" else (-1,)),
        DOUBLE if weight == "uniform" else FLOAT32,
    )
    kornia_2d = view.problem.activation == "softmax" and view.labels is not None and len(view.spatial) == 2
    if weight == "uniform" and smooth == 0 and kornia_2d and view.background and view.reduction == "mean":
        call = lambda z: kornia.dice_loss(z, view.labels.long(), average="micro", eps=0.0)
        if not view.batch:
            yield "kornia dice_loss(average='micro', eps=0)", call, DOUBLE


def wasserstein_dice(view, matrix=None, mode="default", smooth=1e-5):
    plain = view.background and not view.batch and view.absent == "count" and view.class_weights is None
    if not plain or not view.all_kept or view.labels is None or view.problem.activation != "softmax":
        return
    m = 1 - torch.eye(view.C).double() if matrix is None else torch.tensor(matrix).double()
    if m.max() != 1:
        return  # MONAI rescales the matrix
    options = {"weighting_mode": "GDL" if mode == "gdl" else mode, "smooth_nr": smooth, "smooth_dr": smooth}
    options["reduction"] = view.reduction
    loss = monai.GeneralizedWassersteinDiceLoss(m, **options)
    tolerance = FLOAT32 if mode == "gdl" else DOUBLE
    call = lambda z: loss(z, view.labels)
    yield f"monai GeneralizedWassersteinDiceLoss({arguments(options)})", call, tolerance


REGION = {
    f.__name__: f
    for f in [
        dice, jaccard, tversky, asymmetric_similarity, focal_tversky, log_cosh_dice, mcc, power_jaccard, soft_dice,
        soft_jaccard, soft_tversky, boundary, hausdorff_erosion, hausdorff_dt, log_hausdorff_dt, combo, generalized_dice, wasserstein_dice,
    ]
}  # fmt: skip


# ---- pixel losses ----------------------------------------------------------------------------------------------------


def weighted_mean(view, denominator):
    """A weighted sum of library values over a weighted sum of `denominator`, by our reduction."""
    w = view.w.clone()
    if view.first == 1:
        w[0] = 0
    weight = view.m * w.reshape(1, -1, *[1] * len(view.spatial))

    def finish(values):
        top, bottom = (weight * values), (weight * denominator)
        if view.reduction == "sum":
            return top.sum()
        if view.reduction == "mean":
            return top.sum() / bottom.sum()
        return top.flatten(1).sum(1) / bottom.flatten(1).sum(1)

    usable = view.absent == "count" and bool((weight * denominator).flatten(1).sum(1).gt(0).all())
    return finish, usable


def binary(view, target, **options):
    """torch's binary cross-entropy per voxel, with logits or probabilities."""
    if view.problem.activation == "softmax":
        return
    finish, usable = weighted_mean(view, torch.ones_like(view.g))
    shown = f", {arguments(options)}" if options else ""
    if usable and view.problem.activation == "sigmoid":
        call = lambda z: finish(F.binary_cross_entropy_with_logits(z, target, reduction="none", **options))
        yield f"torch binary_cross_entropy_with_logits(reduction='none'{shown})", call, DOUBLE
    elif usable and not options and not view.problem.tags & {"edge"}:
        call = lambda z: finish(F.binary_cross_entropy(z, target, reduction="none"))
        yield "torch binary_cross_entropy(reduction='none')", call, DOUBLE


def bce(view, smoothing=0.0):
    yield from binary(view, view.g * (1 - smoothing) + smoothing / 2)


def weighted_ce(view, pos_weight=1.0):
    yield from binary(view, view.g, pos_weight=torch.tensor(pos_weight, dtype=torch.float64))


def balanced_ce(view, beta="auto"):
    if beta == "auto":
        positives, count = (view.m * view.g).flatten(2).sum(2), view.m.flatten(2).sum(2)
        if view.batch:
            positives, count = positives.sum(0, keepdim=True), count.sum(0, keepdim=True)
        if not (count > 0).all():
            return
        beta = (1 - positives / count).reshape(-1, view.C, *[1] * len(view.spatial))
    if view.hard:
        yield from binary(view, view.g, weight=(beta * view.g + (1 - beta) * (1 - view.g)))


def torch_ce(view, smoothing=0.0):
    """torch's cross_entropy itself, class weights, smoothing and ignored voxels included."""
    if view.problem.activation != "softmax" or not view.unweighted or view.absent != "count" or view.first == 1:
        return
    if view.reduction == "none" or not view.kept.any():
        return
    weight = None if view.class_weights is None else view.w
    options = {"weight": weight, "label_smoothing": smoothing, "reduction": view.reduction}
    options = {k: v for k, v in options.items() if v not in (None, 0.0)} if weight is None else options
    if view.labels is not None:
        options["ignore_index"] = SENTINEL
        target = view.labels.long()
    elif view.all_kept and weight is None:  # with probability targets torch divides by the voxels, not by the weights
        target = view.g
    else:
        return
    yield f"torch cross_entropy({arguments(options)})", lambda z: F.cross_entropy(z, target, **options), DOUBLE


def ce(view, smoothing=0.0):
    yield from torch_ce(view, smoothing)
    if view.all_kept and view.unweighted and view.class_weights is None and view.first == 0 and view.absent == "count":
        if view.problem.activation == "softmax" and view.labels is not None and view.reduction != "none":
            loss = smp.SoftCrossEntropyLoss(reduction=view.reduction, smooth_factor=smoothing, ignore_index=None)
            yield (
                f"segmentation_models_pytorch SoftCrossEntropyLoss(smooth_factor={text(smoothing)})",
                lambda z: loss(z, view.labels.long()),
                DOUBLE,
            )


def focal(view, gamma=2.0, alpha=None, form="auto"):
    if form != "auto" or "extreme" in view.problem.tags or view.problem.activation == "none":
        return  # max(q, 1e-6) has no counterpart where it bites
    if view.problem.activation == "sigmoid":
        yield from focal_sigmoid(view, gamma, alpha)
    elif view.labels is not None:
        yield from focal_softmax(view, gamma, alpha)


def focal_sigmoid(view, gamma, alpha):
    finish, usable = weighted_mean(view, torch.ones_like(view.g))
    if not usable:
        return
    options = {"gamma": gamma, "alpha": alpha, "reduction": "none"}
    call = lambda z: finish(kornia.binary_focal_loss_with_logits(z, view.g, **options))
    yield f"kornia binary_focal_loss_with_logits({arguments(options)})", call, DOUBLE
    if view.hard:  # MONAI and smp extend the loss to soft targets each in its own way
        loss = monai.FocalLoss(gamma=gamma, alpha=alpha, reduction="none")
        yield f"monai FocalLoss({arguments(options)})", lambda z: finish(loss(z, view.g)), FLOAT32
        call = lambda z: finish(smp_functional.focal_loss_with_logits(z, view.g, **options))
        yield f"segmentation_models_pytorch focal_loss_with_logits({arguments(options)})", call, DOUBLE


def focal_softmax(view, gamma, alpha):
    """MONAI and kornia keep the class axis: zeros but in the labelled class, which our denominator G leaves out."""
    finish, usable = weighted_mean(view, view.g)
    if not usable:
        return
    options = {"gamma": gamma, "alpha": alpha, "reduction": "none"}
    labels = torch.where(view.kept.reshape(view.labels.shape), view.labels, 0).long()
    call = lambda z: finish(kornia.focal_loss(z, labels, **options))
    yield f"kornia focal_loss({arguments(options)})", call, DOUBLE
    loss = monai.FocalLoss(use_softmax=True, gamma=gamma, alpha=alpha, reduction="none")
    call = lambda z: finish(loss(z, view.g))
    yield f"monai FocalLoss(use_softmax=True, {arguments(options)})", call, FLOAT32
    plain = view.all_kept and view.unweighted and view.class_weights is None and view.first == 0
    if alpha is None and plain and view.reduction != "none":
        call = lambda z: smp_functional.softmax_focal_loss_with_logits(z, labels, gamma, view.reduction)
        name = f"softmax_focal_loss_with_logits(gamma={text(gamma)}, reduction={view.reduction!r})"
        yield f"segmentation_models_pytorch {name}", call, DOUBLE


def poly1(view, epsilon=1.0, form="auto"):
    if form != "auto" or view.problem.activation != "softmax" or view.labels is None:
        return
    finish, usable = weighted_mean(view, view.g)
    if usable:
        labels = torch.where(view.labels == SENTINEL, 0, view.labels).long()

        def call(z):
            entropy = F.cross_entropy(z, labels, reduction="none")
            return finish(view.g * (entropy + epsilon * (1 - torch.exp(-entropy)))[:, None])

        yield f"torch cross_entropy(reduction='none') + {text(epsilon)} * (1 - exp(-itself))", call, DOUBLE


def topk_ce(view, threshold, form="auto"):
    """torch's cross_entropy that ignores the easy voxels."""
    if view.problem.activation != "softmax" or view.labels is None or form != "auto" or not view.unweighted:
        return
    if view.class_weights is not None or view.first == 1 or view.absent != "count" or view.reduction == "none":
        return

    def call(z):
        labels = torch.where(view.labels == SENTINEL, 0, view.labels).long()
        p = torch.softmax(z, 1).gather(1, labels[:, None])[:, 0]
        hard = torch.where(p < threshold, view.labels, SENTINEL).long()
        return F.cross_entropy(z, hard, ignore_index=SENTINEL, reduction=view.reduction)

    if call(view.problem.z().reshape(view.problem.shape)).isfinite():
        yield f"torch cross_entropy(ignore_index=the voxels with p >= {text(threshold)})", call, DOUBLE


def distance_ce(view, map="closeness", w0=10.0, sigma=5.0, form="auto"):
    if form != "auto" or view.problem.activation == "none" or view.problem.map is None:
        return
    phi = view.problem.phi().reshape(view.N, -1, *view.spatial)
    if view.problem.activation == "sigmoid":
        finish, usable = weighted_mean(view, torch.ones_like(view.g))
        call = lambda z: finish((1 + phi) * F.binary_cross_entropy_with_logits(z, view.g, reduction="none"))
        if usable:
            yield "torch binary_cross_entropy_with_logits(reduction='none') * (1 + map)", call, DOUBLE
        return
    finish, usable = weighted_mean(view, view.g)
    if usable and view.labels is not None:
        labels = torch.where(view.labels == SENTINEL, 0, view.labels).long()
        call = lambda z: finish((1 + phi) * view.g * F.cross_entropy(z, labels, reduction="none")[:, None])
        yield "torch cross_entropy(reduction='none') * (1 + map)", call, DOUBLE


def unified_focal(view, weight=0.5, delta=0.6, gamma=0.5, symmetric=False, form="auto"):
    """MONAI 1.6.1 averages the focal half over its two channels, so only the halves can be compared, one at a time."""
    plain = not symmetric and form == "auto" and view.unweighted and view.all_kept and view.absent == "count"
    plain = plain and view.class_weights is None and view.background and not view.batch and view.reduction == "mean"
    softmax = view.problem.activation == "softmax" and view.C == 2
    if not plain or not (softmax or view.C == 1) or view.problem.tags & {"edge", "extreme"}:
        return
    two = (lambda p: torch.cat([1 - p, p], 1)) if view.C == 1 else (lambda p: p)
    target = two(view.g)
    if weight == 0:
        loss = monai.unified_focal_loss.AsymmetricFocalTverskyLoss(delta=delta, gamma=gamma)
        call = lambda z: loss(two(view.probabilities(z)), target)
        yield f"monai AsymmetricFocalTverskyLoss(delta={text(delta)}, gamma={text(gamma)})", call, DOUBLE
    if weight == 1:
        loss = monai.unified_focal_loss.AsymmetricFocalLoss(delta=delta, gamma=gamma, reduction="sum")
        voxels = view.kept.sum()
        call = lambda z: loss(two(view.probabilities(z)), target) / voxels
        yield (
            f"monai AsymmetricFocalLoss(delta={text(delta)}, gamma={text(gamma)}, reduction='sum') / voxels",
            call,
            DOUBLE,
        )


PIXEL = {
    "bce": bce, "weighted_ce": weighted_ce, "balanced_ce": balanced_ce, "ce": ce, "focal": focal, "poly1": poly1,
    "topk_ce": topk_ce, "distance_ce": distance_ce, "shape_aware_ce": distance_ce, "unified_focal": unified_focal,
}  # fmt: skip


# ---- sums ------------------------------------------------------------------------------------------------------------


def compound(problem, terms, reduction):
    named = {name: (factor, dict(parameters)) for factor, name, parameters in terms}
    view = View(problem, reduction, False, True, "count", problem.class_weights)
    if not view.unweighted or not view.all_kept or view.class_weights is not None or reduction != "mean":
        return
    if set(named) == {"dice", "ce"} and problem.activation == "softmax" and view.labels is not None:
        (a, options), (b, ce_options) = named["dice"], named["ce"]
        if not ce_options and set(options) <= {"batch", "squared"}:
            squared = options.pop("squared", False)
            loss = monai.DiceCELoss(
                to_onehot_y=True, softmax=True, squared_pred=squared, lambda_dice=a, lambda_ce=b, **options
            )
            yield (
                f"monai DiceCELoss(softmax=True, squared_pred={squared}, lambda_dice={a}, lambda_ce={b})",
                (lambda z: loss(z, view.labels[:, None])),
                FLOAT32 if squared else DOUBLE,
            )
    if set(named) == {"dice", "bce"} and problem.activation == "sigmoid" and view.C == 1:
        (a, options), (b, bce_options) = named["dice"], named["bce"]
        if not options and not bce_options:
            loss = monai.DiceCELoss(sigmoid=True, lambda_dice=a, lambda_ce=b)
            yield f"monai DiceCELoss(sigmoid=True, lambda_dice={a}, lambda_ce={b})", lambda z: loss(z, view.g), DOUBLE
    if set(named) == {"dice", "focal"} and problem.activation == "sigmoid" and view.hard:
        (a, options), (b, focal_options) = named["dice"], named["focal"]
        if not options and set(focal_options) <= {"gamma"}:
            loss = monai.DiceFocalLoss(sigmoid=True, lambda_dice=a, lambda_focal=b, **focal_options)
            call = lambda z: loss(z, view.g)
            yield f"monai DiceFocalLoss(sigmoid=True, lambda_dice={a}, lambda_focal={b})", call, FLOAT32


def agree(function, problem, loss, gradient, tolerance):
    """None, or what differs, relative to the largest magnitude."""
    z = problem.z().reshape(problem.shape).requires_grad_()
    value = function(z)
    value.sum().backward()
    for what, a, b in [("loss", value.detach().flatten(), loss), ("gradient", z.grad.flatten(), gradient)]:
        if a.shape != b.shape:
            return f"{what}: shape {tuple(a.shape)}, ours {tuple(b.shape)}"
        error = (a - b).abs().max().item()
        if not error <= tolerance * max(b.abs().max().item(), 1e-3):
            return f"{what}: differs by {error:.3g}"
    return None
