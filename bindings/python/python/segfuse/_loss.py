"""Losses on arrays: the part of the package that knows no framework."""

from __future__ import annotations

import json
from dataclasses import dataclass
from operator import index
from typing import Any, Callable, Optional, Sequence, Union

from . import _segfuse
from ._arrays import empty_like, on_device_of, stream_of
from ._errors import InvalidType, InvalidValue

Value = Union[float, "list[float]"]


@dataclass(frozen=True)
class Term:
    """One term of an objective.

    `groups` has the values of its groups `[pools][classes]`, None where a class is left out.
    """

    name: str
    weight: float
    value: Value
    groups: list[list[Optional[float]]]


@dataclass(frozen=True)
class Evaluation:
    """What a loss is made of.

    `valid_voxels` counted, of N·V; the voxels of `invalid_labels` did not, since their label is no class and not the label to
    ignore.
    """

    loss: Value
    terms: tuple[Term, ...]
    valid_voxels: int
    invalid_labels: int


@dataclass(frozen=True)
class Stage:
    """One pass over the arrays."""

    name: str
    bytes_read: int
    bytes_written: int


@dataclass(frozen=True)
class Explanation:
    """What a call does. `str()` of it is a text."""

    text: str
    moments: tuple[str, ...]
    samples_at_once: int
    stages: tuple[Stage, ...]
    workspace_bytes: int
    total_bytes: int
    forward_bytes: int

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Parameter:
    """A parameter of a loss: its key in a spec string, its default and its range as text, what it does."""

    key: str
    default: str
    range: str
    doc: str


@dataclass(frozen=True)
class LossInfo:
    """A loss that a spec string can name."""

    name: str
    aliases: tuple[str, ...]
    source: str
    doc: str
    parameters: tuple[Parameter, ...]


