"""Loss and gradient of hausdorff_dt by `segfuse eval` and by MONAI, in one run on one machine.

    python benches/hausdorff.py target/release/segfuse [extent]

Needs the environment of test_vectors/requirements.txt. The target is a ball, the prediction noisy logits of one beside it. Calls
alternate, so that other work on the machine meets both alike; the times are the best of five.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from monai.losses import HausdorffDTLoss


def volume(extent):
    generator = torch.Generator().manual_seed(1)
    grid = torch.stack(torch.meshgrid(*[torch.arange(float(extent))] * 3, indexing="ij"))
    ball = lambda center, radius: ((grid - center * extent).norm(dim=0) <= radius * extent)[None, None]
    target = ball(0.45, 0.25)
    logits = torch.where(ball(0.5, 0.27), 2.0, -2.0) + torch.randn(target.shape, generator=generator)
    return logits, target


def monai(logits, target):
    z = logits.clone().requires_grad_()
    start = time.perf_counter()
    loss = HausdorffDTLoss(sigmoid=True)(z, target)
    loss.backward()
    return time.perf_counter() - start, loss.item(), z.grad.numpy()


def segfuse(binary, folder):
    call = [binary, "eval", "--loss", "hausdorff_dt", "--device", "cpu", "--json", "--grad", folder / "gradient.npy"]
    call += ["--pred", folder / "logits.npy", "--target", folder / "target.npy"]
    report = json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout)
    return report["time_ms"] / 1e3, report["loss"], np.load(folder / "gradient.npy")


def main():
    binary, extent = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 96
    logits, target = volume(extent)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "logits.npy", logits.numpy())
        np.save(folder / "target.npy", target[:, 0].to(torch.uint8).numpy())
        runs = [(segfuse(binary, folder), monai(logits, target.float())) for _ in range(5)]
    ours, theirs = (min(run[i][0] for run in runs) for i in range(2))
    (_, loss, gradient), (_, want, want_gradient) = runs[0]
    print(f"[1,1,{extent},{extent},{extent}], {torch.get_num_threads()} threads of torch")
    print(f"segfuse {ours * 1e3:.1f} ms, MONAI {theirs * 1e3:.1f} ms: {theirs / ours:.1f} times")
    print(f"loss {loss:.7g} and {want:.7g}; gradients differ by {abs(gradient - want_gradient).max() / abs(want_gradient).max():.1e} of the largest")


if __name__ == "__main__":
    main()
