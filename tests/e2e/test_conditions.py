"""Sessions, runs and conditions: what is in the dataset decides the names (decision table)."""

import json

import numpy as np
import pytest

from tests.e2e import support

pytestmark = pytest.mark.e2e

CBF = {'task-control_space-ASL_cbf', 'task-calc_space-ASL_cbf'}


@pytest.fixture
def raw(study, tmp_path):
    """A dataset without participants."""
    return support.start_dataset(tmp_path / 'raw', study)


def run(raw, *options):
    """Run the participant level; give the folder of sub-01."""
    output = raw.parent / 'out'
    arguments = (*support.anatomy_of(raw), *support.HEADER, *options)
    outcome = support.run_app(raw, output, 'participant', *arguments)
    assert outcome.code == 0, outcome.log
    return output / 'sub-01'


def sidecar(path):
    """Content of the JSON beside an image."""
    return json.loads(path.with_name(path.name.replace('.nii.gz', '.json')).read_text())


def test_sessions_as_repeats_stand_in_every_name_and_folder(raw, study):
    for session, of in (('a', '01'), ('b', '02')):
        support.add_participant(raw, study, '01', 'asl', of=of, session=session)
    folder = run(raw)
    made = [path for path in folder.rglob('*') if path.is_file() and 'figures' not in path.parts]
    assert {path.relative_to(folder).parts[0] for path in made} == {'ses-a', 'ses-b'}
    for path in made:
        session = path.relative_to(folder).parts[0]
        assert path.name.startswith(f'sub-01_{session}_'), path.name
    for session in ('a', 'b'):
        assert support.value_maps(folder / f'ses-{session}') == {
            f'sub-01_ses-{session}_{n}' for n in CBF
        }
        (effect,) = (folder / f'ses-{session}').rglob('*stat-effect_desc-cbf_statmap.nii.gz')
        assert sidecar(effect)['Contrast'] == {'Task': 'calc', 'Baseline': 'control'}
    maps = [next(folder.rglob(f'*_ses-{session}_task-calc*_cbf.nii.gz')) for session in 'ab']
    assert not np.array_equal(support.read(maps[0]), support.read(maps[1]), equal_nan=True)
    assert len(support.summary(folder.parent, '01')['units']) == 2


def test_chosen_session_is_the_only_one_made(raw, study):
    for session in ('a', 'b'):
        support.add_participant(raw, study, '01', 'mese', session=session)
    folder = run(raw, '--session-label', 'ses-b')
    assert {path.name for path in folder.glob('ses-*')} == {'ses-b'}


def test_t1w_outside_the_sessions_serves_all_of_them(raw, study):
    support.add_participant(raw, study, '01', 't1w')
    for session in ('a', 'b'):
        support.add_participant(raw, study, '01', 'mese', session=session)
    folder = run(raw)
    for session in ('a', 'b'):
        name = f'ses-{session}/anat/sub-01_ses-{session}_label-GM_probseg.nii.gz'
        assert (folder / name).is_file()


def test_sessions_as_conditions_give_task_names_without_session(raw, study):
    for session, other in (('control', 'calc'), ('calc', 'control')):
        support.add_participant(
            raw, study, '01', 'asl', session=session,
            rename=lambda name, own=session, other=other: (
                None if f'acq-{other}' in name else name.replace(f'acq-{own}_', '')
            ),
        )  # fmt: skip
    folder = run(raw, '--condition-entity', 'ses')
    assert support.value_maps(folder) == {f'sub-01_{name}' for name in CBF}
    assert not [path for path in folder.rglob('*') if 'ses-' in path.name]
    (effect,) = folder.rglob('*stat-effect_desc-cbf_statmap.nii.gz')
    assert effect.name.startswith('sub-01_space-ASL_contrast-calcMinusControl_')


