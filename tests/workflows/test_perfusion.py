"""The graph from a label-control series to CBF, run on small images with known flow."""

from dataclasses import replace
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from scipy.linalg import hadamard

from bids_app.bids.scans import AslSeries, M0Image, Readout, TimeEncoding
from bids_app.errors import InputDataError
from bids_app.interfaces._base import Interface
from bids_app.models.asl.kinetics import predict_difference
from bids_app.models.status import Status
from bids_app.settings import AnatomySettings, BoldSettings, PerfusionSettings
from bids_app.workflows.perfusion import (
    PerfusionConstants,
    delays_of,
    init_perfusion_wf,
    reference_volumes,
)
from tests.forward import difference_from_cbf
from tests.interfaces.conftest import data_of
from tests.workflows.conftest import unconnected_mandatory

SHAPE = (8, 8, 6)
AFFINE = np.diag([4.0, 4.0, 6.0, 1.0])
GREY = np.zeros(SHAPE)
GREY[:5] = 1
FLOW = np.where(GREY > 0, 60.0, 22.0)
SLICES = 0.04 * np.arange(SHAPE[2])
CONSTANTS = PerfusionConstants(t1_blood=1.65, t1_tissue=1.607)
COMMON = {
    'labeling_efficiency': 0.85,
    'background_suppression_factor': 0.75,
    't1_blood': 1.65,
    'partition_coefficient': 0.9,
}


def save(path, data, affine=AFFINE):
    nb.save(nb.Nifti1Image(np.asarray(data, np.float32), affine), path)
    return Path(path)


def read(path, part='value'):
    return data_of(path, part)


@pytest.fixture
def files(tmp_path):
    """Mask, tissue and reference on the grid of the series."""
    mask = np.zeros(SHAPE)
    mask[1:-1, 1:-1, 1:-1] = 1
    maps = {
        'mask': mask,
        'grey_matter': GREY,
        'white_matter': 1 - GREY,
        'csf': np.zeros(SHAPE),
        'noise_groups': mask * np.where(GREY > 0, 1, 2),
        'reference': np.full(SHAPE, 900.0),
    }
    return {name: str(save(tmp_path / f'{name}.nii', data)) for name, data in maps.items()}


def series_of(tmp_path, differences, delays, *, context=('control', 'label'), pairs=4, **changes):
    """Write a series of pairs, one difference (X, Y, Z) per delay, with a little noise."""
    rng = np.random.default_rng(0)
    volumes, kinds, times = [], [], []
    for _ in range(pairs):
        for difference, delay in zip(differences, delays, strict=True):
            for kind in context:
                signal = {'control': 900 + difference, 'label': 900.0 + 0 * difference}
                volumes.append(signal.get(kind, difference))
                kinds.append(kind)
                times.append(delay)
    data = np.stack(volumes, axis=-1)
    data = data + 0.02 * rng.standard_normal(data.shape)
    m0 = save(tmp_path / 'm0.nii', np.full(SHAPE, 1000.0 * -np.expm1(-4.5 / 1.607)))
    fields = {
        'condition': None,
        'run': None,
        'file': save(tmp_path / 'asl.nii', data),
        'context': tuple(kinds),
        'label_type': 'PCASL',
        'label_duration': (1.8,) * len(kinds),
        'post_label_delay': tuple(times),
        'slice_times': tuple(SLICES),
        'labeling_efficiency': 0.85,
        'background_suppression_factor': 0.75,
        'm0': M0Image(kind='Separate', file=m0, repetition_time=4.5),
    }
    return AslSeries(**fields | changes)


def single(tmp_path, **changes):
    """One delay, PCASL."""
    difference = difference_from_cbf(
        FLOW, 1000.0, label_duration=1.8, post_label_delay=1.8 + SLICES, **COMMON
    )
    return series_of(tmp_path, [difference], [1.8], **changes)


