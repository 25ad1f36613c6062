import html.parser
import json
import re
import shutil
import subprocess

import nibabel as nb
import numpy as np
import pytest

from bids_app.bids.output.names import match
from bids_app.errors import MissingInputError
from bids_app.reports import render
from bids_app.reports.group import tables
from bids_app.reports.report_table import report_table
from bids_app.reports.reportlets.base import halves_fact
from bids_app.reports.reportlets.maps import first_echo_fact, median_fact
from bids_app.reports.reportlets.tables import shown_cell
from tests.browser import CHROMIUM, needs_browser
from tests.reports.conftest import HOSTILE, VALUES, keep_only, run_summary, write_text


class Page(html.parser.HTMLParser):
    """Elements, text and addresses of a page; refuses tags that do not match."""

    void = frozenset({'meta', 'link', 'img', 'br', 'input', 'wbr'})

    def __init__(self, source):
        super().__init__()
        self.open, self.elements, self.text = [], [], ''
        self.feed(source)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {'style', 'script'} & set(self.open):
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope='session')
def pages(output_dir, first_page):
    paths = {
        'sub-01': first_page,
        'sub-02': render.render_participant(output_dir, 'sub-02').path,
        'group': render.render_group(output_dir).path,
    }
    index = output_dir / 'index.html'
    index.write_text(render.render_index(output_dir))
    return {name: path.read_text() for name, path in paths.items()} | {'index': index.read_text()}


NAMES = ('sub-01', 'sub-02', 'group', 'index')


@pytest.mark.parametrize('name', NAMES)
def test_pages_are_well_formed_and_need_nothing_from_outside(pages, output_dir, name):
    page = Page(pages[name])
    sources = [a['src'] for tag, a in page.elements if 'src' in a]
    beside = [source for source in sources if not source.startswith('data:image/webp;base64,')]
    assert all(name == 'index' and (output_dir / source).is_file() for source in beside)
    assert not any(page.all('script'))  # nothing but what stands in the page
    assert not page.all('iframe')
    assert '@import' not in pages[name]
    assert 'url(http' not in pages[name]


@pytest.mark.parametrize('name', NAMES)
def test_links_within_a_page_arrive(pages, name):
    page = Page(pages[name])
    ids = [a['id'] for _, a in page.elements if a.get('id')]
    assert len(ids) == len(set(ids))
    targets = {a['href'][1:] for a in page.all('a') if a['href'].startswith('#')}
    assert targets <= set(ids)


@pytest.mark.parametrize('name', NAMES)
def test_markup_in_the_data_stays_text(pages, name):
    assert HOSTILE not in pages[name]
    assert HOSTILE in Page(pages[name]).text


@pytest.mark.parametrize('name', ['sub-01', 'sub-02', 'group'])
def test_every_picture_has_alternative_text_and_a_caption(pages, name):
    page = Page(pages[name])
    assert page.all('img')
    assert all(len(image['alt']) > 20 for image in page.all('img'))
    assert pages[name].count('<figcaption>') == pages[name].count('<figure ')
    assert pages[name].count('What good looks like') == pages[name].count('<figure ')


def test_every_value_map_of_each_condition_has_a_figure_with_its_unit(pages):
    ids = {a.get('id') for _, a in Page(pages['sub-01']).elements}
    for row in report_table().figures:
        if row.kind == 'map' and row.quantity in VALUES:
            for condition in VALUES[row.quantity][4]:
                key = f'{row.key}_condition-{condition}' if condition else row.key
                assert key in ids
            assert row.unit in pages['sub-01']


def test_the_headline_numbers_are_those_of_the_maps(pages):
    chain = pages['sub-01'].partition('class="chain"')[2].partition('</ul>')[0]
    found = re.findall(r'class="value">([^<]+)<', chain)
    values = dict(zip(['t2', 't2s', 't2s_calc'], map(float, found[:3]), strict=True))
    assert values['t2'] == pytest.approx(74, rel=0.03)
    assert values['t2s'] == pytest.approx(54.5, rel=0.03)
    assert values['t2s_calc'] == pytest.approx(54.5 * 1.1, rel=0.03)


