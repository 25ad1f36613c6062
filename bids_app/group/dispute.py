"""The change where BOLD is absent, and what a common offset does to the shares of a group."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from bids_app.group.concordance import noise_blocks, noise_width, study_regions
from bids_app.group.design import quality_tables
from bids_app.models.concordance.offset import (
    is_bold_equivalent_to_zero,
    mean_offset,
    offset_curve,
)
from bids_app.models.constants import OUTLYING_DEVIATIONS, SMALLEST_COMPARED_GROUP

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from bids_app._typing import BoolArray, FloatArray
    from bids_app.group.concordance import Concordance
    from bids_app.group.effects import Effect
    from bids_app.group.study import Study

QUANTITIES = ('cmro2', 'cbf', 'oef', 'R2prime')
"""Changes that are measured where BOLD is absent."""

SOURCES = {
    'm0_median': 'M0 of grey matter, task over baseline',
    'grey_matter_median': 'flow of grey matter, task over baseline',
    'white_matter_median': 'flow of white matter, task over baseline',
    'noise_width': 'width of the noise of flow (blur), task over baseline',
}
"""Measure of the quality of blood flow -> what a difference of it between scans would explain."""

ORDER = 'scan_order'
"""Measure of the quality of blood flow: rank of the scan in time."""

FEWEST_OF_AN_ORDER = 2
"""Participants of each order of the conditions that are compared."""

CONSISTENT = 1.4826
"""Median absolute deviation of a normal distribution to its standard deviation, 1; exact."""


def save_offsets(study: Study, effects: Mapping[str, Effect], found: Concordance) -> None:
    """Write the tables of offsets and of the shares with offsets subtracted."""
    bold, change = effects['boldPct'], effects['cmro2']
    contrast = change.maps.contrast
    estimate = bold.result.as_estimate
    absent = is_bold_equivalent_to_zero(estimate.value, np.sqrt(estimate.variance))
    if not absent.any():
        study.absences[
            f'no voxel of {contrast} has a BOLD change that is shown to be near zero: no offset'
        ] = None
    parts = {'all': absent} | {
        name: absent & part for name, part in study_regions(study)[0].items()
    }
    about = study.about(*(effect.maps for effect in effects.values()))
    rows = [
        row
        for quantity in QUANTITIES
        if quantity in effects
        for row in _offsets(study, effects[quantity], parts)
    ]
    if rows:
        study.save_table(rows, 'group_offset', about, contrast=contrast)
    sources = [*_sources(study, change, absent), _order(study, change, rows)]
    study.save_table(sources, 'group_offset_sources', about, contrast=contrast)
    curve = list(_curve(study, (bold, change), found))
    if curve:
        study.save_table(curve, 'group_offset_curve', about, contrast=contrast)


def _offsets(
    study: Study, effect: Effect, parts: Mapping[str, BoolArray]
) -> Iterator[dict[str, Any]]:
    """Average a change of every participant over the voxels without BOLD, then participants."""
    names = effect.stack.participants
    baseline = study.inputs.baseline_of(effect.maps)
    base = None if baseline is None else study.stack(baseline)
    means = {name: np.full((2, len(names)), np.nan) for name in parts}
    for number, participant in enumerate(names):
        change = effect.stack.row(number)
        level = np.full_like(change, np.nan)
        if base is not None and participant in base.participants:
            level = base.row(base.participants.index(participant))
        for name, part in parts.items():
            means[name][:, number] = _means(change[part], level[part])
    for name, (values, levels) in means.items():
        # a ratio of means: the mean of ratios is biased upward by noise of the baseline
        percent = np.divide(
            100 * values, levels, out=np.full_like(values, np.nan), where=levels > 0
        )
        common = {
            'quantity': effect.maps.quantity,
            'network': name,
            'n_voxels': int(parts[name].sum()),
        }
        outlying = _outlying(values)
        mean, error, low, high = mean_offset(values)
        mean_percent, error_percent, low_percent, high_percent = mean_offset(percent)
        yield common | {
            'participant': 'group',
            'effect': mean, 'se': error, 'low': low, 'high': high,
            'percent': mean_percent, 'percent_se': error_percent,
            'percent_low': low_percent, 'percent_high': high_percent,
            'note': None,
        }  # fmt: skip
        if name != 'all':
            continue
        nothing = dict.fromkeys(('se', 'low', 'high', 'percent_se', 'percent_low', 'percent_high'))
        for number, participant in enumerate(names):
            yield (
                common
                | nothing
                | {
                    'participant': f'sub-{participant}',
                    'effect': values[number],
                    'percent': percent[number],
                    'note': 'unlike the others' if outlying[number] else None,
                }
            )


def _means(change: FloatArray, level: FloatArray) -> tuple[float, float]:
    """Average a change, and the baseline of the same voxels."""
    known = np.isfinite(change)
    if not known.any():
        return float('nan'), float('nan')
    base = level[known & np.isfinite(level)]
    return float(change[known].mean()), float(base.mean()) if base.size else float('nan')


def _sources(study: Study, change: Effect, absent: BoolArray) -> Iterator[dict[str, Any]]:
    """List what could make an offset, with the size that these scans show, percent."""
    about, names = change.maps.about, change.stack.participants
    pair = about.get('Task'), about.get('Baseline')
    quality = _quality(study, names)
    for measure, source in SOURCES.items():
        values = []
        for name in names:
            task, rest = (quality.get((name, measure, one), np.nan) for one in pair)
            values.append(100 * (task / rest - 1) if rest else np.nan)
        yield _source(source, values)
    baseline = study.inputs.baseline_of(change.maps)
    if baseline is None:
        return
    stack = study.stack(baseline)
    biases = []
    for number, name in enumerate(names):
        if name not in stack.participants:
            continue
        d, b = (one[absent] for one in (change.stack.row(number),
                                        stack.row(stack.participants.index(name))))  # fmt: skip
        known = np.isfinite(d) & (b > 0)
        if known.any():
            d, b = d[known], b[known]
            biases.append(100 * float(np.mean(d / b) - d.mean() / b.mean()))
    yield _source('CMRO2 where BOLD is absent, mean of ratios less ratio of means', biases)


def _order(study: Study, change: Effect, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Compare the offset of those whose task came first with that of the others, percent."""
    about = change.maps.about
    offsets: dict[bool, list[float]] = {True: [], False: []}
    names = {row['participant'].removeprefix('sub-') for row in rows} - {'group'}
    quality = _quality(study, names)
    for row in rows:
        if (row['quantity'], row['network']) != ('cmro2', 'all') or row['participant'] == 'group':
            continue
        name = row['participant'].removeprefix('sub-')
        task, baseline = (
            quality.get((name, ORDER, about.get(part)), np.nan) for part in ('Task', 'Baseline')
        )
        if task != baseline and np.isfinite(task + baseline + row['percent']):
            offsets[task < baseline].append(row['percent'])
    counts = {first: len(values) for first, values in offsets.items()}
    if min(counts.values()) < FEWEST_OF_AN_ORDER:
        source = (
            'order: CMRO2 where BOLD is absent, task first less baseline first; cannot be told '
            f'(task first in {counts[True]}, baseline first in {counts[False]})'
        )
        return _source(source, [])
    found = stats.ttest_ind(offsets[True], offsets[False], equal_var=False)
    low, high = found.confidence_interval()
    difference = float(np.mean(offsets[True]) - np.mean(offsets[False]))
    return {
        'source': 'order: CMRO2 where BOLD is absent, task first less baseline first',
        'percent': difference,
        'se': abs(difference / found.statistic) if found.statistic else None,
        'low': low,
        'high': high,
        'n_participants': sum(counts.values()),
    }


