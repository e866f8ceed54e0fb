"""Losses on arrays of numpy and of whatever speaks DLPack or the buffer protocol."""

import gc
import os
import threading

import numpy as np
import pytest

import segfuse

EXAMPLES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "examples")
RNG = np.random.default_rng(1)
SHAPE = (2, 3, 5, 7)


def logits(dtype=np.float32, shape=SHAPE):
    return RNG.standard_normal(shape).astype(dtype)


def labels(dtype=np.int64, classes=3, shape=SHAPE):
    return RNG.integers(0, classes, (shape[0],) + shape[2:]).astype(dtype)


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def cross_entropy(z, y):
    """Mean cross-entropy and its gradient, in double precision."""
    z = z.astype(np.float64)
    p, g = softmax(z), np.eye(z.shape[1])[y].transpose(0, 3, 1, 2)
    return -(g * np.log(p)).sum() / y.size, (p - g) / y.size


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64])
def test_labels_of_every_type(dtype):
    z, y = logits(), labels(dtype)
    value, gradient = segfuse.value_and_grad("ce")(z, y)
    expected, slope = cross_entropy(z, y)
    assert value == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(gradient, slope, atol=1e-7)
    assert segfuse.loss("ce")(z, y) == value
    assert segfuse.loss("ce")(z, y[:, None]) == value


def test_labels_beside_dense_targets():
    z, y = logits(), labels()
    one_hot = np.ascontiguousarray(np.eye(3)[y].transpose(0, 3, 1, 2))
    loss = segfuse.loss("dice + ce")
    for dtype in [bool, np.uint8, np.float32, np.float16]:
        assert loss(z, one_hot.astype(dtype)) == pytest.approx(loss(z, y), rel=1e-6)


def test_one_class_takes_integers_as_labels_and_floats_as_values():
    z, y = logits(shape=(2, 1, 5, 7)), labels(np.uint8, 2)
    loss = segfuse.loss("dice + bce")
    value = loss(z, y)
    for target in [y[:, None], y.astype(bool), y.astype(np.float32), y[:, None].astype(np.float32)]:
        assert loss(z, target) == pytest.approx(value, rel=1e-7)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_types_of_the_prediction(dtype):
    z, y = logits(dtype), labels()
    value, gradient = segfuse.value_and_grad("ce")(z, y)
    expected, slope = cross_entropy(z, y)
    assert gradient.dtype == dtype
    assert value == pytest.approx(expected, rel=1e-6 if dtype == np.float16 else 1e-13)
    rounding = {"rtol": 1e-3, "atol": 1e-6} if dtype == np.float16 else {"rtol": 1e-11, "atol": 1e-15}
    np.testing.assert_allclose(gradient, slope, **rounding)


def test_float64_takes_everything_that_float32_takes():
    z, y = logits(np.float64), labels()
    mask, weights = RNG.random(y.shape) < 0.7, RNG.random(y.shape)
    single = segfuse.loss("dice + 0.5*focal")(z.astype(np.float32), y, mask=mask, weights=weights.astype(np.float32))
    assert segfuse.loss("dice + 0.5*focal")(z, y, mask=mask, weights=weights) == pytest.approx(single, rel=1e-6)
    soft = softmax(logits(np.float64))
    single = segfuse.loss("soft_dice")(z.astype(np.float32), soft.astype(np.float32))
    assert segfuse.loss("soft_dice")(z, soft) == pytest.approx(single, rel=1e-6)


def test_both_layouts():
    z, y = logits(), labels()
    value, gradient = segfuse.value_and_grad("dice + ce")(z, y)
    last = np.ascontiguousarray(z.transpose(0, 2, 3, 1))
    other, slope = segfuse.value_and_grad("dice + ce", layout="nvc")(last, y)
    assert other == pytest.approx(value, rel=1e-6)
    np.testing.assert_allclose(slope.transpose(0, 3, 1, 2), gradient, atol=1e-8)
    # [N, C, …] with the classes side by side in memory.
    other, slope = segfuse.value_and_grad("dice + ce")(last.transpose(0, 3, 1, 2), y)
    assert other == pytest.approx(value, rel=1e-6) and slope.strides == last.transpose(0, 3, 1, 2).strides
    np.testing.assert_allclose(slope, gradient, atol=1e-8)


