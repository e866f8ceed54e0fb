"""The inputs. Every number is exact in float16 and bfloat16, so one vector serves every dtype.

Logits are k/16 with |k| < 128 (or ±1000), probabilities and soft targets k/128, voxel weights and maps k/8.
A problem is made from its name alone: adding a case moves no other.
"""

from dataclasses import dataclass, field, replace
from math import prod
from zlib import crc32

import torch


class Integers:
    """SplitMix64 (Steele, Lea & Flood 2014)."""

    def __init__(self, name):
        self.state = crc32(name.encode())

    def below(self, n):
        mask = (1 << 64) - 1
        self.state = (self.state + 0x9E3779B97F4A7C15) & mask
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return (z ^ (z >> 31)) % n

    def shuffled(self, items):
        items = list(items)
        for i in range(len(items) - 1, 0, -1):
            j = self.below(i + 1)
            items[i], items[j] = items[j], items[i]
        return items


@dataclass
class Problem:
    name: str
    shape: list[int]
    activation: str
    prediction: list[float]
    labels: list[int] | None = None
    dense: list[float] | None = None
    ignore_label: int | None = None
    mask: list[int] | None = None
    weights: list[float] | None = None
    map: dict | None = None
    spacing: list[float] | None = None
    class_weights: list[float] | None = None
    tags: set = field(default_factory=set)

    @property
    def N(self):
        return self.shape[0]

    @property
    def C(self):
        return self.shape[1]

    @property
    def V(self):
        return prod(self.shape[2:])

    def classes(self):
        """Labels run from 0 to classes - 1."""
        return max(self.C, 2)

    def z(self):
        return torch.tensor(self.prediction, dtype=torch.float64).reshape(self.N, self.C, self.V)

    def label_tensor(self):
        return torch.tensor(self.labels).reshape(self.N, self.V)

    def unmasked(self):
        if self.mask is None:
            return torch.ones(self.N, self.V, dtype=torch.bool)
        return torch.tensor(self.mask).reshape(self.N, self.V) != 0

    def out_of_range(self):
        """A label under a keep-mask of 0 is not looked at; the ignore label is never out of range."""
        if self.labels is None:
            return torch.zeros(self.N, self.V, dtype=torch.bool)
        t = self.label_tensor()
        bad = ((t < 0) | (t >= self.classes())) & self.unmasked()
        return bad if self.ignore_label is None else bad & (t != self.ignore_label)

    def kept(self):
        kept = self.unmasked() & ~self.out_of_range()
        if self.labels is not None and self.ignore_label is not None:
            kept = kept & (self.label_tensor() != self.ignore_label)
        return kept

    def target(self):
        """g [N, C, V], 0 where not kept."""
        kept = self.kept()[:, None].double()
        if self.dense is not None:
            return torch.tensor(self.dense, dtype=torch.float64).reshape(self.N, self.C, self.V) * kept
        t = self.label_tensor()[:, None]
        if self.C == 1:
            return (t == 1).double() * kept
        return (t == torch.arange(self.C)[:, None]).double() * kept

    def voxel_weights(self):
        """m [N, 1, V]."""
        kept = self.kept().double()
        if self.weights is not None:
            kept = kept * torch.tensor(self.weights, dtype=torch.float64).reshape(self.N, self.V)
        return kept[:, None]

    def phi(self):
        if self.map is None:
            return None
        channels = self.C if self.map["per_class"] else 1
        phi = torch.tensor(self.map["values"], dtype=torch.float64).reshape(self.N, channels, self.V)
        return torch.where(self.kept()[:, None], phi, 0)


# ---- the makers ------------------------------------------------------------------------------------------------------


