"""Wire the branches of one participant: whatever inputs there are give whatever can be made."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bids_app.bids.capabilities import MEASURED_CBV, arrival_is_shared, cbf_model, cbv_model
from bids_app.bids.conditions import runs_for_contrast
from bids_app.bids.outputs import output_path, source_uri
from bids_app.interfaces.bolus import CarryCBV, SummariseCBVRules
from bids_app.interfaces.change import ComputeSignificance, LabelResponseMode, LimitVoxels
from bids_app.interfaces.perfusion import CombineTables
from bids_app.interfaces.regions import SummariseRegions
from bids_app.interfaces.relaxometry import ConvertRateToTime
from bids_app.interfaces.spatial import (
    CombineRuns,
    ResampleLabels,
    ResampleQuantity,
    SmoothQuantity,
)
from bids_app.models.calibrated import COEFFICIENTS
from bids_app.models.constants import PUBLISHED_LIMITS
from bids_app.models.perfusion import t1_tissue_at
from bids_app.models.registry import MODELS
from bids_app.workflows._engine import PARTS, Quantity, Workflow, connect_quantity, pe
from bids_app.workflows.anatomy import (
    TEMPLATE,
    TISSUE_PORTS,
    atlas_files,
    init_alignment_wf,
    init_anatomy_wf,
    template_file,
)
from bids_app.workflows.blood_volume import (
    init_assumed_cbv_wf,
    init_dsc_wf,
    needs_artery,
    quantities_of,
)
from bids_app.workflows.bold import init_bold_wf
from bids_app.workflows.change import (
    EXTRAS,
    INTERFACES,
    ChangePlan,
    init_change_wf,
    init_label_wf,
)
from bids_app.workflows.constants import constants_table, sidecar_parameters, t1_blood
from bids_app.workflows.derivatives import Sink
from bids_app.workflows.oxygen import (
    cao2_of,
    init_cmro2_wf,
    init_oef_wf,
    init_r2_prime_wf,
    rate_of,
)
from bids_app.workflows.perfusion import (
    PerfusionConstants,
    init_perfusion_wf,
    init_shared_arrival_wf,
    reference_volumes,
)
from bids_app.workflows.relaxometry import init_r2_star_wf, init_r2_wf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from bids_app.bids.acquisitions import Contrast, ParticipantInputs
    from bids_app.settings import RelaxometrySettings, RunSettings, Settings

RESOLUTION = '2'
TISSUE_LABELS = {'GM': 'grey_matter', 'WM': 'white_matter', 'CSF': 'csf'}
"""Label of BIDS -> port."""
WORD = {'mese': 'MESE', 'megre': 'MEGRE', 'asl': 'ASL', 'dsc': 'DSC', 'bold': 'BOLD'}
"""Kind of scan -> its word in file names; the order decides the quantification grid."""


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """One series with its alignment in the graph."""

    kind: str
    series: Any
    name: str
    """Of its nodes, such as megre_calc."""
    images: tuple[Path, ...]
    volumes: tuple[int, ...] = ()

    @property
    def imaginary(self) -> tuple[Path, ...]:
        """Imaginary part of each image, where the images are real parts."""
        is_complex = self.kind == 'megre' and not self.series.magnitude
        return self.series.imaginary if is_complex else ()


@dataclass(slots=True)
class Graph:
    """The graph of one unit while it is built."""

    inputs: ParticipantInputs
    settings: Settings
    run: RunSettings
    workflow: Workflow
    scans: tuple[Scan, ...]
    has_anatomy: bool
    has_template: bool
    anatomy: Any = None
    alignment: dict[str, Any] = field(default_factory=dict)
    maps: dict[tuple[str, str | None], Quantity] = field(default_factory=dict)
    """(quantity, condition or None) -> where it is, on the quantification grid."""
    changes: dict[tuple[str, str], tuple[Quantity, str | None]] = field(default_factory=dict)
    """(quantity, contrast) -> where its change is, and the task label of a BOLD change."""
    bold_halves: dict[str, tuple[Quantity, Quantity]] = field(default_factory=dict)
    """Contrast -> BOLD of alternate blocks: for the gate, and for the change of CMRO2."""
    expected: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    atlas: tuple[Any, str] | None = None
    """Parcels on the quantification grid: node and port, once they are needed."""

    @property
    def entities(self) -> dict[str, str | None]:
        """Entities of every file of the unit."""
        return {'sub': self.inputs.participant, 'ses': self.inputs.session}

    @property
    def target(self) -> Scan:
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
        return Sink(name, output_dir=self.run.output_dir, entities=self.entities)

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

    def has(self, quantity: str, condition: str | None) -> bool:
        """Tell whether there is a map of a quantity in a condition, or one for all."""
        return (quantity, condition) in self.maps or (quantity, None) in self.maps

    def lookup(self, quantity: str, condition: str | None) -> Quantity:
        """Map of a quantity in a condition, else the one all conditions share."""
        own = self.maps.get((quantity, condition))
        return self.maps[quantity, None] if own is None else own

    def conditions(self, *quantities: str) -> list[str | None]:
        """Conditions in which every one of the quantities is there, shared ones included."""
        known = {condition for name, condition in self.maps if name in quantities}
        named: list[str | None] = [label for label in sorted(known, key=str) if label]
        return [
            label
            for label in named or [None]
            if all(self.has(quantity, label) for quantity in quantities)
        ]


def init_participant_wf(
    *, inputs: ParticipantInputs, settings: Settings, run: RunSettings
) -> tuple[Workflow, list[tuple[str, dict[str, str | None]]]]:
    """
    Build the graph of one unit of work.

    Parameters
    ----------
    inputs : ParticipantInputs
        What there is; branches whose inputs are absent are not built.
    settings : Settings
        What changes numbers.
    run : RunSettings
        Where to write.

    Returns
    -------
    workflow : Workflow
        Named after the unit.
    expected : list of (key, entities)
        The files it will make, as rows of data/outputs.yml.

    Raises
    ------
    InputDataError
        If there is nothing to build from.
    """
    scans = find_scans(inputs)
    found = inputs.anatomy
    graph = Graph(
        inputs=inputs,
        settings=settings,
        run=run,
        workflow=Workflow(inputs.label.replace('-', '_')),
        scans=scans,
        has_anatomy=bool(found or inputs.t1w),
        has_template=bool(inputs.t1w and not found)
        or bool(found and found.to_template and found.from_template),
    )
    if graph.has_anatomy:
        add_anatomy(graph)
    if scans:
        add_alignment(graph)
        add_relaxometry(graph)
        add_perfusion(graph)
        add_blood_volume(graph)
        add_oxygen(graph)
        add_bold(graph)
        add_changes(graph)
        add_labels(graph)
        if graph.has_template and TEMPLATE in settings.output_spaces:
            add_template_maps(graph)
    return graph.workflow, graph.expected


def word_of(scan: Scan) -> str:
    """Word of a scan in file names."""
    return WORD[scan.kind]


def find_scans(inputs: ParticipantInputs) -> tuple[Scan, ...]:
    """List the series in the order that decides the quantification grid."""
    scans = []
    for kind in WORD:
        for series in getattr(inputs, kind):
            parts = [kind, getattr(series, 'task', None), series.condition, series.run]
            name = '_'.join(str(part) for part in parts if part)
            images, volumes = _reference(kind, series)
            scans.append(Scan(kind=kind, series=series, name=name, images=images, volumes=volumes))
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


def _reference(kind: str, series: Any) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    """Images and volumes whose mean stands for a scan."""
    if kind in ('mese', 'megre'):
        return series.magnitude or series.real, ()
    if kind == 'asl':
        return reference_volumes(series)
    return (series.file,), ()


def add_anatomy(graph: Graph) -> None:
    """Add T1w image, tissue maps and template, and save them."""
    inputs, settings = graph.inputs, graph.settings.anatomy
    graph.anatomy = init_anatomy_wf(
        t1w=inputs.t1w[0] if inputs.t1w else None, found=inputs.anatomy, settings=settings
    )
    source = [inputs.anatomy.t1w] if inputs.anatomy else inputs.t1w[:1]
    sidecar = {'Sources': graph.sources(source)}
    sink = graph.sink('save_anatomy')

    def port(name: str) -> Quantity:
        return Quantity(graph.anatomy, name)

    sink.add(port('t1w'), 'preproc_t1w', sidecar=sidecar)
    sink.add(port('brain_mask'), 'brain_mask', sidecar=sidecar)
    sink.add(port('dseg'), 'dseg', sidecar=sidecar)
    for label, name in TISSUE_LABELS.items():
        sink.add(port(name), 'probseg', label=label, sidecar=sidecar)
    if graph.has_template:
        sink.add(port('to_template'), 'xfm_t1w_template', space=TEMPLATE)
        sink.add(port('from_template'), 'xfm_template_t1w', space=TEMPLATE)
        at: dict[str, Any] = {'space': TEMPLATE, 'res': RESOLUTION, 'sidecar': sidecar}
        sink.add(port('template_mask'), 'brain_mask', **at)
        sink.add(port('template_grey_matter'), 'probseg', label='GM', **at)
    graph.close(sink)


def add_alignment(graph: Graph) -> None:
    """Align every scan, and save the transforms and the reference image."""
    for scan in graph.scans:
        align = init_alignment_wf(
            images=scan.images,
            imaginary=scan.imaginary,
            volumes=scan.volumes,
            has_anatomy=graph.has_anatomy,
            is_target=scan is graph.target,
            settings=graph.settings.anatomy,
            name=f'align_{scan.name}',
        )
        graph.alignment[scan.name] = align
        if graph.has_anatomy:
            ports = [(f'outputnode.{name}', f'inputnode.{name}') for name in TISSUE_PORTS[1:]]
            fixed = [('outputnode.t1w', 'inputnode.fixed'),
                     ('outputnode.brain_mask', 'inputnode.fixed_mask')]  # fmt: skip
            graph.workflow.connect([(graph.anatomy, align, [*ports, *fixed])])
        elif scan is not graph.target:
            first = graph.alignment[graph.target.name]
            graph.workflow.connect([
                (first, align, [('outputnode.reference', 'inputnode.fixed'),
                                ('outputnode.mask', 'inputnode.fixed_mask')]),
            ])  # fmt: skip
    sink = graph.sink('save_alignment')
    first = graph.alignment[graph.target.name]
    sidecar = {'Sources': graph.sources(graph.target.images)}
    sink.add(Quantity(first, 'reference'), 'reference', scan=graph.space, sidecar=sidecar)
    sink.add(Quantity(first, 'mask'), 'brain_mask', space=graph.space, sidecar=sidecar)
    if graph.has_anatomy:
        for label, name in TISSUE_LABELS.items():
            tissue = Quantity(first, name)
            sink.add(tissue, 'probseg', label=label, space=graph.space, sidecar=sidecar)
        for scan in graph.scans:
            word = 'boldref' if scan.kind == 'bold' else WORD[scan.kind]
            transform = Quantity(graph.alignment[scan.name], 'transform')
            task = getattr(scan.series, 'task', None) or scan.series.condition
            sink.add(transform, 'xfm_scan', scan=word, task=task, run=scan.series.run)
    graph.close(sink)


def _connect_scan(graph: Graph, scan: Scan, model: Workflow, *ports: str) -> None:
    """Hand the maps of a scan's grid to its model; tissue only where there is anatomy."""
    align = graph.alignment[scan.name]
    wanted = ['mask'] + [port for port in ports if graph.has_anatomy]
    graph.workflow.connect([
        (align, model, [(f'outputnode.{port}', f'inputnode.{port}') for port in wanted]),
    ])  # fmt: skip


