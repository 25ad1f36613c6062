"""BOLD runs and their events from sidecars and tables."""

import nibabel as nb
import numpy as np
import pytest

from bids_app.errors import ExitCode
from tests.bids.support import only_problem


def test_events_survive_windows_line_ends_and_missing_final_newline(full, unit):
    full.find('*events.tsv').write_bytes(
        b'\xef\xbb\xbfonset\tduration\ttrial_type\r\n90\t30\tCalc\r\n0\t30\tn/a\r\n30\t30\tcalc'
    )
    (run,) = unit(full).bold
    assert [(e.onset, e.trial_type) for e in run.events] == [(30, 'calc'), (90, 'calc')]


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ('onset,duration,trial_type\n1,2,calc\n', "column 'onset'"),
        ('onset\tduration\ttrial_type\nx\t30\tcalc\n', 'line 2: onset'),
        ('onset\tduration\ttrial_type\n3\t-30\tcalc\n', 'line 2: duration'),
        ('onset\tduration\ttrial_type\n30000\t30000\tcalc\n', 'milliseconds'),
        ('onset\tduration\ttrial_type\n3\t30\tcalc\textra\n', '4 cells'),
        ('onset\tduration\ttrial_type\n', 'no event'),
        ('onset\tduration\ttrial_type\n3\t30\tmem\n', 'calc-control cannot be made'),
        ('onset\tduration\ttrial_type\n30\t30\tcalc\n50\t30\tcalc\n', 'overlap by 10 s'),
        ('onset\tduration\ttrial_type\n30\t30\tcalc\n300\t30\tcalc\n', 'was the run cut short'),
    ],
)
def test_defective_events_name_table_and_line(full, unit, content, words):
    path = full.find('*events.tsv')
    path.write_text(content)
    found = unit(full)
    events = [problem for problem in found.problems if problem.role == 'events']
    assert words in events[0].message
    assert events[0].file == path
    assert len(found.megre) == 2


def test_empty_events_cannot_be_read(full, unit):
    full.find('*events.tsv').write_text('')
    assert unit(full).problems[0].code == ExitCode.MISSING_INPUT


def test_bold_without_events_is_absent_not_defective(full, unit):
    full.find('*events.tsv').unlink()
    found = unit(full)
    assert (found.bold, found.problems) == ((), ())
    assert any('no events.tsv' in note for note in found.notes)


@pytest.mark.parametrize(
    ('rows', 'words'),
    [
        ('30\t30\tcalc\n50\t30\tmem\n', 'overlap by 10 s; volumes in both count'),
        ('30\t30\tcalc\n220\t30\tcalc\n', 'last until 250 s, the run only 240 s'),
    ],
)
def test_events_that_are_odd_but_usable_are_said(full, unit, rows, words):
    full.find('*events.tsv').write_text(f'onset\tduration\ttrial_type\n{rows}')
    found = unit(full)
    assert len(found.bold) == 1
    assert any(words in note for note in found.notes), found.notes


def test_slice_times_of_a_run_are_read_and_must_lie_within_it(full, unit):
    full.edit('*bold.json', SliceTiming=[0.6, 0.0])
    assert unit(full).bold[0].slice_times == (0.6, 0.0)
    full.edit('*bold.json', SliceTiming=[0.0, 1.3])
    only_problem(unit(full), 'SliceTiming reaches 1.3 s', 'RepetitionTime is 1.2 s', role='bold')
    full.edit('*bold.json', SliceTiming=[0.0, 600.0])
    only_problem(unit(full), 'milliseconds', role='bold')


def test_repetition_time_in_milliseconds_is_called_by_its_name(full, unit):
    full.edit('*bold.json', RepetitionTime=1200)
    only_problem(unit(full), 'RepetitionTime = 1200', 'write 1.2', role='bold')


def test_header_time_that_differs_is_said(full, unit):
    found = unit(full)
    assert any('its header says 1 s between volumes' in note for note in found.notes)


@pytest.mark.parametrize('unit_of_time', ['sec', 'msec'])
def test_header_time_in_milliseconds_is_told_unless_the_header_says_so(full, unit, unit_of_time):
    path = full.find('*_bold.nii.gz')
    image = nb.load(path)
    image.header.set_zooms((*image.header.get_zooms()[:3], 1200.0))
    image.header.set_xyzt_units('mm', unit_of_time)
    data = np.asanyarray(image.dataobj)
    nb.save(nb.Nifti1Image(data, image.affine, image.header), path)
    found = unit(full)
    assert found.problems == ()
    said = [note for note in found.notes if 'between volumes' in note and '_bold' in note]
    if unit_of_time == 'msec':
        assert said == []
    else:
        assert 'says 1200 s between volumes, as if in milliseconds' in said[0]
        assert 'its sidecar 1.2 s; the sidecar is used' in said[0]
