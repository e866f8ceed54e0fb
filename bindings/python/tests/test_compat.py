"""`segfuse.compat` beside the libraries that it stands for: values, gradients, warnings and errors."""

import ast
import importlib.util
import os
import pathlib
import subprocess
import sys
import warnings

import pytest
import torch

import segfuse.torch

# In CI a library that is not there is an error of its import.
if not any(os.environ.get(name) for name in ("CI", "SEGFUSE_CI")):
    for _library in ("monai", "kornia", "nnunetv2", "segmentation_models_pytorch"):
        if importlib.util.find_spec(_library) is None:
            pytest.skip(f"{_library} is not installed", allow_module_level=True)

import compat_table  # noqa: E402
from compat_originals import original  # noqa: E402
from compat_settings import LIBRARIES, REFUSED, Setting, compare  # noqa: E402
from segfuse.compat import kornia, monai, nnunet, smp  # noqa: E402

OURS = {"monai": monai, "nnunet": nnunet, "smp": smp, "kornia": kornia}


def _losses():
    for library, settings in LIBRARIES.items():
        by_loss = {}
        for setting in settings():
            by_loss.setdefault(setting.loss, []).append(setting)
        for loss, found in by_loss.items():
            yield pytest.param(library, found, id=f"{library}.{loss}")


@pytest.mark.parametrize("library, settings", list(_losses()))
@pytest.mark.filterwarnings("ignore:single channel prediction", "ignore:`include_background=False`")
def test_same_numbers(library, settings):
    theirs = original(library)
    differences = [f"{s}: {found}" for s in settings if (found := compare(s, OURS[library], theirs))]
    assert not differences, f"{len(differences)} of {len(settings)} differ\n" + "\n".join(differences[:5])


@pytest.mark.parametrize("library", LIBRARIES)
def test_enough_settings(library):
    assert sum(1 for _ in LIBRARIES[library]()) >= 500


def test_the_comparison_sees_a_difference():
    class Wrong:
        DiceLoss = staticmethod(lambda **options: monai.DiceLoss(smooth_nr=1e-3, **options))

    x, y = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(1, 3, 8), torch.arange(8).reshape(1, 1, 8) % 3
    setting = Setting("DiceLoss", {"softmax": True, "to_onehot_y": True}, x, (y,))
    assert compare(setting, monai, original("monai")) is None
    assert "value" in compare(setting, Wrong, original("monai"))


def test_the_comparison_sees_what_is_beside_nan():
    class Both:
        def __init__(self, slope):
            self.loss = lambda: lambda x, *_: (x * slope).sum() + 0 * x.detach().sum().log()

    x = torch.ones(2, dtype=torch.float64)
    nan = float("nan")
    compared = [[nan, 1.0], [nan, 1.0]], [[nan, 1.0], [nan, 2.0]], [[nan, 1.0], [1.0, nan]]
    found = [
        compare(Setting("loss", {}, x, ()), *(Both(torch.tensor(slope, dtype=torch.float64)) for slope in pair)) for pair in compared
    ]
    assert found[0] is None and "gradient" in found[1] and "NaN" in found[2]


def test_the_table_is_fresh():
    assert compat_table.main(check=True) == 0, "python bindings/python/tests/compat_table.py writes docs/compat.md"


@pytest.mark.parametrize("library, loss, options, why", REFUSED)
def test_refused(library, loss, options, why):
    with pytest.raises(NotImplementedError, match=why):
        made = getattr(OURS[library], loss)(**options)
        x = torch.zeros(1, 2, 4, 4)
        made(x, torch.zeros(1, 4, 4, dtype=torch.long) if library == "kornia" else x)


@pytest.mark.parametrize("library", ["monai", "smp", "kornia"])
def test_missing_losses_say_so(library):
    theirs = original(library)
    for name in OURS[library].MISSING:
        assert hasattr(theirs, name)
        with pytest.raises(NotImplementedError, match=name):
            getattr(OURS[library], name)()