def _to_target(graph: Graph, scan: Scan, source: Quantity, label: str) -> Quantity:
    """Carry a quantity from the grid of its scan to the quantification grid, in one step."""
    if scan is graph.target:
        return source
    name = f'resample_{label}_{scan.name}'
    node = pe.Node(ResampleQuantity(), name=name, mem_gb=1)
    mask, port = graph.mask
    graph.workflow.connect([
        (mask, node, [(port, 'mask'), ('outputnode.transform', 'target_transform')]),
        (graph.alignment[scan.name], node, [('outputnode.transform', 'source_transform')]),
    ])  # fmt: skip
    connect_quantity(graph.workflow, source, node, 'quantity')
    return Quantity(node, 'quantity')


def _combine(graph: Graph, runs: list[Quantity], name: str) -> Quantity:
    """Join the runs of one modality and condition by inverse variance."""
    if len(runs) == 1:
        return runs[0]
    node = pe.Node(CombineRuns(), name=f'combine_{name}', mem_gb=1)
    mask, port = graph.mask
    graph.workflow.connect([(mask, node, [(port, 'mask')])])
    for part in PARTS:
        merge = pe.Node(_merge(len(runs)), name=f'merge_{name}{part}')
        for number, run in enumerate(runs, start=1):
            graph.workflow.connect([(run.node, merge, [(run.output(part), f'in{number}')])])
        graph.workflow.connect([(merge, node, [('out', f'quantity{part}')])])
    return Quantity(node, 'quantity')


def _merge(count: int) -> Any:
    """Interface that joins inputs into a list."""
    from nipype import Merge

    return Merge(count)


def _add_per_condition(
    graph: Graph,
    kind: str,
    quantities: tuple[str, ...],
    build: Callable[[Scan], Workflow],
    ports: tuple[str, ...],
) -> dict[str | None, list[Scan]]:
    """Model every series of a kind, carry it to the grid, combine runs; one map per condition."""
    groups: dict[str | None, list[Scan]] = {}
    for scan in graph.scans:
        if scan.kind == kind:
            groups.setdefault(scan.series.condition, []).append(scan)
    models = {scan.name: build(scan) for scans in groups.values() for scan in scans}
    for condition, scans in groups.items():
        for scan in scans:
            _connect_scan(graph, scan, models[scan.name], *ports)
        for quantity in quantities:
            if not all(models[scan.name].has_output(quantity) for scan in scans):
                continue
            runs = [
                _to_target(graph, scan, Quantity(models[scan.name], quantity), quantity)
                for scan in scans
            ]
            name = '_'.join(part for part in (quantity, condition) if part)
            graph.maps[quantity, condition] = _combine(graph, runs, name)
    return groups


