"""The first screen of the group: sentences follow from the numbers, and say so where none can."""

from xml.etree import ElementTree

import pytest

from bids_app.reports.group.answer import answers


class File:
    """A derivative on disk."""

    def __init__(self, path, key, contrast='calcMinusControl'):
        self.path, self.key = path, key
        self.entities = {'contrast': contrast}
        self.sidecar = {'Contrast': {'Task': 'calc', 'Baseline': 'control'}}


def write(folder, name, header, *lines):
    path = folder / f'{name}.tsv'
    path.write_text('\n'.join('\t'.join(map(str, line)) for line in (header, *lines)) + '\n')
    return path


@pytest.fixture
def group(tmp_path, monkeypatch):
    """Give the answers for a share of the total change, its note, and a curve."""
    monkeypatch.setattr(
        'bids_app.reports.group.answer.select',
        lambda files, key, **at: [file for file in files if file.key == key],
    )

    def make(w_d, note='', curve=True, has_share=True):
        header = ('rule', 'bold', 'network', 'discordant_fraction', 'ci_low', 'ci_high', 'note')
        rows = [('sign', 'all', 'all', 0.36, 'n/a', 'n/a', ''),
                ('noise_only', 'all', 'all', 0.25, 'n/a', 'n/a', '')]  # fmt: skip
        for bold, value in zip(('all', 'positive', 'negative'), w_d, strict=True):
            rows.append(('size_weighted', bold, 'all', value, 0.1, 0.4, note))
        files = [File(write(tmp_path, 'summary', header, *rows), 'group_summary')]
        if curve:
            values = (0.3, 0.1, 0.9) if has_share else ('n/a',) * 3
            lines = [(offset, bold, values[0] + offset / 10 if has_share else 'n/a', *values[1:])
                     for offset in (-3, 0, 3) for bold in ('all', 'positive')]  # fmt: skip
            names = ('offset', 'bold', 'w_d', 'w_d_low', 'w_d_high')
            files.append(File(write(tmp_path, 'curve', names, *lines), 'group_offset_curve'))
            names = (
                'quantity',
                'network',
                'participant',
                'percent',
                'percent_low',
                'percent_high',
                'note',
            )
            lines = [('cmro2', 'all', 'group', 2.6, 1.2, 4.0, 'n/a'),
                     ('cmro2', 'all', 'sub-02', -9.3, 'n/a', 'n/a', 'unlike the others'),
                     ('cbf', 'all', 'sub-01', 9.3, 'n/a', 'n/a', 'unlike the others')]  # fmt: skip
            files.append(File(write(tmp_path, 'offset', names, *lines), 'group_offset'))
        return answers(files)[0]

    return make


def test_answer_gives_share_interval_and_both_signs(group):
    answer = group((0.24, 0.03, 0.79))
    text = ' '.join(answer.sentences)
    assert '24 % (10 to 40) of the total change of oxygen metabolism opposes BOLD' in text
    assert '3 % (10 to 40) where BOLD rises, 79 % (10 to 40) where it falls' in text
    assert 'The sign rule calls 36 % discordant; noise alone would make 25 %' in text
    assert 'Where BOLD does not change, CMRO2 changes by 2.6 % (1.2 to 4.0)' in text
    assert 'one half is passed: all at +2.0 %, BOLD up at +2.0 %' in text
    assert 'There unlike the others: sub-02 (−9.3 %).' in text
    assert answer.title == 'calc minus control'


def test_answer_says_why_nothing_can_be_said(group):
    answer = group(('n/a', 'n/a', 'n/a'), note='no change detectable; misfit 0.01', curve=False)
    assert answer.sentences[0].endswith('cannot be said: no change detectable.')
    assert len(answer.sentences) == 2
    assert 'withheld' in answer.chart


def test_curve_that_is_withheld_says_so_and_crosses_nothing(group):
    answer = group(('n/a',) * 3, note='no change beyond an offset', has_share=False)
    assert 'withheld with every offset' in answer.chart
    assert not any('one half' in sentence for sentence in answer.sentences)
    assert 'withheld with every offset' not in group((0.24, 0.03, 0.79)).chart


@pytest.mark.parametrize('curve', [True, False])
def test_figure_is_well_formed_and_says_the_numbers_to_a_reader(group, curve):
    chart = ElementTree.fromstring(group((0.24, 0.03, 0.79), curve=curve).chart)
    assert '24 % (10 to 40)' in chart.get('aria-label')
    assert len(chart.findall('.//polyline')) == (3 if curve else 0)