LOGITS = torch.linspace(-2, 2, 2 * 3 * 16).reshape(2, 3, 4, 4)
LABELS = torch.arange(32).reshape(2, 1, 4, 4) % 3

#: What both must refuse, in the same way: library, loss, arguments, what it is called with.
ERRORS = [
    ("monai", "DiceLoss", {"sigmoid": True, "softmax": True}, None),
    ("monai", "DiceLoss", {"other_act": 3}, None),
    ("monai", "DiceLoss", {"reduction": "median"}, None),
    ("monai", "DiceLoss", {"softmax": True}, (LOGITS, LABELS)),
    ("monai", "DiceLoss", {"softmax": True, "to_onehot_y": True}, (LOGITS, LABELS.squeeze(1))),
    ("monai", "DiceLoss", {"softmax": True, "to_onehot_y": True}, (LOGITS, LABELS + 1)),
    ("monai", "DiceLoss", {"softmax": True, "to_onehot_y": True, "weight": [1.0, 2.0]}, (LOGITS, LABELS)),
    ("monai", "DiceLoss", {"softmax": True, "to_onehot_y": True, "weight": [1.0, 2.0, -1.0]}, (LOGITS, LABELS)),
    ("monai", "MaskedDiceLoss", {"softmax": True}, (LOGITS, LOGITS, LOGITS)),
    ("monai", "TverskyLoss", {"softmax": True}, (LOGITS, LABELS)),
    ("monai", "GeneralizedDiceLoss", {"w_type": "cubic"}, None),
    ("monai", "GeneralizedWassersteinDiceLoss", {"dist_matrix": torch.zeros(2, 3)}, None),
    ("monai", "GeneralizedWassersteinDiceLoss", {"dist_matrix": torch.ones(2, 2), "weighting_mode": "x"}, None),
    ("monai", "FocalLoss", {}, (LOGITS, LABELS)),
    ("monai", "FocalLoss", {"to_onehot_y": True, "weight": [1.0, 2.0]}, (LOGITS, LABELS)),
    ("monai", "FocalLoss", {"to_onehot_y": True, "alpha": [1.0, 2.0]}, (LOGITS, LABELS)),
    ("monai", "FocalLoss", {"to_onehot_y": True, "weight": -1.0}, (LOGITS, LABELS)),
    ("monai", "DiceCELoss", {"reduction": "none"}, None),
    ("monai", "DiceCELoss", {"lambda_ce": -1.0}, None),
    ("monai", "DiceCELoss", {"softmax": True}, (LOGITS, LABELS.squeeze(1))),
    ("monai", "DiceCELoss", {"softmax": True}, (LOGITS, LOGITS[:, :2])),
    ("monai", "DiceFocalLoss", {"lambda_focal": -1.0}, None),
    ("monai", "AsymmetricUnifiedFocalLoss", {}, (LOGITS[..., 0], LOGITS[..., 0])),
    ("monai", "HausdorffDTLoss", {"softmax": True}, (LOGITS, LABELS)),
    ("monai", "HausdorffDTLoss", {}, (LOGITS[..., 0], LOGITS[..., 0])),
    ("monai", "HausdorffDTLoss", {"reduction": "median"}, None),
    ("monai", "BoundaryLoss", {"sigmoid": True, "softmax": True}, None),
    ("monai", "BoundaryLoss", {"softmax": True}, (LOGITS, LABELS)),
    ("monai", "BoundaryLoss", {"sigmoid": True, "to_onehot_y": True}, (LOGITS[:, :1], LABELS[:, 0])),
    ("monai", "BoundaryLoss", {}, (LOGITS[..., 0], LOGITS[..., 0])),
    ("monai", "AsymmetricUnifiedFocalLoss", {}, (LOGITS, LABELS)),
    ("smp", "DiceLoss", {"mode": "ternary"}, None),
    ("smp", "DiceLoss", {"mode": "binary", "class_weights": [1.0]}, None),
    ("smp", "JaccardLoss", {"mode": "binary", "classes": [0]}, None),
    ("smp", "DiceLoss", {"mode": "multiclass"}, (LOGITS, LABELS[:1])),
    ("smp", "DiceLoss", {"mode": "multiclass"}, (LOGITS, LABELS + 1)),
    ("smp", "FocalLoss", {"mode": "binary", "class_weights": [1.0]}, None),
    ("smp", "SoftCrossEntropyLoss", {}, (LOGITS, LABELS.squeeze(1))),
    ("smp", "SoftBCEWithLogitsLoss", {}, (LOGITS, LABELS.float())),
    ("kornia", "DiceLoss", {}, (LOGITS[..., 0], LABELS[:, 0, :, 0])),
    ("kornia", "DiceLoss", {}, (LOGITS, LABELS[:1, 0])),
    ("kornia", "DiceLoss", {}, (LOGITS, LABELS[:, 0] + 1)),
    ("kornia", "TverskyLoss", {"alpha": 0.5, "beta": 0.5}, (LOGITS, LABELS[:, 0, :2])),
    ("kornia", "FocalLoss", {"alpha": None, "reduction": "median"}, (LOGITS, LABELS[:, 0])),
    ("nnunet", "DeepSupervisionWrapper", {"loss": None, "weight_factors": [0.0]}, None),
]


