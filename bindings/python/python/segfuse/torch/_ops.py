"""The operators of segfuse in PyTorch: `segfuse::reduce`, `segfuse::forward` and `segfuse::gradient`.

A call is one `forward` (the sums and the loss) and, in the backward pass, one `gradient`. Between the two live the loss, a few
numbers per sample and class (the coefficients), and the tensors that were handed in; no gradient is kept, and the gradient of
the loss, a number or one per sample, is multiplied in before anything is rounded to the type of the prediction. `reduce` gives
the sums by themselves, for losses over the batch of several processes.

The operators take a string of settings where a loss stands, since that is what a compiler can carry.
"""

import inspect
import json
import math
from typing import Any, Optional, Tuple

import torch
from torch import Tensor

from .. import _segfuse
from .._errors import Error
from .._loss import described

_NAMES = {
    torch.float32: "float32",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.float64: "float64",
    torch.uint8: "uint8",
    torch.int16: "int16",
    torch.int32: "int32",
    torch.int64: "int64",
    torch.bool: "bool",
}

_losses: "dict[str, _segfuse.Loss]" = {}
_sizes: "dict[Any, tuple[int, int, bool]]" = {}

#: Of the tensors of a call: classes, rank, and of each whether it has one value per class, and its type.
Kinds = Tuple[int, int, Tuple[Any, ...]]


def settings(spec: str, **values: Any) -> str:
    """A loss and its settings as the operators take them."""
    return json.dumps({"spec": spec, **values})


def native(config: str) -> "_segfuse.Loss":
    """The loss of these settings."""
    loss = _losses.get(config)
    if loss is None:
        values = json.loads(config)
        loss = _losses[config] = _segfuse.Loss(values.pop("spec"), **values)
    return loss


def _name(dtype: torch.dtype) -> str:
    return _NAMES.get(dtype) or str(dtype).replace("torch.", "")


def describe(tensor: Optional[Tensor]) -> Any:
    """A tensor as the extension takes it: where it lies, and what keeps it there."""
    if tensor is None:
        return None
    return _segfuse.Memory(
        tensor, tensor.data_ptr(), tensor.shape, tensor.stride(), _name(tensor.dtype), _device(tensor)
    )


def describe_all(*tensors: Optional[Tensor]) -> "tuple[Any, ...]":
    """The tensors of a call; on a CUDA device at addresses from which the kernels read several elements at once."""
    if _is_cuda(tensors[0]):
        tensors = tuple(x if x is None or x.data_ptr() % _ALIGNMENT == 0 else _copy(x) for x in tensors)
    return tuple(describe(x) for x in tensors)


#: Bytes of four elements of the widest type.
_ALIGNMENT = 32

_copy = torch.clone


def _device(tensor: Tensor) -> str:
    return "cpu" if tensor.is_cpu else str(tensor.device)


def _is_cuda(tensor: Any) -> bool:
    return tensor.is_cuda


def stream_of(tensor: Tensor) -> int:
    """The stream that torch works on, on the device of a tensor."""
    return torch.cuda.current_stream(tensor.device).cuda_stream if _is_cuda(tensor) else 0


def _device_bytes(tensor: Tensor, count: int) -> Tensor:
    """Memory on the device of a tensor; torch gives it to others in the order of the current stream."""
    return torch.empty(count, dtype=torch.uint8, device=tensor.device)


class _CudaStages:
    """The stages of a loss on a CUDA device. All that is done is launched on torch's current stream, and nothing waits for it.

    Between the stages the sums and the coefficients lie in a workspace; `moments` `[N, C·moments]` and `coefficients`
    `[N, C, coefficients]` are views of it. `samples` are those of several processes.
    """

    def __init__(self, config: str, tensors: Any, samples: Optional[int] = None) -> None:
        prediction = tensors[0]
        self._loss, self._arrays = native(config), describe_all(*tensors)
        self._stream = stream_of(prediction)
        layout = self._loss.cuda_layout(self._arrays, samples)
        self._samples = samples
        self._workspace = _device_bytes(prediction, layout["workspace_bytes"])
        self._result = _device_bytes(prediction, layout["result_bytes"])
        self._memory = describe(self._workspace)
        moments, slopes = sizes(*tensors, config)
        samples, classes = samples or prediction.shape[0], prediction.shape[1]
        self._rows = self._part(layout["moments_at"], torch.float64, samples, layout["row"])
        self.moments = self._rows[:, : classes * moments]
        self.coefficients = self._part(layout["coefficients_at"], torch.float32, samples, classes, slopes)

    def _part(self, begin: int, dtype: torch.dtype, *shape: int) -> Tensor:
        end = begin + dtype.itemsize * math.prod(shape)
        return self._workspace[begin:end].view(dtype).view(shape)

    def reduce(self) -> None:
        self._loss.cuda_reduce(self._arrays, self._memory, self._stream)

    def take(self, moments: Tensor) -> None:
        """Sums from elsewhere, `[N, C, moments]`."""
        # What else a row has are counts for reports.
        self._rows.zero_()
        self.moments.copy_(moments.reshape(self.moments.shape))

    def finish(self, losses: int) -> Tensor:
        """The losses."""
        result = describe(self._result)
        self._loss.cuda_finish(self._arrays, self._memory, result, self._stream, self._samples)
        return self._result.view(torch.float32)[:losses]

    def gradient(self, gradient: Tensor) -> None:
        self._loss.cuda_gradient(self._arrays, self._memory, describe(gradient), self._stream)


