"""R2 from MESE and R2* from MEGRE, each on the grid of its scan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bids_app.interfaces.relaxometry import (
    EstimateFieldMap,
    EstimateR2,
    EstimateR2Star,
    EstimateSliceEdge,
    MeasureEchoInconsistency,
    PredictGradientAttenuation,
    PrepareEchoes,
    SampleDecays,
)
from bids_app.models.registry import MODELS
from bids_app.workflows._engine import Workflow, pe, ports

if TYPE_CHECKING:
    from bids_app.bids.scans import EchoSeries
    from bids_app.settings import RelaxometrySettings


def init_r2_wf(
    *,
    series: EchoSeries,
    settings: RelaxometrySettings,
    model: tuple[str, str],
    name: str = 'r2',
) -> Workflow:
    """
    Build the graph from a multi-echo spin echo to R2.

    Inputs
    ------
    mask, noise_groups : file
        On the grid of the series.

    Outputs
    -------
    r2 : quantity
        1/s.
    decays : file
        Echoes and fit of a few voxels.
    """
    row, reason = model
    spec = MODELS['r2'][row]
    methods = f'{spec.methods} ({reason})'
    workflow = Workflow(name, methods=methods, citations=(spec.citation,))
    inputnode = ports('inputnode', 'mask', 'noise_groups')
    outputnode = ports('outputnode', 'decays', 'r2')
    estimate = pe.Node(
        EstimateR2(
            model=row,
            signal=[str(path) for path in series.magnitude],
            echo_times=list(series.echo_times),
            noise_floor=settings.noise_floor,
            coils=settings.coils or series.combined_coils,
        ),
        name='estimate_r2',
    )
    if settings.refocusing_thickness is not None:
        estimate.inputs.refocusing_thickness = settings.refocusing_thickness
    workflow.connect([(inputnode, estimate, ['mask', 'noise_groups'])])
    workflow.connect([(estimate, outputnode, ['r2'])])
    decays = _connect_decays(workflow, estimate, 'r2', row)
    decays.inputs.signal = estimate.inputs.signal
    return workflow


def _connect_decays(workflow: Workflow, estimate: Any, rate: str, model: str) -> Any:
    """Add the node that keeps the decays of a few voxels; return it, without its echoes."""
    inputnode, outputnode = workflow.get_node('inputnode'), workflow.get_node('outputnode')
    echo_times = estimate.inputs.echo_times
    decays = pe.Node(SampleDecays(echo_times=echo_times, model=model), name='sample_decays')
    workflow.connect([
        (inputnode, decays, ['mask', 'noise_groups']),
        (estimate, decays, [(rate, 'rate')]),
        (decays, outputnode, ['decays']),
    ])  # fmt: skip
    return decays


def init_r2_star_wf(
    *, series: EchoSeries, settings: RelaxometrySettings, name: str = 'r2_star'
) -> Workflow:
    """
    Build the graph from a multi-echo gradient echo to R2*, with the field map on the way.

    Without phase no correction of background gradients is made.

    Inputs
    ------
    mask, noise_groups : file
        On the grid of the series.
    slice_edge : list of float
        Of a fitted slice profile.

    Outputs
    -------
    r2_star : quantity
        1/s.
    echo_inconsistency : quantity
        Deviation of the echoes from the decay, relative.
    field_map, field_magnitude : file
        Hz; only with phase.
    decays : file
        Echoes and fit of a few voxels.
    """
    spec = MODELS['r2_star'][settings.t2_star_model]
    workflow = Workflow(name, methods=spec.methods, citations=(spec.citation,))
    inputnode = ports('inputnode', 'mask', 'noise_groups', 'slice_edge')
    outputnode = ports(
        'outputnode', 'field_map', 'field_magnitude', 'decays', 'r2_star', 'echo_inconsistency'
    )
    echo_times = list(series.echo_times)
    estimate = pe.Node(
        EstimateR2Star(
            model=settings.t2_star_model,
            echo_times=echo_times,
            attenuation_floor=settings.attenuation_floor if series.has_phase else 0.0,
            noise_floor=settings.noise_floor,
            coils=settings.coils or series.combined_coils,
        ),
        name='estimate_r2_star',
    )
    inconsistency = pe.Node(
        MeasureEchoInconsistency(echo_times=echo_times), name='measure_inconsistency'
    )
    workflow.connect([
        (inputnode, estimate, ['mask', 'noise_groups']),
        (inputnode, inconsistency, ['mask']),
    ])  # fmt: skip
    workflow.connect([
        (estimate, outputnode, ['r2_star']),
        (estimate, inconsistency, ['r2_star']),
        (inconsistency, outputnode, ['echo_inconsistency']),
    ])  # fmt: skip
    decays = _connect_decays(workflow, estimate, 'r2_star', settings.t2_star_model)
    field = None
    if series.has_phase:
        field = _connect_correction(workflow, echo_times, series, settings)
        attenuation = workflow.get_node('predict_attenuation')
        workflow.connect([
            (attenuation, inconsistency, ['attenuation']),
            (inputnode, attenuation, ['slice_edge']),
            (inputnode, inconsistency, ['slice_edge']),
            (attenuation, decays, ['attenuation']),
        ])  # fmt: skip
    if series.uncorrected:
        workflow.methods += f' ({series.uncorrected}: background gradients were not corrected)'
    if not needs_preparation(series):
        magnitude = [str(path) for path in series.magnitude]
        estimate.inputs.signal = inconsistency.inputs.signal = decays.inputs.signal = magnitude
        if field is not None:
            field.inputs.magnitude = magnitude
            field.inputs.phase = [str(path) for path in series.phase]
        return workflow
    prepare = pe.Node(
        PrepareEchoes(
            sets=[describe_set(item) for item in (series, *series.reduced)],
            line_axis=1 if series.line_axis is None else series.line_axis,
        ),
        name='prepare_echoes',
    )
    workflow.connect([
        (inputnode, prepare, ['mask']),
        (prepare, estimate, [('magnitude', 'signal')]),
        (prepare, inconsistency, [('magnitude', 'signal')]),
        (prepare, decays, [('magnitude', 'signal')]),
        (prepare, field, ['magnitude', 'phase']),
    ])  # fmt: skip
    if series.reduced:
        workflow.connect([(prepare, inconsistency, ['disagreement', 'displacement'])])
        workflow.methods += (
            ', after sets that repeat the centre of k-space had been aligned with the full one '
            'and merged with it line by line'
        )
        workflow.citations = (*workflow.citations, 'magerkurth2011', 'noeth2014')
    return workflow


def needs_preparation(series: EchoSeries) -> bool:
    """Tell whether magnitude and phase in radians have to be made first."""
    return bool(series.real or series.reduced or (series.phase and series.phase_scale != 1))


def describe_set(series: EchoSeries) -> dict[str, Any]:
    """Describe one set for the node that prepares echoes; phase wins over real and imaginary."""
    parts = {
        'magnitude': series.magnitude,
        'phase': series.phase,
        'real': series.real,
        'imaginary': series.imaginary,
    }
    return {
        **{name: [str(path) for path in files] for name, files in parts.items()},
        'phase_scale': series.phase_scale,
        'echo_times': list(series.echo_times),
        'n_lines': series.n_lines,
    }


def has_fitted_slices(series: EchoSeries, settings: RelaxometrySettings) -> bool:
    """Tell whether the correction of a series takes the profile that the echoes show."""
    is_corrected = not (series.uncorrected or series.is_slab)
    return is_corrected and settings.slice_profile == 'fitted'


def slice_edge_node(series: EchoSeries, settings: RelaxometrySettings, name: str) -> Any:
    """Give the node that asks one series how soft its slices are."""
    node = pe.Node(
        EstimateSliceEdge(
            echoes=describe_set(series),
            slice_axis=series.slice_axis,
            coils=settings.coils or series.combined_coils,
        ),
        name=name,
    )
    if series.slice_thickness is not None:
        node.inputs.slice_thickness = series.slice_thickness
    return node


def _connect_correction(
    workflow: Workflow, echo_times: list[float], series: EchoSeries, settings: RelaxometrySettings
) -> Any:
    """Add field map and attenuation; return the node that takes magnitude and phase."""
    inputnode, outputnode = workflow.get_node('inputnode'), workflow.get_node('outputnode')
    field = pe.Node(EstimateFieldMap(echo_times=echo_times), name='estimate_field_map')
    attenuation = pe.Node(
        PredictGradientAttenuation(
            echo_times=echo_times,
            slice_profile=settings.slice_profile,
            slice_axis=series.slice_axis,
            is_slab=series.is_slab,
        ),
        name='predict_attenuation',
    )
    thickness = series.slice_thickness
    if thickness is not None:
        attenuation.inputs.slice_thickness = thickness
    workflow.connect([
        (inputnode, field, ['mask']),
        (inputnode, attenuation, ['mask']),
        (field, attenuation, ['field_map', 'field_map_variance']),
        (attenuation, workflow.get_node('estimate_r2_star'), ['attenuation', 'attenuation_error']),
        (field, outputnode, ['field_map', 'field_magnitude']),
    ])  # fmt: skip
    return field