@pytest.mark.parametrize('name', NAMES)
def test_no_page_shows_nan(pages, name):
    assert not re.search(r'\bnan\b', Page(pages[name]).text.replace('NaN means', ''))


def test_the_verdict_and_its_reasons_open_the_page(pages):
    text = Page(pages['sub-02']).text
    assert text.index('Incomplete') < text.index('From inputs')
    assert 'DSC broken' in text[: text.index('From inputs')]
    assert 'Complete' in Page(pages['sub-01']).text


def test_a_map_that_was_not_made_is_named_with_the_reason(pages):
    chain = pages['sub-02'].partition('class="chain"')[2].partition('</ul>')[0]
    cbv = chain.partition('CBV')[2].partition('</li>')[0]
    assert 'not made' in cbv
    assert 'no DSC' in cbv
    assert 'id="cbv"' not in pages['sub-02']


def test_problems_and_errors_are_shown(pages):
    text = Page(pages['sub-02']).text
    assert 'a_dsc.nii.gz' in text
    assert 'Trace' in text
    assert 'Trace' not in Page(pages['sub-01']).text


def test_constants_come_with_value_origin_and_what_they_overruled(pages):
    table = pages['sub-01'].partition('aria-label="Constants"')[2].partition('</table>')[0]
    for text in ('oxygen.<wbr>hct', '0.42', 'participants.tsv', '0.4 (default)', '2.64 × 10⁻⁷'):
        assert text in table


def test_references_are_listed_once_in_order(pages):
    listed = pages['sub-01'].partition('class="references"')[2].partition('</ol>')[0]
    dois = re.findall(r'doi\.org/([^"]+)"', listed)
    assert dois == ['10.1002/mrm.25197', '10.1172/JCI101994']
    assert listed.index('vascular deoxygenation') < listed.index('mrm.25197')
    assert 'href="https://www.ajnr.org/content/34/6/E65"' in listed  # no DOI is known


def test_the_graph_is_readable_as_text(pages):
    text = Page(pages['sub-01']).text
    assert 'estimate R2prime' in text
    assert 't1w from fit R2' in text
    assert 'r2 from fit R2' in text


def test_the_legend_gives_the_share_of_each_label(pages, output_dir):
    labels = pages['sub-01'].partition('id="labels_')[2]
    legend = labels.partition('class="legend"')[2].partition('</ul>')[0]
    assert legend.count('<li>') == 7
    shares = [float(x) for x in re.findall(r'robust rule ([\d.]+) %', legend)]
    assert sum(shares) == pytest.approx(100, abs=2)


def test_shares_and_networks_are_listed(pages):
    for name in ('sub-01', 'group'):
        text = Page(pages[name]).text
        assert 'published sign rule, BOLD up' in text
        assert '33 % discordant' in text
        assert '6.2 ± 1.2' in text
        assert 'Without an estimate: Limbic.' in text
        assert 'LH_Vis_1' in text
        assert 'discordant positive' in text


def test_a_report_made_again_is_the_same_and_leaves_no_stale_picture(pages, output_dir):
    folder = output_dir / 'sub-02' / 'figures'
    names = {path.name for path in folder.iterdir()}
    assert 'cbf_condition-calc.webp' in names
    rows = {match(f'sub-02/figures/{name}')[0] for name in names}
    assert rows == {'figure', 'viewer_maps'}
    (folder / 'gone.webp').write_bytes(b'')
    assert render.render_participant(output_dir, '02').path.read_text() == pages['sub-02']
    assert {path.name for path in folder.iterdir()} == names


def test_the_index_lists_every_participant_and_the_group(pages):
    links = [a['href'] for a in Page(pages['index']).all('a')]
    assert {'sub-01.html', 'sub-02.html', 'group.html'} <= set(links)
    text = Page(pages['index']).text
    assert text.index('sub-01') < text.index('sub-02')
    assert re.search(r'([1-9]\d*) of \1(?!\d)', text)
    assert '0 of 1' in text


