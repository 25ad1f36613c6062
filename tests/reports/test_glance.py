"""The first screen: the worst signs first, in words; the list of participants has them."""

import json
import re

import pandas as pd
import pytest

from bids_app.reports import render
from bids_app.reports.derivatives import Derivative
from bids_app.reports.glance import Sign, _once, _share, remembered
from tests.reports.conftest import run_summary


@pytest.fixture(scope='module')
def page(first_page):
    return first_page.read_text()


def test_the_first_screen_says_what_was_made_trusted_and_found(page):
    seen = page.partition('class="glance"')[2].partition('</section>')[0]
    assert page.index('class="glance"') < page.index('From inputs to CMRO2</h2>')
    assert 'control, calc: T2*, Echo inconsistency, R2&#39;, CBF' in seen
    assert re.search(r'\d+ checks, \d+ asks? for a look', seen)
    assert 'MESE &lt;script' in seen  # alignment with a verdict
    assert re.search(r'Median of grey matter, control: CBF [\d.]+ mL/100 g/min', seen)
    assert 'CMRO2 change (µmol/100 g/min) 6.2 ± 1.2' in seen
    assert 'CMRO2 goes with BOLD in 200 voxels, against it in 100' in seen


def test_every_sign_leads_to_its_figure(page):
    seen = page.partition('class="glance"')[2].partition('</section>')[0]
    links = re.findall(r'href="#([^"]+)"', seen)
    assert links
    assert all(f'id="{link}"' in page for link in links)


def sign(weight, about, where=''):
    return Sign(weight=weight, part='flow', about=about, text=f'{about} {weight}', where=where)


def test_signs_of_one_kind_are_said_once_with_the_worst_number():
    signs = _once([sign(1.2, 'missing', 'calc'), sign(3, 'lost'), sign(1.7, 'missing', 'rest')])
    assert [one.text for one in signs] == ['lost 3', 'missing 1.7 (rest); also calc']


def test_a_lost_map_is_the_worst_sign():
    summary = run_summary('01')
    maps = summary['units'][0]['maps']
    maps.append({'map': 'oef', 'condition': 'calc', 'state': 'failed', 'reason': 'no memory'})
    about = render._complete(summary['units'][0])
    seen = render.glance(about, render.Scene((), 'MESE'), (), ())
    assert seen.signs[0].text == 'OEF is lost: no memory (calc)'
    assert seen.looks == {'oxygen': 'bad'}


def test_the_list_of_participants_has_dots_words_and_thumbnails(output_dir, page):
    record = json.loads((output_dir / 'logs' / 'sub-01_glance.json').read_text())
    assert record.keys() == remembered(()).keys()
    assert record['looks']['anatomy'] == 'check'
    row = render.render_index(output_dir).partition('href="sub-01.html"')[2].partition('</tr>')[0]
    assert record['signs'][0].partition(' ')[0] in row
    assert row.count('<img') == len(record['thumbnails']) == 4
    assert 'title="Anatomy: look at it"' in row


@pytest.mark.parametrize(('interval', 'says'), [
    ((0.05, 0.2), '10 % (5 to 20) of the total change of CMRO2 opposes BOLD: 10 % (5 to 20)'),
    ((0.02, 0.8), 'cannot be said for this participant alone: the estimate is 10 % (2 to 80)'),
    (None, 'cannot be said for this participant alone: no change detectable'),
])  # fmt: skip
def test_where_shares_say_nothing_regions_with_their_errors_do(tmp_path, interval, says):
    numbers = (0.1, *interval) if interval else ('n/a',) * 3
    rows = [('size_weighted', bold, 'all', *numbers, 'no change detectable; 9 blocks')
            for bold in ('all', 'positive', 'negative')]  # fmt: skip
    names = ('rule', 'bold', 'network', 'discordant_fraction', 'ci_low', 'ci_high', 'note')
    pd.DataFrame(rows, columns=names).to_csv(tmp_path / 'summary.tsv', sep='\t', index=False)
    networks = [('network', 'Vis', 'cmro2', 9.0, 3.0), ('network', 'Cont', 'cmro2', -2.0, 3.0)]
    frame = pd.DataFrame(networks, columns=('level', 'name', 'quantity', 'effect', 'se'))
    frame.to_csv(tmp_path / 'regions.tsv', sep='\t', index=False)
    summary, regions = (
        Derivative(tmp_path / f'{name}.tsv', name, {}) for name in ('summary', 'regions')
    )
    found = ' '.join(_share(summary, [regions]))
    assert says in found
    of_regions = 'Vis 9.0 ± 3.0, Cont −2.0 ± 3.0; surely changed: Vis.'
    assert (of_regions in found) == ('cannot be said' in found)
