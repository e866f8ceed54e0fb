"""Two processes over gloo with the Dice losses of nnU-Net over the batch of both (`ddp=True`): the original's beside
`segfuse.compat.nnunet`, value and gradient in each process. `test_compat.py` runs this."""

import os
import tempfile

import torch
from torch import distributed, multiprocessing

from compat_originals import original
from segfuse.compat import nnunet
from two_processes import end

LOSSES = [
    ("SoftDiceLoss", {"batch_dice": True}),
    ("SoftDiceLoss", {"batch_dice": True, "do_bg": False, "smooth": 1e-5}),
    ("MemoryEfficientSoftDiceLoss", {"batch_dice": True}),
    ("MemoryEfficientSoftDiceLoss", {"batch_dice": True, "do_bg": False, "smooth": 0.0}),
    ("MemoryEfficientSoftDiceLoss", {"batch_dice": False}),
]


def softmax(x):
    return torch.softmax(x, 1)


def work(rank, store):
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    generator = torch.Generator().manual_seed(7 + rank)
    z = torch.randn(2, 3, 6, 5, generator=generator)
    y = torch.randint(0, 3, (2, 1, 6, 5), generator=generator)
    alone = []
    for name, options in LOSSES:
        found = []
        for module in (original("nnunet"), nnunet):
            loss = getattr(module, name)(apply_nonlin=softmax, ddp=True, **options)
            x = z.clone().requires_grad_()
            value = loss(x, y)
            value.backward()
            found.append((value.detach(), x.grad))
        torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-7)
        alone.append(getattr(nnunet, name)(apply_nonlin=softmax, ddp=False, **options)(z, y) - found[1][0])
    # The sums of the other process make a difference, where the batch is one.
    assert all((abs(float(d)) > 1e-6) == options["batch_dice"] for d, (_, options) in zip(alone, LOSSES)), alone
    end(rank)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(work, (os.path.join(folder, "store"),), nprocs=2)
