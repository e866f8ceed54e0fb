"""`segfuse.compat` beside the libraries that it stands for: values, gradients, warnings and errors."""

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
