#!/usr/bin/env python3
"""Makes image.npy, mask.npy and logits.npy in this folder; with --check, compares instead. See README.md.

    pip install -r requirements.txt
    python make_example.py [--check]
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from scipy import ndimage as ndi
from skimage import data, filters, measure, morphology, transform

HERE = Path(__file__).resolve().parent
SIZE = 192
OUTSIDE, RETINA, VESSEL, DISC = range(4)
CLASSES = 4
IGNORE = 255


def shrink(picture):
    """The mean over the pixels of the large picture that each small pixel covers."""
    return transform.resize(picture.astype(np.float64), (SIZE, SIZE), order=1, anti_aliasing=True)


def largest(mask):
    """The largest connected region."""
    labels = measure.label(mask)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels == sizes.argmax()


def segment(rgb):
    """The mask, from the photograph in full resolution: thresholds on brightness and on ridges."""
    red, green = rgb[..., 0].astype(np.float64), rgb[..., 1].astype(np.float64)

    field = ndi.binary_fill_holes(largest(ndi.gaussian_filter(red, 2) > 40))
    inner = ndi.distance_transform_edt(field) > 22

    # The brightest blob. Its hull closes the gaps that the vessels make.
    smooth = ndi.gaussian_filter(green, 12)
    disc = morphology.convex_hull_image(largest((smooth > 0.62 * smooth[inner].max()) & inner))

    # Vessels are dark ridges a few pixels wide. Faint ones are kept where they touch a clear one.
    ground = ndi.gaussian_filter(green, 30)
    ridges = filters.sato(green / (ground + 1), sigmas=(3, 5, 7), black_ridges=True)
    vessels = filters.apply_hysteresis_threshold(ridges, 0.028, 0.05) & inner
    vessels = morphology.remove_small_objects(vessels, max_size=1500)

    inside = shrink(field)
    mask = np.full((SIZE, SIZE), RETINA, np.uint8)
    mask[shrink(disc) > 0.5] = DISC
    mask[(shrink(vessels) > 0.4) & (mask != DISC)] = VESSEL
    mask[inside < 0.05] = OUTSIDE
    mask[(inside >= 0.05) & (inside <= 0.95)] = IGNORE  # the rim belongs to neither side
    return mask


def features(image):
    """What the small model sees of each pixel: brightness, smoothed three ways, edges and ridges."""
    x = image / 255.0
    smooth = [ndi.gaussian_filter(x, s) for s in (1, 2.5, 6)]
    edges = ndi.gaussian_gradient_magnitude(x, 1.2)
    ridges = filters.sato(x, sigmas=(1, 1.5), black_ridges=True)
    columns = [x, *smooth, x - smooth[1], smooth[0] - smooth[2], edges, ridges, smooth[1] ** 2, smooth[2] ** 2]
    columns = np.stack([c.ravel() for c in columns], axis=1)
    columns = (columns - columns.mean(0)) / columns.std(0)
    return np.hstack([columns, np.ones((columns.shape[0], 1))])


def predict(image, mask):
    """Logits of a multinomial logistic regression, fitted to the left half and asked about everything."""
    x, y = features(image), mask.ravel()
    columns = np.tile(np.arange(SIZE), SIZE)
    known = (y != IGNORE) & (columns < SIZE // 2)
    seen, target = x[known], np.eye(CLASSES)[y[known]]
    weights = np.zeros((x.shape[1], CLASSES))
    for _ in range(600):
        z = seen @ weights
        p = np.exp(z - z.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        weights -= seen.T @ (p - target) / len(seen) + 1e-4 * weights
    # Sixty-fourths, so that the last bits of a matrix product do not show.
    logits = np.round(x @ weights * 64) / 64
    return logits.T.reshape(1, CLASSES, SIZE, SIZE).astype(np.float32)


def make():
    rgb = data.retina()
    image = np.round(shrink(rgb[..., 1])).astype(np.uint8)
    mask = segment(rgb)
    return {"image": image[None], "mask": mask[None], "logits": predict(image, mask)}


def differences(name, got, want):
    """Rounding may move a pixel of another build of the libraries by one step; more is a difference."""
    if got.shape != want.shape or got.dtype != want.dtype:
        return f"{name}: {got.dtype}{got.shape} instead of {want.dtype}{want.shape}"
    step = {"image": 1, "mask": 0, "logits": 1 / 16}[name]
    off = np.abs(got.astype(np.float64) - want.astype(np.float64)) > step
    return f"{name}: {off.sum()} of {off.size} values differ" if off.mean() > 1e-3 else None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the files, write nothing")
    check = parser.parse_args().check
    problems = []
    for name, array in make().items():
        path = HERE / f"{name}.npy"
        if check:
            problems.append(differences(name, np.load(path, allow_pickle=False), array))
        else:
            np.save(path, array, allow_pickle=False)
    problems = [p for p in problems if p]
    print("\n".join(problems) or ("same" if check else "written"))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
