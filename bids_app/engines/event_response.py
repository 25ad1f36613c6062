"""The response to one event: what its peak, mean and area make of the columns of a design."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_app.errors import ModelInputError
from bids_app.models.bold.events import MEASURES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bids_app._typing import FloatArray


FIR = 'fir'
"""Response of one free number per volume after the start of an event."""

FIR_LENGTH = 24.0
"""Of that response beyond the event, s."""

RESPONSE_LENGTH = 32.0
"""After which the response of nilearn has ended, s."""

STEPS = 10
"""In which a repetition time is divided to tell the shape of a response."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EventMeasure:
    """A number told of the response to one event, as a sum of coefficients of the design."""

    weights: FloatArray
    """(columns of the condition,)"""
    duration: float
    """Of the event, s: the median of the condition."""
    start: float
    """First time after the start of the event that counts, s."""
    end: float
    """Last one, s."""


def fir_delays(repetition_time: float) -> list[int]:
    """Give the volumes after the start of an event that have a column of their own."""
    return list(range(int(np.ceil(np.round(FIR_LENGTH / repetition_time, 6)))))


def measure_response(
    columns: FloatArray,
    events: Sequence[tuple[float, float]],
    *,
    hrf_model: str,
    repetition_time: float,
    first_time: float = 0.0,
    measure: str = 'peak',
) -> EventMeasure:
    r"""
    Tell what one number of the response to an event is, as weights of the columns of a design.

    Parameters
    ----------
    columns : (T, B) ndarray
        Of one condition, as nilearn makes them (derivatives orthogonal to what comes before).
    events : sequence of (float, float)
        Onset and duration of its events, s.
    hrf_model : str
        flexible, spm, glover or fir.
    repetition_time : float
        s
    first_time : float
        Time of the first volume, s.
    measure : {'peak', 'mean', 'area'}
        The response at the time at which that of the canonical shape peaks; its mean while the
        canonical one is above half its peak; or its mean from the start of the event to 32 s
        after its end, which times that length is its area.

    Returns
    -------
    measure : EventMeasure
        Its times are those of the canonical response to an event of the median duration: they
        do not depend on the data, so that the number is linear in the coefficients and its
        variance exact.

    Raises
    ------
    ModelInputError
        If the measure is unknown or there is no event.

    Notes
    -----
    With raw responses :math:`\phi_j(t)` to one event and raw columns :math:`R` of the run, the
    columns of the design are :math:`R A`; the fitted response to one event is
    :math:`\sum_{jk} \phi_j(t) A_{jk} \beta_k`, and the measure a mean of it over times.
    """
    if measure not in MEASURES or not len(events):
        msg = f'measure must be one of {", ".join(MEASURES)} of events; got {measure!r}'
        raise ModelInputError(msg)
    duration = float(np.median([length for _, length in events]))
    volumes = first_time + repetition_time * np.arange(len(columns))
    raw = _raw_columns(events, hrf_model, volumes)
    mixing = np.linalg.lstsq(raw, columns, rcond=None)[0]

    n_volumes = int(np.ceil((duration + RESPONSE_LENGTH) / repetition_time)) + 1
    grids = [repetition_time * (np.arange(n_volumes) + step / STEPS) for step in range(STEPS)]
    one = [(0.0, duration)]
    canonical = 'glover' if hrf_model == 'glover' else 'spm'
    times = np.stack(grids, axis=1).ravel()
    shape, response = (
        np.stack([_raw_columns(one, model, grid) for grid in grids], axis=1).reshape(
            times.size, -1
        )
        for model in (canonical, hrf_model)
    )
    counted = _counted(shape[:, 0], times, duration, measure)
    return EventMeasure(
        weights=response[counted].mean(axis=0) @ mixing,
        duration=duration,
        start=float(times[counted][0]),
        end=float(times[counted][-1]),
    )


def modulated_columns(
    events: Sequence[tuple[float, float, str]],
    values: Sequence[Sequence[float]],
    names: Sequence[str],
    *,
    hrf_model: str,
    repetition_time: float,
    n_volumes: int,
) -> dict[str, FloatArray]:
    """
    Make columns for a response that varies from event to event with what is known of each.

    Parameters
    ----------
    events : sequence of (float, float, str)
        Onset (s), duration (s) and trial type.
    values : (N, M) sequence of sequence of float
        Of each event; any unit. NaN counts as the mean of its type.
    names : (M,) sequence of str
        Of the modulators.
    hrf_model : str
        That of Glover, else the canonical one of SPM.
    repetition_time : float
        s
    n_volumes : int
        Of the run.

    Returns
    -------
    columns : dict of str to (T,) ndarray
        `<trial type>_<modulator>`: the response to events weighted by the distance from the mean
        of their type, so that the response to the type is that at the mean. None where all are
        equal.
    """
    times = repetition_time * np.arange(n_volumes, dtype=np.float64)
    canonical = 'glover' if hrf_model == 'glover' else 'spm'
    kinds = np.array([kind for _, _, kind in events])
    numbers = np.array(values, float).reshape(len(events), len(names))
    columns = {}
    for kind in sorted(set(kinds)):
        own = [event[:2] for event in events if event[2] == kind]
        for index, name in enumerate(names):
            value = numbers[kinds == kind, index]
            known = np.isfinite(value)
            mean = value[known].mean() if known.any() else 0.0
            distance = np.where(known, value - mean, 0.0)
            if np.any(distance != 0):
                column = _raw_columns(own, canonical, times, distance)[:, 0]
                columns[f'{kind}_{name}'] = column / np.abs(distance).max()
    return columns


def _counted(shape: FloatArray, times: FloatArray, duration: float, measure: str) -> Any:
    """Tell which times of the canonical response (N,) count."""
    if measure == 'peak':
        return np.arange(times.size) == shape.argmax()
    if measure == 'mean':
        return shape >= shape.max() / 2
    return times <= duration + RESPONSE_LENGTH


def _raw_columns(
    events: Sequence[tuple[float, float]], hrf_model: str, times: Any, size: Any = 1.0
) -> FloatArray:
    """Convolve events with each part of a response, as nilearn does, (T, B)."""
    from nilearn.glm.first_level import compute_regressor

    onsets, durations = np.array(events, float).T
    condition = np.array([onsets, durations, size * np.ones_like(onsets)])
    if hrf_model == FIR:
        delays = fir_delays(float(times[1] - times[0]))
        return np.asarray(compute_regressor(condition, FIR, times, fir_delays=delays)[0])
    parts = [compute_regressor(condition, kernel, times)[0] for kernel in _kernels(hrf_model)]
    return np.column_stack(parts)


def _kernels(hrf_model: str) -> tuple[Callable[..., Any], ...]:
    """Give the parts of a response, not made orthogonal to each other."""
    from nilearn.glm import first_level as nilearn

    if hrf_model == 'flexible':
        return (
            nilearn.spm_hrf,
            nilearn.spm_time_derivative,
            nilearn.spm_dispersion_derivative,
        )
    return (nilearn.glover_hrf if hrf_model == 'glover' else nilearn.spm_hrf,)
