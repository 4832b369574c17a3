"""What can be measured of a network: pure functions that leave it as it was.

``fs.measure.NAME``; each is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from filtersmith.measure.collected import activations as activations
    from filtersmith.measure.correlation import pearson as pearson
    from filtersmith.measure.first_layer import first_layer_kernels as first_layer_kernels
    from filtersmith.measure.maps import feature_maps as feature_maps
    from filtersmith.measure.maximise import maximise_activation as maximise_activation
    from filtersmith.measure.oracle_agreement import oracle_correlation as oracle_correlation
    from filtersmith.measure.oracle_agreement import oracle_histogram as oracle_histogram
    from filtersmith.measure.orthogonal import ortho_sum as ortho_sum
    from filtersmith.measure.orthogonal import orthogonality as orthogonality
    from filtersmith.measure.similarity import cca as cca
    from filtersmith.measure.similarity import cka as cka
    from filtersmith.measure.similarity import svcca as svcca
    from filtersmith.measure.spectrum import condition as condition
    from filtersmith.measure.spectrum import effective_rank as effective_rank
    from filtersmith.measure.waste import dead_filters as dead_filters
    from filtersmith.measure.waste import near_duplicates as near_duplicates

_HOMES = {
    "activations": "collected",
    "cca": "similarity",
    "cka": "similarity",
    "condition": "spectrum",
    "dead_filters": "waste",
    "effective_rank": "spectrum",
    "feature_maps": "maps",
    "first_layer_kernels": "first_layer",
    "maximise_activation": "maximise",
    "near_duplicates": "waste",
    "oracle_correlation": "oracle_agreement",
    "oracle_histogram": "oracle_agreement",
    "ortho_sum": "orthogonal",
    "orthogonality": "orthogonal",
    "pearson": "correlation",
    "svcca": "similarity",
}
"""Public name -> the module that it comes from, which bears another name."""

__all__ = list(_HOMES)


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """A public name, imported when it is first used (PEP 562)."""
        if name not in _HOMES:
            raise AttributeError(f"module 'filtersmith.measure' has no attribute {name!r}")
        value = getattr(importlib.import_module(f"filtersmith.measure.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
