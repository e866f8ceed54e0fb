"""Losses in PyTorch: gradients, compilation, mixed precision, heads, several processes."""

import inspect
import os
import pathlib
import subprocess
import sys
import sysconfig

import numpy as np
import pytest

import segfuse

torch = pytest.importorskip("torch")
st = pytest.importorskip("segfuse.torch")

SHAPE = (2, 3, 6, 5)


def make(dtype=torch.float32, shape=SHAPE, classes=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    y = torch.randint(0, classes or shape[1], (shape[0],) + shape[2:], generator=generator)
    return z, y


def softmax_dice(z, y):
    """The Dice loss written in torch operations."""
    p = z.softmax(1)
    g = torch.nn.functional.one_hot(y, z.shape[1]).movedim(-1, 1).to(p)
    axes = tuple(range(2, z.dim()))
    score = (2 * (p * g).sum(axes) + 1e-5) / (p.sum(axes) + g.sum(axes) + 1e-5)
    return (1 - score).mean()


def dice_ce(z, y):
    return softmax_dice(z, y) + torch.nn.functional.cross_entropy(z, y)


def test_value_and_gradient_are_those_of_torch():
    z, y = make()
    loss = st.Loss("dice + ce")(z, y)
    (gradient,) = torch.autograd.grad(loss, z)
    truth = dice_ce(z.double(), y)
    (slope,) = torch.autograd.grad(truth, z)
    torch.testing.assert_close(loss.double(), truth, rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient, slope, rtol=1e-5, atol=1e-8)
    assert loss.dtype == torch.float32 and loss.shape == ()


def extras(name, z):
    """What a loss needs beside prediction and target."""
    if name in ("boundary", "distance_ce", "shape_aware_ce"):
        return {"map": torch.rand(z.shape[0], *z.shape[2:], generator=torch.Generator().manual_seed(5))}
    return {}


@pytest.mark.parametrize("info", segfuse.list_losses(), ids=lambda info: info.name)
def test_every_loss_passes_gradcheck(info):
    spec = "topk_ce(threshold=0.7)" if info.name == "topk_ce" else info.name
    for activation, shape in [(None, (2, 3, 3, 2)), ("sigmoid", (2, 2, 4)), ("none", (1, 3, 5))]:
        z, y = make(torch.float64, shape)
        if activation == "none":
            z = z.detach().softmax(1).requires_grad_()
        try:
            loss = st.Loss(spec, activation=activation)
            loss(z, y, **extras(info.name, z))
        except segfuse.InvalidValue as error:
            assert activation is not None, error
            continue
        assert torch.autograd.gradcheck(lambda x: loss(x, y, **extras(info.name, z)), (z,), atol=1e-6, rtol=1e-4)


def test_gradcheck_with_everything():
    z, y = make(torch.float64)
    y[0, 0, 0], y[1, 2, 2] = 255, 99
    generator = torch.Generator().manual_seed(2)
    mask = torch.rand(y.shape, generator=generator) < 0.8
    weights = torch.rand(y.shape, generator=generator)
    loss = st.Loss("dice(squared=true) + 0.3*focal", ignore_index=255, class_weights=torch.tensor([1.0, 2.0, 0.5]))
    assert torch.autograd.gradcheck(lambda x: loss(x, y, mask=mask, weights=weights), (z,))
    soft = torch.rand(SHAPE, generator=generator, dtype=torch.float64).softmax(1)
    assert torch.autograd.gradcheck(lambda x: st.Loss("soft_dice + bce", activation="sigmoid")(x, soft), (z,))
    none = st.Loss("dice + ce", reduction="none")
    assert torch.autograd.gradcheck(lambda x: none(x, y.clamp(max=2)), (z,))


def test_float64_is_exact():
    z, y = make(torch.float64)
    loss = st.Loss("dice + ce")(z, y)
    assert loss.dtype == torch.float64
    torch.testing.assert_close(loss, dice_ce(z, y), rtol=1e-14, atol=0)
    (gradient,) = torch.autograd.grad(loss, z)
    torch.testing.assert_close(gradient, torch.autograd.grad(dice_ce(z, y), z)[0], rtol=1e-11, atol=1e-16)


def test_gradients_of_samples():
    z, y = make()
    upstream = torch.tensor([0.25, -3.0])
    losses = st.Loss("dice + focal", reduction="none")(z, y)
    assert losses.shape == (2,)
    (gradient,) = torch.autograd.grad(losses, z, upstream)
    for sample in range(2):
        part = z.detach()[sample : sample + 1].requires_grad_()
        own = st.Loss("dice + focal")(part, y[sample : sample + 1])
        torch.testing.assert_close(own, losses[sample])
        (slope,) = torch.autograd.grad(own * upstream[sample], part)
        torch.testing.assert_close(gradient[sample], slope[0], rtol=1e-5, atol=1e-9)


def test_the_loss_within_a_larger_one():
    z, y = make()
    total = 3 * st.Loss("dice")(z, y) ** 2 + z.square().mean()
    (gradient,) = torch.autograd.grad(total, z)
    truth = 3 * softmax_dice(z.double(), y) ** 2 + z.double().square().mean()
    torch.testing.assert_close(gradient, torch.autograd.grad(truth, z)[0], rtol=1e-5, atol=1e-8)


def test_backward_twice_and_not_at_all():
    z, y = make()
    loss = st.Loss("dice")(z, y)
    loss.backward(retain_graph=True)
    once = z.grad.clone()
    loss.backward()
    torch.testing.assert_close(z.grad, 2 * once)
    with torch.no_grad():
        assert not st.Loss("dice")(z, y).requires_grad
    assert not st.Loss("dice")(z.detach(), y).requires_grad


def test_second_derivatives_are_refused():
    z, y = make()
    (gradient,) = torch.autograd.grad(st.Loss("dice")(z, y), z, create_graph=True)
    with pytest.raises(RuntimeError, match="segfuse has no second derivatives"):
        gradient.sum().backward()


@pytest.mark.parametrize("shape, order", [((2, 3, 6, 5), torch.channels_last), ((2, 3, 4, 3, 5), torch.channels_last_3d)])
def test_channels_last_without_a_copy(shape, order, monkeypatch):
    z, y = make(shape=shape)
    loss = st.Loss("dice + ce")
    expected = torch.autograd.grad(loss(z, y), z)[0]
    last = z.detach().contiguous(memory_format=order).requires_grad_()
    seen = []
    describe = st._ops.describe

    def watched(tensor):
        seen.append(None if tensor is None else tensor.data_ptr())
        return describe(tensor)

    monkeypatch.setattr(st._ops, "describe", watched)
    gradient = torch.autograd.grad(loss(last, y), last)[0]
    assert seen.count(last.data_ptr()) == 2 and seen.count(y.data_ptr()) == 2
    assert gradient.is_contiguous(memory_format=order)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-8)
    # A dense target in the other order is put in the prediction's.
    dense = torch.nn.functional.one_hot(y, 3).movedim(-1, 1)
    torch.testing.assert_close(loss(last, dense), loss(z, y))
    torch.testing.assert_close(loss(last, dense.float().contiguous()), loss(z, y))


