"""The losses that `segfuse.compat` is compared with, of the installed libraries."""

from __future__ import annotations

import importlib.util
import sys
import types
from typing import Any

import torch


def original(library: str) -> Any:
    """A namespace of the library's losses."""
    if library == "smp":
        return _smp()
    modules = {
        "monai": ["monai.losses"],
        "kornia": ["kornia.losses"],
        "nnunet": [f"nnunetv2.training.loss.{name}" for name in ("dice", "robust_ce_loss", "compound_losses", "deep_supervision")],
    }[library]
    names: dict[str, Any] = {}
    for module in modules:
        names |= vars(importlib.import_module(module))
    if library == "kornia":
        names |= {name: _unrounded(names[name]) for name in ("HausdorffERLoss", "HausdorffERLoss3D")}
    return types.SimpleNamespace(**names)


def _unrounded(loss: Any) -> Any:
    """The loss with a kernel of double precision: kornia's is of single precision for float64 too, and an erosion that leaves nearly
    nothing makes much of what was rounded before."""

    class Unrounded(loss):
        def get_kernel(self) -> torch.Tensor:
            cross = super().get_kernel() != 0
            return cross.double() / cross.sum()

    return Unrounded


def _smp() -> Any:
    """Its losses without its models, which need more libraries than the losses do."""
    name = "segmentation_models_pytorch"
    if name not in sys.modules:
        package = types.ModuleType(name)
        package.__path__ = list(importlib.util.find_spec(name).submodule_search_locations)
        sys.modules[name] = package
    return importlib.import_module(f"{name}.losses")
