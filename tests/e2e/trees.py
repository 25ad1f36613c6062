"""Derivatives as fMRIPrep and ASLPrep leave them, made from a tiny phantom."""

import json
import shutil

import nibabel as nb
import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from bids_app.engines.templates import packaged_template
from bids_app.images import Grid, save_image

LPS = np.diag([-1.0, -1, 1, 1])
MOTION = ('trans_x', 'trans_y', 'trans_z', 'rot_x', 'rot_y', 'rot_z')


def write_json(path, content):
    """Write a sidecar beside an image."""
    path.with_name(path.name.split('.')[0] + '.json').write_text(json.dumps(content))


def image(path, data, affine, **sidecar):
    """Write an image with its sidecar."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_image(data, Grid(data.shape[:3], affine), path)
    write_json(path, sidecar)
    return path


def template(folder, name):
    """Make a template of the packaged one by another name; return it as an output space."""
    folder.mkdir(parents=True)
    for kind in ('T1w', 'desc-brain_mask'):
        shutil.copyfile(packaged_template(kind), folder / f'tpl-{name}_{kind}.nii.gz')
    return f'{name}={folder}'


def start(root, name):
    """Write dataset_description.json."""
    root.mkdir(parents=True)
    content = {
        'Name': f'{name} - derivatives', 'BIDSVersion': '1.9.0', 'DatasetType': 'derivative',
        'GeneratedBy': [{'Name': name, 'Version': '25.2.0'}],
    }  # fmt: skip
    (root / 'dataset_description.json').write_text(json.dumps(content))
    return root


def add_anatomy(root, study, session=None):
    """Take over the anatomy of the phantom, its transforms as .h5."""
    import ants

    stem = 'sub-01' + (f'_ses-{session}' if session else '')
    folder = root / 'sub-01' / (f'ses-{session}/anat' if session else 'anat')
    folder.mkdir(parents=True)
    source = study / 'derivatives' / 'fmriprep' / 'sub-01' / 'anat'
    for path in source.glob('sub-01_*'):
        copy = folder / path.name.replace('sub-01', stem)
        if path.name.endswith('_xfm.txt'):
            ants.write_transform(ants.read_transform(str(path)), str(copy.with_suffix('.h5')))
            write_json(copy, {'Sources': []})
        else:
            shutil.copyfile(path, copy)
            if path.name.endswith('.nii.gz'):
                write_json(copy, {'Type': 'Brain', 'SkullStripped': False})
    return folder


def add_confounds(folder, stem, n_volumes, name='desc-confounds_timeseries'):
    """Write a table of a head that hardly moves, with n/a in the first row, and its sidecar."""
    rng = np.random.default_rng(3)
    columns = [*MOTION, 'csf', 'std_dvars', 'framewise_displacement', 'a_comp_cor_00', 'cosine00']
    rows = 1e-4 * rng.standard_normal((n_volumes, len(columns)))
    lines = ['\t'.join(f'{x:.6g}' for x in row) for row in rows]
    lines[0] = '\t'.join([*(['0'] * 6), '1', 'n/a', 'n/a', '0', '1'])
    (folder / f'{stem}_{name}.tsv').write_text('\n'.join(['\t'.join(columns), *lines]) + '\n')
    (folder / f'{stem}_{name}.json').write_text(json.dumps({'a_comp_cor_00': {'Mask': 'WM'}}))


def add_bold_in_t1w_space(root, raw, **sidecar):
    """Resample a run to another grid in the space of the T1w image, a third of a voxel away."""
    folder, stem = root / 'sub-01' / 'func', raw.name.replace('_bold.nii.gz', '')
    series = nb.load(raw)
    data, affine = series.get_fdata(), series.affine.copy()
    moved = np.stack(
        [ndimage.shift(data[..., t], (-1 / 3, 0, 0), order=3, mode='nearest')
         for t in range(data.shape[3])], axis=-1,
    )  # fmt: skip
    affine[:3, 3] += affine[:3, 0] / 3
    facts = {'RepetitionTime': 1.2, 'TaskName': 'all', 'SkullStripped': False, **sidecar}
    image(folder / f'{stem}_space-T1w_desc-preproc_bold.nii.gz', moved, affine, **facts)
    image(folder / f'{stem}_space-T1w_boldref.nii.gz', moved.mean(axis=-1), affine)
    image(folder / f'{stem}_space-T1w_desc-brain_mask.nii.gz',
          np.ones(moved.shape[:3], np.uint8), affine)  # fmt: skip
    add_confounds(folder, stem, moved.shape[3])


def turned(angles=(4.0, -3.0, 5.0), shift=(2.0, -1.5, 3.0)):
    """Give a rigid movement, RAS."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler('ZXY', angles, degrees=True).as_matrix()
    matrix[:3, 3] = shift
    return matrix


