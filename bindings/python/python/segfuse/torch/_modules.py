"""Losses as modules."""

from __future__ import annotations

import math
import re
from typing import Any, Optional, Sequence, Union

import torch
from torch import Tensor

from .. import _segfuse
from .._errors import DeviceError, InvalidType, InvalidValue
from .._loss import Evaluation, list_losses, settings_of
from .._loss import Loss as ArrayLoss
from . import _ops

#: A head, or several.
Heads = Union[Tensor, Sequence[Tensor]]


class Loss(torch.nn.Module):
    """A segmentation loss of PyTorch tensors, with its gradient by the prediction.

    >>> import torch, segfuse.torch
    >>> loss = segfuse.torch.Loss("dice + ce", ignore_index=255)
    >>> logits = torch.zeros(2, 3, 8, 8, requires_grad=True)
    >>> loss(logits, torch.zeros(2, 8, 8, dtype=torch.long)).backward()
    >>> logits.grad.shape
    torch.Size([2, 3, 8, 8])

    Works under autocast and with a GradScaler, with channels_last tensors (without a copy), in ``torch.compile(fullgraph=True)``
    and under DistributedDataParallel. The loss is float32 whatever the prediction's type, float64 for float64.

    Parameters
    ----------
    spec:
        The objective, e.g. ``"dice + 0.5*focal(gamma=2)"``; :func:`segfuse.list_losses` has the names and their parameters.
    activation:
        ``"softmax"``, ``"sigmoid"`` or ``"none"`` (the prediction is a probability already). By default softmax for more than
        one class and sigmoid for one.
    ignore_index, reduction, class_weights, batch, background, absent, spacing:
        As for :class:`segfuse.Loss`. `class_weights` may be a tensor.
    head_weights:
        The factor of each head, where the prediction is a list of outputs (deep supervision); 1 for each by default.
    process_group:
        Ranks whose samples are one batch: their sums are gathered before the loss is made, so that every rank has the loss of the
        whole. A group, or ``"world"``: the group of all ranks, of the time of the call. All ranks must have the same number of
        samples; on the CPU that is checked.
    sharded:
        What the ranks of `process_group` share out: ``"samples"``, or the ``"voxels"`` of the same samples, for losses that make
        no map of whole samples such as distances.
    averaged_gradients:
        Whether gradients are averaged over the ranks afterwards, as DistributedDataParallel does: the gradient of each rank is then
        multiplied by their number, so that the mean is the gradient of the whole. With False it is not, for engines that sum. With
        reduction ``"none"`` and ranks that share out samples, a rank has the losses of its own samples, and nothing is multiplied.

    Raises
    ------
    InvalidValue
        When the spec string or a setting cannot be read.
    """

    def __init__(
        self,
        spec: str,
        *,
        activation: Optional[str] = None,
        ignore_index: Optional[int] = None,
        reduction: str = "mean",
        class_weights: Union[Sequence[float], Tensor, None] = None,
        batch: bool = False,
        background: bool = True,
        absent: str = "count",
        spacing: Optional[Sequence[float]] = None,
        head_weights: Optional[Sequence[float]] = None,
        process_group: Any = None,
        sharded: str = "samples",
        averaged_gradients: bool = True,
    ) -> None:
        super().__init__()
        if sharded not in ("samples", "voxels"):
            raise InvalidValue(f"sharded must be 'samples' or 'voxels', got {sharded!r}")
        if isinstance(process_group, str) and process_group != "world":
            raise InvalidValue(f"process_group must be a group of torch.distributed or 'world', got {process_group!r}")
        self._settings = settings_of(
            activation=activation,
            ignore_index=ignore_index,
            reduction=reduction,
            class_weights=class_weights,
            batch=batch,
            background=background,
            absent=absent,
            spacing=spacing,
        )
        self._config = _ops.settings(spec, **self._settings)
        self.spec: str = _ops.native(self._config).spec
        self._per_sample = reduction == "none"
        self._head_weights = None if head_weights is None else tuple(float(weight) for weight in head_weights)
        if self._head_weights is not None:
            if not all(math.isfinite(weight) for weight in self._head_weights):
                raise InvalidValue(f"the weights of heads must be finite, got {list(self._head_weights)}")
            if not any(self._head_weights):
                raise InvalidValue(f"a head needs a weight other than 0, got {list(self._head_weights)}")
        self._group = _Group(process_group)
        self._sharded = sharded
        self._averaged_gradients = averaged_gradients

    def extra_repr(self) -> str:
        shown = [repr(self.spec)]
        defaults = {"reduction": "mean", "batch": False, "background": True, "absent": "count"}
        shown += [f"{key}={value!r}" for key, value in self._settings.items() if value != defaults.get(key)]
        return ", ".join(shown)

    def forward(
        self,
        prediction: Heads,
        target: Heads,
        *,
        mask: Optional[Heads] = None,
        weights: Optional[Heads] = None,
        map: Optional[Heads] = None,
    ) -> Tensor:
        """The loss: a scalar, or `[N]` with reduction ``"none"``.

        Parameters
        ----------
        prediction:
            `[N, C, …]` with 1 to 5 spatial axes, float32, float16, bfloat16, or float64 (computed in double precision throughout,
            slowly). A list of such, one per head: the loss is the sum of those of the heads, each with its weight.
        target:
            Labels `[N, …]` or `[N, 1, …]` of an integer type or bool, or one value per class in the prediction's shape. With one
            class, floats are such values and integers are labels. Neither one-hot nor long is needed.
        mask:
            `[N, …]` or `[N, 1, …]`, bool or uint8: voxels with 0 do not count.
        weights:
            `[N, …]` or `[N, 1, …]`, float: the weight of each voxel.
        map:
            `[N, …]`, `[N, 1, …]` or the prediction's shape, float: for `boundary`, `distance_ce` and `shape_aware_ce`,
            in place of the one that they make.

        With several heads, each of these is a list as long, or one tensor of the first head's size, of which smaller heads take
        the nearest voxels.
        """
        if isinstance(prediction, Tensor):
            return self._one(prediction, target, mask, weights, map)
        if not isinstance(prediction, (list, tuple)):
            kind = type(prediction).__name__
            raise InvalidType(f"the prediction must be a tensor, or a list of tensors for several heads, not {kind}")
        heads = list(prediction)
        factors = (1.0,) * len(heads) if self._head_weights is None else self._head_weights
        if not heads or len(factors) != len(heads):
            raise InvalidValue(f"need one prediction per weight of a head, {len(factors)}, got {len(heads)}")
        for tensors in (target, mask, weights, map):
            if isinstance(tensors, (list, tuple)) and len(tensors) != len(heads):
                raise InvalidValue(f"there are {len(tensors)} tensors for {len(heads)} heads")
        total: Any = 0.0
        for index, (factor, head) in enumerate(zip(factors, heads)):
            if factor != 0.0:
                others = [_of_head(x, index, head) for x in (target, mask, weights, map)]
                total = total + factor * self._one(head, *others)
        return total

    def evaluate(
        self,
        prediction: Tensor,
        target: Tensor,
        *,
        mask: Optional[Tensor] = None,
        weights: Optional[Tensor] = None,
        map: Optional[Tensor] = None,
    ) -> Evaluation:
        """The loss with its terms, the voxels that counted and the labels out of range, without gradient; of this process alone. On
        a CUDA device it waits for the current stream."""
        arrays = _ready(prediction, target, mask, weights, map)
        loss = ArrayLoss(self.spec, **self._settings)
        prediction, target, mask, weights, map = _ops.describe_all(*arrays)
        stream = _ops.stream_of(arrays[0])
        return loss.evaluate(prediction, target, mask=mask, weights=weights, map=map, stream=stream)

    def _one(self, prediction: Any, target: Any, mask: Any, weights: Any, map: Any) -> Tensor:
        prediction, target, mask, weights, map = _ready(prediction, target, mask, weights, map)
        moments, first, scale = None, 0, 1.0
        if self._group.given is not None:
            moments, first, scale = self._gathered(prediction, target, mask, weights, map)
        return _ops.loss(
            prediction, target, mask, weights, map, moments, self._config, self._per_sample, first, scale
        )

    def _gathered(self, *tensors: Any) -> tuple[Tensor, int, float]:
        """The sums of all ranks, where those of this rank begin, and the factor of its gradient."""
        from torch import distributed

        group = self._group.ranks()
        voxels = self._sharded == "voxels"
        if voxels and _ops.makes_maps(self._config, _ops.kinds_of(*tensors)):
            raise InvalidValue(
                f"'{self.spec}' makes maps, of whole samples, and with sharded='voxels' no rank has one; share out the samples, or "
                "give `map` where the loss takes one"
            )
        prediction, *others = tensors
        own = _ops.reduce(prediction.detach(), *others, self._config)
        ranks = distributed.get_world_size(group)
        scale = float(ranks) if self._averaged_gradients else 1.0
        _check_shapes(own, ranks, group)
        if voxels:
            distributed.all_reduce(own, group=group)
            return own, 0, scale
        if self._per_sample:
            # A rank has the losses of its own samples, each with the gradient of one process.
            scale = 1.0
        everyone = own.new_empty((ranks * own.shape[0],) + tuple(own.shape[1:]))
        distributed.all_gather_into_tensor(everyone, own, group=group)
        return everyone, distributed.get_rank(group) * own.shape[0], scale


