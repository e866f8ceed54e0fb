"""Every loss from its definition, in float64, differentiated by torch.

docs/losses.md is the contract; names and symbols here are the ones used there. One function per loss returns a list
of parts: a value per group or per pool, or a ratio; `evaluate` applies class weights, absent classes and reduction.
Tensors: [N, C, V] for anything local, [pools, C] for a sum, where pools is N, or 1 with batch=true.
"""

from dataclasses import dataclass
from typing import Callable

import torch

import maps
from maps import Maps

FLOOR = 1e-6  # floor(u) and the base of a focal power
TINY_PROBABILITY = 1e-12  # activation none: ln max(p, 1e-12)


# ---- the local quantities --------------------------------------------------------------------------------------------


def probabilities(z, activation):
    """p, q = 1 - p, ln p and ln q of a prediction z [N, C, V]."""
    if activation == "softmax":
        log_sum = torch.logsumexp(z, 1, keepdim=True)
        others = [torch.cat([z[:, :c], z[:, c + 1 :]], 1) for c in range(z.shape[1])]
        ln_p = z - log_sum
        ln_q = torch.stack([torch.logsumexp(o, 1) for o in others], 1) - log_sum
        return ln_p.exp(), ln_q.exp(), ln_p, ln_q
    if activation == "sigmoid":
        logsigmoid = torch.nn.functional.logsigmoid
        return torch.sigmoid(z), torch.sigmoid(-z), logsigmoid(z), logsigmoid(-z)
    return z, 1 - z, guarded_ln(z), guarded_ln(1 - z)


def guarded_ln(p):
    """ln max(p, 1e-12) whose slope is 1 / max(p, 1e-12), also below the guard."""
    guarded = p.detach().clamp_min(TINY_PROBABILITY)
    return guarded.log() + (p - p.detach()) / guarded


def floor(u):
    """max(u, 1e-6), slope 0 below."""
    return u.clamp_min(FLOOR)


def divide(a, b):
    """a / b, and 0 with gradient 0 where b is 0."""
    zero = b == 0
    return torch.where(zero, torch.zeros_like(a), a / torch.where(zero, torch.ones_like(b), b))


@dataclass
class Context:
    """What a loss sees: local values, the sums over kept voxels, and which groups count."""

    p: torch.Tensor
    q: torch.Tensor
    ln_p: torch.Tensor
    ln_q: torch.Tensor
    g: torch.Tensor
    m: torch.Tensor  # [N, 1, V], voxel weight, 0 where not kept
    phi: torch.Tensor | None
    maps: Maps
    activation: str
    batch: bool
    class_weights: torch.Tensor  # [C]
    background: bool
    absent: str

    def sum(self, local):
        """Σm·local per group."""
        s = (self.m * local).sum(2)
        return s.sum(0, keepdim=True) if self.batch else s

    def __post_init__(self):
        p, g = self.p, self.g
        self.N, self.P, self.G = self.sum(torch.ones_like(g)), self.sum(p), self.sum(g)
        self.I, self.PP, self.GG = self.sum(p * g), self.sum(p * p), self.sum(g * g)
        self.A = self.sum((p - g).abs())
        self.TP = (self.P + self.G - self.A) / 2
        self.present = self.G != 0
        selected = torch.ones_like(self.present)
        if not self.background and g.shape[1] > 1:
            selected[:, 0] = False
        self.selected = selected  # the classes "of the pool"
        self.w = self.class_weights * selected  # weight of a group in a mean
        if self.absent == "skip":
            self.w = self.w * self.present
        self.w_term = self.w * (self.present if self.absent != "count" else 1)  # weight of a term of a pool

    def categorical(self, form):
        if form != "auto":
            return form == "categorical"
        return self.activation == "softmax" or (self.activation == "none" and self.g.shape[1] > 1)

    def voxels(self, group_value):
        """A value per group, spread over the group's voxels."""
        return group_value.expand(self.g.shape[0], -1).unsqueeze(2)


# ---- group scope -----------------------------------------------------------------------------------------------------


def dice(c, smooth_nr=1e-5, smooth_dr=1e-5, squared=False, log=False):
    """Milletari et al. 2016 (V-Net, squared); linear form of Drozdzal et al. 2016."""
    size = c.PP + c.GG if squared else c.P + c.G
    return [group(score_loss(divide(2 * c.I + smooth_nr, size + smooth_dr), log))]


def score_loss(score, log):
    return -score.clamp_min(1e-7).log() if log else 1 - score


