"""Tables of a contrast: shares of concordance, networks, parcels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bids_app.models.constants import NORMAL_95
from bids_app.reports.derivatives import read_table, root_file, select, to_number
from bids_app.reports.report_table import report_table
from bids_app.reports.text import contrast_text, number, percent, unit_text, with_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from bids_app.reports.derivatives import Derivative

SHARE_COLOURS = (
    ('n_concordant', 'concordant', '#2f8fd0'),
    ('n_discordant', 'discordant', '#d98a1e'),
    ('n_undetermined', 'undetermined', '#8a9099'),
)
"""Parts of the bars of shares: column, name, colour."""

RULES = {
    'sign': 'published sign rule',
    'robust': 'robust rule',
    'size_weighted': 'share of the total change (w_d)',
    'noise_corrected': 'share of the changes (pi_d)',
    'noise_only': 'sign rule if all were concordant',
}
"""Rules of the summary table in words, those that a network is listed with."""

RULE_TITLES = {**RULES, 'ttest': 't test rule', 'consistency': 'consistency rule'}
"""All rules in words."""

TIPPING = (
    ('tipping_cbv', 'CBV changes by', '%', 100.0),
    ('tipping_cbf', 'CBF of the task is wrong by', '%', 100.0),
    ('tipping_r2', 'R2 is too high by', '1/s', 1.0),
    ('bold_route_bias', 'Calibrated BOLD would report', '%', 1.0),
)
"""Columns of the tipping points: column, title, unit shown, factor."""

MAX_PARCELS = 40
"""Rows of the list of parcels with a certain label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One bar of concordance."""

    title: str
    n_voxels: str
    discordant: str
    interval: str
    bounds: tuple[float, float, float]
    """Discordant share with its interval; NaN where there is none."""
    note: str
    parts: tuple[tuple[str, str, float, str], ...]
    """Name, colour, width in percent, text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForestRow:
    """A number with its interval; places are percent of the width of the chart."""

    name: str
    text: str
    at: float
    left: float
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Forest:
    """Numbers with their intervals on one axis."""

    title: str
    zero: float
    """Place of zero on the axis, percent."""
    ends: tuple[str, str]
    """Both ends of the axis."""
    rows: tuple[ForestRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContrastTables:
    """Numbers of one contrast."""

    title: str
    shares: tuple[Share, ...] = ()
    networks: tuple[tuple[str, ...], ...] = ()
    """Network, voxels, and the share by each of :data:`RULES`."""
    quantities: tuple[str, ...] = ()
    regions: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Network, then effect and error per quantity."""
    empty: tuple[str, ...] = ()
    """Networks without any estimate; they are named instead of listed."""
    parcels: tuple[tuple[str, ...], ...] = ()
    """Parcel, effect, z, label."""
    forests: tuple[Forest, ...] = ()
    """Discordant shares by rule, then changes per network."""
    tipping: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    """Network, then title and text of each of :data:`TIPPING` that there is."""


def contrast_tables(
    files: Sequence[Derivative], keys: tuple[str, str], output_dir: Path
) -> tuple[ContrastTables, ...]:
    """
    Read the tables of shares and regions.

    `keys` are the rows of outputs.yml of shares and of regions.
    """
    summaries, regions = (select(files, key) for key in keys)
    contrasts = dict.fromkeys(file.entities['contrast'] for file in (*summaries, *regions))
    names = read_table(root_file(output_dir, 'label_table', seg='concordance'))
    labels = {line.get('index', ''): line.get('name', '') for line in names}
    tables = []
    for contrast in contrasts:
        order = list(RULE_TITLES)
        shares = sorted(
            _rows(summaries, contrast),
            key=lambda line: order.index(line['rule']) if line['rule'] in order else len(order),
        )
        parts = [_as_shown(line) for line in _rows(regions, contrast)]
        quantities = tuple(dict.fromkeys(line['quantity'] for line in parts))
        tables.append(
            ContrastTables(
                title=_title(contrast, (*summaries, *regions)),
                shares=tuple(_share(line) for line in shares if line['network'] == 'all'),
                networks=_network_shares(shares),
                quantities=tuple(_quantity_title(name, parts) for name in quantities),
                regions=_network_effects(parts, quantities),
                empty=_empty_networks(parts),
                parcels=_certain_parcels(parts, labels),
                forests=(*_share_forest(shares), *_effect_forests(parts, quantities)),
                tipping=_tipping_points(parts),
            )
        )
    return tuple(tables)


def _title(contrast: str, files: Iterable[Derivative]) -> str:
    """Say what is compared, from the first sidecar that tells."""
    return next(contrast_text(file) for file in files if file.entities['contrast'] == contrast)


def _rows(files: Iterable[Derivative], contrast: str) -> list[dict[str, str]]:
    """Read the tables of a contrast."""
    chosen = [file for file in files if file.entities['contrast'] == contrast]
    return [line for file in chosen for line in read_table(file.path)]


def _as_shown(line: dict[str, str]) -> dict[str, str]:
    """Give the change of a region in the unit of the maps of the page."""
    rows = report_table().figures
    row = next((r for r in rows if r.kind == 'change' and r.quantity == line['quantity']), None)
    if row is None:
        return line | {'unit': unit_text(line['unit'])}
    scaled = {name: f'{row.scale * to_number(line[name]):.12g}' for name in ('effect', 'se')}
    return line | scaled | {'unit': row.unit}


def _share(line: Mapping[str, str]) -> Share:
    """Turn a row of the summary into a bar."""
    counts = {column: to_number(line.get(column)) for column, _, _ in SHARE_COLOURS}
    total = sum(count for count in counts.values() if not math.isnan(count))
    parts = [
        (name, colour, 100 * counts[column] / total, f'{counts[column]:,.0f}')
        for column, name, colour in SHARE_COLOURS
        if total and counts[column] > 0
    ]
    low, high = to_number(line.get('ci_low')), to_number(line.get('ci_high'))
    note = line.get('note', '')
    share = to_number(line.get('discordant_fraction'))
    return Share(
        title=_rule_title(line),
        n_voxels=line['n_voxels'],
        discordant=_discordant(share),
        bounds=(share, low, high),
        interval=f'{percent(low)} to {percent(high)}' if math.isfinite(low + high) else '',
        note='' if note == 'n/a' else note,
        parts=tuple(parts),
    )


def _rule_title(line: Mapping[str, str]) -> str:
    """Name a rule and the voxels it was applied to."""
    bold = {'positive': 'BOLD up', 'negative': 'BOLD down'}.get(line['bold'], 'all')
    return f'{RULE_TITLES.get(line["rule"], line["rule"])}, {bold}'


def _share_forest(lines: Iterable[Mapping[str, str]]) -> tuple[Forest, ...]:
    """Draw the discordant share by every rule on one axis from 0 to 100 %."""
    shares = [_share(line) for line in lines if line['network'] == 'all']
    rows = []
    for share in shares:
        value, low, high = (100 * bound for bound in share.bounds)
        if math.isfinite(value):
            low, high = (low, high) if math.isfinite(low + high) else (value, value)
            interval = f' ({share.interval})' if share.interval else ''
            text = share.discordant.removesuffix(' discordant') + interval
            row = ForestRow(name=share.title, text=text, at=value, left=low, width=high - low)
            rows.append(row)
    if not rows:
        return ()
    title = 'Discordant share by rule, with 95 % interval where there is one'
    return (Forest(title=title, zero=0.0, ends=('0 %', '100 %'), rows=tuple(rows)),)


def _effect_forests(
    lines: Sequence[Mapping[str, str]], quantities: Iterable[str]
) -> tuple[Forest, ...]:
    """Draw the change of every quantity per network with its 95 % interval."""
    forests = []
    for quantity in quantities:
        found = [
            (line['name'], effect, _quantile(line) * error)
            for line in lines
            if line['quantity'] == quantity and line['level'] in ('brain', 'network')
            for effect, error in [(to_number(line['effect']), to_number(line['se']))]
            if math.isfinite(effect + error)
        ]
        if not found:
            continue
        low = min(0.0, *(effect - half for _, effect, half in found))
        high = max(0.0, *(effect + half for _, effect, half in found))
        room = 0.03 * (high - low)  # a dot at the end is seen whole
        low, high = low - room, high + room
        span = 100 / (high - low) if high > low else 1.0
        rows = tuple(
            ForestRow(
                name=name,
                text=with_error(effect, half),
                at=span * (effect - low),
                left=span * (effect - half - low),
                width=2 * span * half,
            )
            for name, effect, half in found
        )
        title = f'{_quantity_title(quantity, lines)}, mean and 95 % interval'
        ends = (number(low), number(high))
        forests.append(Forest(title=title, zero=-span * low, ends=ends, rows=rows))
    return tuple(forests)


def _quantile(line: Mapping[str, str]) -> float:
    """Find how many standard errors are half a 95 % interval: few participants ask for more."""
    from scipy import stats

    n = to_number(line.get('n_participants'))
    return float(stats.t.ppf(0.975, n - 1)) if n > 1 else NORMAL_95


def _tipping_points(
    lines: Iterable[Mapping[str, str]],
) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    """List what would turn the sign of the CMRO2 change of each network."""
    found = {
        line['name']: [factor * to_number(line.get(column)) for column, _, _, factor in TIPPING]
        for line in lines
        if line['quantity'] == 'cmro2' and line['level'] in ('brain', 'network')
    }
    known = [any(map(math.isfinite, column)) for column in zip(*found.values(), strict=True)]
    about = [(title, unit) for _, title, unit, _ in TIPPING]
    return tuple(
        (
            name,
            tuple(
                (title, f'{number(value)} {unit}' if math.isfinite(value) else '–')
                for value, (title, unit), is_known in zip(values, about, known, strict=True)
                if is_known
            ),
        )
        for name, values in found.items()
        if any(map(math.isfinite, values))
    )


def _discordant(share: float) -> str:
    """Write a discordant share as words."""
    return f'{percent(share)} discordant' if math.isfinite(share) else 'no share can be given'


def _network_shares(lines: Iterable[Mapping[str, str]]) -> tuple[tuple[str, ...], ...]:
    """List the discordant fraction of each network by rule."""
    found: dict[str, dict[str, str]] = {}
    for line in lines:
        is_network = line['network'] != 'all' and line['bold'] == 'all'
        if is_network and to_number(line['n_voxels']) > 0:
            entry = found.setdefault(line['network'], {'n': line['n_voxels']})
            entry[line['rule']] = percent(to_number(line['discordant_fraction']))
    return tuple(
        (name, entry['n'], *(entry.get(rule, '') for rule in RULES))
        for name, entry in found.items()
    )


def _quantity_title(name: str, lines: Iterable[Mapping[str, str]]) -> str:
    """Give a quantity with its unit."""
    titles = {row.quantity: row.title for row in report_table().figures if row.kind == 'change'}
    unit = next(line['unit'] for line in lines if line['quantity'] == name)
    title = titles.get(name) or report_table().words.get(name, name)
    return title if unit == '1' else f'{title} ({unit})'


def _network_effects(
    lines: Sequence[Mapping[str, str]], quantities: tuple[str, ...]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """List effect and standard error of each network and quantity."""
    found: dict[str, dict[str, str]] = {}
    for line in lines:
        if line['level'] in ('brain', 'network'):
            effect, error = to_number(line['effect']), to_number(line['se'])
            found.setdefault(line['name'], {})[line['quantity']] = with_error(effect, error)
    return tuple(
        (name, tuple(entry.get(quantity, 'no estimate') for quantity in quantities))
        for name, entry in found.items()
    )


def _empty_networks(lines: Iterable[Mapping[str, str]]) -> tuple[str, ...]:
    """List the networks that have no estimate of anything."""
    found: dict[str, bool] = {}
    for line in lines:
        if line['level'] == 'network':
            has_effect = math.isfinite(to_number(line['effect']))
            found[line['name']] = found.get(line['name'], False) or has_effect
    return tuple(name for name, has_effect in found.items() if not has_effect)


def _certain_parcels(
    lines: Iterable[Mapping[str, str]], labels: Mapping[str, str]
) -> tuple[tuple[str, ...], ...]:
    """List the parcels whose label is concordant or discordant, the clearest first."""
    certain = [
        line
        for line in lines
        if line['level'] == 'parcel' and line['quantity'] == 'cmro2' and line['label'] in '1234'
        if line['label']
    ]
    certain.sort(key=lambda line: -abs(to_number(line['z'])))
    return tuple(
        (
            line['name'],
            with_error(to_number(line['effect']), to_number(line['se'])),
            number(to_number(line['z'])),
            labels.get(line['label'], line['label']),
        )
        for line in certain[:MAX_PARCELS]
    )
