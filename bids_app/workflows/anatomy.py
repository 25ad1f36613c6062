"""T1w image, masks, tissue maps, template; and the alignment of every scan to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bids_app.engines.templates import ATLAS, packaged_template
from bids_app.engines.templates import SPACE as TEMPLATE
from bids_app.interfaces.alignment import JudgeAlignment, PassAligned
from bids_app.interfaces.distortion import (
    FindFieldFromOpposites,
    MapVoxelShift,
    ReadFieldMap,
    UndistortImage,
)
from bids_app.interfaces.motion import EstimateMotion, FillVolumes, ResampleSeries
from bids_app.interfaces.spatial import (
    AverageHeads,
    AverageVolumes,
    DiscretiseTissue,
    ExtractBrain,
    MapCoordinates,
    MaskFromMean,
    NormaliseToTemplate,
    RegisterRigid,
    ResampleFraction,
    ResampleLabels,
    ResampleTissue,
    SegmentTissue,
    TakeTransform,
    TrustHeader,
)
from bids_app.workflows._engine import Workflow, pe, ports

if TYPE_CHECKING:
    from pathlib import Path

    from bids_app.bids.scans import FieldMap, FoundAnatomy, FoundScan, Readout
    from bids_app.settings import AnatomySettings

TISSUE_PORTS = ('t1w', 'brain_mask', 'grey_matter', 'white_matter', 'csf')
MOTION_PORTS = ('confounds', 'voxels_per_sample')
SERIES_PORTS = ('series', 'other_echoes')
FIELD_PORTS = ('field_map', 'field_transform')
TRANSFORM_PORTS = ('to_template', 'from_template')


def template_file(kind: str, extension: str = '.nii.gz') -> str:
    """Path of a packaged file of the template."""
    return str(packaged_template(kind, extension))


def atlas_files() -> tuple[str, str]:
    """Image and table of the packaged atlas."""
    return template_file(ATLAS), template_file(ATLAS, '.tsv')


def init_anatomy_wf(
    *,
    t1w: tuple[Path, ...],
    found: FoundAnatomy | None,
    settings: AnatomySettings,
    name: str = 'anatomy',
) -> Workflow:
    """
    Build the graph from a T1w image, or from anatomy found elsewhere, to tissue and template.

    Several T1w images are averaged; anatomy that was found is taken instead of computing.

    Outputs
    -------
    t1w, brain_mask, grey_matter, white_matter, csf, dseg : file
        On the grid of the T1w image.
    to_template, from_template : file
        ITK transforms; absent where the found anatomy has none.
    coordinates : file
        T1w position of every template voxel, mm.
    atlas : file
        Regions on the grid of the T1w image.
    template_grey_matter, template_mask : file
        On the grid of the template.
    verdict : file
        Table on the brain that was found here; absent where the anatomy was found elsewhere.
    """
    has_template, is_computed = is_normalised(t1w, found, settings)
    if found:
        methods = f'Anatomical maps and transforms were taken from {found.source}'
        workflow = Workflow(name, methods=methods)
    else:
        methods = (
            f'{"The mean of the aligned T1w images" if len(t1w) > 1 else "The T1w image"} '
            'was corrected for intensity non-uniformity, its brain was found by '
            'registration to a template, and tissue probabilities were estimated; it was '
            f'normalised to {TEMPLATE} with ANTs'
        )
        workflow = Workflow(name, methods=methods, citations=('avants2011', 'tustison2010'))
    source = ports('anatomy_source', *TISSUE_PORTS, *TRANSFORM_PORTS)
    outputnode = ports(
        'outputnode',
        *TISSUE_PORTS,
        'dseg',
        *TRANSFORM_PORTS,
        'coordinates',
        'atlas',
        'template_grey_matter',
        'template_mask',
        'verdict',
    )
    workflow.add_nodes([outputnode])
    if found:
        known = TISSUE_PORTS if is_computed else (*TISSUE_PORTS, *TRANSFORM_PORTS)
        for port in known:
            path = getattr(found, port)
            if path is not None:
                setattr(source.inputs, port, str(path))
        if is_computed:
            normalise = _normalise_node(settings)
            normalise.inputs.t1w = str(found.t1w)
            normalise.inputs.brain_mask = str(found.brain_mask)
            workflow.connect([(normalise, source, TRANSFORM_PORTS)])
    else:
        _connect_own_anatomy(workflow, source, t1w, settings)

    discretise = pe.Node(DiscretiseTissue(), name='discretise_tissue')
    tissue = ('brain_mask', 'grey_matter', 'white_matter', 'csf')
    workflow.connect([
        (source, discretise, tissue),
        (source, outputnode, TISSUE_PORTS),
        (discretise, outputnode, ['dseg']),
    ])  # fmt: skip
    if has_template:
        _connect_template(workflow, source, outputnode)
    return workflow


def is_normalised(
    t1w: tuple[Path, ...], found: FoundAnatomy | None, settings: AnatomySettings
) -> tuple[bool, bool]:
    """
    Tell whether there will be transforms to the template, and whether they are computed.

    Found anatomy that has none is normalised here, unless the headers are to be trusted.
    """
    if found is None:
        return bool(t1w), bool(t1w)
    if found.to_template and found.from_template:
        return True, False
    is_computed = settings.registration == 'rigid'
    return is_computed, is_computed


def _normalise_node(settings: AnatomySettings) -> pe.Node:
    """Make the node that finds the deformation to the template."""
    return pe.Node(
        NormaliseToTemplate(
            template=template_file('T1w'),
            template_mask=template_file('desc-brain_mask'),
            sloppy=settings.sloppy,
            random_seed=settings.random_seed,
        ),
        name='normalise_to_template',
    )


def _connect_own_anatomy(
    workflow: Workflow, source: pe.Node, t1w: tuple[Path, ...], settings: AnatomySettings
) -> None:
    """Compute what the source node offers."""
    seed = settings.random_seed
    find = ExtractBrain(
        smallest=settings.smallest_brain, largest=settings.largest_brain, random_seed=seed
    )
    extract = pe.Node(find, name='extract_brain')
    extract.inputs.t1w = str(t1w[0])
    if len(t1w) > 1:
        heads = AverageHeads(images=[str(path) for path in t1w], random_seed=seed)
        average = pe.Node(heads, name='average_heads')
        workflow.connect([(average, extract, ['t1w'])])
    segment = pe.Node(SegmentTissue(random_seed=seed), name='segment_tissue')
    normalise = _normalise_node(settings)
    workflow.connect([
        (extract, segment, ['t1w', 'brain_mask']),
        (extract, normalise, ['t1w', 'brain_mask']),
        (extract, source, ['t1w', 'brain_mask']),
        (extract, workflow.get_node('outputnode'), [('table', 'verdict')]),
        (segment, source, ('grey_matter', 'white_matter', 'csf')),
        (normalise, source, TRANSFORM_PORTS),
    ])  # fmt: skip


def _connect_template(workflow: Workflow, source: pe.Node, outputnode: pe.Node) -> None:
    """Map positions between T1w and template both ways; bring the atlas to the T1w grid."""
    template_mask = template_file('desc-brain_mask')
    map_template = pe.Node(MapCoordinates(reference=template_mask), name='map_template_to_t1w')
    map_t1w = pe.Node(MapCoordinates(), name='map_t1w_to_template')
    atlas = pe.Node(ResampleLabels(quantity=atlas_files()[0]), name='resample_atlas')
    grey = pe.Node(ResampleFraction(mask=template_mask), name='resample_grey_matter_to_template')
    mask = pe.Node(ResampleLabels(mask=template_mask), name='resample_brain_mask_to_template')
    workflow.connect([
        (source, map_template, [('to_template', 'transform')]),
        (source, map_t1w, [('from_template', 'transform'), ('brain_mask', 'reference')]),
        (source, atlas, [('brain_mask', 'mask')]),
        (map_t1w, atlas, ['coordinates']),
        (source, grey, [('grey_matter', 'quantity')]),
        (map_template, grey, ['coordinates']),
        (source, mask, [('brain_mask', 'quantity')]),
        (map_template, mask, ['coordinates']),
        (source, outputnode, TRANSFORM_PORTS),
        (map_template, outputnode, ['coordinates']),
        (atlas, outputnode, [('labels', 'atlas')]),
        (grey, outputnode, [('fraction', 'template_grey_matter')]),
        (mask, outputnode, [('labels', 'template_mask')]),
    ])  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class MovingSeries:
    """A series whose volumes may not lie at one place."""

    file: Path
    is_corrected: bool
    """Whether its movement is undone."""
    other_echoes: tuple[Path, ...] = ()
    """They lie where the first echo, `file`, lies."""
    lost: tuple[int, ...] = ()
    """Volumes that do not count; filled before anything is made of the series."""
    context: tuple[str, ...] = ()
    """Kind of every volume of a label-control series."""
    has_bolus: bool = False
    readout: Readout | None = None
    """How the field displaces it, where that is undone."""


def series_ports(series: MovingSeries) -> tuple[str, ...]:
    """Name the ports of the files of a series: one, or one more for its other echoes."""
    return SERIES_PORTS if series.other_echoes else SERIES_PORTS[:1]


def init_alignment_wf(
    *,
    images: tuple[Path, ...],
    imaginary: tuple[Path, ...] = (),
    volumes: tuple[int, ...] = (),
    series: MovingSeries | None = None,
    found: FoundScan | None = None,
    has_anatomy: bool,
    is_target: bool,
    settings: AnatomySettings,
    name: str,
) -> Workflow:
    """
    Build the graph that aligns one scan and brings mask and tissue maps to its grid.

    Parameters
    ----------
    images : tuple of Path
        Echoes, or a series; their mean stands for the scan.
    imaginary : tuple of Path
        Imaginary part of each image, where `images` are real parts.
    volumes : tuple of int
        Of a series; empty means all.
    series : MovingSeries or None
        What the models take, where the scan is a series.
    found : FoundScan or None
        What other software says of where the scan lies; it is not aligned again.
    has_anatomy : bool
        Align to the T1w image; else to the reference scan, and find the mask in the mean.
    is_target : bool
        The scan is the reference itself: without anatomy it needs no alignment.
    settings : AnatomySettings
        Registration or header.
    name : str
        Node name in the parent graph.

    Inputs
    ------
    fixed, fixed_mask : file
        Image to align to.
    brain_mask, grey_matter, white_matter, csf : file
        On the grid of `fixed`; only with anatomy.
    field_map, field_transform : file
        Field, Hz, and points of `fixed` to those of its image; where distortion is undone.

    Outputs
    -------
    reference : file
        Mean image of the scan, undistorted where that can be.
    acquired, voxel_shift : file
        The mean image before, and the displacement; where distortion is undone.
    transform : file
        Points of `fixed` to points of the scan.
    mask, grey_matter, white_matter, csf, noise_groups : file
        On the grid of the scan; without anatomy only the mask.
    verdict : file
        Table of how well the scan lies on the anatomy, where it was aligned to it.
    series, other_echoes : file, list of file
        Of a series: with the head at one place, or as it is where it is not to be touched; of
        several echoes the first and the others.
    confounds, voxels_per_sample : file, number
        Only where movement was undone.
    """
    is_rigid = settings.registration == 'rigid' and (has_anatomy or not is_target)
    methods = 'Scans were aligned rigidly to the T1w image' if is_rigid and has_anatomy else ''
    workflow = Workflow(name, methods=methods, citations=('avants2011',) if methods else ())
    inputnode = ports('inputnode', 'fixed', 'fixed_mask', *TISSUE_PORTS[1:], *FIELD_PORTS)
    outputnode = ports('outputnode', 'reference', 'transform', 'mask', *TISSUE_PORTS[2:],
                       'noise_groups', *SERIES_PORTS, 'acquired', 'voxel_shift', 'verdict',
                       *MOTION_PORTS)  # fmt: skip
    average = pe.Node(
        AverageVolumes(
            files=[str(path) for path in images],
            imaginary=[str(path) for path in imaginary],
            volumes=list(volumes),
        ),
        name='average_volumes',
    )
    workflow.add_nodes([inputnode, average])
    align = pe.Node(_how_to_align(found, settings, is_rigid=is_rigid), name='align_scan')
    workflow.connect([(align, outputnode, ['transform'])])
    moving = stands = (average, 'reference')
    if series is not None:
        _connect_series(workflow, series, average, outputnode)
        if series.readout is not None:
            moving, stands = _connect_distortion(workflow, series.readout, is_rigid=is_rigid)
    workflow.connect([
        (stands[0], outputnode, [(stands[1], 'reference')]),
        (moving[0], align, [(moving[1], 'moving')]),
    ])  # fmt: skip
    if has_anatomy:
        tissue = pe.Node(ResampleTissue(), name='resample_tissue')
        if is_rigid:
            _connect_verdict(workflow, (inputnode, align, tissue, outputnode), stands)
        workflow.connect([
            (inputnode, align, ['fixed', 'fixed_mask']),
            (inputnode, tissue, TISSUE_PORTS[1:]),
            (stands[0], tissue, [(stands[1], 'reference')]),
            (align, tissue, ['transform']),
            (tissue, outputnode, (*TISSUE_PORTS[2:], 'noise_groups')),
        ])  # fmt: skip
        if not is_rigid:
            workflow.connect([(tissue, outputnode, ['mask'])])
        return workflow
    find_mask = pe.Node(MaskFromMean(), name='find_mask')
    workflow.connect([
        (stands[0], find_mask, [(stands[1], 'reference')]),
        (find_mask, outputnode, ['mask']),
    ])  # fmt: skip
    if is_target:
        workflow.connect([(average, align, [('reference', 'fixed')])])
    else:
        workflow.connect([(inputnode, align, ['fixed', 'fixed_mask'])])
    return workflow


def _how_to_align(found: FoundScan | None, settings: AnatomySettings, *, is_rigid: bool) -> Any:
    """Register, or take a transform that is known."""
    if found is not None and found.transform is not None:
        return TakeTransform(known=str(found.transform))
    align = RegisterRigid if is_rigid and found is None else TrustHeader
    return align(random_seed=settings.random_seed)


def _connect_verdict(
    workflow: Workflow, nodes: tuple[pe.Node, ...], reference: tuple[pe.Node, str]
) -> None:
    """Hand the mask on only where the scan lies on the anatomy."""
    inputnode, align, tissue, outputnode = nodes
    image, port = reference
    scan = workflow.name.removeprefix('align_')
    judge = pe.Node(JudgeAlignment(scan=scan), name='judge_alignment')
    # in a node of its own, so that the verdict on a failed scan is kept
    stop = pe.Node(PassAligned(), name='stop_misaligned')
    workflow.connect([
        (inputnode, judge, [('fixed', 't1w'), ('fixed_mask', 'brain_mask')]),
        (image, judge, [(port, 'reference')]),
        (align, judge, ['transform']),
        (tissue, judge, ['mask']),
        (judge, outputnode, [('table', 'verdict')]),
        (tissue, stop, ['mask']),
        (judge, stop, ['table']),
        (stop, outputnode, ['mask']),
    ])  # fmt: skip


def init_motion_wf(*, series: MovingSeries, name: str = 'motion') -> Workflow:
    """
    Build the graph that undoes movement and distortion of a series, in one resampling.

    Inputs
    ------
    series, other_echoes : file, list of file
        The series, its volumes that do not count filled.
    voxel_shift : file
        Displacement by the field, where distortion is undone.

    Outputs
    -------
    series, other_echoes : file, list of file
        On its own grid, with the head where it is in the mean.
    confounds : file
        Table of the movement, where that is undone.
    voxels_per_sample : number
        Voxels that share one noise sample after the resampling; with the table.
    """
    methods = (
        'The movement of the head within every series was estimated by rigid alignment of its '
        'volumes to their mean, and undone in one resampling'
    )
    is_moved = series.is_corrected
    workflow = Workflow(
        name, methods=methods if is_moved else '', citations=('baker2004',) if is_moved else ()
    )
    inputnode = ports('inputnode', *SERIES_PORTS, 'voxel_shift')
    outputnode = ports('outputnode', *SERIES_PORTS, *MOTION_PORTS)
    resample = pe.Node(ResampleSeries(), name='resample_series')
    handed = series_ports(series)
    workflow.connect([(inputnode, resample, handed), (resample, outputnode, handed)])
    if is_moved:
        estimate = pe.Node(
            EstimateMotion(has_bolus=series.has_bolus, context=list(series.context)),
            name='estimate_motion',
        )
        workflow.connect([
            (inputnode, estimate, ['series']),
            (estimate, resample, ['matrices']),
            (estimate, outputnode, MOTION_PORTS),
        ])  # fmt: skip
    if series.readout is not None:
        resample.inputs.shift_axis = series.readout.axis
        workflow.connect([(inputnode, resample, ['voxel_shift'])])
    return workflow


def _connect_series(
    workflow: Workflow, series: MovingSeries, average: pe.Node, outputnode: pe.Node
) -> None:
    """Undo movement and distortion of a series before anything is made of it."""
    is_touched = series.is_corrected or series.readout is not None
    stands_for_scan = average.inputs.files == [str(series.file)]
    wanted = series_ports(series)
    if series.lost:
        source = pe.Node(FillVolumes(lost=list(series.lost)), name='fill_volumes')
    else:
        source = ports('series', *SERIES_PORTS)
    source.inputs.series = str(series.file)
    if series.other_echoes:
        source.inputs.other_echoes = [str(path) for path in series.other_echoes]
    if stands_for_scan and (series.readout is not None or not is_touched):
        workflow.connect([(source, average, [(('series', as_list), 'files')])])
    if not is_touched:
        workflow.connect([(source, outputnode, wanted)])
        return
    motion = init_motion_wf(series=series)
    made = (*wanted, *MOTION_PORTS) if series.is_corrected else wanted
    workflow.connect([
        (source, motion, [(port, f'inputnode.{port}') for port in wanted]),
        (motion, outputnode, [(f'outputnode.{port}', port) for port in made]),
    ])  # fmt: skip
    # with distortion the mean as it was acquired comes first: the shift follows from it
    if series.readout is None and stands_for_scan:
        workflow.connect([(motion, average, [(('outputnode.series', as_list), 'files')])])


def _connect_distortion(
    workflow: Workflow, readout: Readout, *, is_rigid: bool
) -> tuple[tuple[pe.Node, str], tuple[pe.Node, str]]:
    """
    Undo the distortion of the mean image and of the series.

    Give node and port of what is to be aligned, and of the corrected mean image.

    A distorted image is aligned only roughly. So the first alignment gives a first displacement,
    the image corrected by it the alignment that counts, and that the displacement that counts.
    """
    inputnode, outputnode = (workflow.get_node(name) for name in ('inputnode', 'outputnode'))
    average, align = (workflow.get_node(name) for name in ('average_volumes', 'align_scan'))
    moving: tuple[pe.Node, str] = (average, 'reference')
    passes = [('shift', align)]
    if is_rigid:
        first = pe.Node(
            RegisterRigid(random_seed=align.inputs.random_seed), name='align_distorted'
        )
        workflow.connect([
            (inputnode, first, ['fixed', 'fixed_mask']),
            (average, first, [('reference', 'moving')]),
        ])  # fmt: skip
        passes.insert(0, ('first_shift', first))
    for name, alignment in passes:
        shift = pe.Node(
            MapVoxelShift(
                echo_spacing=readout.echo_spacing,
                n_lines=readout.n_lines,
                polarity=readout.polarity,
            ),
            name=f'map_{name}',
        )
        correct = pe.Node(UndistortImage(axis=readout.axis), name=f'undistort_by_{name}')
        workflow.connect([
            (inputnode, shift, ['field_map',
                                ('field_transform', 'source_transform')]),
            (alignment, shift, [('transform', 'target_transform')]),
            (average, shift, ['reference']),
            (average, correct, [('reference', 'acquired')]),
            (shift, correct, ['voxel_shift']),
        ])  # fmt: skip
        if alignment is not align:
            moving = (correct, 'undistorted')
    workflow.connect([
        (shift, workflow.get_node('motion'), [('voxel_shift', 'inputnode.voxel_shift')]),
        (average, outputnode, [('reference', 'acquired')]),
        (shift, outputnode, ['voxel_shift']),
    ])  # fmt: skip
    return moving, (correct, 'undistorted')


def init_field_map_wf(*, field_map: FieldMap, name: str) -> Workflow:
    """
    Build the graph from the field map of a dataset to the field.

    Inputs
    ------
    mask : file
        Brain on the grid of the map; not for images of opposite phase encoding.

    Outputs
    -------
    field_map : file
        Hz.
    images : list of file
        Image to align; only of images of opposite phase encoding.
    """
    workflow = Workflow(name)
    inputnode = ports('inputnode', 'mask')
    outputnode = ports('outputnode', 'field_map', 'images')
    files = [str(path) for path in field_map.files]
    if field_map.kind == 'opposite':
        interface = FindFieldFromOpposites(files=files, axis=field_map.axis, scale=field_map.scale)
        made, wanted = ['field_map', 'images'], []
    else:
        interface = ReadFieldMap(
            files=files,
            kind=field_map.kind,
            scale=field_map.scale,
            echo_difference=field_map.echo_difference,
        )
        made, wanted = ['field_map'], ['mask']
    find = pe.Node(interface, name='find_field')
    workflow.connect([(inputnode, find, wanted), (find, outputnode, made)])
    return workflow


def as_list(item):  # noqa: ANN001, ANN201  (nipype runs its source text alone)
    """Make a list of one item; runs inside a connection."""
    return [item]
