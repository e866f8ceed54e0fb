"""Writes distances.json: distance maps of small masks, by looking at every pair of voxels, checked against public libraries.

    python distances.py          writes distances.json
    python distances.py --check  makes the same in memory and compares; exit 1 on a difference
"""

import json
import sys
from importlib.metadata import version
from math import prod
from pathlib import Path

import numpy as np
import torch
from monai.losses import BoundaryLoss, HausdorffDTLoss
from scipy.ndimage import distance_transform_edt

from problems import Integers

OUTPUT = Path(__file__).with_name("distances.json")
PACKAGES = ["monai", "numpy", "scipy", "torch"]
COMMENT = (
    "Distance maps of masks, in float64, by distances.py beside this file. One case per line. Numbers are in C order;"
    " `values` maps each kind to its map, null where a distance is one to nothing; `peers` names the library calls that"
    " agreed."
)
# scipy's distances are float64 from integers; MONAI's maps are float32.
DOUBLE, SINGLE = 1e-14, 1e-6


def masks(name, shape):
    """Masks of a shape by name."""
    numbers, voxels = Integers(f"{name} {shape}"), prod(shape)
    place = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
    middle = np.array(shape).reshape(-1, *[1] * len(shape)) / 2
    return {
        "empty": lambda: np.zeros(shape, bool),
        "full": lambda: np.ones(shape, bool),
        "corner": lambda: place.sum(0) == 0,
        "all but one": lambda: np.arange(voxels).reshape(shape) != voxels // 2,
        "checkerboard": lambda: place.sum(0) % 2 == 0,
        "half": lambda: place[-1] < shape[-1] // 2,
        "line": lambda: (place[1:] == 1).all(0),
        "ball": lambda: (((place - middle + 1) / middle) ** 2).sum(0) < 0.5,
        "random": lambda: np.array([numbers.below(3) == 0 for _ in range(voxels)]).reshape(shape),
    }[name]()


def nearest(mask, spacing):
    """From every voxel the distance to the nearest of the mask."""
    places = np.argwhere(np.ones(mask.shape, bool)) * np.array(spacing)
    to = np.argwhere(mask) * np.array(spacing)
    if len(to) == 0:
        return np.full(mask.shape, np.inf)
    return np.sqrt(((places[:, None] - to[None]) ** 2).sum(-1).min(1)).reshape(mask.shape)


def maps(mask, spacing):
    """Each kind by its definition."""
    outside, inside = nearest(mask, spacing), nearest(~mask, spacing)
    both = mask.any() and not mask.all()
    zero = np.zeros(mask.shape)
    return {
        "outside": outside,
        "inside": inside,
        "two-sided": outside + inside if both else zero,
        "signed": np.where(mask, 1 - inside, outside) if both else zero,
        "difference": outside - inside if both else zero,
    }


def peers(mask, spacing):
    """Calls that make the same map: kind, name, map, tolerance."""
    ones = all(x == 1 for x in spacing)
    # Of a mask without a 0 scipy gives distances to a voxel that does not exist.
    if mask.any():
        yield "outside", "scipy distance_transform_edt(~mask, sampling)", distance_transform_edt(~mask, spacing), DOUBLE
    if not mask.all():
        yield "inside", "scipy distance_transform_edt(mask, sampling)", distance_transform_edt(mask, spacing), DOUBLE
    # MONAI takes images and volumes, and no spacing.
    if ones and mask.ndim >= 2:
        image = torch.tensor(mask, dtype=torch.float32)[None, None]
        field = HausdorffDTLoss(include_background=True).distance_field(image)[0, 0]
        yield "two-sided", "monai HausdorffDTLoss.distance_field", field.numpy(), SINGLE
        signed = BoundaryLoss().compute_distance_map(image)[0, 0]
        yield "signed", "monai BoundaryLoss.compute_distance_map", signed.numpy(), SINGLE


def cases():
    for shape, spacing in [
        ([11], [1.0]),
        ([11], [0.75]),
        ([5, 7], [1.0, 1.0]),
        ([4, 6], [2.5, 0.5]),
        ([3, 4, 5], [1.0, 1.0, 1.0]),
        ([4, 3, 4], [1.0, 1.5, 2.5]),
    ]:
        for name in ["empty", "full", "corner", "all but one", "checkerboard", "half", "line", "ball", "random"]:
            mask = masks(name, shape)
            yield f"{name}/{'x'.join(map(str, shape))}/{spacing}", mask, spacing


def number(x):
    """The shortest text that reads back as x, or null."""
    return "null" if not np.isfinite(x) else str(int(x)) if x == int(x) else repr(float(x))


def line(name, mask, spacing):
    made, agreed = maps(mask, spacing), []
    for kind, call, values, tolerance in peers(mask, spacing):
        difference = np.abs(values - made[kind]).max()
        if not difference <= tolerance * max(1, np.abs(made[kind]).max()):
            raise SystemExit(f"{name}: {call}: differs by {difference}")
        package, rest = call.split(" ", 1)
        agreed.append(f"{package} {version(package)} {rest}")
    values = ", ".join(f'"{kind}": [{",".join(map(number, x.flat))}]' for kind, x in made.items())
    return (
        f'{{"name": {json.dumps(name)}, "extents": {list(mask.shape)}, "spacing": {spacing},'
        f' "mask": [{",".join(str(int(x)) for x in mask.flat)}], "values": {{{values}}}, "peers": {json.dumps(agreed)}}}'
    )


def generate():
    versions = {package: version(package).split("+")[0] for package in PACKAGES}
    lines = ",\n".join(line(*case) for case in cases())
    return f'{{"_comment": {json.dumps(COMMENT)},\n"versions": {json.dumps(versions)},\n"cases": [\n{lines}\n]}}\n'


def main():
    torch.set_num_threads(1)
    new = generate()
    if sys.argv[1:] == ["--check"]:
        # Sums of few products and a root, which every processor rounds the same way.
        if not OUTPUT.exists() or OUTPUT.read_text() != new:
            raise SystemExit("distances.json is not what distances.py makes")
        print("distances.json is up to date")
        return
    OUTPUT.write_text(new)
    made = json.loads(new)["cases"]
    print(f"{len(made)} cases, {len(new)} bytes; {sum(len(case['peers']) for case in made)} agreements with libraries")


if __name__ == "__main__":
    main()