@pytest.mark.parametrize("library, loss, options, call", ERRORS)
def test_same_errors(library, loss, options, call):
    def attempt(module):
        made = getattr(module, loss)(**options)
        if call is not None:
            made(*call)

    kinds = []
    for module in (original(library), OURS[library]):
        with pytest.raises(Exception) as caught:
            attempt(module)
        kinds.append(caught.type)
    theirs, own = kinds
    assert issubclass(own, theirs) or issubclass(theirs, own), f"{own} for {theirs}"


@pytest.mark.parametrize(
    "loss, options, call",
    [
        ("DiceLoss", {"softmax": True}, (LOGITS[:, :1], LOGITS[:, :1])),
        ("DiceLoss", {"to_onehot_y": True}, (LOGITS[:, :1], LOGITS[:, :1])),
        ("TverskyLoss", {"include_background": False}, (LOGITS[:, :1], LOGITS[:, :1])),
        ("HausdorffDTLoss", {"softmax": True}, (LOGITS[:, :1], LOGITS[:, :1])),
        ("BoundaryLoss", {"to_onehot_y": True}, (LOGITS[:, :1], LOGITS[:, :1])),
        ("MaskedDiceLoss", {}, (LOGITS, LOGITS)),
        ("FocalLoss", {"to_onehot_y": True}, (LOGITS[:, :1], LABELS % 2)),
        ("FocalLoss", {"include_background": False, "use_softmax": True, "alpha": 0.5, "to_onehot_y": True}, (LOGITS, LABELS)),
    ],
)
def test_same_warnings(loss, options, call):
    texts = []
    for module in (original("monai"), monai):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            getattr(module, loss)(**options)(*call)
        texts.append(sorted(str(w.message) for w in caught))
    assert texts[0] and texts[0] == texts[1]


def test_known_errors_have_their_right_form():
    # Masked voxels are no voxels of class 0 when the mask is applied to the encoded target.
    mask = (torch.arange(32).reshape(2, 1, 4, 4) % 4 != 0).float()
    options = {"softmax": True, "to_onehot_y": True}
    own = monai.MaskedDiceLoss(**options, masked_as_background=False)(LOGITS, LABELS, mask)
    encoded = torch.nn.functional.one_hot(LABELS[:, 0], 3).movedim(-1, 1).float()
    right = original("monai").MaskedDiceLoss(softmax=True)(LOGITS, encoded, mask)
    wrong = original("monai").MaskedDiceLoss(**options)(LOGITS, LABELS, mask)
    assert own == pytest.approx(float(right), rel=1e-6) and abs(float(wrong - right)) > 1e-3
    # The focal half of the unified focal loss is a sum over the two channels.
    p, y = LOGITS[:, :1].sigmoid(), (LABELS % 2).float()
    halves = [monai.AsymmetricUnifiedFocalLoss(weight=1.0, focal_sum=flag)(p, y) for flag in (False, True)]
    assert float(halves[1]) == pytest.approx(2 * float(halves[0]), rel=1e-6)


