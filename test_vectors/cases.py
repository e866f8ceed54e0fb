"""Which cases there are: a covering design, not every combination.

Yields (name, problem, terms, reduction); terms are (factor, loss, parameters), the spec string in pieces.
"""

from dataclasses import replace

import problems as P
from losses import COMPOUND, GROUP, HAUSDORFF, LOSSES, POOL, RATIO

MATRIX = [[0.0, 1.0, 1.0], [1.0, 0.0, 0.5], [1.0, 0.5, 0.0]]
UNEVEN_MATRIX = [[0.0, 0.75, 0.5], [0.75, 0.0, 0.25], [0.5, 0.25, 0.0]]

# Parameters away from their defaults. Thresholds of topk_ce tie with no probability here.
VARIANTS = {
    "dice": [
        {"squared": True}, {"log": True}, {"smooth_nr": 0.0, "smooth_dr": 1e-8}, {"smooth_nr": 1.0, "smooth_dr": 1.0},
        {"squared": True, "log": True, "smooth_nr": 0.5, "smooth_dr": 2.0},
    ],
    "jaccard": [{"squared": True}, {"smooth": 1.0}],
    "tversky": [{"alpha": 0.5, "beta": 0.5}, {"alpha": 0.7, "beta": 0.2, "smooth": 1.0}, {"smooth": 0.0}],
    "focal_tversky": [{"gamma": 0.75}, {"gamma": 2.0, "alpha": 0.5, "beta": 0.5}, {"gamma": 1.0, "smooth": 1.0}],
    "asymmetric_similarity": [{"beta": 1.0}, {"beta": 2.0, "smooth": 1.0}],
    "log_cosh_dice": [{"smooth": 1e-5}],
    "sensitivity_specificity": [{"r": 0.5}, {"r": 0.1, "smooth": 1.0}],
    "kappa": [{"form": "squared"}, {"form": "readme"}],
    "mcc": [{"smooth": 1e-7}, {"smooth": 1.0}],
    "power_jaccard": [{"power": 1.0}, {"power": 1.5, "smooth": 10.0}],
    "soft_dice": [{"log": True}, {"smooth_nr": 1.0, "smooth_dr": 1.0}],
    "soft_jaccard": [{"smooth": 1.0}],
    "soft_tversky": [{"alpha": 0.5, "beta": 0.5}, {"alpha": 0.7, "beta": 0.2, "smooth": 1.0}],
    "boundary": [],
    "hausdorff_erosion": [{"alpha": 1.0, "iterations": 3}, {"iterations": 1}, {"alpha": 0.0, "iterations": 25}],
    "combo": [{"alpha": 0.25, "beta": 0.75}, {"smooth": 1e-5}],
    "generalized_dice": [
        {"weight": "simple"}, {"weight": "uniform"}, {"penalty": 2.5}, {"weight": "uniform", "smooth": 0.0},
    ],
    "wasserstein_dice": [
        {"matrix": MATRIX}, {"mode": "gdl"}, {"matrix": UNEVEN_MATRIX, "mode": "gdl", "smooth": 1.0},
    ],
    "bce": [{"smoothing": 0.125}],
    "weighted_ce": [{"pos_weight": 3.0}, {"pos_weight": 0.25}],
    "balanced_ce": [{"beta": 0.75}],
    "ce": [{"smoothing": 0.125}],
    "focal": [
        {"gamma": 0.0}, {"gamma": 0.5, "alpha": 0.25}, {"alpha": 0.25}, {"gamma": 1.5, "form": "binary"},
        {"alpha": 0.75, "form": "categorical"},
    ],
    "poly1": [{"epsilon": -0.5}, {"form": "binary"}, {"epsilon": 2.0, "form": "categorical"}],
    "topk_ce": [{"threshold": 0.9003}, {"threshold": 0.5003, "form": "binary"}],
    "distance_ce": [{"form": "binary"}, {"map": "unet"}, {"map": "unet", "w0": 2.5, "sigma": 1.5, "form": "binary"}],
    "shape_aware_ce": [{"form": "categorical"}],
    "exp_log": [
        {"w_dice": 0.5, "w_ce": 0.5, "gamma_dice": 1.0, "gamma_ce": 1.0}, {"gamma_dice": 0.5, "form": "binary"},
        {"gamma_ce": 2.0, "form": "categorical"},
    ],
    "unified_focal": [
        {"symmetric": True}, {"weight": 0.0, "delta": 0.7}, {"weight": 1.0, "gamma": 0.75},
        {"gamma": 0.25, "symmetric": True, "form": "binary"}, {"delta": 0.75, "form": "categorical"},
    ],
    "hausdorff_dt": [{"alpha": 1.0}, {"one_sided": True}, {"alpha": 1.5, "background": True}],
    "log_hausdorff_dt": [{"alpha": 3.0, "one_sided": True}],
}  # fmt: skip
REQUIRED = {"topk_ce": {"threshold": 0.7003}}
NEEDS_MAP = {"boundary", "distance_ce", "shape_aware_ce"}
NEEDS_CLASSES = {"ce", "wasserstein_dice"}  # C >= 2