def test_a_participant_that_never_ran_is_an_error_that_says_so(tmp_path):
    with pytest.raises(MissingInputError, match='run the participant level for sub-09'):
        render.render_participant(tmp_path, '09')


def test_a_participant_that_failed_at_once_still_has_a_report(tmp_path):
    summary = {'verdict': {'state': 'failed', 'exit_code': 66, 'reasons': ['no image']}}
    write_text(json.dumps(summary), tmp_path / 'logs' / 'sub-03_run_summary.json')
    text = Page(render.render_participant(tmp_path, '03').path.read_text()).text
    assert 'Failed' in text
    assert 'no image' in text
    assert 'sub-03' in Page(render.render_index(tmp_path)).text


@pytest.fixture
def small(tmp_path, output_dir):
    """The first participant with perfusion and T2 only, to be changed by a test."""
    for name in ('sub-01', 'logs'):
        shutil.copytree(output_dir / name, tmp_path / name, ignore=lambda *_: {'figures'})
    anatomy = ('*T1w*', '*probseg*', '*brain_mask*', '*xfm*')
    keep_only(tmp_path / 'sub-01', *anatomy, '*T2map*', '*_cbf.*', '*_cmro2.*')
    return tmp_path


def test_an_image_that_cannot_be_read_costs_its_figure_only(small):
    broken = next(small.glob('sub-01/perf/*calc_space-MESE_cbf.nii.gz'))
    broken.write_bytes(broken.read_bytes()[:200])
    source = render.render_participant(small, '01').path.read_text()
    assert 'Results that cannot be shown' in source
    assert broken.name in source
    assert 'id="cmro2_condition-calc"' in source


def test_sessions_are_shown_apart(small):
    unit = run_summary('01')['units'][0]
    summary = run_summary('01')
    summary['units'] = [{**unit, 'label': f'sub-01_ses-{name}'} for name in ('a', 'b')]
    (small / 'logs' / 'sub-01_run_summary.json').write_text(json.dumps(summary))
    for name in ('a', 'b'):
        folder = small / 'sub-01' / f'ses-{name}' / 'anat'
        folder.mkdir(parents=True)
        for path in (small / 'sub-01' / 'anat').glob('*T2map*'):
            new = path.name.replace('sub-01_', f'sub-01_ses-{name}_')
            shutil.copy(path, folder / new)
    page = Page(render.render_participant(small, '01').path.read_text())
    ids = [a['id'] for _, a in page.elements if a.get('id')]
    assert {'t2_ses-a', 't2_ses-b'} <= set(ids)
    assert len(ids) == len(set(ids))
    assert not any(key.startswith('cbf') for key in ids)


def test_without_anatomy_the_maps_are_still_shown(small):
    for pattern in ('*T1w*', '*probseg*', '*brain*', '*xfm*'):
        for path in (small / 'sub-01' / 'anat').glob(pattern):
            path.unlink()
    source = render.render_participant(small, '01').path.read_text()
    assert 'median, brain' in source
    assert 'id="anatomy"' not in source
    assert 'id="cmro2_condition-calc"' in source


@pytest.mark.parametrize(
    ('departure', 'model', 'verdict'),
    [(-10.0, 'exponential', 'check'), (-1.5, 'exponential', 'good'), (-10.0, 'drop-first', None)],
)
def test_a_low_first_echo_is_pointed_at_where_it_makes_t2_too_long(departure, model, verdict):
    fact = first_echo_fact({'FirstEchoDeparture': departure, 'Model': {'Name': model}})
    assert (fact and fact.verdict) == verdict
    assert fact is None or 'relaxometry.t2_model drop-first' in fact.rule
    assert first_echo_fact({'Model': {'Name': model}}) is None