def add_relaxometry(graph: Graph) -> None:
    """Add R2, R2*, R2' and save T2, T2*, R2' and the field maps."""
    settings = graph.settings.relaxometry
    table = constants_table(graph.inputs, graph.settings)
    models: dict[str, Workflow] = {}

    def build(scan: Scan) -> Workflow:
        init = init_r2_wf if scan.kind == 'mese' else init_r2_star_wf
        models[scan.name] = init(series=scan.series, settings=settings, name=f'model_{scan.name}')
        return models[scan.name]

    ports = ('noise_groups',)
    sink = graph.sink('save_relaxometry')
    for kind, quantities, key, label, model in (
        ('mese', ('r2',), 'T2map', 'T2', settings.t2_model),
        ('megre', ('r2_star', 'motion'), 'T2starmap', 'T2star', settings.t2_star_model),
    ):
        groups = _add_per_condition(graph, kind, quantities, build, ports)
        quantity = quantities[0]
        for condition, scans in groups.items():
            files = [path for scan in scans for path in scan.series.files]
            parameters = sidecar_parameters(quantity, model, table)
            sidecar = {'Sources': graph.sources(files), **parameters}
            if kind == 'megre':
                sidecar |= _correction_entries(scans, settings)
                motion = graph.maps.pop(('motion', condition))
                at: dict[str, Any] = {'space': graph.space, 'condition': condition}
                sink.add(motion, 'motion', sidecar=sidecar, **at)
            time = _add_time(graph, quantity, condition)
            _save(graph, sink, time, key, label, condition=condition, sidecar=sidecar)
            if kind == 'megre' and scans[0].series.has_phase:
                model_wf = models[scans[0].name]
                _save_field_map(graph, sink, model_wf, condition, sidecar)
            if settings.smoothing:
                rate = graph.maps[quantity, condition]
                name = '_'.join(part for part in (quantity, condition) if part)
                smooth = _smooth_rate(graph, rate, name, settings.smoothing)
                graph.maps[quantity, condition] = smooth
    _add_r2_prime(graph, sink, settings.r2_prime_model)
    graph.close(sink)


def _correction_entries(scans: list[Scan], settings: RelaxometrySettings) -> dict[str, Any]:
    """Say in the sidecar what was done about background gradients and with redundant sets."""
    has_phase = all(scan.series.has_phase for scan in scans)
    profile = settings.slice_profile if has_phase else 'none'
    merged = max(len(scan.series.reduced) for scan in scans)
    return {
        'BackgroundGradientCorrected': profile != 'none',
        'SliceProfile': profile,
        **({} if has_phase else {'BackgroundGradientReason': 'no usable phase images'}),
        **({'RedundantSetsMerged': merged} if merged else {}),
    }


def _smooth_rate(graph: Graph, source: Quantity, name: str, width: float) -> Quantity:
    """Smooth a rate, as published pipelines do before R2' is made."""
    node = pe.Node(SmoothQuantity(fwhm_voxels=width), name=f'smooth_{name}', mem_gb=0.5)
    mask, port = graph.mask
    graph.workflow.connect([(mask, node, [(port, 'mask')])])
    connect_quantity(graph.workflow, source, node, 'quantity')
    return Quantity(node, 'quantity')


def _add_time(graph: Graph, quantity: str, condition: str | None) -> Quantity:
    """Convert a rate into the time that is saved."""
    name = '_'.join(part for part in ('convert', quantity, condition) if part)
    node = pe.Node(ConvertRateToTime(), name=name, mem_gb=0.5)
    mask, port = graph.mask
    graph.workflow.connect([(mask, node, [(port, 'mask')])])
    connect_quantity(graph.workflow, graph.maps[quantity, condition], node, 'rate')
    return Quantity(node, 'time')


def _save_field_map(
    graph: Graph, sink: Sink, model: Workflow, condition: str | None, sidecar: dict[str, Any]
) -> None:
    """Save the field map of a MEGRE series on its own grid."""
    sources = {'Sources': sidecar['Sources']}
    for port, key in (('field_map', 'fieldmap'), ('field_magnitude', 'fieldmap_magnitude')):
        sink.add(Quantity(model, port), key, condition=condition, sidecar=sources)


def _save(
    graph: Graph,
    sink: Sink,
    quantity: Quantity,
    key: str,
    label: str,
    **entities: Any,
) -> None:
    """Save value, variance and status of a map on the quantification grid."""
    sink.add_quantity(quantity, key, label, space=graph.space, **entities)


def _derived_sidecar(
    graph: Graph, quantity: str, model: str, parents: Iterable[tuple[str, str, dict[str, Any]]]
) -> dict[str, Any]:
    """Entries of a map that is made from other maps of the output."""
    table = constants_table(graph.inputs, graph.settings)
    paths = []
    for key, name, entities in parents:
        is_own = (name, entities['condition']) in graph.maps
        condition = entities['condition'] if is_own else None
        at = {**graph.entities, **entities, 'space': graph.space, 'condition': condition}
        paths.append(output_path(key, **at))
    return {
        'Sources': [f'bids::{path}' for path in paths],
        **sidecar_parameters(quantity, model, table),
    }


def _add_r2_prime(graph: Graph, sink: Sink, model: str) -> None:
    """Add R2' of every condition that has R2* and R2."""
    for condition in graph.conditions('r2_star', 'r2'):
        name = '_'.join(part for part in ('r2_prime', condition) if part)
        difference = init_r2_prime_wf(model=model, name=f'compute_{name}')
        _connect_derived(graph, difference, MODELS['r2_prime'][model].maps, condition)
        graph.maps['r2_prime', condition] = Quantity(difference, 'r2_prime')
        at = {'condition': condition}
        parents = [('T2starmap', 'r2_star', at), ('T2map', 'r2', at)]
        sidecar = _derived_sidecar(graph, 'r2_prime', model, parents)
        quantity = graph.maps['r2_prime', condition]
        _save(graph, sink, quantity, 'R2primemap', 'R2prime', condition=condition, sidecar=sidecar)


def _connect_derived(
    graph: Graph, model: Workflow, names: Iterable[str], condition: str | None
) -> None:
    """Connect mask and maps on the quantification grid to a model."""
    mask, port = graph.mask
    graph.workflow.connect([(mask, model, [(port, 'inputnode.mask')])])
    for name in names:
        connect_quantity(graph.workflow, graph.lookup(name, condition), model, name)


PERFUSION = (
    'cbf',
    'cbf_without_m0',
    'm0_relative',
    'relative_cbf',
    'att',
    'grey_cbf',
    'white_cbf',
    'half_difference',
    'effective_delay',
)
"""Quantities that a perfusion graph may have."""


