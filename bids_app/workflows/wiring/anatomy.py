"""T1w image, tissue and template, and the alignment of every scan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bids_app.engines.templates import RESOLUTION
from bids_app.interfaces.motion import EstimateEchoMotion
from bids_app.interfaces.spatial import ResampleLabels
from bids_app.models.preprocessing.realignment import FEWEST_ECHOES
from bids_app.workflows._engine import MapPort, pe
from bids_app.workflows.anatomy import TEMPLATE, TISSUE_PORTS, init_alignment_wf, init_anatomy_wf
from bids_app.workflows.graph import TISSUE_LABELS, WORD
from bids_app.workflows.wiring.scans import join_tables

if TYPE_CHECKING:
    from bids_app.workflows.derivatives import Sink
    from bids_app.workflows.graph import AlignedScan, Graph


def add_anatomy(graph: Graph) -> None:
    """Add T1w image, tissue maps and template, and save them."""
    inputs, settings = graph.inputs, graph.settings.anatomy
    graph.anatomy = init_anatomy_wf(t1w=inputs.t1w, found=inputs.anatomy, settings=settings)
    source = [inputs.anatomy.t1w] if inputs.anatomy else inputs.t1w
    sidecar = {'Sources': graph.sources(source)}
    sink = graph.sink('save_anatomy')

    def port(name: str) -> MapPort:
        return MapPort(graph.anatomy, name)

    sink.add(port('t1w'), 'preproc_t1w', sidecar=sidecar)
    sink.add(port('brain_mask'), 'brain_mask', sidecar=sidecar)
    sink.add(port('dseg'), 'dseg', sidecar=sidecar)
    for label, name in TISSUE_LABELS.items():
        sink.add(port(name), 'probseg', label=label, sidecar=sidecar)
    if graph.has_template:
        sink.add(port('to_template'), 'xfm_t1w_template', template=TEMPLATE)
        sink.add(port('from_template'), 'xfm_template_t1w', template=TEMPLATE)
        at: dict[str, Any] = {'space': TEMPLATE, 'res': RESOLUTION, 'sidecar': sidecar}
        sink.add(port('template_mask'), 'brain_mask', **at)
        sink.add(port('template_grey_matter'), 'probseg', label='GM', **at)
    graph.close(sink)


def add_alignment(graph: Graph) -> None:
    """Align every scan, and save the transforms and the reference image."""
    for scan in graph.scans:
        _align_once(graph, scan)
    sink = graph.sink('save_alignment')
    first = graph.alignment[graph.target.name]
    sidecar = {'Sources': graph.sources(graph.target.images)}
    sink.add(MapPort(first, 'reference'), 'reference', scan=graph.space, sidecar=sidecar)
    sink.add(MapPort(first, 'mask'), 'brain_mask', space=graph.space, sidecar=sidecar)
    if graph.has_anatomy:
        for label, name in TISSUE_LABELS.items():
            tissue = MapPort(first, name)
            sink.add(tissue, 'probseg', label=label, space=graph.space, sidecar=sidecar)
        for scan in graph.scans:
            _save_scan(graph, sink, scan)
        if graph.settings.anatomy.registration == 'rigid':
            _save_verdicts(graph)
    for scan in graph.scans:
        if scan.is_corrected:
            _save_confounds(sink, graph, scan, MapPort(graph.alignment[scan.name], 'confounds'))
    graph.close(sink)
    _add_echo_motion(graph)


def _align_once(graph: Graph, scan: AlignedScan) -> None:
    """Align a scan, unless it is another condition within a series that is aligned."""
    for other in graph.scans:
        if other.name in graph.alignment and other.shares_images(scan):
            graph.alignment[scan.name] = graph.alignment[other.name]
            return
    add_scan(graph, scan)


def add_scan(graph: Graph, scan: AlignedScan) -> None:
    """Align one scan: to the T1w image, else to the first scan."""
    align = init_alignment_wf(
        images=scan.images,
        imaginary=scan.imaginary,
        volumes=scan.volumes,
        series=scan.moving,
        found=scan.found if graph.has_anatomy else None,
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


def _save_verdicts(graph: Graph) -> None:
    """Join the verdicts on the brain and all scans, and save them."""
    sink = graph.sink('save_verdicts')
    own = [] if graph.inputs.anatomy else [MapPort(graph.anatomy, 'verdict')]
    once = dict.fromkeys(graph.alignment[scan.name] for scan in graph.scans)
    tables = own + [MapPort(align, 'verdict') for align in once]
    sidecar = {'Sources': graph.sources(path for scan in graph.scans for path in scan.images)}
    sink.add(join_tables(graph, tables, 'verdicts'), 'alignment', sidecar=sidecar)
    graph.close(sink)


def _add_echo_motion(graph: Graph) -> None:
    """Estimate the movement between echoes and save it; nothing else hangs on it."""
    sink = graph.sink('save_echo_motion')
    for scan in graph.scans:
        is_train = scan.corrects_motion and scan.kind in ('mese', 'megre')
        if not is_train or len(scan.images) < FEWEST_ECHOES:
            continue
        interface = EstimateEchoMotion(
            echoes=[str(path) for path in scan.images],
            imaginary=[str(path) for path in scan.imaginary],
            echo_times=list(scan.series.echo_times),
        )
        node = pe.Node(interface, name=f'estimate_echo_motion_{scan.name}')
        _save_confounds(sink, graph, scan, MapPort(node, 'confounds'))
    if sink.items:
        graph.close(sink)


def _save_confounds(sink: Sink, graph: Graph, scan: AlignedScan, confounds: MapPort) -> None:
    """Save the movement within a series or between echoes."""
    files = (scan.series.file,) if scan.moving else (*scan.images, *scan.imaginary)
    sink.add(
        confounds,
        'confounds',
        scan=WORD[scan.kind],
        task=getattr(scan.series, 'task', None) or scan.series.condition,
        run=scan.series.run,
        sidecar={'Sources': graph.sources(files)},
    )


def _save_scan(graph: Graph, sink: Sink, scan: AlignedScan) -> None:
    """Save the transform of a scan and the mean image that it was found with."""
    word = 'boldref' if scan.kind == 'bold' else WORD[scan.kind]
    align = graph.alignment[scan.name]
    task = getattr(scan.series, 'task', None) or scan.series.condition
    at = {'task': task, 'run': scan.series.run}
    sink.add(MapPort(align, 'transform'), 'xfm_scan', scan=word, **at)
    if scan is not graph.target:
        sidecar = {'Sources': graph.sources(scan.images)}
        image = MapPort(align, 'reference')
        sink.add(image, 'reference', scan=WORD[scan.kind], sidecar=sidecar, **at)


def atlas_of(graph: Graph) -> MapPort:
    """Give the atlas on the quantification grid; bring it there when it is first needed."""
    if graph.atlas is None:
        graph.atlas = _add_atlas(graph)
        sink = graph.sink('save_atlas')
        name = graph.settings.atlas
        mask = MapPort(graph.alignment[graph.target.name], 'mask')
        sidecar = graph.made_from(mask)
        sink.add(graph.atlas, 'atlas', atlas=name, space=graph.space, sidecar=sidecar)
        graph.close(sink)
    return graph.atlas


def _add_atlas(graph: Graph) -> MapPort:
    """Bring the atlas to the quantification grid."""
    node = pe.Node(ResampleLabels(), name='resample_atlas_to_grid')
    mask, port = graph.mask
    graph.workflow.connect([
        (graph.anatomy, node, [('outputnode.atlas', 'quantity')]),
        (mask, node, [(port, 'mask'), ('outputnode.transform', 'target_transform')]),
    ])  # fmt: skip
    return MapPort(node, 'labels')
