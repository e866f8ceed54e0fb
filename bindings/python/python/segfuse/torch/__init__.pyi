"""segfuse for PyTorch. Written by bindings/python/stubs.py."""

from typing import Any, Literal, Optional, Sequence, Union

from torch import Tensor

from ._modules import Loss as Loss

def empty_cache() -> None: ...

class DiceLoss(Loss):
    """Soft Dice: 1 − S, S = (2I + smooth_nr)/(P + G + smooth_dr), per class and sample. With `squared` the
    denominator is PP + GG, as in V-Net; with `log` the value is −ln max(S, 1e-7).

    Source: Milletari et al. 2016, V-Net, arXiv:1606.04797; Drozdzal et al. 2016, arXiv:1608.04117.
    """

    def __init__(
        self,
        *,
        smooth_nr: float = ...,
        smooth_dr: float = ...,
        squared: bool = ...,
        log: bool = ...,
        activation: Optional[str] = None,
        ignore_index: Optional[int] = None,
        reduction: str = "mean",
        class_weights: Union[Sequence[float], Tensor, None] = None,
        batch: bool = False,
        background: bool = True,
        absent: str = "count",
        spacing: Optional[Sequence[float]] = None,
        head_weights: Optional[Sequence[float]] = None,
        process_group: Any = None,
        sharded: str = "samples",
        averaged_gradients: bool = True,
    ) -> None: ...

class GeneralizedDiceLoss(Loss):
    """Generalised Dice: one ratio per sample, S = (2Σv·I + smooth)/(Σv·(P + G) + smooth), v = 1/G². An absent class
    takes the largest v of the sample's present classes; v is a constant of the gradient. With a penalty k the
    value is (1 − S)/(1 + k(1 − S)).

    Source: Sudre et al. 2017, arXiv:1707.03237; penalty: Yang et al. 2019.
    """

    def __init__(
        self,
        *,
        weight: Literal["square", "simple", "uniform"] = ...,
        smooth: float = ...,
        penalty: float = ...,
        activation: Optional[str] = None,
        ignore_index: Optional[int] = None,
        reduction: str = "mean",
        class_weights: Union[Sequence[float], Tensor, None] = None,
        batch: bool = False,
        background: bool = True,
        absent: str = "count",
        spacing: Optional[Sequence[float]] = None,
        head_weights: Optional[Sequence[float]] = None,
        process_group: Any = None,
        sharded: str = "samples",
        averaged_gradients: bool = True,
    ) -> None: ...

class LogCoshDiceLoss(Loss):
    """ln cosh(1 − S), S = (2I + smooth)/(P + G + smooth).

    Source: Jadon 2020, arXiv:2006.14822.
    """

    def __init__(
        self,
        *,
        smooth: float = ...,
        activation: Optional[str] = None,
        ignore_index: Optional[int] = None,
        reduction: str = "mean",
        class_weights: Union[Sequence[float], Tensor, None] = None,
        batch: bool = False,
        background: bool = True,
        absent: str = "count",
        spacing: Optional[Sequence[float]] = None,
        head_weights: Optional[Sequence[float]] = None,
        process_group: Any = None,
        sharded: str = "samples",
        averaged_gradients: bool = True,
    ) -> None: ...

class SoftDiceLoss(Loss):
    """Soft Dice for soft targets: I is replaced by (P + G − Σ|p − g|)/2, so that the minimum lies at p = g.

    Source: Wang et al. 2023, Dice Semimetric Losses, arXiv:2303.16296.
    """

    def __init__(
        self,
        *,
        smooth_nr: float = ...,
        smooth_dr: float = ...,
        log: bool = ...,
        activation: Optional[str] = None,
        ignore_index: Optional[int] = None,
        reduction: str = "mean",
        class_weights: Union[Sequence[float], Tensor, None] = None,
        batch: bool = False,
        background: bool = True,
        absent: str = "count",
        spacing: Optional[Sequence[float]] = None,
        head_weights: Optional[Sequence[float]] = None,
        process_group: Any = None,
        sharded: str = "samples",
        averaged_gradients: bool = True,
    ) -> None: ...

