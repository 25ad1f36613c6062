"""
The science: total, pure functions on arrays (SI units, NaN for no estimate).

Functions are resolved on first use, so that importing the package costs nothing::

    from bids_app.models import oef_from_r2_prime
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_MODULES = (
    'estimate',
    'status',
    'fitting',
    'noise',
    'relaxometry',
    'phase',
    'perfusion',
    'blood_volume',
    'oef',
    'oxygen',
    'change',
    'concordance',
    'regions',
    'resampling',
    'combining',
    'sign_rate',
    'response',
)


def __getattr__(name: str) -> Any:
    """Find a public function in the modules of the package."""
    if not name.startswith('_'):
        for module_name in _MODULES:
            module = import_module(f'bids_app.models.{module_name}')
            if name in vars(module):
                return vars(module)[name]
    msg = f'module {__name__!r} has no attribute {name!r}'
    raise AttributeError(msg)
