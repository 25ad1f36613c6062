"""Graphs of T2 and T2* by what parts and sets there are."""

from dataclasses import replace

import numpy as np
import pytest

from bids_app.bids.scans import EchoSeries
from bids_app.images import Grid, save_image
from bids_app.models.registry import choices
from bids_app.settings import RelaxometrySettings
from bids_app.workflows.relaxometry import init_r2_star_wf, init_r2_wf

GRID = Grid((2, 2, 2), np.eye(4))
TIMES = (0.005, 0.010, 0.015)
PREPARED = {'estimate_field_map', 'prepare_echoes', 'predict_attenuation'}


@pytest.fixture
def images(tmp_path):
    """Three echoes under a name."""

    def make(name):
        return tuple(
            tmp_path / name_of
            for echo in range(len(TIMES))
            if save_image(np.ones(GRID.shape), GRID, tmp_path / (name_of := f'{name}{echo}.nii'))
        )

    return make


def steps(workflow):
    return {node.name for node in workflow._get_all_nodes()} - {'inputnode', 'outputnode'}


def build(series, **settings):
    return init_r2_star_wf(series=series, settings=RelaxometrySettings(**settings))


@pytest.fixture
def magnitude_only(images):
    return EchoSeries(condition=None, run=None, magnitude=images('mag'), echo_times=TIMES)


def test_magnitude_alone_is_fitted_and_the_lack_of_correction_said(magnitude_only):
    graph = build(magnitude_only)
    assert steps(graph) == {'estimate_r2_star', 'measure_inconsistency', 'sample_decays'}
    assert 'not corrected' in graph.methods
    assert graph.get_node('estimate_r2_star').inputs.attenuation_floor == 0


def test_phase_in_radians_needs_no_preparation(magnitude_only, images):
    graph = build(replace(magnitude_only, phase=images('phase')), slice_profile='sinc-gauss')
    assert PREPARED - {'prepare_echoes'} <= steps(graph)
    assert 'prepare_echoes' not in steps(graph)
    assert graph.get_node('predict_attenuation').inputs.slice_profile == 'sinc-gauss'


def test_the_gradient_is_taken_across_the_slices(magnitude_only, images):
    series = replace(magnitude_only, phase=images('phase'), slice_axis=1, n_slices=20)
    graph = build(series)
    assert graph.get_node('predict_attenuation').inputs.slice_axis == 1
    assert 'not corrected' not in graph.methods


def test_a_slab_is_not_corrected_as_slices(magnitude_only, images):
    slab = replace(magnitude_only, phase=images('phase'), metadata={'MRAcquisitionType': '3D'})
    for series, is_slab in ((slab, True), (replace(slab, metadata={}), False)):
        assert build(series).get_node('predict_attenuation').inputs.is_slab is is_slab


def test_one_slice_is_not_said_to_be_corrected(magnitude_only, images):
    graph = build(replace(magnitude_only, phase=images('phase'), n_slices=1))
    assert 'one slice only: background gradients were not corrected' in graph.methods


def test_other_phase_units_and_complex_parts_are_prepared(magnitude_only, images):
    scaled = replace(magnitude_only, phase=images('phase'), phase_scale=0.001)
    parts = replace(magnitude_only, magnitude=(), real=images('re'), imaginary=images('im'))
    for series in (scaled, parts):
        graph = build(replace(series, slice_thickness=0.003))
        assert steps(graph) >= PREPARED
        assert graph.get_node('predict_attenuation').inputs.slice_thickness == 0.003


def test_redundant_sets_are_merged_and_cited(magnitude_only, images):
    full = replace(magnitude_only, real=images('re'), imaginary=images('im'), n_lines=2)
    half = replace(full, real=images('re2'), imaginary=images('im2'), n_lines=1)
    graph = build(replace(full, reduced=(half,), line_axis=0))
    prepare = graph.get_node('prepare_echoes')
    assert [item['n_lines'] for item in prepare.inputs.sets] == [2, 1]
    assert prepare.inputs.line_axis == 0
    assert 'magerkurth2011' in graph.citations
    assert ('disagreement', 'disagreement') in graph._graph.get_edge_data(
        prepare, graph.get_node('measure_inconsistency')
    )['connect']


@pytest.mark.parametrize('model', choices('r2'))
def test_models_of_t2_are_named_in_the_methods(model, magnitude_only):
    settings = RelaxometrySettings(noise_floor='none')
    graph = init_r2_wf(series=magnitude_only, settings=settings, model=(model, 'by hand'))
    assert graph.get_node('estimate_r2').inputs.model == model
    assert graph.get_node('estimate_r2').inputs.noise_floor == 'none'