class JaccardLoss(Loss):
    """Jaccard or IoU: 1 − (I + smooth)/(P + G − I + smooth); PP + GG − I when squared.

    Source: Rahman and Wang 2016, Optimizing Intersection-Over-Union.
    """

    def __init__(
        self,
        *,
        smooth: float = ...,
        squared: bool = ...,
        activation: Optional[str] = None,
        ignore_index: Optional[int] = None,
        reduction: str = "mean",
        class_weights: Union[Sequence[float], Tensor, None] = None,
        batch: bool = False,
        background: bool = True,
        absent: str = "count",
        spacing: Optional[Sequence[float]] = None,
        head_weights: Optional[Sequence[float]] = None,
        process_group: Any = None,
        sharded: str = "samples",
        averaged_gradients: bool = True,
    ) -> None: ...

class SoftJaccardLoss(Loss):
    """Jaccard for soft targets: I is replaced by (P + G − Σ|p − g|)/2, so that the minimum lies at p = g.

    Source: Wang et al. 2023, Jaccard Metric Losses, arXiv:2302.05666.
    """

    def __init__(
        self,
        *,
        smooth: float = ...,
        activation: Optional[str] = None,
        ignore_index: Optional[int] = None,
        reduction: str = "mean",
        class_weights: Union[Sequence[float], Tensor, None] = None,
        batch: bool = False,
        background: bool = True,
        absent: str = "count",
        spacing: Optional[Sequence[float]] = None,
        head_weights: Optional[Sequence[float]] = None,
        process_group: Any = None,
        sharded: str = "samples",
        averaged_gradients: bool = True,
    ) -> None: ...

class PowerJaccardLoss(Loss):
    """Power Jaccard: 1 − (I + smooth)/(Σp^k + Σg^k − I + smooth), k = power.

    Source: Duque-Arias et al. 2021, On power Jaccard losses.
    """

    def __init__(
        self,
        *,
        power: float = ...,
        smooth: float = ...,
        activation: Optional[str] = None,
        ignore_index: Optional[int] = None,
        reduction: str = "mean",
        class_weights: Union[Sequence[float], Tensor, None] = None,
        batch: bool = False,
        background: bool = True,
        absent: str = "count",
        spacing: Optional[Sequence[float]] = None,
        head_weights: Optional[Sequence[float]] = None,
        process_group: Any = None,
        sharded: str = "samples",
        averaged_gradients: bool = True,
    ) -> None: ...

class TverskyLoss(Loss):
    """Tversky: 1 − (I + smooth)/(I + alpha·FP + beta·FN + smooth), FP = P − I, FN = G − I.

    Source: Salehi et al. 2017, arXiv:1706.05721.
    """

    def __init__(
        self,
        *,
        alpha: float = ...,
        beta: float = ...,
        smooth: float = ...,
        activation: Optional[str] = None,
        ignore_index: Optional[int] = None,
        reduction: str = "mean",
        class_weights: Union[Sequence[float], Tensor, None] = None,
        batch: bool = False,
        background: bool = True,
        absent: str = "count",
        spacing: Optional[Sequence[float]] = None,
        head_weights: Optional[Sequence[float]] = None,
        process_group: Any = None,
        sharded: str = "samples",
        averaged_gradients: bool = True,
    ) -> None: ...

class FocalTverskyLoss(Loss):
    """Focal Tversky: (1 − T)^(1/gamma) per class, 1 − T floored at 1e-6 where the exponent is below 1.

    Source: Abraham and Khan 2018, arXiv:1810.07842.
    """

    def __init__(
        self,
        *,
        alpha: float = ...,
        beta: float = ...,
        smooth: float = ...,
        gamma: float = ...,
        activation: Optional[str] = None,
        ignore_index: Optional[int] = None,
        reduction: str = "mean",
        class_weights: Union[Sequence[float], Tensor, None] = None,
        batch: bool = False,
        background: bool = True,
        absent: str = "count",
        spacing: Optional[Sequence[float]] = None,
        head_weights: Optional[Sequence[float]] = None,
        process_group: Any = None,
        sharded: str = "samples",
        averaged_gradients: bool = True,
    ) -> None: ...