def test_facts_judge_grey_matter_against_the_usual_range():
    row = next(row for row in report_table().figures if row.key == 'cbf')
    fact = median_fact('grey matter', np.full(9, 50.0), row)
    assert (fact.verdict, fact.text) == ('good', '50 mL/100 g/min (quartiles 50 to 50)')
    assert median_fact('grey matter', np.full(9, 8600.0), row).verdict == 'check'
    assert median_fact('white matter', np.full(9, 8600.0), row).verdict == ''
    missing = median_fact('grey matter', np.full(9, np.nan), row)
    assert (missing.verdict, missing.text) == ('check', 'no estimate')


VIEWS = {
    'light': ('@media (prefers-color-scheme: dark)', '@media not all'),
    'dark': ('@media (prefers-color-scheme: dark)', '@media all'),
    'print': ('@media print', '@media all'),
}
"""How a page is seen, and what makes the browser show it so."""

PROBE = """<script>
f.onload = () => {
  const d = f.contentDocument, w = f.contentWindow;
  const light = c => c.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const style = w.getComputedStyle(d.body);
  const [a, b] = [light(style.color), light(style.backgroundColor)].sort((x, y) => y - x);
  const room = d.documentElement.clientWidth;
  const wide = [...d.querySelectorAll('main *')].filter(
    e => !e.closest('.wide') && !e.matches('polygon, polyline')
      && e.getBoundingClientRect().right > room + 1);
  document.body.dataset.result = JSON.stringify({
    sideways: d.documentElement.scrollWidth - room, wide: wide.map(e => e.outerHTML.slice(0, 60)),
    broken: [...d.images].filter(i => i.complete && !i.naturalWidth).length,
    readable: (a + 0.05) / (b + 0.05) > 7});
}</script>"""


@pytest.mark.prove
@needs_browser
@pytest.mark.parametrize('look', [
    ('light', 1280), ('light', 400), ('dark', 1280), ('dark', 400), ('print', 680),
])  # fmt: skip
@pytest.mark.parametrize('name', NAMES)
def test_pages_fit_are_readable_and_silent_in_the_browser(pages, output_dir, tmp_path, name, look):
    view, width = look
    page = tmp_path / 'page.html'
    text = pages[name].replace(*VIEWS[view])
    text = text.replace('<head>', f'<head><base href="{output_dir.as_uri()}/">')
    if view == 'dark':  # with everything unfolded
        text = text.replace('<details>', '<details open>')
    if view == 'print':  # a page of paper counts as 794 px, of which its margins leave 680
        text = text.replace('@media (min-width: 46rem)', '@media all')
        text = text.replace('@media (max-width: 46rem)', '@media not all')
    page.write_text(text)
    frame = tmp_path / 'frame.html'
    frame.write_text(
        f'<body><iframe id="f" src="{page.as_uri()}" '
        f'style="width:{width}px;height:900px;border:0"></iframe>{PROBE}'
    )
    command = (
        f'{CHROMIUM} --headless --no-sandbox --disable-gpu --no-first-run --disable-sync '
        '--disable-background-networking --disable-component-update --enable-logging=stderr '
        f'--allow-file-access-from-files --user-data-dir={tmp_path}/profile '
        f'--virtual-time-budget=8000 --dump-dom {frame.as_uri()}'
    )
    done = subprocess.run(command.split(), capture_output=True, text=True, timeout=240, check=True)
    result = re.search(r'data-result="([^"]*)"', done.stdout)[1].replace('&quot;', '"')
    expected = {'sideways': 0, 'wide': [], 'broken': 0, 'readable': True}
    assert json.loads(result) == expected
    assert 'CONSOLE' not in done.stderr


def test_arterial_input_is_shown(pages):
    page = Page(pages['sub-01'])
    assert 'arterial_curve' in {a.get('id') for _, a in page.elements}
    labels = [a.get('aria-label', '') for _, a in page.elements]
    assert any('Course of the change of R2* in the arteries' in label for label in labels)


def test_the_bolus_is_shown_before_its_arterial_input(pages):
    figure = pages['sub-01'].partition('id="bolus_curve"')[2].partition('</figure>')[0]
    assert '<svg' in figure
    assert 'the bolus passes' in figure
    assert (
        0 < pages['sub-01'].find('id="bolus_curve"') < pages['sub-01'].find('id="arterial_curve"')
    )


