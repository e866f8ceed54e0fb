"""The extension module. Arrays are whatever speaks DLPack, `__array_interface__` or the buffer protocol."""

from typing import Any, Optional, Sequence, Union

#: Prediction, target, mask, weights, map.
_Arrays = tuple[Any, Any, Any, Any, Any]

VERSION: str

class Memory:
    def __new__(
        cls, owner: Any, address: int, shape: Sequence[int], strides: Sequence[int], dtype: str, device: str
    ) -> "Memory": ...

class Loss:
    def __new__(
        cls,
        spec: str,
        *,
        activation: Optional[str] = None,
        layout: str = "ncv",
        ignore_index: Optional[int] = None,
        reduction: str = "mean",
        class_weights: Optional[Sequence[float]] = None,
        batch: bool = False,
        background: bool = True,
        absent: str = "count",
        spacing: Optional[Sequence[float]] = None,
    ) -> "Loss": ...
    @property
    def spec(self) -> str: ...
    def value(self, arrays: _Arrays, stream: int = 0) -> Union[float, list[float]]: ...
    def evaluate(self, arrays: _Arrays, stream: int = 0) -> dict[str, Any]: ...
    def value_and_grad(
        self, arrays: _Arrays, gradient: Any, grad_output: Optional[Sequence[float]] = None, stream: int = 0
    ) -> Union[float, list[float]]: ...
    def sizes(self, arrays: _Arrays) -> tuple[int, int]: ...
    def reduce(self, arrays: _Arrays, moments: Any) -> None: ...
    def forward(
        self, arrays: _Arrays, losses: Any, coefficients: Any, moments: Any = None, first: int = 0
    ) -> None: ...
    def gradient(self, arrays: _Arrays, coefficients: Any, grad_output: Any, gradient: Any) -> None: ...
    def cuda_layout(self, arrays: _Arrays, samples: Optional[int] = None) -> dict[str, int]: ...
    def cuda_reduce(self, arrays: _Arrays, workspace: Any, stream: int) -> None: ...
    def cuda_finish(
        self, arrays: _Arrays, workspace: Any, result: Any, stream: int, samples: Optional[int] = None
    ) -> None: ...
    def cuda_gradient(self, arrays: _Arrays, workspace: Any, gradient: Any, stream: int) -> None: ...
    def explain(self, arrays: _Arrays) -> tuple[str, str]: ...

def distance(
    source: Any,
    maps: Any,
    *,
    of: str,
    num_classes: int,
    kind: str,
    activation_name: Optional[str],
    threshold: Optional[float],
    spacing: Optional[Sequence[float]],
    squared: bool,
    classes: Optional[Sequence[int]],
    ignore_index: Optional[int],
    layout: str,
    stream: int,
) -> None: ...
def gradient_memory(shape: Sequence[int], strides: Sequence[int], dtype: str) -> Any: ...
def release_memory() -> None: ...
def after_fork() -> None: ...
def list_losses() -> str: ...
def devices() -> list[tuple[str, str]]: ...