class AsymmetricSimilarityLoss(Loss):
    """The F_β loss: Tversky with alpha = 1/(1 + β²) and beta = β²/(1 + β²).

    Source: Hashemi et al. 2018, arXiv:1803.11078.
    """

    def __init__(
        self,
        *,
        beta: float = ...,
        smooth: float = ...,
        activation: Optional[str] = None,
        ignore_index: Optional[int] = None,
        reduction: str = "mean",
        class_weights: Union[Sequence[float], Tensor, None] = None,
        batch: bool = False,
        background: bool = True,
        absent: str = "count",
        spacing: Optional[Sequence[float]] = None,
        head_weights: Optional[Sequence[float]] = None,
        process_group: Any = None,
        sharded: str = "samples",
        averaged_gradients: bool = True,
    ) -> None: ...

class SoftTverskyLoss(Loss):
    """Tversky for soft targets: I is replaced by (P + G − Σ|p − g|)/2, so that the minimum lies at p = g.

    Source: Wang et al. 2023, Dice Semimetric Losses, arXiv:2303.16296.
    """

    def __init__(
        self,
        *,
        alpha: float = ...,
        beta: float = ...,
        smooth: float = ...,
        activation: Optional[str] = None,
        ignore_index: Optional[int] = None,
        reduction: str = "mean",
        class_weights: Union[Sequence[float], Tensor, None] = None,
        batch: bool = False,
        background: bool = True,
        absent: str = "count",
        spacing: Optional[Sequence[float]] = None,
        head_weights: Optional[Sequence[float]] = None,
        process_group: Any = None,
        sharded: str = "samples",
        averaged_gradients: bool = True,
    ) -> None: ...

class SensitivitySpecificityLoss(Loss):
    """r·Σ(g−p)²g/(G + smooth) + (1−r)·Σ(g−p)²(1−g)/(N − G + smooth): the error inside and outside of the class.

    Source: Brosch et al. 2015, MICCAI.
    """

    def __init__(
        self,
        *,
        r: float = ...,
        smooth: float = ...,
        activation: Optional[str] = None,
        ignore_index: Optional[int] = None,
        reduction: str = "mean",
        class_weights: Union[Sequence[float], Tensor, None] = None,
        batch: bool = False,
        background: bool = True,
        absent: str = "count",
        spacing: Optional[Sequence[float]] = None,
        head_weights: Optional[Sequence[float]] = None,
        process_group: Any = None,
        sharded: str = "samples",
        averaged_gradients: bool = True,
    ) -> None: ...

class KappaLoss(Loss):
    """1 − κ, κ = 2(I − PG/N)/(P + G − 2PG/N), Cohen's kappa with soft counts. Where the class is absent or fills
    everything, κ says nothing: the loss is 0 if P = G, else 1, with gradient 0.

    Source: Zhang, Petitjean and Ainouz 2020, Kappa loss for skin lesion segmentation.
    """

    def __init__(
        self,
        *,
        form: Literal["exact", "squared", "readme"] = ...,
        activation: Optional[str] = None,
        ignore_index: Optional[int] = None,
        reduction: str = "mean",
        class_weights: Union[Sequence[float], Tensor, None] = None,
        batch: bool = False,
        background: bool = True,
        absent: str = "count",
        spacing: Optional[Sequence[float]] = None,
        head_weights: Optional[Sequence[float]] = None,
        process_group: Any = None,
        sharded: str = "samples",
        averaged_gradients: bool = True,
    ) -> None: ...

class MCCLoss(Loss):
    """1 − MCC, MCC = (N·I − P·G)/√(P·G·(N−P)·(N−G) + smooth), the correlation of prediction and target. Where the
    class is absent or fills everything: 0 if P = G, else 1, with gradient 0.

    Source: Abhishek and Hamarneh 2021, arXiv:2010.13454.
    """

    def __init__(
        self,
        *,
        smooth: float = ...,
        activation: Optional[str] = None,
        ignore_index: Optional[int] = None,
        reduction: str = "mean",
        class_weights: Union[Sequence[float], Tensor, None] = None,
        batch: bool = False,
        background: bool = True,
        absent: str = "count",
        spacing: Optional[Sequence[float]] = None,
        head_weights: Optional[Sequence[float]] = None,
        process_group: Any = None,
        sharded: str = "samples",
        averaged_gradients: bool = True,
    ) -> None: ...