def add_perfusion(graph: Graph) -> None:
    """Add CBF of every condition and what belongs to it, and save it."""
    settings, inputs = graph.settings.perfusion, graph.inputs
    if math.isnan(inputs.b0) and settings.t1_blood is None:
        return  # no field strength: a problem that the inputs name
    tables: list[Quantity] = []
    models: dict[str, Workflow] = {}
    constants = PerfusionConstants(
        t1_blood=t1_blood(inputs, graph.settings),
        t1_tissue=settings.t1_tissue or t1_tissue_at(inputs.b0),
    )

    def build(scan: Scan) -> Workflow:
        models[scan.name] = model = init_perfusion_wf(
            series=scan.series,
            model=cbf_model(scan.series, graph.settings),
            settings=settings,
            anatomy=graph.settings.anatomy,
            constants=constants,
            has_tissue=graph.has_anatomy,
            name=f'model_{scan.name}',
        )
        graph.workflow.connect([
            (graph.alignment[scan.name], model, [('outputnode.reference', 'inputnode.reference')]),
        ])  # fmt: skip
        if graph.has_anatomy:
            tables.append(Quantity(model, 'quality'))
        return model

    groups = _add_per_condition(
        graph, 'asl', PERFUSION, build, ('noise_groups', *TISSUE_LABELS.values())
    )
    if arrival_is_shared(inputs.asl, graph.settings):
        _share_arrival(graph, {key: scans[0] for key, scans in groups.items()}, models, constants)
    sink = graph.sink('save_perfusion')
    if ('att', None) in graph.maps and None not in groups:
        sidecar = _all_series_sidecar(graph)
        _save(graph, sink, graph.maps['att', None], 'att', 'att', sidecar=sidecar)
    for condition, scans in groups.items():
        _save_perfusion(graph, sink, condition, scans)
    if tables:
        _save_quality(graph, sink, tables)
    graph.close(sink)


def _save_quality(graph: Graph, sink: Sink, tables: list[Quantity]) -> None:
    """Join the quality tables of all scans and save them."""
    join = pe.Node(CombineTables(), name='combine_quality')
    merge = pe.Node(_merge(len(tables)), name='merge_quality')
    for number, table in enumerate(tables, start=1):
        graph.workflow.connect([(table.node, merge, [(table.output(''), f'in{number}')])])
    graph.workflow.connect([(merge, join, [('out', 'tables')])])
    sink.add(Quantity(join, 'table'), 'cbf_quality', sidecar=_all_series_sidecar(graph))


def _all_series_sidecar(graph: Graph) -> dict[str, Any]:
    """Entries of a file that is made from all ASL series."""
    series = graph.inputs.asl
    table = constants_table(graph.inputs, graph.settings)
    return {
        'Sources': graph.sources(one.file for one in series),
        **sidecar_parameters('cbf', cbf_model(series[0], graph.settings), table),
    }


def _share_arrival(
    graph: Graph,
    scans: dict[str | None, Scan],
    models: dict[str, Workflow],
    constants: PerfusionConstants,
) -> None:
    """Replace the maps of each condition by those of a fit with one arrival time."""
    shared = init_shared_arrival_wf(
        series=[scan.series for scan in scans.values()],
        settings=graph.settings.perfusion,
        constants=constants,
    )
    mask, port = graph.mask
    graph.workflow.connect([
        (mask, shared, [(port, 'inputnode.mask'),
                        ('outputnode.transform', 'inputnode.target_transform')]),
    ])  # fmt: skip
    lists = [f'{name}{part}' for name in ('difference', 'm0') for part in PARTS[:-1]]
    for name in (*lists, 'delay', 'source_transform'):
        merge = pe.Node(_merge(len(scans)), name=f'merge_shared_{name}')
        for number, scan in enumerate(scans.values(), start=1):
            align = graph.alignment[scan.name]
            source = align if name == 'source_transform' else models[scan.name]
            output = 'transform' if name == 'source_transform' else name
            graph.workflow.connect([(source, merge, [(f'outputnode.{output}', f'in{number}')])])
        graph.workflow.connect([(merge, shared, [('out', f'inputnode.{name}')])])
    for index, condition in enumerate(scans):
        for quantity in ('cbf', 'cbf_without_m0'):
            if (quantity, condition) in graph.maps:
                graph.maps[quantity, condition] = Quantity(shared, quantity, index)
        del graph.maps['att', condition]
    graph.maps['att', None] = Quantity(shared, 'att')


def _save_perfusion(graph: Graph, sink: Sink, condition: str | None, scans: list[Scan]) -> None:
    """Save the maps of one condition."""
    table = constants_table(graph.inputs, graph.settings)
    files = [scan.series.file for scan in scans]
    files += [scan.series.m0.file for scan in scans if scan.series.m0.kind == 'Separate']
    series = scans[0].series
    parameters = sidecar_parameters('cbf', cbf_model(series, graph.settings), table)
    sidecar = {
        'Sources': graph.sources(files),
        **parameters,
        'ArterialSpinLabelingType': series.label_type,
        'M0Type': series.m0.kind,
    }
    at: dict[str, Any] = {'condition': condition, 'sidecar': sidecar}
    for key, label in (
        ('cbf', 'cbf'),
        ('relative_cbf', 'relativeCbf'),
        ('att', 'att'),
        ('grey_cbf', 'greyCbf'),
        ('white_cbf', 'whiteCbf'),
    ):
        if (key, condition) in graph.maps:
            _save(graph, sink, graph.maps[key, condition], key, label, **at)
    if ('effective_delay', condition) in graph.maps:
        delay = graph.maps['effective_delay', condition]
        sink.add(delay, 'effective_delay', space=graph.space, **at)
    if ('half_difference', condition) in graph.maps:
        half = graph.maps['half_difference', condition]
        name = '_'.join(part for part in ('test_half_difference', condition) if part)
        test = pe.Node(ComputeSignificance(), name=name, mem_gb=0.5)
        mask, port = graph.mask
        graph.workflow.connect([(mask, test, [(port, 'mask')])])
        connect_quantity(graph.workflow, half, test, 'quantity')
        sink.add(Quantity(test, 'z'), 'half_difference', space=graph.space, **at)


def add_blood_volume(graph: Graph) -> None:
    """Add CBV, measured or chosen, and save it."""
    settings = graph.settings.blood_volume
    model = cbv_model(graph.inputs, graph.settings)
    table = constants_table(graph.inputs, graph.settings)
    sink = graph.sink('save_blood_volume')
    if model == 'arterial' or (model == 'dsc' and graph.has_anatomy):
        sources = _add_measured_cbv(graph, sink, model)
    elif model in ('literature', 'grubb'):
        sources = _add_assumed_cbv(graph, model)
    else:
        return
    for condition, uris in sources.items():
        sidecar = {'Sources': uris} | sidecar_parameters('cbv', model, table)
        at: dict[str, Any] = {'condition': condition, 'variant': model, 'sidecar': sidecar}
        _save(graph, sink, graph.maps['cbv', condition], 'cbv', 'cbv', **at)
    if model in MEASURED_CBV and settings.task_change != 'none':
        _carry_cbv(graph, sink, model)
    graph.close(sink)


