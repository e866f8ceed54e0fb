"""Losses of segfuse.torch beside those of MONAI and torch, forward and backward, in one run; and what a call costs beside its work.

    python losses.py [--threads 2] [--seconds 2]

Each pair is timed in turns, so that what else the machine does meets both. Needs torch and monai.
"""

import argparse
import time
from typing import Callable

import numpy
import torch
from monai.losses import DiceCELoss, DiceLoss, FocalLoss, TverskyLoss

import segfuse
import segfuse.torch


def fastest(calls: "list[Callable[[], object]]", seconds: float) -> "list[float]":
    """The seconds of the fastest call of each, called in turns."""
    best = [float("inf")] * len(calls)
    [call() for call in calls]
    end = time.perf_counter() + seconds * len(calls)
    while time.perf_counter() < end:
        for index, call in enumerate(calls):
            begin = time.perf_counter()
            call()
            best[index] = min(best[index], time.perf_counter() - begin)
    return best


def step(loss: torch.nn.Module, prediction: torch.Tensor, target: torch.Tensor) -> Callable[[], object]:
    """Loss and gradient, the gradient in new memory as in a training."""
    return lambda: torch.autograd.grad(loss(prediction, target), prediction)


def against_peers(seconds: float) -> None:
    z = torch.randn(2, 4, 96, 96, 96, requires_grad=True)
    y = torch.randint(0, 4, (2, 1, 96, 96, 96))
    small = y.to(torch.uint8)
    rows = [
        ("dice + ce", DiceCELoss(to_onehot_y=True, softmax=True), y),
        ("dice", DiceLoss(to_onehot_y=True, softmax=True), y),
        ("tversky", TverskyLoss(to_onehot_y=True, softmax=True), y),
        ("focal", FocalLoss(to_onehot_y=True, use_softmax=True), y),
        ("ce", torch.nn.CrossEntropyLoss(), y[:, 0]),
    ]
    print("f32 [2, 4, 96, 96, 96], softmax, loss + gradient, ms; the fastest of many calls in turns")
    print(f"{'loss':12}{'peer':>10}{'labels i64':>12}{'labels u8':>11}{'ratio u8':>10}")
    for spec, peer, target in rows:
        loss = segfuse.torch.Loss(spec)
        times = fastest([step(peer, z, target), step(loss, z, y), step(loss, z, small)], seconds)
        theirs, wide, ours = (1e3 * t for t in times)
        print(f"{spec:12}{theirs:10.2f}{wide:12.2f}{ours:11.2f}{theirs / ours:10.1f}")
    logits, labels = z.detach().numpy(), small.numpy()
    out, loss = numpy.empty_like(logits), segfuse.loss("dice + ce")
    copy, into, fresh = fastest(
        [
            lambda: numpy.copyto(out, logits),
            lambda: loss.value_and_grad(logits, labels, out=out),
            lambda: loss.value_and_grad(logits, labels),
        ],
        seconds,
    )
    print(f"without autograd: {1e3 * into:.2f} into memory that is there, {1e3 * fresh:.2f} into new; a copy {1e3 * copy:.2f}")


def per_call(seconds: float) -> None:
    z, y = torch.randn(1, 2, 4, 4, requires_grad=True), torch.randint(0, 2, (1, 4, 4))
    logits, labels = z.detach().numpy(), y.numpy()
    out = numpy.empty_like(logits)
    loss, module = segfuse.loss("dice + ce"), segfuse.torch.Loss("dice + ce")
    calls = {
        "numpy, loss": lambda: loss(logits, labels),
        "numpy, loss and gradient": lambda: loss.value_and_grad(logits, labels, out=out),
        "torch, forward": lambda: module(z, y),
        "torch, forward and backward": lambda: torch.autograd.grad(module(z, y), z),
        "torch.nn.CrossEntropyLoss, forward and backward": step(torch.nn.CrossEntropyLoss(), z, y),
    }
    print("\n[1, 2, 4, 4], µs per call")
    for name, best in zip(calls, fastest(list(calls.values()), seconds / 4)):
        print(f"{1e6 * best:8.1f}  {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.0, help="per row")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(f"segfuse {segfuse.__version__} ({dict(segfuse.devices())['cpu']}), torch {torch.__version__}\n")
    against_peers(options.seconds)
    per_call(options.seconds)


if __name__ == "__main__":
    main()