def run(workflow, files, tmp_path):
    """Run a graph on the series of a test; returns the files of its outputs by name."""
    assert unconnected_mandatory_but_inputs(workflow) == []
    inputnode = workflow.get_node('inputnode')
    for name, path in (files | {'series': str(tmp_path / 'asl.nii')}).items():
        setattr(inputnode.inputs, name, path)
    workflow.base_dir = str(tmp_path / 'work')
    workflow.config['execution'] = {
        'stop_on_first_crash': 'true',
        'hash_method': 'content',
        'remove_unnecessary_outputs': 'false',
    }
    outputnode = workflow.get_node('outputnode')
    wired = {
        port: (source.name, output)
        for source, _, data in workflow._graph.in_edges(outputnode, data=True)
        for output, port in data['connect']
    }
    nodes = {node.name: node for node in workflow.run(plugin='Linear').nodes()}
    return {
        port: getattr(nodes[name].result.outputs, output) for port, (name, output) in wired.items()
    }


def unconnected_mandatory_but_inputs(workflow):
    fed = {
        f'{node.fullname}.{port}'
        for source, node, data in workflow._create_flat_graph().in_edges(data=True)
        for _, port in data['connect']
    }
    return [name for name in unconnected_mandatory(workflow) if name not in fed]


def build(series, model='single-delay', has_tissue=True, readout=None, order=None, **settings):
    return init_perfusion_wf(
        order=order,
        bold=BoldSettings(),
        series=series,
        model=model,
        settings=PerfusionSettings(**settings),
        anatomy=AnatomySettings(registration='header'),
        constants=CONSTANTS,
        has_tissue=has_tissue,
        readout=readout,
    )


def inside(path, files, part='value'):
    return read(path, part)[read(files['mask']) > 0]


def truth(files):
    return FLOW[read(files['mask']) > 0]


def test_single_delay_gives_back_the_flow_of_every_slice(files, tmp_path):
    made = run(build(single(tmp_path)), files, tmp_path)
    np.testing.assert_allclose(inside(made['cbf'], files), truth(files), rtol=0.03)
    assert np.all(inside(made['cbf'], files, 'variance') > 0)
    delay = read(made['effective_delay'])[2, 2]
    np.testing.assert_allclose(delay[1:-1], 1.8 + SLICES[1:-1], rtol=1e-6)
    table = Path(made['quality']).read_text()
    assert 'qei' in table
    assert 'calibration' in table


def test_several_delays_give_flow_and_arrival(files, tmp_path):
    arrival, delays = np.where(GREY > 0, 0.9, 1.3), [0.3, 0.7, 1.1, 1.5, 1.9, 2.3]
    differences = [
        predict_difference(
            FLOW,
            arrival,
            1000.0,
            post_label_delay=delay + SLICES,
            label_duration=1.8,
            labeling='continuous',
            t1_tissue=1.607,
            **COMMON,
        )
        for delay in delays
    ]
    series = series_of(tmp_path, differences, delays)
    made = run(build(series, 'multi-delay'), files, tmp_path)
    np.testing.assert_allclose(inside(made['cbf'], files), truth(files), rtol=0.03)
    np.testing.assert_allclose(
        inside(made['att'], files), arrival[read(files['mask']) > 0], atol=0.05
    )
    assert np.all(inside(made['att'], files, 'variance') > 0)
    assert set(inside(made['att'], files, 'status')) == {Status.OK}


def test_arteries_come_out_of_the_graph_beside_flow_and_arrival(files, tmp_path):
    delays = [0.2, 0.5, 0.8, 1.1, 1.4, 1.7]
    timing = {'label_duration': 1.8, 'labeling': 'continuous', 't1_tissue': 1.607, **COMMON}
    differences = [
        predict_difference(FLOW, 1.2, 1000.0, post_label_delay=delay + SLICES, **timing)
        for delay in delays
    ]
    box = 2000 * COMMON['labeling_efficiency'] * COMMON['background_suppression_factor']
    box *= 0.02 / COMMON['partition_coefficient'] * np.exp(-0.65 / COMMON['t1_blood'])
    differences[:2] = [one + box for one in differences[:2]]
    series = series_of(tmp_path, differences, delays)
    made = run(build(series, 'multi-delay-arterial'), files, tmp_path)
    np.testing.assert_allclose(np.median(inside(made['abv'], files)), 0.02, rtol=0.2)
    np.testing.assert_allclose(
        np.median(inside(made['cbf'], files) / truth(files)), 1.0, atol=0.03
    )