@pytest.mark.parametrize("spatial", [(9,), (4, 5), (2, 3, 4), (2, 2, 2, 3), (2, 1, 2, 1, 3)])
def test_one_to_five_axes(spatial):
    shape = (2, 3) + spatial
    z, y = logits(shape=shape), labels(shape=shape)
    flat = segfuse.loss("dice")(z.reshape(2, 3, -1), y.reshape(2, -1))
    assert segfuse.loss("dice")(z, y) == flat


def test_mask_weights_and_ignored_labels():
    z, y = logits(), labels()
    keep = RNG.random(y.shape) < 0.6
    marked = np.where(keep, y, -100)
    value, gradient = segfuse.value_and_grad("dice + ce")(z, y, mask=keep)
    assert segfuse.loss("dice + ce", ignore_index=-100)(z, marked) == value
    assert segfuse.loss("dice + ce")(z, y, weights=keep.astype(np.float32)) == pytest.approx(value, rel=1e-7)
    assert not gradient.transpose(0, 2, 3, 1)[~keep].any()
    assert segfuse.loss("dice + ce")(z, y, mask=keep.astype(np.uint8)[:, None]) == value


def test_maps_of_both_kinds():
    z, y = logits(), labels()
    shared = RNG.random(y.shape).astype(np.float32)
    per_class = np.ascontiguousarray(np.broadcast_to(shared[:, None], SHAPE))
    loss = segfuse.loss("distance_ce")
    assert loss(z, y, map=shared) == pytest.approx(loss(z, y, map=per_class), rel=1e-6)


def test_losses_over_distances_make_their_maps():
    z, y = logits(), labels()
    signed = segfuse.distance(y, num_classes=3, kind="signed", spacing=(1.0, 2.0))
    made = segfuse.loss("boundary", spacing=(1.0, 2.0))(z, y)
    assert made == pytest.approx(segfuse.loss("boundary")(z, y, map=signed), rel=1e-5)
    assert made != pytest.approx(segfuse.loss("boundary")(z, y), rel=1e-3)


def test_reductions():
    z, y = logits(), labels()
    none = segfuse.loss("dice", reduction="none")(z, y)
    assert len(none) == 2 and segfuse.loss("dice")(z, y) == pytest.approx(sum(none) / 2)
    factors = [0.5, -2.0]
    _, gradient = segfuse.value_and_grad("dice", reduction="none")(z, y, grad_output=factors)
    for sample, factor in enumerate(factors):
        _, own = segfuse.value_and_grad("dice")(z[sample : sample + 1], y[sample : sample + 1], grad_output=factor)
        np.testing.assert_allclose(gradient[sample], own[0], atol=1e-8)


def test_what_a_loss_is_made_of():
    z, y = logits(), labels()
    y[0, 0, :3] = 77
    evaluation = segfuse.loss("dice + 0.5*ce").evaluate(z, y)
    assert [term.name for term in evaluation.terms] == ["dice", "ce"]
    assert evaluation.loss == pytest.approx(sum(term.weight * term.value for term in evaluation.terms))
    assert (evaluation.valid_voxels, evaluation.invalid_labels) == (y.size - 3, 3)
    assert len(evaluation.terms[0].groups) == 2 and len(evaluation.terms[0].groups[0]) == 3


def test_gradient_where_the_caller_wants_it():
    z, y = logits(), labels()
    value, expected = segfuse.value_and_grad("dice")(z, y)
    out = np.full_like(z, np.nan)
    assert segfuse.value_and_grad("dice")(z, y, out=out) == (value, out) and (out == expected).all()
    half = z.astype(np.float16)
    single = np.empty(SHAPE, np.float32)
    segfuse.value_and_grad("dice")(half, y, out=single)
    np.testing.assert_allclose(single, expected, atol=1e-5)
    place = z.copy()
    segfuse.value_and_grad("dice")(place, y, out=place)
    assert (place == expected).all()