def jaccard(c, smooth=1e-5, squared=False):
    """Rahman & Wang 2016."""
    size = c.PP + c.GG if squared else c.P + c.G
    return [group(1 - divide(c.I + smooth, size - c.I + smooth))]


def tversky_index(I, P, G, alpha, beta, smooth):
    return divide(I + smooth, I + alpha * (P - I) + beta * (G - I) + smooth)


def tversky(c, alpha=0.3, beta=0.7, smooth=1e-5):
    """Salehi et al. 2017; alpha weighs false positives, beta false negatives."""
    return [group(1 - tversky_index(c.I, c.P, c.G, alpha, beta, smooth))]


def focal_tversky(c, alpha=0.3, beta=0.7, smooth=1e-5, gamma=4 / 3):
    """Abraham & Khan 2018, exponent 1/gamma per class."""
    u = 1 - tversky_index(c.I, c.P, c.G, alpha, beta, smooth)
    return [group((u.clamp(min=0) if gamma <= 1 else floor(u)) ** (1 / gamma))]


def asymmetric_similarity(c, beta=1.5, smooth=1e-5):
    """Hashemi et al. 2018, F_beta."""
    return tversky(c, 1 / (1 + beta**2), beta**2 / (1 + beta**2), smooth)


def log_cosh_dice(c, smooth=1.0):
    """Jadon 2020. ln cosh x = ½ ln(1 + sinh² x)."""
    x = 1 - divide(2 * c.I + smooth, c.P + c.G + smooth)
    return [group(0.5 * torch.log1p(torch.sinh(x) ** 2))]


def sensitivity_specificity(c, r=0.05, smooth=1e-5):
    """Brosch et al. 2015."""
    error = (c.g - c.p) ** 2
    sensitivity = divide(c.sum(error * c.g), c.G + smooth)
    specificity = divide(c.sum(error * (1 - c.g)), c.N - c.G + smooth)
    return [group(r * sensitivity + (1 - r) * specificity)]


def kappa(c, form="exact"):
    """Zhang, Petitjean & Ainouz 2020, Cohen's kappa; `readme` as the authors published it."""
    chance = divide(c.P * c.G, c.N)
    if form == "readme":
        x = c.PP + c.GG - divide(2 * c.I, c.N)
        return [group(torch.where(x == 0, torch.zeros_like(x), 1 - divide(2 * c.I - chance, x)))]
    size = c.PP + c.GG if form == "squared" else c.P + c.G
    return [group(degenerate(c, 1 - divide(2 * (c.I - chance), size - 2 * chance)))]


def degenerate(c, loss):
    """An empty or a full class: 0 if P = G, else 1, without a gradient."""
    constant = torch.where(c.P == c.G, 0.0, 1.0).to(loss)
    return torch.where((c.G == 0) | (c.G == c.N), constant, loss)


def mcc(c, smooth=1e-5):
    """Abhishek & Hamarneh 2021, Matthews correlation."""
    product = c.P * c.G * (c.N - c.P) * (c.N - c.G)
    return [group(degenerate(c, 1 - divide(c.N * c.I - c.P * c.G, torch.sqrt(product + smooth))))]


def power_jaccard(c, power=2.0, smooth=1e-5):
    """Duque-Arias et al. 2021."""
    return [group(1 - divide(c.I + smooth, c.sum(c.p**power) + c.sum(c.g**power) - c.I + smooth))]


def soft_dice(c, smooth_nr=1e-5, smooth_dr=1e-5, log=False):
    """Wang et al. 2023 (Dice semimetric losses)."""
    return [group(score_loss(divide(2 * c.TP + smooth_nr, c.P + c.G + smooth_dr), log))]


def soft_jaccard(c, smooth=1e-5):
    """Wang et al. 2023 (Jaccard metric losses)."""
    return [group(1 - divide(c.TP + smooth, c.P + c.G - c.TP + smooth))]


def soft_tversky(c, alpha=0.3, beta=0.7, smooth=1e-5):
    """Wang et al. 2023 (Dice semimetric losses)."""
    return [group(1 - tversky_index(c.TP, c.P, c.G, alpha, beta, smooth))]


def boundary(c):
    """Kervadec et al. 2019; the map is the caller's, or made."""
    phi = c.maps.signed_distance() if c.phi is None else c.phi
    return [group(divide(c.sum(phi * c.p), c.N))]


def hausdorff_dt(c, alpha=2.0, one_sided=False):
    """Karimi & Salcudean 2019."""
    return [group(weighed_error(c, alpha, one_sided))]


