"""Hemispheres against each other, and affected sides turned to the left."""

import numpy as np
import pandas as pd
import pytest

from bids_app.engines.templates import packaged_template
from bids_app.errors import SettingsError
from bids_app.group import stream, workflow
from bids_app.group.hemispheres import turn_affected
from bids_app.group.inputs import from_derivatives
from bids_app.group.mirror import other_side, pairs_of
from bids_app.group.study import mean_grey_matter
from bids_app.images import grid_of, load_data
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.asymmetry import asymmetry_index
from tests.group import support

SLAB = (slice(20, 71), slice(44, 64), slice(40, 56))
"""Both hemispheres; voxels of index below 45 are right, above left."""
WIDE = (slice(10, 81), slice(38, 70), slice(34, 62))
"""Where there are values: a partner of a voxel of the mask has one too."""
INDEX = 2 * (0.44 - 0.40) / 0.84


@pytest.fixture(scope='module')
def study(tmp_path_factory):
    """Six patients; three have a higher OEF on the left, three on the right, which is affected."""
    with pytest.MonkeyPatch.context() as patch:
        # blocks of voxels that are all on the right occur too
        patch.setattr(stream, 'BLOCK_BYTES', 2**20)
        patch.setattr(workflow, 'render_group', lambda output_dir: None)
        patch.setattr(workflow, 'render_index', lambda output_dir: '')
        made = support.Study(tmp_path_factory.mktemp('sides'))
        rng = np.random.default_rng(1)
        lines = ['participant_id\tside']
        for number in range(1, 7):
            sub, is_right = f'{number:02d}', number > 3
            lines.append(f'sub-{sub}\t{"R" if is_right else "left"}')
            made.summary(sub)
            patch.setattr(support, 'BLOCK', SLAB)
            made.image(0.9, 'probseg', sub=sub, label='GM')
            patch.setattr(support, 'BLOCK', WIDE)
            oef = 0.40 + 0.004 * rng.standard_normal((71, 32, 28))
            oef[:35] += 0.04 * is_right
            oef[36:] += 0.04 * (not is_right)
            made.image(oef, 'oef', sub=sub, condition='rest')
            made.image(0.004**2, 'variance', sub=sub, condition='rest', quantity='oef')
        (made.run.bids_dir / 'participants.tsv').write_text('\n'.join(lines) + '\n')
        made.group(**{
            'group.asymmetry': 'yes', 'group.affected_side': 'side',
            'group.permutations': 31, 'group.bootstraps': 10,
        })  # fmt: skip
    return made


def test_affected_side_of_everybody_is_the_first(study):
    path = study.path(
        'group_contrast', quantity='oefAsymmetry', statistic='effect', res='2',
        contrast='restAffectedMinusUnaffected',
    )  # fmt: skip
    found = load_data(path)
    x = grid_of(path).affine[0, 0] * np.arange(91) + 90
    assert np.isnan(found[x >= 0]).all()
    known = found[np.isfinite(found)]
    assert len(known) > 3000
    assert np.median(known) == pytest.approx(INDEX, rel=0.05)


def test_grey_matter_of_the_mask_is_mirrored_with_the_maps(tmp_path):
    """One-sided grey matter of patients who are affected there comes to lie on the left."""
    made = support.Study(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        for sub, x in (('01', slice(20, 40)), ('02', slice(51, 71))):
            made.summary(sub)
            patch.setattr(support, 'BLOCK', (x, *SLAB[1:]))
            made.image(0.9, 'probseg', sub=sub, label='GM')
    inputs = from_derivatives(made.folder, ['01', '02'])
    grey, grid, _ = mean_grey_matter(inputs)
    assert not (grey > 0.6).any(), 'the halves have nothing in common'
    turned = turn_affected(inputs, {'01': 'right', '02': 'left'}, 'side')
    grey, grid, left_out = mean_grey_matter(turned)
    mask = grey > 0.6
    assert left_out == ()
    x = grid.affine[0, 0] * np.argwhere(mask)[:, 0] + grid.affine[0, 3]
    assert len(x) > 4000
    assert (x < 0).all()


def test_regions_hold_both_sides_of_every_participant_with_the_error_of_the_index(study):
    table = pd.read_csv(study.path('group_asymmetry'), sep='\t', na_values=['n/a'])
    brain = table[table.level == 'brain']
    assert len(brain) == 6
    np.testing.assert_allclose(brain['first'], 0.44, rtol=0.01)
    np.testing.assert_allclose(brain['index'], INDEX, rtol=0.05)
    assert (brain.se < 0.01).all()
    assert not table.name.str.startswith('RH_').any()
    tested = pd.read_csv(study.path('group_comparison'), sep='\t', na_values=['n/a'])
    row = tested[(tested.quantity == 'oefAsymmetry') & (tested.level == 'brain')].iloc[0]
    assert row.effect == pytest.approx(brain['index'].mean(), rel=1e-5)
    assert row.p < 0.001


def test_a_side_that_is_no_side_is_an_error(study):
    with pytest.raises(SettingsError, match='should hold left or right'):
        study.group(**{'group.affected_side': 'verdict'})


# ------------------------------------------------------------------------------ template, arrays


def test_partners_lie_opposite_and_know_each_other():
    mask = load_data(packaged_template('desc-brain_mask')) > 0
    left, right = pairs_of(mask)
    places = np.argwhere(mask)
    assert len(left) > 0.45 * mask.sum()
    x_left, x_right = 90 - 2 * places[left, 0], 90 - 2 * places[right, 0]
    assert (x_left < 0).all()
    assert (x_right > 0).all()
    assert np.abs(places[left, 1:] - places[right, 1:]).max() <= 6
    # there and back again
    position = np.arange(mask.size, dtype=float).reshape(mask.shape)
    back = other_side(other_side(position)).astype(int)
    way = np.stack(np.unravel_index(back.ravel(), mask.shape), -1).reshape(*mask.shape, 3)
    apart = np.linalg.norm(way - np.moveaxis(np.indices(mask.shape), 0, -1), axis=-1)[mask]
    assert np.median(apart) <= 1
    assert np.percentile(apart, 95) <= 2


def test_template_is_more_like_its_partners_than_like_its_plain_mirror():
    t1w, grey = (load_data(packaged_template(kind)) for kind in ('T1w', 'label-GM_probseg'))
    brain = load_data(packaged_template('desc-brain_mask')) > 0
    for image in (t1w, grey):
        plain, found = (
            np.corrcoef(image[brain], other[brain])[0, 1]
            for other in (image[::-1], other_side(image))
        )
        assert found > plain + 0.02


def test_error_of_the_index_is_what_it_scatters_by():
    rng = np.random.default_rng(0)
    a, b = (Estimate.of(m + s * rng.standard_normal(20000), s**2) for m, s in
            ((0.44, 0.02), (0.36, 0.03)))  # fmt: skip
    index = asymmetry_index(a, b)
    assert np.std(index.value) == pytest.approx(np.sqrt(np.median(index.variance)), rel=0.03)
    assert np.isnan(asymmetry_index(Estimate.of([-1.0]), Estimate.of([0.5])).value[0])
