"""What every interface shares: ports with units, and the way from files to estimates and back."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

os.environ.setdefault('NO_ET', '1')  # nipype asks the network at its first use unless told not to
os.environ.setdefault('NIPYPE_NO_ET', '1')

import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    DynamicTraitedSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

from bids_app.images import Grid, grid_of, load_mask, load_masked, save_unmasked
from bids_app.models.estimate import Estimate
from bids_app.models.registry import MODELS, UNITS
from bids_app.models.status import Status
from bids_app.settings import field_of

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    'BETWEEN_SCANS',
    'BUNDLE',
    'DEGREES',
    'ERROR_FACTORS',
    'FIRST_ECHO',
    'HALF_CALIBRATION',
    'PAIR_CALIBRATION',
    'RUNS_COMBINED',
    'SCAN_DIFFERENCES',
    'SHARED_NOISE',
    'STATUS_COUNTS',
    'TRAVELLING',
    'VOXELS_PER_SAMPLE',
    'BaseInterfaceInputSpec',
    'Bundle',
    'DynamicTraitedSpec',
    'File',
    'Interface',
    'ModelInterface',
    'TraitedSpec',
    'as_data',
    'estimated',
    'estimated_each',
    'image',
    'images',
    'isdefined',
    'load_estimate',
    'load_value',
    'read_mask',
    'result',
    'save_estimate',
    'sidecar_of',
    'traits',
]

STATUS_COUNTS = 'StatusCounts'
"""Sidecar key: how many voxels of the mask have each status."""

DEGREES = 'DegreesOfFreedom'
"""Sidecar key: degrees of freedom of a variance."""

BUNDLE = '.bundle.json'
"""How the name of a :class:`Bundle` ends."""

POSITIONS = 'positions'
"""Data of a model that no port carries: where in space the voxels of the mask lie, mm."""

VOXELS_PER_SAMPLE = 'VoxelsPerNoiseSample'
"""Sidecar key: how many voxels share one independent sample of the noise."""

SHARED_NOISE = 'SharedNoise'
"""Sidecar key: share of the variance that the voxels of a parcel, network and brain have in
common."""

PAIR_CALIBRATION, HALF_CALIBRATION = 'PairCalibration', 'HalfCalibration'
"""Sidecar keys: whether errors are those that odd and even pairs, or the halves of a run, show."""

SCAN_DIFFERENCES = 'ScanDifferences'
"""Sidecar key: what the halves of each scan differ by beyond their noise, relative variances."""

ERROR_FACTORS = 'ErrorFactors'
"""Sidecar key: what repeated measurements say that errors of voxels have to be multiplied by."""

BETWEEN_SCANS = 'BetweenScans'
"""Sidecar key: what the scans of a change were taken to differ by beside their noise."""

FIRST_ECHO = 'FirstEchoDeparture'
"""Sidecar key: median departure of the first echo from the decay of the later ones, percent."""

RUNS_COMBINED = 'RunsCombined'
"""Sidecar key: how many scans a map is the mean of."""

TRAVELLING = (
    DEGREES, VOXELS_PER_SAMPLE, SHARED_NOISE, ERROR_FACTORS, SCAN_DIFFERENCES, RUNS_COMBINED,
)  # fmt: skip
"""Entries of the sidecar of a map that what is made of it needs; a replay takes them along."""


def image(desc: str, unit: str, *, optional: bool = False) -> Any:
    """Declare an image that goes in."""
    return File(exists=True, mandatory=not optional, desc=desc, unit=unit)


def images(desc: str, unit: str, *, optional: bool = False) -> Any:
    """Declare a list of images that goes in."""
    return traits.List(image(desc, unit), mandatory=not optional, desc=desc, unit=unit)


def result(desc: str, unit: str) -> Any:
    """Declare an image that comes out."""
    return File(exists=True, desc=desc, unit=unit)


def estimated(desc: str, unit: str, *, optional: bool = False) -> Any:
    """Declare a quantity, with variance and status, that goes in or comes out."""
    return image(desc, unit, optional=optional)


def estimated_each(desc: str, unit: str) -> Any:
    """Declare a list of quantities, one per condition, contrast or run."""
    return traits.List(estimated(desc, unit), desc=desc, unit=unit)


def read_mask(path: str) -> tuple[Any, Grid]:
    """Read a mask and its grid."""
    return load_mask(path), grid_of(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """
    The files of one quantity as it travels through the graph: a small JSON names the others.

    One port then carries value, variance, status and what the sidecar will say, and none of the
    four can be left behind. A table with entries for its sidecar travels in the same way.
    """

    value: str
    variance: str | None = None
    status: str | None = None
    sidecar: Mapping[str, Any] = field(default_factory=dict)
    """Entries of the sidecar that are known only when the file is made."""

    @classmethod
    def read(cls, path: str | Path) -> Bundle:
        """Read a bundle; any other file is its own value."""
        path = Path(path)
        if not path.name.endswith(BUNDLE):
            return cls(value=str(path))
        content = json.loads(path.read_text('utf-8'))
        files = {part: str(path.parent / name) for part, name in content['files'].items()}
        return cls(**files, sidecar=content['sidecar'])

    @property
    def parts(self) -> tuple[str, str, str]:
        """Value, variance and status of an estimate."""
        if self.variance is None or self.status is None:
            msg = f'{self.value} travels without variance or status'
            raise TypeError(msg)
        return self.value, self.variance, self.status

    def write(self, path: Path) -> str:
        """Write the bundle beside its files; return its path."""
        files = {
            part: Path(name).name
            for part in ('value', 'variance', 'status')
            if (name := getattr(self, part)) is not None
        }
        path.write_text(json.dumps({'files': files, 'sidecar': dict(self.sidecar)}), 'utf-8')
        return str(path)


def sidecar_of(path: Any) -> dict[str, Any]:
    """Entries of the sidecar of a quantity; none of an unset port."""
    return dict(Bundle.read(path).sidecar) if isdefined(path) else {}


def load_estimate(path: str, mask: Any, grid: Grid) -> Estimate:
    """Read a quantity inside a mask."""
    files = Bundle.read(path)
    value, variance, status = (load_masked(part, mask, grid) for part in files.parts)
    return Estimate.of(value, variance, status, float(files.sidecar.get(DEGREES, np.inf)))


def load_value(path: str, mask: Any, grid: Grid) -> Any:
    """Read the values of a quantity, or of a plain image, inside a mask."""
    return load_masked(Bundle.read(path).value, mask, grid)


def save_estimate(  # noqa: PLR0917  (a quantity, where it lies, where it goes)
    name: str,
    estimate: Estimate,
    mask: Any,
    grid: Grid,
    cwd: str | Path,
    sidecar: Mapping[str, Any] | None = None,
) -> str:
    """Write the files of a quantity; return the one that names them, the value of a port."""
    folder = Path(cwd)
    parts = {
        'value': (estimate.value, {}),
        'variance': (estimate.variance, {}),
        'status': (estimate.status, {'fill': Status.OUTSIDE_MASK}),
    }
    files = {
        part: save_unmasked(data, mask, grid, folder / f'{name}_{part}.nii', **fill)
        for part, (data, fill) in parts.items()
    }
    codes, counts = np.unique(estimate.status, return_counts=True)
    own: dict[str, Any] = {} if np.isinf(estimate.dof) else {DEGREES: round(estimate.dof, 1)}
    own[STATUS_COUNTS] = {Status(code).name: int(n) for code, n in zip(codes, counts, strict=True)}
    return Bundle(**files, sidecar={**(sidecar or {}), **own}).write(folder / f'{name}{BUNDLE}')


def as_data(value: Any, mask: Any, grid: Grid) -> Any:
    """
    Turn the value of a port into what a model takes.

    A list of images is stacked along the last axis, an image is read inside the mask, a list of
    numbers becomes an array, an unset port of data becomes 1 (no weighting).
    """
    if not isdefined(value):
        return np.ones((int(mask.sum()), 1))
    if isinstance(value, (list, tuple)):
        if value and isinstance(value[0], str):
            columns = [load_masked(path, mask, grid) for path in value]
            return np.stack(
                [one.reshape(len(one)) if one.shape[1:] == (1,) else one for one in columns],
                axis=-1,
            )
        return np.asarray(value, float)
    if isinstance(value, str) and Path(value).is_file():
        return load_masked(value, mask, grid)
    return value


class Interface(SimpleInterface):
    """What is done in one node; `Inputs` and `Outputs` are its ports."""

    Inputs: type[BaseInterfaceInputSpec]
    Outputs: type[TraitedSpec]

    def __init_subclass__(cls, **_: Any) -> None:
        """Give nipype the ports."""
        cls.input_spec = getattr(cls, 'Inputs', None)
        cls.output_spec = getattr(cls, 'Outputs', None)


class ModelInterface(Interface):
    """
    Run one model of the registry: the row names the maps, this reads and writes them.

    Ports that a subclass does not declare follow from the rows of its quantity: one for every map
    and parameter, for the quantity, and for others made with it. `further` are inputs of rows that
    take data or parameters of a scan.
    """

    quantity: str
    further: Mapping[str, Any] = MappingProxyType({})

    def __init_subclass__(cls, **_: Any) -> None:
        """Make the ports."""
        if not hasattr(cls, 'Inputs'):
            cls.Inputs = _ports(cls, 'Inputs', BaseInterfaceInputSpec, _ports_in(cls))
            cls.Outputs = _ports(cls, 'Outputs', TraitedSpec, _ports_out(cls))
        super().__init_subclass__()

    def _run_interface(self, runtime: Any) -> Any:
        spec = MODELS[self.quantity][self.inputs.model]
        mask, grid = read_mask(self.inputs.mask)
        arguments: dict[str, Any] = {
            name: load_estimate(getattr(self.inputs, name), mask, grid) for name in spec.maps
        }
        given = [name for name in spec.parameters if isdefined(getattr(self.inputs, name))]
        for name in (*spec.data, *given):
            arguments[name] = (
                np.argwhere(mask) * grid.zooms
                if name == POSITIONS
                else as_data(getattr(self.inputs, name), mask, grid)
            )

        made = spec.resolve()(**arguments)

        estimates = made if spec.also else (made,)
        where = (mask, grid, runtime.cwd)
        own = self._revise(estimates[0], mask, grid)
        self._results[self.quantity] = save_estimate(
            self.quantity, own, *where, self._sidecar(arguments)
        )
        for name, estimate in zip(spec.also, estimates[1:], strict=True):
            self._results[name] = save_estimate(name, estimate, *where)
        return runtime

    def _revise(self, estimate: Estimate, mask: Any, grid: Grid) -> Estimate:
        """Mark what the model does not know of: here nothing."""
        return estimate

    def _sidecar(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Collect entries of the sidecar besides those of every quantity: here none."""
        return {}