class _Group:
    """A process group, which a copy of a loss shares with it."""

    def __init__(self, given: Any) -> None:
        self.given = given

    def __deepcopy__(self, _: Any) -> _Group:
        return self

    def ranks(self) -> Any:
        """The group; that of all ranks is there once torch.distributed is initialised."""
        if self.given != "world":
            return self.given
        from torch import distributed

        if not distributed.is_initialized():
            raise InvalidValue("process_group is 'world', and torch.distributed is not initialised yet")
        return distributed.group.WORLD


def _check_shapes(own: Tensor, ranks: int, group: Any) -> None:
    """Whether the sums of all ranks have one shape, where that can be looked at without waiting for a device or breaking a graph."""
    if not own.is_cpu or torch.compiler.is_compiling():
        return
    from torch import distributed

    shapes = torch.empty(ranks * 3, dtype=torch.int64)
    distributed.all_gather_into_tensor(shapes, torch.tensor(own.shape), group=group)
    found = shapes.reshape(ranks, 3).tolist()
    if any(shape != found[0] for shape in found):
        raise InvalidValue(
            f"all ranks must have the same number of samples and classes, and one loss: [N, C, sums] of the ranks are {found}"
        )


def _ready(prediction: Any, target: Any, mask: Any, weights: Any, map: Any) -> tuple[Any, ...]:
    """The tensors as the operators take them: dense, the classes in one order, types that the library has."""
    others = {"target": target, "mask": mask, "weights": weights, "map": map}
    for name, tensor in {"prediction": prediction, **others}.items():
        if tensor is None and name not in ("prediction", "target"):
            continue
        if not isinstance(tensor, Tensor):
            raise InvalidType(f"the {name} must be a tensor, not {type(tensor).__name__}")
        if name != "prediction" and tensor.requires_grad:
            raise InvalidValue(f"the {name} requires a gradient, and no loss has one by it; detach it")
        if tensor.layout != torch.strided:
            raise InvalidType(f"the {name} must be dense, its layout is {tensor.layout}")
        if tensor.device != prediction.device:
            raise DeviceError(f"the {name} is on {tensor.device}, the prediction on {prediction.device}")
    if prediction.dim() < 3:
        shape = list(prediction.shape)
        raise InvalidValue(f"the prediction must have shape [N, C, …] with at least one spatial axis, got {shape}")
    last = not prediction.is_contiguous() and prediction.movedim(1, -1).is_contiguous()
    if not last:
        prediction = prediction.contiguous()
    floats = torch.float64 if prediction.dtype == torch.float64 else torch.float32
    target = _typed(target, prediction)
    if mask is not None:
        mask = mask.contiguous()
    if weights is not None:
        weights = weights.to(floats).contiguous()
    if map is not None:
        map = _ordered(map.to(floats), prediction, last)
    return prediction, _ordered(target, prediction, last), mask, weights, map