def test_read_only_inputs_are_read_and_outputs_are_not_written():
    z, y = logits(), labels()
    value = segfuse.loss("dice")(z, y)
    z.flags.writeable = y.flags.writeable = False
    assert segfuse.loss("dice")(z, y) == value
    with pytest.raises(segfuse.InvalidValue, match="gradient is read-only"):
        segfuse.value_and_grad("dice")(z, y, out=z)


class Dlpack:
    """An array that speaks DLPack and nothing else."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_dlpack_alone():
    z, y = logits(), labels()
    out = np.empty_like(z)
    value, gradient = segfuse.value_and_grad("dice")(z, y)
    assert segfuse.value_and_grad("dice")(Dlpack(z), Dlpack(y), mask=Dlpack(np.ones(y.shape, bool)), out=Dlpack(out))[0] == value
    assert (out == gradient).all()


def test_a_producer_from_before_dlpack_1():
    z, y = logits(), labels()

    class Old(Dlpack):
        def __dlpack__(self, stream=None):
            return self.array.__dlpack__()

    assert segfuse.loss("dice")(Old(z), Old(y)) == segfuse.loss("dice")(z, y)


def test_a_producer_that_does_not_say_where_its_memory_is():
    z, y = logits(), labels()

    class Bare:
        def __init__(self, array):
            self.__dlpack__ = array.__dlpack__

    assert segfuse.loss("dice")(Bare(z), Bare(y)) == segfuse.loss("dice")(z, y)


@pytest.mark.parametrize(
    "stream, kind", [(-1, segfuse.InvalidValue), (1 << 64, segfuse.InvalidValue), (object(), segfuse.InvalidType)]
)
def test_streams_that_are_none(stream, kind):
    z, y = logits(), labels()
    for call in (segfuse.loss("dice"), segfuse.loss("dice").evaluate, segfuse.value_and_grad("dice")):
        with pytest.raises(kind, match="stream must be"):
            call(z, y, stream=stream)
    with pytest.raises(kind, match="stream must be"):
        segfuse.distance(y, num_classes=3, stream=stream)


def test_a_capsule_that_was_used():
    z, y = logits(), labels()
    capsule = z.__dlpack__()

    class Once(Dlpack):
        def __dlpack__(self, **options):
            return capsule

    assert segfuse.loss("dice")(Once(z), y) == segfuse.loss("dice")(z, y)
    with pytest.raises(ValueError, match="consumed"):
        segfuse.loss("dice")(Once(z), y)


def test_a_producer_that_fails_or_lies():
    class Fails(Dlpack):
        def __dlpack__(self, **options):
            raise BufferError("no")

    class Elsewhere(Dlpack):
        def __dlpack__(self, *, stream, **options):
            return super().__dlpack__(**options)

        def __dlpack_device__(self):
            return (2, 0)

    with pytest.raises(BufferError, match="no"):
        segfuse.loss("dice")(Fails(logits()), labels())
    with pytest.raises(ValueError, match="device"):
        segfuse.loss("dice")(Elsewhere(logits()), labels())


def test_buffers():
    z, y = logits(), labels(np.uint8)
    shape = y.shape
    buffer = memoryview(y.tobytes()).cast("B", shape)
    assert segfuse.loss("dice")(z, buffer) == segfuse.loss("dice")(z, y)
    assert segfuse.loss("dice")(memoryview(z), buffer) == segfuse.loss("dice")(z, y)


def test_jax():
    jax = pytest.importorskip("jax")
    z, y = logits(), labels(np.int32)
    value, gradient = segfuse.value_and_grad("dice + ce")(jax.numpy.asarray(z), jax.numpy.asarray(y))
    expected, slope = segfuse.value_and_grad("dice + ce")(z, y)
    assert value == expected and isinstance(gradient, jax.Array) and (np.asarray(gradient) == slope).all()
    half, slope = segfuse.value_and_grad("dice + ce")(jax.numpy.asarray(z, jax.numpy.bfloat16), jax.numpy.asarray(y))
    assert half == pytest.approx(expected, rel=1e-2) and slope.dtype == jax.numpy.bfloat16


def test_jax_differentiates_and_compiles(monkeypatch):
    jax = pytest.importorskip("jax")
    monkeypatch.syspath_prepend(EXAMPLES)
    import jax_loss

    z, y = logits(), labels(np.int32)
    slope = jax.jit(jax.grad(lambda z: 3.0 * jax_loss.loss(z, y)))(jax.numpy.asarray(z))
    expected = segfuse.value_and_grad("dice + ce")(z, y)[1]
    np.testing.assert_allclose(slope, 3.0 * expected, rtol=1e-6, atol=0.0)
    curve = jax_loss.train(30)
    assert curve[-1] < 0.3 * curve[0]


BAD = [
    (lambda z, y: (z.astype(np.int32), y), segfuse.InvalidType, "prediction cannot be int32"),
    (lambda z, y: (z.astype(np.complex64), y), segfuse.InvalidType, "prediction cannot be <c8"),
    (lambda z, y: (z.astype(">f4"), y), segfuse.InvalidType, "byte order"),
    (lambda z, y: (z[0, 0], y), segfuse.InvalidValue, r"must have shape \[N, C, …\].*got \[5, 7\]"),
    (lambda z, y: (z[:, :, ::2], y), segfuse.InvalidValue, r"prediction of shape \[2, 3, 3, 7\] must be contiguous"),
    (lambda z, y: (z[:0], y[:0]), segfuse.InvalidValue, "number of samples must be from 1"),
    (lambda z, y: (z, y[:1]), segfuse.InvalidValue, r"must have shape \[2, 5, 7\].*got \[1, 5, 7\]"),
    (lambda z, y: (z, y[:, ::-1]), segfuse.InvalidValue, "target .* must be contiguous"),
    (lambda z, y: (z, y.astype(np.float32)), segfuse.InvalidType, "target cannot be float32"),
    (lambda z, y: (z, y.astype(np.uint64)), segfuse.InvalidType, "target cannot be"),
    (lambda z, y: (z, z.astype(np.float64)), segfuse.InvalidType, "target cannot be float64"),
    (lambda z, y: ([1.0], y), segfuse.InvalidType, "must be an array .* not list"),
    (lambda z, y: ((z, z), y), segfuse.InvalidType, "must be an array .* not tuple"),
    (lambda z, y: (None, y), segfuse.InvalidType, "must be an array .* not NoneType"),
    (lambda z, y: (np.float32(1), y), segfuse.InvalidValue, r"got \[\]"),
]


@pytest.mark.parametrize("make, kind, message", BAD)
def test_arrays_that_do_not_fit(make, kind, message):
    with pytest.raises(kind, match=message):
        segfuse.loss("dice")(*make(logits(), labels()))


def test_options_that_do_not_fit():
    z, y = logits(), labels()
    loss = segfuse.loss("dice")
    with pytest.raises(segfuse.InvalidType, match="mask cannot be int64"):
        loss(z, y, mask=y)
    with pytest.raises(segfuse.InvalidValue, match=r"mask must have shape \[2, 5, 7\]"):
        loss(z, y, mask=np.ones((2, 5), bool))
    with pytest.raises(segfuse.InvalidType, match="weights cannot be float64"):
        loss(z, y, weights=np.ones(y.shape))
    with pytest.raises(segfuse.InvalidValue, match="1 to 3 spatial dimensions"):
        segfuse.loss("distance_ce")(np.zeros((1, 2, 2, 2, 2, 2), np.float32), np.zeros((1, 2, 2, 2, 2), np.uint8))
    with pytest.raises(segfuse.InvalidType, match="gradient cannot be float64"):
        loss.value_and_grad(z, y, out=np.empty(SHAPE))
    with pytest.raises(segfuse.InvalidValue, match=r"gradient must have shape \[2, 3, 5, 7\]"):
        loss.value_and_grad(z, y, out=np.empty((2, 3, 5), np.float32))
    with pytest.raises(segfuse.InvalidValue, match="overlaps the prediction"):
        both = np.zeros((3, 3, 5, 7), np.float32)
        loss.value_and_grad(both[:2], y, out=both[1:])
    with pytest.raises(segfuse.InvalidValue, match="grad_output: need 1 elements, got 2"):
        loss.value_and_grad(z, y, grad_output=[1.0, 2.0])
    with pytest.raises(segfuse.InvalidValue, match="need 3, one per class, got 2"):
        segfuse.loss("dice", class_weights=[1, 2])(z, y)


@pytest.mark.parametrize(
    "spec, settings, message",
    [
        ("dise", {}, "did you mean dice"),
        ("dice(smoth=1)", {}, "did you mean smooth"),
        ("tversky(alpha=-1)", {}, "alpha must be"),
        ("dice +", {}, "expected"),
        ("dice", {"activation": "relu"}, "activation must be 'none', 'sigmoid', 'softmax', got 'relu'"),
        ("dice", {"reduction": "avg"}, "reduction must be"),
        ("dice", {"layout": "nhwc"}, "layout must be"),
        ("dice", {"absent": "no"}, "absent must be"),
    ],
)
def test_settings_that_cannot_be_read(spec, settings, message):
    with pytest.raises(segfuse.InvalidValue, match=message) as caught:
        segfuse.loss(spec, **settings)
    assert isinstance(caught.value, (ValueError, segfuse.Error))


def test_nan_in_nan_out_but_for_ignored_voxels():
    z, y = logits(), labels()
    z[0, 1, 2, 3] = np.nan
    assert np.isnan(segfuse.loss("dice + ce")(z, y))
    y[0, 2, 3] = 255
    value, gradient = segfuse.value_and_grad("dice + ce", ignore_index=255)(z, y)
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_explain():
    explanation = segfuse.explain("dice + ce", (2, 4, 8, 8, 8), dtype="float16", ignore_index=3)
    assert [stage.name for stage in explanation.stages] == ["reduce", "finish", "gradient"]
    assert explanation.stages[0].bytes_read == 2 * 4 * 512 * 2 + 2 * 512
    assert "objective" in str(explanation)
    assert [stage.name for stage in segfuse.explain("ce", (2, 4, 8)).stages] == ["census", "one_pass", "finish"]
    per_class = segfuse.explain("boundary", (1, 2, 8, 8), mask=True, weights=True, map="per_class", layout="ncv")
    assert per_class.forward_bytes > segfuse.explain("dice", (1, 2, 8, 8)).forward_bytes


def test_catalogue():
    losses = {info.name: info for info in segfuse.list_losses()}
    assert len(losses) >= 28 and losses["dice"].parameters[0].key == "smooth_nr"
    assert all(info.source and info.doc for info in losses.values())
    assert "cpu" in [name for name, _ in segfuse.devices()]
    assert segfuse.loss("iou").spec.startswith("jaccard")


def test_calls_from_many_threads_agree():
    z, y = logits(shape=(2, 3, 64, 64)), labels(shape=(2, 3, 64, 64))
    loss = segfuse.loss("dice + ce")
    expected = loss.value_and_grad(z, y)
    results = []

    def work():
        for _ in range(20):
            value, gradient = loss.value_and_grad(z, y)
            results.append(value == expected[0] and (gradient == expected[1]).all())

    threads = [threading.Thread(target=work) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(results) == 80 and all(results)


def test_nothing_is_held_after_a_call():
    import sys

    z, y = Dlpack(logits()), labels()
    before = sys.getrefcount(z.array), sys.getrefcount(y)
    for _ in range(10):
        segfuse.loss("dice")(z, y)
        with pytest.raises(segfuse.InvalidValue):
            segfuse.loss("dice")(z, y[:1])
    gc.collect()
    assert (sys.getrefcount(z.array), sys.getrefcount(y)) == before


def test_a_loss_survives_pickling():
    import pickle

    z, y = logits(), labels()
    loss = segfuse.loss("dice(squared=true)", ignore_index=1, class_weights=np.array([1, 2, 3]))
    assert pickle.loads(pickle.dumps(loss))(z, y) == loss(z, y)


def test_the_stub_has_what_the_extension_has():
    """The names and arguments of `_segfuse.pyi` are those of the extension."""
    import ast
    import inspect
    import pathlib

    from segfuse import _segfuse

    stub = ast.parse((pathlib.Path(segfuse.__file__).parent / "_segfuse.pyi").read_text())
    methods = next(node for node in stub.body if isinstance(node, ast.ClassDef) and node.name == "Loss").body
    stated = {f.name: [a.arg for a in f.args.args + f.args.kwonlyargs][1:] for f in methods}
    for name, arguments in stated.items():
        if name not in ("__new__", "spec"):
            assert list(inspect.signature(getattr(_segfuse.Loss, name)).parameters)[1:] == arguments, name
    public = {name for name in dir(_segfuse.Loss) if not name.startswith("_")}
    assert public == {name for name in stated if not name.startswith("_")}
    stated = {node.name for node in stub.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    assert {name for name in dir(_segfuse) if not name.startswith("_")} == stated | {"VERSION"}


def brute_force(mask, spacing):
    """Distances to the nearest voxel of a mask, from all pairs."""
    places = np.argwhere(mask) * np.array(spacing)
    here = np.moveaxis(np.indices(mask.shape), 0, -1)[..., None, :] * np.array(spacing)
    return np.sqrt(((here - places) ** 2).sum(-1).min(-1)) if len(places) else np.full(mask.shape, np.inf)


def test_distance_maps():
    y = labels(np.int32, 3, (2, 3, 6, 5))
    spacing = (1.0, 2.5)
    maps = segfuse.distance(y, num_classes=3, kind="outside", spacing=spacing)
    assert maps.shape == (2, 3, 6, 5) and maps.dtype == np.float32
    inside = segfuse.distance(y, num_classes=3, kind="inside", spacing=spacing)
    for sample in range(2):
        for label in range(3):
            mask = y[sample] == label
            np.testing.assert_allclose(maps[sample, label], brute_force(mask, spacing), rtol=1e-6)
            np.testing.assert_allclose(inside[sample, label], brute_force(~mask, spacing) * mask, rtol=1e-6)
    both = segfuse.distance(y, num_classes=3, spacing=spacing, squared=True)
    np.testing.assert_allclose(both, (maps + inside) ** 2, rtol=1e-6)
    one = segfuse.distance(y == 2, kind="difference", spacing=spacing)
    np.testing.assert_allclose(one[:, 0], (maps - inside)[:, 2], rtol=1e-6)
    some = segfuse.distance(y, num_classes=3, classes=[2, 0], kind="outside", spacing=spacing, layout="nvc", dtype="float16")
    np.testing.assert_allclose(some[..., 0], maps[:, 2], rtol=1e-3)
    assert some.shape == (2, 6, 5, 2) and some.dtype == np.float16
    label = segfuse.distance(y, num_classes=3, kind="multi_label", spacing=spacing)
    assert label.shape == (2, 1, 6, 5) and (label[:, 0] == inside.sum(1)).all()
    label = segfuse.distance(y, num_classes=3, kind="multi_label", spacing=spacing, classes=range(1, 3), layout="nvc")
    assert label.shape == (2, 6, 5, 1) and (label[..., 0] == inside[:, 1:].sum(1)).all()


def test_distance_maps_of_dense_targets_and_predictions():
    z, y = logits(), labels()
    one_hot = np.ascontiguousarray(np.eye(3)[z.argmax(1)].transpose(0, 3, 1, 2).astype(bool))
    expected = segfuse.distance(z.argmax(1), num_classes=3)
    assert (segfuse.distance(one_hot, of="dense") == expected).all()
    assert (segfuse.distance(z, of="prediction") == expected).all()
    above = segfuse.distance(z, of="prediction", activation="sigmoid", threshold=0.7)
    assert (above == segfuse.distance(1 / (1 + np.exp(-z)) > 0.7, of="dense")).all()
    out = np.empty(SHAPE, np.float32)
    assert segfuse.distance(y, num_classes=3, out=out) is out
    ignored = segfuse.distance(y, num_classes=3, kind="outside", ignore_index=0)
    assert np.isinf(ignored[:, 0]).all()


def test_distance_maps_that_cannot_be():
    z, y = logits(), labels()
    for arguments, kind, message in [
        ({}, segfuse.InvalidValue, "num_classes is needed"),
        ({"num_classes": 3, "kind": "inner"}, segfuse.InvalidValue, "kind must be"),
        ({"num_classes": 3, "of": "x"}, segfuse.InvalidValue, "of must be|classes"),
        ({"num_classes": 3, "spacing": [1.0]}, segfuse.InvalidValue, "number of spacings must be from 2 to 2, got 1"),
        ({"num_classes": 3, "classes": [3]}, segfuse.InvalidValue, "from 0 to 2, got 3"),
        ({"num_classes": 3, "classes": [], "kind": "multi_label"}, segfuse.InvalidValue, "classes of the distance maps"),
        ({"num_classes": 3, "out": np.empty(SHAPE)}, segfuse.InvalidType, "distance maps cannot be float64"),
        ({"num_classes": 3, "out": np.empty((2, 3, 5), np.float32)}, segfuse.InvalidValue, r"shape \[2, 3, 5, 7\]"),
    ]:
        with pytest.raises(kind, match=message):
            segfuse.distance(y, **arguments)
    with pytest.raises(segfuse.InvalidValue, match="share memory"):
        segfuse.distance(z, of="prediction", out=z)
    with pytest.raises(segfuse.InvalidValue, match="one map of 3 classes needs labels"):
        segfuse.distance(z, of="prediction", kind="multi_label", threshold=0.5)
    with pytest.raises(segfuse.InvalidType, match="cannot be"):
        segfuse.distance(z, num_classes=3)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def in_a_child(work):
    """Whether `work` is true in a process forked from this one."""
    child = os.fork()
    if child == 0:
        done = False
        try:
            done = bool(work())
        finally:
            os._exit(0 if done else 1)
    return os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks no processes")
def test_a_forked_process_has_threads_of_its_own():
    loss, z, y = segfuse.loss("dice + ce"), logits(shape=(2, 3, 64, 64)), labels(shape=(2, 3, 64, 64))
    value, gradient = loss.value_and_grad(z, y)
    maps = segfuse.distance(y, num_classes=3)

    def agrees():
        own, slope = loss.value_and_grad(z, y)
        return own == value and (slope == gradient).all() and (segfuse.distance(y, num_classes=3) == maps).all()

    assert in_a_child(lambda: agrees() and in_a_child(agrees) and agrees())


class Interface:
    """An array by numpy's protocol, with what it says changed."""

    def __init__(self, array, **changes):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.__array_interface__ = {**array.__array_interface__, **changes}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_array_without_memory(dtype):
    z, y = logits(dtype), labels(np.uint8)
    nowhere = {"data": (0, False)}
    with pytest.raises(segfuse.InvalidValue, match=r"prediction of shape \[2, 3, 5, 7\] has no memory"):
        segfuse.loss("dice")(Interface(z, **nowhere), y)
    with pytest.raises(segfuse.InvalidValue, match="target .* has no memory"):
        segfuse.loss("dice")(z, Interface(y, **nowhere))
    with pytest.raises(segfuse.InvalidValue, match="source of the distance maps .* has no memory"):
        segfuse.distance(Interface(y, **nowhere), num_classes=3, out=np.empty(SHAPE, np.float32))