def allowed(name, problem):
    if name in NEEDS_CLASSES and problem.C < 2:
        return False
    return not (name == "ce" and problem.activation == "sigmoid")


def ready(name, problem, per_class=True):
    """A map where the loss needs one, mistakes side by side where it erodes them."""
    if name == "hausdorff_erosion" and "edge" not in problem.tags:
        return P.mistaken(problem)
    if name in NEEDS_MAP:
        return P.with_map(problem, per_class and problem.C > 1, positive=name != "boundary")
    return problem


def term(name, parameters=None):
    return (1, name, REQUIRED.get(name, {}) | (parameters or {}))


# The problems that every loss meets with its default parameters.
PLAIN = [
    ("binary", P.make("binary", [2, 1, 5, 7], "sigmoid", "labels")),
    ("binary_probabilities", P.make("binary", [2, 1, 13], "none", "labels")),
    ("binary_soft", P.make("binary", [2, 1, 13], "sigmoid", "soft")),
    ("softmax", P.make("softmax", [2, 3, 3, 5], "softmax", "labels")),
    ("softmax_soft", P.make("softmax", [2, 3, 13], "softmax", "soft")),
    ("multilabel", P.make("multilabel", [2, 3, 13], "sigmoid", "hard")),
    ("probabilities", P.make("probabilities", [2, 3, 13], "none", "labels")),
    ("softmax_volume", P.make("volume", [1, 5, 3, 4, 5], "softmax", "labels")),
]
SMALL_SOFTMAX = P.make("small softmax", [2, 3, 3, 4], "softmax", "labels")
SMALL_BINARY = P.make("small binary", [2, 1, 13], "sigmoid", "labels")
TWO_CLASS = P.make("two class", [2, 2, 3, 4], "softmax", "labels")
MULTILABEL = P.make("small multilabel", [2, 3, 11], "sigmoid", "hard")


def plain():
    for i, name in enumerate(LOSSES):
        for j, (label, problem) in enumerate(PLAIN):
            if label == "softmax_volume" and i % 3:  # a third of the losses: these are long
                continue
            if allowed(name, problem):
                yield f"{name}/{label}", ready(name, problem, per_class=j % 2 == 0), [term(name)], "mean"


def parameters():
    for i, (name, variants) in enumerate(VARIANTS.items()):
        for j, variant in enumerate(variants):
            wanted = [SMALL_SOFTMAX, SMALL_BINARY] if (i + j) % 2 else [SMALL_SOFTMAX, MULTILABEL]
            if name == "unified_focal":
                wanted = [TWO_CLASS, SMALL_BINARY]
            if name == "focal_tversky":
                wanted = [SMALL_SOFTMAX, SMALL_BINARY]
            for problem in wanted:
                if not allowed(name, problem):
                    problem = TWO_CLASS if "matrix" not in variant else PLAIN[6][1]
                terms = [term(name, variant | ({"batch": True} if name == "focal_tversky" and problem.C == 1 else {}))]
                yield f"{name}/parameters_{j}/{problem.name.replace(' ', '_')}", ready(name, problem), terms, "mean"