def same(ours, theirs, x, *others):
    """Whether values and gradients are those of the original."""
    results = []
    for loss in (ours, theirs):
        own = x.clone().requires_grad_()
        value = loss(own, *others)
        value.sum().backward()
        results.append((value.detach(), own.grad))
    torch.testing.assert_close(*results, rtol=2e-5, atol=1e-6)


def test_the_imports_of_nnunet_trainer():
    path = pathlib.Path(importlib.util.find_spec("nnunetv2").origin).parent / "training/nnUNetTrainer/nnUNetTrainer.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and "training.loss" in node.module]
    names = [name.name for node in imports for name in node.names]
    assert len(names) >= 5 and not [name for name in names if not hasattr(nnunet, name)]


@pytest.mark.parametrize("ignore", [None, 2])
@pytest.mark.parametrize("dice", ["SoftDiceLoss", "MemoryEfficientSoftDiceLoss"])
def test_a_dice_class_of_nnunet_itself(dice, ignore):
    theirs = original("nnunet")
    options = {"ignore_label": ignore, "dice_class": getattr(theirs, dice), "weight_ce": 0.7}
    losses = (module.DC_and_CE_loss({"ddp": False, "do_bg": False}, {}, **options) for module in (nnunet, theirs))
    same(*losses, LOGITS, LABELS)
    regions = torch.cat([LABELS == 1, LABELS == 2, LABELS > 0, LABELS == 0], 1)[:, : 3 if ignore is None else 4].float()
    options = {"use_ignore_label": ignore is not None, "dice_class": getattr(theirs, dice)}
    losses = (module.DC_and_BCE_loss({}, {"ddp": False}, **options) for module in (nnunet, theirs))
    same(*losses, LOGITS, regions)


@pytest.mark.parametrize("axes", [None, (2, 3), [0, 2, 3]])
@pytest.mark.parametrize("kept", [None, LABELS > 0, (LABELS > 0).float(), LABELS / 2])
@pytest.mark.parametrize("target", [LABELS, LABELS[:, 0], LABELS.float(), (LOGITS > 0.3).long()])
def test_counts_of_nnunet(axes, kept, target):
    counts = lambda module: lambda x, *given: torch.stack(module.get_tp_fp_fn_tn(x, *given))  # noqa: E731
    same(counts(nnunet), counts(original("nnunet")), LOGITS.sigmoid(), target, axes, kept)
    with pytest.raises(NotImplementedError, match="all spatial axes"):
        nnunet.get_tp_fp_fn_tn(LOGITS, target, (3,))


def test_weights_of_another_shape_than_the_channels_are_refused():
    regions = (LOGITS > 0.3).float()
    for loss in (nnunet.DC_and_BCE_loss({"pos_weight": torch.ones(3)}, {}), smp.SoftBCEWithLogitsLoss(torch.ones(3))):
        with pytest.raises(NotImplementedError, match=r"shape \(3,\) differs by more than the channel"):
            loss(LOGITS, regions)


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("encoded", [True, False])
def test_masks_that_are_no_zeros_and_ones(background, encoded):
    mask = torch.arange(32).reshape(2, 1, 4, 4) / 31
    one_hot = torch.nn.functional.one_hot(LABELS[:, 0], 3).movedim(-1, 1).float()
    own = monai.MaskedDiceLoss(softmax=True, to_onehot_y=encoded, masked_as_background=background)
    theirs = original("monai").MaskedDiceLoss(softmax=True, to_onehot_y=encoded and background)
    target, right = LABELS if encoded else one_hot, LABELS if encoded and background else one_hot
    for loss in (own, torch.compile(own, fullgraph=True, backend="aot_eager")):
        same(lambda x: loss(x, target, mask), lambda x: theirs(x, right, mask), LOGITS)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int8, torch.uint16, torch.int16, torch.int32, torch.uint32])
