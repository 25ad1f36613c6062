"""The graph of a participant: what is there decides what is built, and nothing else does."""

import re
from dataclasses import replace

import nibabel as nb
import numpy as np
import pytest

from bids_app.bids.output.names import output_path, row, table
from bids_app.bids.run.feasible import capabilities
from bids_app.bids.scans import DataValue, Problem
from bids_app.models.registry import MODELS
from bids_app.reports.citations import load_references
from bids_app.settings import resolve
from bids_app.workflows._engine import methods_text, to_mermaid
from bids_app.workflows.app import _map_name
from bids_app.workflows.graph import find_scans, has_depth
from bids_app.workflows.oxygen import INTERFACES, chain_constants
from bids_app.workflows.participant import init_participant_wf
from bids_app.workflows.recovery import without_failed
from bids_app.workflows.step_errors import StepError
from tests.workflows.conftest import unconnected_mandatory

FULL = 't1w mese:- megre:control,calc phase asl:control,calc dsc:- bold'
DATA = {
    'full': FULL,
    'full, shared M0': f'{FULL} shared-m0',
    'two runs of everything': f'{FULL} x2',
    'anatomy of fmriprep': FULL.replace('t1w', 'found'),
    'anatomy without template': FULL.replace('t1w', 'found:native'),
    'no T1w': FULL.replace('t1w ', ''),
    'no DSC': FULL.replace('dsc:- ', ''),
    'no BOLD': FULL.replace(' bold', ''),
    'no phase': FULL.replace('phase ', ''),
    'own MESE and DSC': FULL.replace('mese:-', 'mese:control,calc').replace(
        'dsc:-', 'dsc:control,calc'
    ),
    'one ASL for both': FULL.replace('asl:control,calc', 'asl:-'),
    'one MEGRE for both': FULL.replace('megre:control,calc', 'megre:-'),
    'MESE of one condition is left': FULL.replace('mese:-', 'mese:control'),
    'T1w and ASL': 't1w asl:-',
    'MESE and MEGRE': 'mese:- megre:-',
    'distortion by the gradient echo': f'{FULL} readout',
    'distortion without T1w': f'{FULL} readout'.replace('t1w ', ''),
    'distortion by a phase map': f'{FULL} readout fmap:phase',
    'distortion by opposites': f'{FULL} readout fmap:opposite',
    'distortion without a field': f'{FULL} readout'.replace('phase ', ''),
    'BOLD alone, distorted': 't1w bold readout fmap:phase',
    'BOLD alone': 'bold',
    'BOLD of several echoes': f'{FULL} echoes readout',
    'several echoes alone, two runs': 't1w bold echoes x2',
    'ASE in place of echoes and bolus': 't1w ase:control,calc asl:control,calc bold',
    'ASE of one condition': 't1w ase:control asl:control,calc bold',
    'ASE in place of a bolus': FULL.replace('dsc:-', 'ase:control,calc'),
    'ASE beside everything': f'{FULL} ase:control,calc',
    'T1w alone': 't1w',
    'ASL of one condition': 't1w asl:control',
    'task within ASL': f'{FULL} within',
    'task within ASL alone': 't1w asl:control,calc within',
}
SETTINGS = {
    'default': {},
    'grubb': {'blood_volume.model': 'grubb'},
    'literature': {'blood_volume.model': 'literature'},
    'dsc chosen': {'blood_volume.model': 'dsc'},
    'arterial': {'blood_volume.model': 'arterial'},
    'no CBV': {'blood_volume.model': 'none'},
    'smoothed': {'change.fwhm': 6.0, 'atlas': 'none'},
    'native': {'output_spaces': ('none',), 'anatomy.registration': 'header'},
    'semi-quantitative': {'change.route': 'semiquantitative', 'change.cbv_response': 0.05},
    'combined': {'change.route': 'combined'},
    'davis': {'change.route': 'davis', 'change.davis_maximum': 9.0},
    'limits': {'change.limits': 'epp2025'},
    'qbold': {'oxygen.oef_model': 'qbold'},
    'line': {'oxygen.oef_model': 'qbold-loglinear'},
    'blood volume by ASE': {'blood_volume.model': 'ase'},
}
CASES = [
    *[(data, 'default') for data in DATA],
    *[('full', settings) for settings in SETTINGS if settings != 'default'],
    *[('own MESE and DSC', settings) for settings in ('dsc chosen', 'arterial', 'smoothed')],
    *[('no T1w', settings) for settings in ('grubb', 'literature', 'dsc chosen')],
    *[('no DSC', settings) for settings in ('grubb', 'literature', 'dsc chosen')],
    *[('one ASL for both', settings) for settings in ('grubb', 'literature', 'no CBV')],
    ('one MEGRE for both', 'grubb'),
    *[
        (data, settings)
        for data in (
            'one MEGRE for both',
            'no BOLD',
            'own MESE and DSC',
            'no T1w',
            'full, shared M0',
        )
        for settings in ('semi-quantitative', 'combined', 'davis')
    ],
    ('MESE of one condition is left', 'davis'),
    *[('BOLD of several echoes', one) for one in ('semi-quantitative', 'davis', 'native')],
    ('MESE and MEGRE', 'literature'),
    ('anatomy without template', 'native'),
    ('T1w alone', 'literature'),
    ('BOLD alone', 'native'),
    *[
        ('ASE beside everything', settings)
        for settings in ('qbold', 'line', 'blood volume by ASE', 'combined')
    ],
    ('ASE in place of echoes and bolus', 'semi-quantitative'),
    ('ASE in place of echoes and bolus', 'no CBV'),
]


