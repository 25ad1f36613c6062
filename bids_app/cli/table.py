"""Command line of published tables: `oxybold-table TABLE --effect COLUMN --bold COLUMN ...`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_app import __version__
from bids_app.errors import AppError, ExitCode, ModelInputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from bids_app._typing import FloatArray


def make_parser() -> argparse.ArgumentParser:
    """Make the parser."""
    parser = argparse.ArgumentParser(
        prog='oxybold-table',
        description='Estimate what share of oxygen metabolism opposes BOLD from a table of '
        'voxels, with one common offset after the other subtracted. Writes a table and a page.',
    )
    parser.add_argument('table', metavar='TABLE', type=Path, help='CSV or TSV, one row per voxel')
    parser.add_argument('--bold', required=True, metavar='COLUMN', help='BOLD change; its sign')
    parser.add_argument(
        '--effect', required=True, metavar='COLUMN', help='change of CMRO2, percent of baseline'
    )
    error = parser.add_mutually_exclusive_group(required=True)
    error.add_argument('--se', metavar='COLUMN', help='standard error of the change')
    error.add_argument('--t', metavar='COLUMN', help='t of the change')
    error.add_argument(
        '--assumed-se', type=float, metavar='PERCENT', help='one error for all, if none is known'
    )
    parser.add_argument(
        '--smallest',
        type=float,
        default=1.0,
        metavar='PERCENT',
        help='smallest of interest',
    )
    parser.add_argument('--mask', type=Path, help='image whose voxels are the rows, in its order')
    parser.add_argument(
        '--block', type=float, default=18.0, metavar='MM', help='width of blocks of noise'
    )
    parser.add_argument('--out', type=Path, default=Path('oxybold-table'), help='of the two files')
    parser.add_argument('--version', action='version', version=f'oxybold {__version__}')
    return parser


def run(argv: Sequence[str] | None = None) -> int:
    """Run the command; give its exit code."""
    arguments = make_parser().parse_args(argv)
    try:
        sys.stdout.write(analyse(arguments) + '\n')
    except (AppError, OSError) as error:
        sys.stderr.write(f'oxybold-table: {error}\n')
        return int(ExitCode.BAD_INPUT)
    return 0


def analyse(arguments: argparse.Namespace) -> str:
    """Read the table, estimate, and write both files; give what was found in words."""
    import numpy as np
    import pandas as pd

    from bids_app.models.concordance.offset import offset_curve

    table = pd.read_csv(arguments.table, sep=None, engine='python', compression='infer')
    bold, effect = (_column(table, name) for name in (arguments.bold, arguments.effect))
    error = _error(table, arguments, effect)
    points = list(
        offset_curve(
            effect,
            error,
            bold,
            np.full(effect.shape, 100.0),
            smallest_effect=arguments.smallest,
            blocks=_blocks(arguments, effect.size),
        )
    )
    rows = [
        {
            'offset': 100 * point.offset,
            'bold': point.bold,
            'n_voxels': point.found.n_used,
            'sign_fraction': point.found.sign_fraction,
            'noise_only': point.found.noise_only_fraction,
            **{
                f'{name}{end}': getattr(share, field)
                for name, share in (('w_d', point.found.size), ('pi_d', point.found.count))
                for end, field in (('', 'value'), ('_low', 'low'), ('_high', 'high'))
            },
            'note': point.found.reason,
        }
        for point in points
    ]
    found = pd.DataFrame(rows)
    found.to_csv(arguments.out.with_suffix('.tsv'), sep='\t', index=False, na_rep='n/a')
    arguments.out.with_suffix('.html').write_text(_page(arguments, rows), 'utf-8')
    return pd.DataFrame(_in_words(row) for row in rows if row['offset'] == 0).to_string(
        index=False
    )


def _in_words(row: Mapping[str, Any]) -> dict[str, str]:
    """Write the shares of a row with their intervals."""
    from bids_app.reports.text import percent, with_interval

    ends = ('', '_low', '_high')
    return {
        'BOLD': row['bold'],
        'voxels': f'{row["n_voxels"]}',
        'sign rule': percent(row['sign_fraction']),
        'noise only': percent(row['noise_only']),
        **{
            f'{name} (%)': with_interval(*(100 * row[f'{name}{end}'] for end in ends))
            for name in ('w_d', 'pi_d')
        },
        'note': row['note'],
    }


def _column(table: pd.DataFrame, name: str) -> FloatArray:
    """Read a column as numbers."""
    import pandas as pd

    if name not in table:
        msg = f'no column {name!r}; there are: {", ".join(map(str, table.columns))}'
        raise ModelInputError(msg)
    values: FloatArray = pd.to_numeric(table[name], errors='coerce').to_numpy(float)
    return values


def _error(table: pd.DataFrame, arguments: argparse.Namespace, effect: FloatArray) -> FloatArray:
    """Find the standard errors: given, from t, or assumed."""
    import numpy as np

    if arguments.se:
        return _column(table, arguments.se)
    if arguments.t:
        t = _column(table, arguments.t)
        error: FloatArray = np.abs(effect / np.where(t == 0, np.nan, t))
        return error
    return np.full(effect.shape, float(arguments.assumed_se))


def _blocks(arguments: argparse.Namespace, size: int) -> FloatArray | None:
    """Cut the voxels of the mask into blocks; None without a mask."""
    if arguments.mask is None:
        return None
    import numpy as np

    from bids_app.images import grid_of, load_data
    from bids_app.models.concordance.ashr import spatial_blocks

    inside = load_data(arguments.mask) > 0
    if inside.sum() != size:
        msg = f'{arguments.mask} has {inside.sum()} voxels, the table {size} rows'
        raise ModelInputError(msg)
    points = np.argwhere(inside) * grid_of(arguments.mask).zooms
    return spatial_blocks(points, side=arguments.block).astype(float)


def _page(arguments: argparse.Namespace, rows: Sequence[Mapping[str, object]]) -> str:
    """Make the page: the figure of the answer."""
    from html import escape
    from importlib.resources import files

    from bids_app.reports.drawing.answer import Bound, draw_answer

    def bound(row: Mapping[str, object], name: str) -> Bound:
        value, low, high = (float(str(row[f'{name}{end}'])) for end in ('', '_low', '_high'))
        return Bound(value=value, low=low, high=high)

    at_zero = {str(row['bold']): row for row in rows if row['offset'] == 0}
    single = {'sign rule': 'sign_fraction', 'what noise alone, would show': 'noise_only'}
    rules = {
        title: {bold: Bound(value=float(str(row[name]))) for bold, row in at_zero.items()}
        for title, name in single.items()
    }
    for title, name in (('of the changes, (pi_d)', 'pi_d'), ('of the total change, (w_d)', 'w_d')):
        rules[title] = {bold: bound(row, name) for bold, row in at_zero.items()}
    curve: dict[str, list[tuple[float, Bound]]] = {}
    for row in rows:
        curve.setdefault(str(row['bold']), []).append(
            (float(str(row['offset'])), bound(row, 'w_d'))
        )
    style = files('bids_app.reports').joinpath('templates/style.css').read_text('utf-8')
    assumed = ''
    if arguments.assumed_se:
        assumed = f' One standard error of {arguments.assumed_se:g} % was assumed for all voxels.'
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<title>{escape(arguments.table.name)}</title><style>{style}</style></head><body>'
        f'<div class="frame"><h1>{escape(arguments.table.name)}</h1><p>Share opposite to BOLD, '
        f'with 95 % intervals; below, with an offset subtracted (a sensitivity).{assumed}</p>'
        f'<div class="plane-box">{draw_answer(rules, curve, None)}</div></div></body></html>\n'
    )


if __name__ == '__main__':
    sys.exit(run())
