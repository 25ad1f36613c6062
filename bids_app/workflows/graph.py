"""The graph of one participant while it is built: scans, maps and changes so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bids_app.bids.output.names import output_path, source_uri
from bids_app.errors import MissingInputError
from bids_app.images import grid_of
from bids_app.models.preprocessing.realignment import FEWEST_SLICES
from bids_app.workflows._engine import MapPort, Workflow
from bids_app.workflows.anatomy import MovingSeries
from bids_app.workflows.constants import constants_table, sidecar_parameters
from bids_app.workflows.derivatives import Sink
from bids_app.workflows.oxygen import chain_constants
from bids_app.workflows.perfusion import reference_volumes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from bids_app.bids.scans import DataValue, FoundScan, ParticipantInputs, Readout
    from bids_app.settings import RunSettings, Settings

TISSUE_LABELS = {'GM': 'grey_matter', 'WM': 'white_matter', 'CSF': 'csf'}
"""Label of BIDS -> port."""
WORD = {'mese': 'MESE', 'megre': 'MEGRE', 'ase': 'ASE', 'asl': 'ASL', 'dsc': 'DSC', 'bold': 'BOLD'}
"""Kind of scan -> its word in file names; the order decides the quantification grid."""

UNSCALED = 'oef_unscaled'
"""OEF as its model made it, where venous blood scales it."""


@dataclass(frozen=True, slots=True, eq=False)
class AlignedScan:
    """One series with its alignment in the graph."""

    kind: str
    series: Any
    name: str
    """Of its nodes, such as megre_calc."""
    images: tuple[Path, ...]
    volumes: tuple[int, ...] = ()
    corrects_motion: bool = False
    """Whether the settings want the movement within series undone."""
    readout: Readout | None = None
    """How the field displaces the scan, where there is a field to undo it."""

    @property
    def found(self) -> FoundScan | None:
        """What other software says of the series, where it preprocessed it."""
        return getattr(self.series, 'found', None)

    @property
    def imaginary(self) -> tuple[Path, ...]:
        """Imaginary part of each image, where the images are real parts."""
        is_complex = self.kind == 'megre' and not self.series.magnitude
        return self.series.imaginary if is_complex else ()

    @property
    def moving(self) -> MovingSeries | None:
        """The series, where the scan is one whose volumes may lie differently."""
        if self.series is None or self.kind not in ('ase', 'asl', 'dsc', 'bold'):
            return None
        lost, others = getattr(self.series, 'lost', ()), getattr(self.series, 'echoes', ())[1:]
        if self.found is not None:
            return MovingSeries(
                file=self.series.file, is_corrected=False, lost=lost, other_echoes=others
            )
        context = self.series.context if self.kind == 'asl' else ()
        # images that the scanner subtracted show no head to align
        is_seen = self.kind != 'asl' or self.series.shows_head
        return MovingSeries(
            file=self.series.file,
            is_corrected=self.corrects_motion and is_seen,
            lost=lost,
            other_echoes=others,
            context=context,
            has_bolus=self.kind == 'dsc',
            readout=self.readout,
        )

    @property
    def is_corrected(self) -> bool:
        """Whether the scan is a series whose movement is undone."""
        return self.moving is not None and self.moving.is_corrected

    def shares_images(self, other: AlignedScan) -> bool:
        """Tell whether both are conditions within one series, which is aligned once."""
        return (
            bool(self.kind and getattr(self.series, 'events', ()))
            and self.kind == other.kind
            and self.series.file == other.series.file
        )


@dataclass
class Graph:
    """The graph of one unit while it is built."""

    inputs: ParticipantInputs
    settings: Settings
    run: RunSettings
    workflow: Workflow
    scans: tuple[AlignedScan, ...]
    has_anatomy: bool
    has_template: bool
    anatomy: Any = None
    alignment: dict[str, Any] = field(default_factory=dict)
    maps: dict[tuple[str, str | None], MapPort] = field(default_factory=dict)
    """(quantity, condition or None) -> where it is, on the quantification grid."""
    changes: dict[tuple[str, str], tuple[MapPort, str | None]] = field(default_factory=dict)
    """(quantity, contrast) -> where its change is, and the task label of a BOLD change."""
    bold_halves: dict[str, tuple[MapPort, MapPort]] = field(default_factory=dict)
    """Contrast -> BOLD of alternate blocks: for the gate, and for the change of CMRO2."""
    gas_bold: dict[str, tuple[MapPort, str]] = field(default_factory=dict)
    """Contrast of a gas -> its BOLD change by R2* alone, where it has echoes, and its task."""
    origins: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    """(quantity, contrast) -> entries of the sidecar on what its change was made from."""
    fields: dict[str | None, tuple[MapPort, AlignedScan]] = field(default_factory=dict)
    """Condition of a gradient echo -> its field and the scan it was measured in."""
    tissue_there: dict[str, Any] = field(default_factory=dict)
    """Name of a scan -> node that predicts the tissue of its voxels at those of the target."""
    series: dict[str, MapPort] = field(default_factory=dict)
    """Name of a scan of several echoes -> the series that was made of them."""
    nuisance: dict[str, Workflow] = field(default_factory=dict)
    """Name of a BOLD scan -> the graph that finds its regressors of no interest."""
    bold_echo_times: dict[str, float] = field(default_factory=dict)
    """Contrast -> echo time of its BOLD runs, s; 0 where it is unknown or differs."""
    saved: dict[Any, dict[str, Any]] = field(default_factory=dict)
    """Quantity -> row, entities and sidecar of the file it was saved as."""
    expected: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    venous_blood: MapPort | None = None
    """Comparison of OEF with venous blood, where that scales OEF."""
    atlas: MapPort | None = None
    """Parcels on the quantification grid, once they are needed."""

    @cached_property
    def table(self) -> tuple[DataValue, ...]:
        """Every constant that enters a result of the unit."""
        return constants_table(self.inputs, self.settings)

    @cached_property
    def constants(self) -> dict[str, float]:
        """Parameters of the models that make maps from other maps; without what is not known."""
        return chain_constants(self.inputs, self.settings)

    def parameters_of(self, quantity: str, model: str) -> dict[str, dict[str, Any]]:
        """Entries of a sidecar: a row of the registry and its constants."""
        return sidecar_parameters(quantity, model, self.table)

    @property
    def entities(self) -> dict[str, str | None]:
        """Entities of every file of the unit."""
        return {'sub': self.inputs.participant, 'ses': self.inputs.session}

    @property
    def target(self) -> AlignedScan:
        """The scan whose grid is the quantification grid."""
        return self.scans[0]

    @property
    def space(self) -> str:
        """Word of the quantification grid."""
        return WORD[self.target.kind]

    @property
    def mask(self) -> tuple[Any, str]:
        """Brain mask on the quantification grid: node and port."""
        return self.alignment[self.target.name], 'outputnode.mask'

    def sink(self, name: str) -> Sink:
        """Start collecting derivatives."""
        return Sink(name, output_dir=self.run.output_dir, entities=self.entities, saved=self.saved)

    def close(self, sink: Sink) -> None:
        """Write what a sink holds and remember it as expected."""
        self.expected += [(item['key'], item['entities']) for item in sink.items.values()]
        sink.connect(self.workflow)

    def sources(self, files: Iterable[Path]) -> list[str]:
        """BIDS URIs of input files."""
        return [
            source_uri(
                path,
                output_dir=self.run.output_dir,
                bids_dir=self.run.bids_dir,
                derivatives=self.run.derivatives,
            )
            for path in files
        ]

    def made_from(self, *quantities: MapPort) -> dict[str, list[str]]:
        """Name the saved files that hold quantities, as the `Sources` of a sidecar."""
        files = (self.saved[quantity.key] for quantity in quantities)
        uris = [f'bids::{output_path(file["key"], **file["entities"])}' for file in files]
        return {'Sources': list(dict.fromkeys(uris))}

    def model_of(self, quantity: MapPort) -> dict[str, Any]:
        """Entries of the sidecar of a saved quantity that say by which model it was made."""
        sidecar = self.saved[quantity.key]['sidecar']
        return {key: sidecar[key] for key in ('Model', 'ModelParameters') if key in sidecar}

    def has(self, quantity: str, condition: str | None) -> bool:
        """Tell whether there is a map of a quantity in a condition, or one for all."""
        return (quantity, condition) in self.maps or (quantity, None) in self.maps

    def lookup(self, quantity: str, condition: str | None) -> MapPort:
        """Map of a quantity in a condition, else the one all conditions share."""
        own = self.maps.get((quantity, condition))
        return self.maps[quantity, None] if own is None else own

    def lookup_unscaled(self, quantity: str, condition: str | None) -> MapPort:
        """Give the same; of OEF the map as its model made it, where venous blood scaled it."""
        name = UNSCALED if quantity == 'oef' and self.has(UNSCALED, condition) else quantity
        return self.lookup(name, condition)

    def conditions(self, *quantities: str) -> list[str | None]:
        """Conditions in which every one of the quantities is there, shared ones included."""
        known = {condition for name, condition in self.maps if name in quantities}
        named: list[str | None] = [label for label in sorted(known, key=str) if label]
        return [
            label
            for label in named or [None]
            if all(self.has(quantity, label) for quantity in quantities)
        ]


def word_of(scan: AlignedScan) -> str:
    """Word of a scan in file names."""
    return WORD[scan.kind]


def find_scans(
    inputs: ParticipantInputs, *, corrects_motion: bool = False
) -> tuple[AlignedScan, ...]:
    """List the series in the order that decides the quantification grid."""
    if inputs.saved is not None:
        return (AlignedScan(kind=inputs.saved.kind, series=None, name='saved', images=()),)
    scans = []
    has_echoes = any(series.has_phase for series in inputs.megre)
    for kind in WORD:
        for series in getattr(inputs, kind):
            parts = [kind, getattr(series, 'task', None), series.condition, series.run]
            name = '_'.join(str(part) for part in parts if part)
            images, volumes = _reference(kind, series)
            scan = AlignedScan(
                kind=kind,
                series=series,
                name=name,
                images=images,
                volumes=volumes,
                corrects_motion=corrects_motion and has_depth(images[0]),
                readout=_readout(series, has_echoes=has_echoes),
            )
            scans.append(scan)
    order = {condition: rank for rank, condition in enumerate(inputs.conditions)}
    ranked = sorted(
        scans,
        key=lambda scan: (
            list(WORD).index(scan.kind),
            order.get(scan.series.condition, -1),
            scan.series.run or '',
        ),
    )
    return tuple(ranked)


def has_depth(path: Path) -> bool:
    """Tell whether an image has enough slices along every axis for rigid movement."""
    try:
        return min(grid_of(path).shape) >= FEWEST_SLICES
    except MissingInputError:  # the step that reads it says so
        return True


def _readout(series: Any, *, has_echoes: bool) -> Readout | None:
    """How the field displaces a series, where a field is known."""
    field_map = getattr(series, 'field_map', None)
    return getattr(series, 'readout', None) if field_map or has_echoes else None


def _reference(kind: str, series: Any) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    """Images and volumes whose mean stands for a scan."""
    found = getattr(series, 'found', None)
    if found is not None and found.reference is not None:
        return (found.reference,), ()
    if kind in ('mese', 'megre'):
        return series.magnitude or series.real, ()
    if kind == 'asl':
        return reference_volumes(series)
    return (series.file,), ()