def build(maker, text, settings=None, **options):
    """Inputs, settings, graph and the files it will make."""
    inputs = maker.inputs(text, **options)
    resolved = resolve(command_line=settings or {})
    graph, expected = init_participant_wf(inputs=inputs, settings=resolved, run=maker.run())
    return inputs, resolved, graph, expected


def maps_of(expected):
    """Maps of the dry run behind files, by the rule that the run summary uses."""
    effects = [
        (key, entities)
        for key, entities in expected
        if not (key == 'contrast' and entities['statistic'] != 'effect')
    ]
    named = {_map_name(key, entities) for key, entities in effects}
    return {(name, condition) for name, condition in named if name in MAPS}


MAPS = {
    'anatomy', 'template', 'T2', 'T2star', 'R2prime', 'cbf', 'cbv', 'oef', 'cmro2', 'boldPct',
    'boldR2star', 'boldS0Pct',
    'change_cbf', 'change_cbv', 'change_R2prime', 'change_oef', 'change_cmro2', 'concordance',
}  # fmt: skip


def promised(inputs, settings, expected):
    """Maps said to be made; one that all conditions share stands for each of them."""
    made = maps_of(expected)
    said = [row for row in capabilities(inputs, settings) if row['state'] == 'made']
    return {
        (row['map'], row['condition'] if (row['map'], row['condition']) in made else None)
        if (row['map'], None) in made
        else (row['map'], row['condition'])
        for row in said
    }


def saved(graph, *branches):
    """What the graph saves of some branches, or of all."""
    starts = tuple(f'save_{branch}.' for branch in branches) or 'save_'
    saves = [name for name in graph.list_node_names() if name.startswith(starts)]
    return [item for name in saves for item in graph.get_node(name).inputs.items.values()]


def written(graph):
    """What the graph saves with a sidecar."""
    return [item for item in saved(graph) if row(item['key']).has_sidecar]


def own_sources(item):
    """Files of this output that a file is made from; an error where none is named at all."""
    sources = item['sidecar']['Sources']
    assert sources, item
    return [uri.removeprefix('bids::') for uri in sources if uri.startswith('bids::')]


@pytest.mark.parametrize(('data', 'settings'), CASES)
def test_graph_is_sound_and_makes_every_map_that_is_promised_and_no_other(data, settings, maker):
    inputs, resolved, graph, expected = build(maker, DATA[data], SETTINGS[settings])
    assert promised(inputs, resolved, expected) == maps_of(expected)
    assert unconnected_mandatory(graph) == []
    names = [output_path(key, **entities) for key, entities in expected
             if not key.startswith('xfm_t')]  # fmt: skip
    assert len(set(names)) == len(names), 'two nodes would write one file'
    assert {uri for item in written(graph) for uri in own_sources(item)} <= set(map(str, names))
    text, keys = methods_text(graph)
    assert set(re.findall(r'\[@(\w+)\]', text)) == set(keys) <= set(load_references())
    for node in graph.list_node_names():
        assert re.fullmatch(r'[\w.]+', node)