def options():
    """The options over all losses, in rotation: each loss meets five on softmax, one on binary, one on multi-label."""
    base = SMALL_SOFTMAX
    absent, nowhere = P.absent(base), P.absent_everywhere(base)
    softmax = [
        ("ignore", P.ignore(base), {}, "mean"),
        ("class_weights", P.class_weights(base), {}, "mean"),
        ("batch_absent_zero", nowhere, {"batch": True, "absent": "zero"}, "mean"),
        ("mask_sum", P.mask(base), {}, "sum"),
        ("absent_skip", absent, {"absent": "skip"}, "mean"),
        ("none", base, {}, "none"),
        ("batch_ignore", P.ignore(base), {"batch": True}, "mean"),
        ("weights", P.weights(base), {}, "mean"),
        ("absent_zero", absent, {"absent": "zero"}, "mean"),
        ("no_background", base, {"background": False}, "mean"),
        ("weights_class_weights_mask_none", P.mask(P.weights(P.class_weights(base))), {}, "none"),
        ("batch_own_class_weights", P.class_weights(base), {"batch": True, "class_weights": [1.0, 0.0, 2.5]}, "sum"),
        ("absent_count", absent, {}, "mean"),
        ("ignore_class", P.ignore_class(base), {"background": False}, "sum"),
        ("absent_skip_no_background_none", absent, {"absent": "skip", "background": False}, "none"),
        ("batch", base, {"batch": True}, "mean"),
        ("out_of_range", P.out_of_range(P.ignore(base)), {}, "mean"),
        ("sample_ignored", P.sample_ignored(base), {}, "mean"),
        ("batch_absent_skip_sum", nowhere, {"batch": True, "absent": "skip"}, "sum"),
        ("batch_weights", P.weights(P.class_weights(absent)), {"batch": True, "absent": "zero"}, "mean"),
    ]
    binary = [
        ("ignore", P.ignore(SMALL_BINARY, -1), {}, "mean"),
        ("weights_none", P.weights(SMALL_BINARY), {}, "none"),
        ("batch_mask", P.mask(SMALL_BINARY), {"batch": True}, "mean"),
        ("batch_absent_zero", SMALL_BINARY, {"batch": True, "absent": "zero"}, "mean"),
        ("sum", SMALL_BINARY, {}, "sum"),
        ("out_of_range", P.out_of_range(SMALL_BINARY), {}, "mean"),
    ]
    multilabel = [
        ("mask", P.mask(MULTILABEL), {}, "mean"),
        ("batch_class_weights_absent_zero", P.class_weights(P.absent_everywhere(MULTILABEL)),
         {"batch": True, "absent": "zero"}, "mean"),
        ("absent_skip_weights", P.weights(P.absent(MULTILABEL)), {"absent": "skip"}, "mean"),
        ("no_background_none", MULTILABEL, {"background": False}, "none"),
        ("class_weights_sum", P.class_weights(MULTILABEL), {}, "sum"),
    ]  # fmt: skip
    for i, name in enumerate(LOSSES):
        for pool, start, count in [(softmax, 7 * i, 5), (binary, i, 1), (multilabel, i, 1)]:
            for j in range(count):
                label, problem, extra, reduction = pool[(start + j) % len(pool)]
                if allowed(name, problem):
                    per_class = (i + j) % 2 == 0
                    full = f"{name}/{problem.name.replace(' ', '_')}/{label}"
                    yield full, ready(name, problem, per_class), [term(name, extra)], reduction
    yield from dice_options(softmax, binary, multilabel)


def dice_options(softmax, binary, multilabel):
    """Three losses, one of each scope, meet every option."""
    for name in ["dice", "generalized_dice", "ce"]:
        for label, problem, extra, reduction in softmax + binary + multilabel:
            if allowed(name, problem):
                full = f"{name}/all_options/{problem.name.replace(' ', '_')}/{label}"
                yield full, problem, [term(name, extra)], reduction