class WassersteinDiceLoss(Loss):
    """1 − (2TP + smooth)/(X + smooth), where a voxel of class k costs δ = Σ_c M[k, c]·p_c. default: TP = Σα(G − D),
    X = 2TP + ΣD with D_k = Σg_k·δ; gdl: α = 1/(G + 1), X = Σα(2G − D).

    Source: Fidon et al. 2017, arXiv:1707.00478; gdl: Tilborghs et al. 2020.
    """

    def __init__(
        self,
        *,
        matrix: Union[Sequence[Sequence[float]], Tensor] = ...,
        mode: Literal["default", "gdl"] = ...,
        smooth: float = ...,
        activation: Optional[str] = None,
        ignore_index: Optional[int] = None,
        reduction: str = "mean",
        class_weights: Union[Sequence[float], Tensor, None] = None,
        batch: bool = False,
        background: bool = True,
        absent: str = "count",
        spacing: Optional[Sequence[float]] = None,
        head_weights: Optional[Sequence[float]] = None,
        process_group: Any = None,
        sharded: str = "samples",
        averaged_gradients: bool = True,
    ) -> None: ...

class BCELoss(Loss):
    """Binary cross-entropy, the mean of −g·ln p − (1−g)·ln q over voxels and channels.

    Source: cross-entropy of a Bernoulli variable.
    """

    def __init__(
        self,
        *,
        smoothing: float = ...,
        activation: Optional[str] = None,
        ignore_index: Optional[int] = None,
        reduction: str = "mean",
        class_weights: Union[Sequence[float], Tensor, None] = None,
        batch: bool = False,
        background: bool = True,
        absent: str = "count",
        spacing: Optional[Sequence[float]] = None,
        head_weights: Optional[Sequence[float]] = None,
        process_group: Any = None,
        sharded: str = "samples",
        averaged_gradients: bool = True,
    ) -> None: ...

class WeightedCELoss(Loss):
    """Binary cross-entropy with a weight on the positives: the mean of −pos_weight·g·ln p − (1−g)·ln q.

    Source: Pihur et al. 2007; survey: Jadon 2020, arXiv:2006.14822.
    """

    def __init__(
        self,
        *,
        pos_weight: float = ...,
        activation: Optional[str] = None,
        ignore_index: Optional[int] = None,
        reduction: str = "mean",
        class_weights: Union[Sequence[float], Tensor, None] = None,
        batch: bool = False,
        background: bool = True,
        absent: str = "count",
        spacing: Optional[Sequence[float]] = None,
        head_weights: Optional[Sequence[float]] = None,
        process_group: Any = None,
        sharded: str = "samples",
        averaged_gradients: bool = True,
    ) -> None: ...

class BalancedCELoss(Loss):
    """Balanced cross-entropy: the mean of −β·g·ln p − (1−β)(1−g)·ln q, β = 1 − G/N of the sample's class.

    Source: Xie and Tu 2015, arXiv:1504.06375.
    """

    def __init__(
        self,
        *,
        beta: float = ...,
        activation: Optional[str] = None,
        ignore_index: Optional[int] = None,
        reduction: str = "mean",
        class_weights: Union[Sequence[float], Tensor, None] = None,
        batch: bool = False,
        background: bool = True,
        absent: str = "count",
        spacing: Optional[Sequence[float]] = None,
        head_weights: Optional[Sequence[float]] = None,
        process_group: Any = None,
        sharded: str = "samples",
        averaged_gradients: bool = True,
    ) -> None: ...

