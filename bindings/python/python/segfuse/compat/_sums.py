"""The sums of a segmentation over voxels, per sample and class, with their gradient: what every class here is made of."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Optional

import torch
from torch import Tensor

from ..torch import _ops
from ..torch._modules import _ready

_names: dict[Any, tuple[str, ...]] = {}


@dataclass(frozen=True)
class Sums:
    """Sums over the voxels that count, `[N, C]` of float64; `x` are those of the pixel terms, in the order of the spec string.

    Those that no term of the spec string reads are None. `n` is the number of voxels, `p` Σp, `g` Σg, `i` Σpg, `pp` Σp², `gg`
    Σg², `cost` Σ g·(Mp) of the matrix M of `wasserstein_dice`.
    """

    n: Tensor
    p: Any
    g: Any
    i: Any
    pp: Any
    gg: Any
    cost: Any
    x: tuple[Tensor, ...]

    def map(self, change: Any) -> Sums:
        """Each sum, changed."""
        one = [None if s is None else change(s) for s in (self.n, self.p, self.g, self.i, self.pp, self.gg, self.cost)]
        return Sums(*one, tuple(change(s) for s in self.x))

    def of_classes(self, classes: slice) -> Sums:
        """Those of some classes."""
        return self.map(lambda s: s[:, classes])

    def over_batch(self) -> Sums:
        """Those of all samples together, `[1, C]`."""
        return self.map(lambda s: s.sum(0, keepdim=True))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.config = inputs
    ctx.save_for_backward(*tensors)


def _slopes(ctx: Any, slopes: Tensor) -> tuple[Any, ...]:
    """What the gradient is made of: the slopes by the moments, as the library's own finish step would hand them to the pass."""
    prediction, *others = ctx.saved_tensors
    _, count = _ops.sizes(prediction, *others, ctx.config)
    # The moments that depend on the prediction are the last.
    own = slopes[..., slopes.shape[-1] - count :].contiguous()
    one = torch.ones((), dtype=torch.float64, device=slopes.device)
    return prediction, *others, own, one, ctx.config


def _backward(ctx: Any, slopes: Tensor) -> Any:
    return (_ops.gradient(*_slopes(ctx, slopes)),) + (None,) * 5


_ops.reduce.register_autograd(_backward, setup_context=_keep)


@_ops.with_signature
class _Reduce(torch.autograd.Function):
    """The operator without the way through the dispatcher's autograd, which takes longer than a small loss."""

    @staticmethod
    def forward(*inputs: Any) -> Tensor:
        return _ops.reduce(*inputs)

    setup_context = staticmethod(_keep)

    @staticmethod
    def backward(ctx: Any, slopes: Tensor) -> Any:
        return (_ops.gradient_of_plain(*_slopes(ctx, slopes)),) + (None,) * 5


def sums(
    spec: str,
    activation: str,
    prediction: Tensor,
    target: Tensor,
    *,
    ignore_index: Optional[int] = None,
    mask: Optional[Tensor] = None,
    weights: Optional[Tensor] = None,
) -> Sums:
    """The sums that the losses of `spec` read.

    `prediction` is `[N, C, …]`, `target` labels `[N, …]`, `[N, 1, …]` or dense, `mask` and `weights` `[N, …]` or `[N, 1, …]`. A label
    that is none of the classes is an error on the CPU; elsewhere its voxel does not count, since looking would wait for the device.
    """
    if activation == "softmax" and prediction.shape[1] == 1:
        raise ValueError("softmax over one class is 1 everywhere")
    ignored = "null" if ignore_index is None else ignore_index
    # As `_ops.settings` writes it, in a way that a compiler can follow.
    config = f'{{"spec": "{spec}", "activation": "{activation}", "ignore_index": {ignored}}}'
    ready = _ready(prediction, target, mask, weights, None)
    reduce = _ops.reduce if torch.compiler.is_compiling() else _Reduce.apply
    moments = reduce(*ready, config)
    found = dict(zip(_names_of(config, _ops.kinds_of(*ready)), moments.unbind(-1)))
    if prediction.shape[1] > 1 and target.shape != prediction.shape and weights is None:
        _check_labels(found["N"], target, ignore_index, mask, prediction.shape[1])
    pixels = sorted((name for name in found if name.startswith("X")), key=lambda name: int(name[1:]))
    one = [found.get(name) for name in ("N", "P", "G", "I", "PP", "GG", "D")]
    return Sums(*one, tuple(found[name] for name in pixels))  # type: ignore[arg-type]