def degenerate():
    """Empty, full, perfect, inverted; nothing kept; logits of ±1000."""
    shell = P.make("one class", [1, 1, 7], "none", "hard")
    g = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]
    inverse = [1 - x for x in g]
    edge = lambda p, *tags: replace(p, tags={"edge", *tags})
    logits = P.make("one class", [1, 1, 7], "sigmoid", "hard")
    extreme = [1000.0, -1000.0, 1000.0, -1000.0, 1000.0, 0.5, -1000.0]
    two = P.make("extreme", [1, 3, 5], "softmax", "labels")
    rows = [[1000, -1000, 0.25, 1000, -1000], [-1000, 1000, 1000, 1000, -1000], [-1000, -1000, -0.5, 2, -1000]]
    two = replace(two, prediction=[float(x) for row in rows for x in row], labels=[0, 0, 1, 2, 1])
    every = [
        ("empty_random", edge(P.fill(shell, shell.prediction, 0.0))),
        ("empty_zero", edge(P.fill(shell, 0.0, 0.0), "perfect")),
        ("full_one", edge(P.fill(shell, 1.0, 1.0), "perfect")),
        ("perfect", edge(P.fill(shell, g, g), "perfect")),
        ("inverted", edge(P.fill(shell, inverse, g))),
        ("all_ignored", edge(P.all_ignored(SMALL_BINARY))),
        ("extreme_sigmoid", edge(P.fill(logits, extreme, g), "extreme")),
        ("extreme_softmax", edge(two, "extreme")),
    ]
    for name in LOSSES:
        for label, problem in every:
            if not allowed(name, problem):
                if label == "all_ignored":
                    problem = P.all_ignored(SMALL_SOFTMAX)
                else:
                    continue
            yield f"{name}/degenerate/{label}", ready(name, problem), [term(name)], "mean"
    for name in ["dice", "generalized_dice", "kappa", "ce"]:  # the same where each sample or the sum counts
        problem = P.all_ignored(SMALL_SOFTMAX)
        yield f"{name}/degenerate/all_ignored_none", problem, [term(name)], "none"
        yield f"{name}/degenerate/all_ignored_skip", problem, [term(name, {"absent": "skip"})], "mean"
    shown = P.fill(shell, shell.prediction, 0.0)
    for name, variant in [("kappa", {"form": "readme"}), ("kappa", {"form": "squared"}), ("dice", {"squared": True}),
                          ("dice", {"log": True}), ("generalized_dice", {"weight": "uniform"})]:  # fmt: skip
        for label, problem in [("empty_random", shown), *every[1:5]]:
            mode = next(iter(variant.values()))
            suffix = mode if isinstance(mode, str) else next(iter(variant))
            yield f"{name}/degenerate/{label}_{suffix}", edge(problem, "perfect"), [term(name, variant)], "mean"


