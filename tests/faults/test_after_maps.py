"""What fails after the maps costs itself only: the maps stand and the verdict names it."""

import json

import pytest

from bids_app.bids.run import outcome
from bids_app.reports import render
from bids_app.workflows import app, multiverse
from tests.e2e import support

pytestmark = pytest.mark.e2e


def fail(*_, **__):
    """Stand for any part of the program that has a mistake."""
    message = 'a mistake'
    raise ZeroDivisionError(message)


@pytest.fixture(scope='module')
def spin_echo_alone(study, tmp_path_factory):
    """A participant with anatomy and spin echoes."""
    root = support.start_dataset(tmp_path_factory.mktemp('after') / 'raw', study)
    support.add_participant(root, study, '01', 't1w', 'mese')
    return root


def run(root, output, *arguments):
    return support.run_app(
        root, output, 'participant', *support.anatomy_of(root), *support.HEADER,
        '--output-spaces', 'none', *arguments,
    )  # fmt: skip


@pytest.fixture(scope='module')
def sound(spin_echo_alone):
    output = spin_echo_alone.parent / 'sound'
    assert run(spin_echo_alone, output).code == 0
    return support.images(output)


PARTS = {
    'figure': (render, 'draw_row', 'T2 missing'),
    'cards': (render, '_steps', 'cards of the maps missing'),
    'chain': (render, '_chain', 'the chain of maps missing'),
    'shares': (render, 'share_table', 'shares of the constants missing'),
    'tables': (render, 'contrast_tables', 'tables of the contrasts missing'),
    'methods': (render, 'numbered', 'methods missing'),
    'page': (render, '_page', 'report missing'),
    'pictures': (render, '_write_figures', 'report missing'),
    'citations': (app, 'citation_bibtex', 'citation_bib missing'),
    'scans': (app, 'scan_records', 'scans missing'),
    'multiverse': (multiverse, 'add_multiverse', 'multiverse missing'),
    'index': (app, 'render_index', ''),
}
"""Part -> module and function that makes it, and words of the verdict on the participant."""


@pytest.mark.parametrize('part', PARTS)
def test_a_part_that_fails_leaves_maps_and_manifest(
    spin_echo_alone, sound, tmp_path, monkeypatch, part
):
    module, name, words = PARTS[part]
    with monkeypatch.context() as patch:
        patch.setattr(module, name, fail)
        told = run(spin_echo_alone, tmp_path)
    assert told.code == 1
    assert support.images(tmp_path) == sound
    assert (tmp_path / 'logs' / 'sub-01_manifest.json').is_file()
    verdict = support.summary(tmp_path, '01')['verdict']
    if words:
        assert (verdict['state'], verdict['exit_code']) == ('incomplete', 1)
        assert f'{words}: unexpected ZeroDivisionError: a mistake' in verdict['reasons']
    else:
        assert 'index.html missing' in told.last


def test_the_report_shows_what_is_missing_and_a_second_run_completes(
    spin_echo_alone, sound, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(render, 'share_table', fail)
        run(spin_echo_alone, tmp_path)
    page = (tmp_path / 'sub-01.html').read_text()
    assert 'Results that cannot be shown' in page
    assert page.count('shares of the constants missing') == 2  # verdict and list
    again = support.run_app(tmp_path, tmp_path, 'participant', '--reports-only')
    assert again.code == 1  # the run left it incomplete
    assert run(spin_echo_alone, tmp_path).code == 0
    assert support.images(tmp_path) == sound
    assert 'cannot be shown' not in (tmp_path / 'sub-01.html').read_text()


def test_where_the_output_cannot_be_written_the_whole_run_is_told(monkeypatch):
    from bids_app.errors import ExitCode, OutputError

    error = OutputError('no space')
    error.exit_code = ExitCode.IO_ERROR
    later = outcome.Aftermath()

    def full():
        raise error

    with pytest.raises(OutputError):
        later.attempt('report', full)


def test_a_summary_that_cannot_be_written_does_not_take_the_manifest_along(
    spin_echo_alone, sound, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(app, 'participant_summary', fail)
        told = run(spin_echo_alone, tmp_path)
    assert told.code == 1
    assert support.images(tmp_path) == sound
    manifest = json.loads((tmp_path / 'logs' / 'sub-01_manifest.json').read_text())
    assert manifest['verdict']['state'] == 'incomplete'
