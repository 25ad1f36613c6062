"""The files of the packaged template and atlas (made by tools/package_*.py)."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from bids_app.errors import SettingsError

SPACE = 'MNI152NLin6Asym'
"""Name of the template space in file names and sidecars."""

PREFIX = f'tpl-{SPACE}_res-02'

RESOLUTION = '2'
"""Of the packaged template, mm; the entity res."""

ATLAS = 'atlas-Schaefer2018_seg-7n_scale-200_dseg'
"""Kind of the packaged label image; its table has the same name, `.tsv`."""

FINE_ATLAS = 'atlas-Schaefer2018_seg-7n_scale-400_dseg'
"""Kind of the label image with twice as many parcels of the same networks; no table is needed."""

TERRITORIES = 'atlas-JHUArterial_dseg'
"""Kind of the packaged label image of arterial territories, with a table too."""


def packaged_template(kind: str, extension: str = '.nii.gz') -> Path:
    """
    Locate a file of the packaged template, 2 mm, LAS, 91 x 109 x 91.

    Parameters
    ----------
    kind : str
        ``T1w`` (with skull), ``desc-brain_mask``, ``label-GM_probseg``, ``label-WM_probseg``,
        ``label-CSF_probseg``, :data:`ATLAS`, :data:`FINE_ATLAS` or :data:`TERRITORIES`.
    extension : str
        ``.nii.gz``, or ``.tsv`` for the label table of an atlas.

    Returns
    -------
    path : Path
        Of an existing file.

    Raises
    ------
    SettingsError
        If there is no such file.

    Examples
    --------
    >>> packaged_template('T1w').name
    'tpl-MNI152NLin6Asym_res-02_T1w.nii.gz'
    """
    folder = Path(str(files('bids_app') / 'data' / 'templates'))
    path = folder / f'{PREFIX}_{kind}{extension}'
    if not path.exists():
        found = ', '.join(sorted(p.name for p in folder.glob('tpl-*')))
        msg = f'no packaged template file {path.name}; there are: {found}'
        raise SettingsError(msg)
    return path
