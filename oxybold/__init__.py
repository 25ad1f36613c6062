"""
oxybold in Python: the models on arrays, and what a run wrote.

>>> import oxybold
>>> rate = oxybold.static_dephasing_constant(b0=3.0, hct=0.42)
>>> round(float(oxybold.oef_from_r2_prime(3.8, 0.03, static_dephasing_constant=rate)), 2)
0.4

The package of the app is `bids_app`, as BIDS Apps are laid out; what is meant to be used from
Python stands here. Names are resolved when they are used: importing costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from bids_app import __version__

_MODELS = 'bids_app.models.'
_HOMES = {
    'load': 'bids_app.results',
    'Results': 'bids_app.results',
    'ParticipantResults': 'bids_app.results',
    'SavedMap': 'bids_app.results',
    'Estimate': f'{_MODELS}estimate',
    'Status': f'{_MODELS}status',
    'fit_r2': f'{_MODELS}relaxometry.decay',
    'fit_r2_star': f'{_MODELS}relaxometry.decay',
    'time_from_rate': f'{_MODELS}relaxometry.decay',
    'fit_r2_epg': f'{_MODELS}relaxometry.epg',
    'estimate_r2_prime': f'{_MODELS}relaxometry.r2prime',
    'estimate_cbf': f'{_MODELS}asl.single_delay',
    'fit_multi_delay': f'{_MODELS}asl.multi_delay',
    'estimate_oef': f'{_MODELS}oxygen.mqbold',
    'static_dephasing_constant': f'{_MODELS}oxygen.mqbold',
    'oef_from_r2_prime': f'{_MODELS}oxygen.mqbold',
    'r2_prime_from_oef': f'{_MODELS}oxygen.mqbold',
    'fit_oef': f'{_MODELS}oxygen.ase_qbold',
    'arterial_oxygen_content': f'{_MODELS}oxygen.cmro2',
    'estimate_cmro2': f'{_MODELS}oxygen.cmro2',
    'change_between_conditions': f'{_MODELS}contrast.difference',
    'propagate': f'{_MODELS}numerics.propagation',
    'z_score': f'{_MODELS}contrast.difference',
    'p_value': f'{_MODELS}contrast.difference',
    'label_by_sign': f'{_MODELS}concordance.labels',
    'label_robust': f'{_MODELS}concordance.labels',
    'estimate_discordance': f'{_MODELS}concordance.discordance',
    'random_effects': 'bids_app.group.statistics',
}
"""Public name -> module that holds it."""

__all__ = ['__version__', *_HOMES]  # noqa: PLE0604  (names are text)


def __getattr__(name: str) -> Any:
    """Find a public name where it lives."""
    if name not in _HOMES:
        msg = f'module {__name__!r} has no attribute {name!r}'
        raise AttributeError(msg)
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
