"""The group in a template that is not packaged."""

import nibabel as nb
import numpy as np
import pandas as pd
import pytest

from bids_app.bids.output.names import output_path
from bids_app.errors import SelectionError, SettingsError
from bids_app.group import workflow
from bids_app.images import load_data
from tests.group import support

SPACE = 'MNI152NLin2009cAsym'
GRID = nb.Nifti1Image(np.zeros((60, 50, 55), np.uint8), np.diag([3.0, 3, 3, 1]))
"""Other voxels than those of the packaged template."""


def of_three(folder, space=SPACE, template=GRID):
    """Make three participants."""
    study = support.Study(folder, space, template)
    for number in range(3):
        study.participant(f'{number + 1:02d}', size=number)
    return study


@pytest.fixture(scope='module')
def studies(tmp_path_factory):
    """The same three participants in both templates."""
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workflow, 'render_index', lambda output_dir: '')
        for space, template in ((support.SPACE, support.TEMPLATE), (SPACE, GRID)):
            made[space] = study = of_three(tmp_path_factory.mktemp(space), space, template)
            made[space, 'verdict'] = (
                study.group(
                    output_spaces=(f'{space}=folder', 'AndAnother'), **{'group.permutations': 31}
                )
                if space == SPACE
                else study.group(**{'group.permutations': 31})
            )
    return made


@pytest.mark.parametrize('quantity', ['boldPct', 'cmro2'])
@pytest.mark.parametrize('statistic', ['effect', 'variance', 'p', 'q', 'pFwe'])
def test_maps_have_the_numbers_of_the_same_maps_in_the_packaged_template(
    studies, quantity, statistic
):
    here, there = (
        nb.load(studies[space].map(quantity, statistic)) for space in (SPACE, support.SPACE)
    )
    np.testing.assert_array_equal(here.affine, GRID.affine)
    values = here.get_fdata()[support.BLOCK]
    assert np.isfinite(values).all()
    np.testing.assert_allclose(values, there.get_fdata()[support.BLOCK], rtol=1e-6)


def test_mean_grey_matter_is_written_for_the_figures(studies):
    path = studies[SPACE].path('group_grey_matter', label='GM')
    grey = load_data(path)
    assert grey.shape == GRID.shape
    assert grey[support.BLOCK] == pytest.approx(0.9)
    assert grey.sum() == pytest.approx(0.9 * 64, rel=1e-5)
    page = (studies[SPACE].folder / output_path('group_report')).read_text()
    assert SPACE in page


def test_regions_are_those_of_the_participants_tables_and_the_brain(studies):
    study = studies[SPACE]
    table = study.table('group_regions', atlas='Schaefer2018')
    assert set(table.level) == {'parcel', 'brain'}
    values = pd.read_csv(study.path('group_values'), sep='\t', na_values=['n/a'])
    assert set(values.level) == {'brain'}
    (verdict,) = studies[SPACE, 'verdict'].verdicts
    reasons = verdict.text
    assert f'lies in {support.SPACE}; --regions NAME=IMAGE,TSV takes one of {SPACE}' in reasons


def test_an_atlas_of_that_template_gives_its_regions(tmp_path):
    study = of_three(tmp_path / 'study')
    labels = np.zeros(GRID.shape, np.int16)
    labels[support.BLOCK] = 7
    nb.Nifti1Image(labels, GRID.affine).to_filename(tmp_path / 'mine.nii.gz')
    (tmp_path / 'mine.tsv').write_text('index\tname\n7\tblock\n')
    text = f'Mine={tmp_path / "mine.nii.gz"},{tmp_path / "mine.tsv"}'
    study.group(output_spaces=(SPACE,), **{'group.regions': (text,), 'group.permutations': 31})
    values = pd.read_csv(study.path('group_values'), sep='\t', na_values=['n/a'])
    block = values[(values.name == 'block') & (values.quantity == 'cmro2')].value
    assert block.tolist() == pytest.approx([18, 20, 22], rel=1e-2)
    with pytest.raises(SettingsError, match=f'lie in {support.SPACE}, not in {SPACE}'):
        study.group(output_spaces=(SPACE,), **{'group.regions': ('territories',)})


@pytest.mark.parametrize(
    ('settings', 'words'),
    [
        ({'group.asymmetry': 'yes'}, '--asymmetry works in'),
        ({'group.affected_side': 'side'}, '--affected-side works in'),
    ],
)
def test_what_needs_the_packaged_template_is_refused_before_anything_is_read(
    studies, settings, words
):
    with pytest.raises(SettingsError, match=words):
        studies[SPACE].group(output_spaces=(SPACE,), **settings)


def test_a_template_that_nobody_has_is_named(studies):
    with pytest.raises(SelectionError, match='no maps in Nowhere of 01, 02, 03'):
        studies[SPACE].group(output_spaces=('Nowhere',))
