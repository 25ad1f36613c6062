"""Numbers, units, contrasts and codes as people write them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_app.reports.derivatives import to_number
from bids_app.reports.report_table import report_table

if TYPE_CHECKING:
    from bids_app._typing import FloatArray
    from bids_app.reports.derivatives import Derivative


def cell(text: str) -> str:
    """
    Write the cell of a table: numbers with three digits, words for names, nothing for n/a.

    Examples
    --------
    >>> cell('0.123456'), cell('n/a'), cell('ratio_of_means'), cell('true'), cell('12')
    ('0.123', '', 'ratio of means', 'yes', '12')
    """
    if text in ('n/a', ''):
        return ''
    value = to_number(text)
    if not np.isnan(value):
        return text if text.isdigit() else number(value)
    words = {'true': 'yes', 'false': 'no', **report_table().words}
    if re.fullmatch(r'[a-z0-9]+(_[a-z0-9]+)+', text):
        text = words.get(text, text.replace('_', ' '))
    return SCAN.sub(lambda found: found[0].upper(), words.get(text, text))


SCAN = re.compile(r'^(mese|megre|ase|asl|dsc|bold)(?=$| )')
"""Kind of a scan at the start of its name."""


def in_words(code: str) -> str:
    """
    Write a code of the atlas or a column for readers.

    Examples
    --------
    >>> in_words('SomMot'), in_words('cbf_change'), in_words('repetition_time')
    ('Somatomotor', 'CBF change', 'repetition time')
    """
    quantities = {'cbf', 'cbv', 'oef', 'cmro2', 'bold'}
    parts = [part.upper() if part in quantities else part for part in code.split('_')]
    return report_table().words.get(code, ' '.join(parts))


def contrast_text(file: Derivative) -> str:
    """Say what is compared, from the sidecar; without one, from the label of the name."""
    if 'column' in file.entities:
        of = [file.entities[name] for name in ('contrast', 'condition') if name in file.entities]
        return ': '.join([*map(contrast_words, of), str(file.sidecar.get('Column', ''))])
    about = file.sidecar.get('Contrast')
    if isinstance(about, dict) and {'Task', 'Baseline'} <= about.keys():
        return f'{about["Task"]} minus {about["Baseline"]}'
    return contrast_words(file.entities.get('contrast', ''))


SIDES = {'Unaffected': 'Affected', 'Right': 'Left'}
"""Hemispheres at the end of the label of a contrast: the other one -> the one."""


def contrast_words(label: str) -> str:
    """
    Write the label of a contrast in words; other labels stay.

    Examples
    --------
    >>> contrast_words('calcMinusControl'), contrast_words('calc')
    ('calc minus control', 'calc')
    >>> contrast_words('restAffectedMinusUnaffected')
    'rest affected minus unaffected'
    """
    task, minus, baseline = label.partition('Minus')
    if (task[:1].lower() + task[1:]).endswith(side := SIDES.get(baseline, '?')):
        task = f'{task.removesuffix(side)} {side.lower()}'
    return f'{task} minus {baseline[:1].lower()}{baseline[1:]}' if minus else label


def map_title(name: Any) -> str:
    """
    Give the title of a map by its name in the run summary; other names stay.

    Examples
    --------
    >>> map_title('T2star'), map_title('change_cbf'), map_title('anatomy')
    ('T2*', 'CBF change', 'anatomy')
    """
    titles = {}
    for row in report_table().figures:
        if row.kind == 'map':
            titles[row.quantity] = row.title
        elif row.kind == 'change':
            prefix = '' if row.quantity.startswith('bold') else 'change_'
            titles[f'{prefix}{row.quantity}'] = row.title
    return titles.get(str(name), str(name))


def range_text(values: FloatArray, unit: str) -> str:
    """Say in words what a map holds."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return 'No voxel has an estimate.'
    low, middle, high = np.percentile(finite, (5, 50, 95))
    return (
        f'Median {number(middle)}, 90 percent of the voxels between {number(low)} and '
        f'{number(high)} {unit}'.rstrip()
        + '.'
    )


SUPERSCRIPTS = str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹')
"""Characters of an exponent, raised."""


def number(value: float) -> str:
    """
    Write a number with three significant digits.

    Examples
    --------
    >>> number(43.5678), number(float('nan')), number(-0.0012345), number(-4.5e-5)
    ('43.6', 'no estimate', '−0.00123', '−4.5 × 10⁻⁵')
    """
    if not np.isfinite(value):
        return 'no estimate'
    return raised(f'{value:.0f}' if abs(value) >= 100 else f'{value:.3g}')


