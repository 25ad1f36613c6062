"""Tables of regions and labels, and the node that writes derivatives."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from bids_app.images import Grid, load_data
from bids_app.interfaces._base import VOXELS_PER_SAMPLE
from bids_app.interfaces.derivatives import SaveDerivatives
from bids_app.interfaces.regions import SummariseConcordance, SummariseRegions
from bids_app.models.concordance.labels import concordance_summary
from tests.interfaces.conftest import Files

TABLE = """index	name	network
1	7Networks_LH_Vis_1	Vis
2	7Networks_LH_Vis_2	Vis
3	7Networks_RH_Default_1	Default
"""
ATLAS = np.array([[1, 1], [2, 3]]).reshape(2, 2, 1)


@pytest.fixture
def cortex(tmp_path):
    """Four voxels: two in the first parcel, one in each other."""
    files = Files.__new__(Files)
    files.folder, files.grid = tmp_path, Grid((2, 2, 1), np.eye(4))
    files.inside = np.ones((2, 2, 1), bool)
    files.mask = files.image('mask', files.inside)
    (tmp_path / 'atlas.tsv').write_text(TABLE)
    files.atlas = {
        'atlas': files.image('atlas', ATLAS.astype(np.int16)),
        'atlas_table': str(tmp_path / 'atlas.tsv'),
    }
    return files


def regions(cortex, grey=(1.0, 1.0, 1.0, 1.0), **quantities):
    interface = SummariseRegions(
        quantities=list(quantities),
        mask=cortex.mask,
        grey_matter=cortex.voxels('grey', *grey),
        minimum_grey_matter=0.5,
        bold_q=0.05,
        level=0.05,
        cao2=7.5,
        **cortex.atlas,
    )
    for name, options in quantities.items():
        values, others = options['values'], {k: v for k, v in options.items() if k != 'values'}
        reference = others.pop('reference', None)
        ports = cortex.quantity(name, *values, status=(0,) * 4, **others)
        if reference is not None:
            ports[f'{name}_reference'] = cortex.voxels(f'{name}_base', *reference)
        for port, value in ports.items():
            setattr(interface.inputs, port, value)
    table = pd.read_csv(cortex.run(interface).table, sep='\t')
    return table.set_index(['level', 'name', 'quantity'])


def test_region_is_the_mean_of_its_voxels_with_its_error(cortex):
    table = regions(cortex, cbf={'values': (1.0, 3.0, 5.0, 7.0), 'variance': 4.0})
    first = table.loc['parcel', '7Networks_LH_Vis_1', 'cbf']
    assert (first.effect, first.n_voxels, first.coverage) == (2.0, 2, 1.0)
    assert first.se == pytest.approx(math.sqrt(4.0 / 2), rel=1e-5)
    assert first.z == pytest.approx(2.0 / math.sqrt(2), rel=1e-5)
    assert table.loc['network', 'Vis', 'cbf'].effect == 3.0
    assert table.loc['brain', 'brain', 'cbf'].effect == 4.0
    assert first.unit == 'mL/100 g/min'


def test_voxels_that_share_their_noise_count_less(cortex):
    options = {'values': (1.0, 3.0, 5.0, 7.0), 'variance': 4.0}
    plain = regions(cortex, cbf=options)
    shared = regions(cortex, cbf={**options, 'sidecar': {VOXELS_PER_SAMPLE: 2.0}})
    brain = ('brain', 'brain', 'cbf')
    assert shared.loc[brain].se / plain.loc[brain].se == pytest.approx(math.sqrt(2), rel=1e-5)


def test_white_matter_does_not_count(cortex):
    table = regions(cortex, grey=(1.0, 0.4, 1.0, 1.0), cbf={'values': (1.0, 3.0, 5.0, 7.0)})
    assert table.loc['parcel', '7Networks_LH_Vis_1', 'cbf'].effect == 1.0


def test_blood_volume_is_in_percent(cortex):
    table = regions(cortex, cbv={'values': (0.05,) * 4, 'variance': 1e-4})
    brain = table.loc['brain', 'brain', 'cbv']
    assert (brain.effect, brain.unit) == (pytest.approx(5.0), 'percent')
    assert brain.se == pytest.approx(100 * math.sqrt(1e-4 / 4), rel=1e-5)


def test_regions_are_labelled_where_bold_and_cmro2_are_known(cortex):
    bold = {'values': (1.0, 1.0, -1.0, 0.0), 'variance': 0.01}
    cmro2 = {'values': (20.0, 20.0, 20.0, 20.0), 'variance': 1.0}
    table = regions(cortex, boldPct=bold, cmro2=cmro2)

    def label(name):
        return table.loc['parcel', name, 'cmro2'].label.split(' (')[0]

    assert label('7Networks_LH_Vis_1') == 'concordant positive'
    assert label('7Networks_LH_Vis_2') == 'discordant negative'
    assert label('7Networks_RH_Default_1') == 'BOLD not significant'
    assert table.xs('boldPct', level='quantity').label.isna().all()
    assert regions(cortex, cmro2=cmro2).label.isna().all()


def test_change_is_given_relative_to_the_baseline_with_its_parts_and_tipping_points(cortex):
    table = regions(
        cortex,
        cbf={'values': (10.0,) * 4, 'reference': (50.0,) * 4},
        R2prime={'values': (-0.5,) * 4, 'reference': (5.5,) * 4},
        oef={'values': (-0.04,) * 4, 'reference': (0.4,) * 4},
        cmro2={'values': (12.0,) * 4, 'reference': (150.0,) * 4},
    )
    brain = table.sort_index().loc['brain', 'brain']
    assert brain.loc['cbf'].percent == pytest.approx(20.0)
    assert brain.loc['cbf'].log_ratio == pytest.approx(math.log(1.2), rel=1e-5)
    rate = brain.loc['cmro2']
    assert (rate.cbf_part, rate.oef_part) == (pytest.approx(28.5), pytest.approx(-16.5))
    assert rate.cbf_part + rate.oef_part == pytest.approx(rate.effect)
    assert rate.tipping_cbv == pytest.approx(60 * 5 / (50 * 5.5) - 1, rel=1e-5)
    assert rate.tipping_r2 == pytest.approx(-2.5, rel=1e-5)
    assert math.isnan(brain.loc['cbf'].tipping_cbv)
    assert math.isnan(rate.bold_route_bias)


def summarise(cortex, **others):
    sign = cortex.image('sign', np.array([1, 2, 3, 4], np.uint8).reshape(2, 2, 1))
    robust = cortex.image('robust', np.array([1, 5, 3, 7], np.uint8).reshape(2, 2, 1))
    ports = cortex.quantity('bold', 1.0, 1.0, -1.0, -1.0, variance=0.01, status=(0,) * 4)
    ports |= cortex.quantity('change', 20.0, -1.0, -20.0, 9.0, variance=4.0, status=(0,) * 4)
    interface = SummariseConcordance(
        sign=sign, robust=robust, mask=cortex.mask, smallest_effect=0.01,
        baseline=cortex.voxels('baseline', *(100.0,) * 4), **ports, **others,
    )  # fmt: skip
    table = pd.read_csv(cortex.run(interface).table, sep='\t')
    return table.set_index(['rule', 'bold', 'network'])


def test_labels_are_counted_per_rule_and_network(cortex):
    table = summarise(cortex, **cortex.atlas)
    whole = table.loc['sign', 'all', 'all']
    assert (whole.n_voxels, whole.n_concordant, whole.n_discordant) == (4, 2, 2)
    assert whole.discordant_fraction == 0.5
    assert table.loc['robust', 'all', 'all'].n_undetermined == 1
    assert table.loc['sign', 'all', 'Default'].n_discordant == 1
    assert set(summarise(cortex).index.get_level_values('network')) == {'all'}


def test_estimates_stand_beside_the_counts_for_the_gated_voxels(cortex):
    corrected = summarise(cortex).loc['noise_corrected', 'all', 'all']
    assert corrected.n_voxels == 3
    assert 'a change below 1 counts as none;' in corrected.note
    assert 'no change detectable' in corrected.note
    assert summarise(cortex).loc['noise_only', 'positive', 'all'].n_voxels == 2


# ------------------------------------------------------------------------------ derivatives


def save(files, items, **ports):
    out = files.folder / 'out'
    out.mkdir(exist_ok=True)
    interface = SaveDerivatives(items=items, output_dir=str(out))
    for port, value in ports.items():
        setattr(interface.inputs, port, value)
    return out, files.run(interface).out_files


def test_image_is_written_under_its_name_in_its_unit_with_its_facts(oriented_files):
    files = oriented_files
    at = {'sub': '01', 'space': 'MESE', 'variant': 'dsc'}
    sidecar = {'Model': 'x', 'Sources': []}
    items = {'map': {'key': 'cbv', 'entities': at, 'sidecar': sidecar, 'part': 'value'}}
    ports = files.quantity('map', 0.04, np.nan, sidecar={'DegreesOfFreedom': 120.0})
    out, written = save(files, items, **ports)
    path = out / 'sub-01' / 'perf' / 'sub-01_space-MESE_desc-dsc_cbv.nii.gz'
    assert written == [str(path)]
    np.testing.assert_allclose(load_data(path)[files.inside], [4, np.nan], rtol=1e-6)
    sidecar = json.loads(path.with_name(path.name.replace('.nii.gz', '.json')).read_text())
    assert sidecar['Units'] == 'percent'
    assert sidecar['DegreesOfFreedom'] == 120.0
    assert sidecar['Model'] == 'x'


def test_the_total_variance_holds_noise_and_constants_in_the_unit_of_the_file(files):
    at = {'sub': '01', 'space': 'MESE', 'quantity': 'cbv'}
    sidecar = {'ConstantsError': {'Total': 0.1}}
    items = {'total': {'key': 'total_variance', 'entities': at, 'sidecar': sidecar,
                       'part': 'total'}}  # fmt: skip
    ports = {'total': files.quantity('map', 0.04, np.nan, variance=(1e-6, np.nan))['map']}
    out, _ = save(files, items, **ports)
    path = out / 'sub-01/perf/sub-01_space-MESE_stat-variance_desc-cbvTotal_statmap.nii.gz'
    expected = 1e4 * (1e-6 + 0.004**2)
    np.testing.assert_allclose(load_data(path)[files.inside], [expected, np.nan], rtol=1e-5)


def test_tables_and_transforms_are_written_as_their_rows_say(files):
    summary = pd.DataFrame(concordance_summary([7, 7], rule='sign'))
    summary.to_csv(files.folder / 'summary.tsv', sep='\t', index=False, na_rep='n/a')
    (files.folder / 'x.txt').write_text('transform')
    items = {
        'summary': {
            'key': 'summary',
            'entities': {'sub': '01', 'contrast': 'aMinusB'},
            'sidecar': {},
        },
        'xfm': {'key': 'xfm_scan', 'entities': {'sub': '01', 'scan': 'ASL'}, 'sidecar': {}},
    }
    items = {name: {**item, 'part': 'value'} for name, item in items.items()}
    ports = {name: str(files.folder / file) for name, file in
             (('summary', 'summary.tsv'), ('xfm', 'x.txt'))}  # fmt: skip
    out, written = save(files, items, **ports)
    assert len(written) == 2
    transform = out / 'sub-01' / 'anat' / 'sub-01_from-ASL_to-T1w_mode-image_xfm.txt'
    assert transform.read_text() == 'transform'
    (table,) = (out / 'sub-01').glob('*_summary.tsv')
    rows = [line.split('\t') for line in table.read_text().splitlines()]
    whole = dict(zip(*rows[:2], strict=True))
    assert (whole['rule'], whole['discordant_fraction'], whole['n_voxels']) == ('sign', 'n/a', '0')


def test_derivatives_are_written_again_when_one_was_deleted():
    assert SaveDerivatives().always_run is True
