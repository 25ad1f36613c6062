"""Command line of the phantom: `oxybold-phantom OUT --participants N ...`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bids_app import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE_ERROR = 64
"""Exit code of a command that cannot be carried out."""

CANNOT_CREATE = 73
"""Exit code where the study cannot be written."""


def make_parser() -> argparse.ArgumentParser:
    """Make the parser."""
    parser = argparse.ArgumentParser(
        prog='oxybold-phantom',
        description='Make a digital study of oxygen metabolism in raw BIDS, with the truth in '
        'derivatives/truth. The same arguments give the same bytes.',
    )
    parser.add_argument('out', metavar='OUT', type=Path, help='new or empty folder')
    parser.add_argument(
        '--participants', type=int, default=3, metavar='N', help='how many (default: 3)'
    )
    parser.add_argument(
        '--conditions',
        metavar='A,B',
        help='labels with commas; control, else rest, else the first is the baseline '
        '(default: control,calc; with --layout ds004873 rest,control,mem,calc; with --design '
        'patients rest)',
    )
    parser.add_argument('--seed', type=int, default=0, metavar='S', help='default: 0')
    parser.add_argument(
        '--grid',
        default='coarse',
        metavar='{tiny,coarse,study}',
        help='tiny: slab of 12 x 12 x 6 voxels; coarse: whole head in 4 mm voxels (default); '
        'study: voxels of the target study',
    )
    parser.add_argument(
        '--background-field',
        choices=('mild', 'strong'),
        default='mild',
        help='gradients of the static field in the head (default: mild)',
    )
    parser.add_argument(
        '--dsc-defect',
        metavar='NAME',
        help='spoil the DSC series: no-bolus, early-bolus, truncated, clipped, one-sided, motion, '
        'negative, saturated-arteries; or give it arteries (arteries), which no other phantom has',
    )
    parser.add_argument(
        '--design',
        choices=('tasks', 'patients', 'gases'),
        default='tasks',
        help='patients: a study at rest; the second half are patients with a higher OEF in a '
        'territory of the left hemisphere, and older; gases: one dual-echo ASL in which '
        'hypercapnia, hyperoxia and a task run, with a recording of the gases, and no other scan '
        '(default: tasks)',
    )
    parser.add_argument(
        '--either-side',
        action='store_true',
        help='with --design patients: the territory of every second patient is on the right; '
        'affected_side of participants.tsv says whose',
    )
    parser.add_argument(
        '--redundant-sets',
        action='store_true',
        help='write the gradient echoes as real and imaginary parts too, and with them sets of '
        'half and a quarter of the lines, 1 ms later (acq-fullres, acq-MoCoHR, acq-MoCoQR)',
    )
    parser.add_argument(
        '--layout',
        default='bids',
        metavar='{bids,ds004873}',
        help='ds004873: file names and sidecars of that dataset, not BIDS, with redundant sets',
    )
    parser.add_argument(
        '--distort-epi',
        action='store_true',
        help='displace BOLD, ASL and DSC along the phase encoding by the static field, and say '
        'how in their sidecars',
    )
    parser.add_argument(
        '--asymmetric-spin-echo',
        action='store_true',
        help='write an asymmetric spin echo of every condition too (anat/*_ASE, 4D, with '
        'SpinEchoDisplacement in the sidecar), from which OEF follows without contrast agent',
    )
    parser.add_argument(
        '--bold-echoes',
        action='store_true',
        help='write the task run as three echoes (13, 30 and 47 ms) instead of one',
    )
    parser.add_argument(
        '--movement',
        type=float,
        default=1.0,
        metavar='SD',
        help='how far the head moves between two scans: SD per axis in mm and in degrees '
        '(default: 1)',
    )
    parser.add_argument(
        '--noise',
        choices=('white', 'physiological'),
        default='white',
        help='of ASL, BOLD and DSC series; physiological: partly 1/f and shared by all voxels, '
        'heavy-tailed, of another size in every voxel (default: white)',
    )
    parser.add_argument(
        '--coils',
        type=int,
        default=1,
        metavar='N',
        help='coils whose magnitudes MESE and MEGRE join by the root of the sum of squares '
        '(default: 1)',
    )
    parser.add_argument(
        '--soft-edges',
        type=float,
        default=0.0,
        metavar='PART',
        help='part of the slice thickness over which the profile of the gradient echoes falls to '
        'zero on each side (default: 0, a box)',
    )
    parser.add_argument(
        '--readout',
        choices=('box', 'fourier'),
        default='box',
        help='box: a voxel is the average over its volume; fourier: it is what k-space of the '
        "scan's size holds, with ringing, signal that gradients in plane move out of it, and in "
        'echo-planar images the decay while the lines are read (default: box)',
    )
    parser.add_argument(
        '--refocusing',
        type=_refocusing,
        metavar='{slab,TIMES}',
        help='MESE with pulses that turn less than asked for, in a transmit field of 0.8 to 1.15: '
        'TIMES (1 to 3) is the thickness of the refocusing pulse over the slice (2D); slab: one '
        'angle across (3D) (default: perfect pulses)',
    )
    parser.add_argument(
        '--scale-error',
        type=float,
        default=0.0,
        metavar='SD',
        help='relative SD of an unknown factor of every label-control difference (default: 0)',
    )
    parser.add_argument(
        '--concordant',
        action='store_true',
        help='metabolism follows BOLD everywhere (default: it opposes it in two of four regions)',
    )
    parser.add_argument('--version', action='version', version=f'%(prog)s {__version__}')
    return parser


def _refocusing(text: str) -> float:
    """Read the thickness of a refocusing pulse; a slab has none."""
    return float('inf') if text == 'slab' else float(text)


def main(argv: Sequence[str] | None = None) -> int:
    """
    Make a study.

    Give the exit code: 0 done, 64 wrong arguments, 73 cannot write.
    """
    try:
        args = make_parser().parse_args(argv)
    except SystemExit as leaving:
        return USAGE_ERROR if leaving.code else 0
    from bids_app.phantom.layouts import CONDITIONS
    from bids_app.phantom.study import PhantomStudy, make_study

    wanted = (
        args.conditions.split(',')
        if args.conditions
        else ('rest',) if args.design == 'patients'
        else CONDITIONS.get(args.layout, CONDITIONS['bids'])
    )  # fmt: skip
    study = PhantomStudy(
        root=args.out,
        n_participants=args.participants,
        conditions=tuple(name.strip() for name in wanted),
        seed=args.seed,
        grid=args.grid,
        background=args.background_field,
        dsc_defect=args.dsc_defect,
        redundant_sets=args.redundant_sets,
        layout=args.layout,
        design=args.design,
        either_side=args.either_side,
        distorted=args.distort_epi,
        asymmetric_spin_echo=args.asymmetric_spin_echo,
        bold_echoes=args.bold_echoes,
        movement=args.movement,
        noise=args.noise,
        coils=args.coils,
        soft_edges=args.soft_edges,
        readout=args.readout,
        refocusing=args.refocusing,
        scale_error=args.scale_error,
        concordant=args.concordant,
    )
    started = time.monotonic()
    try:
        for label in make_study(study):
            _say(f'sub-{label} written ({time.monotonic() - started:.0f} s)')
    except ValueError as error:
        _say(f'oxybold-phantom: {error}')
        return USAGE_ERROR
    except OSError as error:
        _say(f'oxybold-phantom: {args.out} cannot be written: {error}')
        return CANNOT_CREATE
    _say(f'{args.out}: {args.participants} participants, truth in derivatives/truth')
    if args.layout == 'bids':
        _say(f'next: {next_command(args.out, args.grid, args.design)}')
    return 0


def next_command(root: Path, grid: str, design: str = 'tasks') -> str:
    """Write the command that computes a study; a slab needs its anatomy handed over."""
    command = f'oxybold {root} {root.with_name(f"{root.name}-results")} participant'
    if grid == 'tiny':
        command += f' -d fmriprep={root}/derivatives/fmriprep --registration header'
    if design == 'gases':
        command += ' --hypercapnia hypercapnia --hyperoxia hyperoxia --set change.route=davis'
    return command


def _say(text: str) -> None:
    """Write a line for the user."""
    sys.stderr.write(f'{text}\n')


def run() -> None:
    """Entry point of the installed command."""
    sys.exit(main())


if __name__ == '__main__':
    run()