def test_readers_see_units_and_contrasts_in_words(pages):
    for name in ('sub-01', 'group'):
        text = re.sub(r'<details>.*?</details>', '', pages[name], flags=re.DOTALL)
        assert not re.findall('umol|calcMinusControl|\\(percent\\)', re.sub('<[^>]*>', ' ', text))
    assert 'OEF change (percentage points)' in pages['sub-01']
    assert '620 ± 240' in pages['sub-01']  # 6.25 as a fraction
    assert 'data-label="measured (%)"' in pages['sub-01']


def test_movement_is_counted_and_judged(pages):
    figure = pages['sub-01'].partition('id="movement_')[2].partition('</figure>')[0]
    assert 'above 0.2 mm' in figure
    assert re.search(r'\d+ of \d+', figure)


def test_scans_are_listed_with_their_timing_and_those_missing_are_named(pages):
    table = pages['sub-01'].partition('aria-label="Scans"')[2].partition('</table>')[0]
    assert 'echo times</span> 16, 32 ms' in table
    assert 'sub-01_echo-32_MESE.nii.gz' in table
    assert 'not found' in table.partition('DSC')[2]


def test_quantities_in_tables_are_written_as_elsewhere_and_with_their_unit():
    row = next(row for row in report_table().figures if row.key == 'group_baseline')
    assert shown_cell(row, {'quantity': 'cmro2'}, 'quantity') == 'CMRO2 (µmol/100 g/min)'
    assert shown_cell(row, {'quantity': 'cmro2', 'rule': 'sign'}, 'rule') == 'sign'


def test_alignment_flickers_against_the_position_of_the_header(pages):
    for scan, name in (('alignment_MESE', 'MESE, quantification grid'),
                       ('alignment_MEGRE_calc', 'MEGRE calc')):  # fmt: skip
        figure = pages['sub-01'].partition(f'id="{scan}"')[2].partition('</figure>')[0]
        assert name in figure
        assert figure.count('<img') == 2
        assert 'class="before"' in figure
        assert '5.39 mm' in figure  # |(2, -3, 4)|


def test_the_chain_shows_what_is_there_and_why_the_rest_is_not(pages):
    chain = pages['sub-02'].partition('<svg class="chain-graph"')[2].partition('</svg>')[0]
    assert 'There: MESE, ASL.' in chain
    assert 'CBV: no DSC' in chain
    assert 'DSC: no such scan' in chain


def test_the_posterior_stands_beside_the_labels(pages):
    figure = pages['sub-01'].partition('id="labels_')[2].partition('</figure>')[0]
    titles = re.findall(r'<h4>([^<]+)</h4>', figure)
    assert titles == ['Robust rule', 'Published sign rule', 'Posterior probability']


def test_reasons_without_a_value_have_a_picture_and_a_share(pages):
    figure = pages['sub-01'].partition('id="cbf_condition-calc"')[2].partition('</figure>')[0]
    assert 'Reasons and cautions' in figure
    assert re.search(r'<small>[\d,]+ voxels, [\d.]+ %</small>', figure)


def test_tables_of_the_output_keep_units_verdicts_and_plain_text(pages):
    figure = pages['sub-01'].partition('id="cbf_quality"')[2].partition('</figure>')[0]
    assert '0.912' in figure
    assert 'class="mark good"' in figure
    assert 'probable_cause' not in figure  # nothing in that column


def test_intervals_and_tipping_points_of_the_networks(pages):
    text = Page(pages['sub-01']).text
    assert '6.2 ± 2.4' in text  # 1.96 standard errors
    assert '12.3 %' in text.partition('Tipping points')[2]
    places = [float(x) for x in re.findall(r'left:(-?[\d.]+)%', pages['sub-01'])]
    assert places
    assert all(-0.01 <= place <= 100.01 for place in places)