def write_euler(path, matrix, centre=(1.0, 2.0, 3.0)):
    """Write a rigid transform as ITK does: three angles, and a shift about a centre."""
    lps, centre = LPS @ matrix @ LPS, np.array(centre)
    z, x, y = Rotation.from_matrix(lps[:3, :3]).as_euler('ZXY')
    shift = lps[:3, 3] - centre + lps[:3, :3] @ centre
    numbers = ' '.join(f'{value:.15g}' for value in (x, y, z, *shift))
    path.write_text(
        '#Insight Transform File V1.0\n#Transform 0\nTransform: Euler3DTransform_double_3_3\n'
        f'Parameters: {numbers}\nFixedParameters: {" ".join(map(str, centre))} 0\n'
    )


def add_bold_of_its_own(root, raw):
    """Turn a run away, and write the transform that brings it back."""
    folder, stem = root / 'sub-01' / 'func', raw.name.replace('_bold.nii.gz', '')
    series, matrix = nb.load(raw), turned()
    data, affine = series.get_fdata(), matrix @ series.affine
    facts = {'RepetitionTime': 1.2, 'TaskName': 'all', 'SliceTimingCorrected': False}
    image(folder / f'{stem}_desc-preproc_bold.nii.gz', data, affine, **facts)
    image(folder / f'{stem}_desc-coreg_boldref.nii.gz', data.mean(axis=-1), affine)
    add_confounds(folder, stem, data.shape[3])
    transform = folder / f'{stem}_from-boldref_to-T1w_mode-image_desc-coreg_xfm.txt'
    write_euler(transform, matrix)
    write_json(transform, {'Sources': []})


def add_cbf(root, study, output):
    """Give the CBF of an own run, as one map per pair that scatters evenly about it."""
    for own in sorted((output / 'sub-01' / 'perf').glob('sub-01_task-*_space-MESE_cbf.nii.gz')):
        condition = own.name.split('task-')[1].split('_')[0]
        stem = f'sub-01_acq-{condition}'
        value = nb.load(own)
        error = nb.load(own.with_name(own.name.replace('_cbf', '_stat-variance_desc-cbf_statmap')))
        sd = np.sqrt(error.get_fdata() * 39)
        # in every voxel an order of its own: what alternates in all of them is no white noise
        pairs = np.broadcast_to([1.0, -1.0] * 19 + [0.0], (*sd.shape, 39))
        pairs = np.random.default_rng(0).permuted(pairs, axis=-1)
        maps = np.nan_to_num(value.get_fdata()[..., None] + sd[..., None] * pairs)
        folder = root / 'sub-01' / 'perf'
        facts = {'Units': 'mL/100 g/min', 'SkullStripped': False}
        image(folder / f'{stem}_desc-timeseries_cbf.nii.gz', maps, value.affine, **facts)
        image(folder / f'{stem}_cbf.nii.gz', maps.mean(axis=-1), value.affine, **facts)
        m0 = nb.load(study / f'sub-01/perf/{stem}_m0scan.nii.gz').get_fdata()
        image(folder / f'{stem}_desc-coreg_aslref.nii.gz', m0, value.affine)
        write_euler(folder / f'{stem}_from-aslref_to-T1w_mode-image_xfm.txt', np.eye(4))