class CELoss(Loss):
    """Softmax cross-entropy: Σw·(−ln p) of the target class over Σw, w the weight of the voxel's class.

    Source: cross-entropy of a categorical variable; smoothing: Szegedy et al. 2015, arXiv:1512.00567.
    """

    def __init__(
        self,
        *,
        smoothing: float = ...,
        activation: Optional[str] = None,
        ignore_index: Optional[int] = None,
        reduction: str = "mean",
        class_weights: Union[Sequence[float], Tensor, None] = None,
        batch: bool = False,
        background: bool = True,
        absent: str = "count",
        spacing: Optional[Sequence[float]] = None,
        head_weights: Optional[Sequence[float]] = None,
        process_group: Any = None,
        sharded: str = "samples",
        averaged_gradients: bool = True,
    ) -> None: ...

class FocalLoss(Loss):
    """Focal loss: (1 − p)^gamma·(−ln p) of the target; gamma = 0 is cross-entropy exactly. alpha weighs the
    positives and 1 − alpha the negatives; in the categorical form, alpha weighs the classes from 1 on and 1 −
    alpha class 0. The base of the power is floored at 1e-6.

    Source: Lin et al. 2017, arXiv:1708.02002.
    """

    def __init__(
        self,
        *,
        gamma: float = ...,
        alpha: float = ...,
        form: Literal["auto", "categorical", "binary"] = ...,
        activation: Optional[str] = None,
        ignore_index: Optional[int] = None,
        reduction: str = "mean",
        class_weights: Union[Sequence[float], Tensor, None] = None,
        batch: bool = False,
        background: bool = True,
        absent: str = "count",
        spacing: Optional[Sequence[float]] = None,
        head_weights: Optional[Sequence[float]] = None,
        process_group: Any = None,
        sharded: str = "samples",
        averaged_gradients: bool = True,
    ) -> None: ...

class Poly1Loss(Loss):
    """Cross-entropy plus the first term of its expansion: −ln p + ε(1 − p) of the target.

    Source: Leng et al. 2022, arXiv:2204.12511.
    """

    def __init__(
        self,
        *,
        epsilon: float = ...,
        form: Literal["auto", "categorical", "binary"] = ...,
        activation: Optional[str] = None,
        ignore_index: Optional[int] = None,
        reduction: str = "mean",
        class_weights: Union[Sequence[float], Tensor, None] = None,
        batch: bool = False,
        background: bool = True,
        absent: str = "count",
        spacing: Optional[Sequence[float]] = None,
        head_weights: Optional[Sequence[float]] = None,
        process_group: Any = None,
        sharded: str = "samples",
        averaged_gradients: bool = True,
    ) -> None: ...

class TopkCELoss(Loss):
    """Cross-entropy over the hard voxels alone: those whose target probability lies below a threshold.

    Source: Wu et al. 2016, arXiv:1605.06885.
    """

    def __init__(
        self,
        *,
        threshold: float = ...,
        form: Literal["auto", "categorical", "binary"] = ...,
        activation: Optional[str] = None,
        ignore_index: Optional[int] = None,
        reduction: str = "mean",
        class_weights: Union[Sequence[float], Tensor, None] = None,
        batch: bool = False,
        background: bool = True,
        absent: str = "count",
        spacing: Optional[Sequence[float]] = None,
        head_weights: Optional[Sequence[float]] = None,
        process_group: Any = None,
        sharded: str = "samples",
        averaged_gradients: bool = True,
    ) -> None: ...

class BoundaryLoss(Loss):
    """Boundary loss: Σφ·p/N, φ the signed distance to the class's boundary, negative inside; or the caller's map.
    Linear in p; negative when the prediction lies inside.

    Source: Kervadec et al. 2019, arXiv:1812.07032.
    """

    def __init__(
        self,
        *,
        activation: Optional[str] = None,
        ignore_index: Optional[int] = None,
        reduction: str = "mean",
        class_weights: Union[Sequence[float], Tensor, None] = None,
        batch: bool = False,
        background: bool = True,
        absent: str = "count",
        spacing: Optional[Sequence[float]] = None,
        head_weights: Optional[Sequence[float]] = None,
        process_group: Any = None,
        sharded: str = "samples",
        averaged_gradients: bool = True,
    ) -> None: ...