def _check_labels(n: Tensor, target: Tensor, ignore: Optional[int], mask: Optional[Tensor], classes: int) -> None:
    """Whether all labels that should count did: the voxels that counted are known already."""
    if not _can_look(n):
        return
    kept = None if mask is None else mask.reshape(target.shape) != 0
    if ignore is not None:
        own = target != ignore
        kept = own if kept is None else kept & own
    expected = target.numel() if kept is None else int(kept.sum())
    counted = int(n.detach()[:, 0].sum())
    if counted != expected:
        raise RuntimeError(f"{expected - counted} labels of the target are none of the {classes} classes")


def _can_look(x: Tensor) -> bool:
    """Whether numbers can be looked at without waiting for a device or breaking a graph."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


@torch.compiler.assume_constant_result
def _names_of(config: str, kinds: _ops.Kinds) -> tuple[str, ...]:
    """The names of the moments, in their order."""
    key = (config, kinds)
    if key not in _names:
        _, text = _ops.native(config).explain(_ops.small(kinds))
        _names[key] = tuple(json.loads(text)["heads"][0]["moments"])
    return _names[key]


def result(loss: Tensor, prediction: Tensor) -> Tensor:
    """A loss in the type that losses have: that of the prediction, but at least float32."""
    return loss.to(torch.float64 if prediction.dtype == torch.float64 else torch.float32)


#: Types that torch has few operations of.
_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)


def readable(target: Tensor) -> Tensor:
    """A target of a type that can be compared and multiplied."""
    return target.to(torch.int64) if target.dtype in _UNSIGNED else target


def dense(target: Tensor) -> Tensor:
    """One value per class, whatever the type: whole numbers of one channel would be labels."""
    return target if target.is_floating_point() else target.to(torch.float32)


def labels(target: Tensor) -> Tensor:
    """Labels of an integer type."""
    return target.to(torch.int32) if target.is_floating_point() else readable(target)


def looks(found: Tensor) -> bool:
    """A condition on the data, where it can be looked at."""
    return _can_look(found) and bool(found)


def channels_apart(x: Tensor) -> Tensor:
    """`[N, C, …]` as `[N·C, 1, …]`: each channel a sample of its own, for masks and weights that differ by channel."""
    return x.reshape(x.shape[0] * x.shape[1], 1, *x.shape[2:])


def channels_together(s: Tensor, like: Tensor) -> Tensor:
    """Sums of :func:`channels_apart` as `[N, C]`."""
    return s.reshape(like.shape[0], like.shape[1])


def per_channel(weight: Optional[Tensor], rank: int, sums: Tensor) -> Any:
    """A weight that torch would broadcast over a prediction of this rank, where it differs by channel alone."""
    if weight is None:
        return 1.0
    if weight.numel() == 1:
        return weight.reshape(()).to(sums)
    axis = weight.dim() - rank + 1
    if axis < 0 or weight.shape[axis] != weight.numel() or weight.numel() != sums.shape[1]:
        raise NotImplementedError(f"a weight of shape {tuple(weight.shape)} differs by more than the channel; segfuse has none")
    return weight.reshape(-1).to(sums)


def overlap(s: Sums, alpha: float, beta: float, soft: bool = False) -> tuple[Tensor, Tensor]:
    """I and I + alpha·(P − I) + beta·(G − I), of which every overlap measure is made; with squares where the sums are."""
    p, g = (s.p, s.g) if s.pp is None else (s.pp, s.gg)
    i = s.x[0] if soft else s.i
    return i, i + alpha * (p - i) + beta * (g - i)


def missing(library: str, name: str) -> Any:
    """A loss of a library that segfuse lacks: a class, or a function, that says so."""

    def refuse(*_: Any, **__: Any) -> None:
        raise NotImplementedError(f"segfuse has no {name} of {library} yet")

    refuse.__doc__ = "Not in segfuse yet: raises NotImplementedError."
    if name.islower():
        refuse.__name__ = refuse.__qualname__ = name
        return refuse
    return type(name, (), {"__init__": refuse, "__doc__": refuse.__doc__})
