"""Tables sort and filter, dots lead to their participant, curves say what is pointed at."""

import shutil
from importlib.resources import files

import numpy as np
import pytest

from bids_app.bids.output.names import output_path, row
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
  one => [one.ariaLabel, one.getAttribute('href')])"""


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


PEOPLE = {'01': (0.1, 0.41), '02': (0.2, 0.40), '03': (0.15, 0.44), '04': (0.3, 0.39),
          '05': (9.0, 0.42), '06': (0.25, 0.30)}  # fmt: skip
"""Movement between scans (mm) and OEF; one moved far, one has a low OEF."""


@pytest.fixture
def study_page(output_dir, tmp_path):
    """The report of a group of six with OEF at rest in two groups."""
    folder = shutil.copytree(output_dir, tmp_path / 'copy')
    at = {'space': 'MNI152NLin6Asym'}
    lines = ['\t'.join(row('group_values').columns)]
    listed = ['participant_id']
    for sub, (shift, oef) in PEOPLE.items():
        (folder / f'sub-{sub}').mkdir(exist_ok=True)
        listed.append(f'sub-{sub}')
        group = 'control' if sub < '04' else 'patient'
        lines.append(f'sub-{sub}\t{group}\toef\trest\tn/a\tbrain\tbrain\tall\t1\t{oef}\t0.01')
        path = folder / output_path('alignment', sub=sub)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'scan\tshift\toverlap\nMESE\t{shift}\t0.9\n')
    (folder / output_path('group_values', **at)).write_text('\n'.join(lines) + '\n')
    (folder / 'participants.tsv').write_text('\n'.join(listed) + '\n')
    return render.render_group(folder).path


SCATTER = """[...document.querySelectorAll('#scatter a')].map(one => [one.getAttribute('href'),
  one.getAttribute('aria-label'), Number(one.firstChild.getAttribute('cx')),
  Number(one.firstChild.getAttribute('cy')), one.firstChild.getAttribute('class')])"""

CHOOSE = """(() => { const one = document.querySelectorAll('#scatter select')[%d];
  one.value = [...one.options].find(each => each.textContent.includes('%s')).value;
  one.dispatchEvent(new Event('change')); })()"""


@pytest.mark.parametrize('width', [1280, 400])
def test_two_measures_of_all_participants_stand_against_each_other(browser, study_page, width):
    browser.open(study_page, width=width)
    browser.run(CHOOSE % (0, 'movement between scans'))
    browser.run(CHOOSE % (1, 'grey matter'))
    dots = browser.run(SCATTER)
    assert [link for link, *_ in dots] == [f'sub-{sub}.html' for sub in PEOPLE]
    x, y = (np.array([dot[k] for dot in dots]) for k in (2, 3))
    moved, oef = np.array(list(PEOPLE.values())).T
    for shown, values in ((x, moved), (-y, oef)):
        assert np.corrcoef(shown, values)[0, 1] == pytest.approx(1, abs=1e-6)
    assert dots[4][1].startswith('sub-05: 9')
    groups = [kind.split()[0] for *_, kind in dots]
    assert groups == ['c0'] * 3 + ['c1'] * 3
    assert [link for link, *_, kind in dots if 'out' in kind] == ['sub-05.html', 'sub-06.html']
    named = browser.run("document.querySelector('#scatter svg').textContent")
    assert [sub for sub in PEOPLE if f'sub-{sub}' in named] == ['05', '06']
    assert browser.run('document.documentElement.scrollWidth') <= width
    assert browser.errors == []


MARKED = "[...new Set([...document.querySelectorAll('.one')].map(one => one.dataset.participant))]"
KEY = """document.activeElement.dispatchEvent(
  new KeyboardEvent('keydown', {key: '%s', bubbles: true, cancelable: true}))"""


def test_a_participant_is_marked_in_all_charts_and_reached_by_keys(browser, study_page):
    browser.open(study_page)
    browser.run(CHOOSE % (0, 'movement between scans'))
    browser.run('document.querySelector(\'#scatter a[tabindex="0"]\').focus()')
    assert browser.run(MARKED) == ['sub-01']
    assert browser.run("document.querySelectorAll('.one').length") >= 3, 'scatter, strip, track'
    seen = ['sub-01']
    for _ in range(5):
        browser.run(KEY % 'ArrowRight')
        seen += browser.run(MARKED)
    by_movement = sorted(PEOPLE, key=lambda sub: PEOPLE[sub][0])
    assert seen[:6] == [f'sub-{sub}' for sub in by_movement]
    assert browser.run("document.querySelector('.tip.over').textContent").startswith('sub-05: ')
    assert browser.run('document.activeElement.getAttribute("href")') == 'sub-05.html'
    stops = 'document.querySelectorAll(\'#scatter [tabindex="0"]\').length'
    assert browser.run(stops) == 1, 'one stop for the tab key'
    # the values of a group, and the lines of quality, go the same way
    for box in ('.strips svg', '.track'):
        browser.run(f'document.querySelector(\'{box} a[tabindex="0"]\').focus()')
        first = browser.run(MARKED)
        browser.run(KEY % 'ArrowRight')
        assert browser.run(MARKED) != first


def test_paper_shows_the_plane_and_not_its_choices(browser, study_page):
    browser.open(study_page)
    browser._call('Emulation.setEmulatedMedia', media='print')
    visible = "getComputedStyle(document.querySelector('%s')).display !== 'none'"
    assert browser.run(visible % '#scatter svg')
    assert not browser.run(visible % '#scatter .tools')
    assert not browser.run(visible % '.tip.over')


POINT = """(() => { const group = document.querySelector('#bolus_curve [data-curve="%s"]');
  const path = group.querySelector('path');
  path.scrollIntoView({behavior: 'instant', block: 'center'});
  const at = path.getPointAtLength(0).matrixTransform(path.getScreenCTM());
  group.closest('svg').dispatchEvent(new PointerEvent('pointermove',
    {clientX: at.x + 0.2, clientY: at.y}));
  return group.closest('.chart').querySelector('.tip').textContent; })()"""


def test_a_curve_says_its_name_place_and_value(browser, output_dir, first_page):
    browser.open(first_page)
    path = output_path('bolus_curve', sub='01')
    x, y = np.loadtxt(output_dir / path, skiprows=1, unpack=True)
    name = browser.run("document.querySelector('#bolus_curve [data-curve]').dataset.curve")
    said = browser.run(POINT % name)
    assert said.startswith(f'{name}: ')
    value, place = (float(one.replace('−', '-')) for one in said.split(': ')[1].split(' at '))
    assert place == pytest.approx(x[0], abs=0.02 * np.ptp(x))
    assert value == pytest.approx(np.interp(place, x, y), abs=0.02 * np.ptp(y))


def test_a_curve_is_gone_along_by_keys(browser, output_dir, first_page):
    browser.open(first_page)
    x, y = np.loadtxt(output_dir / output_path('bolus_curve', sub='01'), skiprows=1, unpack=True)
    browser.run("document.querySelector('#bolus_curve svg[data-x]').focus()")
    for number in range(11):
        browser.run(KEY % 'ArrowRight')
        said = browser.run("document.querySelector('#bolus_curve .tip').textContent")
        value, place = (float(one.replace('−', '-')) for one in said.split(': ')[1].split(' at '))
        assert place == pytest.approx(x[number], abs=0.02 * np.ptp(x))
        assert value == pytest.approx(y[number], abs=0.02 * np.ptp(y))
    assert browser.errors == []
