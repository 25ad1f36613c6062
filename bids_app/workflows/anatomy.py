"""T1w image, masks, tissue maps, template; and the alignment of every scan to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bids_app.engines.templates import ATLAS, packaged_template
from bids_app.engines.templates import SPACE as TEMPLATE
from bids_app.interfaces.motion import EstimateMotion, ResampleSeries
from bids_app.interfaces.spatial import (
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
    TrustHeader,
)
from bids_app.workflows._engine import Workflow, pe, ports

if TYPE_CHECKING:
    from pathlib import Path

    from bids_app.bids.acquisitions import FoundAnatomy
    from bids_app.settings import AnatomySettings

TISSUE_PORTS = ('t1w', 'brain_mask', 'grey_matter', 'white_matter', 'csf')
MOTION_PORTS = ('confounds', 'confounds_facts', 'voxels_per_sample')
TRANSFORM_PORTS = ('to_template', 'from_template')


def template_file(kind: str, extension: str = '.nii.gz') -> str:
    """Path of a packaged file of the template."""
    return str(packaged_template(kind, extension))


def atlas_files() -> tuple[str, str]:
    """Image and table of the packaged atlas."""
    return template_file(ATLAS), template_file(ATLAS, '.tsv')


def init_anatomy_wf(
    *,
    t1w: Path | None,
    found: FoundAnatomy | None,
    settings: AnatomySettings,
    name: str = 'anatomy',
) -> Workflow:
    """
    Build the graph from a T1w image, or from anatomy found elsewhere, to tissue and template.

    Parameters
    ----------
    t1w : Path or None
        Not used where `found` is given.
    found : FoundAnatomy or None
        Taken instead of computing.
    settings : AnatomySettings
        Seed.
    name : str
        Node name in the parent graph.

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
    """
    if found:
        methods = f'Anatomical maps and transforms were taken from {found.source}'
        workflow = Workflow(name, methods=methods)
    else:
        methods = (
            'The T1w image was corrected for intensity non-uniformity, its brain was found by '
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
    )
    if found:
        for port in (*TISSUE_PORTS, *TRANSFORM_PORTS):
            path = getattr(found, port)
            if path is not None:
                setattr(source.inputs, port, str(path))
    else:
        _connect_own_anatomy(workflow, source, str(t1w), settings)

    discretise = pe.Node(DiscretiseTissue(), name='discretise_tissue', mem_gb=1)
    tissue = [(port, port) for port in ('brain_mask', 'grey_matter', 'white_matter', 'csf')]
    workflow.connect([
        (source, discretise, tissue),
        (source, outputnode, [(port, port) for port in TISSUE_PORTS]),
        (discretise, outputnode, [('dseg', 'dseg')]),
    ])  # fmt: skip
    if not found or (found.to_template and found.from_template):
        _connect_template(workflow, source, outputnode)
    return workflow


def _connect_own_anatomy(
    workflow: Workflow, source: pe.Node, t1w: str, settings: AnatomySettings
) -> None:
    """Compute what the source node offers."""
    seed = settings.random_seed
    extract = pe.Node(ExtractBrain(t1w=t1w, random_seed=seed), name='extract_brain', mem_gb=2)
    segment = pe.Node(SegmentTissue(random_seed=seed), name='segment_tissue', mem_gb=2)
    normalise = pe.Node(
        NormaliseToTemplate(
            template=template_file('T1w'),
            template_mask=template_file('desc-brain_mask'),
            random_seed=seed,
        ),
        name='normalise_to_template',
        mem_gb=2,
    )
    workflow.connect([
        (extract, segment, [('t1w', 't1w'), ('brain_mask', 'brain_mask')]),
        (extract, normalise, [('t1w', 't1w'), ('brain_mask', 'brain_mask')]),
        (extract, source, [('t1w', 't1w'), ('brain_mask', 'brain_mask')]),
        (segment, source, [(port, port) for port in ('grey_matter', 'white_matter', 'csf')]),
        (normalise, source, [(port, port) for port in TRANSFORM_PORTS]),
    ])  # fmt: skip


def _connect_template(workflow: Workflow, source: pe.Node, outputnode: pe.Node) -> None:
    """Map positions between T1w and template both ways; bring the atlas to the T1w grid."""
    template_mask = template_file('desc-brain_mask')
    map_template = pe.Node(
        MapCoordinates(reference=template_mask), name='map_template_to_t1w', mem_gb=1
    )
    map_t1w = pe.Node(MapCoordinates(), name='map_t1w_to_template', mem_gb=2)
    atlas = pe.Node(ResampleLabels(quantity=atlas_files()[0]), name='resample_atlas', mem_gb=2)
    grey = pe.Node(
        ResampleFraction(mask=template_mask), name='resample_grey_matter_to_template', mem_gb=1
    )
    mask = pe.Node(
        ResampleLabels(mask=template_mask), name='resample_brain_mask_to_template', mem_gb=1
    )
    workflow.connect([
        (source, map_template, [('to_template', 'transform')]),
        (source, map_t1w, [('from_template', 'transform'), ('brain_mask', 'reference')]),
        (source, atlas, [('brain_mask', 'mask')]),
        (map_t1w, atlas, [('coordinates', 'coordinates')]),
        (source, grey, [('grey_matter', 'quantity')]),
        (map_template, grey, [('coordinates', 'coordinates')]),
        (source, mask, [('brain_mask', 'quantity')]),
        (map_template, mask, [('coordinates', 'coordinates')]),
        (source, outputnode, [(port, port) for port in TRANSFORM_PORTS]),
        (map_template, outputnode, [('coordinates', 'coordinates')]),
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
    context: tuple[str, ...] = ()
    """Kind of every volume of a label-control series."""
    has_bolus: bool = False


def init_alignment_wf(
    *,
    images: tuple[Path, ...],
    imaginary: tuple[Path, ...] = (),
    volumes: tuple[int, ...] = (),
    series: MovingSeries | None = None,
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

    Outputs
    -------
    reference : file
        Mean image of the scan.
    transform : file
        Points of `fixed` to points of the scan.
    mask, grey_matter, white_matter, csf, noise_groups : file
        On the grid of the scan; without anatomy only the mask.
    series : file
        Of a series: with the head at one place, or as it is where it is not to be touched.
    confounds, voxels_per_sample : file, number
        Only where movement was undone.
    """
    is_rigid = settings.registration == 'rigid' and (has_anatomy or not is_target)
    methods = 'Scans were aligned rigidly to the T1w image' if is_rigid and has_anatomy else ''
    workflow = Workflow(name, methods=methods, citations=('avants2011',) if methods else ())
    inputnode = ports('inputnode', 'fixed', 'fixed_mask', *TISSUE_PORTS[1:])
    outputnode = ports('outputnode', 'reference', 'transform', 'mask', *TISSUE_PORTS[2:],
                       'noise_groups', 'series', *MOTION_PORTS)  # fmt: skip
    average = pe.Node(
        AverageVolumes(
            files=[str(path) for path in images],
            imaginary=[str(path) for path in imaginary],
            volumes=list(volumes),
        ),
        name='average_volumes',
        mem_gb=1,
    )
    if series is not None:
        _connect_series(workflow, series, average, outputnode)
    align_class = RegisterRigid if is_rigid else TrustHeader
    align = pe.Node(align_class(random_seed=settings.random_seed), name='align_scan', mem_gb=1)
    workflow.connect([
        (average, outputnode, [('reference', 'reference')]),
        (average, align, [('reference', 'moving')]),
        (align, outputnode, [('transform', 'transform')]),
    ])  # fmt: skip
    if has_anatomy:
        tissue = pe.Node(ResampleTissue(), name='resample_tissue', mem_gb=1)
        workflow.connect([
            (inputnode, align, [('fixed', 'fixed'), ('fixed_mask', 'fixed_mask')]),
            (inputnode, tissue, [(port, port) for port in TISSUE_PORTS[1:]]),
            (average, tissue, [('reference', 'reference')]),
            (align, tissue, [('transform', 'transform')]),
            (tissue, outputnode, [(port, port) for port in ('mask', *TISSUE_PORTS[2:],
                                                            'noise_groups')]),
        ])  # fmt: skip
        return workflow
    find_mask = pe.Node(MaskFromMean(), name='find_mask', mem_gb=0.5)
    workflow.connect([
        (average, find_mask, [('reference', 'reference')]),
        (find_mask, outputnode, [('mask', 'mask')]),
    ])  # fmt: skip
    if is_target:
        workflow.connect([(average, align, [('reference', 'fixed')])])
    else:
        workflow.connect([
            (inputnode, align, [('fixed', 'fixed'), ('fixed_mask', 'fixed_mask')]),
        ])  # fmt: skip
    return workflow


