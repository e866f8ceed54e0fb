"""Loss and gradient of a Hausdorff loss by `segfuse eval` and by its peer, in one run on one machine.

    python benches/hausdorff.py target/release/segfuse [extent] [--erosion]

hausdorff_dt beside MONAI, or with --erosion hausdorff_erosion of ten erosions beside the erosions of kornia. Needs the environment of
test_vectors/requirements.txt. The target is a ball, the prediction noisy logits of one beside it; with --erosion a ball that is missed but
for a little, so that erosions leave something to the end. Calls alternate, so that other work on the machine meets both alike; the times
are the best of five.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import kornia
import numpy as np
import torch
from monai.losses import HausdorffDTLoss


def volume(extent, erosion):
    generator = torch.Generator().manual_seed(1)
    grid = torch.stack(torch.meshgrid(*[torch.arange(float(extent))] * 3, indexing="ij"))
    ball = lambda center, radius: ((grid - center * extent).norm(dim=0) <= radius * extent)[None, None]
    target = ball(0.45, 0.25)
    if erosion:
        return torch.full(target.shape, -2.0), target
    return torch.where(ball(0.5, 0.27), 2.0, -2.0) + torch.randn(target.shape, generator=generator), target


def monai(z, target):
    return HausdorffDTLoss(sigmoid=True)(z, target)


def kornia_erosions(z, target):
    # As its `forward` does for each class of a softmax.
    return kornia.losses.HausdorffERLoss3D(k=10).perform_erosion(z.sigmoid(), target).mean()


def peer(function, logits, target):
    z = logits.clone().requires_grad_()
    start = time.perf_counter()
    loss = function(z, target)
    loss.backward()
    return time.perf_counter() - start, loss.item(), z.grad.numpy()


def segfuse(binary, spec, folder):
    call = [binary, "eval", "--loss", spec, "--device", "cpu", "--json", "--grad", folder / "gradient.npy"]
    call += ["--pred", folder / "logits.npy", "--target", folder / "target.npy"]
    report = json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout)
    return report["time_ms"] / 1e3, report["loss"], np.load(folder / "gradient.npy")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("extent", nargs="?", type=int, default=96)
    parser.add_argument("--erosion", action="store_true")
    args = parser.parse_args()
    spec, name, function = ("hausdorff_erosion", "kornia", kornia_erosions) if args.erosion else ("hausdorff_dt", "MONAI", monai)
    logits, target = volume(args.extent, args.erosion)
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        np.save(folder / "logits.npy", logits.numpy())
        np.save(folder / "target.npy", target[:, 0].to(torch.uint8).numpy())
        runs = [(segfuse(args.binary, spec, folder), peer(function, logits, target.float())) for _ in range(5)]
    ours, theirs = (min(run[i][0] for run in runs) for i in range(2))
    (_, loss, gradient), (_, want, want_gradient) = runs[0]
    print(f"[1,1,{args.extent},{args.extent},{args.extent}], {torch.get_num_threads()} threads of torch")
    print(f"segfuse {ours * 1e3:.1f} ms, {name} {theirs * 1e3:.1f} ms: {theirs / ours:.1f} times")
    print(f"loss {loss:.7g} and {want:.7g}; gradients differ by {abs(gradient - want_gradient).max() / abs(want_gradient).max():.1e} of the largest")


if __name__ == "__main__":
    main()