NUMBERS = ('b0', 'hct', 'sao2')
UNKNOWN = [(settings, number) for settings in ('default', 'grubb') for number in NUMBERS]


@pytest.mark.parametrize(('settings', 'unknown'), UNKNOWN)
def test_an_unknown_number_costs_what_needs_it_in_both_descriptions(unknown, settings, maker):
    role = 'b0' if unknown == 'b0' else 'participants'
    problem = Problem(role=role, message=f'{unknown} is not known')
    options = {unknown: float('nan'), 'problems': (problem,)}
    inputs, resolved, graph, expected = build(maker, FULL, SETTINGS[settings], **options)
    assert promised(inputs, resolved, expected) == maps_of(expected)
    assert unconnected_mandatory(graph) == []
    assert ('R2prime', 'calc') in maps_of(expected)
    assert ('cmro2', 'calc') not in maps_of(expected)


def test_every_number_of_a_row_is_a_setting_or_known_of_the_participant(maker):
    """A row whose number has no source would be left out of the graph without a word."""
    rows = [(name, spec) for name in INTERFACES for spec in MODELS[name].values() if spec.maps]
    measured = {'bold_echo_time'}  # by the scan itself
    taken = {name for _, spec in rows for name in spec.parameters} - measured
    pressures = [f'oxygen.{name}' for name in taken if name.endswith(('_po2', '_pco2'))]
    values = tuple(DataValue(name=name, value=100.0, unit='mmHg', origin='') for name in pressures)
    assert taken <= set(chain_constants(maker.inputs(FULL, values=values), resolve()))


def test_sessions_as_conditions_compare_no_bold(maker):
    settings = {'condition_entity': 'ses'}
    inputs, resolved, _, expected = build(maker, FULL, settings)
    assert promised(inputs, resolved, expected) == maps_of(expected)


def test_t1w_image_is_blamed_where_no_scan_lies_on_it(maker):
    inputs, *_ = build(maker, 't1w mese:- asl:-', conditions=())
    errors = [
        StepError(node=f'sub_01.align_{scan}.stop_misaligned', message='no', trace='', code=65)
        for scan in ('mese', 'asl')
    ]
    left, useless = without_failed(inputs, errors)
    assert useless == errors
    (problem,) = left.problems
    assert problem.role == 't1w'
    assert 'no scan lies on the T1w image (of 2' in problem.message
    assert not left.t1w
    assert len(left.mese) == len(left.asl) == 1
    one, _ = without_failed(inputs, errors[:1])
    assert [problem.role for problem in one.problems] == ['mese']
    assert one.t1w


# ------------------------------------------------------------------------------ node lists


def steps(graph):
    """Names of the nodes that compute, without the identity nodes."""
    nodes = re.findall(r'^  \w+\["(.+)"\]$', to_mermaid(graph), re.MULTILINE)
    return sorted(nodes)


def test_asl_and_t1w_make_this_graph(maker):
    _, _, graph, _ = build(maker, 't1w asl:-', conditions=())
    assert graph.name == 'sub_01'
    assert steps(graph) == [
        'align_asl.align_scan',
        'align_asl.average_volumes',
        'align_asl.judge_alignment',
        'align_asl.motion.estimate_motion',
        'align_asl.motion.resample_series',
        'align_asl.resample_tissue',
        'align_asl.stop_misaligned',
        'anatomy.discretise_tissue',
        'anatomy.extract_brain',
        'anatomy.map_t1w_to_template',
        'anatomy.map_template_to_t1w',
        'anatomy.normalise_to_template',
        'anatomy.resample_atlas',
        'anatomy.resample_brain_mask_to_template',
        'anatomy.resample_grey_matter_to_template',
        'anatomy.segment_tissue',
        'combine_quality',
        'combine_verdicts',
        'merge_quality',
        'merge_verdicts',
        'model_asl.estimate_cbf',
        'model_asl.estimate_difference',
        'model_asl.estimate_m0',
        'model_asl.map_delay',
        'model_asl.summarise_quality',
        'predict_tissue_asl',
        'resample_atlas_to_grid',
        'resample_cbf_asl',
        'resample_effective_delay_asl',
        'save_MNI152NLin6Asym',
        'save_alignment',
        'save_anatomy',
        'save_atlas',
        'save_perfusion',
        'save_verdicts',
        'to_MNI152NLin6Asym_cbf_baseline',
    ]


