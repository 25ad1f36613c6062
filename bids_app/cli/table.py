"""Command line of published tables: `oxybold-table TABLE --effect COLUMN --bold COLUMN ...`."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_app import __version__
from bids_app.errors import AppError, ExitCode, ModelInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bids_app._typing import BoolArray, FloatArray, IntArray
    from bids_app.models.concordance.offset import OffsetPoint

ASSUMED_SCALES = (0.7, 0.85, 1.0, 1.15, 1.3)
"""What an assumed error is multiplied by, to show what hangs on it."""


def make_parser() -> argparse.ArgumentParser:
    """Make the parser."""
    parser = argparse.ArgumentParser(
        prog='oxybold-table',
        description='Estimate what share of oxygen metabolism opposes BOLD from a table of '
        'voxels or from maps, with one common offset after the other subtracted. Writes tables '
        'and a page.',
    )
    parser.add_argument(
        'table',
        metavar='TABLE',
        type=Path,
        nargs='?',
        help='CSV or TSV, one row per voxel; without it every COLUMN is an image',
    )
    parser.add_argument('--bold', required=True, metavar='COLUMN', help='BOLD change; its sign')
    parser.add_argument('--effect', metavar='COLUMN', help='CMRO2 change, percent of baseline')
    error = parser.add_mutually_exclusive_group()
    error.add_argument('--se', metavar='COLUMN', help='standard error of the change')
    error.add_argument('--t', metavar='COLUMN', help='t of the change')
    error.add_argument('--p', metavar='COLUMN', help='two-sided p of the change; t test with --n')
    error.add_argument('--sd', metavar='COLUMN', help='between participants; needs --n')
    error.add_argument(
        '--assumed-se', type=float, metavar='PERCENT', help='one error for all, if none is known'
    )
    parser.add_argument('--n', metavar='NUMBER', help='participants: a number or a COLUMN')
    parser.add_argument(
        '--median', action='store_true', help='the changes are medians over participants (--sd)'
    )
    parser.add_argument(
        '--agree', metavar='COLUMN', help='participants whose signs agree; needs --n'
    )
    parser.add_argument(
        '--smallest', type=float, default=1.0, metavar='PERCENT', help='smallest of interest'
    )
    parser.add_argument('--mask', type=Path, help='image whose voxels are the rows, in its order')
    parser.add_argument(
        '--block', type=float, default=18.0, metavar='MM', help='width of blocks of noise'
    )
    parser.add_argument('--out', type=Path, default=Path('oxybold-table'), help='of the files')
    parser.add_argument('--version', action='version', version=f'oxybold {__version__}')
    return parser


def run(argv: list[str] | None = None) -> int:
    """Run the command; give its exit code."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    if not arguments.effect and not arguments.agree:
        parser.error('--effect or --agree expected')
    given = (arguments.se, arguments.t, arguments.p, arguments.sd, arguments.assumed_se)
    if arguments.effect and not any(given):
        parser.error('--effect needs one of --se, --t, --p, --sd, --assumed-se')
    if (arguments.sd or arguments.agree) and not arguments.n:
        parser.error('--sd and --agree need --n')
    try:
        sys.stdout.write(analyse(arguments) + '\n')
    except (AppError, OSError) as error:
        sys.stderr.write(f'oxybold-table: {error}\n')
        return int(ExitCode.BAD_INPUT)
    return 0


@dataclass(frozen=True, slots=True, eq=False)
class _Source:
    """Columns of a table, or images within a mask."""

    read: Callable[[str], FloatArray]
    points: FloatArray | None
    """Places of the voxels, mm; None where they are not known."""

    def participants(self, given: str | None) -> FloatArray | float:
        """Read the number of participants; infinite where it is not given."""
        if given is None:
            return float('inf')
        try:
            return float(given)
        except ValueError:
            return self.read(given)


