"""Bolus nodes: a rim around the brain, defects, and the rules for the change of blood volume."""

import json

import numpy as np
import pandas as pd
import pytest

from bids_app.errors import InputDataError
from bids_app.images import Grid, load_data, save_image
from bids_app.interfaces._base import Bundle, sidecar_of
from bids_app.interfaces.dsc import (
    CarryCBV,
    EstimateArterialInput,
    EstimateBolus,
    SummariseCBVRules,
    read_parcel_factors,
)
from bids_app.models.status import Status
from tests.interfaces.test_tables import ATLAS, cortex  # noqa: F401  (a fixture)

TIME = 1.5 * np.arange(60)
GRID = Grid((8, 8, 6), np.diag([-4.0, 4.0, 6.0, 1.0]))


def bolus(start, scale, height):
    lag = np.clip(TIME - start, 0, None) / (3 * scale)
    return height * lag**3 * np.exp(3 - 3 * lag)


@pytest.fixture
def head(tmp_path):
    """Series and mask of a block of brain with arteries, in a frame of bright tissue."""
    rng = np.random.default_rng(0)
    height = rng.uniform(8, 18, GRID.shape)
    rate = height[..., None] * bolus(21, 2.4, 1.0)
    rate[3:5, 3:5, 1:4] = bolus(19, 1.6, 70.0)
    signal = 1000 * np.exp(-0.03 * rate) + 6 * rng.standard_normal(rate.shape)
    mask = np.zeros(GRID.shape, bool)
    mask[1:7, 1:7, 1:5] = True
    return {
        'series': save_image(signal, GRID, tmp_path / 'series.nii'),
        'mask': save_image(mask, GRID, tmp_path / 'mask.nii'),
        'echo_time': 0.03,
        'repetition_time': 1.5,
    }, signal, tmp_path  # fmt: skip


def test_rim_around_the_brain_is_estimated_where_it_will_be_resampled(head):
    inputs, _, folder = head
    inside = EstimateBolus(**inputs).run(cwd=str(folder)).outputs
    n_inside = np.isfinite(load_data(Bundle.read(inside.relative_cbv).value)).sum()
    wide = EstimateBolus(**inputs, is_widened=True).run(cwd=str(folder)).outputs
    assert n_inside == 6 * 6 * 4
    assert np.isfinite(load_data(Bundle.read(wide.relative_cbv).value)).sum() == 8 * 8 * 6
    assert sidecar_of(wide.relative_cbv)['BolusWindow']['FirstPass'][0] in (13, 14)


def test_defect_is_refused_with_the_way_to_accept_it(head):
    inputs, signal, folder = head
    inputs['series'] = save_image(np.minimum(signal, 950), GRID, folder / 'clipped.nii')
    with pytest.raises(InputDataError, match=r'accepted_defects: clipped') as caught:
        EstimateBolus(**inputs).run(cwd=str(folder))
    assert 'clipped.nii' in str(caught.value)
    done = EstimateBolus(**inputs, accepted_defects=['clipped']).run(cwd=str(folder)).outputs
    assert 'clipped series' in sidecar_of(done.relative_cbv)['AcceptedDefects'][0]


def test_the_mean_bolus_of_the_brain_comes_with_its_window(head):
    inputs, _, folder = head
    done = EstimateBolus(**inputs).run(cwd=str(folder)).outputs
    curve = pd.read_csv(Bundle.read(done.bolus_curve).value, sep='\t')
    start, end = sidecar_of(done.bolus_curve)['BolusWindow']['FirstPass']
    assert start <= curve['rate_change'].idxmax() < end
    assert curve['rate_change'][:start].abs().max() < 0.1 * curve['rate_change'].max()


def test_side_follows_the_world_and_not_the_voxel_axis(head):
    inputs, signal, folder = head
    level = signal[:4, ..., :10].mean(-1, keepdims=True)
    signal[:4] = level + 0.2 * (signal[:4] - level)
    inputs['series'] = save_image(signal, GRID, folder / 'half.nii')
    with pytest.raises(InputDataError, match='in the right half'):  # LAS: first voxels are right
        EstimateBolus(**inputs).run(cwd=str(folder))


def test_arterial_input_is_found_shown_and_used(head):
    inputs, _, folder = head
    blood = {'haematocrit_factor': 0.902, 'oscillation_index': 0.035}
    node = EstimateArterialInput(**inputs, **blood, deconvolves=True)
    done = node.run(cwd=str(folder)).outputs
    voxels = sidecar_of(done.arterial_curve)['Voxels']
    assert len(voxels) >= 5
    assert all(x in (3, 4) and y in (3, 4) and z in (1, 2, 3) for x, y, z in voxels)
    json.dumps(sidecar_of(done.arterial_curve))
    curve = pd.read_csv(Bundle.read(done.arterial_curve).value, sep='\t')
    assert curve['rate_change'].max() == pytest.approx(70, rel=0.15)
    tissue = np.isfinite(load_data(Bundle.read(done.mtt).value))
    assert tissue.any()
    transit, flow = (
        load_data(Bundle.read(done.mtt).value),
        load_data(Bundle.read(done.boluscbf).value),
    )
    assert np.all(flow[tissue] > 0)
    assert np.nanmedian(transit) > 0


