"""A small U-Net on drawn shapes, trained twice from the same start: with MONAI's DiceCELoss and with segfuse's.

The images are made here: discs and squares of different brightness in noise, three classes. Both trainings see the same images in the
same order, so that their curves lie on top of each other if the losses and their gradients agree. Printed are the largest
difference of the curves, and what share of a step each loss takes, forward and backward; `--plot` draws both.

    python train_unet.py [--steps 200] [--size 64] [--plot curves.png]

Needs torch and monai; `--plot` needs matplotlib.
"""

import argparse
import importlib.util
import time
from typing import NamedTuple

import monai
import torch
from torch import nn

import segfuse.torch


def shapes(count: int, size: int, generator: torch.Generator) -> "tuple[torch.Tensor, torch.Tensor]":
    """Images `[count, 1, size, size]` and labels `[count, 1, size, size]`: 0 background, 1 disc, 2 square."""
    labels = torch.zeros(count, size, size, dtype=torch.long)
    row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    for sample in labels:
        for label in (1, 2, 1, 2):
            x, y = (torch.rand(2, generator=generator) * size).tolist()
            radius = size * (0.06 + 0.1 * torch.rand((), generator=generator).item())
            distance = torch.stack([(row - y).abs(), (column - x).abs()]).float()
            inside = distance.norm(dim=0) < radius if label == 1 else distance.amax(dim=0) < radius
            sample[inside] = label
    noise = torch.randn(count, size, size, generator=generator)
    return (labels + 0.3 * noise)[:, None], labels[:, None]


class UNet(nn.Module):
    """Two levels; 3x3 convolutions with instance normalisation."""

    def __init__(self, width: int = 12, classes: int = 3) -> None:
        super().__init__()

        def block(inside: int, outside: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(inside, outside, 3, padding=1), nn.InstanceNorm2d(outside, affine=True), nn.LeakyReLU(0.01)
            )

        self.first, self.second, self.deep = block(1, width), block(width, 2 * width), block(2 * width, 4 * width)
        self.up_second, self.up_first = block(6 * width, 2 * width), block(3 * width, width)
        self.head = nn.Conv2d(width, classes, 1)
        self.down, self.up = nn.MaxPool2d(2), nn.Upsample(scale_factor=2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        first = self.first(image)
        second = self.second(self.down(first))
        deep = self.deep(self.down(second))
        second = self.up_second(torch.cat([self.up(deep), second], 1))
        return self.head(self.up_first(torch.cat([self.up(second), first], 1)))


class Training(NamedTuple):
    """The losses of all steps; milliseconds of a step and of the loss in it, forward and backward."""

    losses: "list[float]"
    step: float
    loss: float


def train(loss: nn.Module, steps: int, size: int) -> Training:
    torch.manual_seed(7)
    model = UNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(11)
    losses, whole, part = [], 0.0, 0.0
    for _ in range(steps):
        image, labels = shapes(8, size, generator)
        begin = time.perf_counter()
        optimizer.zero_grad()
        logits = model(image)
        # The loss by itself, so that its backward pass can be timed; then the rest of the network's.
        leaf = logits.detach().requires_grad_()
        before = time.perf_counter()
        value = loss(leaf, labels)
        value.backward()
        part += time.perf_counter() - before
        logits.backward(leaf.grad)
        optimizer.step()
        whole += time.perf_counter() - begin
        losses.append(value.item())
    return Training(losses, 1e3 * whole / steps, 1e3 * part / steps)


def plot(trainings: "dict[str, Training]", path: str) -> None:
    """The curves, and beside them the times of a step."""
    from matplotlib import pyplot

    _, (curves, times) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for (name, training), style in zip(trainings.items(), ("-", "--")):
        curves.plot(training.losses, style, label=name)
    curves.set(xlabel="step", ylabel="loss")
    curves.legend()
    losses = [training.loss for training in trainings.values()]
    rest = [training.step - training.loss for training in trainings.values()]
    times.bar(list(trainings), rest, label="network")
    times.bar_label(times.bar(list(trainings), losses, bottom=rest, label="loss"), [f"{loss:.2f} ms" for loss in losses])
    times.set(ylabel="milliseconds of a step")
    times.legend()
    pyplot.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--size", type=int, default=64, help="pixels of a side, a multiple of 4")
    parser.add_argument("--plot", metavar="PNG")
    options = parser.parse_args()
    if options.plot and importlib.util.find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib, which is not installed")
    contestants = {
        "monai.losses.DiceCELoss": monai.losses.DiceCELoss(to_onehot_y=True, softmax=True),
        'segfuse.torch.Loss("dice + ce")': segfuse.torch.Loss("dice + ce"),
    }
    trainings = {name: train(loss, options.steps, options.size) for name, loss in contestants.items()}
    for name, (losses, step, loss) in trainings.items():
        print(f"{name:32} loss {losses[-1]:.4f} at the end; step {step:.2f} ms, of which loss {loss:.2f} ms, {loss / step:.0%}")
    first, second = (training.losses for training in trainings.values())
    print(f"largest difference of the curves: {max(abs(a - b) for a, b in zip(first, second)):.1e}")
    if options.plot:
        plot(trainings, options.plot)


if __name__ == "__main__":
    main()