def test_tensors_that_are_not_dense():
    z, y = make(shape=(2, 3, 6, 10))
    part, labels = z[..., ::2], y[..., ::2]
    (gradient,) = torch.autograd.grad(st.Loss("dice")(part, labels), z)
    dense = z.detach()[..., ::2].contiguous().requires_grad_()
    (slope,) = torch.autograd.grad(st.Loss("dice")(dense, labels.contiguous()), dense)
    torch.testing.assert_close(gradient[..., ::2], slope)
    assert not gradient[..., 1::2].any()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_labels_and_one_hot_of_every_type(dtype):
    z, y = make()
    loss = st.Loss("dice + ce")
    expected = loss(z, y)
    assert loss(z, y.to(dtype)) == expected == loss(z, y[:, None].to(dtype))
    one_hot = torch.nn.functional.one_hot(y, 3).movedim(-1, 1)
    for target in (one_hot.to(dtype), one_hot.bool(), one_hot.double(), one_hot.half()):
        torch.testing.assert_close(loss(z, target), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_under_a_scaler(dtype):
    """The factor of a scaler is multiplied in before the gradient is rounded: what would vanish in float16 does not."""
    z, y = make(dtype, (1, 2, 256, 256))
    z = (6 * z.detach()).requires_grad_()
    loss = st.Loss("ce")(z, y)
    assert loss.dtype == torch.float32
    scale = 2.0**16
    (gradient,) = torch.autograd.grad(loss * scale, z)
    assert gradient.dtype == dtype
    double = z.detach().double().requires_grad_()
    (truth,) = torch.autograd.grad(torch.nn.functional.cross_entropy(double, y) * scale, double)
    torch.testing.assert_close(gradient.double(), truth, rtol=1e-2, atol=1e-6)
    if dtype == torch.float16:
        (alone,) = torch.autograd.grad(st.Loss("ce")(z, y), z)
        assert (alone == 0).sum() > 1000 + 2 * (gradient == 0).sum()


def test_autocast_and_grad_scaler():
    torch.manual_seed(0)
    model = torch.nn.Conv2d(1, 3, 3, padding=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    scaler = torch.amp.GradScaler("cpu")
    image = torch.randn(2, 1, 16, 16)
    y = (image[:, 0] > 0).long() + (image[:, 0] > 1).long()
    losses = []
    for _ in range(30):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(image)
            loss = st.Loss("dice + ce")(logits, y)
        assert logits.dtype == torch.bfloat16 and loss.dtype == torch.float32
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_compiled_without_a_break():
    loss = st.Loss("dice + 0.5*focal", ignore_index=255)

    def step(z, y, mask):
        return loss(z * 2, y, mask=mask) * 3

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    for shape in [SHAPE, (4, 3, 8, 8), (1, 3, 7, 9)]:
        z, y = make(shape=shape)
        mask = torch.ones(y.shape, dtype=torch.bool)
        expected, value = step(z, y, mask), compiled(z, y, mask)
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(torch.autograd.grad(value, z), torch.autograd.grad(expected, z))


@pytest.mark.skipif(
    not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")), reason="inductor needs Python's headers"
)
def test_compiled_by_inductor():
    loss = st.Loss("dice + ce", reduction="none")
    model = torch.nn.Conv2d(1, 3, 1)
    image, y = torch.randn(2, 1, 4, 4), torch.randint(0, 3, (2, 4, 4))
    compiled = torch.compile(lambda x: loss(model(x).contiguous(memory_format=torch.channels_last), y).sum(), fullgraph=True)
    value = compiled(image)
    value.backward()
    torch.testing.assert_close(value, loss(model(image), y).sum())
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    loss(model(image), y).sum().backward()
    for parameter, gradient in zip(model.parameters(), gradients):
        torch.testing.assert_close(parameter.grad, gradient)


def test_memory_of_gradients_is_used_again():
    """A large gradient takes the memory of one that is gone, and of none that is not."""
    z, y = make(shape=(1, 4, 256, 512))
    loss = st.Loss("dice + ce")
    st.empty_cache()
    first, second = (torch.autograd.grad(loss(z, y), z)[0] for _ in range(2))
    places = {first.data_ptr(), second.data_ptr()}
    assert len(places) == 2 and torch.equal(first, second)
    kept = first.clone()
    view = second[:, 1:]
    del second
    third = torch.autograd.grad(loss(z, y), z)[0]
    assert third.data_ptr() not in places
    del view, third
    fourth = torch.autograd.grad(2 * loss(z, y), z)[0]
    assert fourth.data_ptr() % 64 == 0 and torch.equal(first, kept) and torch.equal(fourth, 2 * kept)
    address = fourth.data_ptr()
    del fourth
    last = z.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    fifth = torch.autograd.grad(loss(last, y), last)[0]
    assert fifth.data_ptr() in places | {address} and fifth.stride() == last.stride()
    torch.testing.assert_close(fifth, kept, rtol=1e-5, atol=1e-9)
    st.empty_cache()
    half = z.detach().bfloat16().requires_grad_()
    assert torch.autograd.grad(loss(half, y), half)[0].dtype == torch.bfloat16


def test_functional_gradients():
    z, y = make()
    expected = torch.autograd.grad(st.Loss("dice + ce")(z, y), z)[0]
    gradient = torch.func.grad(lambda x: st.Loss("dice + ce")(x, y))(z.detach())
    assert torch.equal(gradient, expected)


def test_operators_hold_what_torch_asks_of_them():
    z, y = make()
    config = st._ops.settings("dice + ce")
    arguments = (z, y, None, None, None, None, config, False, 0, 1.0)
    torch.library.opcheck(torch.ops.segfuse.forward, arguments)
    torch.library.opcheck(torch.ops.segfuse.reduce, (z.detach(), y, None, None, None, config))


def test_heads():
    z, y = make(shape=(2, 3, 8, 8))
    small = make(shape=(2, 3, 4, 4), seed=1)[0]
    loss = st.Loss("dice + ce", head_weights=[1.0, 0.5])
    total = loss([z, small], y)
    # The nearest voxel of a grid twice as fine is the second of two.
    expected = dice_ce(z, y) + 0.5 * dice_ce(small, y[:, 1::2, 1::2])
    torch.testing.assert_close(total, expected)
    gradients = torch.autograd.grad(total, [z, small])
    for gradient, slope in zip(gradients, torch.autograd.grad(expected, [z, small])):
        torch.testing.assert_close(gradient, slope, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(loss((z, small), [y, y[:, 1::2, 1::2]]), total)
    with pytest.raises(segfuse.InvalidValue, match="weight of a head, 2, got 1"):
        loss([z], y)
    with pytest.raises(segfuse.InvalidValue, match="there are 1 tensors for 2 heads"):
        loss([z, small], [y])
    with pytest.raises(segfuse.InvalidValue, match="there are 3 tensors for 2 heads"):
        loss([z, small], y, mask=[None] * 3)
    with pytest.raises(segfuse.InvalidValue, match="weights of heads must be finite, got .1.0, nan"):
        st.Loss("dice", head_weights=[1.0, float("nan")])


def test_modules_of_each_loss():
    z, y = make()
    torch.testing.assert_close(st.DiceLoss(squared=True, batch=True)(z, y), st.Loss("dice(squared=true)", batch=True)(z, y))
    torch.testing.assert_close(st.FocalTverskyLoss(gamma=2)(z, y), st.Loss("focal_tversky(gamma=2)")(z, y))
    matrix = [[0.0, 1.0, 1.0], [1.0, 0.0, 0.5], [1.0, 0.5, 0.0]]
    torch.testing.assert_close(
        st.WassersteinDiceLoss(matrix=torch.tensor(matrix))(z, y),
        st.Loss("wasserstein_dice(matrix=[0, 1, 1; 1, 0, 0.5; 1, 0.5, 0])")(z, y),
    )
    names = [info.name for info in segfuse.list_losses()]
    assert len(st.__all__) == len(names) + 2 and {"CELoss", "BCELoss", "MCCLoss", "BalancedCELoss"} <= set(st.__all__)
    for name in set(st.__all__) - {"empty_cache"}:
        assert issubclass(getattr(st, name), torch.nn.Module) and inspect.getdoc(getattr(st, name))
    with pytest.raises(segfuse.InvalidValue, match="activation"):
        st.DiceLoss(activation="relu")
    with pytest.raises(TypeError, match="smoth"):
        st.DiceLoss(smoth=1)
    with pytest.raises(AttributeError, match="DiseLoss"):
        st.DiseLoss
    assert "dice" in repr(st.DiceLoss(batch=True)) and "batch=True" in repr(st.DiceLoss(batch=True))


def test_the_stub_of_the_modules_is_fresh():
    script = pathlib.Path(__file__).parent.parent / "stubs.py"
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    out = subprocess.run([sys.executable, str(script), "--check"], env=environment, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr


def test_evaluate():
    z, y = make()
    y[0, 0, 0] = 7
    evaluation = st.Loss("dice + ce").evaluate(z, y)
    assert evaluation.invalid_labels == 1 and evaluation.valid_voxels == y.numel() - 1
    assert evaluation.loss == pytest.approx(st.Loss("dice + ce")(z, y).item(), rel=1e-6)


def test_what_does_not_fit():
    z, y = make()
    loss = st.Loss("dice")
    with pytest.raises(segfuse.InvalidValue, match="target requires a gradient"):
        loss(z, z.softmax(1))
    with pytest.raises(segfuse.InvalidType, match="target must be a tensor, not list"):
        loss(z, [1])
    with pytest.raises(segfuse.InvalidType, match="target must be a tensor, not NoneType"):
        loss(z, None)
    with pytest.raises(segfuse.DeviceError, match="target is on meta, the prediction on cpu"):
        loss(z, y.to("meta"))
    with pytest.raises(segfuse.InvalidValue, match=r"target must have shape \[2, 6, 5\]"):
        loss(z, y[:1])
    with pytest.raises(segfuse.InvalidType, match="prediction cannot be int64"):
        loss(y, y)
    with pytest.raises(segfuse.InvalidType, match="target cannot be float32"):
        loss(z, y.float())
    with pytest.raises(segfuse.InvalidType, match="mask cannot be int64"):
        loss(z, y, mask=y)
    with pytest.raises(segfuse.InvalidType, match=r"target cannot be float32.* shape \[2, 6, 5\]"):
        loss(z, y.float())
    with pytest.raises(segfuse.InvalidValue, match=r"mask must have shape \[2, 6, 5\] or .*, got \[2, 3, 6, 5\]"):
        loss(z, y, mask=z > 0)
    for none in (None, {"out": z}, z.detach().numpy()):
        with pytest.raises(segfuse.InvalidType, match="prediction must be a tensor, or a list of tensors"):
            loss(none, y)
    for few in (z[0, 0, 0, 0], z[:, 0, 0, 0], z[:, :, 0, 0]):
        with pytest.raises(segfuse.InvalidValue, match=r"prediction must have shape \[N, C, …\]"):
            loss(few, y)
    with pytest.raises(segfuse.InvalidType, match="prediction must be dense, its layout is torch.sparse_coo"):
        loss(z.detach().to_sparse(), y)
    with pytest.raises(segfuse.InvalidType, match="prediction must be a tensor, not list"):
        loss.evaluate([z], y)
    with pytest.raises(segfuse.DeviceError, match="target is in the memory of meta"):
        loss(z.to("meta"), y.to("meta"))
    with pytest.raises(segfuse.InvalidValue, match="process_group must be"):
        st.Loss("dice", process_group="all")
    with pytest.raises(segfuse.InvalidValue, match="not initialised yet"):
        st.Loss("dice", process_group="world")(z, y)
    with pytest.raises(segfuse.InvalidValue, match="sharded must be"):
        st.Loss("dice", sharded="x")
    with pytest.raises(segfuse.InvalidValue, match="batch=true"):
        st.Loss("dice", reduction="none", batch=True)(z, y)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_tensor_whose_memory_is_gone(dtype):
    z, y = make(dtype)
    z = z.detach()
    z.untyped_storage().resize_(0)
    with pytest.raises(segfuse.InvalidValue, match="prediction of shape .* has no memory"):
        st.Loss("dice")(z, y)


def test_parameters_of_every_kind():
    ones = 1 - np.eye(3)
    for value in (ones, torch.tensor(ones), ones.tolist()):
        assert st.WassersteinDiceLoss(matrix=value).spec == "wasserstein_dice(matrix=[0, 1, 1; 1, 0, 1; 1, 1, 0])"
    for three in (3, 3.0, np.float32(3), torch.tensor(3.0)):
        assert st.FocalLoss(gamma=three, alpha=None).spec == "focal(gamma=3)"
    assert st.DiceLoss(squared=np.bool_(True)).spec == "dice(squared=true)"
    with pytest.raises(segfuse.InvalidValue, match="number, a word or a matrix"):
        st.DiceLoss(smooth_nr="1) + ce(smoothing=0.1")
    for none in ([], {}, object()):
        with pytest.raises(segfuse.InvalidType, match="number, a word or a matrix"):
            st.DiceLoss(smooth_nr=none)


def test_arrays_of_torch_without_segfuse_torch():
    z, y = make()
    value, gradient = segfuse.value_and_grad("dice")(z.detach(), y)
    assert isinstance(gradient, torch.Tensor) and value == pytest.approx(softmax_dice(z, y).item(), rel=1e-6)
    half = z.detach().to(torch.bfloat16)
    assert segfuse.value_and_grad("dice")(half, y)[1].dtype == torch.bfloat16


def test_pickled_and_copied():
    import copy
    import pickle

    z, y = make()
    loss = st.DiceLoss(squared=True, ignore_index=2)
    for other in (pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss)):
        assert other(z, y) == loss(z, y)


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
def test_two_processes_are_one():
    """With the sums of both, two processes have the loss and, averaged, the gradient of one with all samples."""
    script = pathlib.Path(__file__).with_name("two_processes.py")
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)), OMP_NUM_THREADS="1")
    out = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=300)
    assert out.returncode == 0, out.stdout + out.stderr
    assert np.array([line.startswith("ok") for line in out.stdout.splitlines()]).sum() == 2, out.stdout
