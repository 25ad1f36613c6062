"""CBF from arterial spin labeling, on the grid of the series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bids_app.bids.input.asl_delays import USED, distinct_delays
from bids_app.interfaces.distortion import MapVoxelShift, UndistortImage
from bids_app.interfaces.perfusion import (
    CorrectPartialVolume,
    EstimateCBF,
    EstimateDifference,
    EstimateM0,
    EstimateSharedArrival,
    EstimateTaskDifference,
    MapDelay,
    NormaliseCBF,
    SeparateBlocks,
    SeparateM0Error,
    SummariseQuality,
)
from bids_app.interfaces.spatial import (
    AverageVolumes,
    RegisterRigid,
    ResampleFraction,
    TrustHeader,
)
from bids_app.models.asl.label_control import pairs_per_delay
from bids_app.models.constants import M0_REGION_T1, ROBUST_MINIMUM
from bids_app.models.registry import MODELS
from bids_app.workflows._engine import MapPort, Workflow, connect_quantity, pe, ports
from bids_app.workflows.bold import task_ports

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bids_app.bids.scans import AslSeries, Readout
    from bids_app.settings import AnatomySettings, BoldSettings, PerfusionSettings

TASK_METHODS = (
    'Control minus label of every condition within a series was estimated with a general linear '
    'model in which what the task does to all volumes alike is apart'
)

TISSUES = ('grey_matter', 'white_matter', 'csf')


@dataclass(frozen=True, slots=True, kw_only=True)
class PerfusionConstants:
    """Numbers of a participant that the models of CBF take."""

    t1_blood: float
    """s"""
    t1_tissue: float
    """s"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """Which volumes are used, and the delays of their pairs."""

    context: tuple[str, ...]
    """Type of every volume; n/a where it is not used."""
    index: tuple[int, ...]
    """Delay of every volume."""
    table: tuple[tuple[float, float], ...]
    """Delay and duration of labelling, s."""

    @property
    def n_pairs(self) -> list[int]:
        """Pairs of every delay."""
        return list(pairs_per_delay(self.context, self.index))


def fits_arrival(model: str) -> bool:
    """Tell whether a model takes several delays."""
    return 'att' in MODELS['cbf'][model].also


def delays_of(series: AslSeries, model: str) -> Delays:
    """Find the delays a model uses: all, or the longest alone."""
    context = series.differences
    index, table = distinct_delays(series.post_label_delay, series.label_duration, context)
    if fits_arrival(model) or len(table) == 1:
        return Delays(context=context, index=index, table=table)
    last = len(table) - 1
    kept = tuple(
        kind if own == last or kind not in USED else 'n/a'
        for kind, own in zip(context, index, strict=True)
    )
    return Delays(context=kept, index=(0,) * len(context), table=table[last:])


def reference_volumes(series: AslSeries) -> tuple[tuple[object, ...], tuple[int, ...]]:
    """Image and volumes that stand for the scan: M0 where it is on its grid, else the controls."""
    if series.m0.file is not None and series.m0.same_grid:
        return (series.m0.file,), series.m0.volumes
    used = [i for i, kind in enumerate(series.context) if kind in USED]
    static = [i for i in used if series.context[i] in ('control', 'label')]
    if series.encoding is not None:
        static = [volume for cycle in series.encoding.cycles for volume in cycle]
    return (series.file,), tuple(static or used)


def init_perfusion_wf(
    *,
    series: AslSeries,
    model: str,
    settings: PerfusionSettings,
    bold: BoldSettings,
    anatomy: AnatomySettings,
    constants: PerfusionConstants,
    has_tissue: bool,
    readout: Readout | None = None,
    order: int | None = None,
    name: str = 'perfusion',
) -> Workflow:
    """
    Build the graph from a label-control series to CBF.

    Quality and tissue CBF need tissue maps. Where the distortion of the series is undone
    (`readout`), M0 is undistorted too. `order` is that of the scan among those of the participant
    in time, told by the table of quality.

    Inputs
    ------
    series : file
        With the head at one place.
    mask, noise_groups, grey_matter, white_matter, csf, reference, voxel_shift : file
        On its grid; the last where distortion is undone.

    Outputs
    -------
    cbf : quantity
        mL/100 g/min; without M0 `relative_cbf` in its place.
    cbf_without_m0 : quantity
        The same values; the variance leaves out the error of M0. Only where conditions share M0.
    m0_relative : quantity
        Its variance is the relative variance of M0. Only where conditions share M0.
    att, abv : quantity
        Where several delays were fitted; where arteries were too.
    grey_cbf, white_cbf : quantity
        Where tissues were told apart.
    half_difference : quantity
        Odd minus even pairs, where there are four or more.
    effective_delay : quantity
        s.
    quality : file
        Table, where there is tissue.
    """
    spec = MODELS['cbf'][model]
    is_task = bool(series.events)
    workflow = Workflow(
        name,
        methods=f'{TASK_METHODS}. {spec.methods}' if is_task else spec.methods,
        citations=('mumford2006', spec.citation) if is_task else (spec.citation,),
    )
    inputnode = ports(
        'inputnode', 'series', 'mask', 'noise_groups', *TISSUES, 'reference', 'voxel_shift'
    )
    chain = _Chain(
        workflow=workflow,
        inputnode=inputnode,
        series=series,
        model=model,
        delays=delays_of(series, model),
        settings=settings,
        bold=bold,
        constants=constants,
        has_tissue=has_tissue,
        is_rigid=anatomy.registration == 'rigid',
        readout=readout,
        order=order,
    )
    made = chain.build()
    outputnode = ports('outputnode', *made)
    for port, source in made.items():
        connect_quantity(workflow, source, outputnode, port)
    return workflow


def init_shared_arrival_wf(
    *,
    series: Sequence[AslSeries],
    settings: PerfusionSettings,
    constants: PerfusionConstants,
    name: str = 'share_arrival',
) -> Workflow:
    """
    Build the graph that fits several conditions with one arrival time.

    Inputs
    ------
    mask, target_transform : file
        Grid to fit on, and its alignment.
    difference, m0 : quantity
        Lists, one per condition, on the grids of their scans.
    delay, source_transform : file
        Lists, likewise.

    Outputs
    -------
    cbf, cbf_without_m0 : quantity
        Lists, one per condition, mL/100 g/min.
    att : quantity
        s.
    """
    methods = 'The conditions were fitted together, with one arrival time of the label'
    workflow = Workflow(name, methods=methods, citations=('buxton1998',))
    taken = ('mask', 'target_transform', 'delay', 'source_transform', 'difference', 'm0')
    inputnode = ports('inputnode', *taken)
    outputnode = ports('outputnode', 'cbf', 'cbf_without_m0', 'att')
    delays = [delays_of(one, 'multi-delay') for one in series]
    fit = pe.Node(
        EstimateSharedArrival(
            label_duration=[[float(duration) for _, duration in one.table] for one in delays],
            n_pairs=[one.n_pairs for one in delays],
            labeling=series[0].labeling,
            labeling_efficiency=[one.labeling_efficiency for one in series],
            background_suppression_factor=[one.background_suppression_factor for one in series],
            t1_blood=constants.t1_blood,
            t1_tissue=constants.t1_tissue,
            partition_coefficient=settings.partition_coefficient,
        ),
        name='estimate_shared_arrival',
    )
    workflow.connect([
        (inputnode, fit, taken),
        (fit, outputnode, ('cbf', 'cbf_without_m0', 'att')),
    ])  # fmt: skip
    return workflow


@dataclass(slots=True, kw_only=True)
class _Chain:
    """The graph of one series while it is built."""

    workflow: Workflow
    inputnode: Any
    series: AslSeries
    model: str
    delays: Delays
    settings: PerfusionSettings
    bold: BoldSettings
    constants: PerfusionConstants
    has_tissue: bool
    is_rigid: bool
    readout: Readout | None
    order: int | None

    @property
    def is_relative(self) -> bool:
        """Whether there is no M0 at all."""
        return self.series.m0.kind == 'Absent'

    @property
    def has_halves(self) -> bool:
        """Whether odd and even pairs can be compared."""
        fewest = min(self.delays.n_pairs, default=0)
        return not self.series.events and fewest >= ROBUST_MINIMUM

    def build(self) -> dict[str, MapPort]:
        """Build the branches this series has; returns what they make."""
        difference = self.add_difference()
        made, m0 = {}, None
        if self.has_halves:
            made['half_difference'] = MapPort(difference, 'half_difference')
        if self.model == 'scanner':
            cbf = self.add_cbf(difference, None, None)
            made['cbf'] = cbf
        else:
            delay = self.add_delay()
            made['effective_delay'] = MapPort(delay, 'effective_delay')
            m0 = self.add_m0(difference)
            cbf = self.add_cbf(difference, m0, delay)
            made |= self.add_relative(cbf) if self.is_relative else self.split_error(cbf, m0)
            if self.settings.arrival == 'shared' and self.model == 'multi-delay':
                made |= {
                    'difference': MapPort(difference, 'difference'),
                    'm0': MapPort(m0, 'm0'),
                }
                made['delay'] = MapPort(delay, 'delay')
            made |= {name: MapPort(cbf.node, name) for name in MODELS['cbf'][self.model].also}
        if self.has_tissue:
            made |= self.add_tissue(made.get('cbf'))
            final = made.get('cbf') or made['relative_cbf']
            made['quality'] = self.add_quality(final, difference, m0)
        return made

    def node(self, interface: Any, name: str, *inputs: str) -> Any:
        """Add a node and connect what it takes from the input node."""
        made = pe.Node(interface, name=name)
        wanted = [port for port in inputs if port != 'noise_groups' or self.has_tissue]
        self.workflow.connect([(self.inputnode, made, wanted)])
        return made

    def add_difference(self) -> Any:
        """Add the mean difference of every delay, or that of the condition of a task."""
        if self.series.events:
            return self.add_task_difference()
        interface = EstimateDifference(
            context=list(self.delays.context),
            pairs=self.settings.pairs,
        )
        if fits_arrival(self.model):
            interface.inputs.delay_index = list(self.delays.index)
        encoding = self.series.encoding
        if encoding is None:
            return self.node(interface, 'estimate_difference', 'series', 'mask', 'noise_groups')
        decode = SeparateBlocks(
            encoding=[list(row) for row in encoding.matrix],
            cycles=[list(cycle) for cycle in encoding.cycles],
        )
        decoded = self.node(decode, 'separate_blocks', 'series', 'mask')
        made = self.node(interface, 'estimate_difference', 'mask', 'noise_groups')
        self.workflow.connect([(decoded, made, [('differences', 'series')])])
        return made

    def add_task_difference(self) -> Any:
        """Add the difference in one condition of the task that runs in the series."""
        series = self.series
        interface = EstimateTaskDifference(
            context=list(self.delays.context),
            condition=series.condition,
            slice_times=list(series.slice_times),
            slice_axis=series.slice_axis,
            **task_ports(series, series.baseline, self.bold),
        )
        return self.node(interface, 'estimate_difference', 'series', 'mask', 'noise_groups')

    def add_delay(self) -> Any:
        """Add the delay of every voxel."""
        interface = MapDelay(
            post_label_delay=[float(delay) for delay, _ in self.delays.table],
            slice_times=[float(time) for time in self.series.slice_times],
            slice_axis=self.series.slice_axis,
        )
        return self.node(interface, 'map_delay', 'mask')

    def add_m0(self, difference: Any) -> Any:
        """Add the equilibrium signal: an image, volumes, a number, or 1 for relative CBF."""
        m0, region = self.series.m0, self.settings.m0_reference
        region = region if self.has_tissue and m0.file is not None else 'voxel'
        interface = EstimateM0(
            volumes=list(m0.volumes),
            t1_tissue=M0_REGION_T1.get(region, self.constants.t1_tissue),
            n_pairs=self.delays.n_pairs,
            region=region,
            partition_coefficient=self.settings.partition_coefficient,
        )
        for key in ('repetition_time', 'echo_time'):
            if getattr(m0, key):
                setattr(interface.inputs, key, getattr(m0, key))
        if m0.file is None:
            interface.inputs.value = m0.value if m0.value is not None else 1.0
        node = self.node(interface, 'estimate_m0', 'mask')
        taken = ['difference']
        taken += ['n_pairs'] if self.series.events else []
        self.workflow.connect([(difference, node, taken)])
        if region != 'voxel':
            self.workflow.connect([(self.inputnode, node, [(region, 'fraction')])])
        if m0.file is not None:
            self.connect_m0(node)
        return node

    def connect_m0(self, node: Any) -> None:
        """Hand the M0 image to its estimate, in the place and shape of the series."""
        m0 = self.series.m0
        if m0.file == self.series.file:
            self.workflow.connect([(self.inputnode, node, ['series'])])
        elif not m0.same_grid:
            aligned = self.add_alignment()
            node.inputs.volumes = []
            self.workflow.connect([(aligned, node, [('fraction', 'series')])])
        elif self.readout is None:
            node.inputs.series = str(m0.file)
        else:
            interface = UndistortImage(acquired=str(m0.file), axis=self.readout.axis)
            undistort = self.node(interface, 'undistort_m0', 'voxel_shift')
            self.workflow.connect([(undistort, node, [('undistorted', 'series')])])

    def add_alignment(self) -> Any:
        """Bring an M0 image of another grid or position to the series."""
        m0 = self.series.m0
        average = pe.Node(
            AverageVolumes(files=[str(m0.file)], volumes=list(m0.volumes)),
            name='average_m0',
        )
        interface = RegisterRigid() if self.is_rigid else TrustHeader()
        align = pe.Node(interface, name='align_m0')
        resample = self.node(ResampleFraction(), 'resample_m0', 'mask')
        image, port = self.undistorted_m0(average)
        self.workflow.connect([
            (self.inputnode, align, [('reference', 'fixed'), ('mask', 'fixed_mask')]),
            (image, align, [(port, 'moving')]),
            (image, resample, [(port, 'quantity')]),
            (align, resample, [('transform', 'source_transform')]),
        ])  # fmt: skip
        return resample

    def undistorted_m0(self, average: Any) -> tuple[Any, str]:
        """Undo the distortion of an M0 image on its own grid, where both readouts are known."""
        own, other = self.series.m0.readout, self.readout
        if own is None or other is None:
            return average, 'reference'
        # the displacement of the series, in voxels, stands for the field: both lie as the header
        # says, and a field is smooth over what the head moves between them
        ratio = own.echo_spacing * own.n_lines / (other.echo_spacing * other.n_lines)
        place = pe.Node(TrustHeader(), name='place_m0')
        shift = pe.Node(
            MapVoxelShift(echo_spacing=ratio, n_lines=1, polarity=own.polarity * other.polarity),
            name='map_m0_shift',
            mem_gb=0.5,
        )
        undistort = pe.Node(UndistortImage(axis=own.axis), name='undistort_m0', mem_gb=0.5)
        self.workflow.connect([
            (self.inputnode, place, [('reference', 'fixed'), ('mask', 'fixed_mask')]),
            (average, place, [('reference', 'moving')]),
            (place, shift, [('transform', 'source_transform'),
                            ('transform', 'target_transform')]),
            (self.inputnode, shift, [('voxel_shift', 'field_map')]),
            (average, shift, ['reference']),
            (average, undistort, [('reference', 'acquired')]),
            (shift, undistort, ['voxel_shift']),
        ])  # fmt: skip
        return undistort, 'undistorted'

    def add_cbf(self, difference: Any, m0: Any, delay: Any) -> MapPort:
        """Add the model."""
        series = self.series
        constants = {
            'label_duration': [float(duration) for _, duration in self.delays.table],
            'n_pairs': self.delays.n_pairs,
            'labeling': series.labeling,
            'labeling_efficiency': series.labeling_efficiency,
            'background_suppression_factor': series.background_suppression_factor,
            't1_blood': self.constants.t1_blood,
            't1_tissue': self.constants.t1_tissue,
            'partition_coefficient': self.settings.partition_coefficient,
            'dispersion_sharpness': self.settings.dispersion_sharpness,
            'dispersion_peak': self.settings.dispersion_peak,
        }
        wanted = {*MODELS['cbf'][self.model].parameters}
        given = {name: value for name, value in constants.items() if name in wanted}
        inputs = ('mask', *({'noise_groups'} & wanted))
        node = self.node(EstimateCBF(model=self.model, **given), 'estimate_cbf', *inputs)
        connect_quantity(self.workflow, MapPort(difference, 'difference'), node, 'difference')
        if m0 is not None:
            connect_quantity(self.workflow, MapPort(m0, 'm0'), node, 'm0')
            self.workflow.connect([(delay, node, [('delay', 'post_label_delay')])])
        return MapPort(node, 'cbf')

    def add_relative(self, cbf: MapPort) -> dict[str, MapPort]:
        """Add the scale of CBF without M0."""
        node = self.node(NormaliseCBF(), 'normalise_cbf', 'mask', 'noise_groups')
        connect_quantity(self.workflow, cbf, node, 'cbf')
        return {'relative_cbf': MapPort(node, 'relative_cbf')}

    def split_error(self, cbf: MapPort, m0: Any) -> dict[str, MapPort]:
        """Add the split of the error of M0 from the rest, where conditions share M0."""
        if not self.series.m0.shared:
            return {'cbf': cbf}
        node = self.node(SeparateM0Error(), 'separate_m0_error', 'mask')
        connect_quantity(self.workflow, MapPort(m0, 'm0'), node, 'm0')
        connect_quantity(self.workflow, cbf, node, 'cbf')
        return {
            'cbf': cbf,
            'cbf_without_m0': MapPort(node, 'cbf_without_m0'),
            'm0_relative': MapPort(node, 'm0_relative'),
        }

    def add_tissue(self, cbf: MapPort | None) -> dict[str, MapPort]:
        """Add CBF of grey and white matter apart, where that was asked for."""
        if cbf is None or self.settings.partial_volume_correction == 'none':
            return {}
        interface = CorrectPartialVolume(slice_axis=self.series.slice_axis)
        node = self.node(interface, 'correct_partial_volume', 'mask', *TISSUES[:2])
        connect_quantity(self.workflow, cbf, node, 'cbf')
        return {name: MapPort(node, name) for name in ('grey_cbf', 'white_cbf')}

    def add_quality(self, cbf: MapPort, difference: Any, m0_node: Any) -> MapPort:
        """Add the quality table."""
        interface = SummariseQuality(
            condition=self.series.condition or '',
            run=self.series.run or '',
            is_absolute=not self.is_relative,
        )
        m0 = self.series.m0.file
        if m0 not in (None, self.series.file):
            interface.inputs.scaled = [str(m0), str(self.series.file)]
        node = self.node(interface, 'summarise_quality', 'mask', *TISSUES)
        connect_quantity(self.workflow, cbf, node, 'cbf')
        if self.order is not None:
            node.inputs.order = self.order
        if not self.series.events:
            self.workflow.connect([(difference, node, ['calibration'])])
        if self.has_halves:
            connect_quantity(
                self.workflow, MapPort(difference, 'half_difference'), node, 'half_difference'
            )
        if m0 is not None and m0_node is not None:
            connect_quantity(self.workflow, MapPort(m0_node, 'm0'), node, 'm0')
        return MapPort(node, 'table')