def test_mask_of_the_user_overrides_the_arterial_input(head):
    inputs, _, folder = head
    chosen = np.zeros(GRID.shape, bool)
    chosen[1, 1, 1] = True
    mask = save_image(chosen, GRID, folder / 'artery.nii')
    done = EstimateArterialInput(**inputs, arterial_mask=mask).run(cwd=str(folder)).outputs
    assert sidecar_of(done.arterial_curve)['Voxels'] == [[1, 1, 1]]
    assert sidecar_of(done.arterial_curve)['FromMask']


def test_table_of_parcels_changes_the_volume_of_its_task(files):
    table = files.folder / 'parcels.tsv'
    table.write_text('index\tcalc\n1\t5\n2\t-10\n')
    node = CarryCBV(
        mask=files.mask, rule='parcels', task='calc', table=str(table),
        atlas=files.voxels('atlas', np.int16(1), np.int16(3)),
        **files.quantity('cbv', 0.04, 0.04, variance=1e-6, sidecar={'DegreesOfFreedom': 99.0}),
    )  # fmt: skip
    done = files.run(node)
    np.testing.assert_allclose(files.read(done.cbv), [0.042, 0.04], rtol=1e-6)
    assert sidecar_of(done.cbv)['ChangeWithTask'] == 'parcels'
    assert sidecar_of(done.cbv)['DegreesOfFreedom'] == 99.0


def test_flow_changes_the_volume_by_the_power_law(files):
    node = CarryCBV(
        mask=files.mask, rule='grubb', task='calc', grubb_exponent=0.38,
        **files.quantity('cbv', 0.04, 0.04),
        **files.quantity('task_cbf', 66.0, -1.0),
        **files.quantity('baseline_cbf', 55.0, 55.0),
    )  # fmt: skip
    done = files.run(node)
    assert files.read(done.cbv)[0] == pytest.approx(0.04 * 1.2**0.38, rel=1e-6)
    assert files.read(done.cbv, 'status')[1] == Status.NO_REFERENCE


@pytest.mark.parametrize(
    'content', ['index\tmem\n1\t5\n', 'index\tcalc\n1\tmuch\n', 'index\tcalc\n1\t5\n1\t6\n', '']
)
def test_table_that_cannot_be_used_is_named_with_what_it_needs(tmp_path, content):
    path = tmp_path / 'parcels.tsv'
    path.write_text(content)
    with pytest.raises(InputDataError, match=r'parcel_table .*parcels\.tsv'):
        read_parcel_factors(path, 'calc')


def test_rules_tell_where_the_sign_depends_on_blood_volume(cortex):  # noqa: F811
    table = cortex.folder / 'parcels.tsv'
    table.write_text('index\tcalc\n1\t10\n2\t0\n3\t0\n')
    assert ATLAS[0, 0, 0] == 1
    node = SummariseCBVRules(
        mask=cortex.mask,
        grey_matter=cortex.voxels('grey', 1.0, 1.0, 1.0, 1.0),
        minimum_grey_matter=0.5,
        task_cbf=cortex.voxels('f1', 55.0, 55.0, 50.0, 50.0),
        baseline_cbf=cortex.voxels('f0', 50.0, 50.0, 50.0, 50.0),
        task_r2_prime=cortex.voxels('r1', 5.0, 5.0, 5.5, np.nan),
        baseline_r2_prime=cortex.voxels('r0', 5.2, 5.2, 5.0, 5.0),
        cbv=cortex.voxels('cbv', 0.05, 0.05, 0.05, 0.05),
        scale=0.024,
        grubb_exponent=0.38,
        table=str(table),
        task='calc',
        **cortex.atlas,
    )
    rows = pd.read_csv(cortex.run(node).table, sep='\t').set_index(['level', 'name'])
    first = rows.loc['parcel', '7Networks_LH_Vis_1']
    assert first.cbv_change_tipping == pytest.approx(100 * (1.1 * 5.0 / 5.2 - 1), rel=1e-5)
    assert first.cmro2_change_none == pytest.approx(0.024 * (55 * 5 - 50 * 5.2) / 0.05, rel=1e-5)
    assert first.cbv_change_grubb == pytest.approx(100 * (1.1**0.38 - 1), rel=1e-5)
    assert first.cmro2_change_parcels < 0 < first.cmro2_change_grubb
    assert first.sign_depends_on_rule
    assert not rows.loc['parcel', '7Networks_LH_Vis_2'].sign_depends_on_rule
    assert rows.loc['parcel', '7Networks_RH_Default_1'].n_voxels == 0