#: Bytes from which on the memory of a gradient is kept for the next one; below, an allocator has it ready.
_KEPT_FROM = 1 << 20


def _like(prediction: Tensor) -> Tensor:
    """A tensor for the gradient: of a prediction's type and order, in memory that a gradient before it had, where it is large."""
    if not prediction.is_cpu or prediction.nbytes < _KEPT_FROM:
        return torch.empty_like(prediction)
    return torch.from_dlpack(
        _segfuse.gradient_memory(prediction.shape, prediction.stride(), _name(prediction.dtype))
    )


def kinds_of(*tensors: Optional[Tensor]) -> Kinds:
    """All of the tensors of a call that the sums depend on, beside the settings."""
    prediction: Any = tensors[0]
    classes, rank = int(prediction.shape[1]), prediction.dim()
    kinds = (None if x is None else (x.dim() == rank and int(x.shape[1]) == classes, x.dtype) for x in tensors)
    return classes, rank, tuple(kinds)


def small(kinds: Kinds) -> "tuple[Any, ...]":
    """Tensors of these kinds with one voxel, as the extension is asked about them."""
    classes, rank, each = kinds
    few = (1, classes) + (1,) * (rank - 2)
    shapes = (few if kind is None or kind[0] else few[:1] + few[2:] for kind in each)
    return tuple(None if kind is None else described(shape, _name(kind[1])) for kind, shape in zip(each, shapes))


def sizes(
    prediction: Tensor,
    target: Tensor,
    mask: Optional[Tensor],
    weights: Optional[Tensor],
    map: Optional[Tensor],
    config: str,
) -> Tuple[int, int]:
    """Moments, and coefficients, per sample and class. They do not depend on the number of samples or voxels."""
    tensors = (prediction, target, mask, weights, map)
    try:
        return _sizes_of(config, kinds_of(*tensors))[:2]
    except Error:
        # Asked again about the shapes as they are, of which the message is to speak; a compiler has symbols for some.
        whole = [None if x is None else (tuple(x.shape), _name(x.dtype)) for x in tensors]
        if all(isinstance(extent, int) for x in whole if x is not None for extent in x[0]):
            native(config).sizes(tuple(None if x is None else described(*x) for x in whole))
        raise


def _sizes_of(config: str, kinds: Kinds) -> "tuple[int, int, bool]":
    key = (config, kinds)
    found = _sizes.get(key)
    if found is None:
        found = _sizes[key] = native(config).sizes(small(kinds))
    return found


@torch.compiler.assume_constant_result
def makes_maps(config: str, kinds: Kinds) -> bool:
    """Whether a call makes maps before its passes, each of whole samples."""
    return _sizes_of(config, kinds)[2]


def _kind_of_loss(prediction: Tensor) -> torch.dtype:
    return torch.float64 if prediction.dtype == torch.float64 else torch.float32


@torch.library.custom_op("segfuse::reduce", mutates_args=())
def reduce(
    prediction: Tensor,
    target: Tensor,
    mask: Optional[Tensor],
    weights: Optional[Tensor],
    map: Optional[Tensor],
    config: str,
) -> Tensor:
    """The sums, `[N, C, moments]` of float64."""
    moments = _empty_moments(prediction, target, mask, weights, map, config)
    if _is_cuda(prediction):
        stages = _CudaStages(config, (prediction, target, mask, weights, map))
        stages.reduce()
        moments.view(stages.moments.shape).copy_(stages.moments)
    else:
        native(config).reduce(describe_all(prediction, target, mask, weights, map), describe(moments))
    return moments


@reduce.register_fake
def _empty_moments(prediction, target, mask, weights, map, config):
    count, _ = sizes(prediction, target, mask, weights, map, config)
    return prediction.new_empty((prediction.shape[0], prediction.shape[1], count), dtype=torch.float64)


