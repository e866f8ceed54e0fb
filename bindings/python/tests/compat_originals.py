"""The losses that `segfuse.compat` is compared with, of the installed libraries."""

from __future__ import annotations

import importlib.util
import sys
import types
from typing import Any


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
    return types.SimpleNamespace(**names)


def _smp() -> Any:
    """Its losses without its models, which need more libraries than the losses do."""
    name = "segmentation_models_pytorch"
    if name not in sys.modules:
        package = types.ModuleType(name)
        package.__path__ = list(importlib.util.find_spec(name).submodule_search_locations)
        sys.modules[name] = package
    return importlib.import_module(f"{name}.losses")