class Loss:
    """A segmentation loss on arrays; made once, called for every batch.

    Parameters
    ----------
    spec:
        The objective, e.g. ``"dice + 0.5*focal(gamma=2)"``. :func:`list_losses` has the names and their parameters.
    activation:
        What makes the prediction a probability: ``"softmax"``, ``"sigmoid"`` or ``"none"`` (it is one already). By default
        softmax for more than one class and sigmoid for one.
    layout:
        ``"ncv"``: predictions are `[N, C, …]`, with the classes of a voxel apart or (channels_last) side by side in memory;
        ``"nvc"``: `[N, …, C]`.
    ignore_index:
        Voxels with this label do not count; it may lie outside of 0 to C - 1.
    reduction:
        ``"mean"``, ``"sum"``, or ``"none"``: one value per sample, each the sample's mean.
    class_weights:
        One weight per class, at least 0.
    batch:
        Sum over the samples before any ratio (batch Dice).
    background:
        Whether class 0 counts.
    absent:
        What a class without a target voxel does: ``"count"``, ``"skip"`` or ``"zero"``.
    spacing:
        The distance between neighbours along each spatial axis, for losses that measure distances; 1 by default.

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
        layout: str = "ncv",
        ignore_index: Optional[int] = None,
        reduction: str = "mean",
        class_weights: Optional[Sequence[float]] = None,
        batch: bool = False,
        background: bool = True,
        absent: str = "count",
        spacing: Optional[Sequence[float]] = None,
    ) -> None:
        self._settings = settings_of(
            activation=activation,
            layout=layout,
            ignore_index=ignore_index,
            reduction=reduction,
            class_weights=class_weights,
            batch=batch,
            background=background,
            absent=absent,
            spacing=spacing,
        )
        self._core = _segfuse.Loss(spec, **self._settings)

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_again, (self.spec, self._settings)

    @property
    def spec(self) -> str:
        """The objective, written out in full."""
        return self._core.spec

    def __repr__(self) -> str:
        return f"segfuse.Loss({self.spec!r})"

    def __call__(
        self,
        prediction: Any,
        target: Any,
        *,
        mask: Any = None,
        weights: Any = None,
        map: Any = None,
        stream: Optional[int] = None,
    ) -> Value:
        """The loss: a float, or a list of N with reduction ``"none"``.

        Arrays are anything that speaks DLPack, ``__array_interface__`` or the buffer protocol, in host memory or all of them on one
        CUDA device. None is copied; all must be contiguous.

        Parameters
        ----------
        prediction:
            `[N, C, …]` (or `[N, …, C]`, see `layout`) with 1 to 5 spatial axes: float32, float16, bfloat16; float64 is computed
            in double precision throughout, slowly.
        target:
            Labels `[N, …]` or `[N, 1, …]` (bool, uint8, int16, int32, int64), or one value per class in the prediction's shape
            and order (bool, uint8, float32, float16, bfloat16). With one class, floats are such values and integers are labels.
        mask:
            `[N, …]` or `[N, 1, …]`, bool or uint8: voxels with 0 do not count.
        weights:
            `[N, …]` or `[N, 1, …]`, float32, at least 0: the weight of each voxel.
        map:
            `[N, …]`, `[N, 1, …]` or the prediction's shape, float32: a map for `boundary`, `distance_ce` and `shape_aware_ce`,
            in place of the one that they make.
        stream:
            Of arrays on a CUDA device: the handle of the stream that the work goes to, and that is waited for; by default the
            current one of torch or CuPy, for other libraries the default stream.

        Raises
        ------
        InvalidType, InvalidValue, DeviceError
            When an array does not fit; the message has the numbers.
        """
        with on_device_of(prediction):
            return self._core.value((prediction, target, mask, weights, map), stream_of(prediction, stream))

    def value_and_grad(
        self,
        prediction: Any,
        target: Any,
        *,
        mask: Any = None,
        weights: Any = None,
        map: Any = None,
        grad_output: Any = None,
        out: Any = None,
        stream: Optional[int] = None,
    ) -> tuple[Value, Any]:
        """The loss and its gradient by the prediction; arguments as in :meth:`__call__`.

        Parameters
        ----------
        grad_output:
            The gradient of what is minimised by the loss: a number, or one per sample with reduction ``"none"``, which may be an
            array. 1 by default.
        out:
            Where the gradient goes: an array of the prediction's shape and order and of its type (or float32), which may be the
            prediction itself. Without it one is made, of the prediction's library and type.

        Returns
        -------
        The loss, and the gradient.
        """
        if grad_output is not None:
            grad_output = _numbers(grad_output)
        arrays = (prediction, target, mask, weights, map)
        with on_device_of(prediction):
            gradient, finish = (out, None) if out is not None else empty_like(prediction)
            value = self._core.value_and_grad(arrays, gradient, grad_output, stream_of(prediction, stream))
            return value, gradient if finish is None else finish(gradient)

    def evaluate(
        self,
        prediction: Any,
        target: Any,
        *,
        mask: Any = None,
        weights: Any = None,
        map: Any = None,
        stream: Optional[int] = None,
    ) -> Evaluation:
        """The loss with each of its terms, the voxels that counted and the labels out of range; arguments as in
        :meth:`__call__`."""
        with on_device_of(prediction):
            report = self._core.evaluate((prediction, target, mask, weights, map), stream_of(prediction, stream))
        return Evaluation(
            loss=report["loss"],
            terms=tuple(Term(*term) for term in report["terms"]),
            valid_voxels=report["valid_voxels"],
            invalid_labels=report["invalid_labels"],
        )

    def explain(
        self,
        shape: Sequence[int],
        *,
        dtype: str = "float32",
        target: str = "uint8",
        dense: bool = False,
        mask: bool = False,
        weights: bool = False,
        map: Optional[str] = None,
    ) -> Explanation:
        """What a call on a prediction of this shape does: its passes, the sums that it keeps, the bytes that it moves.

        Parameters
        ----------
        shape:
            Of the prediction.
        dtype, target:
            Element types of prediction and target.
        dense:
            Whether the target has one value per class.
        mask, weights:
            Whether there are any.
        map:
            ``"shared"`` by the classes or ``"per_class"``, where there is one.
        """
        full = tuple(int(extent) for extent in shape)
        axis = 1 if self._settings["layout"] == "ncv" else len(full) - 1
        voxels = full[:axis] + full[axis + 1 :]
        arrays = (
            described(full, dtype),
            described(full if dense else voxels, target),
            described(voxels, "uint8") if mask else None,
            described(voxels, "float32") if weights else None,
            None if map is None else described(full if map == "per_class" else voxels, "float32"),
        )
        text, report = self._core.explain(arrays)
        explanation = json.loads(report)
        head = explanation["heads"][0]
        return Explanation(
            text=text,
            moments=tuple(head["moments"]),
            samples_at_once=head["samples_at_once"],
            stages=tuple(Stage(**stage) for stage in head["stages"]),
            workspace_bytes=explanation["workspace_bytes"],
            total_bytes=explanation["total_bytes"],
            forward_bytes=explanation["forward_bytes"],
        )


def settings_of(*, ignore_index: Any, class_weights: Any, batch: Any, background: Any, spacing: Any, **words: Any) -> dict[str, Any]:
    """The settings of a loss in Python's own types, whatever library their numbers are of."""
    try:
        label = None if ignore_index is None else index(ignore_index)
        if label is not None and not -(1 << 63) <= label < 1 << 63:
            raise InvalidValue(f"ignore_index must be a number of 64 bits, got {label}")
        return {
            "ignore_index": label,
            "class_weights": None if class_weights is None else _numbers(class_weights),
            "batch": bool(batch),
            "background": bool(background),
            "spacing": None if spacing is None else _numbers(spacing),
            **words,
        }
    except TypeError as error:
        raise InvalidType(f"a setting of the loss: {error}") from None


