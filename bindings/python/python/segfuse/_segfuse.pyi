"""The extension module. Arrays are whatever speaks DLPack, `__array_interface__` or the buffer protocol, in host memory."""

from typing import Any, Optional, Sequence, Union

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
    def value(
        self, prediction: Any, target: Any, mask: Any = None, weights: Any = None, map: Any = None
    ) -> Union[float, list[float]]: ...
    def evaluate(
        self, prediction: Any, target: Any, mask: Any = None, weights: Any = None, map: Any = None
    ) -> dict[str, Any]: ...
    def value_and_grad(
        self,
        prediction: Any,
        target: Any,
        gradient: Any,
        mask: Any = None,
        weights: Any = None,
        map: Any = None,
        grad_output: Optional[Sequence[float]] = None,
    ) -> Union[float, list[float]]: ...
    def sizes(
        self, prediction: Any, target: Any, mask: Any = None, weights: Any = None, map: Any = None
    ) -> tuple[int, int]: ...
    def reduce(self, prediction: Any, target: Any, mask: Any, weights: Any, map: Any, moments: Any) -> None: ...
    def forward(
        self,
        prediction: Any,
        target: Any,
        mask: Any,
        weights: Any,
        map: Any,
        losses: Any,
        coefficients: Any,
        moments: Any = None,
        first: int = 0,
    ) -> None: ...
    def gradient(
        self,
        prediction: Any,
        target: Any,
        mask: Any,
        weights: Any,
        map: Any,
        coefficients: Any,
        grad_output: Any,
        gradient: Any,
    ) -> None: ...
    def explain(
        self, prediction: Any, target: Any, mask: Any = None, weights: Any = None, map: Any = None
    ) -> tuple[str, str]: ...

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
) -> None: ...
def gradient_memory(shape: Sequence[int], strides: Sequence[int], dtype: str) -> Any: ...
def release_memory() -> None: ...
def after_fork() -> None: ...
def list_losses() -> str: ...
def devices() -> list[tuple[str, str]]: ...