def _add_measured_cbv(graph: Graph, sink: Sink, model: str) -> dict[str | None, list[str]]:
    """Add a CBV from every bolus series, and save what else is made of it."""
    settings = graph.settings.blood_volume
    models: dict[str, Workflow] = {}

    def build(scan: Scan) -> Workflow:
        models[scan.name] = init_dsc_wf(
            series=scan.series,
            inputs=graph.inputs,
            settings=settings,
            small_vessel_hct_ratio=graph.settings.oxygen.small_vessel_hct_ratio,
            model=model,
            is_target=scan is graph.target,
            name=f'model_{scan.name}',
        )
        return models[scan.name]

    ports = ('noise_groups', 'white_matter') if model == 'dsc' else ('noise_groups',)
    extras = quantities_of(settings)
    groups = _add_per_condition(graph, 'dsc', ('cbv', *extras), build, ports)
    sources = {}
    for condition, scans in groups.items():
        sources[condition] = graph.sources(scan.series.file for scan in scans)
        at: dict[str, Any] = {
            'condition': condition, 'sidecar': {'Sources': sources[condition]}
        }  # fmt: skip
        for quantity in extras:
            _save(graph, sink, graph.maps[quantity, condition], quantity, quantity, **at)
        if needs_artery(model, settings):
            curve = Quantity(models[scans[0].name], 'arterial_curve')
            sink.add(curve, 'arterial_curve', **at)
    return sources


def _carry_cbv(graph: Graph, sink: Sink, model: str) -> None:
    """Change a CBV that was measured once with every task, by the rule that was chosen."""
    settings = graph.settings.blood_volume
    for contrast in graph.inputs.contrasts:
        both = (contrast.task, contrast.baseline)
        has_flow = all(graph.has('cbf', condition) for condition in both)
        has_atlas = graph.has_template and graph.settings.atlas != 'none'
        can = has_flow if settings.task_change == 'grubb' else has_atlas
        if not can or any(('cbv', condition) in graph.maps for condition in both):
            continue
        carry = pe.Node(
            CarryCBV(
                rule=settings.task_change,
                task=contrast.task,
                grubb_exponent=settings.grubb_exponent,
            ),
            name=f'carry_cbv_{contrast.task}',
            mem_gb=0.5,
        )
        mask, port = graph.mask
        graph.workflow.connect([(mask, carry, [(port, 'mask')])])
        connect_quantity(graph.workflow, graph.maps['cbv', None], carry, 'cbv')
        if settings.task_change == 'grubb':
            for role, condition in zip(('task', 'baseline'), both, strict=True):
                flow = graph.lookup('cbf', condition)
                connect_quantity(graph.workflow, flow, carry, f'{role}_cbf')
        else:
            carry.inputs.table = settings.parcel_table
            node, label = _atlas_of(graph)
            graph.workflow.connect([(node, carry, [(label, 'atlas')])])
        graph.maps['cbv', contrast.task] = Quantity(carry, 'cbv')
        parent = output_path('cbv', **graph.entities, space=graph.space, variant=model)
        sidecar = {'Sources': [f'bids::{parent}']}
        at: dict[str, Any] = {'condition': contrast.task, 'variant': model, 'sidecar': sidecar}
        _save(graph, sink, graph.maps['cbv', contrast.task], 'cbv', 'cbv', **at)


def _add_cbv_rules(graph: Graph, sink: Sink, contrast: Contrast, atlas: tuple[Any, str]) -> None:
    """Tell what each rule for the change of a shared CBV makes of that of CMRO2."""
    settings = graph.settings.blood_volume
    node = pe.Node(
        SummariseCBVRules(
            minimum_grey_matter=graph.settings.change.grey_matter,
            atlas_table=atlas_files()[1],
            task=contrast.task,
            grubb_exponent=settings.grubb_exponent,
            scale=cao2_of(graph.inputs, graph.settings.oxygen)
            / rate_of(graph.inputs, graph.settings.oxygen),
        ),
        name=f'summarise_cbv_rules_{contrast.label}',
        mem_gb=0.5,
    )
    if settings.parcel_table is not None:
        node.inputs.table = settings.parcel_table
    align = graph.alignment[graph.target.name]
    graph.workflow.connect([
        (align, node, [('outputnode.mask', 'mask'), ('outputnode.grey_matter', 'grey_matter')]),
        (atlas[0], node, [(atlas[1], 'atlas')]),
    ])  # fmt: skip
    named = {'cbv': graph.lookup('cbv', contrast.baseline)}
    for quantity in ('cbf', 'r2_prime'):
        named[f'task_{quantity}'] = graph.lookup(quantity, contrast.task)
        named[f'baseline_{quantity}'] = graph.lookup(quantity, contrast.baseline)
    for port, source in named.items():
        graph.workflow.connect([(source.node, node, [(source.output(''), port)])])
    sink.add(
        Quantity(node, 'table'),
        'cbv_rules',
        atlas=graph.settings.atlas,
        contrast=contrast.label,
        sidecar=_contrast_sidecar(graph, contrast),
    )


def _add_assumed_cbv(graph: Graph, model: str) -> dict[str | None, list[str]]:
    """Add a CBV that was chosen: one for all from the literature, or one per CBF map."""
    is_literature = model == 'literature'
    if is_literature and not graph.has_anatomy:
        return {}
    conditions = [None] if is_literature else graph.conditions('cbf')
    sources: dict[str | None, list[str]] = {}
    for condition in conditions:
        name = '_'.join(part for part in ('assume_cbv', condition) if part)
        assumed = init_assumed_cbv_wf(settings=graph.settings.blood_volume, name=name)
        _connect_derived(graph, assumed, MODELS['cbv'][model].maps, condition)
        align = graph.alignment[graph.target.name]
        tissue = [
            (f'outputnode.{port}', f'inputnode.{port}') for port in MODELS['cbv'][model].data
        ]
        if tissue:
            graph.workflow.connect([(align, assumed, tissue)])
        graph.maps['cbv', condition] = Quantity(assumed, 'cbv')
        at = {'space': graph.space, 'condition': condition}
        parent = (
            output_path('probseg', **graph.entities, label='GM')
            if is_literature
            else output_path('cbf', **graph.entities, **at)
        )
        sources[condition] = [f'bids::{parent}']
    return sources


def add_oxygen(graph: Graph) -> None:
    """Add OEF and CMRO2 of every condition and save them."""
    inputs, settings = graph.inputs, graph.settings.oxygen
    variant = cbv_model(inputs, graph.settings)
    sink = graph.sink('save_oxygen')
    steps = (
        ('oef', init_oef_wf, ('r2_prime', 'cbv'), settings.oef_model),
        ('cmro2', init_cmro2_wf, ('cbf', 'oef'), settings.cmro2_model),
    )
    keys = {'r2_prime': 'R2primemap'}
    numbers = {'oef': (inputs.b0, inputs.hct), 'cmro2': (inputs.sao2,)}
    for quantity, init, needs, model in steps:
        if any(math.isnan(number) for number in numbers[quantity]):
            continue  # a problem that the inputs name
        for condition in graph.conditions(*needs):
            name = '_'.join(part for part in ('compute', quantity, condition) if part)
            derived = init(inputs=inputs, settings=settings, name=name)
            _connect_derived(graph, derived, needs, condition)
            graph.maps[quantity, condition] = Quantity(derived, quantity)
            parents = [
                (
                    keys.get(need, need),
                    need,
                    {'condition': condition} | ({'variant': variant} if need == 'cbv' else {}),
                )
                for need in needs
            ]
            sidecar = _derived_sidecar(graph, quantity, model, parents)
            source = graph.maps[quantity, condition]
            _save(graph, sink, source, quantity, quantity, condition=condition, sidecar=sidecar)
    graph.close(sink)


