"""Blocks and events: which of the two a run has, and what is told of the response to an event."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MEASURES = ('peak', 'mean', 'area')
"""Names of what is told of the response to an event."""


def is_of_events(longest: Mapping[str, float], *, design: str, shortest: float) -> bool:
    """
    Tell whether the trial types of a run are events, not blocks.

    Parameters
    ----------
    longest : mapping of str to float
        Trial type -> its longest block, s.
    design : {'auto', 'blocks', 'events'}
        What the user says; auto: events where there is no block at all.
    shortest : float
        A block is longer, s.

    Returns
    -------
    is_of_events : bool
        False where there is no trial type.

    Examples
    --------
    >>> is_of_events({'faces': 1.0, 'houses': 1.0}, design='auto', shortest=6.0)
    True
    >>> is_of_events({'calc': 30.0, 'cue': 1.0}, design='auto', shortest=6.0)
    False
    """
    if design != 'auto':
        return design == 'events'
    return bool(longest) and max(longest.values()) <= shortest
