"""Writes the tables of docs/compat.md: `python bindings/python/tests/compat_table.py [--check]`.

Without --check, every setting is compared with the installed library first, and nothing is written where one differs.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path

from compat_originals import original
from compat_settings import LIBRARIES, REFUSED, compare

PAGE = Path(__file__).resolve().parents[3] / "docs" / "compat.md"
BEGIN, END = "<!-- compat: made by bindings/python/tests/compat_table.py -->", "<!-- end of compat -->"
TITLES = {
    "monai": "MONAI 1.6.1",
    "nnunet": "nnU-Net 2.8.1",
    "smp": "segmentation_models_pytorch 0.6.0",
    "kornia": "kornia 0.9.0",
}


def tables() -> str:
    """The tables, from the settings and the modules."""
    lines = []
    for library, settings in LIBRARIES.items():
        counts: dict[str, int] = {}
        options: dict[str, set[str]] = {}
        for setting in settings():
            counts[setting.loss] = counts.get(setting.loss, 0) + 1
            options.setdefault(setting.loss, set()).update(setting.options)
        lines += [f"### {TITLES[library]}: `segfuse.compat.{library}`", ""]
        lines += ["| loss | settings that agree | arguments that were varied |", "|---|---|---|"]
        for loss, count in counts.items():
            varied = ", ".join(f"`{name}`" for name in sorted(options[loss]))
            lines.append(f"| `{loss}` | {count} | {varied} |")
        lines += [f"| in all | {sum(counts.values())} | |", ""]
        refused = [f"`{loss}({_arguments(given)})`: {why}" for name, loss, given, why in REFUSED if name == library]
        if refused:
            lines += ["Refused, with NotImplementedError: " + "; ".join(refused) + ".", ""]
        missing = getattr(importlib.import_module(f"segfuse.compat.{library}"), "MISSING", ())
        if missing:
            lines += ["Not there yet: " + ", ".join(f"`{name}`" for name in missing) + ".", ""]
    return "\n".join(lines)


def _arguments(given: dict) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in given.items())


def page() -> str:
    """The page with the tables as they must be."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"


def main(check: bool) -> int:
    """0 where the page is as it must be."""
    if check:
        if page() == PAGE.read_text(encoding="utf-8"):
            return 0
        print(f"stale: {PAGE}; python {Path(__file__).name} writes it")
        return 1
    warnings.simplefilter("ignore")
    failures = 0
    for library, settings in LIBRARIES.items():
        ours, theirs = importlib.import_module(f"segfuse.compat.{library}"), original(library)
        for setting in settings():
            difference = compare(setting, ours, theirs)
            if difference is not None:
                failures += 1
                print(f"{setting}: {difference}")
    if failures == 0:
        PAGE.write_text(page(), encoding="utf-8")
    return failures


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