def add_bold(graph: Graph) -> None:
    """Add the percent BOLD change of every contrast; halves where BOLD enters CMRO2."""
    for label, (quantity, task) in _bold_changes(graph, 'all').items():
        graph.changes['boldPct', label] = (quantity, task)
    if graph.settings.change.route != 'quantitative':
        gate, estimate = (_bold_changes(graph, half) for half in ('first', 'second'))
        for label in gate:
            graph.bold_halves[label] = (gate[label][0], estimate[label][0])


def _bold_changes(graph: Graph, half: str) -> dict[str, tuple[Quantity, str]]:
    """Estimate every contrast from all blocks or from every other one, runs combined."""
    suffix = '' if half == 'all' else f'_{half}'
    runs: dict[str, list[tuple[str, Quantity]]] = {}
    for scan in graph.scans:
        contrasts = contrasts_of(graph, scan) if scan.kind == 'bold' else ()
        if not contrasts:
            continue
        model = init_bold_wf(
            run=scan.series,
            contrasts=contrasts,
            settings=graph.settings.bold,
            half=half,
            name=f'model_{scan.name}{suffix}',
        )
        _connect_scan(graph, scan, model)
        for index, contrast in enumerate(contrasts):
            source = Quantity(model, 'bold', index)
            on_grid = _to_target(graph, scan, source, f'bold{suffix}_{contrast.label}')
            runs.setdefault(contrast.label, []).append((scan.series.task, on_grid))
    changes = {}
    for label, found in runs.items():
        tasks = sorted({task for task, _ in found})
        name = f'bold{suffix}_{label}'
        combined = _combine(graph, [quantity for _, quantity in found], name)
        task = tasks[0] if len(tasks) == 1 else 'pooled'
        changes[label] = (_smooth(graph, combined, name), task)
    return changes


def contrasts_of(graph: Graph, scan: Scan) -> tuple[Contrast, ...]:
    """Contrasts that a BOLD run can make: none between sessions."""
    if graph.settings.condition_entity == 'ses':
        return ()
    return tuple(
        contrast
        for contrast in graph.inputs.contrasts
        if runs_for_contrast(
            [scan.series],
            contrast,
            baseline=graph.inputs.baseline,
            min_gap=graph.settings.bold.window_start,
        )
    )


def _smooth(graph: Graph, source: Quantity, name: str) -> Quantity:
    """Smooth a map where that was asked for."""
    if not graph.settings.change.fwhm:
        return source
    node = pe.Node(
        SmoothQuantity(fwhm=graph.settings.change.fwhm), name=f'smooth_{name}', mem_gb=0.5
    )
    mask, port = graph.mask
    graph.workflow.connect([(mask, node, [(port, 'mask')])])
    connect_quantity(graph.workflow, source, node, 'quantity')
    return Quantity(node, 'quantity')


def plan_change(graph: Graph, contrast: Contrast) -> ChangePlan:
    """Decide which changes a contrast can have: what was measured in both of its conditions."""
    both = (contrast.task, contrast.baseline)

    def per_condition(quantity: str) -> bool:
        return all((quantity, condition) in graph.maps for condition in both)

    def known(quantity: str) -> bool:
        return all(graph.has(quantity, condition) for condition in both)

    has_r2_prime = per_condition('r2_star') and known('r2')
    has_oef = has_r2_prime and per_condition('oef')
    available = {
        'cbf': per_condition('cbf'),
        'R2prime': has_r2_prime,
        'cbv': per_condition('cbv'),
        'oef': has_oef,
        'cmro2': per_condition('cbf') and has_oef and known('cmro2'),
    }
    route = graph.settings.change.route
    if route != 'quantitative':
        available['cmro2'] = _has_bold_route(graph, contrast, route)
    volume = graph.settings.blood_volume
    is_carried = ('cbv', contrast.task) in graph.maps and not per_condition('cbv')
    is_grubb = cbv_model(graph.inputs, graph.settings) == 'grubb' or (
        is_carried and volume.task_change == 'grubb'
    )
    shared = [scan.series.m0.shared for scan in graph.scans
              if scan.kind == 'asl' and scan.series.condition in both]  # fmt: skip
    return ChangePlan(
        quantities=tuple(name for name in INTERFACES if available[name]),
        cbv_shared=known('cbv') and not per_condition('cbv'),
        cbv_carried=is_carried,
        cbv_exponent=volume.grubb_exponent if is_grubb else 0.0,
        r2_shared=('r2', None) in graph.maps,
        m0_shared=bool(shared) and all(shared),
        settings=graph.settings.change,
        echo_time=_bold_echo_time(graph, contrast),
        rate=(
            rate_of(graph.inputs, graph.settings.oxygen)
            if available['oef'] or available['cmro2']
            else 0.0
        ),
        cao2=cao2_of(graph.inputs, graph.settings.oxygen) if available['cmro2'] else 0.0,
    )


def _has_bold_route(graph: Graph, contrast: Contrast, route: str) -> bool:
    """Tell whether a contrast has what a route through BOLD needs."""
    both = (contrast.task, contrast.baseline)
    has_flow = all(('cbf', condition) in graph.maps for condition in both)
    has_task = route != 'combined' or ('r2_star', contrast.task) in graph.maps
    return (
        has_flow
        and has_task
        and graph.has('cmro2', contrast.baseline)
        and contrast.label in graph.bold_halves
        and _bold_echo_time(graph, contrast) > 0
    )


def _bold_echo_time(graph: Graph, contrast: Contrast) -> float:
    """Echo time of the BOLD runs of a contrast, s; 0 where it is unknown or differs."""
    times = {
        scan.series.echo_time
        for scan in graph.scans
        if scan.kind == 'bold' and contrast in contrasts_of(graph, scan)
    }
    return times.pop() or 0.0 if len(times) == 1 else 0.0


def add_changes(graph: Graph) -> None:
    """Add the changes of every contrast and save them."""
    for contrast in graph.inputs.contrasts:
        sink = graph.sink(f'save_{contrast.label}')
        plan = plan_change(graph, contrast)
        if plan.quantities:
            change = init_change_wf(plan=plan, name=f'change_{contrast.label}')
            _connect_change(graph, change, plan, contrast)
            for quantity in plan.quantities:
                source = Quantity(change, quantity)
                graph.changes[quantity, contrast.label] = (source, None)
                _save_change(graph, sink, contrast, quantity, _extra_ports(source, quantity))
        if ('boldPct', contrast.label) in graph.changes:
            _add_bold_test(graph, sink, contrast)
        graph.close(sink)