def test_movement_and_courses_are_drawn_with_their_units(pages):
    page = Page(pages['sub-01'])
    labels = ' '.join(a.get('aria-label', '') for _, a in page.elements)
    assert 'Movement of the head between successive volumes or echoes of BOLD, all' in labels
    assert 'Framewise displacement' in page.text
    assert '(mm)' in page.text
    assert 'Visual, calc' in page.text


def test_the_group_says_who_is_in_it_and_what_is_unusual(pages):
    text = Page(pages['group']).text
    assert 'moved' in text.partition('Inclusion')[2]
    overview = pages['group'].partition('aria-label="Quality"')[2].partition('</section>')[0]
    assert 'sub-02.html' in overview
    assert 'sub-01.html' not in overview
    assert '0.412' in text.partition('Multiverse of choices')[2]


def test_flow_and_metabolism_stand_on_one_plane(pages):
    chart = pages['group'].partition('<svg class="plane"')[2].partition('</svg>')[0]
    assert 'Default mode: CBF 12.5 %, CMRO2 8.5 % (n = 1)' in chart
    assert 'BOLD 0 %' in chart


def test_the_verdict_of_every_alignment_is_listed(pages):
    figure = pages['sub-01'].partition('id="alignment_verdicts"')[2].partition('</figure>')[0]
    assert '5.39' in figure
    assert 'class="mark check"' in figure
    assert 'moved' in figure


def test_distortion_flickers_between_acquired_and_undone_with_the_displacement(pages):
    figure = pages['sub-01'].partition('id="distortion_')[2].partition('</figure>')[0]
    assert 'data-before="as acquired"' in figure
    assert figure.count('<img') == 3
    assert 'Median 2,' in figure  # voxels


def test_movement_of_redundant_sets_and_agreement_of_bold_are_shown(pages):
    text = Page(pages['sub-01']).text
    assert '0.41 mm' in text.partition('movement of set 2')[2][:40]
    assert '1.2 % of the signal' in text
    assert '1.23' in text.partition('BOLD measured and predicted')[2]


def test_the_timing_of_asl_is_a_table(pages):
    table = pages['sub-01'].partition('Timing of ASL, calc')[2].partition('</table>')[0]
    assert 'post-labelling delay (s)' in table
    assert '3 label' in table


def test_decays_of_voxels_are_drawn_with_their_fit_and_named(pages):
    figure = pages['sub-01'].partition('id="decays_scan-MESE"')[2].partition('</figure>')[0]
    assert '<svg' in figure
    assert 'grey matter, voxel 1, 2, 3' in figure
    assert '80 ms; relaxes as slowly as fluid' in figure


def test_noise_and_constants_share_the_variance_of_cmro2(pages):
    table = pages['sub-01'].partition('class="stack shares"')[2].partition('</table>')[0]
    text = Page(f'<table>{table.partition(">")[2]}</table>').text
    assert 'oxygen.susceptibility' in text
    assert 'Noise of the scans' in text
    assert 'mean of grey matter' in text
    assert 'change of CMRO2 of the brain' in text
    assert 'class="stack shares"' not in pages['sub-02']


def test_a_group_change_is_seen_through_the_brain_slice_by_slice_and_by_what_can_be_found(pages):
    figure = pages['group'].partition('id="group_change_cmro2')[2].partition('</figure>')[0]
    titles = re.findall(r'<h4>([^<]+)</h4>', figure)
    assert titles[0] == 'Through the whole brain'
    assert titles[-1] == 'Smallest change found with 80 % power'
    heights = json.loads(re.search(r"data-heights='([^']+)'", figure)[1])
    assert len(heights) > 40
    assert re.search(rf'max="{len(heights) - 1}"', figure)


def test_the_group_counts_who_came_how_far_and_shows_everyone_in_each_measure(pages):
    flow = pages['group'].partition('class="flow"')[2].partition('</ol>')[0]
    assert re.findall(r'<strong>(\d+)</strong> ([a-z ]+)', flow) == [
        ('2', 'run'), ('2', 'with results'), ('1', 'considered for the group'),
        ('0', 'in the group'),
    ]  # fmt: skip
    assert 'moved' in flow
    assert '1: incomplete' in pages['index'].partition('class="flow"')[2]