def make(name, shape, activation, target):
    """A problem with a random prediction that leans to its target: labels, hard, soft."""
    r = Integers(f"{name} {shape} {activation} {target}")
    n, c, v = shape[0], shape[1], prod(shape[2:])
    problem = Problem(name, list(shape), activation, [])
    if target == "labels":
        problem.labels = random_labels(r, n, max(c, 2), v)
    elif target == "hard":
        problem.dense = [float(r.below(5) < 2) for _ in range(n * c * v)]
    elif activation == "softmax" or (activation == "none" and c > 1):
        problem.dense = simplex_targets(r, n, c, v)
    else:
        problem.dense = [r.below(129) / 128 for _ in range(n * c * v)]
    truth = problem.target().flatten().tolist()
    if activation == "none":
        problem.prediction = [(1 + r.below(95) + round(32 * g)) / 128 for g in truth]
    else:
        problem.prediction = [(r.below(49) + r.below(49) - 58 + round(20 * g)) / 16 for g in truth]
    return problem


def random_labels(r, n, classes, v):
    """Uneven class sizes, and every class present in every sample."""
    out = []
    for _ in range(n):
        rest = [min(r.below(classes + 2), r.below(classes + 2)) % classes for _ in range(v - classes)]
        out += r.shuffled(list(range(classes)) + rest)
    return out


def simplex_targets(r, n, c, v):
    """Soft targets k/128 that sum to 1 at every voxel; some voxels stay hard."""
    out = [0.0] * (n * c * v)
    for sample in range(n):
        for voxel in range(v):
            left, order = 128, r.shuffled(range(c))
            for i, cls in enumerate(order):
                k = left if i == c - 1 or r.below(4) == 0 else r.below(left + 1)
                out[(sample * c + cls) * v + voxel] = k / 128
                left -= k
    return out


# ---- the modifiers ---------------------------------------------------------------------------------------------------


def random(p, what):
    return Integers(f"{p.name} {p.shape} {what}")


def ignore(p, label=255):
    """About a quarter of the voxels carry the ignore label, and hold large logits."""
    r, p = random(p, "ignore"), replace(p, ignore_label=label)
    p.labels = [label if r.below(4) == 0 else t for t in p.labels]
    return spoil(p)


def ignore_class(p, label=1):
    """The ignore label is one of the classes."""
    return replace(p, ignore_label=label)


def mask(p):
    r = random(p, "mask")
    return spoil(replace(p, mask=[int(r.below(4) != 0) for _ in range(p.N * p.V)]))


def spoil(p):
    """Voxels that are not kept hold ±1000 (or 1): they must not matter."""
    r, kept = random(p, "spoil"), p.kept()[:, None].expand(-1, p.C, -1).flatten().tolist()
    bad = [0.0, 1.0] if p.activation == "none" else [-1000.0, 1000.0]
    return replace(p, prediction=[z if k else bad[r.below(2)] for z, k in zip(p.prediction, kept)])


def weights(p):
    r = random(p, "weights")
    return replace(p, weights=[r.below(17) / 8 for _ in range(p.N * p.V)])


def class_weights(p):
    return replace(p, class_weights=[0.5, 2.0, 1.25, 0.25, 3.0][: p.C])


def out_of_range(p):
    """Some labels are C, some are 200."""
    r, p = random(p, "out of range"), replace(p, labels=list(p.labels))
    for i in range(0, len(p.labels), 5):
        p.labels[i] = (p.classes(), 200)[r.below(2)]
    return spoil(p)


def absent(p):
    """The last class is absent from the first sample, class 0 from the last."""
    p = replace(p, tags=p.tags | {"absent"})
    if p.dense is not None:
        g = torch.tensor(p.dense).reshape(p.N, p.C, p.V)
        g[0, -1] = 0
        return replace(p, dense=g.flatten().tolist())
    t, last = p.label_tensor(), p.classes() - 1
    t[0][t[0] == last] = 0
    t[-1][t[-1] == 0] = last
    return replace(p, labels=t.flatten().tolist())


def absent_everywhere(p):
    """The last class is absent from every sample."""
    if p.dense is not None:
        g = torch.tensor(p.dense).reshape(p.N, p.C, p.V)
        g[:, -1] = 0
        return replace(p, dense=g.flatten().tolist())
    return replace(p, labels=[0 if t == p.classes() - 1 else t for t in p.labels])