def analyse(arguments: argparse.Namespace) -> str:
    """Read, estimate, and write the files; give what was found in words."""
    import pandas as pd

    from bids_app.reports.published_table import published_page

    source = _images(arguments) if arguments.table is None else _table(arguments)
    bold, n = source.read(arguments.bold), source.participants(arguments.n)
    frames = {
        '': pd.DataFrame(_curve(arguments, source, bold, n) if arguments.effect else ()),
        '_error': pd.DataFrame(
            _errors(arguments, source, bold, n) if arguments.assumed_se else ()
        ),
        '_counts': pd.DataFrame(_counts(arguments, source, bold, n) if arguments.agree else ()),
    }
    name = (arguments.table or Path(arguments.effect or arguments.agree)).name
    out = arguments.out
    for part, frame in frames.items():
        if len(frame):
            path = out.with_name(f'{out.name}{part}.tsv')
            frame.to_csv(path, sep='\t', index=False, na_rep='n/a')
    page = published_page(name, *frames.values(), assumed=arguments.assumed_se)
    out.with_name(f'{out.name}.html').write_text(page, 'utf-8')
    if not len(frames['']):
        return str(frames['_counts'].to_string(index=False, float_format='{:.2f}'.format))
    lines = frames[''][frames[''].offset == 0].to_dict('records')
    return str(pd.DataFrame(_in_words(line) for line in lines).to_string(index=False))


def _in_words(line: Mapping[Any, Any]) -> dict[str, str]:
    """Write the shares of a line with their intervals."""
    from bids_app.reports.text import percent, with_interval

    ends = ('', '_low', '_high')
    shares = {'sign rule': 'sign_fraction', 'noise only': 'noise_only', 't test': 't_test'}
    return {
        'BOLD': str(line['bold']),
        'voxels': f'{line["n_voxels"]}',
        **{title: percent(line[name]) for title, name in shares.items() if name in line},
        **{
            f'{name} (%)': with_interval(*(100 * line[f'{name}{end}'] for end in ends))
            for name in ('w_d', 'pi_d')
        },
        **({'note': line['note']} if line['note'] else {}),
    }


# --- reading --------------------------------------------------------------------------------


def _table(arguments: argparse.Namespace) -> _Source:
    """Read columns of a table."""
    import numpy as np
    import pandas as pd

    table = pd.read_csv(arguments.table, sep=None, engine='python', compression='infer')

    def read(name: str) -> FloatArray:
        if name not in table:
            msg = f'no column {name!r}; there are: {", ".join(map(str, table.columns))}'
            raise ModelInputError(msg)
        values: FloatArray = pd.to_numeric(table[name], errors='coerce').to_numpy(float)
        return values

    if arguments.mask is None:
        return _Source(read, None)
    from bids_app.images import grid_of, load_data

    inside = load_data(arguments.mask) > 0
    if inside.sum() != len(table):
        msg = f'{arguments.mask} has {inside.sum()} voxels, the table {len(table)} rows'
        raise ModelInputError(msg)
    return _Source(read, np.argwhere(inside) * grid_of(arguments.mask).zooms)


def _images(arguments: argparse.Namespace) -> _Source:
    """Read images within a mask; without one, where BOLD and the change are there and not 0."""
    import numpy as np

    from bids_app.images import check_same_grid, grid_of, load_data

    grid = grid_of(arguments.bold)

    def whole(name: str | Path) -> FloatArray:
        check_same_grid([arguments.bold, name])
        values: FloatArray = np.asarray(load_data(name), float)
        return values

    if arguments.mask is None:
        pair = [whole(name) for name in (arguments.bold, arguments.effect) if name]
        inside = np.all([np.isfinite(one) & (one != 0) for one in pair], axis=0)
    else:
        inside = whole(arguments.mask) > 0
    return _Source(lambda name: whole(name)[inside], np.argwhere(inside) * grid.zooms)


def _blocks(arguments: argparse.Namespace, source: _Source) -> IntArray | None:
    """Cut the voxels into blocks; None where their places are not known."""
    from bids_app.models.concordance.ashr import spatial_blocks

    if source.points is None:
        return None
    return spatial_blocks(source.points, side=arguments.block)


def _error(
    arguments: argparse.Namespace, source: _Source, effect: FloatArray, n: FloatArray | float
) -> FloatArray:
    """Find the standard errors: given, from t, p or the spread, or assumed."""
    import numpy as np

    from bids_app.models.concordance.published_errors import (
        error_from_p,
        error_from_spread,
        error_from_t,
    )

    if arguments.se:
        return source.read(arguments.se)
    if arguments.t:
        return error_from_t(effect, source.read(arguments.t))
    if arguments.p:
        return error_from_p(effect, source.read(arguments.p), n=n)
    if arguments.sd:
        return error_from_spread(source.read(arguments.sd), n, of_median=arguments.median)
    return np.full(effect.shape, float(arguments.assumed_se))