def log_hausdorff_dt(c, alpha=2.0, one_sided=False):
    """The same, as MONAI takes its logarithm, but of each group."""
    return [group(torch.log1p(weighed_error(c, alpha, one_sided)))]


def weighed_error(c, alpha, one_sided):
    weight = c.maps.target_distance() ** alpha
    if not one_sided:
        weight = weight + c.maps.prediction_distance() ** alpha
    return divide(c.sum((c.p - c.g) ** 2 * weight), c.N)


def hausdorff_erosion(c, alpha=2.0, iterations=10):
    """Karimi & Salcudean 2019, as in kornia: the error after each of its erosions."""
    b = torch.where(c.m != 0, (c.p - c.g) ** 2, 0).reshape(c.maps.problem.shape)
    axes, total = range(2, b.dim()), 0
    for k in range(1, iterations + 1):
        d = cross_mean(b, axes)
        e = (d - 0.5).masked_fill(d < 0.5, 0)  # slope 1 where d is ½
        least, largest = e.amin(tuple(axes), keepdim=True), e.amax(tuple(axes), keepdim=True)
        maps.assert_clear(c.maps.problem, *(x.detach() for x in (d, e, least, largest)))
        spread = largest != least
        b = torch.where(spread, (e - least) / torch.where(spread, largest - least, 1), e)
        total = total + k**alpha * b
    return [group(divide(c.sum(total.reshape(c.p.shape)), c.N))]


def cross_mean(b, axes):
    """The mean over a voxel and its neighbours by faces; beyond the borders is 0."""
    total = b
    for axis in axes:
        border = torch.zeros_like(b.narrow(axis, 0, 1))
        inner = b.shape[axis] - 1
        total = total + torch.cat([border, b.narrow(axis, 0, inner)], axis) + torch.cat([b.narrow(axis, 1, inner), border], axis)
    return total / (2 * len(axes) + 1)


def combo(c, alpha=0.5, beta=0.5, smooth=1.0):
    """Taghanaki et al. 2019, with the paper's signs."""
    x = c.sum(-beta * c.g * c.ln_p - (1 - beta) * (1 - c.g) * c.ln_q)
    return [group(alpha * divide(x, c.N) - (1 - alpha) * divide(2 * c.I + smooth, c.P + c.G + smooth))]


# ---- pool scope ------------------------------------------------------------------------------------------------------


def generalized_dice(c, weight="square", smooth=1e-5, penalty=0.0):
    """Sudre et al. 2017; penalty k: Yang et al. 2019, u/(1 + k·u)."""
    if weight == "uniform":
        v = torch.ones_like(c.G)
    else:
        exponent = {"square": 2, "simple": 1}[weight]
        counted = c.present & c.selected
        v = torch.where(counted, divide(torch.ones_like(c.G), c.G**exponent), 0)
        v = torch.where(c.present, v, v.max(1, keepdim=True).values)
    numerator = 2 * (c.w_term * v * c.I).sum(1) + smooth
    u = 1 - divide(numerator, (c.w_term * v * (c.P + c.G)).sum(1) + smooth)
    return [pool(u / (1 + penalty * u))]


def wasserstein_dice(c, matrix=None, mode="default", smooth=1e-5):
    """Fidon et al. 2017; mode gdl: Tilborghs et al. 2020."""
    classes = c.g.shape[1]
    m = 1 - torch.eye(classes, dtype=c.p.dtype) if matrix is None else torch.tensor(matrix, dtype=c.p.dtype)
    D = c.sum(c.g * torch.einsum("kc,ncv->nkv", m, c.p))
    if mode == "default":
        alpha = (torch.arange(classes) > 0).to(c.p)
        tp = (c.w_term * alpha * (c.G - D)).sum(1)
        x = 2 * tp + (c.w_term * D).sum(1)
    else:
        alpha = 1 / (c.G + 1)
        tp = (c.w_term * alpha * (c.G - D)).sum(1)
        x = (c.w_term * alpha * (2 * c.G - D)).sum(1)
    return [pool(1 - divide(2 * tp + smooth, x + smooth))]


# ---- ratio scope -----------------------------------------------------------------------------------------------------


def cross_entropy(c, categorical):
    """The term that the pixel losses weigh, and its denominator."""
    if categorical:
        return -c.g * c.ln_p, c.G
    return -c.g * c.ln_p - (1 - c.g) * c.ln_q, c.N


def bce(c, smoothing=0.0):
    """Binary cross-entropy; smoothing as in Szegedy et al. 2016 with two outcomes."""
    g = c.g * (1 - smoothing) + smoothing / 2
    return [ratio(c.sum(-g * c.ln_p - (1 - g) * c.ln_q), c.N)]


