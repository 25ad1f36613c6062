"""Sidecars and contexts of arterial spin labelling, and of flow that the scanner computed."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from bids_app.bids.input.acquired import acquired_at
from bids_app.bids.input.asl_delays import (
    describe_delays,
    distinct_delays,
    expand_times,
    pairs_of,
    without_partner,
)
from bids_app.bids.input.files import companions_of, read_table
from bids_app.bids.input.metadata.bold import read_events
from bids_app.bids.input.metadata.m0 import read_m0
from bids_app.bids.input.metadata.readout import read_readout, read_slice_times
from bids_app.bids.input.metadata.time_encoding import is_encoded, read_encoding
from bids_app.bids.input.sidecar import Probe, choose, is_number
from bids_app.bids.scans import VOLUME_TYPES, AslSeries, DataValue, M0Image
from bids_app.models.constants import (
    DELAYS_FOR_ARTERIES,
    LABELING_EFFICIENCY,
    SUPPRESSION_PER_PULSE,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bids_app.bids.input.files import Header, Row
    from bids_app.bids.input.query import Found
    from bids_app.bids.input.sidecar import Reader
    from bids_app.bids.scans import FoundScan, TimeEncoding


SYNONYMS = {
    'tag': 'label',
    'tagged': 'label',
    'labelled': 'label',
    'untag': 'control',
    'm0': 'm0scan',
    'dm': 'deltam',
    'difference': 'deltam',
    'perfusion': 'deltam',
}
"""Words of other places for volume types; named in the message, never taken."""
SHAPES = {
    'PCASL': 'continuous',
    'CASL': 'continuous',
}
"""ArterialSpinLabelingType -> shape of the bolus; that of PASL follows from its cut-off."""
CUT_OFFS = {'QUIPSS': 'pulsed-quipss', 'QUIPSSII': 'pulsed', 'Q2TIPS': 'pulsed'}
"""BolusCutOffTechnique -> how the bolus is shaped."""
CBF_UNITS = 'mL/100 g/min'
"""Of CBF that other software computed; blanks and capitals do not count."""


def read_asl(
    reader: Reader,
    found: Found,
    *,
    m0: Sequence[Found],
    condition: str | None,
    run: str | None,
) -> AslSeries | None:
    """
    Read one arterial spin labeling series.

    None when anything is wrong with it; the reason is among the problems.
    """
    probe = Probe.of(reader, 'asl', found, condition)
    header = probe.header((3, 4))
    probe.field_strength()
    context = _context(probe, header)
    if context and not set(context) - {'cbf', 'm0scan', 'n/a', 'noRF'}:
        return _scanner_cbf(probe, context, condition, run)
    label_type = _label_type(probe)
    encoding = None
    if is_encoded(probe, context):
        encoding, context = _encoded(probe, label_type, context)
        labeling, durations, delays, pairs = 'continuous', *_times_of(encoding)
    else:
        labeling, durations = _labeling(probe, label_type, context)
        delays, pairs = _delays(probe, context), context
    slice_axis, slice_times = read_slice_times(probe, header)
    suppression, kept = _suppression(probe)
    efficiency = probe.value(
        'perfusion.labeling_efficiency',
        'LabelingEfficiency',
        '1',
        setting=reader.settings.perfusion.labeling_efficiency,
        default=LABELING_EFFICIENCY.get(label_type),
    )
    calibration = read_m0(probe, header, context, m0, suppression=suppression)
    readout = read_readout(probe, header)
    if probe.ok:
        _check_pairs(probe, pairs)
    if probe.ok and delays and durations:
        _check_delays(probe, labeling, (delays, durations, pairs), calibration)
    task = _read_task(probe, header, (delays, durations, pairs), calibration)
    if not probe.ok or calibration is None or not durations:
        return None
    return AslSeries(
        condition=condition,
        run=run,
        file=probe.file,
        context=context,
        label_type=label_type,
        labeling=labeling,
        label_duration=durations,
        post_label_delay=delays,
        encoding=encoding,
        slice_times=slice_times,
        slice_axis=slice_axis,
        background_suppression=suppression,
        background_suppression_factor=kept,
        labeling_efficiency=efficiency,
        m0=calibration,
        readout=readout,
        acquired=acquired_at(probe.file, probe.metadata),
        metadata=probe.metadata,
        **task,
    )


def _read_task(
    probe: Probe,
    header: Header | None,
    timing: tuple[tuple[float, ...], tuple[float, ...], tuple[str, ...]],
    calibration: M0Image | None,
) -> dict[str, Any]:
    """Read the blocks of a task that runs in the series, and the time between its volumes."""
    companions = companions_of(probe.found, probe.reader.root, 'events', '.tsv')
    delays, durations, context = timing
    if not companions or not probe.ok or header is None:
        return {}
    path = companions[-1]
    if probe.condition is not None:
        probe.reader.findings.note(
            f'{path.name} is not used: the whole series is the condition {probe.condition}'
        )
        return {}
    several = delays and len(distinct_delays(delays, durations, context)[1]) > 1
    unfit = {
        'without control and label volumes': not {'control', 'label'} <= set(context),
        'of several delays': several and probe.reader.settings.perfusion.model != 'single-delay',
        'without M0': calibration is not None and calibration.kind == 'Absent',
    }
    reasons = [name for name, applies in unfit.items() if applies]
    if reasons:
        probe.fail(
            f'{probe.file.name}: the conditions of a task within a series {reasons[0]} are not '
            f'told apart; move {path.name} away for one blood flow of the whole series',
            path,
        )
        return {}
    time = _time_between_volumes(probe, context)
    if time is None:
        return {}
    events, _ = read_events(probe, path, header.n_volumes * time, role='asl')
    return {'events': events, 'events_file': path, 'repetition_time': time}


def _time_between_volumes(probe: Probe, context: Sequence[str]) -> float | None:
    """Read the one time between volumes, s; a problem where there is none."""
    used = sorted(index for pair in pairs_of(context) for index in pair)
    key = 'RepetitionTimePreparation'
    listed = probe.numbers(key, of=len(context), judged=used) or ()
    times = {listed[index] for index in used} if len(listed) == len(context) else set(listed)
    if len(times) == 1 and min(times) > 0:
        return times.pop()
    stated = probe.repetition_time()
    if stated is None or len(times) > 1:
        probe.fail(
            f'{probe.file.name}: a task within the series needs one time between its volumes; '
            f'{key} is {sorted(times) or "missing"}'
        )
        return None
    return stated


def read_cbf(
    reader: Reader,
    found: Found,
    preprocessed: FoundScan,
    *,
    condition: str | None,
    run: str | None,
) -> AslSeries | None:
    """
    Read CBF that other software computed.

    Give a series of cbf volumes; None when anything is wrong with it.
    """
    probe = Probe.of(reader, 'asl', found, condition)
    header = probe.header((3, 4))
    probe.field_strength()
    units = str(probe.metadata.get('Units', CBF_UNITS))
    if ''.join(units.lower().split()) != ''.join(CBF_UNITS.lower().split()):
        probe.fail(f'{found.path.name}: CBF in {CBF_UNITS} expected, its Units are {units!r}')
    if not probe.ok or header is None:
        return None
    n_volumes = header.n_volumes
    if n_volumes == 1:
        reader.findings.note(
            f'{found.path.name}: one map of CBF without its scatter over the volumes '
            '(desc-timeseries_cbf); the spread over the voxels of a tissue, which is an upper '
            'bound, stands for its error'
        )
    reader.findings.note(f'CBF is taken from the derivatives {preprocessed.source}')
    return AslSeries(
        condition=condition,
        run=run,
        file=probe.file,
        context=('cbf',) * n_volumes,
        label_type=str(probe.metadata.get('ArterialSpinLabelingType', '')),
        label_duration=(0.0,) * n_volumes,
        post_label_delay=(0.0,) * n_volumes,
        labeling_efficiency=1.0,
        m0=M0Image(kind='Unneeded', file=None),
        found=preprocessed,
        metadata=probe.metadata,
    )


def _scanner_cbf(
    probe: Probe, context: tuple[str, ...], condition: str | None, run: str | None
) -> AslSeries | None:
    """Read a series of which the scanner computed CBF."""
    if not probe.ok:
        return None
    probe.reader.findings.note(
        f'{probe.file.name}: CBF was computed by the scanner; it is taken as it is, in '
        'mL/100 g/min, and none of the constants of perfusion applies to it'
    )
    return AslSeries(
        condition=condition,
        run=run,
        file=probe.file,
        context=context,
        label_type=str(probe.metadata.get('ArterialSpinLabelingType', '')),
        label_duration=(0.0,) * len(context),
        post_label_delay=(0.0,) * len(context),
        labeling_efficiency=1.0,
        m0=M0Image(kind='Unneeded', file=None),
        metadata=probe.metadata,
    )


def _context(probe: Probe, header: Header | None) -> tuple[str, ...]:
    """Read the type of every volume."""
    companions = companions_of(probe.found, probe.reader.root, 'aslcontext', '.tsv')
    if not companions and probe.found.volume_types:
        return _repeated(probe, header)
    if not companions:
        probe.fail(
            f'{probe.file.name}: its aslcontext.tsv is missing; it says which volume is control '
            'and which is label'
        )
        return ()
    path = companions[-1]
    probe.reader.findings.files.add(path)
    rows = probe.attempt(path, read_table, ('volume_type',))
    if rows is None:
        return ()
    context = _volume_types(probe, path, rows)
    if header is not None and context and len(context) != header.n_volumes:
        probe.fail(
            f'{path.name} lists {len(context)} volumes but {probe.file.name} has '
            f'{header.n_volumes}; they must agree',
            path,
        )
    if is_encoded(probe, context):
        return context
    has_pairs = 'control' in context and 'label' in context
    if context and not has_pairs and not {'deltam', 'cbf'} & set(context):
        probe.fail(f'{path.name} lists neither control and label volumes nor deltam or cbf', path)
    return _of_pairs(probe, context)


def _volume_types(probe: Probe, path: Path, rows: Sequence[Row]) -> tuple[str, ...]:
    """Read the words of the table in any case; the first that is none is refused."""
    spelling = {kind.lower(): kind for kind in VOLUME_TYPES}
    for row in rows:
        found = row['volume_type']
        if found.lower() in spelling:
            continue
        near = difflib.get_close_matches(found.lower(), [*SYNONYMS, *spelling], n=1)
        word = SYNONYMS.get(near[0], spelling.get(near[0])) if near else None
        hint = f'did you mean {word}? ' if word else ''
        probe.fail(
            f'{path.name}, line {row.line}: unknown volume_type {found!r}; {hint}allowed: '
            f'{", ".join(VOLUME_TYPES)}',
            path,
        )
        return ()
    return tuple(spelling[row['volume_type'].lower()] for row in rows)


def _of_pairs(probe: Probe, context: tuple[str, ...]) -> tuple[str, ...]:
    """Leave out the controls and labels that have no partner, and name them."""
    odd = without_partner(context)
    if odd:
        shown = ', '.join(f'{index + 1} ({context[index]})' for index in odd)
        probe.reader.findings.note(
            f'{probe.file.name}: not used are the volumes without a partner: {shown}'
        )
    return tuple('n/a' if index in odd else kind for index, kind in enumerate(context))


def _repeated(probe: Probe, header: Header | None) -> tuple[str, ...]:
    """Repeat the volume types that the role map gives over a series."""
    types = probe.found.volume_types
    if header is None:
        return ()
    if header.n_volumes % len(types):
        probe.fail(
            f'{probe.file.name} has {header.n_volumes} volumes, which is no multiple of '
            f'{len(types)} ({", ".join(types)}, volume_types of the input map)'
        )
        return ()
    probe.reader.findings.note(
        f'volumes of the ASL series are taken to be {", ".join(types)} in turn (input map)'
    )
    return types * (header.n_volumes // len(types))


def _label_type(probe: Probe) -> str:
    """Read how blood was labelled."""
    stated = str(probe.require('ArterialSpinLabelingType', 'write PCASL, CASL or PASL'))
    if stated.upper().startswith(('VS', 'VELOCITY')):
        probe.fail(
            f'{probe.file.name}: velocity-selective labelling ({stated}) has neither the bolus '
            'nor the arrival of any model here and is not quantified; give the CBF of other '
            'software instead (volumes of type cbf, or -d aslprep=PATH)'
        )
        return stated.upper()
    if stated.upper() not in LABELING_EFFICIENCY and stated != 'None':
        probe.fail(
            f'{probe.file.name}: ArterialSpinLabelingType {stated!r} is not known; it is one of '
            f'{", ".join(LABELING_EFFICIENCY)}'
        )
    if probe.metadata.get('LookLocker') is True:
        probe.fail(
            f'{probe.file.name}: a Look-Locker readout uses up label with every excitation, '
            'which no model of this version describes; give the CBF of other software instead '
            '(volumes of type cbf, or -d aslprep=PATH)'
        )
    return stated.upper()


def _labeling(
    probe: Probe, label_type: str, context: Sequence[str]
) -> tuple[str, tuple[float, ...]]:
    """Read the shape of the bolus, and its duration for every volume, s."""
    if label_type != 'PASL':
        probe.require('LabelingDuration', f'{label_type} needs it, in seconds')
        durations = _times(probe, 'LabelingDuration', 'perfusion.label_duration', context)
        return SHAPES.get(label_type, 'continuous'), durations
    flag = probe.require('BolusCutOffFlag', 'PASL needs it: whether the bolus was cut off')
    if flag is None:
        for key in ('BolusCutOffTechnique', 'BolusCutOffDelayTime'):
            if probe.metadata.get(key) is None:
                probe.lack(key)
        return 'pulsed', ()
    if flag is not True:
        return 'pulsed', _uncut_bolus(probe, flag) * len(context)
    technique = str(probe.require('BolusCutOffTechnique', f'one of {", ".join(CUT_OFFS)}'))
    name = technique.upper().replace(' ', '').replace('-', '').replace('_', '')
    if name not in CUT_OFFS:
        probe.fail(
            f'{probe.file.name}: BolusCutOffTechnique {technique!r} is not known; it is one of '
            f'{", ".join(CUT_OFFS)}'
        )
        return 'pulsed', ()
    probe.require('BolusCutOffDelayTime', 'from the inversion to the cut-off, in seconds')
    listed = probe.numbers('BolusCutOffDelayTime')
    if listed is None:
        return 'pulsed', ()
    # of Q2TIPS: first and last saturation pulse; the first ends the bolus
    _add_time(probe, 'BolusCutOffDelayTime', 'perfusion.label_duration', listed[:1])
    return CUT_OFFS[name], listed[:1] * len(context)


def _encoded(
    probe: Probe, label_type: str, context: tuple[str, ...]
) -> tuple[TimeEncoding | None, tuple[str, ...]]:
    """Read a time-encoded series; name its volumes by their encoding."""
    if label_type == 'PASL':
        probe.fail(f'{probe.file.name}: pulsed labelling has no blocks that could be encoded')
    for key in ('LabelingDuration', 'PostLabelingDelay'):
        probe.require(key, 'a time-encoded series needs it of every block, in seconds')
    encoding = read_encoding(probe, context) if probe.ok else None
    if encoding is None:
        return None, context
    for key, name, values in (
        ('LabelingDuration', 'perfusion.label_duration', encoding.label_duration),
        ('PostLabelingDelay', 'perfusion.post_label_delay', encoding.post_label_delay),
    ):
        _add_time(probe, key, name, tuple(dict.fromkeys(values)))
    row_of = {
        volume: row for cycle in encoding.cycles for row, volume in enumerate(cycle, start=1)
    }
    probe.reader.findings.note(
        f'{probe.file.name}: time-encoded: {len(encoding.cycles)} cycle(s) of '
        f'{len(encoding.matrix)} encodings are decoded to {len(encoding.label_duration)} blocks'
    )
    return encoding, tuple(
        f'encoded{row_of[volume]}' if volume in row_of else kind
        for volume, kind in enumerate(context)
    )


def _times_of(
    encoding: TimeEncoding | None,
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[str, ...]]:
    """Give durations, delays (s) and kinds of the differences that a series is decoded to."""
    if encoding is None:
        return (), (), ()
    n_cycles = len(encoding.cycles)
    durations = encoding.label_duration * n_cycles
    return durations, encoding.post_label_delay * n_cycles, ('deltam',) * len(durations)


def _uncut_bolus(probe: Probe, flag: object) -> tuple[float, ...]:
    """Take the duration of a bolus that is not cut off from the setting; a problem without it."""
    given = probe.reader.settings.perfusion.bolus_duration
    if given is None:
        probe.fail(
            f'{probe.file.name}: BolusCutOffFlag is {flag!r}: the duration of an uncut bolus is '
            'not known, and a CBF that is wrong by the same unknown factor would come of a guess; '
            'give it with perfusion.bolus_duration, or use QUIPSS, QUIPSSII or Q2TIPS'
        )
        return ()
    probe.reader.findings.value(
        DataValue(name='perfusion.bolus_duration', value=given, unit='s', origin='setting')
    )
    probe.reader.findings.note(
        f'{probe.file.name}: its bolus is not cut off; CBF goes as 1 over the duration that was '
        f'given (perfusion.bolus_duration, {given:g} s), whose error stands among those of the '
        'constants'
    )
    return (given,)


def _delays(probe: Probe, context: Sequence[str]) -> tuple[float, ...]:
    """Read the delay of every volume, s."""
    probe.require('PostLabelingDelay', 'the time from the end of labelling to readout, in seconds')
    return _times(probe, 'PostLabelingDelay', 'perfusion.post_label_delay', context)


def _times(probe: Probe, key: str, name: str, context: Sequence[str]) -> tuple[float, ...]:
    """Read times in any form in which they may be written, for every volume, s."""
    used = sorted(index for pair in pairs_of(context) for index in pair)
    listed = probe.numbers(key, of=len(context), judged=used)
    if listed is None or not context:
        return ()
    times = expand_times(listed, context)
    n_pairs = len(pairs_of(context))
    if times is None:
        probe.fail(
            f'{probe.file.name}: {key} has {len(listed)} values; expected one, one for each of '
            f'the {len(context)} volumes, one for each of the {n_pairs} pairs, or one repetition '
            'of the pairs'
        )
        return ()
    if 1 < len(listed) < n_pairs:
        probe.reader.findings.note(
            f'{probe.file.name}: {key} lists {len(listed)} values for {n_pairs} pairs; the pairs '
            'are taken to run through the list again and again'
        )
    _add_time(probe, key, name, tuple(dict.fromkeys(times[index] for index in used)))
    return times


def _add_time(probe: Probe, key: str, name: str, values: Sequence[float]) -> None:
    """Add times to the constants table, numbered where there are several."""
    for number, value in enumerate(values, start=1):
        probe.reader.findings.value(
            DataValue(
                name=f'{name}_{number}' if len(values) > 1 else name,
                value=value,
                unit='s',
                origin=probe.origins[key],
                overruled=probe.overruled.get(key, ''),
            )
        )


def _check_delays(
    probe: Probe,
    labeling: str,
    timing: tuple[tuple[float, ...], tuple[float, ...], tuple[str, ...]],
    calibration: M0Image | None,
) -> None:
    """Check that pairs have one delay, and that there is a model for what there is."""
    delays, durations, context = timing
    for pair in pairs_of(context):
        if len({(delays[index], durations[index]) for index in pair}) > 1:
            volumes = ' and '.join(str(index + 1) for index in pair)
            probe.fail(
                f'{probe.file.name}: control and label of a pair (volumes {volumes}) have '
                'different delays'
            )
            return
    _, table = distinct_delays(delays, durations, context)
    wanted = probe.reader.settings.perfusion.model
    if labeling in CUT_OFFS.values():
        _check_cut(probe, table)
    if len(table) == 1:
        if wanted not in (None, 'single-delay'):
            probe.fail(f'{probe.file.name}: perfusion.model {wanted} needs two delays or more')
        return
    if wanted == 'multi-delay-arterial' and len(table) < DELAYS_FOR_ARTERIES:
        probe.fail(
            f'{probe.file.name}: perfusion.model multi-delay-arterial needs '
            f'{DELAYS_FOR_ARTERIES} delays or more, got {len(table)}; set multi-delay'
        )
        return
    probe.reader.findings.note(f'{probe.file.name}: {describe_delays(delays, durations, context)}')
    if wanted == 'single-delay':
        probe.reader.findings.note(
            f'{probe.file.name}: perfusion.model is single-delay: only the pairs of the longest '
            f'delay ({table[-1][0]:g} s) are used'
        )
    else:
        _refuse_several_delays(probe, labeling, calibration)


def _check_cut(probe: Probe, table: Sequence[tuple[float, float]]) -> None:
    """Check that the bolus is cut before the last readout; earlier ones see it uncut."""
    (last, cut), early = table[-1], [delay for delay, cut in table if delay <= cut]
    if last <= cut:
        probe.fail(
            f'{probe.file.name}: the end of the bolus at {cut:g} s (BolusCutOffDelayTime, or '
            f'perfusion.bolus_duration) is not before the readout at {last:g} s '
            '(PostLabelingDelay, of PASL from the inversion on)'
        )
    elif early:
        listed = ', '.join(f'{delay:g}' for delay in early)
        probe.reader.findings.note(
            f'{probe.file.name}: at {listed} s the bolus is not cut yet ({cut:g} s); the model '
            'takes what has arrived by then'
        )


def _refuse_several_delays(probe: Probe, labeling: str, calibration: M0Image | None) -> None:
    """Say why several delays cannot be fitted, where they cannot."""
    if labeling not in ('continuous', 'pulsed'):
        probe.fail(
            f'{probe.file.name}: several delays of a bolus that is {labeling} do not follow the '
            'general kinetic model (QUIPSS saturates the label that has arrived); set '
            'perfusion.model single-delay'
        )
    if calibration is not None and calibration.kind == 'Absent':
        probe.fail(
            f'{probe.file.name}: several delays need M0: how fast label leaves the tissue '
            'depends on absolute CBF; give an M0 or set perfusion.model single-delay'
        )


def _suppression(probe: Probe) -> tuple[bool, float]:
    """Read background suppression: whether, and the signal its pulses keep."""
    setting = probe.reader.settings.perfusion.background_suppression_factor
    declared = probe.flag('BackgroundSuppression')
    pulses = probe.number('BackgroundSuppressionNumberPulses')
    if probe.metadata.get('BackgroundSuppression') is None and setting is None:
        probe.require('BackgroundSuppression', 'write true or false')
        return False, 1.0
    if declared and pulses is None and setting is None:
        probe.lack('BackgroundSuppressionNumberPulses')
        probe.fail(
            f'{probe.file.name}: background suppression is declared but the number of pulses is '
            'not; add BackgroundSuppressionNumberPulses, or give the signal they keep with '
            'perfusion.background_suppression_factor'
        )
        return True, 1.0
    default, origin = 1.0, 'no background suppression'
    if declared and pulses is not None:
        default = SUPPRESSION_PER_PULSE**pulses
        origin = f'default, {SUPPRESSION_PER_PULSE} for each of {pulses:g} pulses'
    name = 'perfusion.background_suppression_factor'
    chosen = choose(name, '1', [(setting, 'setting'), (default, origin)])
    if chosen is None:
        return bool(declared), 1.0
    probe.reader.findings.value(chosen)
    return bool(declared), chosen.value


def _check_pairs(probe: Probe, context: Sequence[str]) -> None:
    """Check that there is one kind of pairs; say where the table contradicts the sidecar."""
    if 'control' in context and 'deltam' in context:
        probe.fail(
            f'{probe.file.name}: its aslcontext.tsv lists pairs of control and label as well as '
            'deltam; write n/a for those that are not to be used'
        )
        return
    n_pairs = len(pairs_of(context))
    stated = probe.metadata.get('TotalAcquiredPairs')
    if is_number(stated) and n_pairs and stated != n_pairs:
        probe.reader.findings.note(
            f'{probe.file.name}: TotalAcquiredPairs is {stated}, its aslcontext.tsv lists '
            f'{n_pairs} pairs; the table is used'
        )
    if n_pairs == 1:
        probe.reader.findings.note(
            f'{probe.file.name}: one pair only; its noise cannot be told from anatomy, so the '
            'variance of CBF is an upper bound'
        )