def special():
    one = lambda n, **k: (1, n, k)
    base, binary = SMALL_SOFTMAX, SMALL_BINARY
    multilabel = MULTILABEL
    yield "sum/dice_ce", base, [one("dice"), one("ce")], "mean"
    yield "sum/dice_ce_weighted", base, [(0.75, "dice", {"squared": True}), (0.25, "ce", {})], "mean"
    yield "sum/dice_ce_batch", base, [one("dice", batch=True), (2, "ce", {})], "mean"
    yield "sum/dice_bce", binary, [one("dice"), (0.5, "bce", {})], "mean"
    yield "sum/dice_focal", multilabel, [one("dice"), (0.5, "focal", {"gamma": 2.0})], "mean"
    yield "sum/dice_focal_none", base, [one("dice"), (0.5, "focal", {"gamma": 2.0})], "none"
    yield "sum/difference", base, [one("jaccard"), (-0.25, "kappa", {})], "sum"
    many = [one("tversky", absent="skip"), (0.5, "generalized_dice", {"background": False}), (2, "poly1", {})]
    yield "sum/three_scopes", P.ignore(P.class_weights(P.absent(base))), many, "mean"
    mixed = [one("dice", class_weights=[1.0, 2.0, 4.0]), one("ce", background=False), (0.125, "boundary", {})]
    yield "sum/own_options", P.with_map(P.weights(P.class_weights(base))), mixed, "none"
    yield "sum/same_loss_twice", base, [one("dice"), one("dice", batch=True, squared=True)], "mean"
    # labels
    for name in ["dice", "ce", "balanced_ce", "wasserstein_dice"]:
        yield f"{name}/labels/out_of_range", P.out_of_range(base), [term(name)], "mean"
    both = P.mask(P.out_of_range(P.ignore(base)))
    yield "dice/labels/out_of_range_masked", both, [term("dice")], "mean"
    yield "bce/labels/binary_out_of_range", P.out_of_range(P.ignore(binary)), [term("bce")], "sum"
    yield "tversky/labels/ignore_negative", P.ignore(base, -100), [term("tversky")], "mean"
    yield "focal/labels/ignore_background", P.ignore_class(base, 0), [term("focal")], "mean"
    # sigmoid channels over labels: one-hot targets
    onehot = P.make("one-hot", [2, 3, 13], "sigmoid", "labels")
    for name in ["dice", "bce", "focal", "mcc"]:
        yield f"{name}/labels/one_hot", onehot, [term(name)], "mean"
    # soft probabilities
    soft = P.make("soft probabilities", [2, 3, 11], "none", "soft")
    for name in ["dice", "soft_dice", "soft_jaccard", "soft_tversky", "power_jaccard", "sensitivity_specificity", "ce"]:
        yield f"{name}/soft_probabilities", soft, [term(name)], "mean"
    # soft targets on sigmoid channels; smp is defined by the soft forms
    for name in ["soft_dice", "soft_jaccard", "soft_tversky", "bce", "focal", "exp_log", "unified_focal"]:
        problem = P.make("soft multilabel", [2, 3, 11], "sigmoid", "soft")
        yield f"{name}/soft_multilabel", problem, [term(name, {"batch": True, "absent": "zero"})], "mean"
        yield f"{name}/soft_multilabel_weights", P.weights(P.mask(problem)), [term(name)], "none"
    # a perfect soft prediction: the soft forms are minimal there, the hard ones are not
    perfect = P.make("perfect soft", [1, 1, 11], "none", "soft")
    perfect = replace(P.fill(perfect, perfect.dense, perfect.dense), tags={"edge", "perfect"})
    for name in ["soft_dice", "soft_jaccard", "soft_tversky", "dice"]:
        yield f"{name}/perfect_soft", perfect, [term(name)], "mean"
    # smoothing 0, where kornia agrees
    yield "tversky/kornia_skip", P.absent(base), [term("tversky", {"absent": "skip", "smooth": 0.0})], "none"
    smooth = {"absent": "skip", "smooth_nr": 0.0, "smooth_dr": 1e-8}
    yield "dice/kornia_skip", P.absent(base), [term("dice", smooth)], "none"
    yield "dice/kornia_ignore", P.ignore(base), [term("dice", {"smooth_nr": 0.0, "smooth_dr": 1e-8})], "mean"
    # a map that is the signed distance of a half-plane: integers, so exact
    half = P.make("half-plane", [1, 2, 5, 7], "softmax", "labels")
    labels = [int(column >= 3) for _ in range(5) for column in range(7)]
    inside = [3.0, 2.0, 1.0, 0.0, -1.0, -2.0, -3.0]  # class 1, columns 3 to 6
    outside = [-2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0]  # class 0, columns 0 to 2
    distance = {"per_class": True, "values": outside * 5 + inside * 5}
    half = replace(half, labels=labels, map=distance, tags={"signed distance"})
    for reduction in ["mean", "sum", "none"]:
        yield f"boundary/signed_distance_{reduction}", half, [term("boundary")], reduction
    no_background = [term("boundary", {"background": False})]
    yield "boundary/signed_distance_no_background", half, no_background, "mean"
    yield "boundary/shared_map_ignore", P.with_map(P.ignore(base), per_class=False), [term("boundary")], "mean"
    # one voxel, one sample
    voxel = P.make("one voxel", [1, 2, 1], "softmax", "soft")
    for name in ["dice", "ce", "jaccard", "generalized_dice", "bce"]:
        yield f"{name}/one_voxel", voxel, [term(name)], "mean"
    # weights of 0 on kept voxels: valid, but without influence
    for name in ["dice", "ce", "kappa"]:
        yield f"{name}/zero_weights", replace(base, weights=[0.0] * (base.N * base.V)), [term(name)], "mean"
    # all means exactly ½, where the slope is 1; erosions of one value, which are not spread
    half = P.fill(P.make("half", [1, 1, 3], "none", "hard"), [0.5, 0.0, 0.5], 1.0)
    pair = P.fill(P.make("pair", [1, 1, 2], "none", "hard"), 0.125, 1.0)
    for problem in [half, pair]:
        yield f"hausdorff_erosion/{problem.name}", problem, [term("hausdorff_erosion")], "mean"
    # ln max(p, 1e-12): a slope that does not die
    guard = P.fill(P.make("guard", [1, 2, 4], "none", "hard"), [0, 1, 0, 0.5, 1, 0, 0.5, 0], [1, 0, 0, 1, 0, 1, 1, 0])
    for name in ["ce", "bce", "focal", "poly1", "combo", "exp_log", "unified_focal"]:
        yield f"{name}/guarded_logarithm", replace(guard, tags={"edge"}), [term(name)], "mean"