@pytest.mark.parametrize(
    "changes, kind, message",
    [
        ({"typestr": ""}, segfuse.InvalidType, "typestr"),
        ({"typestr": "é4"}, segfuse.InvalidType, "typestr"),
        ({"typestr": 3}, segfuse.InvalidType, "typestr"),
        ({"data": None}, segfuse.InvalidType, "data"),
        ({"shape": (2, -3, 5, 7)}, segfuse.InvalidType, "shape"),
        ({"strides": (4,)}, segfuse.InvalidValue, r"shape \[2, 3, 5, 7\] has 1 strides"),
        ({"strides": (4, 4, 4, 2)}, segfuse.InvalidValue, "not of whole elements"),
        ({"shape": (2**31, 2**31, 5, 7)}, segfuse.InvalidValue, "more bytes than memory has"),
    ],
)
def test_an_interface_that_says_what_cannot_be(changes, kind, message):
    with pytest.raises(kind, match=message):
        segfuse.loss("dice")(Interface(logits(), **changes), labels())


def test_a_copy_that_finds_no_memory():
    z, y = Interface(logits(np.float64), shape=(1, 2, 1 << 42)), Interface(labels(np.uint8), shape=(1, 1 << 42))
    with pytest.raises(MemoryError, match="no memory left for a copy of the prediction, 8796093022208 elements"):
        segfuse.loss("dice")(z, y)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_gradient_that_overlaps_an_input(dtype):
    z, y = logits(dtype), softmax(logits(dtype))
    expected = segfuse.value_and_grad("soft_dice")(z, y)
    kept = y.copy()
    with pytest.raises(segfuse.InvalidValue, match="gradient overlaps the target"):
        segfuse.value_and_grad("soft_dice")(z, y, out=y)
    assert (y == kept).all()
    both = np.concatenate([z, z[:1]])
    with pytest.raises(segfuse.InvalidValue, match="gradient overlaps the prediction"):
        segfuse.value_and_grad("soft_dice")(both[:2], y, out=both[1:])
    place = z.copy()
    value, gradient = segfuse.value_and_grad("soft_dice")(place, y, out=place)
    assert value == expected[0] and gradient is place and (place == expected[1]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_and_maps_of_what_speaks_dlpack_alone(dtype):
    z, y = logits(dtype), labels(np.uint8)
    value, gradient = segfuse.value_and_grad("dice")(Dlpack(z), Dlpack(y))
    expected = segfuse.value_and_grad("dice")(z, y)
    assert value == expected[0] and gradient.dtype == dtype and (gradient == expected[1]).all()
    assert (segfuse.distance(Dlpack(y), num_classes=3) == segfuse.distance(y, num_classes=3)).all()


def test_no_array_where_an_array_is_made():
    with pytest.raises(segfuse.InvalidType, match="prediction must be an array .* not list"):
        segfuse.value_and_grad("dice")([1.0], labels())
    with pytest.raises(segfuse.InvalidType, match="source of the distance maps must be an array .* not list"):
        segfuse.distance([[0, 1]], num_classes=2)


def test_numbers_of_numpy_and_torch():
    torch = pytest.importorskip("torch")
    z, y = logits(), labels()
    expected = segfuse.value_and_grad("dice", ignore_index=1, class_weights=[1, 2, 0.5])(z, y, grad_output=2.0)
    for one, two, weights, flag in [
        (np.int64(1), np.array(2.0), np.array([1, 2, 0.5]), np.bool_(False)),
        (torch.tensor(1), torch.tensor(2.0), torch.tensor([1, 2, 0.5]), torch.tensor(False)),
        (np.uint8(1), np.float32(2), (1, 2, 0.5), 0),
    ]:
        loss = segfuse.value_and_grad("dice", ignore_index=one, class_weights=weights, batch=flag)
        value, gradient = loss(z, y, grad_output=two)
        assert value == expected[0] and (gradient == expected[1]).all()
    _, expected = segfuse.value_and_grad("dice", reduction="none")(z, y, grad_output=[0.5, -2.0])
    for factors in (np.array([0.5, -2.0]), torch.tensor([0.5, -2.0])):
        assert (segfuse.value_and_grad("dice", reduction="none")(z, y, grad_output=factors)[1] == expected).all()
    with pytest.raises(segfuse.InvalidType, match="setting of the loss"):
        segfuse.loss("dice", ignore_index=1.5)
    with pytest.raises(segfuse.InvalidValue, match="ignore_index must be a number of 64 bits, got 9223372036854775808"):
        segfuse.loss("dice", ignore_index=1 << 63)
