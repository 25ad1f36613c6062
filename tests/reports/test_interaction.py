"""Tables sort and filter, dots lead to their participant, curves say what is pointed at."""

import shutil
from importlib.resources import files

import numpy as np
import pytest

from bids_app.bids.output.names import output_path
from bids_app.reports import render
from tests.browser import needs_browser

pytestmark = [pytest.mark.prove, needs_browser]

SORTED = ('−8.9 ± 0.8', '(−2.0 ± 0.3) × 10⁻³', '2.64 × 10⁻⁷', '0.5 (0.1 to 0.9)', '12 %', '1,200')
"""In order of size."""

COLUMN = "[...document.querySelectorAll('tbody tr')].filter(one => !one.hidden).map(one => %s)"


@pytest.fixture
def table(browser, tmp_path):
    """A page with numbers as the reports write them, in no order."""
    texts = ['no estimate', *SORTED[::-1], '–', 'no estimate']
    rows = ''.join(f'<tr><th>sub-{k}</th><td>{text}</td></tr>' for k, text in enumerate(texts))
    script = files('bids_app.reports').joinpath('templates', 'tables.js').read_text('utf-8')
    path = tmp_path / 'page.html'
    path.write_text(
        '<!doctype html><meta charset="utf-8"><table class="sortable"><thead><tr><th>Who</th>'
        f'<th>Value</th></tr></thead><tbody>{rows}</tbody></table><script>{script}</script>'
    )
    browser.open(path)
    return browser


def test_numbers_sort_by_size_and_what_is_missing_stays_last(table):
    for expected in (SORTED, SORTED[::-1]):
        table.run("document.querySelectorAll('th button')[1].click()")
        values = table.run(COLUMN % 'one.cells[1].textContent')
        assert tuple(values[:6]) == expected
        assert set(values[6:]) == {'no estimate', '–'}


def test_a_table_is_filtered_by_words(table):
    table.run("(() => { const one = document.querySelector('.tools input'); "
              "one.value = '× SUB-5'; one.dispatchEvent(new Event('input')); })()")  # fmt: skip
    assert table.run(COLUMN % 'one.cells[0].textContent') == ['sub-5']
    assert table.run("document.querySelector('.tools output').textContent") == '1 of 9'


DOTS = """[...document.querySelectorAll('.measures .track a')].map(
  one => [one.title, one.getAttribute('href')])"""


def test_dots_of_the_group_lead_to_the_report(browser, output_dir, tmp_path):
    folder = shutil.copytree(output_dir, tmp_path / 'copy')
    for sub in ('01', '02'):
        text = 'scan\tshift\toverlap\nMESE\t0.4\t0.9\n'
        (folder / output_path('alignment', sub=sub)).write_text(text)
    browser.open(render.render_group(folder).path)
    dots = browser.run(DOTS)
    assert {link for _, link in dots} == {'sub-01.html', 'sub-02.html'}
    assert all(title.startswith(f'{link.removesuffix(".html")}: ') for title, link in dots)
    assert browser.errors == []


POINT = """(() => { const group = document.querySelector('#bolus_curve [data-curve="%s"]');
  const path = group.querySelector('path');
  path.scrollIntoView({behavior: 'instant', block: 'center'});
  const at = path.getPointAtLength(0).matrixTransform(path.getScreenCTM());
  group.closest('svg').dispatchEvent(new PointerEvent('pointermove',
    {clientX: at.x + 0.2, clientY: at.y}));
  return group.closest('.chart').querySelector('.tip').textContent; })()"""


def test_a_curve_says_its_name_place_and_value(browser, output_dir):
    browser.open(render.render_participant(output_dir, '01').path)
    path = output_path('bolus_curve', sub='01')
    x, y = np.loadtxt(output_dir / path, skiprows=1, unpack=True)
    name = browser.run("document.querySelector('#bolus_curve [data-curve]').dataset.curve")
    said = browser.run(POINT % name)
    assert said.startswith(f'{name}: ')
    value, place = (float(one.replace('−', '-')) for one in said.split(': ')[1].split(' at '))
    assert place == pytest.approx(x[0], abs=0.02 * np.ptp(x))
    assert value == pytest.approx(np.interp(place, x, y), abs=0.02 * np.ptp(y))