def test_single_delay_model_of_several_delays_uses_the_longest(files, tmp_path):
    differences = [np.zeros(SHAPE), difference_from_cbf(
        FLOW, 1000.0, label_duration=1.8, post_label_delay=1.8 + SLICES, **COMMON
    )]  # fmt: skip
    series = series_of(tmp_path, differences, [0.2, 1.8])
    assert delays_of(series, 'single-delay').n_pairs == [4]
    made = run(build(series), files, tmp_path)
    np.testing.assert_allclose(inside(made['cbf'], files), truth(files), rtol=0.03)


def test_pulsed_labelling_and_a_single_difference(files, tmp_path):
    pulsed = COMMON | {'labeling': 'pulsed'}
    difference = difference_from_cbf(
        FLOW, 1000.0, label_duration=0.7, post_label_delay=1.8 + SLICES, **pulsed
    )
    series = series_of(
        tmp_path, [difference], [1.8], context=('deltam',), pairs=1, label_type='PASL',
        labeling='pulsed', label_duration=(0.7,),
    )  # fmt: skip
    made = run(build(series), files, tmp_path)
    np.testing.assert_allclose(inside(made['cbf'], files), truth(files), rtol=0.15)
    assert 'half_difference' not in made


@pytest.mark.parametrize('kind', ['Included', 'Estimate', 'Control'])
def test_every_kind_of_m0_gives_the_same_flow(files, tmp_path, kind):
    series = single(tmp_path)
    if kind == 'Estimate':
        m0 = M0Image(kind=kind, file=None, value=1000.0)
    elif kind == 'Included':
        data = read(series.file)
        data = np.concatenate([read(series.m0.file)[..., None], data], axis=-1)
        series = replace(
            series,
            file=save(tmp_path / 'asl.nii', data),
            context=('m0scan', *series.context),
            post_label_delay=(0.0, *series.post_label_delay),
            label_duration=(0.0, *series.label_duration),
        )
        m0 = M0Image(kind=kind, file=series.file, volumes=(0,), repetition_time=4.5)
    else:
        volumes = tuple(i for i, one in enumerate(series.context) if one == 'control')
        m0 = M0Image(kind=kind, file=series.file, volumes=volumes, repetition_time=3.7)
    made = run(build(replace(series, m0=m0)), files, tmp_path)
    np.testing.assert_allclose(inside(made['cbf'], files), truth(files), rtol=0.03)


def test_m0_of_another_grid_is_brought_to_the_series(files, tmp_path):
    series = single(tmp_path)
    x = np.arange(16) * 2.0
    ramp = np.broadcast_to((1000 + 5 * x)[:, None, None], (16, 16, 12))
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    m0 = M0Image(kind='Separate', file=save(tmp_path / 'fine.nii', ramp, affine), same_grid=False)
    assert reference_volumes(replace(series, m0=m0))[0] == (series.file,)
    made = run(build(replace(series, m0=m0)), files, tmp_path)
    expected = FLOW * 1000 / (1000 + 5 * 4.0 * np.arange(8))[:, None, None]
    np.testing.assert_allclose(
        inside(made['cbf'], files), expected[read(files['mask']) > 0], rtol=0.03
    )