def _forward(
    prediction: Tensor,
    target: Tensor,
    mask: Optional[Tensor],
    weights: Optional[Tensor],
    map: Optional[Tensor],
    moments: Optional[Tensor],
    config: str,
    per_sample: bool,
    first: int,
    scale: float,
) -> Tuple[Tensor, Tensor]:
    """The loss `[]`, or `[N]` per sample; and the coefficients `[N, C, coefficients]`, times `scale`.

    `moments` are the sums of all samples of several processes, of which those of this process begin at `first`.
    """
    losses, coefficients = _empty_losses(
        prediction, target, mask, weights, map, moments, config, per_sample, first, scale
    )
    tensors = (prediction, target, mask, weights, map)
    if _is_cuda(prediction):
        samples = prediction.shape[0]
        everyone = samples if moments is None else moments.shape[0]
        stages = _CudaStages(config, tensors, everyone)
        if moments is None:
            stages.reduce()
        else:
            stages.take(moments)
        found = stages.finish(everyone if per_sample else 1)
        own = slice(first, first + samples)
        losses.copy_(found[own] if per_sample else found[0])
        coefficients.copy_(stages.coefficients[own])
    else:
        arrays, given = describe_all(*tensors), describe(moments)
        native(config).forward(arrays, describe(losses), describe(coefficients), given, first)
    return losses, coefficients if scale == 1.0 else coefficients.mul_(scale)


forward = torch.library.custom_op("segfuse::forward", _forward, mutates_args=())


@forward.register_fake
def _empty_losses(prediction, target, mask, weights, map, moments, config, per_sample, first, scale):
    samples, classes = prediction.shape[:2]
    _, count = sizes(prediction, target, mask, weights, map, config)
    losses = prediction.new_empty((samples,) if per_sample else (), dtype=_kind_of_loss(prediction))
    return losses, prediction.new_empty((samples, classes, count), dtype=torch.float64)


def _gradient(
    prediction: Tensor,
    target: Tensor,
    mask: Optional[Tensor],
    weights: Optional[Tensor],
    map: Optional[Tensor],
    coefficients: Tensor,
    grad_output: Tensor,
    config: str,
) -> Tensor:
    """The gradient by the prediction, of its type and in its order in memory, times `grad_output` `[]` or `[N]`."""
    result = _like(prediction)
    tensors = (prediction, target, mask, weights, map)
    if _is_cuda(prediction):
        stages = _CudaStages(config, tensors)
        stages.coefficients.copy_(coefficients * grad_output.to(torch.float64).reshape(-1, 1, 1))
        stages.gradient(result)
    else:
        arrays = describe_all(*tensors)
        native(config).gradient(arrays, describe(coefficients), describe(grad_output), describe(result))
    return result


gradient = torch.library.custom_op("segfuse::gradient", _gradient, mutates_args=())


@gradient.register_fake
def _empty_gradient(prediction, target, mask, weights, map, coefficients, grad_output, config):
    return torch.empty_like(prediction)


def _keep(ctx, inputs, output):
    prediction, target, mask, weights, map, _, ctx.config, *_ = inputs
    _, coefficients = output
    ctx.save_for_backward(prediction, target, mask, weights, map, coefficients)
    ctx.mark_non_differentiable(coefficients)
    ctx.set_materialize_grads(False)


def _backward(ctx, grad_losses, _):
    slope = None
    if grad_losses is not None:
        slope = gradient(*ctx.saved_tensors, grad_losses.contiguous(), ctx.config)
    return (slope,) + (None,) * 9


def _no_second_derivative(*_):
    raise RuntimeError(
        "segfuse has no second derivatives: the gradient of a loss was differentiated again (create_graph=True, or a "
        "gradient penalty); take a loss that is written in torch operations there"
    )


forward.register_autograd(_backward, setup_context=_keep)
gradient.register_autograd(_no_second_derivative)


def with_signature(function: Any) -> Any:
    """A class of autograd that asks for the signature of its forward pass at every call, which takes longer than a small loss to make."""
    function.forward.__signature__ = inspect.signature(function.forward)
    return function


@with_signature
class _Forward(torch.autograd.Function):
    """`forward` for tensors as they are: the same work without the way through the dispatcher, which takes longer than a small
    loss."""

    forward = staticmethod(_forward)
    setup_context = staticmethod(_keep)

    @staticmethod
    def backward(ctx, grad_losses, _):
        slope = None
        if grad_losses is not None:
            slope = gradient_of_plain(*ctx.saved_tensors, grad_losses.contiguous(), ctx.config)
        return (slope,) + (None,) * 9


@with_signature
class _Gradient(torch.autograd.Function):
    """`gradient` where somebody may differentiate it, and is told that nobody can."""

    forward = staticmethod(_gradient)
    setup_context = staticmethod(lambda ctx, inputs, output: None)
    backward = staticmethod(_no_second_derivative)


def gradient_of_plain(*inputs: Any) -> Tensor:
    """`gradient` past the dispatcher."""
    return _Gradient.apply(*inputs) if torch.is_grad_enabled() else _gradient(*inputs)


def loss(prediction: Tensor, *others: Any) -> Tensor:
    """The first result of `forward`; as an operator where a compiler or a kind of tensor of its own has to see one."""
    plain = type(prediction) in (Tensor, torch.nn.Parameter) and not torch.compiler.is_compiling()
    return (_Forward.apply if plain else forward)(prediction, *others)[0]
