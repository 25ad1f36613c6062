"""The layout of ds004873 from raw images to the group, by the preset alone."""

import re
import tarfile

import pytest

from bids_app.phantom.compare import compare
from tests.e2e import support
from tests.paths import SKELETON

TOLERANCE = 0.10
"""Of medians in grey matter; the smoothing of the published R2' is in it."""


@pytest.fixture(scope='module')
def study(tmp_path_factory):
    return support.phantom(
        tmp_path_factory.mktemp('untidy'), '--layout', 'ds004873', '--conditions', 'control,calc'
    )


def options(study):
    return ('--preset', 'epp2025', '--metadata-overrides', study / 'code' / 'overrides.toml',
            *support.anatomy_of(study), *support.HEADER)  # fmt: skip


@pytest.mark.e2e
def test_both_levels_run_and_recover_the_truth(study, tmp_path):
    participant = support.run_app(study, tmp_path / 'out', 'participant', *options(study))
    assert participant.code == 0, participant.log
    group = support.run_app(study, tmp_path / 'out', 'group')
    assert group.code == 0, group.log
    for row in compare(study, tmp_path / 'out'):
        if row.participant == 'group':
            assert row.is_within, row.text
        elif re.search('T2map|T2starmap|R2prime|cbf', row.quantity):
            assert abs(row.estimate / row.truth - 1) < TOLERANCE, row.text


@pytest.mark.e2e
@pytest.mark.prove
def test_in_the_tree_of_the_dataset_only_the_two_whole_participants_run(study, tmp_path):
    if not SKELETON.is_file():
        pytest.skip('the tree of ds004873 is not here')
    root = tmp_path / 'ds004873'
    root.mkdir()
    with tarfile.open(SKELETON) as archive:
        archive.extractall(root, filter='fully_trusted')
    for path in study.rglob('sub-p03[23]*'):
        target = root / path.relative_to(study)
        if path.is_file() and 'derivatives/truth' not in str(path):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            target.write_bytes(path.read_bytes())
    out = tmp_path / 'out'
    chosen = ('--participant-label', 'p030', 'p032', 'p033', 'p058', 'dp007', 'r070')
    outcome = support.run_app(root, out, 'participant', *options(study), *chosen,
                              '--contrasts', 'calc-control')  # fmt: skip
    assert outcome.code == 1
    for label in ('p032', 'p033'):
        assert re.search(rf'sub-{label}: (complete|incomplete)', outcome.log)
        assert (out / f'sub-{label}' / 'perf').is_dir()
    for label in ('p030', 'p058', 'dp007', 'r070'):
        assert re.search(rf'sub-{label}: failed.*not fetched', outcome.log)
        assert not (out / f'sub-{label}' / 'perf').exists()