def _numbers(values: Any) -> list[float]:
    """A number or several, also of an array."""
    values = values.tolist() if hasattr(values, "tolist") else values
    return [float(value) for value in values] if hasattr(values, "__iter__") else [float(values)]


def described(shape: tuple[int, ...], dtype: str) -> _segfuse.Memory:
    """An array of this shape and type that has no memory, for questions about plans."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 1, 0, -1):
        strides[axis - 1] = strides[axis] * shape[axis]
    return _segfuse.Memory(None, 0, shape, strides, dtype, "cpu")


def _made_again(spec: str, settings: dict[str, Any]) -> Loss:
    return Loss(spec, **settings)


def loss(spec: str, **settings: Any) -> Loss:
    """A loss by its spec string; settings as in :class:`Loss`.

    >>> import numpy as np, segfuse
    >>> logits, labels = np.zeros((1, 2, 4, 4), np.float32), np.ones((1, 4, 4), np.uint8)
    >>> round(segfuse.loss("ce")(logits, labels), 4)
    0.6931
    """
    return Loss(spec, **settings)


def value_and_grad(spec: Union[str, Loss], **settings: Any) -> Callable[..., tuple[Value, Any]]:
    """A function of the arguments of :meth:`Loss.value_and_grad`, of a spec string with its settings or of a loss.

    >>> import numpy as np, segfuse
    >>> logits, labels = np.zeros((1, 2, 4, 4), np.float32), np.ones((1, 4, 4), np.uint8)
    >>> value, gradient = segfuse.value_and_grad("ce")(logits, labels)
    >>> float(gradient[0, 0, 0, 0])
    0.03125
    """
    return (spec if isinstance(spec, Loss) and not settings else Loss(spec, **settings)).value_and_grad


def explain(spec: str, shape: Sequence[int], **options: Any) -> Explanation:
    """What a loss does on predictions of this shape.

    Options are the settings of :class:`Loss` and the arguments of :meth:`Loss.explain`.
    """
    arrays = ("dtype", "target", "dense", "mask", "weights", "map")
    of_arrays = {key: options.pop(key) for key in arrays if key in options}
    return Loss(spec, **options).explain(shape, **of_arrays)


def list_losses() -> list[LossInfo]:
    """Every loss that a spec string can name, with its parameters."""
    return [
        LossInfo(
            name=entry["name"],
            aliases=tuple(entry["aliases"]),
            source=entry["source"],
            doc=entry["doc"],
            parameters=tuple(Parameter(**parameter) for parameter in entry["parameters"]),
        )
        for entry in json.loads(_segfuse.list_losses())
    ]


def devices() -> list[tuple[str, str]]:
    """The devices that this build reaches on this machine: names and descriptions."""
    return _segfuse.devices()