def sample_ignored(p):
    """Nothing of the first sample is kept."""
    return spoil(replace(p, mask=[0] * p.V + [1] * (p.V * (p.N - 1))))


def all_ignored(p):
    return spoil(replace(p, mask=[0] * (p.N * p.V)))


def with_map(p, per_class=True, positive=False):
    r = random(p, f"map {per_class} {positive}")
    count = p.N * p.V * (p.C if per_class else 1)
    values = [(r.below(33) if positive else r.below(65) - 32) / 8 for _ in range(count)]
    return replace(p, map={"per_class": per_class, "values": values})


def blobs(p):
    """Every class but 0 is a ball, so that distances are longer than a voxel or two; logits lean to a ball beside it."""
    r, spatial = random(p, "blobs"), p.shape[2:]
    grid = torch.stack(torch.meshgrid(*(torch.arange(float(e)) for e in spatial), indexing="ij")).reshape(len(spatial), -1)
    labels = torch.zeros(p.N, p.V, dtype=torch.int64)
    near = torch.zeros(p.N, p.V, dtype=torch.int64)
    for sample in range(p.N):
        for cls in range(1, p.classes()):
            center = torch.tensor([float(r.below(e)) for e in spatial])
            radius = 1.5 + r.below(5) / 2
            labels[sample][(grid - center[:, None]).norm(dim=0) <= radius] = cls
            center += torch.tensor([r.below(5) - 2.0 for _ in spatial])
            near[sample][(grid - center[:, None]).norm(dim=0) <= radius] = cls
    if p.C == 1:
        hot = near[:, None] == 1
    else:
        hot = near[:, None] == torch.arange(p.C)[:, None]
    noise = torch.tensor([(r.below(33) - 16) / 16 for _ in range(p.N * p.C * p.V)]).reshape(p.N, p.C, p.V)
    lean = torch.where(hot, 2.0, -1.75)
    return replace(p, labels=labels.flatten().tolist(), prediction=(noise + lean).flatten().tolist())


def mistaken(p):
    """What leaned to the target leans away from it, twice as far: most voxels are wrong, and so are their neighbours."""
    turned = lambda z: 1 - z if p.activation == "none" else max(-4.5, min(4.5, -2 * z))
    kept = p.kept()[:, None].expand(-1, p.C, -1).flatten().tolist()
    return replace(p, prediction=[turned(z) if k else z for z, k in zip(p.prediction, kept)])


def cells(p):
    """Balls of a voxel or two, some of which touch, of every class but 0 in turn."""
    r, spatial = random(p, "cells"), p.shape[2:]
    grid = torch.stack(torch.meshgrid(*(torch.arange(float(e)) for e in spatial), indexing="ij")).reshape(len(spatial), -1)
    labels = torch.zeros(p.N, p.V, dtype=torch.int64)
    for sample in range(p.N):
        for k in range(7):
            center = torch.tensor([float(r.below(e)) for e in spatial])
            labels[sample][(grid - center[:, None]).norm(dim=0) <= r.below(3) / 2 + 0.5] = 1 + k % (p.classes() - 1)
    return replace(p, labels=labels.flatten().tolist())


def one_object(p):
    """Of the objects, one of the first sample is left."""
    labels = [0] * (p.N * p.V)
    labels[p.V // 2] = 1
    return replace(p, labels=labels)


def channels(p):
    """The classes as channels that a voxel may have several of: each also holds what is one voxel before it."""
    g = p.target()
    g = torch.maximum(g, g.roll(1, -1))
    return replace(p, activation="sigmoid", labels=None, dense=g.flatten().tolist())


def fill(p, prediction, target):
    """Replace prediction and dense target by constants or lists."""
    size = p.N * p.C * p.V
    spread = lambda x: list(x) if isinstance(x, list) else [float(x)] * size
    return replace(p, prediction=spread(prediction), dense=spread(target), labels=None)