def weighted_ce(c, pos_weight=1.0):
    """Cross-entropy with a weight on the positives (Pihur et al. 2007)."""
    return [ratio(c.sum(-pos_weight * c.g * c.ln_p - (1 - c.g) * c.ln_q), c.N)]


def balanced_ce(c, beta="auto"):
    """Xie & Tu 2015; auto: the share of negatives in the group."""
    b = c.voxels(1 - divide(c.G, c.N)) if beta == "auto" else beta
    return [ratio(c.sum(-b * c.g * c.ln_p - (1 - b) * (1 - c.g) * c.ln_q), c.N)]


def ce(c, smoothing=0.0):
    """Softmax cross-entropy; smoothing: Szegedy et al. 2016."""
    g = (1 - smoothing) * c.g + smoothing / c.g.shape[1]
    return [ratio(c.sum(-g * c.ln_p), c.G)]


def focal(c, gamma=2.0, alpha=None, form="auto"):
    """Lin et al. 2017."""
    q_power, p_power = floor(c.q) ** gamma, floor(c.p) ** gamma
    if c.categorical(form):
        a = torch.ones(c.g.shape[1], dtype=c.p.dtype)
        if alpha is not None:
            a[:] = alpha
            a[0] = 1 - alpha
        return [ratio(a * c.sum(-c.g * q_power * c.ln_p), c.G)]
    positive, negative = (1, 1) if alpha is None else (alpha, 1 - alpha)
    return [ratio(c.sum(-positive * c.g * q_power * c.ln_p - negative * (1 - c.g) * p_power * c.ln_q), c.N)]


def poly1(c, epsilon=1.0, form="auto"):
    """Leng et al. 2022, Poly-1 cross-entropy."""
    if c.categorical(form):
        return [ratio(c.sum(c.g * (-c.ln_p + epsilon * c.q)), c.G)]
    return [ratio(c.sum(c.g * (-c.ln_p + epsilon * c.q) + (1 - c.g) * (-c.ln_q + epsilon * c.p)), c.N)]


def topk_ce(c, threshold, form="auto"):
    """Wu et al. 2016, voxels whose probability of the truth is below the threshold."""
    positive = c.g * (c.p < threshold)
    if c.categorical(form):
        return [ratio(c.sum(-positive * c.ln_p), c.sum(positive))]
    negative = (1 - c.g) * (c.q < threshold)
    return [ratio(c.sum(-positive * c.ln_p - negative * c.ln_q), c.sum(positive + negative))]


def distance_ce(c, map="closeness", w0=10.0, sigma=5.0, form="auto"):
    """Caliva et al. 2019; unet: Ronneberger et al. 2015, equation 2. The map is the caller's, or made."""
    if c.phi is not None:
        return mapped_ce(c, form, c.phi)
    if map == "unet":
        return mapped_ce(c, form, w0 * torch.exp(-(c.maps.object_distances() ** 2) / (2 * sigma**2)))
    return mapped_ce(c, form, c.maps.closeness())


def shape_aware_ce(c, form="auto"):
    """Al Arif et al. 2017; the map is the caller's, or made."""
    return mapped_ce(c, form, c.maps.contour_distance() if c.phi is None else c.phi)


def mapped_ce(c, form, phi):
    term, denominator = cross_entropy(c, c.categorical(form))
    return [ratio(c.sum((1 + phi) * term), denominator)]


# ---- compounds -------------------------------------------------------------------------------------------------------


def exp_log(c, w_dice=0.8, w_ce=0.2, gamma_dice=0.3, gamma_ce=0.3, form="auto"):
    """Wong et al. 2018."""
    ln_dice = -torch.log((2 * c.I + 1) / (c.P + c.G + 1))
    half = (floor(ln_dice) if gamma_dice < 1 else ln_dice) ** gamma_dice
    if c.categorical(form):
        total = (c.G * c.selected).sum(1, keepdim=True)
        numerator = divide(total, c.G).sqrt() * c.sum(c.g * floor(-c.ln_p) ** gamma_ce)
        denominator = c.G
    else:
        numerator = divide(c.N, c.G).sqrt() * c.sum(c.g * floor(-c.ln_p) ** gamma_ce)
        numerator = numerator + divide(c.N, c.N - c.G).sqrt() * c.sum((1 - c.g) * floor(-c.ln_q) ** gamma_ce)
        denominator = c.N
    return [group(half, w_dice), ratio(numerator, denominator, w_ce)]


