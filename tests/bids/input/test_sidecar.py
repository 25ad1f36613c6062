"""
Sidecars in SI units, one clear message per defect.

Overrides: who is meant, what wins, and refusal of what is not understood.
"""

import pytest

from bids_app.bids.input.sidecar import choose, load_overrides
from bids_app.errors import ExitCode, SettingsError
from tests.bids.support import only_problem


@pytest.fixture
def overrides(dataset):
    def write(match, values, source='protocol'):
        return dataset.text(
            'o.toml',
            f'[[override]]\nmatch = {{{match}}}\nset = {{{values}}}\nsource = "{source}"\n',
        )

    return write


@pytest.mark.parametrize(
    ('match', 'conditions'),
    [
        ('role="asl"', {'control', 'calc'}),
        ('role="asl", condition="Calc"', {'calc'}),
        ('role="asl", sub="sub-01", acq="calc"', {'calc'}),
        ('role=["asl", "m0"], sub=["01", "02"]', {'control', 'calc'}),
        ('role="asl", sub="02"', set()),
        ('role="dsc"', set()),
    ],
)
def test_override_reaches_the_files_it_matches(dataset, collect, overrides, match, conditions):
    dataset.add('perf/acq-control_asl', 'perf/acq-calc_asl')
    (unit,) = collect(dataset, metadata_overrides=overrides(match, 'PostLabelingDelay=2.0'))
    changed = {asl.condition for asl in unit.asl if asl.post_label_delay[0] == 2.0}
    assert changed == conditions
    assert dataset.root / 'o.toml' in unit.files


def test_override_repairs_a_dataset_and_stands_in_the_constants_table(dataset, collect, overrides):
    dataset.add('perf/asl')
    dataset.edit('*_asl.json', PostLabelingDelay=1800)
    path = overrides('role="asl"', 'PostLabelingDelay=1.8', 'scanner protocol')
    (unit,) = collect(dataset, metadata_overrides=path)
    assert unit.problems == ()
    (row,) = [value for value in unit.values if value.name == 'perfusion.post_label_delay']
    assert (row.value, row.origin) == (1.8, 'overrides file: scanner protocol')
    assert row.overruled == '1800 (sidecar sub-01_asl.json)'


def test_override_of_a_family_reaches_all_its_parts(dataset, collect, overrides):
    dataset.add('anat/task-a_MEGRE[phase]')
    for path in dataset.root.rglob('*part-phase*.json'):
        dataset.edit(path.name, Units=None)
    path = overrides('role="megre"', 'Units="rad", MagneticFieldStrength=7.0')
    (unit,) = collect(dataset, metadata_overrides=path)
    assert (len(unit.megre[0].phase), unit.b0) == (4, 7.0)


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ('[[override]]\nmatch={role="asll"}\nset={EchoTime=1}\nsource="x"', 'did you mean asl'),
        ('[[override]]\nmatch={rol="asl"}\nset={EchoTime=1}\nsource="x"', 'did you mean role'),
        ('[[override]]\nmatch={role="asl"}\nset={EchTime=1}\nsource="x"', 'did you mean EchoTime'),
        ('[[override]]\nmatch={role="asl"}\nset={EchoTime=1}', 'source'),
        ('[override]\nmatch={}', 'entries only'),
        ('[[overrides]]\n', 'entries only'),
        ('[[override', 'cannot be read'),
    ],
)
def test_overrides_that_are_not_understood_are_refused(dataset, content, words):
    with pytest.raises(SettingsError, match=words):
        load_overrides(dataset.text('o.toml', content))


def test_missing_overrides_file_is_refused(dataset):
    with pytest.raises(SettingsError, match='cannot be read'):
        load_overrides(dataset.root / 'none.toml')
    assert load_overrides(None) == ()


def test_first_value_wins_and_a_default_is_never_a_loser():
    row = choose('a', '1', [(None, 'setting'), (2.0, 'sidecar'), (3.0, 'default')])
    assert (row.value, row.origin, row.overruled) == (2.0, 'sidecar', '')
    row = choose('a', '1', [(1.0, 'setting'), (1.0, 'sidecar'), (2.0, 'table')])
    assert (row.value, row.overruled) == (1.0, '2 (table)')
    assert choose('a', '1', [(None, 'setting')]) is None


def test_complete_participant_has_no_problem_and_si_units(full, unit):
    found = unit(full)
    assert found.problems == ()
    assert found.mese[0].echo_times == pytest.approx((0.016, 0.032, 0.048, 0.064))
    assert found.megre[0].echo_times == pytest.approx((0.005, 0.01, 0.015, 0.02))
    assert [len(series.phase) for series in found.megre] == [4, 4]
    asl = found.asl[0]
    assert asl.context == ('label', 'control') * 3
    assert asl.post_label_delay == (1.8,) * 6
    assert asl.slice_times == (0.0, 0.045)
    assert asl.background_suppression_factor == pytest.approx(0.93**4)
    assert (asl.m0.kind, asl.m0.repetition_time, asl.m0.shared) == ('Separate', 4.5, False)
    assert (found.dsc[0].echo_time, found.dsc[0].repetition_time) == (0.03, 1.5)
    assert (found.bold[0].repetition_time, found.bold[0].n_volumes) == (1.2, 200)
    assert [event.onset for event in found.bold[0].events] == [30, 90, 150, 210]
    assert found.b0 == 3.0