class HausdorffDTLoss(Loss):
    """Hausdorff loss by distance transforms: Σ(p−g)²·(d_g^α + d_p^α)/N, d the distance to the boundary of g and of p
    > ½. The distances are constants of the gradient. Class 0 does not count unless `background=true`.

    Source: Karimi and Salcudean 2019, arXiv:1904.10030.
    """

    def __init__(
        self,
        *,
        alpha: float = ...,
        one_sided: bool = ...,
        activation: Optional[str] = None,
        ignore_index: Optional[int] = None,
        reduction: str = "mean",
        class_weights: Union[Sequence[float], Tensor, None] = None,
        batch: bool = False,
        background: bool = True,
        absent: str = "count",
        spacing: Optional[Sequence[float]] = None,
        head_weights: Optional[Sequence[float]] = None,
        process_group: Any = None,
        sharded: str = "samples",
        averaged_gradients: bool = True,
    ) -> None: ...

class LogHausdorffDTLoss(Loss):
    """ln(1 + `hausdorff_dt`), of each group. Class 0 does not count unless `background=true`.

    Source: Karimi and Salcudean 2019, arXiv:1904.10030; ln: MONAI.
    """

    def __init__(
        self,
        *,
        alpha: float = ...,
        one_sided: bool = ...,
        activation: Optional[str] = None,
        ignore_index: Optional[int] = None,
        reduction: str = "mean",
        class_weights: Union[Sequence[float], Tensor, None] = None,
        batch: bool = False,
        background: bool = True,
        absent: str = "count",
        spacing: Optional[Sequence[float]] = None,
        head_weights: Optional[Sequence[float]] = None,
        process_group: Any = None,
        sharded: str = "samples",
        averaged_gradients: bool = True,
    ) -> None: ...

class HausdorffErosionLoss(Loss):
    """Hausdorff loss by erosion: Σ_k k^α·b_k/N, b_k the error (p−g)² after k soft erosions. An erosion is the mean
    over a voxel and those that share a face with it, less ½, at least 0, then spread to [0, 1] over the
    image. The gradient goes through all of it. Class 0 counts, as in kornia.

    Source: Karimi and Salcudean 2019, arXiv:1904.10030; as in kornia.
    """

    def __init__(
        self,
        *,
        alpha: float = ...,
        iterations: int = ...,
        activation: Optional[str] = None,
        ignore_index: Optional[int] = None,
        reduction: str = "mean",
        class_weights: Union[Sequence[float], Tensor, None] = None,
        batch: bool = False,
        background: bool = True,
        absent: str = "count",
        spacing: Optional[Sequence[float]] = None,
        head_weights: Optional[Sequence[float]] = None,
        process_group: Any = None,
        sharded: str = "samples",
        averaged_gradients: bool = True,
    ) -> None: ...

class DistanceCELoss(Loss):
    """Distance-penalised cross-entropy: (1 + D)·CE, D large near boundaries; or the caller's map. map=closeness: D
    from 1 at the class's boundary to 0 farthest from it. map=unet: D = w0·exp(−(d1+d2)²/2σ²), d1 and d2 the
    distances to the two nearest objects, the same for all classes.

    Source: Caliva et al. 2019, arXiv:1908.03679; unet: Ronneberger et al. 2015, arXiv:1505.04597.
    """

    def __init__(
        self,
        *,
        map: Literal["closeness", "unet"] = ...,
        w0: float = ...,
        sigma: float = ...,
        form: Literal["auto", "categorical", "binary"] = ...,
        activation: Optional[str] = None,
        ignore_index: Optional[int] = None,
        reduction: str = "mean",
        class_weights: Union[Sequence[float], Tensor, None] = None,
        batch: bool = False,
        background: bool = True,
        absent: str = "count",
        spacing: Optional[Sequence[float]] = None,
        head_weights: Optional[Sequence[float]] = None,
        process_group: Any = None,
        sharded: str = "samples",
        averaged_gradients: bool = True,
    ) -> None: ...