def test_mese_and_megre_make_this_graph_without_anatomy(maker):
    _, _, graph, _ = build(maker, 'mese:- megre:- phase', conditions=())
    assert steps(graph) == [
        'align_megre.align_scan',
        'align_megre.average_volumes',
        'align_megre.find_mask',
        'align_mese.align_scan',
        'align_mese.average_volumes',
        'align_mese.find_mask',
        'combine_slice_edges',
        'compute_r2_prime.estimate_r2_prime',
        'convert_r2',
        'convert_r2_star',
        'estimate_echo_motion_megre',
        'estimate_echo_motion_mese',
        'estimate_slice_edge_megre',
        'merge_slice_edges',
        'model_megre.estimate_field_map',
        'model_megre.estimate_r2_star',
        'model_megre.measure_inconsistency',
        'model_megre.predict_attenuation',
        'model_megre.sample_decays',
        'model_mese.estimate_r2',
        'model_mese.sample_decays',
        'resample_echo_inconsistency_megre',
        'resample_r2_star_megre',
        'save_alignment',
        'save_echo_motion',
        'save_relaxometry',
    ]


def test_changes_are_made_from_primitive_maps(maker):
    """CMRO2 of a condition is an output beside the change, not where it comes from."""
    _, _, graph, _ = build(maker, FULL)
    change = [node for node in steps(graph) if node.startswith('change_calcMinusControl')]
    assert change == [
        f'change_calcMinusControl.estimate_change_in_{name}'
        for name in ('cbf', 'cmro2', 'oef', 'r2_prime')
    ]
    edges = re.findall(r'(\w+) -- "(.*)" --> change_calcMinusControl_estimate_change_in_cmro2',
                       to_mermaid(graph))  # fmt: skip
    ports = {port for _, names in edges for port in names.split(', ')}
    assert {'task_cbf', 'task_r2_star', 'baseline_r2_star', 'r2', 'cbv'} <= ports
    assert {source for source, names in edges if 'cmro2' in source} == {
        'compute_cmro2_control_estimate_cmro2'
    }, 'only the baseline value, for percent'


def test_smoothing_is_a_step_of_its_own_only_where_asked_for(maker):
    plain, smoothed = (build(maker, FULL, settings)[2] for settings in ({}, {'change.fwhm': 6.0}))
    assert not [node for node in steps(plain) if 'smooth' in node]
    assert len([node for node in steps(smoothed) if 'smooth' in node]) == 7


def test_runs_are_combined_and_names_carry_no_run(maker):
    _, _, graph, expected = build(maker, f'{FULL} x2')
    combined = [node for node in steps(graph) if node.startswith('combine_')]
    assert 'combine_cbf_calc' in combined
    assert 'combine_bold_calcMinusControl' in combined
    of_one_run = {
        'xfm_scan', 'reference', 'confounds', 'nuisance', 'time_courses', 'decays',
    }  # fmt: skip
    assert {key for key, entities in expected if 'run' in entities} == of_one_run


@pytest.mark.parametrize('by', ['', ' fmap:phase', ' fmap:opposite'])
def test_distortion_of_every_echo_planar_scan_is_undone_and_shown(maker, by):
    _, _, graph, expected = build(maker, f'{FULL} readout{by}')
    made = [key for key, _ in expected]
    assert [made.count(f'epi_{what}') for what in ('acquired', 'undistorted', 'shift')] == [4] * 3
    nodes = steps(graph)
    assert 'model_asl_calc.undistort_m0' in nodes
    assert 'align_bold_all.align_distorted' in nodes
    assert ('field_sub_01_phasediff.find_field' in nodes) == bool(by)


def test_scans_without_a_field_are_not_corrected(maker):
    _, _, graph, expected = build(maker, f'{FULL} readout'.replace('phase ', ''))
    assert not [key for key, _ in expected if key.startswith('epi_')]
    assert not [node for node in steps(graph) if 'distort' in node]


# ------------------------------------------------------------------------------ grid, names


