"""A task in a series of volumes: the ports of its design, and slices with a design each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_app.errors import ModelInputError
from bids_app.images import load_masked
from bids_app.interfaces._base import (
    HALF_CALIBRATION,
    SHARED_NOISE,
    BaseInterfaceInputSpec,
    image,
    isdefined,
    traits,
)
from bids_app.models.bold.glm import fit_task_design, share_of_noise
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.noise import calibrate_levels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bids_app._typing import BoolArray
    from bids_app.images import Grid
    from bids_app.models.bold.glm import TaskDesign


class TaskInputSpec(BaseInterfaceInputSpec):
    """Ports of a series of volumes in which a task runs."""

    series = image('series of volumes', 'a.u.')
    mask = image('voxels to estimate', '1')
    repetition_time = traits.Float(mandatory=True, desc='between volumes', unit='s')
    events = traits.List(
        traits.Tuple(traits.Float, traits.Float, traits.Str),
        mandatory=True,
        desc='onset (s), duration (s), trial type',
        unit='s',
    )
    baseline = traits.Str(mandatory=True, desc='baseline trial type, or the gaps', unit='')
    context = traits.List(traits.Str, desc='kind of every volume, of an ASL series', unit='')
    hrf_model = traits.Str('flexible', usedefault=True, desc='haemodynamic response', unit='')
    noise_model = traits.Str('fast', usedefault=True, desc='noise of the series', unit='')
    high_pass = traits.Float(desc='cut-off; unset means from the design', unit='Hz')
    window_start = traits.Float(6.0, usedefault=True, desc='of each block', unit='s')
    slice_times = traits.List(traits.Float, desc='of every slice; unset means together', unit='s')
    slice_axis = traits.Range(0, 2, value=2, usedefault=True, desc='axis of the slices', unit='')


def cut_off_of(inputs: Any) -> float | None:
    """Cut-off that is given, Hz; None where it is made from the design."""
    return inputs.high_pass if isdefined(inputs.high_pass) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFit:
    """
    What a series shows of a task.

    Parameters
    ----------
    changes : dict of str to Estimate
        Per contrast, all voxels.
    facts : dict of str to dict
        Per contrast, for its sidecar: the noise that voxels share, and how its halves agree.
    design : TaskDesign
        That of the last slices.
    """

    changes: dict[str, Estimate]
    facts: dict[str, dict[str, Any]]
    design: TaskDesign


def fit_task(
    inputs: Any, mask: BoolArray, grid: Grid, make_design: Callable[..., TaskDesign], **how: Any
) -> TaskFit:
    """
    Fit the slices of each time with the design of that time, then each half of the run by itself.

    Parameters
    ----------
    inputs : traits
        Of :class:`TaskInputSpec`.
    mask : (X, Y, Z) array of bool
        Voxels to fit.
    grid : Grid
        Of the mask.
    make_design : callable
        From `first_time`, when a slice of the first volume was read (s), to its design.
    **how : value
        As for :func:`~bids_app.models.bold.glm.fit_task_design`.

    Returns
    -------
    fit : TaskFit
        Of the whole run.
    """
    series = load_masked(inputs.series, mask, grid)
    how['noise_model'] = inputs.noise_model
    times = np.zeros(len(series))
    if isdefined(inputs.slice_times) and inputs.slice_times:
        times = np.asarray(inputs.slice_times)[np.nonzero(mask)[inputs.slice_axis]]
    points = np.argwhere(mask) * grid.zooms

    designs = {time: make_design(first_time=time) for time in np.unique(times)}

    def fit(volumes: slice) -> dict[str, Estimate]:
        parts = []
        for time, whole in designs.items():
            here, part = times == time, whole.part(volumes)
            parts.append((here, fit_task_design(series[here, volumes], part, **how)))
        return {label: _join(parts, label, len(series)) for label in parts[0][1]}

    changes, design = fit(slice(None)), designs[times[-1]]
    shares = share_of_noise(series, changes, points, design, **how)
    facts: dict[str, dict[str, Any]] = {label: {SHARED_NOISE: shares[label]} for label in changes}
    middle = series.shape[1] // 2
    try:
        first, second = fit(slice(middle)), fit(slice(middle, None))
    except ModelInputError as error:  # a design that only the whole run can tell apart
        for fact in facts.values():
            fact[HALF_CALIBRATION] = {'Verdict': f'not compared: {error}'}
        return TaskFit(changes=changes, facts=facts, design=design)
    for label, fact in facts.items():
        halves = first[label], second[label]
        difference = Estimate.of(
            halves[0].value - halves[1].value, halves[0].variance + halves[1].variance
        )
        known = np.isfinite(difference.value) & (difference.variance > 0)
        fact[HALF_CALIBRATION] = calibrate_levels(
            difference.at(known), points[known], shares[label]
        )
    return TaskFit(changes=changes, facts=facts, design=design)


def _join(
    parts: Sequence[tuple[BoolArray, Mapping[str, Estimate]]], label: str, n_voxels: int
) -> Estimate:
    """Put the estimates of parts of the voxels together."""
    value, variance, status = np.zeros((3, n_voxels))
    for here, estimates in parts:
        one = estimates[label]
        value[here], variance[here], status[here] = one.value, one.variance, one.status
    return Estimate.of(value, variance, status, parts[0][1][label].dof)