def unified_focal(c, weight=0.5, delta=0.6, gamma=0.5, symmetric=False, form="auto"):
    """Yeung et al. 2022."""
    smooth = 1e-7
    rare_power = floor(c.q) ** gamma if symmetric else 1
    rare = delta * c.g * rare_power * -c.ln_p
    score = 1 - tversky_index(c.I, c.P, c.G, 1 - delta, delta, smooth)
    focused = lambda u: floor(u) ** (1 - gamma) if gamma > 0 else u
    rare_score = focused(score)
    if c.categorical(form):
        background = (1 - delta) * c.g * floor(c.q) ** gamma * -c.ln_p
        is_background = torch.arange(c.g.shape[1]) == 0
        pixel = c.sum(torch.where(is_background[:, None], background, rare))
        overlap = torch.where(is_background, rare_score if symmetric else score, rare_score)
        return [ratio(pixel, c.G, weight), group(overlap, 1 - weight)]
    background = (1 - delta) * (1 - c.g) * floor(c.p) ** gamma * -c.ln_q
    other = 1 - tversky_index(c.N - c.P - c.G + c.I, c.N - c.P, c.N - c.G, 1 - delta, delta, smooth)
    overlap = (rare_score + (focused(other) if symmetric else other)) / 2
    return [ratio(c.sum(rare + background), c.N, weight), group(overlap, 1 - weight)]


# ---- means, sums, samples --------------------------------------------------------------------------------------------


@dataclass
class Part:
    scope: str
    value: torch.Tensor
    denominator: torch.Tensor | None
    factor: float


def group(value, factor=1.0):
    return Part("group", value, None, factor)


def pool(value, factor=1.0):
    return Part("pool", value, None, factor)


def ratio(numerator, denominator, factor=1.0):
    return Part("ratio", numerator, denominator, factor)


def reduce(c, part, reduction):
    """One number, or one per sample for `none`."""
    value = part.value
    if part.scope == "pool":
        value = torch.where(c.N[:, 0] == 0, 0, value)
        return value if reduction == "none" else value.sum() if reduction == "sum" else value.mean()
    value = torch.where(c.N == 0, 0, value)
    if c.absent == "zero":
        value = torch.where(c.present, value, 0)
    top = c.w * value
    bottom = c.w if part.scope == "group" else c.w * part.denominator
    if reduction == "none":
        return divide(top.sum(1), bottom.sum(1))
    return top.sum() if reduction == "sum" else divide(top.sum(), bottom.sum())


GROUP = [
    dice, jaccard, tversky, focal_tversky, asymmetric_similarity, log_cosh_dice, sensitivity_specificity, kappa, mcc,
    power_jaccard, soft_dice, soft_jaccard, soft_tversky, boundary, hausdorff_erosion, combo,
]  # fmt: skip
POOL = [generalized_dice, wasserstein_dice]
RATIO = [bce, weighted_ce, balanced_ce, ce, focal, poly1, topk_ce, distance_ce, shape_aware_ce]
COMPOUND = [exp_log, unified_focal]
HAUSDORFF = [hausdorff_dt, log_hausdorff_dt]
LOSSES: dict[str, Callable] = {f.__name__: f for f in GROUP + POOL + RATIO + COMPOUND + HAUSDORFF}
WITHOUT_BACKGROUND = {f.__name__ for f in HAUSDORFF}  # unless the term says otherwise
OPTIONS = {"batch": False, "background": True, "absent": "count", "class_weights": None}


def evaluate(problem, terms, reduction, z):
    """The objective Σ factor·loss of a prediction z [N, C, V]; terms are (factor, name, parameters)."""
    labels_or_dense, kept = problem.target(), problem.kept()
    z = torch.where(kept[:, None], z, 0)  # whatever an ignored voxel holds
    p, q, ln_p, ln_q = probabilities(z, problem.activation)
    total, made = 0, Maps(problem, p)
    for factor, name, parameters in terms:
        parameters = dict(parameters)
        defaults = OPTIONS | {"background": name not in WITHOUT_BACKGROUND}
        options = {k: parameters.pop(k, default) for k, default in defaults.items()}
        weights = options.pop("class_weights") or problem.class_weights or [1.0] * z.shape[1]
        context = Context(
            p, q, ln_p, ln_q, labels_or_dense, problem.voxel_weights(), problem.phi(), made, problem.activation,
            class_weights=torch.tensor(weights, dtype=z.dtype), **options,
        )  # fmt: skip
        for part in LOSSES[name](context, **parameters):
            total = total + factor * part.factor * reduce(context, part, reduction)
    return total