class ShapeAwareCELoss(Loss):
    """Shape-aware cross-entropy: (1 + E)·CE, E the mean distance from the contour of p > ½ to the class's; or the
    caller's map.

    Source: Al Arif et al. 2017, Shape-aware deep convolutional neural network.
    """

    def __init__(
        self,
        *,
        form: Literal["auto", "categorical", "binary"] = ...,
        activation: Optional[str] = None,
        ignore_index: Optional[int] = None,
        reduction: str = "mean",
        class_weights: Union[Sequence[float], Tensor, None] = None,
        batch: bool = False,
        background: bool = True,
        absent: str = "count",
        spacing: Optional[Sequence[float]] = None,
        head_weights: Optional[Sequence[float]] = None,
        process_group: Any = None,
        sharded: str = "samples",
        averaged_gradients: bool = True,
    ) -> None: ...

class ComboLoss(Loss):
    """Combo: alpha·(weighted binary cross-entropy) − (1 − alpha)·S, S = (2I + smooth)/(P + G + smooth). The cross-
    entropy is the mean of −beta·g·ln p − (1−beta)(1−g)·ln q. The value can be negative.

    Source: Taghanaki et al. 2019, arXiv:1805.02798.
    """

    def __init__(
        self,
        *,
        alpha: float = ...,
        beta: float = ...,
        smooth: float = ...,
        activation: Optional[str] = None,
        ignore_index: Optional[int] = None,
        reduction: str = "mean",
        class_weights: Union[Sequence[float], Tensor, None] = None,
        batch: bool = False,
        background: bool = True,
        absent: str = "count",
        spacing: Optional[Sequence[float]] = None,
        head_weights: Optional[Sequence[float]] = None,
        process_group: Any = None,
        sharded: str = "samples",
        averaged_gradients: bool = True,
    ) -> None: ...

class ExpLogLoss(Loss):
    """Exponential logarithmic loss: w_dice·(−ln S)^gamma_dice + w_ce·mean of v·(−ln p)^gamma_ce. S = (2I + 1)/(P + G
    + 1); v = √(ΣG/G) of the voxel's class. −ln p is floored at 1e-6, −ln S too where its exponent is below 1.

    Source: Wong et al. 2018, arXiv:1809.00076.
    """

    def __init__(
        self,
        *,
        w_dice: float = ...,
        w_ce: float = ...,
        gamma_dice: float = ...,
        gamma_ce: float = ...,
        form: Literal["auto", "categorical", "binary"] = ...,
        activation: Optional[str] = None,
        ignore_index: Optional[int] = None,
        reduction: str = "mean",
        class_weights: Union[Sequence[float], Tensor, None] = None,
        batch: bool = False,
        background: bool = True,
        absent: str = "count",
        spacing: Optional[Sequence[float]] = None,
        head_weights: Optional[Sequence[float]] = None,
        process_group: Any = None,
        sharded: str = "samples",
        averaged_gradients: bool = True,
    ) -> None: ...

class UnifiedFocalLoss(Loss):
    """Unified focal loss: weight·(asymmetric focal) + (1 − weight)·(asymmetric focal Tversky). Class 0 is the
    background, all others are rare; in the binary form each channel is rare and 1 − p its background. delta
    weighs the rare class and the false negatives; the smoothing of the Tversky index is 1e-7.

    Source: Yeung et al. 2021, arXiv:2102.04525.
    """

    def __init__(
        self,
        *,
        weight: float = ...,
        delta: float = ...,
        gamma: float = ...,
        symmetric: bool = ...,
        form: Literal["auto", "categorical", "binary"] = ...,
        activation: Optional[str] = None,
        ignore_index: Optional[int] = None,
        reduction: str = "mean",
        class_weights: Union[Sequence[float], Tensor, None] = None,
        batch: bool = False,
        background: bool = True,
        absent: str = "count",
        spacing: Optional[Sequence[float]] = None,
        head_weights: Optional[Sequence[float]] = None,
        process_group: Any = None,
        sharded: str = "samples",
        averaged_gradients: bool = True,
    ) -> None: ...
