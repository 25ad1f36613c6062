"""What a run wrote, in Python: maps with their errors, tables and verdicts of participants."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_app.bids.output.names import label_of, row_of_quantity
from bids_app.errors import MissingInputError, SettingsError
from bids_app.images import load_data, load_surface_map
from bids_app.models.estimate import Estimate
from bids_app.models.status import Status
from bids_app.reports.derivatives import Derivative, list_derivatives, natural, read_json, select

if TYPE_CHECKING:
    from collections.abc import Iterable

    import nibabel as nb
    import pandas as pd

    from bids_app._typing import FloatArray, PathLike

ON_CORTEX = ('surface', 'surface_regions')
"""Rows whose space is a mesh, and whose condition may be a task of BOLD."""

LABELS = {'robust': 'concordance', 'sign': 'concordance_sign', 'mode': 'response_mode'}
"""Rule -> row of data/outputs.yml."""


def load(output_dir: PathLike) -> Results:
    """
    Open what a run wrote.

    Parameters
    ----------
    output_dir : path
        The output dataset of oxybold.

    Returns
    -------
    results : Results
        Nothing is read before it is asked for.

    Raises
    ------
    MissingInputError
        If the folder holds no output of oxybold.
    """
    root = Path(output_dir)
    if not (root / 'dataset_description.json').is_file():
        msg = (
            f'{root} holds no dataset_description.json; expected the output folder of oxybold '
            '(the second argument of its command line)'
        )
        raise MissingInputError(msg)
    return Results(root)


@dataclass(frozen=True, slots=True)
class SavedMap:
    """
    A map with its error as a run saved it.

    Parameters
    ----------
    value : Derivative
        File of the map.
    variance : Derivative or None
        File of its random variance.
    status : Derivative or None
        File of the reasons for missing values.
    """

    value: Derivative
    variance: Derivative | None
    status: Derivative | None

    @property
    def sidecar(self) -> dict[str, Any]:
        """Entries of the JSON beside the map: model, constants, sources."""
        return self.value.sidecar

    @property
    def unit(self) -> str:
        """Unit of the values."""
        return str(self.sidecar.get('Units', ''))

    @property
    def image(self) -> nb.Nifti1Image:
        """The map."""
        return _image(self.value.path)

    @property
    def error_image(self) -> nb.Nifti1Image:
        """
        Its standard error, in the unit of the map.

        Raises
        ------
        MissingInputError
            If no variance was saved.
        """
        import nibabel as nibabel_

        spread = _image(self._variance().path)
        return nibabel_.Nifti1Image(np.sqrt(spread.get_fdata()), spread.affine, spread.header)

    def estimate(self) -> Estimate:
        """
        Read value, variance and status as arrays.

        Returns
        -------
        estimate : (X, Y, Z) Estimate
            In the unit of the file. Without a saved status a missing value has INVALID_INPUT.

        Raises
        ------
        MissingInputError
            If no variance was saved.
        """
        codes: Any = Status.OK
        if self.status is not None:
            codes = load_data(self.status.path).astype(np.uint8)
        dof = float(self.sidecar.get('DegreesOfFreedom', np.inf))
        variance = load_data(self._variance().path)
        return Estimate.of(load_data(self.value.path), variance, codes, dof)

    def _variance(self) -> Derivative:
        """Find the file of the variance."""
        if self.variance is None:
            msg = f'{self.value.path} was saved without a variance map'
            raise MissingInputError(msg)
        return self.variance


class ParticipantResults:
    """
    Maps, tables and verdict of one participant (and session).

    Parameters
    ----------
    root : Path
        The output dataset.
    label : str
        Without ``sub-``.
    session : str, optional
        Without ``ses-``.
    """

    def __init__(self, root: Path, label: str, session: str | None = None) -> None:
        self.root, self.label, self.session = root, label, session

    @cached_property
    def files(self) -> tuple[Derivative, ...]:
        """Every file, with its row of the table of outputs and the entities of its name."""
        found = list_derivatives(self.root, f'sub-{self.label}')
        wanted = (f for f in found if self.session in (None, f.entities.get('ses')))
        return tuple(wanted)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """What the run said of the participant: conditions, verdict, notes."""
        return read_json(self.root / 'logs' / f'sub-{self.label}_run_summary.json')

    @property
    def verdict(self) -> str:
        """`complete`, `degraded`, `incomplete` or `failed`; empty where no run has ended."""
        return str(self.summary.get('verdict', {}).get('state', ''))

    @property
    def conditions(self) -> tuple[str, ...]:
        """Conditions that a map was saved for."""
        return _distinct(f.entities.get('condition') for f in self.files if f.key not in ON_CORTEX)

    @property
    def contrasts(self) -> tuple[str, ...]:
        """Contrasts that a change was saved for, such as calcMinusControl."""
        return _distinct(f.entities.get('contrast') for f in select(self.files, 'contrast'))

    @property
    def spaces(self) -> tuple[str, ...]:
        """Spaces of the maps; the first is that of the scanner."""
        native = self.summary.get('units', [{}])[0].get('space')
        found = _distinct(f.entities.get('space') for f in self.files if f.key not in ON_CORTEX)
        return tuple(sorted(found, key=lambda name: (name != native, name)))

    def map(
        self, quantity: str, condition: str | None = None, *, space: str | None = None
    ) -> SavedMap:
        """
        Find the map of a quantity.

        Parameters
        ----------
        quantity : str
            Such as ``cbf``, ``oef``, ``T2``, ``R2prime`` (or ``r2_prime``).
        condition : str, optional
            Without it the map that serves all conditions.
        space : str, optional
            By default that of the scanner.

        Returns
        -------
        found : SavedMap
            With variance and status where they were saved.

        Raises
        ------
        SettingsError
            If there is no such quantity.
        MissingInputError
            If it was not saved.
        """
        label = label_of(quantity)
        try:
            row = row_of_quantity(label)
        except KeyError:
            msg = f'there is no quantity {quantity!r}; such are cbf, cbv, oef, cmro2, T2, R2prime'
            raise SettingsError(msg) from None
        at = {'condition': condition, 'space': space or self.spaces[0]}
        value = self._one(row, f'map of {label}', **at)
        return SavedMap(
            value,
            _first(select(self.files, 'variance', quantity=label, **at)),
            _first(select(self.files, 'status', quantity=label, **at)),
        )

    def change(self, quantity: str, contrast: str, *, space: str | None = None) -> SavedMap:
        """
        Find the change of a quantity between the conditions of a contrast.

        Parameters
        ----------
        quantity : str
            Such as ``cmro2``, ``cbf``, ``oef``, ``boldPct``.
        contrast : str
            Such as ``calcMinusControl``.
        space : str, optional
            By default that of the scanner.

        Returns
        -------
        found : SavedMap
            Effect and variance.

        Raises
        ------
        MissingInputError
            If it was not saved.
        """
        at = {'quantity': label_of(quantity), 'contrast': contrast,
              'space': space or self.spaces[0]}  # fmt: skip
        value = self._one('contrast', f'change of {at["quantity"]}', statistic='effect', **at)
        return SavedMap(
            value, _first(select(self.files, 'contrast', statistic='variance', **at)), None
        )

    def surface(
        self, quantity: str, side: str, *, contrast: str | None = None, mesh: str = 'fsLR'
    ) -> tuple[FloatArray, FloatArray]:
        """
        Read a map on the cortex.

        Parameters
        ----------
        quantity : str
            Such as ``oef``, ``T2``, ``boldPct``.
        side : str
            ``L`` or ``R``.
        contrast : str, optional
            Such as ``calcMinusControl``; without it the map of the baseline.
        mesh : str
            ``fsLR`` or ``fsaverage``, as in the names of the files.

        Returns
        -------
        value, error : (N,) ndarray
            Of every vertex and its standard error, in the unit of the file; NaN where there is
            none.

        Raises
        ------
        MissingInputError
            If it was not saved, or for several densities.
        """
        at = {'quantity': label_of(quantity), 'hemi': side, 'contrast': contrast, 'space': mesh}
        value, variance = (
            load_surface_map(self._one('surface', 'map on the cortex', statistic=name, **at).path)
            for name in ('effect', 'variance')
        )
        return value, np.sqrt(variance)

    def labels(
        self, contrast: str, *, rule: str = 'robust', space: str | None = None
    ) -> nb.Nifti1Image:
        """
        Read the labels of a contrast.

        Parameters
        ----------
        contrast : str
            Such as ``calcMinusControl``.
        rule : str
            ``robust``, ``sign`` (as published) or ``mode`` (flow- or extraction-led).
        space : str, optional
            By default that of the scanner.

        Returns
        -------
        labels : Nifti1Image
            Codes of the label table beside the participants.

        Raises
        ------
        SettingsError
            If there is no such rule.
        MissingInputError
            If they were not saved.
        """
        if rule not in LABELS:
            msg = f'rule must be one of {", ".join(LABELS)}, got {rule!r}'
            raise SettingsError(msg)
        at = {'contrast': contrast, 'space': space or self.spaces[0]}
        return _image(self._one(LABELS[rule], f'labels ({rule})', **at).path)

    def table(self, key: str, **entities: str) -> pd.DataFrame:
        """
        Read a table.

        Parameters
        ----------
        key : str
            Row of the table of outputs, such as ``regions``, ``summary``, ``confounds``.
        **entities : str
            That tell it from others of its row, such as ``contrast``.

        Returns
        -------
        table : DataFrame
            ``n/a`` is NaN.

        Raises
        ------
        MissingInputError
            If it was not saved, or several were.
        """
        import pandas as pd

        path = self._one(key, key, **entities).path
        return pd.read_csv(path, sep='\t', na_values=['n/a'])

    def _one(self, key: str, what: str, **entities: str | None) -> Derivative:
        """Find the one file of a row, or say what there is."""
        found = select(self.files, key, **entities)
        if len(found) == 1:
            return found[0]
        there = sorted({f.path.name for f in select(self.files, key)})
        wanted = ', '.join(f'{name} {value}' for name, value in entities.items() if value)
        count = 'no' if not found else f'{len(found)} files with a'
        msg = (
            f'sub-{self.label}: {count} {what} for {wanted}; there is {", ".join(there) or "none"}'
        )
        raise MissingInputError(msg)


class Results:
    """
    The output dataset of oxybold.

    Parameters
    ----------
    root : Path
        Its folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def participants(self) -> tuple[str, ...]:
        """Labels of the participants, without ``sub-``."""
        folders = (path.name for path in self.root.glob('sub-*') if path.is_dir())
        return tuple(name.removeprefix('sub-') for name in sorted(folders, key=natural))

    @property
    def table(self) -> pd.DataFrame:
        """The table of participants: haematocrit, saturation, verdict."""
        import pandas as pd

        path = self.root / 'participants.tsv'
        return pd.read_csv(path, sep='\t', na_values=['n/a'], dtype={'participant_id': str})

    def __getitem__(self, label: str) -> ParticipantResults:
        """
        Open a participant.

        Parameters
        ----------
        label : str
            With or without ``sub-``.

        Raises
        ------
        MissingInputError
            If there is none of that label.
        """
        label = label.removeprefix('sub-')
        if label not in self.participants:
            there = ', '.join(self.participants) or 'none'
            msg = f'there is no participant {label} in {self.root}; there is {there}'
            raise MissingInputError(msg)
        return ParticipantResults(self.root, label)


def _image(path: Path) -> nb.Nifti1Image:
    """Open an image; its data are read when they are used."""
    import nibabel as nibabel_

    return nibabel_.Nifti1Image.from_filename(path)


def _first(files: tuple[Derivative, ...]) -> Derivative | None:
    """Take the first file, if any."""
    return files[0] if files else None


def _distinct(names: Iterable[str | None]) -> tuple[str, ...]:
    """Give each name once, sorted."""
    return tuple(sorted({name for name in names if name}))