@pytest.mark.parametrize(
    ('text', 'space'),
    [
        (FULL, 'MESE'),
        (FULL.replace('mese:- ', ''), 'MEGRE'),
        ('t1w asl:- dsc:- bold', 'ASL'),
        ('t1w dsc:- bold', 'DSC'),
        ('t1w bold', 'BOLD'),
    ],
)
def test_first_present_scan_is_the_quantification_grid(text, space, maker):
    _, _, _, expected = build(maker, text)
    grid = next(entities for key, entities in expected if key == 'reference')
    assert (grid['scan'], grid.get('task')) == (space, None)
    words = {entities.get('space') for key, entities in expected if key == 'contrast'}
    assert words <= {space, 'MNI152NLin6Asym'}


def test_baseline_comes_first_among_scans_of_a_kind(maker):
    inputs = maker.inputs('megre:calc,control asl:-')
    assert [scan.name for scan in find_scans(inputs)] == ['megre_control', 'megre_calc', 'asl']


MOVING = {'align_asl.motion.estimate_motion', 'align_dsc.motion.estimate_motion',
          'align_bold_all.motion.estimate_motion'}  # fmt: skip


def test_movement_of_an_image_of_one_slice_is_not_estimated(tmp_path):
    for n_slices, is_deep in ((1, False), (2, True)):
        path = tmp_path / f'{n_slices}.nii'
        nb.Nifti1Image(np.ones((8, 8, n_slices), np.float32), np.eye(4)).to_filename(path)
        assert has_depth(path) is is_deep
    assert has_depth(tmp_path / 'absent.nii'), 'the step that reads it says what is wrong'


@pytest.mark.parametrize(
    ('settings', 'found'),
    [({}, MOVING), ({'anatomy.motion': 'none'}, set()),
     ({'anatomy.registration': 'header'}, set())],
)  # fmt: skip
def test_movement_within_series_is_undone_unless_headers_are_trusted(settings, found, maker):
    _, _, graph, expected = build(maker, 't1w mese:- megre:- asl:- dsc:- bold', settings)
    assert {node for node in steps(graph) if 'estimate_motion' in node} == found
    tables = {entities['scan'] for key, entities in expected if key == 'confounds'}
    assert tables == ({'MESE', 'MEGRE', 'ASL', 'DSC', 'BOLD'} if found else set())


def test_volumes_that_the_scanner_subtracted_are_not_aligned(maker):
    inputs = maker.inputs('t1w asl:-')
    subtracted = replace(inputs.asl[0], context=('m0scan', 'deltam'))
    scan = find_scans(replace(inputs, asl=(subtracted,)), corrects_motion=True)[0]
    assert not scan.moving.is_corrected


def test_movement_of_one_echo_is_applied_to_all_and_decay_alone_enters_cmro2(maker):
    _, _, graph, _ = build(maker, f'{FULL} echoes', SETTINGS['davis'])
    align = graph.get_node('align_bold_all')
    resample = align.get_node('motion').get_node('resample_series')
    assert align.get_node('series').inputs.other_echoes == [
        str(maker.folder / f'None_echo-{n}_bold.nii.gz') for n in (2, 3)
    ]
    edges = list(to_mermaid(graph).splitlines())
    name = 'align_bold_all_motion_resample_series'
    assert sum(f'--> {name}' in edge for edge in edges) == 1, 'one movement'
    assert any('other_echoes' in e and f'{name} --' in e and 'fit_echoes' in e for e in edges)
    halves = {
        node.fullname.split('.')[1]: node.interface.inputs.factor
        for node in graph._create_flat_graph().nodes
        if node.name == 'estimate_percent_change'
    }
    assert halves['model_bold_all_second_r2_star'] == pytest.approx(-100 * 0.03)
    assert resample.inputs.other_echoes == []


def test_flow_of_conditions_within_one_series_differs_by_no_scan(maker):
    _, _, graph, _ = build(maker, f'{FULL} within')
    change = graph.get_node('change_calcMinusControl')
    assert change.get_node('estimate_change_in_cbf').inputs.within_scan == ['cbf']
    model = graph.get_node('model_asl_calc')
    assert model.get_node('estimate_difference').inputs.condition == 'calc'
    _, _, graph, _ = build(maker, FULL)
    change = graph.get_node('change_calcMinusControl')
    assert change.get_node('estimate_change_in_cbf').inputs.within_scan == []


def test_session_is_in_every_name(maker):
    _, _, graph, expected = build(maker, FULL, session='a')
    assert graph.name == 'sub_01_ses_a'
    assert {entities['ses'] for _, entities in expected} == {'a'}


