"""Say in words which scans a participant has and how they were timed, for report and summary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bids_app.bids.scans import AslSeries

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from bids_app.bids.scans import EchoSeries, ParticipantInputs

SCANS = {
    't1w': 'T1w',
    'mese': 'MESE',
    'megre': 'MEGRE',
    'asl': 'ASL',
    'dsc': 'DSC',
    'bold': 'BOLD',
}
"""Field of the inputs and the name of its scans, in the order of the report."""


def scan_records(inputs: ParticipantInputs, root: Path) -> list[dict[str, Any]]:
    """
    List the scans of one unit of work; a kind that is absent has one entry without files.

    Each has ``scan``, ``condition``, ``run``, ``files`` (below the root), ``facts`` (name to text)
    and, of ASL, ``timing`` (one entry per delay).
    """
    records = []
    for kind, name in SCANS.items():
        series = _anatomy(inputs) if kind == 't1w' else getattr(inputs, kind)
        records += [
            {
                'scan': name,
                'condition': getattr(item, 'condition', None),
                'run': getattr(item, 'run', None),
                'files': [_named(path, root) for path in _files(item)],
                'facts': FACTS[kind](item),
                **({'timing': _timing(item)} if isinstance(item, AslSeries) else {}),
            }
            for item in series
        ] or [{'scan': name, 'condition': None, 'run': None, 'files': [], 'facts': {}}]
    return records


def _anatomy(inputs: ParticipantInputs) -> tuple[Path, ...]:
    """Give the T1w image in use: of other derivatives, else of the dataset."""
    return (inputs.anatomy.t1w,) if inputs.anatomy else inputs.t1w[:1]


def _files(item: Any) -> Sequence[Path]:
    """List the image files of a series, or the file itself."""
    if hasattr(item, 'files'):
        return tuple(item.files)
    return (getattr(item, 'file', item),)


def _named(path: Path, root: Path) -> str:
    """Name a file from the dataset on where it is there."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else path.name


def _echo_facts(series: EchoSeries) -> dict[str, str]:
    """Say how a multi-echo series is timed."""
    facts = {'echo times': _milliseconds(series.echo_times)}
    if series.repetition_time:
        facts['repetition time'] = f'{series.repetition_time:g} s'
    facts['phase'] = 'yes' if series.has_phase else 'no'
    if series.reduced:
        facts['sets of fewer lines merged with it'] = str(len(series.reduced))
    return facts


def _asl_facts(series: AslSeries) -> dict[str, str]:
    """Say how an ASL series is labelled, timed and calibrated."""
    counts = {kind: series.context.count(kind) for kind in dict.fromkeys(series.context)}
    facts = {
        'labelling': f'{series.label_type}, {series.labeling}',
        'volumes': ', '.join(f'{count} {kind}' for kind, count in counts.items()),
        'label duration': _seconds(series.label_duration),
        'post-labelling delay': _seconds(series.post_label_delay),
        'labelling efficiency': f'{series.labeling_efficiency:g}',
        'background suppression': _suppression(series),
        'M0': series.m0.kind,
    }
    if series.slice_times:
        facts['readout of the slices'] = f'{_seconds(series.slice_times)} after the first'
    if series.m0.repetition_time:
        facts['repetition time of M0'] = f'{series.m0.repetition_time:g} s'
    return facts


def _timing(series: AslSeries) -> list[dict[str, str]]:
    """List the delays of an ASL series with their volumes, as they are used."""
    volumes: dict[tuple[float, float], list[str]] = {}
    times = zip(series.differences, series.label_duration, series.post_label_delay, strict=True)
    for kind, duration, delay in times:
        if kind in ('control', 'label', 'deltam', 'cbf'):
            volumes.setdefault((delay, duration), []).append(kind)
    last = max(series.slice_times, default=0.0)
    return [
        {
            'post-labelling delay (s)': f'{delay:.4g}',
            'label duration (s)': f'{duration:.4g}',
            'delay of the slice read last (s)': f'{delay + last:.4g}',
            'volumes': ', '.join(f'{kinds.count(kind)} {kind}' for kind in dict.fromkeys(kinds)),
        }
        for (delay, duration), kinds in sorted(volumes.items())
    ]


def _suppression(series: AslSeries) -> str:
    """Say whether the static signal was suppressed, and what is left of the label."""
    if not series.background_suppression:
        return 'no'
    return f'yes, {100 * series.background_suppression_factor:.3g} % of the label kept'


def _milliseconds(times: Iterable[float]) -> str:
    """Write times that are given in s, all of them."""
    return ', '.join(f'{1000 * time:.4g}' for time in times) + ' ms'


def _seconds(times: Sequence[float]) -> str:
    """Write the different ones of some times: all if they are few, else the range."""
    different = sorted(set(times))
    if not different:
        return 'unknown'
    if len(different) > 8:
        return f'{different[0]:.4g} to {different[-1]:.4g} s in {len(different)} steps'
    return ', '.join(f'{time:.4g}' for time in different) + ' s'


FACTS: dict[str, Any] = {
    't1w': lambda _: {},
    'mese': _echo_facts,
    'megre': _echo_facts,
    'asl': _asl_facts,
    'dsc': lambda series: {
        'echo time': _milliseconds([series.echo_time]),
        'repetition time': f'{series.repetition_time:g} s',
    },
    'bold': lambda run: {
        'task': run.task,
        **({'echo times': _milliseconds(run.echo_times)} if run.echoes else {}),
        'repetition time': f'{run.repetition_time:g} s',
        'volumes': str(run.n_volumes),
        'trials': ', '.join(dict.fromkeys(event.trial_type for event in run.events)),
    },
}
"""Field of the inputs and what is said of one of its scans."""