def init_motion_wf(*, series: MovingSeries, name: str = 'motion') -> Workflow:
    """
    Build the graph that undoes the movement within a series.

    Parameters
    ----------
    series : MovingSeries
        File, and how its contrast changes.
    name : str
        Node name in the parent graph.

    Outputs
    -------
    series : file
        On its own grid, with the head where it is in the mean.
    confounds : file
        Table of the movement.
    voxels_per_sample : number
        Voxels that share one noise sample after the resampling.
    """
    methods = (
        'The movement of the head within every series was estimated by rigid alignment of its '
        'volumes to their mean, and undone in one resampling'
    )
    workflow = Workflow(name, methods=methods, citations=('baker2004',))
    outputnode = ports('outputnode', 'series', *MOTION_PORTS)
    file, context = str(series.file), list(series.context)
    estimate = pe.Node(
        EstimateMotion(series=file, has_bolus=series.has_bolus, context=context),
        name='estimate_motion',
        mem_gb=2,
    )
    resample = pe.Node(ResampleSeries(series=file), name='resample_series', mem_gb=2)
    workflow.connect([
        (estimate, resample, [('matrices', 'matrices')]),
        (estimate, outputnode, [(port, port) for port in MOTION_PORTS]),
        (resample, outputnode, [('series', 'series')]),
    ])  # fmt: skip
    return workflow


def _connect_series(
    workflow: Workflow, series: MovingSeries, average: pe.Node, outputnode: pe.Node
) -> None:
    """Undo the movement within a series before anything is made of it."""
    if not series.is_corrected:
        outputnode.inputs.series = str(series.file)
        return
    motion = init_motion_wf(series=series)
    outputs = [(f'outputnode.{port}', port) for port in ('series', *MOTION_PORTS)]
    workflow.connect([(motion, outputnode, outputs)])
    if average.inputs.files == [str(series.file)]:
        workflow.connect([(motion, average, [(('outputnode.series', as_list), 'files')])])


def as_list(item):  # noqa: ANN001, ANN201  (nipype runs its source text alone)
    """Make a list of one item; runs inside a connection."""
    return [item]
