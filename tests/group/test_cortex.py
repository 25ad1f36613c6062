"""The group on the cortex: vertices get what voxels with the same numbers get."""

import json

import nibabel as nb
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bids_app.bids.output.names import output_path
from bids_app.bids.run.outcome import State
from bids_app.images import load_surface, load_surface_map, save_surface_map
from tests.group.support import CONTRAST, Study

N_VERTICES = 10242
PEOPLE = ('01', '02', '03', '04', '05', '06', '07')
FRONT, WALL = slice(0, 400), slice(10000, N_VERTICES)
"""Vertices of the left side with a change, and without cortex."""

PLACE = {'space': 'fsaverage', 'den': '10k'}


def write_map(root, sub, letter, values, statistic, **entities):
    at = {'sub': sub, 'hemi': letter, 'statistic': statistic, **PLACE, **entities}
    path = root / output_path('surface', **at)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_surface_map(values, path, side={'L': 'left', 'R': 'right'}[letter])
    about = {'Contrast': {'Task': 'calc', 'Baseline': 'control'}}
    path.with_name(path.name.replace('.shape.gii', '.json')).write_text(json.dumps(about))


def person(study, sub, without_right=False):
    """Write a change of 6 in front and 0 elsewhere, a baseline of 50, and two parcels."""
    rng = np.random.default_rng(int(sub))
    rows = []
    for letter in 'L' if without_right else 'LR':
        noise = rng.standard_normal(N_VERTICES)
        change = noise + (6.0 * (np.arange(N_VERTICES) < FRONT.stop) if letter == 'L' else 0.0)
        base = 50 + rng.standard_normal(N_VERTICES)
        change[WALL] = base[WALL] = np.nan
        error = np.where(np.isfinite(change), 0.25, np.nan)
        for values, at in ((change, {'contrast': CONTRAST}), (base, {'condition': 'control'})):
            write_map(study.folder, sub, letter, values, 'effect', quantity='cbf', **at)
            write_map(study.folder, sub, letter, error, 'variance', quantity='cbf', **at)
        for contrast, condition, data in ((CONTRAST, None, change), (None, 'control', base)):
            rows += [
                {'hemisphere': letter, 'index': index, 'name': name, 'quantity': 'cbf',
                 'condition': condition, 'contrast': contrast, 'unit': 'mL/100 g/min',
                 'value': np.nanmean(data[part]), 'se': 0.05, 'n_vertices': 400, 'coverage': 1.0}
                for index, name, part in ((1, 'front', FRONT), (2, 'back', slice(400, 800)))
            ]  # fmt: skip
    path = study.folder / output_path('surface_regions', sub=sub, atlas='Two', **PLACE)
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(path, sep='\t', index=False, na_rep='n/a')
    study.summary(sub)


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """A group that has maps on the cortex only."""
    study = Study(tmp_path_factory.mktemp('cortex'))
    for sub in PEOPLE:
        person(study, sub)
    verdict = study.group(output_spaces=('fsaverage5',))
    return study, verdict


def stacked(study, name, letter='L', **at):
    """Values of all participants (N, V)."""
    at = {'quantity': 'cbf', 'statistic': name, 'hemi': letter, **PLACE, **at}
    return np.stack([
        load_surface_map(study.folder / output_path('surface', sub=sub, **at)) for sub in PEOPLE
    ])  # fmt: skip


def of_group(study, statistic, letter='L', **at):
    at = {'quantity': 'cbf', 'statistic': statistic, 'hemi': letter, **PLACE, **at}
    return load_surface_map(study.folder / output_path('group_surface', **at))


def test_everybody_is_in_the_group(made):
    study, _ = made
    path = study.folder / output_path('group_participants', space='MNI152NLin6Asym')
    assert set(pd.read_csv(path, sep='\t').included) == {'yes'}
    page = (study.folder / 'group.html').read_text()
    assert 'CBF change on the cortex' in page
    assert page.count('Both hemispheres') == 2


def test_mean_and_t_of_a_vertex_are_those_of_its_participants(made):
    study, verdict = made
    assert verdict.verdicts[0].state in (State.COMPLETE, State.DEGRADED)
    for letter in 'LR':
        values = stacked(study, 'effect', letter, contrast=CONTRAST)
        found = of_group(study, 'effect', letter, contrast=CONTRAST)
        cortex = np.isfinite(values).all(axis=0)
        # equal errors: weights differ only by what is learnt of participants from all vertices
        np.testing.assert_allclose(found[cortex], values.mean(axis=0)[cortex], atol=0.1)
        t = of_group(study, 't', letter, contrast=CONTRAST)[cortex]
        student = stats.ttest_1samp(values[:, cortex], 0).statistic
        assert np.corrcoef(t, student)[0, 1] > 0.9
        assert np.isnan(found[~cortex]).all()


