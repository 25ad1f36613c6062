"""When scans were acquired: table of scans, sidecar, nothing."""

import pytest

from bids_app.bids.input.acquired import acquired_at


@pytest.fixture
def scan(tmp_path):
    """A scan of a session."""
    file = tmp_path / 'sub-01' / 'ses-a' / 'perf' / 'sub-01_ses-a_asl.nii.gz'
    file.parent.mkdir(parents=True)
    file.touch()
    return file


def table(folder, name, *rows):
    (folder / name).write_text('\n'.join(['filename\tacq_time', *map('\t'.join, rows)]) + '\n')


@pytest.mark.parametrize(
    ('folder', 'name', 'row'),
    [('ses-a', 'sub-01_ses-a_scans.tsv', 'perf'), ('.', 'sub-01_scans.tsv', 'ses-a/perf')],
)
def test_the_table_of_scans_goes_before_the_sidecar(scan, folder, name, row):
    other = f'{row}/sub-01_ses-a_acq-x_asl.nii.gz', '1920-01-01T00:00:00'
    table(scan.parents[2] / folder, name, other, (f'{row}/{scan.name}', '1925-01-02T00:00:01'))
    assert acquired_at(scan, {'AcquisitionTime': '10:00:00'}) == 86401


@pytest.mark.parametrize(
    ('metadata', 'seconds'),
    [
        ({'AcquisitionTime': '00:01:02.2500001'}, 62.25),
        ({'AcquisitionTime': '00:01:02'}, 62),
        ({'AcquisitionDateTime': '1925-01-01T00:00:05.5Z', 'AcquisitionTime': '9:00'}, 5.5),
        ({'AcquisitionTime': 'noon'}, None),
        ({'AcquisitionTime': 'n/a'}, None),
        ({}, None),
    ],
)
def test_the_sidecar_serves_where_the_table_says_nothing(scan, metadata, seconds):
    table(scan.parents[1], 'sub-01_ses-a_scans.tsv', (f'perf/{scan.name}', 'n/a'))
    assert acquired_at(scan, metadata) == seconds


def test_a_table_that_cannot_be_read_costs_nothing(scan):
    (scan.parents[1] / 'sub-01_ses-a_scans.tsv').write_bytes(b'\xff\xfe\x00')
    assert acquired_at(scan, {'AcquisitionTime': '00:00:01'}) == 1