def test_networks_light_up_together(pages):
    text = pages['group']
    cards = text.partition('class="cards"')[2].partition('</ul>')[0]
    assert 'data-network="Default"' in cards
    assert '6.2 ± 1.2' in cards
    assert '<tr data-network="Default">' in text
    assert '<g class="point c0" tabindex="0" data-network="Default">' in text


def test_published_numbers_stand_beside_ours_with_their_preset(output_dir, pages, tmp_path):
    assert 'Beside the published numbers' not in pages['group']
    copy = tmp_path / 'out'
    shutil.copytree(output_dir, copy)
    write_text('preset = "epp2025"', copy / 'logs' / 'group_settings.toml')
    grey = next((copy / 'sub-01' / 'anat').glob('*label-GM_probseg.nii.gz'))
    image = nb.load(next((copy / 'sub-01' / 'anat').glob('*space-MESE_T2map.nii.gz')))
    ones = nb.Nifti1Image(np.ones(image.shape, np.float32), image.affine)
    ones.to_filename(grey.with_name('sub-01_space-MESE_label-GM_probseg.nii.gz'))
    page = render.render_group(copy).path.read_text()
    table = page.partition('aria-label="Published numbers"')[2].partition('</table>')[0]
    rows = dict(re.findall(r'label="Quantity">([^<]+)<.*?label="This study">([^<]+)<', table))
    assert float(rows['T2 of grey matter'].split()[0]) == pytest.approx(72, abs=3)
    assert rows['Discordant where BOLD rises, calculation'] == '33.3 %'
    assert rows['Discordant where BOLD rises, memory'] == 'not in this study'
    path = next(copy.glob('tpl-*/*desc-concordance_summary.tsv'))
    lines = path.read_text().splitlines()
    place = lines[0].split('\t').index('discordant_fraction')
    cells = [line.split('\t') for line in lines]
    for line in cells[1:]:
        line[place] = 'n/a'
    write_text('\n'.join(map('\t'.join, cells)), path)
    assert 'label="This study">no estimate<' in render.render_group(copy).path.read_text()


def test_the_interval_of_a_few_participants_is_as_wide_as_their_number_asks():
    few = tables._quantile({'n_participants': '2'})
    assert few == pytest.approx(12.71, abs=0.01)
    assert tables._quantile({'n_participants': '40'}) == pytest.approx(2.02, abs=0.01)
    assert tables._quantile({}) == pytest.approx(1.96, abs=1e-4)  # a participant: errors of voxels


@pytest.mark.parametrize('row', report_table().figures, ids=lambda row: row.key)
def test_a_figure_that_fails_is_named_and_takes_no_other_along(output_dir, monkeypatch, row):
    def draw(one, *_):
        if one is row:
            message = 'a mistake'
            raise ZeroDivisionError(message)
        yield from ()

    monkeypatch.setattr(render, 'draw_row', draw)
    monkeypatch.setattr(render, '_write_figures', lambda *_: None)
    monkeypatch.setattr(render, 'atomic_write', lambda path, _: path)
    make = render.render_group if row.level == 'group' else render.render_participant
    report = make(output_dir, *(['01'] if row.level == 'participant' else []))
    assert report.missing == (f'{row.title} missing: unexpected ZeroDivisionError: a mistake',)


@pytest.mark.parametrize(
    ('verdict', 'judged'), [('right', 'good'), ('stated errors are 30 % too small', 'check')]
)
def test_the_halves_of_a_scan_are_told_beside_its_map(verdict, judged):
    fact = halves_fact({'HalfCalibration': {'voxel': {'SDofZ': 1.3, 'Verdict': verdict}}})
    assert (fact.text, fact.verdict) == ('SD 1.3 in voxels', judged)
    assert halves_fact({'HalfCalibration': {'Verdict': 'not compared: few volumes'}}) is None
    assert halves_fact({}) is None
