"""Command line for planning: `oxybold-power --participants 20 40 --error 21 10`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bids_app import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

REFERENCE_ERROR = 21.0
"""Of one participant, percent of baseline: 3.5 % at 37 participants, as in the public table."""


def make_parser() -> argparse.ArgumentParser:
    """Make the parser."""
    parser = argparse.ArgumentParser(
        prog='oxybold-power',
        description='Say how well a planned study would know what share of oxygen metabolism '
        'opposes BOLD, by simulating it and analysing it as the group level does. All numbers '
        'are percent of the baseline CMRO2.',
    )
    add = parser.add_argument
    add('--participants', type=int, nargs='+', default=[10, 20, 40], metavar='N')
    add(
        '--error',
        type=float,
        nargs='+',
        default=[REFERENCE_ERROR],
        metavar='PERCENT',
        help='standard error of the CMRO2 change of one participant in a voxel '
        f'(default: {REFERENCE_ERROR:g}); falls as 1 / sqrt(minutes of ASL) and as 1 / volume',
    )
    add('--minutes', type=float, default=1.0, metavar='FACTOR', help='of ASL, times as many')
    add('--volume', type=float, default=1.0, metavar='FACTOR', help='of the voxel, times as large')
    add('--effect', type=float, default=4.0, metavar='PERCENT', help='mean size of true changes')
    add('--between', type=float, default=5.0, metavar='PERCENT', help='SD between participants')
    add('--discordant', type=float, nargs='+', default=[0.0, 0.4], metavar='SHARE', help='truths')
    add('--offset', type=float, default=0.0, metavar='PERCENT', help='common to all voxels')
    add('--fwhm', type=float, default=2.5, metavar='VOXELS', help='width of the noise')
    add('--smallest', type=float, default=1.0, metavar='PERCENT', help='smallest of interest')
    add('--threshold', type=float, default=0.25, metavar='SHARE', help='to decide about')
    add('--studies', type=int, default=10, help='simulated for each line')
    add('--seed', type=int, default=0)
    add('--out', type=Path, help='write the table here too')
    add('--version', action='version', version=f'oxybold {__version__}')
    return parser


def run(argv: Sequence[str] | None = None) -> int:
    """Run the command; give its exit code."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    if min(arguments.participants) < 2 or arguments.studies < 1:
        parser.error('at least 2 participants and 1 study expected')
    if min(*arguments.error, arguments.minutes, arguments.volume, arguments.fwhm) <= 0:
        parser.error('errors, factors and the width of the noise must be positive')
    if not all(0 <= share <= 1 for share in arguments.discordant):
        parser.error('--discordant must lie in 0 to 1')
    import pandas as pd

    from bids_app.group.power import Plan, power_of

    rows = []
    gain = arguments.minutes**0.5 * arguments.volume
    for discordant in arguments.discordant:
        for error in arguments.error:
            for n in arguments.participants:
                plan = Plan(
                    participants=n,
                    error=error / gain,
                    between=arguments.between,
                    effect=arguments.effect,
                    discordant=discordant,
                    offset=arguments.offset,
                    fwhm=arguments.fwhm,
                    smallest=arguments.smallest,
                )
                found = power_of(
                    plan,
                    studies=arguments.studies,
                    threshold=arguments.threshold,
                    seed=arguments.seed,
                )
                rows.append(
                    {
                        'discordant': discordant,
                        'error': plan.error,
                        'participants': n,
                        'group_error': (plan.error**2 + plan.between**2) ** 0.5 / n**0.5,
                        'studies': found.studies,
                        'withheld': found.withheld,
                        'width': found.width,
                        'decided': found.decided,
                        'covered': found.covered,
                    }
                )
    table = pd.DataFrame(rows)
    if arguments.out:
        table.to_csv(arguments.out, sep='\t', index=False, na_rep='n/a', float_format='%.4g')
    sys.stdout.write(table.to_string(index=False, float_format='{:.2f}'.format) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(run())
