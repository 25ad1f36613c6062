"""Images without content cost their own branch."""

import gzip

import numpy as np
import pytest

from bids_app.bids.input.unreadable import drop_unreadable, inspect_files
from bids_app.errors import ExitCode
from tests.bids.support import only_problem


def truncate(path):
    data = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(data[:-40]))


@pytest.mark.parametrize(
    ('damage', 'words', 'code'),
    [
        (lambda d, n: truncate(d.find(n)), 'is the file complete', ExitCode.MISSING_INPUT),
        (np.nan, 'all NaN', ExitCode.BAD_INPUT),
        (0.0, 'all zero', ExitCode.BAD_INPUT),
        (7.0, 'constant (7)', ExitCode.BAD_INPUT),
    ],
)
def test_images_without_content_drop_their_branch_only(full, unit, damage, words, code):
    name = 'sub-01_acq-calc_asl.nii.gz'
    if callable(damage):
        damage(full, name)
    else:
        full.image(f'sub-01/perf/{name}', data=np.full((3, 3, 2, 6), damage, np.float32))
    found = unit(full)
    assert found.problems == ()
    kept = drop_unreadable(found)
    problem = only_problem(kept, words, name, role='asl', code=code)
    assert problem.condition == 'calc'
    assert [series.condition for series in kept.asl] == ['control']
    assert (kept.mese, kept.megre, kept.bold) == (found.mese, found.megre, found.bold)


def test_phase_beyond_radians_is_found_when_read(full, unit):
    data = np.linspace(-4096, 4095, 18).reshape(3, 3, 2).astype(np.int16)
    full.image('sub-01/anat/sub-01_task-calc_echo-2_part-phase_MEGRE.nii.gz', data=data)
    (problem,) = inspect_files(unit(full))
    assert problem.role == 'megre_phase'
    assert '-4096 to 4095' in problem.message


def test_intact_images_change_nothing(full, unit):
    found = unit(full)
    assert drop_unreadable(found) is found


def test_scaled_integers_are_judged_after_scaling(full, unit):
    import nibabel as nb

    path = full.find('*_T1w.nii.gz')
    image = nb.Nifti1Image(np.full((3, 3, 2), 5, np.int16), np.eye(4))
    image.header.set_slope_inter(0.5, -2.5)
    nb.save(image, path)
    raw = nb.load(path)
    assert raw.dataobj.slope == 0.5
    (problem,) = inspect_files(unit(full))
    assert 'all zero' in problem.message


def test_masks_and_tissue_maps_of_derivatives_may_be_constant_but_not_broken(dataset, unit):
    names = ['desc-preproc_T1w', 'desc-brain_mask']
    names += [f'label-{tissue}_probseg' for tissue in ('GM', 'WM', 'CSF')]
    for name in names:
        data = None if 'T1w' in name else np.ones((3, 3, 2), np.uint8)
        dataset.image(f'd/sub-01/anat/sub-01_{name}.nii.gz', data=data)
    dataset.add('anat/MESE')
    options = {'derivatives': {'fmriprep': dataset.root / 'd'}}
    found = unit(dataset, **options)
    assert drop_unreadable(found) is found
    truncate(dataset.find('*label-GM_probseg.nii.gz'))
    kept = drop_unreadable(unit(dataset, **options))
    only_problem(kept, 'GM_probseg', role='t1w', code=ExitCode.MISSING_INPUT)
    assert kept.anatomy is None
    assert len(kept.mese) == 1
