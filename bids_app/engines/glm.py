"""Designs of block and event runs, made with nilearn, for the general linear model of BOLD."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bids_app.engines.event_response import FIR, EventMeasure, fir_delays, measure_response
from bids_app.errors import ModelInputError
from bids_app.models.bold.block_median import drift_sensitivity, median_percent_change
from bids_app.models.bold.glm import SLACK, TaskDesign, check_design
from bids_app.models.estimate import Estimate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd
    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray


Block = tuple[float, float]
"""Onset and duration, s."""

TimedEvent = tuple[float, float, str]
"""Onset (s), duration (s), trial type."""


RESPONSES: Mapping[str, str] = {
    'flexible': 'spm + derivative + dispersion',
    'spm': 'spm',
    'glover': 'glover',
    FIR: FIR,
}
"""Haemodynamic response -> the columns of each condition, as nilearn names them. The flexible one
may come earlier or later and be narrower or wider than the response of SPM."""

COLUMNS_OF_RESPONSE = ('', '_derivative', '_dispersion')
"""What nilearn appends to the name of a condition."""

CONDITION = 'condition_'
"""Start of the name of the columns of a condition."""

LABEL = 'label_'
"""Start of the name of the columns of labelled blood."""

LARGEST_LOSS = 0.05
"""By which the drift columns may lengthen the standard error of a contrast; no unit."""

LINE = 'line'
"""Column of a steady drift."""


def implicit_blocks(
    events: Sequence[TimedEvent], run_length: float, *, shortest: float = 1.0
) -> list[Block]:
    """
    Find the gaps between the listed events: the blocks of a baseline that is not listed.

    Parameters
    ----------
    events : sequence of (float, float, str)
        Onset, duration (s) and trial type; any order, overlaps allowed.
    run_length : float
        Duration of the run, s.
    shortest : float
        Shorter gaps are imprecision of the table, s.

    Returns
    -------
    blocks : list of (float, float)
        Onset and duration, s, in order.

    Examples
    --------
    >>> implicit_blocks([(30.0, 30.0, 'calc'), (90.0, 30.0, 'calc')], 120.0)
    [(0.0, 30.0), (60.0, 30.0)]
    """
    blocks: list[Block] = []
    end = 0.0
    for onset, duration, _ in [*sorted(events), (run_length, 0.0, '')]:
        start = min(onset, run_length)
        if start - end >= shortest:
            blocks.append((end, start - end))
        end = max(end, onset + duration)
    return blocks


def alternate_blocks(
    events: Sequence[TimedEvent],
    run_length: float,
    *,
    baseline: str,
    keep: str,
    shortest: float,
) -> list[TimedEvent]:
    """
    Leave every other block of every condition, baseline included, under its name.

    Parameters
    ----------
    events : sequence of (float, float, str)
        Onset, duration (s) and trial type.
    run_length : float
        Duration of the run, s.
    baseline : str
        Trial type of the baseline, or the gaps.
    keep : {'first', 'second'}
        Whether the first block of a condition keeps its name, or the second.
    shortest : float
        Gaps that are not longer than this are no blocks, s.

    Returns
    -------
    renamed : list of (float, float, str)
        All blocks, those that were left out under the name of their condition with an
        underscore; the baseline is listed.

    Examples
    --------
    >>> events = [(30.0, 30.0, 'calc'), (90.0, 30.0, 'calc')]
    >>> alternate_blocks(events, 120.0, baseline='control', keep='second', shortest=6.0)
    [(0.0, 30.0, 'control_'), (30.0, 30.0, 'calc_'), (60.0, 30.0, 'control'), (90.0, 30.0, 'calc')]
    """
    blocks = sorted(events)
    if not any(trial_type == baseline for _, _, trial_type in blocks):
        gaps = implicit_blocks(blocks, run_length)
        blocks += [(*gap, baseline) for gap in gaps if gap[1] > shortest]
    seen: dict[str, int] = {}
    renamed: list[TimedEvent] = []
    for onset, duration, trial_type in sorted(blocks):
        count = seen.get(trial_type, 0)
        seen[trial_type] = count + 1
        is_kept = (count % 2 == 0) == (keep == 'first')
        renamed.append((onset, duration, trial_type if is_kept else f'{trial_type}_'))
    return renamed


def high_pass_of_design(blocks: Sequence[Sequence[Block]], run_length: float) -> float:
    """
    Choose the cut-off that keeps the design: half the frequency of its longest cycle.

    Parameters
    ----------
    blocks : sequence of sequence of (float, float)
        Blocks of each condition, baseline included.
    run_length : float
        Duration of the run, s.

    Returns
    -------
    cutoff : float
        Hz. The longest cycle is the longest time between the starts of two successive blocks of
        one condition; the run where no condition comes twice.

    Examples
    --------
    >>> round(1 / high_pass_of_design([[(30.0, 30.0), (90.0, 30.0), (210.0, 30.0)]], 240.0))
    240
    """
    cycles = [
        float(step)
        for condition in blocks
        for step in np.diff(sorted(onset for onset, _ in condition))
        if step > 0
    ]
    return 1.0 / (2.0 * max(cycles, default=run_length))


def volumes_in_blocks(
    blocks: Sequence[Block],
    *,
    n_volumes: int,
    repetition_time: float,
    window_start: float,
) -> BoolArray:
    """
    Select the volumes in which a block has reached its plateau.

    Parameters
    ----------
    blocks : sequence of (float, float)
        Onset and duration, s.
    n_volumes : int
        Volumes of the run.
    repetition_time : float
        s; volume k is taken at k times it.
    window_start : float
        A block counts from this time after its start to its end, s.

    Returns
    -------
    window : (T,) ndarray of bool
        True for these volumes; none of blocks that are not longer than `window_start`.

    Notes
    -----
    With 30-s blocks, TR 1.2 s and a start at 6 s the last 20 of the 25 volumes of a block are
    selected, the windows of [1]_.

    References
    ----------
    .. [1] Epp et al., Nat Neurosci, 2025. doi:10.1038/s41593-025-02132-9

    Examples
    --------
    >>> window = volumes_in_blocks([(30.0, 30.0)], n_volumes=200, repetition_time=1.2,
    ...                            window_start=6.0)
    >>> np.flatnonzero(window)[[0, -1]]
    array([30, 49])
    """
    position = np.arange(n_volumes)
    window = np.zeros(n_volumes, bool)
    for onset, duration in blocks:
        first, last = (
            np.round(time / repetition_time, 6)
            for time in (onset + window_start, onset + duration)
        )
        window |= (position >= first) & (position < last)
    return window


def make_task_design(  # noqa: PLR0913  (a run has that many sides)
    n_volumes: int,
    *,
    repetition_time: float,
    events: Sequence[TimedEvent],
    baseline: str,
    contrasts: Sequence[tuple[str, str]],
    hrf_model: str = 'flexible',
    high_pass: float | None = None,
    window_start: float = 6.0,
    measure: str | None = None,
    confounds: ArrayLike | None = None,
    censored: ArrayLike | None = None,
    label: ArrayLike | None = None,
    first_time: float = 0.0,
) -> TaskDesign:
    """
    Make the design matrix of a run and the weights of its contrasts.

    Parameters
    ----------
    n_volumes : int
        Volumes of the run.
    repetition_time : float
        s; time between volumes.
    events : sequence of (float, float, str)
        Onset, duration (s) and trial type of every listed event; the high-pass default follows
        from their cycles. Those that start after the run are not used.
    baseline : str
        The baseline condition. Its blocks are its own rows, or the gaps between the events
        where it has none.
    contrasts : sequence of (str, str)
        Task and baseline of each contrast.
    hrf_model : str
        Haemodynamic response: flexible, spm, glover or fir; spm and glover have one shape.
    high_pass : float, optional
        Cut-off of the cosine drift, Hz; default :func:`high_pass_of_design`, and lower where
        that lengthens the standard error of a contrast by more than 5 %.
    window_start : float
        A block counts from this time after its start to its end, s.
    measure : str, optional
        What the change is of conditions that are events: peak, mean or area of the response to
        one event, in percent of the mean of the run. Default: that of blocks.
    confounds : (T, C) array_like, optional
        Further columns of the design.
    censored : (T,) array_like of bool, optional
        Volumes that do not count, such as those without a steady state: each gets a column of
        its own, and no window holds it.
    label : (T,) array_like of bool, optional
        Volumes of an ASL series with labelled blood: it and what a task does to it have columns
        of their own, so that the change is that of the control volumes.
    first_time : float
        When the first volume of these voxels is taken, s. The response is that at k times the
        repetition time all the same, so that slices can be compared.

    Returns
    -------
    design : TaskDesign
        Its columns, weights and cut-off.

    Raises
    ------
    ModelInputError
        If a condition of a contrast has no event, no block long enough for its window, or none
        that is not censored, the run has fewer volumes than the design columns, confounds are
        not finite, or the events of a contrast cannot be told from the rest of the design.
    """
    kept = np.ones(n_volumes, bool) if censored is None else ~np.asarray(censored, bool)
    if kept.shape != (n_volumes,):
        msg = f'censored must have one entry per volume ({n_volumes}), got {kept.shape}'
        raise ModelInputError(msg)
    run_length = n_volumes * repetition_time
    listed = [event for event in events if event[0] < run_length]
    blocks = _blocks_of_conditions(listed, None if measure else baseline, run_length)
    windows = {}
    if measure is None:
        windows = _windows(contrasts, blocks, kept, repetition_time, window_start)
    extra = _checked_confounds(confounds, n_volumes)
    further = np.column_stack([extra, np.eye(n_volumes)[:, ~kept]])
    modelled = listed if measure else _modelled(listed, baseline, run_length, window_start)
    measured: dict[str, EventMeasure] = {}

    ramp = {LINE: np.linspace(-1 / 2, 1 / 2, n_volumes)}

    def design_of(cut_off: float, columns: FloatArray, time: float = 0.0) -> pd.DataFrame:
        table = _design_matrix(
            modelled,
            frame_times=time + repetition_time * np.arange(n_volumes, dtype=np.float64),
            hrf_model=hrf_model,
            high_pass=cut_off,
            confounds=columns,
        )
        return _with_label(table, label).assign(**ramp)

    def weights_of(table: pd.DataFrame, time: float = 0.0) -> dict[str, FloatArray]:
        if measure is None:
            return {
                _contrast_label(task, base): _contrast_weights(
                    table, (task, base), windows[task], windows[base]
                )
                for task, base in contrasts
            }
        measured.update(
            (name, _measured(table, name, where, hrf_model, repetition_time, time, measure))
            for name, where in blocks.items()
        )
        return {
            _contrast_label(task, base): _event_weights(table, (task, base), measured, kept)
            for task, base in contrasts
        }

    cut_off, loss = _choose_cut_off(
        high_pass,
        list(blocks.values()),
        run_length,
        lambda tried: design_of(tried, extra[:, :0]).drop(columns=LINE),
        weights_of,
    )
    # a line is what the cosines miss of a steady drift; a task that looks like it keeps it out
    lined = design_of(cut_off, extra[:, :0])
    price = _largest_loss(lined, weights_of(lined), np.asarray(lined.columns == LINE))
    left_out = [] if price <= LARGEST_LOSS else [LINE]
    table, reference = (
        design_of(cut_off, further, time).drop(columns=left_out) for time in (first_time, 0.0)
    )
    # the coefficients of events are those of the columns at hand, whose derivatives depend on time
    weights = weights_of(reference) if measure is None else weights_of(table, first_time)
    design = TaskDesign(
        matrix=table.to_numpy(float),
        weights=weights,
        high_pass=cut_off,
        loss=loss,
        kept=kept,
        measured=measured,
    )
    return check_design(design) if measure else design


def _choose_cut_off(
    high_pass: float | None,
    cycles: Sequence[Sequence[tuple[float, float]]],
    run_length: float,
    design_of: Callable[[float], pd.DataFrame],
    weights_of: Callable[[pd.DataFrame], Mapping[str, FloatArray]],
) -> tuple[float, float]:
    """Choose the cut-off of the drift, Hz, and say what it costs; one that is given stays."""
    cut_off = high_pass_of_design(cycles, run_length) if high_pass is None else high_pass
    while True:  # what drift costs is a matter of the blocks, not of the confounds
        bare = design_of(cut_off)
        drift = _drift(bare)
        loss = _largest_loss(bare, weights_of(bare), drift)
        if high_pass is not None or loss <= LARGEST_LOSS or not drift.any():
            return cut_off, loss
        # one cosine fewer: nilearn takes the half waves up to twice the cut-off in the run
        cut_off = (drift.sum() - 1 / 2) / (2 * run_length)


def make_perfusion_design(
    context: Sequence[str],
    *,
    repetition_time: float,
    events: Sequence[TimedEvent],
    baseline: str,
    hrf_model: str = 'flexible',
    high_pass: float | None = None,
    window_start: float = 6.0,
    first_time: float = 0.0,
) -> TaskDesign:
    r"""
    Make the design of a label-control series in which a task runs.

    Parameters
    ----------
    context : (T,) sequence of str
        Kind of every volume; those that are neither control nor label do not count.
    repetition_time : float
        s; time between volumes.
    events, baseline, hrf_model, high_pass, window_start, first_time
        As of :func:`make_task_design`.

    Returns
    -------
    design : TaskDesign
        Its "contrasts" are the conditions that have blocks, baseline included: control minus
        label of each, in the unit of the series (``is_relative=False``); and `<a>Minus<b>`, the
        change of that from the baseline.

    Raises
    ------
    ModelInputError
        If a condition has no volume in its blocks, or the design more columns than volumes.

    Notes
    -----
    With s = 1/2 in control, -1/2 in label volumes and :math:`x_j` the columns of the tasks,

    .. math:: y = c + \text{drift} + \sum_j b_j x_j + s\,\big(d + \sum_j d_j x_j\big)

    so that what a task does to the signal of all volumes alike, BOLD and inflow, is apart from
    what it does to control minus label [1]_. Of a condition that is

    .. math:: \Delta M = d + \sum_j d_j \langle x_j \rangle_W

    with the mean over the volumes of its windows.

    References
    ----------
    .. [1] Mumford, Hernandez-Garcia, Lee & Nichols, NeuroImage 33:103, 2006.
       doi:10.1016/j.neuroimage.2006.05.040
    """
    kinds = np.asarray(context)
    sign = ((kinds == 'control').astype(float) - (kinds == 'label')) / 2
    kept = sign != 0
    run_length = kinds.size * repetition_time
    listed = [event for event in events if event[0] < run_length]
    blocks = _blocks_of_conditions(listed, baseline, run_length)
    tasks = [
        name
        for name, where in blocks.items()
        if name != baseline and max(length for _, length in where) > window_start
    ]
    pairs = [(name, baseline) for name in tasks]
    windows = _windows(pairs, blocks, kept, repetition_time, window_start)
    cycles = list(blocks.values())
    chosen = high_pass_of_design(cycles, run_length) if high_pass is None else high_pass
    unused = np.eye(kinds.size)[:, ~kept]
    table, reference = (
        _design_matrix(
            _modelled(listed, baseline, run_length, window_start),
            frame_times=time + repetition_time * np.arange(kinds.size, dtype=np.float64),
            hrf_model=hrf_model,
            high_pass=chosen,
            confounds=unused,
        )
        for time in (first_time, 0.0)
    )
    of_task = np.asarray(table.columns.str.startswith(CONDITION))
    labelled = sign[:, np.newaxis] * table.loc[:, of_task].to_numpy(float)
    ramp = np.linspace(-1 / 2, 1 / 2, kinds.size)
    matrix = np.column_stack([table.to_numpy(float), ramp, sign, labelled])
    weights = {}
    for name, window in windows.items():
        level = reference.loc[window, of_task].mean().to_numpy(float)
        own = np.concatenate([np.zeros(table.shape[1] + 1), [1.0], level])
        weights[name] = np.array([own, own])
    for task, base in pairs:
        weights[_contrast_label(task, base)] = weights[task] - weights[base]
    return TaskDesign(matrix=matrix, weights=weights, high_pass=chosen, loss=0.0, kept=kept)


def median_change(
    series: ArrayLike,
    *,
    repetition_time: float,
    events: Sequence[TimedEvent],
    baseline: str,
    contrasts: Sequence[tuple[str, str]],
    window_start: float = 6.0,
    censored: ArrayLike | None = None,
) -> tuple[dict[str, Estimate], dict[str, dict[str, float]]]:
    """
    Compute the percent change of each contrast from block medians, as the published analysis.

    Parameters
    ----------
    series : (V, T) array_like
        BOLD signal, arbitrary unit.
    repetition_time, events, baseline, contrasts, window_start, censored
        As of :func:`make_task_design`.

    Returns
    -------
    changes : dict of str to (V,) Estimate
        Keyed by contrast; percent.
    drift : dict of str to dict
        What slow drift adds to each contrast.

    Raises
    ------
    ModelInputError
        If a condition of a contrast has no volume to look at.
    """
    data = np.asarray(series)
    n_volumes = data.shape[1]
    run_length = n_volumes * repetition_time
    listed = [event for event in events if event[0] < run_length]
    blocks = _blocks_of_conditions(listed, baseline, run_length)
    kept = np.ones(n_volumes, bool) if censored is None else ~np.asarray(censored, bool)
    windows = _windows(contrasts, blocks, kept, repetition_time, window_start)
    changes, drift = {}, {}
    for task, reference in contrasts:
        label = _contrast_label(task, reference)
        pair = windows[task], windows[reference]
        changes[label] = median_percent_change(data, *pair)
        drift[label] = {name: round(value, 4) for name, value in drift_sensitivity(*pair).items()}
    return changes, drift


def make_time_course_design(
    n_volumes: int,
    *,
    repetition_time: float,
    events: Sequence[TimedEvent],
    baseline: str,
    high_pass: float,
    window_start: float = 6.0,
    tail: float = 12.0,
    is_of_events: bool = False,
    confounds: ArrayLike | None = None,
    censored: ArrayLike | None = None,
) -> TaskDesign:
    """
    Make a design that assumes no response: a column per condition and volume since its start.

    Parameters
    ----------
    n_volumes : int
        Volumes of the run.
    repetition_time : float
        s; volume k is taken at k times it.
    events : sequence of (float, float, str)
        Onset, duration (s) and trial type.
    baseline : str
        The condition that is the reference; its rows, or the gaps.
    high_pass : float
        Cut-off of the cosine drift, Hz.
    window_start : float
        The reference counts from this time after the start of its blocks, s.
    tail : float
        How long the response lasts after the end of a block, s.
    is_of_events : bool
        Whether the conditions are events: then all that are listed have columns, and the
        reference is the mean of the run.
    confounds, censored : optional
        As of :func:`make_task_design`.

    Returns
    -------
    design : TaskDesign
        Its "contrasts" are `<condition>@<volume since the start>`. Those that the run cannot
        tell from the others are left out.

    Raises
    ------
    ModelInputError
        If no volume is one of the baseline.
    """
    kept = np.ones(n_volumes, bool) if censored is None else ~np.asarray(censored, bool)
    run_length = n_volumes * repetition_time
    listed = [event for event in events if event[0] < run_length]
    blocks = _blocks_of_conditions(listed, None if is_of_events else baseline, run_length)
    window = kept
    if not is_of_events:
        pair = (baseline, baseline)
        window = _windows([pair], blocks, kept, repetition_time, window_start)[baseline]
    times = repetition_time * np.arange(n_volumes, dtype=np.float64)
    bins: dict[str, FloatArray] = {}
    for name in sorted(set(blocks) - (set() if is_of_events else {baseline})):
        longest = max(duration for _, duration in blocks[name]) + tail
        since = np.array([times - onset for onset, _ in blocks[name]]) / repetition_time
        of_block = np.floor(np.round(since, 6))
        for position in range(int(np.ceil(longest / repetition_time))):
            column = (of_block == position).any(axis=0)
            if (column & kept).any():
                bins[f'{name}@{position}'] = column.astype(float)
    extra = _checked_confounds(confounds, n_volumes)
    nuisance = _design_matrix(
        [],
        frame_times=times,
        hrf_model='spm',
        high_pass=high_pass,
        confounds=np.column_stack([extra, np.eye(n_volumes)[:, ~kept]]),
    ).to_numpy(float)
    matrix = np.column_stack([*bins.values(), nuisance])
    reference = matrix[window].mean(axis=0)
    units = np.eye(matrix.shape[1])
    known = np.abs(units - np.linalg.pinv(matrix) @ matrix).max(axis=1) < SLACK
    weights = {
        name: np.array([units[index], reference])
        for index, name in enumerate(bins)
        if known[index]
    }
    return TaskDesign(matrix=matrix, weights=weights, high_pass=high_pass, loss=0.0, kept=kept)


def _contrast_label(task: str, baseline: str) -> str:
    """Name a contrast as in file names."""
    return f'{task}Minus{baseline[:1].upper()}{baseline[1:]}'


def _blocks_of_conditions(
    events: Sequence[TimedEvent], baseline: str | None, run_length: float
) -> dict[str, list[Block]]:
    """Give the blocks of every condition, the gaps for a baseline that is not listed."""
    blocks: dict[str, list[Block]] = {}
    for onset, duration, name in events:
        blocks.setdefault(name, []).append((onset, duration))
    if baseline is not None and baseline not in blocks:
        gaps = implicit_blocks(events, run_length)
        blocks |= {baseline: gaps} if gaps else {}
    return blocks


def _modelled(
    events: Sequence[TimedEvent], baseline: str, run_length: float, window_start: float
) -> list[TimedEvent]:
    """Leave out the listed baseline where no gap is left to be the reference instead of it."""
    gaps = implicit_blocks(events, run_length, shortest=max(window_start, 1.0))
    return [event for event in events if gaps or event[2] != baseline]


def _windows(
    contrasts: Sequence[tuple[str, str]],
    blocks: dict[str, list[Block]],
    kept: BoolArray,
    repetition_time: float,
    window_start: float,
) -> dict[str, BoolArray]:
    """Find the volumes of every condition of the contrasts; refuse one without any."""
    windows = {}
    for name in sorted({name for contrast in contrasts for name in contrast}):
        if name not in blocks:
            msg = f'condition {name!r} has no event in this run; it has {sorted(blocks)}'
            raise ModelInputError(msg)
        window = volumes_in_blocks(
            blocks[name],
            n_volumes=len(kept),
            repetition_time=repetition_time,
            window_start=window_start,
        )
        if not window.any():
            longest = max(duration for _, duration in blocks[name])
            msg = (
                f'the blocks of condition {name!r} last at most {longest:g} s within the run, '
                f'but count from {window_start:g} s after their start only; '
                'set bold.window_start lower'
            )
            raise ModelInputError(msg)
        windows[name] = window & kept
        if not windows[name].any():
            msg = (
                f'every volume in the blocks of condition {name!r} is censored; set '
                'bold.censor_dvars and bold.censor_displacement higher, or 0 for never'
            )
            raise ModelInputError(msg)
    return windows


def _design_matrix(
    events: Sequence[TimedEvent],
    *,
    frame_times: FloatArray,
    hrf_model: str,
    high_pass: float,
    confounds: FloatArray,
) -> pd.DataFrame:
    """Make the design with nilearn: a column per trial type, confounds, drift, constant."""
    import pandas as pd
    from nilearn.glm.first_level import make_first_level_design_matrix

    rows = [(onset, duration, _column(name)) for onset, duration, name in events]
    table = pd.DataFrame(rows, columns=['onset', 'duration', 'trial_type'])
    delays = fir_delays(float(frame_times[1] - frame_times[0])) if hrf_model == FIR else []
    per_condition = len(delays) or 1 + RESPONSES[hrf_model].count('+')
    columns = per_condition * len({name for _, _, name in rows})
    if frame_times.size <= columns + confounds.shape[1] + 1:
        msg = f'{frame_times.size} volumes are too few for this design and its confounds'
        raise ModelInputError(msg)
    return make_first_level_design_matrix(
        frame_times,
        table if events else None,
        hrf_model=RESPONSES[hrf_model],
        drift_model='cosine',
        high_pass=high_pass,
        fir_delays=delays or None,
        add_regs=confounds if confounds.size else None,
        add_reg_names=[f'confound_{i}' for i in range(confounds.shape[1])] or None,
    )


def _column(condition: str) -> str:
    """Name the column of a condition; never that of a drift, the constant or a derivative."""
    return f'{CONDITION}{condition}:'


def _checked_confounds(confounds: ArrayLike | None, n_volumes: int) -> FloatArray:
    """Give the confounds as (T, C), or say what is wrong with them."""
    extra = np.empty((n_volumes, 0)) if confounds is None else np.asarray(confounds, float)
    if extra.ndim != 2 or len(extra) != n_volumes or not np.isfinite(extra).all():
        msg = f'confounds must be finite and (volumes, columns) = ({n_volumes}, ...), '
        msg += f'got {extra.shape} with {np.sum(~np.isfinite(extra))} values that are not finite'
        raise ModelInputError(msg)
    return extra


def _contrast_weights(
    design: pd.DataFrame,
    conditions: tuple[str, str],
    task_window: BoolArray,
    baseline_window: BoolArray,
) -> FloatArray:
    """Give the weights of the coefficients that make the signal change and the baseline."""
    task = design[task_window].mean().to_numpy(float)
    baseline = design[baseline_window].mean().to_numpy(float)
    involved = design.columns.isin(
        [_column(name) + part for name in conditions for part in COLUMNS_OF_RESPONSE]
    )
    is_of_label = design.columns.str.startswith(LABEL)
    return np.array(
        [np.where(involved, task - baseline, 0.0), np.where(is_of_label, 0.0, baseline)]
    )


def _measured(  # noqa: PLR0917  (what a design is made of)
    design: pd.DataFrame,
    name: str,
    events: Sequence[Block],
    hrf_model: str,
    repetition_time: float,
    first_time: float,
    measure: str,
) -> EventMeasure:
    """Tell what is measured of the response to one event of a condition."""
    own = design.columns.str.startswith(_column(name))
    return measure_response(
        design.loc[:, own].to_numpy(float),
        events,
        hrf_model=hrf_model,
        repetition_time=repetition_time,
        first_time=first_time,
        measure=measure,
    )


def _event_weights(
    design: pd.DataFrame,
    conditions: tuple[str, str],
    measured: Mapping[str, EventMeasure],
    kept: BoolArray,
) -> FloatArray:
    """Give the weights that make the response of the task less the baseline's, and the mean."""
    task, baseline = conditions
    if task not in measured:
        msg = f'condition {task!r} has no event in this run; it has {sorted(measured)}'
        raise ModelInputError(msg)
    change = np.zeros(design.shape[1])
    for name, sign in ((task, 1.0), (baseline, -1.0)):
        if name in measured:  # a baseline that is not listed is what no column is of
            change[design.columns.str.startswith(_column(name))] += sign * measured[name].weights
    return np.array([change, design[kept].mean().to_numpy(float)])


def _with_label(design: pd.DataFrame, label: ArrayLike | None) -> pd.DataFrame:
    """Add columns for labelled blood, and for what each condition does to it."""
    if label is None:
        return design
    lowered = -np.asarray(label, float)
    own = design.columns[design.columns.str.startswith(CONDITION)]
    columns = {f'{LABEL}{name}': lowered * design[name].to_numpy(float) for name in own}
    return design.assign(**{LABEL: lowered}, **columns)


def _drift(design: pd.DataFrame) -> BoolArray:
    """Tell which columns are those of the drift."""
    return np.asarray(design.columns.str.startswith('drift'))


def _largest_loss(
    design: pd.DataFrame, weights: Mapping[str, FloatArray], columns: BoolArray
) -> float:
    """Tell by how much some columns lengthen the standard error of the worst contrast."""
    matrix = design.to_numpy(float)
    losses = []
    for change, _ in weights.values():
        power = np.sum((change @ np.linalg.pinv(matrix)) ** 2)
        without = np.sum((change[~columns] @ np.linalg.pinv(matrix[:, ~columns])) ** 2)
        losses.append(float(np.sqrt(power / without) - 1) if without > 0 else 0.0)
    return max(losses, default=0.0)