def test_contrast_files_say_what_they_compare(maker):
    _, _, graph, _ = build(maker, FULL)
    items = saved(graph, 'calcMinusControl')
    assert len(items) > 15
    for item in items:
        assert item['sidecar']['Contrast'] == {'Task': 'calc', 'Baseline': 'control'}


def test_value_maps_name_their_sources_and_model(maker):
    _, _, graph, _ = build(maker, FULL)
    items = saved(graph, 'relaxometry', 'perfusion', 'blood_volume', 'oxygen')
    for item in items:
        assert item['sidecar']['Sources'], item['key']
        if not item['key'].startswith('fieldmap'):
            assert item['sidecar']['Model']['Name']
    own = [uri for item in items for uri in item['sidecar']['Sources'] if uri.startswith('bids::')]
    written = {f'bids::{output_path(item["key"], **item["entities"])}' for item in items}
    assert set(own) <= written | {uri for uri in own if 'probseg' in uri}


@pytest.mark.parametrize('settings', ['default', 'grubb', 'literature'])
def test_every_kind_of_file_is_a_row_of_the_table(settings, maker):
    _, _, _, expected = build(maker, FULL, SETTINGS[settings])
    assert {key for key, _ in expected} <= set(table().rows)


def test_two_participants_with_different_data_do_not_know_of_each_other(maker):
    """In either order; the class of fmriprep's bold2anat_init bug."""
    rich = [steps(build(maker, FULL)[2])]
    poor = [steps(build(maker, 'asl:-', participant='02')[2])]
    poor.append(steps(build(maker, 'asl:-', participant='02')[2]))
    rich.append(steps(build(maker, FULL)[2]))
    assert rich[0] == rich[1]
    assert poor[0] == poor[1]


def test_nothing_to_build_from_is_an_empty_graph(maker):
    _, _, graph, expected = build(maker, '', conditions=())
    assert (graph.list_node_names(), expected) == ([], [])


@pytest.mark.parametrize('route', ['semiquantitative', 'combined', 'davis'])
def test_route_through_bold_needs_its_echo_time(maker, route):
    inputs = maker.inputs(FULL)
    (run,) = inputs.bold
    inputs = replace(inputs, bold=(replace(run, echo_time=None),))
    settings = resolve(command_line={'change.route': route})
    _, expected = init_participant_wf(inputs=inputs, settings=settings, run=maker.run())
    assert promised(inputs, settings, expected) == maps_of(expected)
    (row,) = [row for row in capabilities(inputs, settings) if row['map'] == 'change_cmro2']
    assert 'EchoTime' in row['reason']


def test_gate_and_estimate_of_a_route_through_bold_come_from_different_blocks(maker):
    _, _, graph, _ = build(maker, FULL, SETTINGS['davis'])
    halves = {
        node.fullname.split('.')[1]: node.interface.inputs.half
        for node in graph._create_flat_graph().nodes
        if node.name == 'estimate_percent_change'
    }
    assert sorted(halves.values()) == ['all', 'first', 'second']
    text = to_mermaid(graph)
    first, second = (next(key for key, half in halves.items() if half == name)
                     for name in ('first', 'second'))  # fmt: skip
    assert first != second
    assert first in text
    assert second in text


def test_conditions_within_one_series_are_aligned_once(maker):
    _, _, graph, expected = build(maker, f'{FULL} within')
    found = {node for node in steps(graph) if 'estimate_motion' in node and 'asl' in node}
    assert found == {'align_asl_control.motion.estimate_motion'}
    models = [graph.get_node(f'model_asl_{name}') for name in ('control', 'calc')]
    aligned = {before.name for model in models for before, _ in graph._graph.in_edges(model)}
    assert 'align_asl_control' in aligned
    assert 'align_asl_calc' not in aligned
    tasks = {entities.get('task') for key, entities in expected if key == 'confounds'}
    assert {'control', 'calc'} <= tasks, 'the tables of both are there as before'


def test_a_series_that_cannot_be_aligned_is_lost_in_every_condition_within_it(maker):
    inputs, *_ = build(maker, f'{FULL} within')
    errors = [
        StepError(node=f'sub_01.{step}_asl_control.x', message='no', trace='', code=65)
        for step in ('align', 'model')
    ]
    left, _ = without_failed(inputs, errors[:1])
    assert not left.asl
    left, _ = without_failed(inputs, errors[1:])
    assert [one.condition for one in left.asl] == ['calc']
