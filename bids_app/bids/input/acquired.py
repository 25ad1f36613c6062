"""When a scan was acquired, by the table of scans or its sidecar."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bids_app.bids.input.files import MISSING_VALUES, read_table
from bids_app.errors import AppError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

START = datetime(1925, 1, 1)
"""Of time: BIDS asks for shifted dates to lie before."""


def acquired_at(file: Path, metadata: Mapping[str, Any]) -> float | None:
    """
    Tell when a scan was acquired.

    Parameters
    ----------
    file : path
        Image in the folder of a modality of a participant or session.
    metadata : mapping
        Its sidecar.

    Returns
    -------
    when : float or None
        s, by ``acq_time`` of the table of scans, else AcquisitionDateTime, else AcquisitionTime
        (on a day that means nothing). Dates may be shifted: only the order of the scans of a
        participant counts. None where nothing says it, or in no known way.

    Examples
    --------
    >>> from pathlib import Path
    >>> acquired_at(Path('sub-01/perf/sub-01_asl.nii.gz'), {'AcquisitionTime': '00:01:30.5000001'})
    90.5
    """
    told = [_of_table(file), metadata.get('AcquisitionDateTime'), metadata.get('AcquisitionTime')]
    found = next(
        (str(one) for one in told if one is not None and str(one) not in MISSING_VALUES), None
    )
    if found is None:
        return None
    text = found if 'T' in found or '-' in found else f'{START.date()}T{found}'
    # dcm2niix writes any number of digits of a second, datetime reads three or six
    text = re.sub(r'\.(\d{1,6})\d*', lambda part: f'.{part[1]:0<6}', text)
    try:
        return (datetime.fromisoformat(text).replace(tzinfo=None) - START).total_seconds()
    except ValueError:
        return None


def _of_table(file: Path) -> str | None:
    """Read the time of a scan from the table of its session or participant."""
    for folder in file.parents[1:3]:
        if not folder.name.startswith(('sub-', 'ses-')):
            break  # the dataset: a list of its participants is not needed for one
        for table in sorted(folder.glob('sub-*_scans.tsv')):
            name = file.relative_to(folder).as_posix()
            try:
                rows = read_table(table, ('filename',))
            except AppError:
                continue
            for row in rows:
                if row['filename'] == name and row.get('acq_time', '') not in MISSING_VALUES:
                    return row['acq_time']
    return None