@pytest.mark.parametrize('polarity', [1, -1])
def test_m0_of_another_grid_is_undistorted_by_its_own_readout(files, tmp_path, polarity):
    along_y = (1000 + 5 * 2.0 * np.arange(16))[None, :, None]
    true = np.broadcast_to(along_y, (16, 16, 12))
    # the series lies 4 mm off, one of its voxels and two of M0's
    files['voxel_shift'] = str(save(tmp_path / 'shift.nii', np.ones(SHAPE)))
    image = save(
        tmp_path / 'fine.nii',
        np.roll(true, 2 * polarity, axis=1),
        np.diag([2.0, 2.0, 3.0, 1.0]),
    )
    m0 = M0Image(
        kind='Separate',
        file=image,
        same_grid=False,
        readout=Readout(axis=1, polarity=polarity, echo_spacing=0.001, n_lines=16),
    )
    readout = Readout(axis=1, polarity=1, echo_spacing=0.001, n_lines=8)
    made = run(build(replace(single(tmp_path), m0=m0), readout=readout), files, tmp_path)
    expected = FLOW * 1000 / (1000 + 5 * 4.0 * np.arange(8))[None, :, None]
    inner = (slice(1, -1), slice(2, -2), slice(1, -1))
    np.testing.assert_allclose(read(made['cbf'])[inner], expected[inner], rtol=0.03)


def test_without_m0_flow_is_relative_to_grey_matter_and_named_so(files, tmp_path):
    series = replace(single(tmp_path), m0=M0Image(kind='Absent', file=None))
    made = run(build(series), files, tmp_path)
    assert 'cbf' not in made
    assert 'm0_relative' not in made
    np.testing.assert_allclose(inside(made['relative_cbf'], files), truth(files) / 60, rtol=0.03)


def test_flow_of_the_scanner_is_taken_as_it_is(files, tmp_path):
    series = series_of(
        tmp_path, [FLOW], [0.0], context=('cbf',), pairs=2,
        m0=M0Image(kind='Unneeded', file=None),
    )  # fmt: skip
    made = run(build(series, 'scanner'), files, tmp_path)
    np.testing.assert_allclose(inside(made['cbf'], files), truth(files), rtol=0.01)


def test_scale_slopes_that_differ_greatly_are_flagged_with_the_cause_and_kept(files, tmp_path):
    import pandas as pd

    def quality_and_flow():
        made = run(build(series), files, tmp_path)
        table = pd.read_csv(made['quality'], sep='\t', na_filter=False).set_index('measure')
        assert float(table.loc['m0_median', 'value']) == pytest.approx(1000, rel=1e-3)
        return table.loc['scale_slope_ratio'], inside(made['cbf'], files)

    series = single(tmp_path)
    row, flow = quality_and_flow()
    assert (float(row['value']), row['verdict'], row['probable_cause']) == (1.0, 'good', '')
    m0 = nb.load(series.m0.file)
    stored = nb.Nifti1Image(np.round(m0.get_fdata() / 0.1).astype(np.int16), m0.affine)
    stored.header.set_slope_inter(0.1, 0)
    stored.to_filename(series.m0.file)
    with series.m0.file.open('r+b') as file:  # nibabel clears the slope of given numbers
        file.seek(112)
        file.write(np.array([0.1, 0], stored.header.endianness + 'f4').tobytes())
    row, same = quality_and_flow()
    assert (round(float(row['value']), 6), row['verdict']) == (0.1, 'check')
    assert 'scale slopes' in row['probable_cause']
    np.testing.assert_allclose(same, flow, rtol=2e-3)


def test_the_table_of_quality_tells_the_width_of_the_noise_and_the_order(files, tmp_path):
    import pandas as pd

    made = run(build(single(tmp_path), order=2), files, tmp_path)
    table = pd.read_csv(made['quality'], sep='\t').set_index('measure')['value']
    assert table['scan_order'] == 2
    largest = max(nb.load(files['mask']).header.get_zooms())
    assert largest <= table['noise_width'] < 2 * largest


@pytest.mark.parametrize('region', ['grey_matter', 'white_matter'])
def test_m0_may_be_that_of_a_region(files, tmp_path, region):
    made = run(build(single(tmp_path), m0_reference=region), files, tmp_path)
    factor = {'grey_matter': 0.98, 'white_matter': 0.82}[region] / 0.9
    recovery = {'grey_matter': 1.3, 'white_matter': 1.0}[region]
    factor *= np.expm1(-4.5 / recovery) / np.expm1(-4.5 / 1.607)
    np.testing.assert_allclose(inside(made['cbf'], files), truth(files) * factor, rtol=0.03)


