"""What every interface shares: ports with units, and the way from files to estimates and back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

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
from bids_app.models.registry import MODELS
from bids_app.models.status import Status

__all__ = [
    'STATUS_COUNTS',
    'VOXELS_PER_SAMPLE',
    'BaseInterfaceInputSpec',
    'DynamicTraitedSpec',
    'File',
    'ModelInterface',
    'SimpleInterface',
    'TraitedSpec',
    'as_data',
    'image',
    'isdefined',
    'load_estimate',
    'read_mask',
    'result',
    'save_estimate',
    'traits',
]

STATUS_COUNTS = 'StatusCounts'
"""Sidecar key: how many voxels of the mask have each status."""

POSITIONS = 'positions'
"""Data of a model that no port carries: where in space the voxels of the mask lie, mm."""

VOXELS_PER_SAMPLE = 'VoxelsPerNoiseSample'
"""Sidecar key: how many voxels share one independent sample of the noise."""


def image(desc: str, unit: str, *, optional: bool = False) -> Any:
    """Declare an image that goes in."""
    return File(exists=True, mandatory=not optional, desc=desc, unit=unit)


def result(desc: str, unit: str) -> Any:
    """Declare an image that comes out."""
    return File(exists=True, desc=desc, unit=unit)


def read_mask(path: str) -> tuple[Any, Grid]:
    """Read a mask and its grid."""
    return load_mask(path), grid_of(path)


def load_estimate(inputs: Any, name: str, mask: Any, grid: Grid) -> Estimate:
    """Read the three ports of a quantity inside a mask."""
    return Estimate.of(
        load_masked(getattr(inputs, name), mask, grid),
        load_masked(getattr(inputs, f'{name}_variance'), mask, grid),
        load_masked(getattr(inputs, f'{name}_status'), mask, grid),
        float((getattr(inputs, f'{name}_facts', None) or {}).get('DegreesOfFreedom', np.inf)),
    )


def save_estimate(  # noqa: PLR0917  (one file each)
    results: dict[str, Any], name: str, estimate: Estimate, mask: Any, grid: Grid, cwd: str
) -> None:
    """Write the three files of a quantity and its facts (degrees of freedom) for the sidecar."""
    folder = Path(cwd)
    results[name] = save_unmasked(estimate.value, mask, grid, folder / f'{name}.nii')
    results[f'{name}_variance'] = save_unmasked(
        estimate.variance, mask, grid, folder / f'{name}_variance.nii'
    )
    results[f'{name}_status'] = save_unmasked(
        estimate.status, mask, grid, folder / f'{name}_status.nii', fill=Status.OUTSIDE_MASK
    )
    facts: dict[str, Any] = {}
    if not np.isinf(estimate.dof):
        facts['DegreesOfFreedom'] = round(estimate.dof, 1)
    codes, counts = np.unique(estimate.status, return_counts=True)
    facts[STATUS_COUNTS] = {
        Status(code).name: int(n) for code, n in zip(codes, counts, strict=True)
    }
    results[f'{name}_facts'] = facts


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
            return np.stack([load_masked(path, mask, grid) for path in value], axis=-1)
        return np.asarray(value, float)
    if isinstance(value, str) and Path(value).is_file():
        return load_masked(value, mask, grid)
    return value


class ModelInterface(SimpleInterface):
    """Run one model of the registry: the row names the maps, this reads and writes them."""

    quantity: str

    def _run_interface(self, runtime: Any) -> Any:
        spec = MODELS[self.quantity][self.inputs.model]
        mask, grid = read_mask(self.inputs.mask)
        arguments: dict[str, Any] = {
            name: load_estimate(self.inputs, name, mask, grid) for name in spec.maps
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
        for name, estimate in zip((self.quantity, *spec.also), estimates, strict=True):
            save_estimate(self._results, name, estimate, mask, grid, runtime.cwd)
        return runtime