def _typed(target: Tensor, prediction: Tensor) -> Tensor:
    """A target of a type that the library has, where there is one with the same numbers."""
    dense = target.shape == prediction.shape and target.shape[1] > 1
    integers = (torch.int8, torch.int16, torch.uint16, torch.int32, torch.uint32, torch.int64, torch.uint64)
    if dense and target.dtype in integers:
        return target.to(torch.float32)
    if target.dtype == torch.int8:
        return target.to(torch.int16)
    # From 2^63 on a label becomes negative, and is out of range as before.
    if target.dtype in (torch.uint16, torch.uint32, torch.uint64):
        return target.to(torch.int64)
    if target.dtype == torch.float64 and prediction.dtype != torch.float64:
        return target.to(torch.float32)
    return target


def _ordered(tensor: Tensor, prediction: Tensor, last: bool) -> Tensor:
    """Dense, and with the classes where the prediction has them."""
    if last and tensor.shape == prediction.shape:
        return tensor.movedim(1, -1).contiguous().movedim(-1, 1)
    return tensor.contiguous()


def _of_head(tensors: Any, index: int, prediction: Tensor) -> Any:
    """A head's own tensor: of a list, or the nearest voxels of one for all."""
    if tensors is None:
        return None
    if not isinstance(tensors, Tensor):
        return tensors[index]
    sizes = prediction.shape[2:]
    for axis, size in zip(range(-len(sizes), 0), sizes):
        extent = tensors.shape[axis]
        if extent != size:
            step = extent / size
            nearest = ((torch.arange(size, device=tensors.device) + 0.5) * step).floor().long().clamp_(max=extent - 1)
            tensors = tensors.index_select(axis, nearest)
    return tensors