def decimals_of(error: float) -> int:
    """
    Say to which decimal an error is known: two digits where it starts with 1 to 3.54, else one.

    Parameters
    ----------
    error : float
        Above zero.

    Returns
    -------
    decimals : int
        Behind the point; negative before it.

    Notes
    -----
    The rounding rule of the Particle Data Group (Review of Particle Physics, Introduction 5.3).

    Examples
    --------
    >>> decimals_of(0.761), decimals_of(0.123), decimals_of(24.5), decimals_of(0.97)
    (1, 2, 0, 1)
    """
    power = int(np.floor(np.log10(error)))
    return 1 - power if error * 10.0 ** (2 - power) < 354.5 else -power


def with_error(value: float, error: float) -> str:
    """
    Write a value and its error with as many digits as the error allows.

    Examples
    --------
    >>> with_error(-8.95, 0.761), with_error(625.0, 245.0), with_error(4.8e-6, 2e-7)
    ('−8.9 ± 0.8', '620 ± 240', '(4.80 ± 0.20) × 10⁻⁶')
    >>> with_error(43.5678, float('nan')), with_error(float('nan'), 1.0)
    ('43.6', 'no estimate')
    """
    if not (np.isfinite(value) and np.isfinite(error) and error > 0):
        return number(value)
    size = max(abs(value), error)
    if size < SMALL:
        power = int(np.floor(np.log10(size)))
        inner = with_error(value / 10.0**power, error / 10.0**power)
        return f'({inner}) × 10{str(power).translate(SUPERSCRIPTS)}'
    decimals = decimals_of(error)
    return f'{_rounded(value, decimals)} ± {_rounded(error, decimals)}'


def with_interval(value: float, low: float, high: float, unit: str = '') -> str:
    """
    Write a value and its interval with as many digits as half its width allows.

    Examples
    --------
    >>> with_interval(-8.95, -10.44, -7.46, '%'), with_interval(2.0, float('-inf'), 3.0)
    ('−8.9 % (−10.4 to −7.5)', '2 (−∞ to 3)')
    """
    unit = f' {unit}' if unit else ''
    if not np.isfinite(value):
        return number(value)
    if np.isnan(low + high):
        return f'{number(value)}{unit}'
    half = (high - low) / 2
    if not 0 < half < np.inf or max(abs(value), half) < SMALL:
        ends = (number(end) if np.isfinite(end) else f'{end:+f}'.replace('+inf', '∞')
                .replace('-inf', '−∞') for end in (low, high))  # fmt: skip
        return f'{number(value)}{unit} ({" to ".join(ends)})'
    value_text, *ends_text = (_rounded(one, decimals_of(half)) for one in (value, low, high))
    return f'{value_text}{unit} ({" to ".join(ends_text)})'


SMALL = 1e-3
"""Values below are written with a power of ten."""


def _rounded(value: float, decimals: int) -> str:
    """Write a number to a decimal; a zero has no sign."""
    return raised(f'{round(float(value), decimals) + 0.0:.{max(0, decimals)}f}')


def raised(text: str) -> str:
    """
    Write a number of a program as people do.

    Examples
    --------
    >>> raised('2.64e-07'), raised('-3')
    ('2.64 × 10⁻⁷', '−3')
    """
    mantissa, _, exponent = text.replace('-', '−').partition('e')
    if not exponent:
        return mantissa
    power = f'{int(exponent.replace("−", "-"))}'.translate(SUPERSCRIPTS)
    return f'{mantissa} × 10{power}'


def unit_text(unit: str) -> str:
    """
    Write a unit of a file, which has ASCII letters only, for readers.

    Examples
    --------
    >>> unit_text('umol/100 g/min'), unit_text('(1/s)^2'), unit_text('percent')
    ('µmol/100 g/min', '(1/s)²', '%')
    """
    if unit == 'percent':
        return '%'
    return re.sub(r'\bu(?=mol|T\b|m\b|s\b)', 'µ', unit).replace('^2', '²')


def counted(count: int, noun: str) -> str:
    """
    Write a number of things.

    Examples
    --------
    >>> counted(1, 'voxel'), counted(1200, 'voxel')
    ('1 voxel', '1,200 voxels')
    """
    return f'{count:,} {noun}' + ('' if count == 1 else 's')


def round_up(value: float) -> float:
    """
    Round a positive number up to 1, 2, 3, 5 or 7.5 times a power of ten.

    Examples
    --------
    >>> round_up(0.0231), round_up(4.2), round_up(0.0)
    (0.03, 5.0, 1.0)
    """
    if not value > 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    steps = [step for step in (1, 2, 3, 5, 7.5, 10) if step * power >= value * (1 - 1e-9)]
    return float(np.round(steps[0] * power, 12))


def percent(share: float) -> str:
    """
    Write a share as percentage.

    Examples
    --------
    >>> percent(0.0004), percent(0.123), percent(float('nan'))
    ('0.04 %', '12 %', 'no estimate')
    """
    if not np.isfinite(share):
        return 'no estimate'
    value = 100 * share
    if 0 < value < 0.01:
        return '< 0.01 %'
    return f'{value:.2g} %' if 0 < value < 10 else f'{value:.0f} %'
