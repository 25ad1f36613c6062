"""The viewer of the report shows what the files hold, from files beside the page alone."""

import base64
import gzip
import json
import shutil

import nibabel as nb
import numpy as np
import pytest

from bids_app.reports import viewer
from bids_app.reports.background import Scene
from bids_app.reports.derivatives import list_derivatives
from tests.browser import needs_browser
from tests.paths import ROOT
from tests.reports.conftest import MESE_AFFINE, SHIFT

CMRO2 = 'sub-01/perf/sub-01_task-{}_space-MESE_cmro2.nii.gz'
PRECISION = 1 / 4096
"""Values are kept with 12 bits behind the point."""


@pytest.fixture(scope='module')
def scene(output_dir):
    return Scene(list_derivatives(output_dir, 'sub-01'), 'MESE', ('control', 'calc'))


def unpacked(script):
    return json.loads(script.removeprefix(b'oxyboldMaps(').removesuffix(b');\n'))


def numbers(text, shape):
    planes = np.frombuffer(gzip.decompress(base64.b64decode(text)), np.uint8).reshape(4, -1)
    return np.ascontiguousarray(planes.T).view('<f4').reshape(shape, order='F')


@pytest.mark.parametrize('largest', [viewer.LARGEST, 300_000])
def test_packed_maps_are_those_of_the_files(scene, output_dir, monkeypatch, largest):
    monkeypatch.setattr(viewer, 'LARGEST', largest)
    script = viewer.viewer_file(scene, output_dir)
    assert len(script) <= largest
    found = unpacked(script)
    assert (found['stride'] > 1) == (largest == 300_000)
    layer = next(m for m in found['maps'] if (m['title'], m['where']) == ('CMRO2', 'calc'))
    values = numbers(layer['value'], found['shape'])
    source = nb.load(output_dir / CMRO2.format('calc'))
    places = np.argwhere(np.isfinite(values))
    world = nb.affines.apply_affine(np.array(found['affine']), places)
    voxels = nb.affines.apply_affine(np.linalg.inv(SHIFT @ source.affine), world)
    assert np.abs(voxels - np.rint(voxels)).max() < 1e-3
    expected = source.get_fdata()[tuple(np.rint(voxels).astype(int).T)]
    np.testing.assert_allclose(values[tuple(places.T)], expected, rtol=PRECISION)


def test_rounding_keeps_missing_values_and_signs():
    values = np.array([np.nan, -1.00001, 0.0, 3.4e38, 1e-30]).reshape(5, 1, 1)
    found = numbers(viewer._packed(values), (5,))
    np.testing.assert_allclose(found, values.ravel(), rtol=PRECISION)


def test_without_a_map_there_is_no_viewer(output_dir):
    assert viewer.viewer_file(Scene((), 'MESE'), output_dir) == b''


READY = """new Promise((done, fail) => {
  const wait = () => document.querySelector('.reading').dataset.ready ? done(1)
    : (document.querySelector('.state').textContent || '').includes('cannot') ? fail('state')
    : setTimeout(wait, 50);
  document.querySelector('.viewer .open').click(); wait(); })"""

MOVE = """(() => { document.querySelectorAll('.viewer .place').forEach(
  (one, k) => { one.value = [%s][k]; }); document.querySelector('.viewer .place')
  .dispatchEvent(new Event('input')); })()"""

SWITCH = """(() => { const where = document.querySelector('.viewer .where'); where.value = '%s';
  where.dispatchEvent(new Event('change'));
  return new Promise(done => setTimeout(done, 800)); })()"""

READING = """(() => { const one = document.querySelector('.viewer .reading'); return [
  one.dataset.map, Number(one.dataset.value), Number(one.dataset.error), one.textContent,
  [...document.querySelectorAll('.viewer .place')].map(place => Number(place.value))]; })()"""


BOX = """(() => { const canvas = document.querySelector('.viewer canvas');
  canvas.scrollIntoView({behavior: 'instant', block: 'center'});
  const box = canvas.getBoundingClientRect();
  return [box.left, box.top, box.width, box.height]; })()"""


@pytest.mark.prove
@needs_browser
@pytest.mark.parametrize('width', [1280, 400])
def test_the_viewer_reads_what_nibabel_reads_and_asks_nothing_of_the_network(
    output_dir, first_page, browser, width
):
    (output_dir / 'code').mkdir(exist_ok=True)
    for path in (ROOT / 'bids_app' / 'data' / 'viewer').iterdir():
        shutil.copy(path, output_dir / 'code')
    browser.open(first_page, width=width)
    assert [url for url in browser.requests if not url.startswith('data:')] == [
        first_page.as_uri()
    ]
    browser.run(READY)
    images = {name: nb.load(output_dir / CMRO2.format(name)) for name in ('control', 'calc')}
    known = np.all([np.isfinite(image.get_fdata()) for image in images.values()], axis=0)
    voxel = tuple(np.argwhere(known)[2000])
    point = nb.affines.apply_affine(SHIFT @ MESE_AFFINE, voxel)
    browser.run(MOVE % ','.join(map(str, point)))
    for name, image in images.items():
        browser.run(SWITCH % name)
        title, value, error, text, place = browser.run(READING)
        assert title == f'CMRO2, {name}'
        assert value == pytest.approx(image.get_fdata()[voxel], rel=PRECISION)
        assert place == pytest.approx(point, abs=0.01)
        assert '±' in text
        assert error > 0
    left, top, wide, high = browser.run(BOX)
    browser.click(left + 0.2 * wide, top + 0.4 * high)
    browser.run('new Promise(done => setTimeout(done, 300))')
    _, value, _, _, place = browser.run(READING)
    assert place != pytest.approx(point, abs=0.5)  # the click moved the crosshair
    found = nb.affines.apply_affine(np.linalg.inv(SHIFT @ MESE_AFFINE), place)
    expected = images['calc'].get_fdata()[tuple(np.rint(found).astype(int))]
    assert (value is None) == np.isnan(expected)
    assert value is None or value == pytest.approx(expected, rel=PRECISION)
    beside = ('data:', 'blob:', output_dir.as_uri())
    assert [url for url in browser.requests if not url.startswith(beside)] == []
    assert browser.errors == []
    assert browser.run('document.documentElement.scrollWidth') <= width
