"""Run the app as a user does, and put datasets together from the files of a tiny phantom."""

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nibabel as nb
import numpy as np

from bids_app.cli.main import main
from bids_app.phantom.cli import main as make_phantom

HEADER = ('--registration', 'header', '--nprocs', '1')
"""The tiny phantom does not move and has no head to register."""

FAMILIES = {
    't1w': 'anat/*_T1w.*',
    'mese': 'anat/*_MESE.*',
    'megre': 'anat/*_MEGRE.*',
    'ase': 'anat/*_ASE.*',
    'asl': 'perf/*_acq-*',
    'dsc': 'perf/*_dsc.*',
    'bold': 'func/*',
}
"""Kind of scan -> its files below the folder of a participant."""

VALUE_SUFFIXES = ('T2map', 'T2starmap', 'R2primemap', 'cbf', 'cbv', 'oef', 'cmro2')


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a command left behind on the terminal."""

    code: int
    log: str
    out: str

    @property
    def last(self) -> str:
        """Last line of the log."""
        return self.log.strip().splitlines()[-1]


def run_app(*arguments: object) -> Outcome:
    """Run the app in this process; environment and signals are as before afterwards."""
    log, out = io.StringIO(), io.StringIO()
    environment, handler = dict(os.environ), signal.getsignal(signal.SIGTERM)
    try:
        with contextlib.redirect_stderr(log), contextlib.redirect_stdout(out):
            code = main([str(argument) for argument in arguments])
    finally:
        signal.signal(signal.SIGTERM, handler)
        os.environ.clear()
        os.environ.update(environment)
    return Outcome(code=code, log=log.getvalue(), out=out.getvalue())


def command(*arguments: object) -> list[str]:
    """Command line of the app in a process of its own."""
    return [sys.executable, '-m', 'bids_app', *map(str, arguments)]


def spawn(*arguments: object, prefix: tuple[str, ...] = (), **options: object) -> Outcome:
    """Run the app in a process of its own, inside the command `prefix`."""
    return spawn_command([*prefix, *command(*arguments)], **options)


def spawn_command(words: list[str], **options: object) -> Outcome:
    """Run a command that is, or holds, the app."""
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        check=False,
        **{'timeout': 300, **options},
    )
    return Outcome(code=done.returncode, log=done.stderr, out=done.stdout)


def isolated(*, read_only: Path | None = None, network: bool = True) -> tuple[str, ...] | None:
    """Give a command prefix that mounts a folder read-only and takes the network away, if it may.

    Returns None where the system permits no such thing.
    """
    share = ('unshare', '--map-root-user', '--mount', *(() if network else ('--net',)))
    script = 'set -e; '
    if read_only is not None:
        script += 'mount --bind "$0" "$0"; mount -o remount,bind,ro "$0"; '
    prefix = (*share, 'sh', '-c', f'{script}exec "$@"', str(read_only or '.'))
    if shutil.which('unshare') is None:
        return None
    test = subprocess.run([*prefix, 'true'], capture_output=True, check=False)
    return prefix if test.returncode == 0 else None


def phantom(folder: Path, *options: str, participants: int = 2) -> Path:
    """Make a tiny study."""
    root = folder / 'study'
    with contextlib.redirect_stderr(io.StringIO()):
        code = make_phantom([
            str(root), '--grid', 'tiny', '--participants', str(participants), '--seed', '1',
            *options,
        ])  # fmt: skip
    assert code == 0
    return root


def start_dataset(root: Path, study: Path) -> Path:
    """Make a dataset without participants."""
    root.mkdir(parents=True)
    for name in ('dataset_description.json', 'participants.json', 'README.md', '.bidsignore'):
        shutil.copyfile(study / name, root / name)
    (root / 'participants.tsv').write_text('participant_id\tHct\tSaO2\n')
    anatomy = root / 'derivatives' / 'fmriprep'
    anatomy.mkdir(parents=True)
    description = 'dataset_description.json'
    shutil.copyfile(study / 'derivatives' / 'fmriprep' / description, anatomy / description)
    return root


def add_participant(
    root: Path,
    study: Path,
    label: str,
    *families: str,
    of: str = '01',
    session: str | None = None,
    rename=lambda name: name,
) -> Path:
    """Add a participant made of some of the scans of another one.

    Parameters
    ----------
    root, study : Path
        Dataset to add to, and the one to take from.
    label : str
        Of the new participant.
    *families : str
        Keys of FAMILIES; with t1w comes the anatomy in derivatives/fmriprep.
    of : str
        Participant to take from.
    session : str, optional
        Session to put the scans in.
    rename : callable
        Changes the rest of a file name; None leaves the file out.

    Returns
    -------
    folder : Path
        Of the participant, or of its session.
    """
    source, target = study / f'sub-{of}', root / f'sub-{label}'
    target = target / f'ses-{session}' if session else target
    stem = f'sub-{label}_ses-{session}' if session else f'sub-{label}'

    def name_of(path: Path) -> str | None:
        rest = rename(path.name.removeprefix(f'sub-{of}_'))
        return rest and f'{stem}_{rest}'

    for family in families:
        for path in sorted(source.glob(FAMILIES[family])):
            name = name_of(path)
            if name is None:
                continue
            copy = target / path.parent.name / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
            if path.suffix == '.json':
                edit_json(copy, lambda sidecar: _retarget(sidecar, root, target, name_of))
    lines = (root / 'participants.tsv').read_text()
    if f'sub-{label}\t' not in lines:
        (root / 'participants.tsv').write_text(f'{lines}sub-{label}\t42.0\t98\n')
        if 't1w' in families:
            _add_anatomy(root, study, label, of)
    return target


def _retarget(sidecar: dict, root: Path, target: Path, name_of) -> None:
    """Let IntendedFor name the file under its new name."""
    if 'IntendedFor' in sidecar:
        sidecar['IntendedFor'] = [
            f'bids::{(target / "perf").relative_to(root)}/{name_of(Path(item))}'
            for item in sidecar['IntendedFor']
        ]


def _add_anatomy(root: Path, study: Path, label: str, of: str) -> None:
    """Copy the anatomy in derivatives/fmriprep."""
    place = Path('derivatives', 'fmriprep')
    for path in sorted((study / place / f'sub-{of}' / 'anat').iterdir()):
        name = path.name.replace(f'sub-{of}', f'sub-{label}')
        copy = root / place / f'sub-{label}' / 'anat' / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def edit_json(path: Path, change) -> None:
    """Change the content of a JSON file in place."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def anatomy_of(root: Path) -> tuple[str, str]:
    """Option that hands the true anatomy over."""
    return '-d', f'fmriprep={root / "derivatives" / "fmriprep"}'


