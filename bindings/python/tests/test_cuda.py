"""Arrays and tensors on CUDA devices, on the software driver: the same numbers as on the CPU, nothing copied, nothing waited for.

torch has no device here. Its tensors lie in the memory of the driver all the same, and `segfuse.torch` is told so: what it does from
there on is what it does on a device.
"""

import numpy as np
import pytest
import torch

import cuda_memory
import segfuse
import segfuse.torch as st
from segfuse.compat import monai
from segfuse.torch import _ops

DRIVER = cuda_memory.driver()
RNG = np.random.default_rng(5)
SHAPE = (2, 3, 6, 8)
CLOSE = {"rtol": 2e-5, "atol": 1e-8}


def logits(dtype=np.float32):
    return RNG.standard_normal(SHAPE).astype(dtype)


def labels(dtype=np.uint8):
    return RNG.integers(0, 3, (2, 6, 8)).astype(dtype)


def device(array, **options):
    return cuda_memory.Array(DRIVER, array, **options)


def test_the_device_is_listed():
    assert "cuda:0" in dict(segfuse.devices())


@pytest.mark.parametrize("spec", ["dice + 0.5*ce", "focal", "tversky", "mcc"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("label", [np.uint8, np.int64])
def test_the_numbers_of_the_cpu(spec, dtype, label):
    z, y = logits(dtype), labels(label)
    loss = segfuse.loss(spec, ignore_index=1)
    value, gradient = loss.value_and_grad(z, y)
    zd, yd, out = device(z), device(y), device(np.zeros_like(z))
    found, same = loss.value_and_grad(zd, yd, out=out)
    assert same is out and found == pytest.approx(value, rel=1e-5) and loss(zd, yd) == pytest.approx(value, rel=1e-5)
    np.testing.assert_allclose(out.numpy(), gradient, rtol=2e-3 if dtype == np.float16 else 2e-5, atol=1e-7)
    # Nothing but the gradient was written, and every tensor that was lent came back.
    assert (zd.numpy() == z).all() and (yd.numpy() == y).all()
    assert not any(array.exports for array in (zd, yd, out))


def test_every_kind_of_array():
    z, y = logits(), labels()
    mask, weights = (RNG.random(y.shape) < 0.8).astype(np.uint8), RNG.random(y.shape).astype(np.float32)
    field = RNG.standard_normal(z.shape).astype(np.float32)
    loss = segfuse.loss("dice + boundary", reduction="none")
    others = {"mask": mask, "weights": weights, "map": field}
    value, gradient = loss.value_and_grad(z, y, grad_output=[1.0, -2.0], **others)
    out = device(np.zeros_like(z))
    on_device = {name: device(array) for name, array in others.items()}
    found, _ = loss.value_and_grad(device(z), device(y), grad_output=[1.0, -2.0], out=out, **on_device)
    assert found == pytest.approx(value, rel=1e-5)
    np.testing.assert_allclose(out.numpy(), gradient, **CLOSE)


def test_classes_last():
    z, y = logits(), labels()
    last = np.ascontiguousarray(np.moveaxis(z, 1, -1))
    loss = segfuse.loss("dice", layout="nvc")
    out = device(np.zeros_like(last))
    loss.value_and_grad(device(last), device(y), out=out)
    np.testing.assert_allclose(out.numpy(), loss.value_and_grad(last, y)[1], **CLOSE)


def test_the_gradient_over_the_prediction():
    z, y = logits(), labels()
    zd = device(z)
    value, same = segfuse.value_and_grad("dice + ce")(zd, device(y), out=zd)
    expected, gradient = segfuse.value_and_grad("dice + ce")(z, y)
    assert same is zd and value == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(zd.numpy(), gradient, **CLOSE)


def test_what_a_loss_is_made_of():
    z, y = logits(), labels()
    y[0, 0, :3] = 7
    found = segfuse.loss("dice + ce").evaluate(device(z), device(y))
    expected = segfuse.loss("dice + ce").evaluate(z, y)
    assert (found.valid_voxels, found.invalid_labels) == (expected.valid_voxels, 3)
    for own, other in zip(found.terms, expected.terms):
        assert own.name == other.name and own.value == pytest.approx(other.value, rel=1e-5)


def test_the_stream_is_named_to_producers():
    z, y = device(logits()), device(labels())
    loss = segfuse.loss("ce")
    values = [loss(z, y, stream=stream) for stream in (None, 0, 1, 2, DRIVER.stream.value)]
    assert z.streams == y.streams == [1, 1, 1, 2, DRIVER.stream.value]
    assert len(set(values)) == 1


def test_a_producer_from_before_dlpack_1():
    class Old(cuda_memory.Array):
        def __dlpack__(self, stream=None):
            return super().__dlpack__(stream=stream)

    z, y = logits(), labels()
    assert segfuse.loss("ce")(Old(DRIVER, z), Old(DRIVER, y)) == pytest.approx(segfuse.loss("ce")(z, y), rel=1e-5)


def test_a_producer_that_does_not_say_where_its_memory_is():
    class Bare:
        def __init__(self, array):
            self.__dlpack__ = array.__dlpack__

    with pytest.raises(segfuse.InvalidType, match="target.*cuda:0.*__dlpack_device__"):
        segfuse.loss("ce")(Bare(device(logits())), Bare(device(labels())))


def test_more_shapes_than_plans_are_kept():
    loss = segfuse.loss("ce")
    z, y = logits(), labels()
    zd, yd, expected = device(z), device(y), loss(z, y)
    assert loss(zd, yd) == pytest.approx(expected, rel=1e-5)
    for width in range(1, 300):
        loss(np.zeros((1, 2, width), np.float32), np.zeros((1, width), np.uint8))
    assert loss(zd, yd) == pytest.approx(expected, rel=1e-5) and loss(z, y) == expected


BAD = [
    (lambda z, y: (device(z), y), segfuse.DeviceError, "target is in the memory of the host, the prediction in that of cuda:0"),
    (lambda z, y: (z, device(y)), segfuse.DeviceError, "target is in the memory of cuda:0, the prediction in that of the host"),
    (lambda z, y: (device(z.astype(np.float64)), device(y)), segfuse.InvalidType, "cannot be float64.*CUDA"),
    (lambda z, y: (device(z, device=(2, 9)), device(y, device=(2, 9))), segfuse.DeviceError, "cuda:9"),
    (lambda z, y: (device(z, device=(8, 0)), device(y)), segfuse.DeviceError, "DLPack device 8:0"),
    (lambda z, y: (device(z, offset=2), device(y)), segfuse.InvalidValue, "aligned to"),
    (lambda z, y: (device(z), device(y[:, :3])), segfuse.InvalidValue, "target must have shape"),
]


@pytest.mark.parametrize("arrays, kind, message", BAD)
def test_what_is_refused(arrays, kind, message):
    with pytest.raises(kind, match=message):
        segfuse.loss("dice")(*arrays(logits(), labels()))


def test_memory_that_is_on_no_device():
    host = logits()
    z, y = device(host), device(labels())
    z.address = host.ctypes.data
    with pytest.raises(segfuse.DeviceError, match=f"prediction.*{z.address:#x}"):
        segfuse.loss("dice")(z, y)


@pytest.mark.parametrize("kind", ["two_sided", "signed", "outside", "multi_label"])
def test_distances(kind):
    y = labels()
    expected = segfuse.distance(y, num_classes=3, kind=kind, spacing=[1.0, 2.0])
    source, out = device(y), device(np.zeros_like(expected))
    same = segfuse.distance(source, num_classes=3, kind=kind, spacing=[1.0, 2.0], out=out, stream=DRIVER.stream.value)
    assert same is out and source.streams == [DRIVER.stream.value]
    np.testing.assert_allclose(out.numpy(), expected, rtol=1e-6)


def test_distances_of_a_prediction():
    z = logits()
    out = device(np.zeros_like(z))
    segfuse.distance(device(z), of="prediction", out=out)
    np.testing.assert_allclose(out.numpy(), segfuse.distance(z, of="prediction"), rtol=1e-6)
    with pytest.raises(segfuse.DeviceError, match="maps are in the memory of the host, their source in that of cuda:0"):
        segfuse.distance(device(labels()), num_classes=3, out=np.empty(SHAPE, np.float32))
    with pytest.raises(segfuse.InvalidType, match="give `out`"):
        segfuse.distance(device(labels()), num_classes=3)


def test_a_gradient_without_a_place():
    with pytest.raises(segfuse.InvalidType, match="give `out`"):
        segfuse.value_and_grad("dice")(device(logits()), device(labels()))


@pytest.fixture
def on_device(monkeypatch):
    """Tensors in the memory of the driver are on a device."""
    on = lambda tensor: tensor is not None and DRIVER.holds(tensor.data_ptr())  # noqa: E731
    monkeypatch.setattr(_ops, "_is_cuda", on)
    monkeypatch.setattr(_ops, "_device", lambda tensor: "cuda:0" if on(tensor) else "cpu")
    monkeypatch.setattr(_ops, "stream_of", lambda tensor: DRIVER.stream.value)
    monkeypatch.setattr(_ops, "_device_bytes", lambda _, count: DRIVER.tensor(torch.zeros(count, dtype=torch.uint8)))
    monkeypatch.setattr(_ops, "_copy", DRIVER.tensor)
    like = _ops._like
    monkeypatch.setattr(_ops, "_like", lambda p: DRIVER.tensor(torch.zeros_like(p)) if on(p) else like(p))


def tensors(dtype=torch.float32):
    return torch.from_numpy(logits()).to(dtype), torch.from_numpy(labels())


def both(loss, z, y, **others):
    """Value and gradient on the CPU and on the device."""
    results = []
    for place in (lambda x: x.clone(), DRIVER.tensor):
        leaf = place(z).requires_grad_()
        value = loss(leaf, place(y), **{name: place(x) for name, x in others.items()})
        weight = torch.arange(1.0, 1 + value.numel()).reshape(value.shape)
        (value * weight).sum().backward()
        results.append((value.detach(), leaf.grad))
    assert DRIVER.holds(leaf.data_ptr())
    return results


@pytest.mark.parametrize("spec", ["dice + ce", "generalized_dice", "focal(gamma=1.5)", "wasserstein_dice"])
@pytest.mark.parametrize("settings", [{}, {"reduction": "none"}, {"batch": True, "ignore_index": 2}])
def test_torch_has_the_numbers_of_the_cpu(on_device, spec, settings):
    if spec == "wasserstein_dice":
        spec = "wasserstein_dice(matrix=[0, 1, 1; 1, 0, 0.5; 1, 0.5, 0])"
    cpu, cuda = both(st.Loss(spec, **settings), *tensors())
    torch.testing.assert_close(cuda, cpu, **CLOSE)


def test_torch_with_other_tensors(on_device):
    z, y = tensors()
    mask, weights = torch.rand(y.shape) < 0.7, torch.rand(y.shape)
    cpu, cuda = both(st.Loss("dice + boundary"), z, y, mask=mask, weights=weights, map=torch.randn(z.shape))
    torch.testing.assert_close(cuda, cpu, **CLOSE)


def test_torch_channels_last(on_device):
    z, y = tensors()
    cpu, cuda = both(st.Loss("dice + ce"), z.contiguous(memory_format=torch.channels_last), y)
    torch.testing.assert_close(cuda, cpu, **CLOSE)
    assert cuda[1].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype, rounding", [(torch.float16, 2e-3), (torch.bfloat16, 1e-2)])
def test_torch_half_precision(on_device, dtype, rounding):
    cpu, cuda = both(st.Loss("dice + ce"), *tensors(dtype))
    assert cuda[0].dtype == torch.float32 and cuda[1].dtype == dtype
    torch.testing.assert_close(cuda, cpu, rtol=rounding, atol=1e-6)


def test_torch_tensors_at_odd_addresses(on_device):
    z, y = tensors()
    padded = DRIVER.tensor(torch.cat([torch.zeros(1), z.flatten()]))
    shifted = padded[1:].view(z.shape)
    value = st.Loss("dice")(shifted, DRIVER.tensor(y))
    torch.testing.assert_close(value, st.Loss("dice")(z, y), **CLOSE)


def test_torch_reports(on_device):
    z, y = tensors()
    y[0, 0, 0] = 9
    found = st.Loss("dice + ce").evaluate(DRIVER.tensor(z), DRIVER.tensor(y))
    assert found.invalid_labels == 1 and found.loss == pytest.approx(float(st.Loss("dice + ce")(z, y)), rel=1e-5)


def test_torch_sums_of_several_processes(on_device):
    """Each half with the sums of both has the loss of the whole, and its part of the gradient."""
    z, y = tensors()
    loss = st.Loss("dice + ce", batch=True)
    whole = z.clone().requires_grad_()
    value = loss(whole, y)
    value.backward()
    halves = [(DRIVER.tensor(z[n : n + 1]), DRIVER.tensor(y[n : n + 1])) for n in range(2)]
    moments = torch.cat([_ops.reduce(a, b, None, None, None, loss._config) for a, b in halves])
    for n, (a, b) in enumerate(halves):
        a.requires_grad_()
        part = _ops.loss(a, b, None, None, None, moments, loss._config, False, n, 2.0)
        part.backward()
        torch.testing.assert_close(part, value, **CLOSE)
        torch.testing.assert_close(a.grad, 2 * whole.grad[n : n + 1], **CLOSE)


@pytest.mark.parametrize(
    "loss",
    [
        monai.DiceCELoss(softmax=True, to_onehot_y=True),
        monai.GeneralizedDiceLoss(sigmoid=True, to_onehot_y=True),
        monai.BoundaryLoss(softmax=True, to_onehot_y=True),
        monai.HausdorffDTLoss(softmax=True, to_onehot_y=True),
        monai.LogHausdorffDTLoss(softmax=True, to_onehot_y=True),
    ],
)
def test_compat(on_device, loss):
    z, y = tensors()
    cpu, cuda = both(loss, z, y[:, None])
    torch.testing.assert_close(cuda, cpu, **CLOSE)


def test_torch_waits_for_nothing(on_device, monkeypatch):
    """Forward and backward can be captured into a CUDA graph, where a wait or a copy to the host is an error of the driver."""
    z, y = (DRIVER.tensor(x) for x in tensors())
    z.requires_grad_()
    loss = st.Loss("dice + ce")
    # Kernels are compiled, and memory is allocated, before; torch's allocator has memory for captures.
    loss(z, y).backward()
    memory = {count: iter([DRIVER.tensor(torch.zeros(count, dtype=torch.uint8)) for _ in range(4)]) for count in set(DRIVER.blocks.values())}
    monkeypatch.setattr(_ops, "_device_bytes", lambda _, count: next(memory[count]))
    slope = DRIVER.tensor(torch.zeros_like(z))
    monkeypatch.setattr(_ops, "_like", lambda _: slope)
    assert DRIVER.captured(lambda: loss(z, y).backward())
    with pytest.raises(segfuse.DeviceError):
        DRIVER.captured(lambda: loss.evaluate(z, y))


def test_torch_double_precision_is_refused(on_device):
    z, y = tensors(torch.float64)
    with pytest.raises(segfuse.InvalidType, match="cannot be float64.*CUDA"):
        st.Loss("dice")(DRIVER.tensor(z), DRIVER.tensor(y))
