"""Many jobs on one output: no shared file is ever corrupt, and none is lost."""

import csv
import io
import json
import multiprocessing
import subprocess
import threading
import time

import pytest

from bids_app.bids.output.dataset import prepare_output, root_files, update_shared
from bids_app.bids.output.write import write_json
from bids_app.bids.run.outcome import judge, participant_summary
from bids_app.settings import RunSettings
from tests.e2e import support

WRITERS = 50


def write(run, label):
    """What a job does to the files of all: fixed content, its own record, the shared tables."""
    root = run.output_dir
    prepare_output(run)
    summary = participant_summary(judge(label), command=('oxybold',), units=[])
    write_json(summary, output_dir=root, key='run_summary', entities={'sub': label})
    update_shared(root, lambda folder: f'<html>{len(list(folder.glob("logs/*")))}</html>')


def test_fifty_processes_write_the_shared_files_and_readers_never_see_a_part(tmp_path):
    context = multiprocessing.get_context('fork')
    labels = [f'{number:02d}' for number in range(WRITERS)]
    run = RunSettings(bids_dir=tmp_path / 'raw', output_dir=tmp_path / 'out', level='participant')
    jobs = [context.Process(target=write, args=(run, label)) for label in labels]
    assert check_shared(run) == []  # reads the tables of the app once for all
    for job in jobs:
        job.start()
    seen = set()
    while len(seen) < WRITERS:
        all_have_ended = not any(job.is_alive() for job in jobs)
        seen |= {row['participant_id'].removeprefix('sub-') for row in check_shared(run)}
        assert len(seen) == WRITERS or not all_have_ended, 'a job was lost'
        time.sleep(0.01)
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0] * WRITERS
    rows = check_shared(run)
    assert [row['participant_id'] for row in rows] == [f'sub-{label}' for label in labels]
    assert {path.name for path in run.output_dir.glob('.*')} == {'.bidsignore', '.oxybold'}


def test_jobs_that_end_together_rebuild_once_for_all_and_none_is_lost(tmp_path):
    """Forty jobs wait for a slow rebuild: the next one serves everybody."""
    run = RunSettings(bids_dir=tmp_path / 'raw', output_dir=tmp_path / 'out', level='participant')
    prepare_output(run)
    rebuilds = []
    guard = threading.Lock()

    def render(folder):
        seen = sorted(path.name for path in folder.glob('logs/*_run_summary.json'))
        with guard:
            rebuilds.append(len(seen))
        time.sleep(0.5)
        return f'<html>{" ".join(seen)}</html>'

    def end(label):
        summary = participant_summary(judge(label), command=('oxybold',), units=[])
        at = {'output_dir': run.output_dir, 'key': 'run_summary', 'entities': {'sub': label}}
        write_json(summary, **at)
        update_shared(run.output_dir, render)

    jobs = [threading.Thread(target=end, args=(f'{number:02d}',)) for number in range(40)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    page = (run.output_dir / 'index.html').read_text()
    assert all(f'sub-{number:02d}_' in page for number in range(40))
    assert len(rebuilds) < 10
    assert max(rebuilds) == 40
    assert not any((run.output_dir / '.oxybold' / 'shared').iterdir())


def test_job_that_dies_while_it_rebuilds_takes_no_request_of_others_with_it(tmp_path):
    run = RunSettings(bids_dir=tmp_path / 'raw', output_dir=tmp_path / 'out', level='participant')
    prepare_output(run)

    def dies(folder):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        update_shared(run.output_dir, dies)
    left = list((run.output_dir / '.oxybold' / 'shared').iterdir())
    assert len(left) == 1
    update_shared(run.output_dir, lambda folder: '<html>whole</html>')
    assert (run.output_dir / 'index.html').read_text() == '<html>whole</html>'
    assert not left[0].exists()


def check_shared(run):
    """Whatever is there can be read as a whole."""
    root = run.output_dir
    for name, content in root_files(run).items():
        assert not (root / name).exists() or (root / name).read_bytes() == content
    table = root / 'participants.tsv'
    if (root / 'index.html').exists():
        assert (root / 'index.html').read_text().endswith('</html>')
    if (root / 'participants.json').exists():
        assert json.loads((root / 'participants.json').read_text())
    if not table.exists():
        return []
    text = table.read_text()
    assert text.endswith('\n')
    rows = list(csv.DictReader(io.StringIO(text), delimiter='\t'))
    assert all(None not in row and None not in row.values() for row in rows)
    return rows


@pytest.mark.e2e
@pytest.mark.prove
def test_four_jobs_at_once_give_what_one_job_gives(study, tmp_path):
    root = support.start_dataset(tmp_path / 'raw', study)
    labels = ['01', '02', '03', '04']
    for label in labels:
        support.add_participant(root, study, label, 'mese', 'asl')
    command = (root, tmp_path / 'together', 'participant', *support.HEADER)
    jobs = [
        subprocess.Popen(
            support.command(*command, '--participant-label', label), stderr=subprocess.DEVNULL
        )
        for label in labels
    ]
    assert [job.wait(timeout=500) for job in jobs] == [0, 0, 0, 0]
    alone = support.spawn(root, tmp_path / 'alone', 'participant', *support.HEADER)
    assert alone.code == 0
    assert support.results(tmp_path / 'together') == support.results(tmp_path / 'alone')
    pages = [(tmp_path / name / 'index.html').read_text() for name in ('together', 'alone')]
    assert pages[0] == pages[1]
