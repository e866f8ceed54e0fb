"""A small U-Net on drawn shapes, trained twice from the same start: with MONAI's DiceCELoss and with segfuse's.

The images are made here: discs and squares of different brightness in noise, three classes. Both trainings see the same images in the
same order, so that their curves lie on top of each other if the losses and their gradients agree. Printed are the largest
difference of the curves, and what share of a step each loss takes, forward and backward.

    python train_unet.py [--steps 200] [--size 64] [--plot curves.png]

Needs torch and monai; `--plot` needs matplotlib.
"""

import argparse
import time

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


def train(loss: nn.Module, steps: int, size: int) -> "tuple[list[float], float, float]":
    """The losses of all steps, the seconds of the steps and the seconds of the loss in them."""
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
    return losses, whole, part


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--plot", metavar="PNG")
    options = parser.parse_args()
    contestants = {
        "monai.losses.DiceCELoss": monai.losses.DiceCELoss(to_onehot_y=True, softmax=True),
        'segfuse.torch.Loss("dice + ce")': segfuse.torch.Loss("dice + ce"),
    }
    curves = {}
    for name, loss in contestants.items():
        curves[name], whole, part = train(loss, options.steps, options.size)
        step, own = 1e3 * whole / options.steps, 1e3 * part / options.steps
        last = curves[name][-1]
        print(f"{name:32} loss {last:.4f} at the end; step {step:.2f} ms, of which loss {own:.2f} ms, {own / step:.0%}")
    first, second = curves.values()
    print(f"largest difference of the curves: {max(abs(a - b) for a, b in zip(first, second)):.1e}")
    if options.plot:
        from matplotlib import pyplot

        for (name, curve), style in zip(curves.items(), ("-", "--")):
            pyplot.plot(curve, style, label=name)
        pyplot.xlabel("step")
        pyplot.ylabel("loss")
        pyplot.legend()
        pyplot.savefig(options.plot, dpi=120)


if __name__ == "__main__":
    main()