def read(path: Path) -> np.ndarray:
    """Voxels of an image."""
    image = nb.load(path)
    return np.asarray(image.dataobj)


def write(path: Path, data: np.ndarray) -> None:
    """Replace the voxels of an image."""
    image = nb.load(path)
    header = image.header.copy()
    header.set_data_dtype(data.dtype)
    nb.Nifti1Image(data, image.affine, header).to_filename(path)


def images(folder: Path) -> dict[str, bytes]:
    """Name of every image below a folder -> its voxels as bytes."""
    return {
        path.relative_to(folder).as_posix(): read(path).tobytes()
        for path in sorted(folder.rglob('*.nii.gz'))
    }


def value_maps(folder: Path) -> set[str]:
    """Names of the value maps below a folder, on the quantification grid."""
    return {
        path.name.removesuffix('.nii.gz')
        for path in folder.rglob('*.nii.gz')
        if path.name.removesuffix('.nii.gz').rsplit('_', maxsplit=1)[-1] in VALUE_SUFFIXES
    }


def effects(folder: Path) -> set[str]:
    """Names of the effect maps below a folder, on the quantification grid."""
    return {
        path.name.removesuffix('_statmap.nii.gz')
        for path in folder.rglob('*_stat-effect_*_statmap.nii.gz')
        if 'space-MNI' not in path.name
    }


def tree_digest(folder: Path) -> str:
    """Digest of names, kinds and bytes of everything below a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob('*')):
        digest.update(f'{path.relative_to(folder)}\0{path.is_dir()}\0'.encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


def results(output: Path) -> dict[str, str]:
    """Digest of every result: all but reports, logs and the description, which name paths."""
    named = ('dataset_description.json', '.oxybold', 'logs')
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(output.rglob('*'))
        if path.is_file()
        and (name := path.relative_to(output).as_posix()).partition('/')[0] not in named
        and not ('/' not in name and name.endswith('.html'))
    }


def times(folder: Path, *patterns: str) -> dict[str, int]:
    """Modification time of every file that matches."""
    return {
        path.relative_to(folder).as_posix(): path.stat().st_mtime_ns
        for pattern in patterns
        for path in sorted(folder.glob(pattern))
        if path.is_file()
    }


def summary(output: Path, label: str) -> dict:
    """Run summary of a participant."""
    return json.loads((output / 'logs' / f'sub-{label}_run_summary.json').read_text())


def problems(output: Path, label: str) -> list[dict]:
    """Problems of a participant."""
    return [item for unit in summary(output, label)['units'] for item in unit['problems']]
