"""The maps that losses make of target and prediction, by scipy. docs/losses.md has their definitions.

A map is [N, C, V] and carries no gradient. A voxel that is not kept is in no mask.
"""

import numpy as np
import torch
from scipy.ndimage import binary_erosion, distance_transform_edt, generate_binary_structure, label


TIE = 1e-12  # p of two equal logits is ½, which is not above ½, however its last bit is rounded


class Maps:
    """The maps of one problem, each made when it is first asked for."""

    def __init__(self, problem, p):
        self.problem, self.extents = problem, problem.shape[2:]
        self.spacing = problem.spacing or [1.0] * len(self.extents)
        kept = problem.kept()[:, None]
        self.target = (problem.target() > 0.5) & kept
        self.p, self.kept, self.known = p.detach(), kept, {}

    def prediction(self):
        above = self.p - 0.5
        tie = above.abs() < TIE
        assert not ((above.abs() < 1e-6) & ~tie).any(), f"{self.problem.name}: so near ½ that single precision decides"
        return (above > 0) & ~tie & self.kept

    def of(self, name, function, *masks):
        if name not in self.known:
            grids = [mask.reshape(self.problem.shape).numpy() for mask in masks]
            values = np.zeros(self.problem.shape)
            for group in np.ndindex(*self.problem.shape[:2]):
                values[group] = function(*(grid[group] for grid in grids), self.spacing)
            self.known[name] = torch.from_numpy(values).reshape(self.p.shape)
        return self.known[name]

    def signed_distance(self):
        return self.of("signed distance", signed, self.target)

    def target_distance(self):
        return self.of("target distance", two_sided, self.target)

    def prediction_distance(self):
        return self.of("prediction distance", two_sided, self.prediction())

    def closeness(self):
        return self.of("closeness", closeness, self.target)

    def contour_distance(self):
        return self.of("contour distance", contour_distance, self.prediction(), self.target)

    def object_distances(self):
        """d1 + d2 of every voxel, the same for all classes. Class 0 is the background but of channels that do not exclude each other."""
        channels = self.problem.dense is not None and self.problem.activation == "sigmoid"
        first = 0 if channels or self.problem.C == 1 else 1
        sums = np.zeros(self.problem.shape)
        for sample, masks in enumerate(self.target.reshape(self.problem.shape).numpy()):
            sums[sample] = two_nearest([o for mask in masks[first:] for o in objects(mask)], self.extents, self.spacing)
        return torch.from_numpy(sums).reshape(self.p.shape)


def assert_clear(problem, d, e, least, largest):
    """Nothing in an erosion lies so near ½, the least or the largest that single precision decides where a slope goes."""
    span = largest - least
    for apart, bound in [((d - 0.5).abs(), 3e-6), (largest - e, 3e-6), (e - least, 3e-6), (span, 1e-3)]:
        assert not ((apart > TIE) & (apart < bound)).any(), f"{problem.name}: so near that single precision decides"


def distance(mask, spacing):
    """To the nearest voxel outside of the mask; scipy measures a full mask to a voxel that does not exist."""
    assert not mask.all()
    return distance_transform_edt(mask, sampling=spacing)


def has_boundary(mask):
    return mask.any() and not mask.all()


def two_sided(mask, spacing):
    return distance(mask, spacing) + distance(~mask, spacing) if has_boundary(mask) else 0.0


def signed(mask, spacing):
    return np.where(mask, 1 - distance(mask, spacing), distance(~mask, spacing)) if has_boundary(mask) else 0.0


def closeness(mask, spacing):
    """1 at the boundary, 0 farthest from it, on each side by itself."""
    if not has_boundary(mask):
        return 0.0
    d, result = two_sided(mask, spacing), np.zeros(mask.shape)
    for side in [mask, ~mask]:
        depth = d[side].max() - d
        if depth[side].max() > 0:
            result[side] = depth[side] / depth[side].max()
    return result


def objects(mask):
    """The connected components, of voxels that share a face, an edge or a corner: what skimage.measure.label counts."""
    numbers, count = label(mask, generate_binary_structure(mask.ndim, mask.ndim))
    return [numbers == k for k in range(1, count + 1)]


def two_nearest(objects, extents, spacing):
    """The sum of the two least distances; infinite where there are fewer than two objects."""
    if len(objects) < 2:
        return np.full(extents, np.inf)
    distances = [distance(~o, spacing) if not o.all() else np.zeros(extents) for o in objects]
    return np.sort(np.stack(distances), 0)[:2].sum(0)


def contour(mask):
    """The voxels of the mask that share a face with one that is not in it; beyond the border there is none."""
    faces = generate_binary_structure(mask.ndim, 1)
    return mask & ~binary_erosion(mask, faces, border_value=1)


def contour_distance(prediction, target, spacing):
    predicted, true = contour(prediction), contour(target)
    if not predicted.any() or not true.any():
        return 0.0
    return distance(~true, spacing)[predicted].mean()
