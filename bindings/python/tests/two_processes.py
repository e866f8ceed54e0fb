"""Two processes over gloo, each with half of the samples, against one with all. `test_torch.py` runs this."""

import copy
import os
import tempfile

import pytest
import torch
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

import segfuse
import segfuse.torch as st

SPECS = [
    ("dice + ce", {"batch": True}),
    ("generalized_dice + 0.5*focal", {}),
    ("tversky", {"batch": True, "background": False, "absent": "skip"}),
    ("ce", {"class_weights": [1.0, 2.0, 0.5], "ignore_index": 1}),
]


def model():
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.Tanh(), torch.nn.Conv2d(4, 3, 1))


def data():
    generator = torch.Generator().manual_seed(4)
    return torch.randn(4, 1, 8, 8, generator=generator), torch.randint(0, 3, (4, 8, 8), generator=generator)


def work(rank, store):
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    compare(rank)
    refuse(rank)
    end(rank)


def end(rank):
    """Ends a process of the group when the other is done too. The group is left to the end of the process: where torch 2.15
    takes it down, it now and then aborts over a thread that has not ended."""
    distributed.barrier()
    os.write(1, f"ok {rank}\n".encode())  # At once: the other process writes its line now too.
    os._exit(0)


def compare(rank):
    image, y = data()
    half = slice(2 * rank, 2 * rank + 2)
    for spec, settings in SPECS:
        whole = model()
        expected = st.Loss(spec, **settings)(whole(image), y)
        expected.backward()

        network = DistributedDataParallel(model())
        loss = st.Loss(spec, process_group=distributed.group.WORLD, **settings)(network(image[half]), y[half])
        loss.backward()
        assert loss == expected, (spec, loss.item(), expected.item())
        for own, other in zip(network.parameters(), whole.parameters()):
            torch.testing.assert_close(own.grad, other.grad, rtol=1e-5, atol=1e-8)

        # The gradient by the prediction itself, without DistributedDataParallel: the same values as in one process.
        z = model()(image).detach().requires_grad_()
        (truth,) = torch.autograd.grad(st.Loss(spec, **settings)(z, y), z)
        part = z.detach()[half].requires_grad_()
        summed = st.Loss(spec, process_group=distributed.group.WORLD, averaged_gradients=False, **settings)
        (slope,) = torch.autograd.grad(summed(part, y[half]), part)
        assert torch.equal(slope, truth[half]), (spec, (slope - truth[half]).abs().max())

        # Halves of the same volumes.
        z = z.detach()
        rows = slice(4 * rank, 4 * rank + 4)
        part = z[:, :, rows].contiguous().requires_grad_()
        parted = st.Loss(
            spec, process_group=distributed.group.WORLD, sharded="voxels", averaged_gradients=False, **settings
        )
        loss = parted(part, y[:, rows])
        torch.testing.assert_close(loss, expected.detach(), rtol=1e-6, atol=1e-7)
        (slope,) = torch.autograd.grad(loss, part)
        torch.testing.assert_close(slope, truth[:, :, rows], rtol=1e-5, atol=1e-8)


def refuse(rank):
    """What no loss of both is made of, on either rank."""
    image, y = data()
    z = model()(image).detach()
    loss = st.Loss("dice + ce", batch=True, process_group="world")
    half = slice(2 * rank, 2 * rank + 2)
    for same in (loss, copy.deepcopy(loss), copy.deepcopy(st.Loss(loss.spec, batch=True, process_group=distributed.group.WORLD))):
        assert same(z[half], y[half]) == st.Loss("dice + ce", batch=True)(z, y)
    uneven = (slice(0, 3), slice(3, 4))[rank]
    with pytest.raises(segfuse.InvalidValue, match=r"number of samples.* are \[\[3, 3, \d\], \[1, 3, \d\]\]"):
        loss(z[uneven], y[uneven])

    # A map of whole samples, such as distances, is not that of a part.
    rows = slice(4 * rank, 4 * rank + 4)
    part, labels = z[:, :, rows].contiguous(), y[:, rows]
    parted = {"process_group": "world", "sharded": "voxels"}
    for spec in ("boundary", "ce + 0.1*hausdorff_dt", "log_hausdorff_dt", "distance_ce", "shape_aware_ce"):
        with pytest.raises(segfuse.InvalidValue, match="makes maps"):
            st.Loss(spec, **parted)(part, labels)
        whole = st.Loss(spec)(z, y)
        torch.testing.assert_close(st.Loss(spec, process_group="world")(z[half], y[half]), whole)
    with pytest.raises(Exception, match="makes maps"):
        torch.compile(st.Loss("boundary", **parted), fullgraph=True, backend="aot_eager")(part, labels)
    # One that is given is.
    distances = segfuse.distance(y, num_classes=3, kind="signed")
    given = st.Loss("boundary", **parted)(part, labels, map=distances[:, :, rows])
    torch.testing.assert_close(given, st.Loss("boundary")(z, y))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(work, (os.path.join(folder, "store"),), nprocs=2)