def _quality(study: Study, names: Iterable[str]) -> dict[tuple[str, str, str | None], float]:
    """Average each measure of blood flow over the scans of a participant in a condition."""
    found: dict[tuple[str, str, str | None], list[float]] = defaultdict(list)
    for name in names:
        for table in quality_tables(study.run.output_dir, name):
            wanted = table[table.measure.isin([*SOURCES, ORDER])]
            for measure, condition, value in zip(
                wanted.measure, wanted.condition, wanted.value, strict=True
            ):
                found[name, measure, condition].append(float(value))
    return {key: float(np.mean(values)) for key, values in found.items()}


def _source(source: str, values: list[float]) -> dict[str, Any]:
    """Average what the participants show of a source."""
    mean, error, low, high = mean_offset(values)
    return {
        'source': source,
        'percent': mean,
        'se': error,
        'low': low,
        'high': high,
        'n_participants': int(np.isfinite(values).sum()),
    }


def _outlying(values: FloatArray) -> BoolArray:
    """Find participants far from the median of at least five."""
    known = np.isfinite(values)
    if known.sum() < SMALLEST_COMPARED_GROUP:
        return np.zeros(values.shape, bool)
    distance = np.abs(values - np.median(values[known]))
    spread = CONSISTENT * float(np.median(distance[known]))
    outlying: BoolArray = known & (distance > OUTLYING_DEVIATIONS * spread) & (spread > 0)
    return outlying


def _curve(
    study: Study, effects: tuple[Effect, Effect], found: Concordance
) -> Iterator[dict[str, Any]]:
    """Estimate the shares with common offsets subtracted; needs a baseline to be a share of."""
    bold, change = effects
    if change.baseline is None or not found.gate.any():
        return
    gate = found.gate
    for point in offset_curve(
        change.result.effect[gate],
        change.result.standard_error[gate],
        bold.result.effect[gate],
        change.baseline[gate],
        smallest_effect=found.smallest_effect,
        blocks=noise_blocks(study, noise_width(study, change))[gate],
        left_out=[(one[gate], error[gate]) for one, error in found.gated.left_out],
        withheld=found.gated.withheld.get('all', ''),
    ):
        yield point.as_row()