def test_tissues_may_be_told_apart(files, tmp_path):
    mixed = {**files}
    fraction = np.broadcast_to(np.linspace(0, 1, 8)[:, None, None], SHAPE)
    mixed['grey_matter'] = str(save(tmp_path / 'g.nii', fraction))
    mixed['white_matter'] = str(save(tmp_path / 'w.nii', 1 - fraction))
    flow = 60 * fraction + 20 * (1 - fraction)
    difference = difference_from_cbf(
        flow, 1000.0, label_duration=1.8, post_label_delay=1.8 + SLICES, **COMMON
    )
    series = series_of(tmp_path, [difference], [1.8])
    made = run(build(series, partial_volume_correction='linear'), mixed, tmp_path)
    for name, expected in (('grey_cbf', 60), ('white_cbf', 20)):
        values = inside(made[name], files)
        assert np.nanmedian(values) == pytest.approx(expected, rel=0.02)


def test_swapped_context_stops_the_branch(files, tmp_path):
    series = single(tmp_path)
    swapped = tuple({'control': 'label', 'label': 'control'}[one] for one in series.context)
    workflow = build(replace(series, context=swapped))
    node = workflow.get_node('estimate_difference')
    interface: Interface = node.interface
    interface.inputs.series = str(series.file)
    for name in ('mask', 'noise_groups'):
        setattr(interface.inputs, name, files[name])
    with pytest.raises(InputDataError, match='swapped'):
        interface._run_interface(type('Runtime', (), {'cwd': str(tmp_path)}))


def test_without_tissue_there_is_flow_but_no_quality(files, tmp_path):
    few = {name: files[name] for name in ('mask', 'reference')}
    made = run(build(single(tmp_path), has_tissue=False), few, tmp_path)
    np.testing.assert_allclose(inside(made['cbf'], files), truth(files), rtol=0.03)
    assert 'quality' not in made


def test_time_encoded_series_gives_flow_and_arrival(files, tmp_path):
    label = (1 - hadamard(8)[:, 1:]) // 2
    durations, arrival, flow = np.array([1.2, 0.6, 0.5, 0.4, 0.3, 0.3, 0.3]), 0.9, FLOW / 6000
    delays = 0.3 + np.append(np.cumsum(durations[:0:-1])[::-1], 0)
    rate = 1 / 1.607 + flow / 0.9  # Buxton 1998, continuous
    since = (delays + durations)[:, *(np.newaxis,) * 3] + SLICES - arrival
    after = np.maximum(since - durations[:, *(np.newaxis,) * 3], 0)
    gained = np.exp(-rate * after) - np.exp(-rate * np.maximum(since, 0))
    blocks = 2 * 0.85 * 0.75 * 1000 / 0.9 * flow / rate * np.exp(-arrival / 1.65) * gained
    data = np.moveaxis(900 - np.tensordot(np.tile(label, (4, 1)), blocks, axes=1), 0, -1)
    data = data + 0.02 * np.random.default_rng(0).standard_normal(data.shape)
    cycles = tuple(tuple(range(8 * cycle, 8 * cycle + 8)) for cycle in range(4))
    encoding = TimeEncoding(
        matrix=tuple(map(tuple, label.tolist())), cycles=cycles,
        label_duration=tuple(durations), post_label_delay=tuple(delays),
    )  # fmt: skip
    series = replace(
        single(tmp_path), context=tuple(f'encoded{i % 8 + 1}' for i in range(32)),
        file=save(tmp_path / 'asl.nii', data), encoding=encoding,
        label_duration=tuple(durations) * 4, post_label_delay=tuple(delays) * 4,
    )  # fmt: skip
    made = run(build(series, 'multi-delay'), files, tmp_path)
    cbf, att = (read(made[name])[1:-1, 1:-1, 1:-1] for name in ('cbf', 'att'))
    np.testing.assert_allclose(cbf, FLOW[1:-1, 1:-1, 1:-1], rtol=0.02)
    np.testing.assert_allclose(att, arrival, atol=0.02)
    assert reference_volumes(series)[1] in (tuple(range(32)), ())
