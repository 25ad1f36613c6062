"""What every step of a graph needs: memory, from the headers of the images it gets."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bids_app.interfaces._base import isdefined  # sets NO_ET before nipype is imported

# isort: split
import nibabel as nb
from nipype.utils.ram_estimator import RamEstimator

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bids_app.workflows._engine import Workflow


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Memory of a kind of step."""

    base: float
    """Without images, GB."""
    per_voxel: float
    """Bytes per voxel and volume of all images it gets."""


USUAL = Need(base=0.1, per_voxel=30)
ISOLATED = Need(base=0.35, per_voxel=65)
"""With ITK in a process of its own."""

NEEDS: Mapping[str, Need] = {
    'AverageHeads': ISOLATED,
    'ExtractBrain': ISOLATED,
    'MapCoordinates': ISOLATED,
    'NormaliseToTemplate': ISOLATED,
    'PredictGradientAttenuation': Need(base=0.1, per_voxel=270),
    'RegisterRigid': ISOLATED,
    'ResampleFraction': Need(base=0.1, per_voxel=52),
    'SaveDerivatives': Need(base=0.1, per_voxel=6),
    'SegmentTissue': ISOLATED,
}
"""Interface -> its need, measured with `; others are as `USUAL`."""


class MemoryFromImages(RamEstimator):
    """States the memory of a step when it is about to be submitted: its images are there then."""

    def __init__(self, need: Need) -> None:
        super().__init__()
        self.need = need

    def __call__(self, inputs: Any) -> tuple[float, str]:
        """Give GB, and in words where they come from."""
        voxels = sum(map(count_voxels, images_of(inputs)))
        memory = self.need.base + self.need.per_voxel * voxels / 1e9
        return memory, f'{voxels} voxels of {self.need.per_voxel:g} B and {self.need.base:g} GB'


def state_memory(workflow: Workflow) -> None:
    """Let every step of a graph state its memory."""
    for name in workflow.list_node_names():
        node = workflow.get_node(name)
        node.ram_estimator = MemoryFromImages(NEEDS.get(type(node.interface).__name__, USUAL))


def images_of(inputs: Any) -> Iterator[str]:
    """List the images among the inputs of a step, each as often as it is given."""
    for name in inputs.copyable_trait_names():
        value = getattr(inputs, name)
        if isdefined(value):
            yield from _images(value)


def _images(value: Any) -> Iterator[str]:
    """Images among the values of a port."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from _images(item)
    elif isinstance(value, str | os.PathLike) and str(value).endswith(('.nii', '.nii.gz')):
        yield str(value)


def count_voxels(path: str) -> int:
    """Count voxels times volumes by the header; an image that cannot be read has none."""
    try:
        image: Any = nb.load(path)
        return math.prod(image.shape)
    except (OSError, EOFError, ValueError, nb.filebasedimages.ImageFileError):
        return 0  # the step itself will say what is wrong with it