def test_runs_are_combined_under_a_name_without_run(raw, study):
    for number, of in (('1', '01'), ('2', '02')):
        support.add_participant(
            raw, study, '01', 'asl', of=of,
            rename=lambda name, number=number: name.replace('_', f'_run-{number}_', 1),
        )  # fmt: skip
    support.add_participant(raw, study, '02', 'asl')
    folder = run(raw)
    assert support.value_maps(folder) == {f'sub-01_{name}' for name in CBF}
    assert not [path for path in folder.rglob('*.nii.gz') if 'run-' in path.name]
    (path,) = folder.rglob('*_task-calc_space-ASL_cbf.nii.gz')
    sources = ' '.join(sidecar(path)['Sources'])
    assert all(f'acq-calc_run-{n}_asl.nii.gz' in sources for n in '12')
    name = 'perf/sub-{0}_task-calc_space-ASL_stat-variance_desc-cbf_statmap.nii.gz'
    both = support.read(folder / name.format('01'))
    single = support.read(folder.parent / 'sub-02' / name.format('02'))
    assert 0.3 < np.nanmedian(both) / np.nanmedian(single) < 0.7


def test_runs_of_bold_are_combined_by_the_inverse_of_their_variances(raw, study):
    for participant, number, of in (
        ('01', '1', '01'), ('01', '2', '02'), ('02', '1', '01'), ('03', '2', '02')
    ):  # fmt: skip
        support.add_participant(
            raw, study, participant, 'bold', of=of,
            rename=lambda name, number=number: name.replace('-all_', f'-all_run-{number}_'),
        )  # fmt: skip
    folder = run(raw)
    changes = []
    for label in ('01', '02', '03'):
        (effect,) = (folder.parent / f'sub-{label}').rglob(
            '*_space-BOLD_*stat-effect_desc-boldPct_statmap.nii.gz'
        )
        assert 'run-' not in effect.name
        variance = effect.with_name(effect.name.replace('stat-effect', 'stat-variance'))
        changes.append((support.read(effect), support.read(variance)))
    (both, both_variance), (one, one_variance), (two, two_variance) = changes
    expected = (one / one_variance + two / two_variance) / (1 / one_variance + 1 / two_variance)
    everywhere = np.isfinite(expected)
    assert everywhere.sum() > 100
    np.testing.assert_allclose(both[everywhere], expected[everywhere], rtol=1e-4, atol=1e-5)
    expected_variance = 1 / (1 / one_variance + 1 / two_variance)
    np.testing.assert_allclose(both_variance[everywhere], expected_variance[everywhere], rtol=1e-4)


def test_condition_in_task_or_acq_of_asl_gives_the_same_maps(raw, study):
    support.add_participant(raw, study, '01', 'asl')
    support.add_participant(
        raw, study, '02', 'asl', rename=lambda name: name.replace('acq-', 'task-')
    )
    folder = run(raw)
    other = folder.parent / 'sub-02'
    assert support.value_maps(folder) == {f'sub-01_{name}' for name in CBF}
    found = {
        name.replace('sub-02', 'sub-01'): data for name, data in support.images(other).items()
    }
    assert found == support.images(folder)


def test_acq_that_is_no_condition_serves_all_conditions(raw, study):
    def plain(name):
        return None if 'acq-calc' in name else name.replace('acq-control', 'acq-highres')

    support.add_participant(raw, study, '01', 'mese', 'megre')
    support.add_participant(raw, study, '01', 'asl', rename=plain)
    folder = run(raw)
    assert 'sub-01_space-MESE_cbf' in support.value_maps(folder)
    assert not [name for name in support.effects(folder) if 'desc-cbf' in name]


def test_chosen_contrast_turns_the_sign_round(raw, study):
    support.add_participant(raw, study, '01', 'asl')
    folder = run(raw, '--baseline', 'Calc', '--contrasts', 'control-calc')
    (effect,) = folder.rglob('*stat-effect_desc-cbf_statmap.nii.gz')
    assert 'contrast-controlMinusCalc' in effect.name
    control, calc = (
        support.read(next(folder.rglob(f'*_task-{task}_space-ASL_cbf.nii.gz')))
        for task in ('control', 'calc')
    )
    assert np.allclose(support.read(effect), control - calc, equal_nan=True, atol=1e-3)