def made_maps():
    """The losses that take a map of the caller's make their own here; all of them on shapes with longer distances."""
    base = SMALL_SOFTMAX
    ways = [
        ("plane", PLAIN[0][1], {}, "mean"),
        ("soft", PLAIN[2][1], {}, "mean"),
        ("softmax", PLAIN[3][1], {}, "none"),
        ("multilabel", PLAIN[5][1], {}, "mean"),
        ("volume", PLAIN[7][1], {}, "mean"),
        ("ignore", P.ignore(base), {}, "mean"),
        ("mask_weights", P.weights(P.mask(base)), {"class_weights": [1.0, 0.0, 2.5]}, "sum"),
        ("absent_skip", P.absent(base), {"absent": "skip"}, "mean"),
        ("batch_no_background", P.absent_everywhere(base), {"batch": True, "background": False}, "mean"),
        ("sample_ignored", P.sample_ignored(SMALL_BINARY), {}, "mean"),
        ("out_of_range", P.out_of_range(P.ignore(base)), {}, "mean"),
    ]
    discs = P.blobs(P.make("discs", [2, 3, 9, 11], "softmax", "labels"))
    balls = P.blobs(P.make("balls", [1, 2, 5, 7, 6], "softmax", "labels"))
    ball = P.blobs(P.make("ball", [1, 1, 6, 7, 5], "sigmoid", "labels"))
    shapes = [
        ("discs", discs, {}, "mean"),
        ("discs_spacing", replace(discs, spacing=[1.5, 0.75]), {"background": True}, "mean"),
        ("balls_spacing", replace(balls, spacing=[2.5, 1.0, 1.25]), {}, "mean"),
        ("ball", ball, {}, "mean"),
        ("ball_ignore", P.ignore(ball), {}, "none"),
    ]
    for name in sorted(NEEDS_MAP):
        for label, problem, extra, reduction in ways + shapes:
            yield f"{name}/made/{label}", problem, [term(name, extra)], reduction
    dropped = P.weights(P.mask(P.make("dropped", [2, 2, 9, 8], "softmax", "labels")))
    for label, problem, extra, reduction in ways + shapes + [("dropped", dropped, {}, "mean")]:
        yield f"hausdorff_erosion/made/{label}", P.mistaken(problem), [term("hausdorff_erosion", extra)], reduction
    for function in HAUSDORFF:
        for label, problem, extra, reduction in shapes:
            yield f"{function.__name__}/made/{label}", problem, [term(function.__name__, extra)], reduction
    cells = P.cells(P.make("cells", [2, 3, 9, 11], "softmax", "labels"))
    one_kind = P.cells(P.make("one kind of cells", [2, 1, 10, 12], "sigmoid", "labels"))
    volume = P.cells(P.make("cells of a volume", [1, 2, 6, 7, 8], "softmax", "labels"))
    objects = ways[:9] + ways[10:] + [
        ("one_sample_without", P.sample_ignored(one_kind), {}, "none"),
        ("cells", cells, {}, "mean"),
        ("cells_spacing", replace(cells, spacing=[1.5, 0.75]), {"sigma": 2.0, "class_weights": [0.5, 1.0, 3.0]}, "sum"),
        ("cells_ignore", P.ignore(cells), {"w0": 4.0}, "none"),
        ("cells_of_channels", P.channels(cells), {"sigma": 2.0}, "mean"),
        ("one_kind", one_kind, {}, "mean"),
        ("one_kind_mask", P.weights(P.mask(one_kind)), {"form": "categorical"}, "mean"),
        ("one_object", P.one_object(one_kind), {}, "mean"),
        ("no_object", replace(one_kind, labels=[0] * (2 * 120)), {}, "mean"),
        ("volume_spacing", replace(volume, spacing=[2.5, 1.0, 1.25]), {"sigma": 3.0}, "mean"),
        ("no_background", cells, {"background": False}, "mean"),
    ]
    for label, problem, extra, reduction in objects:
        yield f"distance_ce/unet/{label}", problem, [term("distance_ce", {"map": "unet"} | extra)], reduction
    two = [(1, "distance_ce", {"map": "unet"}), (0.5, "distance_ce", {"map": "unet", "sigma": 1.0}), (0.1, "boundary", {})]
    yield "sum/two_weight_maps_of_objects", cells, two, "mean"
    every = [(1, "dice", {}), (0.01, "boundary", {}), (1, "hausdorff_dt", {}), (0.5, "distance_ce", {}), (0.5, "shape_aware_ce", {})]
    yield "sum/every_made_map", discs, every, "mean"
    both = [(1, "dice", {}), (0.5, "hausdorff_erosion", {"background": False}), (2, "hausdorff_erosion", {}), (0.01, "boundary", {})]
    yield "sum/erosions_twice", P.mistaken(discs), both, "mean"
    yield "sum/a_given_map_and_made_ones", P.with_map(discs), every, "mean"


def all_cases():
    seen = set()
    for source in [plain, parameters, options, degenerate, special, made_maps]:
        for name, problem, terms, reduction in source():
            assert name not in seen, name
            seen.add(name)
            yield name, problem, terms, reduction


assert set(VARIANTS) == set(LOSSES) == {f.__name__ for f in GROUP + POOL + RATIO + COMPOUND + HAUSDORFF}
