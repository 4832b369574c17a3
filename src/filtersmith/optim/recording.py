"""A state that remembers what each value was when it was put in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode


class Uninitialised(TorchFunctionMode):
    """Knows the tensors that were made without values and not written to since."""

    def __init__(self) -> None:
        super().__init__()
        self._empty: dict[int, Tensor] = {}

    def __enter__(self) -> Uninitialised:
        self._empty.clear()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name.startswith(("empty", "new_empty")) and isinstance(result, Tensor):
            self._empty[id(result)] = result
        elif name.endswith("_") and args:
            self._empty.pop(id(args[0]), None)
        return result

    def value(self, tensor: Tensor) -> Tensor | None:
        return None if id(tensor) in self._empty else tensor.detach().clone()


class State(dict[Any, Any]):
    """What is kept of one parameter; remembers what each value was when it was put in."""

    def __init__(self, mode: Uninitialised) -> None:
        super().__init__()
        self._mode = mode
        self.first: dict[Any, Any] = {}

    def __setitem__(self, key: Any, value: Any) -> None:
        if key not in self.first:
            self.first[key] = _first(value, self._mode)
        super().__setitem__(key, value)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, *args: Any, **kwargs: Any) -> None:
        for key, value in dict(*args, **kwargs).items():
            self[key] = value


class Store(defaultdict[Any, Any]):
    """A state of which the entries of every parameter are `State`."""

    def __init__(self, mode: Uninitialised) -> None:
        super().__init__()
        self._mode = mode

    def __missing__(self, key: Any) -> Any:
        self[key] = made = State(self._mode)
        return made


def _first(value: Any, mode: Uninitialised) -> Any:
    if isinstance(value, Tensor):
        return mode.value(value)
    if isinstance(value, Mapping):
        return {key: _first(inside, mode) for key, inside in value.items()}
    return [_first(inside, mode) for inside in value] if isinstance(value, (list, tuple)) else None