# --- estimating -----------------------------------------------------------------------------


def _curve(
    arguments: argparse.Namespace, source: _Source, bold: FloatArray, n: FloatArray | float
) -> Iterator[dict[str, object]]:
    """Estimate all shares with one offset after the other subtracted."""
    effect = source.read(arguments.effect)
    error = _error(arguments, source, effect, n)
    for point in _points(arguments, source, bold, error):
        row = point.as_row() | {'noise_only': point.found.noise_only_fraction}
        if not arguments.assumed_se:  # else no t is known
            row |= _t_test((effect - 100 * point.offset) / error, bold, point.bold, n)
        yield row


def _points(
    arguments: argparse.Namespace,
    source: _Source,
    bold: FloatArray,
    error: FloatArray,
    offsets: Sequence[float] | None = None,
) -> Iterator[OffsetPoint]:
    """Estimate all shares of the table, in percent of baseline, with these errors."""
    import numpy as np

    from bids_app.models.concordance.offset import offset_curve
    from bids_app.models.constants import OFFSETS

    effect = source.read(arguments.effect)
    return offset_curve(
        effect,
        error,
        bold,
        np.full(effect.shape, 100.0),
        smallest_effect=arguments.smallest,
        blocks=_blocks(arguments, source),
        offsets=OFFSETS if offsets is None else offsets,
    )


def _t_test(t: FloatArray, bold: FloatArray, sign: str, n: FloatArray | float) -> dict[str, float]:
    """Count by the t test rule at a false discovery rate of 5 %."""
    import numpy as np

    from bids_app.models.concordance.labels import gate_by_probability
    from bids_app.models.concordance.offset import SIGNS
    from bids_app.models.contrast.difference import p_value

    wanted = dict(SIGNS)[sign]
    family: BoolArray = np.isfinite(t) & (bold != 0)
    p = p_value(t, np.asarray(n, float) - 1)
    decided = gate_by_probability(p, q=0.05, mask=family)
    here = family if wanted == 0 else family & (np.sign(bold) == wanted)
    decided &= here
    opposed = decided & (t * bold < 0)
    return {
        't_test_decided': float(decided.sum() / here.sum()) if here.any() else float('nan'),
        't_test': float(opposed.sum() / decided.sum()) if decided.any() else float('nan'),
    }


def _errors(
    arguments: argparse.Namespace, source: _Source, bold: FloatArray, n: FloatArray | float
) -> Iterator[dict[str, object]]:
    """Estimate the shares without an offset, with other errors than the assumed one."""
    error = _error(arguments, source, source.read(arguments.effect), n)
    for scale in ASSUMED_SCALES:
        for point in _points(arguments, source, bold, scale * error, offsets=(0.0,)):
            yield {'assumed_se': scale * arguments.assumed_se} | point.as_row()


def _counts(
    arguments: argparse.Namespace, source: _Source, bold: FloatArray, n: FloatArray | float
) -> Iterator[dict[str, object]]:
    """Find the population share behind counts of agreeing signs."""
    import numpy as np

    from bids_app.models.concordance.offset import SIGNS
    from bids_app.models.concordance.sign_counts import deconvolve_counts

    agree = source.read(arguments.agree)
    total = np.broadcast_to(np.asarray(n, float), agree.shape)
    known = np.isfinite(agree) & np.isfinite(total) & (bold != 0)
    for name, wanted in SIGNS:
        here = known if wanted == 0 else known & (np.sign(bold) == wanted)
        if here.any():
            found = deconvolve_counts(total[here], agree[here])
            yield {
                'bold': name,
                'n_voxels': found.n_voxels,
                'below_45_percent': found.below(0.45),
                'above_55_percent': found.above(0.55),
                'spread': found.spread,
                'chance_spread': found.chance_spread,
            }


if __name__ == '__main__':
    sys.exit(run())
