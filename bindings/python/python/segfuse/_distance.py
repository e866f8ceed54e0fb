"""Distance maps of arrays."""

from __future__ import annotations

from typing import Any, Optional, Sequence

from . import _segfuse
from ._arrays import empty, on_device_of, shape_and_type, stream_of
from ._errors import InvalidValue


def distance(
    source: Any,
    *,
    num_classes: Optional[int] = None,
    of: str = "labels",
    kind: str = "two_sided",
    activation: Optional[str] = None,
    threshold: Optional[float] = None,
    spacing: Optional[Sequence[float]] = None,
    squared: bool = False,
    classes: Optional[Sequence[int]] = None,
    ignore_index: Optional[int] = None,
    layout: str = "ncv",
    dtype: str = "float32",
    out: Any = None,
    stream: Optional[int] = None,
) -> Any:
    """Exact Euclidean distance maps of all classes, `[N, K, …]` with 1 to 3 spatial axes, or one map of them, `[N, 1, …]`.

    >>> import numpy as np, segfuse
    >>> labels = np.array([[0, 0, 1, 1, 1, 0]], np.uint8)
    >>> segfuse.distance(labels, num_classes=1, kind="signed")[0, 0].tolist()
    [2.0, 1.0, 0.0, -1.0, 0.0, 1.0]

    Parameters
    ----------
    source:
        Contiguous, in host memory or on a CUDA device. By `of`: ``"labels"`` `[N, …]` (bool, uint8, int16, int32, int64; with one class, label 1 is
        the class); ``"dense"`` `[N, C, …]`, where a class is above 0.5 (bool, uint8, float32, float16, bfloat16); or
        ``"prediction"`` `[N, C, …]` (float32, float16, bfloat16).
    num_classes:
        C. Needed for labels that are not bool.
    kind:
        ``"outside"``: the distance d_out to the class; ``"inside"``: the distance d_in to what is not of the class; ``"two_sided"``:
        d_out + d_in; ``"signed"``: d_out outside and -(d_in - 1) inside; ``"difference"``: d_out - d_in. Where a class is empty or
        fills a sample the last three are 0. ``"multi_label"``: one map with the d_in of each voxel's own class, which is the
        distance to the nearest voxel of another label, and 0 where the voxel is of none of `classes`; of labels, or of the
        largest of a prediction. With ``classes=range(1, num_classes)`` it is what ``edt.edt`` makes.
    activation, threshold:
        Of a prediction: a class is where its probability is above `threshold`, or where it is the largest.
    spacing:
        The distance between neighbours along each axis.
    squared:
        Whether each value x is replaced by x·|x|.
    classes:
        The classes that maps are made of, one map each or all in one; all by default.
    ignore_index:
        Voxels with this label belong to no class.
    layout:
        ``"ncv"``, or ``"nvc"`` for maps, dense targets and predictions `[N, …, C]`.
    dtype:
        ``"float32"`` or ``"float16"``.
    out:
        Where the maps go, on the device of `source`; without it they are made, of the library of `source`.
    stream:
        Of arrays on a CUDA device: the handle of the stream that the maps are made on; by default the current one of torch or CuPy,
        for other libraries the default stream. The call allocates a workspace and waits for the device before it frees it.

    Raises
    ------
    InvalidType, InvalidValue, DeviceError
        When an array or a setting does not fit.
    """
    shape, kind_of_source = shape_and_type(source)
    last = layout == "nvc"
    if of == "labels":
        voxels = shape
        if num_classes is None and kind_of_source == "bool":
            num_classes = 1
        if num_classes is None:
            raise InvalidValue("num_classes is needed: labels do not say how many classes there are")
    else:
        axis = len(shape) - 1 if last else 1
        if len(shape) < 3:
            raise InvalidValue(f"the source must have shape [N, C, …] with at least one spatial axis, got {list(shape)}")
        voxels = shape[:axis] + shape[axis + 1 :]
        num_classes = shape[axis] if num_classes is None else num_classes
    count = 1 if kind == "multi_label" else num_classes if classes is None else len(classes)
    wanted = voxels + (count,) if last else voxels[:1] + (count,) + voxels[1:]
    with on_device_of(source):
        maps, finish = (out, None) if out is not None else empty(source, wanted, dtype)
        _segfuse.distance(
            source,
            maps,
            of=of,
            num_classes=num_classes,
            kind=kind,
            activation_name=activation,
            threshold=threshold,
            spacing=spacing,
            squared=squared,
            classes=classes,
            ignore_index=ignore_index,
            layout=layout,
            stream=stream_of(source, stream),
        )
        return maps if finish is None else finish(maps)