@pytest.mark.parametrize(
    "loss, multilabel",
    [
        (monai.DiceLoss(softmax=True, to_onehot_y=True, ignore_index=1), False),
        (monai.DiceLoss(softmax=True, ignore_index=1), True),
        (monai.FocalLoss(to_onehot_y=True, ignore_index=1), False),
        (monai.FocalLoss(ignore_index=1), True),
        (nnunet.DC_and_CE_loss({"ddp": False}, {}, ignore_label=1), False),
        (nnunet.SoftDiceLoss(torch.sigmoid, ddp=False), True),
        (smp.DiceLoss("multiclass", ignore_index=1), False),
        (smp.DiceLoss("multilabel", ignore_index=1), True),
        (smp.FocalLoss("multilabel", ignore_index=1), True),
        (smp.SoftCrossEntropyLoss(smooth_factor=0.1, ignore_index=1), False),
        (lambda x, y: kornia.DiceLoss(ignore_index=1)(x, y[:, 0]), False),
        (lambda x, y: kornia.FocalLoss(0.5, reduction="mean")(x, y[:, 0]), False),
        (kornia.BinaryFocalLossWithLogits(0.5, reduction="mean", ignore_index=1), True),
    ],
)
def test_targets_of_every_integer_type(loss, multilabel, dtype):
    target = (LOGITS > 0.3).long() if multilabel else LABELS % 2
    same(lambda x: loss(x, target.to(dtype)), lambda x: loss(x, target), LOGITS)


def test_weights_below_zero_are_seen_where_a_loss_is_compiled():
    for loss in (monai.DiceLoss(softmax=True, to_onehot_y=True, weight=[1.0, -1.0, 1.0]), monai.FocalLoss(to_onehot_y=True, weight=-1.0)):
        with pytest.raises(Exception, match="less than 0|non-negative"):
            torch.compile(loss, fullgraph=True, backend="aot_eager")(LOGITS, LABELS)
    # As in MONAI, a loss of one channel has no weights to look at.
    assert torch.isfinite(monai.DiceLoss(sigmoid=True, weight=-1.0)(LOGITS[:, :1], (LABELS % 2).float()))


def test_the_example_trains_both_alike():
    script = pathlib.Path(__file__).parents[1] / "examples/train_unet.py"
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    command = [sys.executable, str(script), "--steps", "8", "--size", "16"]
    run = lambda *more: subprocess.run([*command, *more], env=environment, capture_output=True, text=True, timeout=300)  # noqa: E731
    out = run()
    assert out.returncode == 0, out.stderr
    *ends, difference = out.stdout.splitlines()
    assert len(ends) == 2 and all("of which loss" in line for line in ends)
    assert difference.startswith("largest difference of the curves: ") and float(difference.split()[-1]) < 1e-3
    if importlib.util.find_spec("matplotlib") is None:
        # Before any training, whose results would be lost.
        refused = run("--plot", "curves.png")
        assert refused.returncode == 2 and "needs matplotlib" in refused.stderr and not refused.stdout


def test_functional_gradients():
    loss = monai.DiceCELoss(softmax=True, to_onehot_y=True)
    x = LOGITS.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(x, LABELS), x)
    assert torch.equal(torch.func.grad(lambda z: loss(z, LABELS))(LOGITS), expected)
    (slope,) = torch.autograd.grad(loss(x, LABELS), x, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivatives"):
        slope.sum().backward()


def test_deep_supervision():
    outputs = [torch.linspace(-2, 2, 3 * n * n).reshape(1, 3, n, n) for n in (8, 4, 2)]
    target = (torch.arange(64) % 3).reshape(1, 1, 8, 8).float()
    values = []
    for module in (original("monai"), monai):
        dice = module.DiceLoss(softmax=True, to_onehot_y=True)
        values += [module.DeepSupervisionLoss(dice, mode)(outputs, target) for mode in ("exp", "two", "same")]
    torch.testing.assert_close(values[:3], values[3:], rtol=1e-5, atol=0)
    targets = [target, target[..., ::2, ::2], target[..., ::4, ::4]]
    values = []
    for module in (original("nnunet"), nnunet):
        loss = module.DC_and_CE_loss({"ddp": False}, {})
        values.append(module.DeepSupervisionWrapper(loss, [1, 0, 0.25])(outputs, targets))
    torch.testing.assert_close(*values, rtol=1e-5, atol=0)


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
def test_two_processes():
    script = pathlib.Path(__file__).with_name("two_processes_compat.py")
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)), OMP_NUM_THREADS="1")
    out = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=300)
    assert out.returncode == 0, out.stdout + out.stderr
    assert sorted(out.stdout.splitlines()) == ["ok 0", "ok 1"], out.stdout


