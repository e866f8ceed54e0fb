"""Writes `python/segfuse/torch/__init__.pyi`: the classes that `segfuse.torch` makes of the list of losses, for type checkers and editors.

    python stubs.py [--check]

Needs the package to be installed, or its folder `python` on PYTHONPATH with the extension in it; and torch.
"""

import pathlib
import sys
import textwrap

import segfuse
from segfuse.torch._modules import _class_name

PATH = pathlib.Path(__file__).parent / "python/segfuse/torch/__init__.pyi"

HEAD = '''"""segfuse for PyTorch. Written by bindings/python/stubs.py."""

from typing import Any, Literal, Optional, Sequence, Union

from torch import Tensor

from ._modules import Loss as Loss

def empty_cache() -> None: ...
'''

OPTIONS = """\
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
"""


def argument(parameter: segfuse.Parameter) -> str:
    """A parameter with its type; one whose default is `none` may be left out, as all may."""
    if parameter.range == "true or false":
        kind = "bool"
    elif parameter.range.startswith("rows"):
        kind = "Union[Sequence[Sequence[float]], Tensor]"
    elif parameter.range.startswith("a whole number"):
        kind = "int"
    elif " or " in parameter.range:
        kind = f"Literal[{', '.join(repr(word) for word in parameter.range.split(' or '))}]".replace("'", '"')
    else:
        kind = "float"
    return f"        {parameter.key}: {kind} = ...,\n"


def text() -> str:
    """The stub."""
    parts = [HEAD]
    for info in segfuse.list_losses():
        doc = textwrap.fill(info.doc, 110, subsequent_indent="    ")
        parts.append(f'\nclass {_class_name(info.name)}(Loss):\n    """{doc}\n\n    Source: {info.source}.\n    """\n\n')
        parts.append("    def __init__(\n        self,\n        *,\n")
        parts.extend(argument(parameter) for parameter in info.parameters)
        parts.append(OPTIONS)
    return "".join(parts)


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        if PATH.read_text() != text():
            sys.exit(f"{PATH} is stale: python stubs.py writes it anew")
    else:
        PATH.write_text(text())