@pytest.mark.parametrize(
    'case',
    [
        ('*echo-2_MESE.json', 'EchoTime', 32, 'mese', '0.032'),
        ('*control_echo-1_part-mag_MEGRE.json', 'EchoTime', 5.0, 'megre_mag', '0.005'),
        ('*control_asl.json', 'PostLabelingDelay', 1800, 'asl', '1.8'),
        ('*control_asl.json', 'LabelingDuration', 1800, 'asl', '1.8'),
        ('*control_asl.json', 'SliceTiming', [0, 45], 'asl', '0.045'),
        ('*control_m0scan.json', 'RepetitionTimePreparation', 4500, 'm0', '4.5'),
        ('*dsc.json', 'RepetitionTime', 1500, 'dsc', '1.5'),
        ('*dsc.json', 'EchoTime', 30, 'dsc', '0.03'),
        ('*bold.json', 'RepetitionTime', 1200, 'bold', '1.2'),
    ],
)
def test_milliseconds_are_refused_with_file_field_value_and_fix(full, unit, case):
    pattern, key, value, role, fixed = case
    path = full.edit(pattern, **{key: value})
    problem = only_problem(
        unit(full), key, 'milliseconds: divide by 1000', f'write {fixed}', path.name, role=role
    )
    assert problem.file.name.split('.')[0] == path.name.split('.')[0]


def test_all_problems_of_a_participant_are_found_at_once(full, unit):
    full.edit('*echo-2_MESE.json', EchoTime=32)
    full.edit('*calc_asl.json', PostLabelingDelay=None, LabelingDuration=1800)
    full.find('*task-calc_echo-3_part-mag_MEGRE.nii.gz').unlink()
    full.edit('*dsc.json', EchoTime=None)
    found = unit(full)
    assert [(p.role, p.condition) for p in found.problems] == [
        ('mese', None), ('megre_mag', 'calc'), ('megre_phase', 'calc'), ('asl', 'calc'),
        ('asl', 'calc'), ('dsc', None),
    ]  # fmt: skip
    assert found.mese == found.dsc == ()
    assert [series.condition for series in (*found.megre, *found.asl)] == ['control', 'control']
    assert len(found.bold) == 1


def test_dangling_links_are_not_fetched_with_the_command_to_fetch(full, unit):
    path = full.find('*dsc.nii.gz')
    path.unlink()
    path.symlink_to('.git/annex/objects/x')
    problem = only_problem(
        unit(full), 'not fetched', f'datalad get {path}', role='dsc', code=ExitCode.MISSING_INPUT
    )
    assert problem.file == path


def test_series_without_content_gives_one_message(full, unit):
    for path in full.root.rglob('*MESE.nii.gz'):
        path.write_text('/annex/objects/SHA256E-s1--0.nii.gz\n')
    code = ExitCode.MISSING_INPUT
    only_problem(unit(full), '4 of 4', 'datalad get', role='mese', code=code)


@pytest.mark.parametrize('content', [b'', b'not an image', b'\x1f\x8b\x08\x00\x00'])
def test_empty_truncated_or_foreign_file_cannot_be_opened(full, unit, content):
    full.find('*bold.nii.gz').write_bytes(content)
    found = unit(full)
    problem = only_problem(found, 'bold.nii.gz', role='bold', code=ExitCode.MISSING_INPUT)
    assert problem.file.name == 'sub-01_task-all_bold.nii.gz'
    assert found.bold == ()


@pytest.mark.parametrize(
    ('content', 'words', 'code'),
    [
        ('', 'empty', ExitCode.MISSING_INPUT),
        ('{', 'not valid JSON', ExitCode.BAD_INPUT),
        ('[1]', 'JSON object', ExitCode.BAD_INPUT),
    ],
)
def test_bad_json_is_a_problem_of_the_role_that_uses_it(full, unit, content, words, code):
    path = full.find('*dsc.json')
    path.write_text(content)
    problems = unit(full).problems
    assert {problem.role for problem in problems} == {'dsc'}
    assert words in problems[0].message
    assert (problems[0].file, problems[0].code) == (path, code)


def test_bad_json_that_nothing_uses_is_no_problem(full, unit):
    full.text('sub-01/anat/sub-01_T1w.json', '')
    full.text('task-other_bold.json', '{')
    assert unit(full).problems == ()


def test_sidecars_are_inherited_and_the_nearest_wins(full, unit):
    full.json('bold.json', {'RepetitionTime': 9.0, 'EchoTime': 0.04})
    full.json('task-all_bold.json', {'RepetitionTime': 2.0})
    full.edit('sub-01_task-all_bold.json', RepetitionTime=None, EchoTime=None)
    run = unit(full).bold[0]
    assert (run.repetition_time, run.echo_time) == (2.0, 0.04)


def test_unknown_and_contradicting_field_strengths_are_problems(full, unit):
    full.edit('*dsc.json', MagneticFieldStrength=7)
    only_problem(unit(full), '3 T', '7 T', role='b0')
    assert unit(full, settings={'oxygen.b0': 3.0}).problems == ()
    for path in full.root.rglob('*.json'):
        if path.parent.name in ('anat', 'perf', 'func'):
            full.edit(path.name, MagneticFieldStrength=None)
    only_problem(unit(full), 'in no sidecar', role='b0')