#: A loss of MONAI, and the same by a spec string: the migration table of docs/compat.md.
MIGRATION = [
    ("DiceLoss", {"softmax": True, "to_onehot_y": True}, "dice", {}),
    ("DiceLoss", {"softmax": True, "to_onehot_y": True, "include_background": False}, "dice", {"background": False}),
    ("DiceLoss", {"softmax": True, "to_onehot_y": True, "batch": True}, "dice", {"batch": True}),
    ("DiceLoss", {"softmax": True, "to_onehot_y": True, "squared_pred": True}, "dice(squared=true)", {}),
    ("DiceLoss", {"softmax": True, "to_onehot_y": True, "jaccard": True}, "jaccard(smooth=5e-6)", {}),
    ("DiceLoss", {"softmax": True, "to_onehot_y": True, "ignore_index": 2}, "dice", {"ignore_index": 2}),
    ("GeneralizedDiceLoss", {"softmax": True, "to_onehot_y": True}, "generalized_dice", {}),
    ("TverskyLoss", {"softmax": True, "to_onehot_y": True, "alpha": 0.3, "beta": 0.7}, "tversky", {}),
    ("MCCLoss", {"softmax": True, "to_onehot_y": True}, "mcc", {}),
    ("DiceCELoss", {"softmax": True, "to_onehot_y": True}, "dice + ce", {}),
    ("DiceCELoss", {"softmax": True, "to_onehot_y": True, "lambda_dice": 0.5, "lambda_ce": 2.0}, "0.5*dice + 2*ce", {}),
    ("FocalLoss", {"to_onehot_y": True}, "focal", {"activation": "sigmoid"}),
    ("FocalLoss", {"to_onehot_y": True, "use_softmax": True, "ignore_index": -1}, "focal", {}),
    ("DiceFocalLoss", {"sigmoid": True, "to_onehot_y": True}, "dice + focal", {"activation": "sigmoid"}),
]


@pytest.mark.parametrize("loss, options, spec, settings", MIGRATION)
def test_migration(loss, options, spec, settings):
    results = []
    for made in (getattr(original("monai"), loss)(**options), segfuse.torch.Loss(spec, **settings)):
        x = LOGITS.clone().requires_grad_()
        value = made(x, LABELS)
        value.backward()
        results.append((value.detach(), x.grad))
    torch.testing.assert_close(*results, rtol=2e-5, atol=1e-7)
    given = ", ".join(f"{key}={value!r}" for key, value in options.items() if key not in ("softmax", "to_onehot_y"))
    row = f"| `{loss}({given})` | `{spec}` |"
    assert row in compat_table.PAGE.read_text(encoding="utf-8"), f"docs/compat.md lacks {row}"


def test_compiled_without_a_break():
    loss = torch.compile(monai.DiceCELoss(softmax=True, to_onehot_y=True), fullgraph=True, backend="aot_eager")
    x = LOGITS.clone().requires_grad_()
    value = loss(x, LABELS)
    value.backward()
    y = LOGITS.clone().requires_grad_()
    plain = monai.DiceCELoss(softmax=True, to_onehot_y=True)(y, LABELS)
    plain.backward()
    torch.testing.assert_close((value, x.grad), (plain, y.grad))