def test_a_change_is_found_where_it_is_and_nearly_nowhere_else(made):
    study, _ = made
    left, right = (of_group(study, 'pFwe', letter, contrast=CONTRAST) for letter in 'LR')
    q = of_group(study, 'q', contrast=CONTRAST)
    assert (q[FRONT] < 0.05).mean() > 0.99
    elsewhere = np.concatenate([left[400:], right])
    # 7 people have 128 sign flips: the smallest p is 1 / 128
    assert (left[FRONT] < 0.05).mean() > 0.9
    assert np.nanmean(elsewhere < 0.05) < 1e-3


def test_a_condition_is_described_and_not_tested_against_zero(made):
    study, _ = made
    mean = of_group(study, 'effect', condition='control')
    assert np.nanmedian(mean) == pytest.approx(50, abs=0.2)
    spread = of_group(study, 'sd', condition='control')
    assert np.nanmedian(spread) == pytest.approx(0.95, abs=0.1)  # median of the SD of 7
    assert not list((study.folder / 'tpl-fsaverage').rglob('*task-control*stat-t_*'))


def test_parcels_are_tested_by_the_means_of_the_participants(made):
    study, _ = made
    path = study.folder / output_path('group_comparison', **PLACE)
    table = pd.read_csv(path, sep='\t', na_values=['n/a'])
    rows = table[table.contrast == CONTRAST].set_index('name')
    assert rows.effect['L front'] == pytest.approx(6, abs=0.2)
    assert rows.q['L front'] < 0.001
    assert rows.q[['L back', 'R front', 'R back']].min() > 0.01
    assert set(rows.network) == {'Two'}
    values = pd.read_csv(study.folder / output_path('group_values', **PLACE), sep='\t')
    assert len(values) == len(PEOPLE) * 4 * 2
    base = table[table.condition == 'control']
    assert base.p.isna().all()
    assert base.effect.between(49, 51).all()


def test_sidecar_names_both_sides_and_the_shape_lies_beside(made):
    study, _ = made
    at = {'quantity': 'cbf', 'statistic': 'effect', 'contrast': CONTRAST, 'hemi': 'L', **PLACE}
    path = study.folder / output_path('group_surface', extension='.json', **at)
    about = json.loads(path.read_text())
    assert about['Participants'] == [f'sub-{sub}' for sub in PEOPLE]
    assert about['Units'] == 'mL/100 g/min'
    sides = {text.partition('_hemi-')[2][0] for text in about['Sources']}
    assert sides == {'L', 'R'}
    vertices, faces = load_surface(study.folder / output_path('group_mesh', hemi='R', **PLACE))
    assert len(vertices) == N_VERTICES == faces.max() + 1
    image = nb.load(study.folder / output_path('group_surface', **{**at, 'hemi': 'R'}))
    assert image.meta['AnatomicalStructurePrimary'] == 'CortexRight'


def test_a_participant_without_one_side_is_left_out_by_name(tmp_path):
    study = Study(tmp_path)
    for sub in PEOPLE:
        person(study, sub, without_right=sub == '03')
    verdict = study.group(output_spaces=('fsaverage5',))
    reasons = ' '.join(verdict.verdicts[0].reasons)
    assert verdict.verdicts[0].state is State.INCOMPLETE
    assert 'hemi-R' in reasons
    path = study.folder / output_path(
        'group_surface', quantity='cbf', statistic='effect', contrast=CONTRAST, hemi='L', **PLACE,
        extension='.json',
    )  # fmt: skip
    assert 'sub-03' not in json.loads(path.read_text())['Participants']


def test_a_mesh_that_nobody_has_is_said(tmp_path):
    study = Study(tmp_path)
    for sub, size in (('01', 0), ('02', 1), ('03', 2)):
        study.participant(sub, size=size)
    verdict = study.group(output_spaces=('MNI152NLin6Asym', 'fsaverage5'))
    assert 'nobody has maps on the cortex (fsaverage5)' in verdict.verdicts[0].reasons
    assert study.map('cmro2', 'effect').is_file()