def _connect_change(graph: Graph, change: Workflow, plan: ChangePlan, contrast: Contrast) -> None:
    """Connect the primitive maps of both conditions, smoothed where that was asked for."""
    mask, port = graph.mask
    graph.workflow.connect([(mask, change, [(port, 'inputnode.mask')])])
    for primitive in plan.primitives:
        if primitive == 'bold':
            _, half = graph.bold_halves[contrast.label]
            connect_quantity(graph.workflow, half, change, primitive)
            continue
        quantity, condition = _primitive(primitive, contrast)
        if quantity == 'cbf' and plan.m0_shared:
            quantity = 'cbf_without_m0'
        source = graph.lookup(quantity, condition)
        label = f'{contrast.label}_{primitive}'
        connect_quantity(graph.workflow, _smooth(graph, source, label), change, primitive)
    if plan.m0_shared:
        m0 = graph.lookup('m0_relative', contrast.baseline)
        target = 'inputnode.m0_relative_variance'
        graph.workflow.connect([(m0.node, change, [(m0.output('_variance'), target)])])
    for quantity in plan.quantities:
        name = {'R2prime': 'r2_prime'}.get(quantity, quantity)
        baseline = graph.lookup(name, contrast.baseline)
        connect_quantity(graph.workflow, baseline, change, f'reference_{quantity}')


def _primitive(name: str, contrast: Contrast) -> tuple[str, str]:
    """Quantity and condition behind the name of a primitive map."""
    role, _, quantity = name.partition('_')
    if role in ('task', 'baseline'):
        return quantity, getattr(contrast, role)
    return name, contrast.task


def _extra_ports(source: Quantity, quantity: str) -> dict[str, Quantity]:
    """Ports of z, p and percent beside a change."""
    return {part: Quantity(source.node, f'{quantity}{part}') for part in EXTRAS}


def _contrast_sidecar(graph: Graph, contrast: Contrast) -> dict[str, Any]:
    """Entries every file of a contrast carries."""
    fwhm = graph.settings.change.fwhm
    return {
        'Contrast': {'Task': contrast.task, 'Baseline': contrast.baseline},
        **({'SmoothingFWHM': fwhm} if fwhm else {}),
    }


def _save_change(
    graph: Graph, sink: Sink, contrast: Contrast, quantity: str, extras: dict[str, Quantity]
) -> None:
    """Save effect, variance, z and p, and percent where there is one."""
    source, task = graph.changes[quantity, contrast.label]
    at: dict[str, Any] = {
        'space': graph.space,
        'contrast': contrast.label,
        'quantity': quantity,
        'sidecar': _contrast_sidecar(graph, contrast),
    }
    by_task = {**at, 'task': task}
    sink.add(source, 'contrast', statistic='effect', **by_task)
    sink.add(source, 'contrast', part='_variance', statistic='variance', **by_task)
    sink.add(extras['_z'], 'contrast', statistic='z', **by_task)
    sink.add(extras['_p'], 'contrast', statistic='p', **by_task)
    if '_percent' in extras:
        sink.add(extras['_percent'], 'contrast_percent', **at)


def _add_bold_test(graph: Graph, sink: Sink, contrast: Contrast) -> None:
    """Add z and p of a BOLD change and save it."""
    source, _ = graph.changes['boldPct', contrast.label]
    test = pe.Node(ComputeSignificance(), name=f'test_bold_{contrast.label}', mem_gb=0.5)
    mask, port = graph.mask
    graph.workflow.connect([(mask, test, [(port, 'mask')])])
    connect_quantity(graph.workflow, source, test, 'quantity')
    extras = {'_z': Quantity(test, 'z'), '_p': Quantity(test, 'p')}
    _save_change(graph, sink, contrast, 'boldPct', extras)


def add_labels(graph: Graph) -> None:
    """Add region tables, and labels where a contrast has BOLD and CMRO2 changes."""
    if not graph.has_anatomy:
        return
    has_atlas = graph.has_template and graph.settings.atlas != 'none'
    atlas = _atlas_of(graph) if has_atlas else None
    for contrast in graph.inputs.contrasts:
        changes = {
            quantity: source
            for (quantity, label), (source, _) in graph.changes.items()
            if label == contrast.label
        }
        sink = graph.sink(f'save_labels_{contrast.label}')
        if 'boldPct' in changes and 'cmro2' in changes:
            _label_contrast(graph, sink, contrast, atlas)
        if changes and atlas is not None:
            _add_region_table(graph, sink, contrast, changes, atlas)
            if 'cmro2' in changes and 'cbv' not in changes:
                _add_cbv_rules(graph, sink, contrast, atlas)
        graph.close(sink)


def _atlas_of(graph: Graph) -> tuple[Any, str]:
    """Give the atlas on the quantification grid; bring it there when it is first needed."""
    if graph.atlas is None:
        graph.atlas = _add_atlas(graph)
    return graph.atlas


def _add_atlas(graph: Graph) -> tuple[Any, str]:
    """Bring the atlas to the quantification grid."""
    node = pe.Node(ResampleLabels(), name='resample_atlas_to_grid', mem_gb=1)
    mask, port = graph.mask
    graph.workflow.connect([
        (graph.anatomy, node, [('outputnode.atlas', 'quantity')]),
        (mask, node, [(port, 'mask'), ('outputnode.transform', 'target_transform')]),
    ])  # fmt: skip
    return node, 'labels'


def _grey_matter(graph: Graph, contrast: Contrast) -> tuple[Any, str]:
    """Grey matter to label; without the voxels beyond the published limits where asked for."""
    align = graph.alignment[graph.target.name]
    if graph.settings.change.limits == 'none':
        return align, 'outputnode.grey_matter'
    limited = [
        (graph.maps[quantity, condition], PUBLISHED_LIMITS[quantity])
        for quantity, condition in sorted(graph.maps, key=str)
        if quantity in PUBLISHED_LIMITS
    ]
    merge = pe.Node(_merge(len(limited)), name=f'collect_limited_{contrast.label}')
    limit = pe.Node(
        LimitVoxels(limits=[limits for _, limits in limited]),
        name=f'limit_voxels_{contrast.label}',
        mem_gb=0.5,
    )
    for number, (source, _) in enumerate(limited, start=1):
        graph.workflow.connect([(source.node, merge, [(source.output(''), f'in{number}')])])
    mask, port = graph.mask
    graph.workflow.connect([
        (mask, limit, [(port, 'mask')]),
        (align, limit, [('outputnode.grey_matter', 'grey_matter')]),
        (merge, limit, [('out', 'maps')]),
    ])  # fmt: skip
    return limit, 'grey_matter'