def _class_name(name: str) -> str:
    """`focal_tversky` is FocalTverskyLoss, `balanced_ce` BalancedCELoss."""
    acronyms = ("ce", "bce", "mcc", "dt")
    return "".join(word.upper() if word in acronyms else word.capitalize() for word in name.split("_")) + "Loss"


def spec_value(value: Any) -> str:
    """A parameter as it stands in a spec string: numbers, words, None, True and False, matrices as nested lists or arrays."""
    if value is None:
        return "none"
    if isinstance(value, str):
        if re.fullmatch(r"[\w.+-]+", value) is None:
            raise InvalidValue(f"a parameter of a loss is a number, a word or a matrix, got {value!r}")
        return value
    # Of numpy and torch: arrays, and numbers of their types.
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(float(value))
    if not isinstance(value, (list, tuple)) or not value:
        raise InvalidType(f"a parameter of a loss is a number, a word or a matrix, not {type(value).__name__}")
    rows = value if isinstance(value[0], (list, tuple)) else [value]
    return "[" + "; ".join(", ".join(spec_value(x) for x in row) for row in rows) + "]"


def _module(info: Any) -> type:
    """The class of one loss, with its parameters as arguments."""
    keys = [parameter.key for parameter in info.parameters]

    def __init__(self: Any, **options: Any) -> None:
        given = [f"{key}={spec_value(options.pop(key))}" for key in keys if key in options]
        Loss.__init__(self, f"{info.name}({', '.join(given)})" if given else info.name, **options)

    lines = [info.doc, "", f"Source: {info.source}.", "", "Parameters", "----------"]
    for parameter in info.parameters:
        lines += [f"{parameter.key}:", f"    {parameter.doc} {parameter.range}; default {parameter.default}."]
    lines += ["options:", "    As of :class:`Loss`, without `spec`."]
    name = _class_name(info.name)
    return type(name, (Loss,), {"__init__": __init__, "__doc__": "\n".join(lines), "__module__": "segfuse.torch"})


#: One class per loss, by its name.
MODULES: dict[str, type] = {_class_name(info.name): _module(info) for info in list_losses()}
