"""What a run wrote, read from Python."""

import re

import nibabel as nb
import numpy as np
import pytest

import oxybold
from bids_app.errors import MissingInputError, SettingsError
from tests.paths import ROOT

pytestmark = pytest.mark.e2e


def test_maps_errors_and_tables_of_a_run_are_read_as_they_were_written(finished):
    results = oxybold.load(finished.output)
    one = results['sub-01']
    assert results.participants == ('01', '02')
    assert set(results.table['verdict']) == {'complete'}
    assert (one.verdict, one.conditions) == ('complete', ('calc', 'control'))
    flow = one.map('cbf', 'calc')
    folder = finished.output / 'sub-01' / 'perf'
    saved = nb.load(folder / 'sub-01_task-calc_space-MESE_cbf.nii.gz').get_fdata()
    np.testing.assert_array_equal(flow.image.get_fdata(), saved)
    estimate = flow.estimate()
    np.testing.assert_array_equal(estimate.value, saved)
    np.testing.assert_allclose(flow.error_image.get_fdata() ** 2, estimate.variance, rtol=1e-6)
    assert flow.unit == 'mL/100 g/min'
    assert set(np.unique(one.labels('calcMinusControl').get_fdata())) <= set(range(16))
    assert 'effect' in one.table('regions', contrast='calcMinusControl')
    for key in ('cmro2', 'r2_prime', 'boldPct'):
        assert np.isfinite(one.change(key, 'calcMinusControl').estimate().value).any()
    template = one.change('cmro2', 'calcMinusControl', space='MNI152NLin6Asym')
    assert template.image.shape == (91, 109, 91)


def test_what_is_not_there_is_said_with_what_is(finished):
    one = oxybold.load(finished.output)['01']
    with pytest.raises(MissingInputError, match=r'there is .*task-calc_space-MESE_cbf'):
        one.map('cbf', 'memory')
    with pytest.raises(SettingsError, match=r'no quantity .flow.'):
        one.map('flow')
    with pytest.raises(SettingsError, match='robust, sign, mode'):
        one.labels('calcMinusControl', rule='best')
    with pytest.raises(MissingInputError, match=r'no participant 03 .* there is 01, 02'):
        _ = oxybold.load(finished.output)['03']


def test_the_page_runs_as_it_stands_with_nilearn_and_pybids(finished):
    text = (ROOT / 'docs' / 'how-to' / 'python.md').read_text('utf-8')
    names = {}
    for block in re.findall('```python\n(.*?)```', text, re.DOTALL)[:-1]:
        exec(block.replace('derivatives/oxybold', str(finished.output)), names)
    flow = names['flow'].image.get_fdata()
    mean = names['apply_mask'](names['flow'].image, names['known']).mean()
    assert mean == pytest.approx(np.nanmean(flow), rel=1e-5)
    assert {found.get_metadata()['Units'] for found in names['maps']} == {'mL/100 g/min'}