def _label_contrast(
    graph: Graph, sink: Sink, contrast: Contrast, atlas: tuple[Any, str] | None
) -> None:
    """Label the voxels of a contrast and count them."""
    bold, task = graph.changes['boldPct', contrast.label]
    change, _ = graph.changes['cmro2', contrast.label]
    label = init_label_wf(
        settings=graph.settings.change,
        has_atlas=atlas is not None,
        name=f'label_{contrast.label}',
    )
    mask, port = graph.mask
    grey, grey_port = _grey_matter(graph, contrast)
    graph.workflow.connect([
        (mask, label, [(port, 'inputnode.mask')]),
        (grey, label, [(grey_port, 'inputnode.grey_matter')]),
    ])  # fmt: skip
    if atlas is not None:
        graph.workflow.connect([(atlas[0], label, [(atlas[1], 'inputnode.atlas')])])
    gate, _ = graph.bold_halves.get(contrast.label, (bold, bold))
    connect_quantity(graph.workflow, gate, label, 'bold')
    connect_quantity(graph.workflow, change, label, 'change')
    sidecar = _contrast_sidecar(graph, contrast)
    at: dict[str, Any] = {'contrast': contrast.label, 'sidecar': sidecar}
    baseline = graph.lookup('cmro2', contrast.baseline)
    graph.workflow.connect([(baseline.node, label, [(baseline.output(''), 'inputnode.baseline')])])
    probability = Quantity(label, 'discordant')
    sink.add(probability, 'discordant', task=task, space=graph.space, **at)
    for port, key in (('robust', 'concordance'), ('sign', 'concordance_sign')):
        sink.add(Quantity(label, port), key, task=task, space=graph.space, **at)
        graph.changes[key, contrast.label] = (Quantity(label, port), task)
    sink.add(Quantity(label, 'summary'), 'summary', **at)
    if ('oef', contrast.label) in graph.changes:
        _add_response_mode(graph, sink, contrast, label)


def _add_response_mode(graph: Graph, sink: Sink, contrast: Contrast, label: Workflow) -> None:
    """Add the map that tells which of flow and extraction changed more."""
    node = pe.Node(LabelResponseMode(), name=f'label_response_mode_{contrast.label}', mem_gb=0.5)
    mask, port = graph.mask
    graph.workflow.connect([
        (mask, node, [(port, 'mask')]),
        (label, node, [('outputnode.robust', 'labels')]),
    ])  # fmt: skip
    for quantity in ('cbf', 'oef'):
        connect_quantity(
            graph.workflow, graph.changes[quantity, contrast.label][0], node, quantity
        )
        baseline = graph.lookup(quantity, contrast.baseline)
        target = f'baseline_{quantity}'
        graph.workflow.connect([(baseline.node, node, [(baseline.output(''), target)])])
    _, task = graph.changes['boldPct', contrast.label]
    graph.changes['response_mode', contrast.label] = (Quantity(node, 'mode'), task)
    sink.add(
        Quantity(node, 'mode'),
        'response_mode',
        task=task,
        space=graph.space,
        contrast=contrast.label,
        sidecar=_contrast_sidecar(graph, contrast),
    )


def _add_region_table(
    graph: Graph,
    sink: Sink,
    contrast: Contrast,
    changes: dict[str, Quantity],
    atlas: tuple[Any, str],
) -> None:
    """Average the changes of a contrast over regions and networks."""
    quantities = [name for name in ('boldPct', *INTERFACES) if name in changes]
    node = pe.Node(
        SummariseRegions(
            quantities=quantities,
            minimum_grey_matter=graph.settings.change.grey_matter,
            atlas_table=atlas_files()[1],
            bold_q=graph.settings.change.bold_q,
            level=graph.settings.change.false_sign_rate,
        ),
        name=f'summarise_regions_{contrast.label}',
        mem_gb=0.5,
    )
    align = graph.alignment[graph.target.name]
    graph.workflow.connect([
        (align, node, [('outputnode.mask', 'mask'), ('outputnode.grey_matter', 'grey_matter')]),
        (atlas[0], node, [(atlas[1], 'atlas')]),
    ])  # fmt: skip
    if 'cmro2' in changes:
        node.inputs.cao2 = cao2_of(graph.inputs, graph.settings.oxygen)
        settings = graph.settings.change
        if settings.route != 'quantitative':
            node.inputs.davis = COEFFICIENTS[settings.davis_coefficients]
            node.inputs.cbv_response = settings.cbv_response
    for quantity in quantities:
        connect_quantity(graph.workflow, changes[quantity], node, quantity)
        if quantity in INTERFACES:
            name = {'R2prime': 'r2_prime'}.get(quantity, quantity)
            reference = graph.lookup(name, contrast.baseline)
            target = f'{quantity}_reference'
            graph.workflow.connect([(reference.node, node, [(reference.output(''), target)])])
    sink.add(
        Quantity(node, 'table'),
        'regions',
        atlas=graph.settings.atlas,
        contrast=contrast.label,
        sidecar=_contrast_sidecar(graph, contrast),
    )


def add_template_maps(graph: Graph) -> None:
    """Carry what the group level reads to the template."""
    sink = graph.sink('save_template')
    at: dict[str, Any] = {'space': TEMPLATE, 'res': RESOLUTION}
    baseline = graph.inputs.baseline
    variant = cbv_model(graph.inputs, graph.settings)
    for quantity in ('cbf', 'cbv', 'oef', 'cmro2'):
        condition = baseline if (quantity, baseline) in graph.maps else None
        source = graph.maps.get((quantity, condition))
        if source is None:
            continue
        on_template = _to_template(graph, source, f'{quantity}_baseline')
        own = variant if quantity == 'cbv' else None
        sink.add(on_template, quantity, condition=condition, variant=own, **at)
        sink.add(on_template, 'variance', part='_variance', quantity=quantity,
                 condition=condition, **at)  # fmt: skip
    for contrast in graph.inputs.contrasts:
        _add_template_contrast(graph, sink, contrast, at)
    graph.close(sink)


def _add_template_contrast(
    graph: Graph, sink: Sink, contrast: Contrast, at: dict[str, Any]
) -> None:
    """Carry effect, variance and labels of one contrast to the template."""
    sidecar = _contrast_sidecar(graph, contrast)
    for (quantity, label), (source, task) in list(graph.changes.items()):
        if label != contrast.label:
            continue
        name = f'{quantity}_{label}'
        if quantity in ('concordance', 'concordance_sign', 'response_mode'):
            labels = _labels_to_template(graph, source, name)
            sink.add(labels, quantity, task=task, contrast=label, sidecar=sidecar, **at)
            continue
        on_template = _to_template(graph, source, name)
        entities = {
            'quantity': quantity,
            'contrast': label,
            'task': task,
            'sidecar': sidecar,
            **at,
        }
        sink.add(on_template, 'contrast', statistic='effect', **entities)
        sink.add(on_template, 'contrast', part='_variance', statistic='variance', **entities)


def _template_node(graph: Graph, interface: Any, name: str) -> Any:
    """Make a node that resamples from the quantification grid to the template."""
    interface.inputs.mask = template_file('desc-brain_mask')
    node = pe.Node(interface, name=f'to_template_{name}', mem_gb=1)
    align = graph.alignment[graph.target.name]
    graph.workflow.connect([
        (graph.anatomy, node, [('outputnode.coordinates', 'coordinates')]),
        (align, node, [('outputnode.transform', 'source_transform')]),
    ])  # fmt: skip
    return node


def _to_template(graph: Graph, source: Quantity, name: str) -> Quantity:
    """Carry a quantity to the template grid."""
    node = _template_node(graph, ResampleQuantity(), name)
    connect_quantity(graph.workflow, source, node, 'quantity')
    return Quantity(node, 'quantity')


def _labels_to_template(graph: Graph, source: Quantity, name: str) -> Quantity:
    """Carry labels to the template grid."""
    node = _template_node(graph, ResampleLabels(), name)
    graph.workflow.connect([(source.node, node, [(source.output(''), 'quantity')])])
    return Quantity(node, 'labels')