PARAMETERS = {
    'static_dephasing_constant': ("R2' per unit oxygen extraction and blood volume", '1/s'),
    'cao2': ('arterial oxygen content', 'umol/mL'),
    'alpha': ('exponent of blood volume over flow', '1'),
    'beta': ('exponent of BOLD over deoxyhaemoglobin', '1'),
    'bold_echo_time': ('of the BOLD series', 's'),
    'echo_share': ('correlation of the noise of BOLD and flow of one series', '1'),
    'resting_share': ('of the volumes at rest in the variance of BOLD by a gas', '1'),
}
"""What a parameter of a model of the registry is, and its unit, where it is no setting."""


def _number(name: str) -> Any:
    """Declare a parameter of a model: a setting of its name says what it is."""
    if name in PARAMETERS:
        desc, unit = PARAMETERS[name]
    else:
        about = field_of(f'oxygen.{name}')[0].metadata
        desc, unit = about['help'], about['unit']
    return traits.Float(desc=desc, unit=unit)


def _ports(owner: type, name: str, base: type, members: Mapping[str, Any]) -> Any:
    """Make a class of ports inside another, where pickle finds it."""
    where = {'__module__': owner.__module__, '__qualname__': f'{owner.__qualname__}.{name}'}
    return type(name, (base,), {**where, **members})


def _ports_in(owner: type[ModelInterface]) -> dict[str, Any]:
    """Declare what the rows of the registry take."""
    rows = MODELS[owner.quantity].values()
    maps = dict.fromkeys(name for row in rows for name in row.maps)
    names = dict.fromkeys(name for row in rows for name in row.parameters)
    return {
        'model': traits.Enum(
            *MODELS[owner.quantity], usedefault=True, desc='name in the registry', unit=''
        ),
        'mask': image('voxels to estimate', '1'),
        **{name: estimated(name, UNITS[name], optional=True) for name in maps},
        **{name: _number(name) for name in names if name not in owner.further},
        **owner.further,
    }


def _ports_out(owner: type[ModelInterface]) -> dict[str, Any]:
    """Declare what the rows of the registry give."""
    also = dict.fromkeys(name for row in MODELS[owner.quantity].values() for name in row.also)
    return {name: estimated(name, UNITS[name]) for name in (owner.quantity, *also)}
