"""A small output dataset, made without the app: what the reports read."""

import json

import nibabel as nb
import numpy as np
import pytest
from scipy import ndimage

from bids_app.bids.output.names import output_path
from bids_app.images import save_affine
from bids_app.models.concordance.labels import LABEL_COLORS, LABEL_NAMES
from bids_app.reports import render
from tests.browser import browser  # noqa: F401  (a fixture)
from tests.paths import ROOT

TEMPLATES = ROOT / 'bids_app' / 'data' / 'templates'
T1W_AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
T1W_AFFINE[:3, 3] = -90, -126, -72
T1W_SHAPE = (45, 54, 45)
MESE_AFFINE = np.diag([-6.0, 6.0, 8.0, 1.0])
MESE_AFFINE[:3, 3] = 84, -116, -56
MESE_SHAPE = (28, 36, 17)
SHIFT = np.eye(4)
SHIFT[:3, 3] = 2.0, -3.0, 4.0
"""The quantification grid was measured after the head moved: T1w point = MESE point + SHIFT."""

HOSTILE = '<script>alert("x")</script>'

VALUES = {
    # quantity: row, per-tissue value (GM, WM), relative noise
    'T2': ('T2map', 0.074, 0.068, 0.03, (None,)),
    'T2star': ('T2starmap', 0.0545, 0.05, 0.03, ('control', 'calc')),
    'echo_inconsistency': ('echo_inconsistency', 1.0, 1.0, 0.3, ('control', 'calc')),
    'R2prime': ('R2primemap', 5.0, 4.2, 0.15, ('control', 'calc')),
    'cbf': ('cbf', 52.0, 20.0, 0.2, ('control', 'calc')),
    'relativeCbf': ('relative_cbf', 1.0, 0.4, 0.02, ('control',)),
    'att': ('att', 0.9, 1.2, 0.05, ('control', 'calc')),
    'abv': ('abv', 0.3, 0.1, 0.2, ('control',)),
    'greyCbf': ('grey_cbf', 60.0, 55.0, 0.2, ('control',)),
    'whiteCbf': ('white_cbf', 20.0, 22.0, 0.2, ('control',)),
    'cbv': ('cbv', 4.8, 2.5, 0.1, (None,)),
    'k1': ('k1', 1.0, 0.5, 0.1, (None,)),
    'k2': ('k2', 0.001, 0.001, 0.3, (None,)),
    'boluscbf': ('boluscbf', 50.0, 20.0, 0.2, (None,)),
    'mtt': ('mtt', 4.5, 5.0, 0.2, (None,)),
    'tmax': ('tmax', 1.5, 2.0, 0.3, (None,)),
    'oef': ('oef', 0.38, 0.36, 0.15, ('control', 'calc')),
    'cmro2': ('cmro2', 150.0, 60.0, 0.3, ('control', 'calc')),
}


def write(data, affine, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    nb.Nifti1Image(data, affine).to_filename(path)


def write_text(text, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


class Tree:
    """Writes derivatives under their names in outputs.yml."""

    def __init__(self, folder, rng):
        self.folder, self.rng = folder, rng

    def path(self, key, **entities):
        return self.folder / output_path(key, **entities)

    def image(self, key, data, affine, sidecar=None, **entities):
        path = self.path(key, **entities)
        write(data, affine, path)
        about = path.with_name(path.name.removesuffix('.nii.gz') + '.json')
        about.write_text(json.dumps(sidecar or {'Units': 'x', 'Description': HOSTILE}))

    def table(self, key, rows, **entities):
        lines = ['\t'.join(rows[0]), *('\t'.join(map(str, row.values())) for row in rows)]
        write_text('\n'.join(lines) + '\n', self.path(key, **entities))


def tissue_on(affine, shape, label, world=None):
    """Sample a packaged tissue map."""
    image = nb.load(TEMPLATES / f'tpl-MNI152NLin6Asym_res-02_{label}.nii.gz')
    matrix = np.linalg.inv(image.affine) @ (np.eye(4) if world is None else world) @ affine
    data = np.asarray(image.dataobj, float)
    return ndimage.affine_transform(data, matrix[:3, :3], matrix[:3, 3], shape, order=1)


def anatomy(tree, sub):
    for label, key in (('GM', 'probseg'), ('WM', 'probseg'), ('CSF', 'probseg')):
        data = tissue_on(T1W_AFFINE, T1W_SHAPE, f'label-{label}_probseg').astype(np.float32)
        tree.image(key, data, T1W_AFFINE, sub=sub, label=label)
    t1w = tissue_on(T1W_AFFINE, T1W_SHAPE, 'T1w').astype(np.float32)
    tree.image('preproc_t1w', t1w, T1W_AFFINE, sub=sub)
    brain = tissue_on(T1W_AFFINE, T1W_SHAPE, 'desc-brain_mask') > 0.5
    tree.image('brain_mask', brain.astype(np.uint8), T1W_AFFINE, sub=sub)
    # ITK: from MESE to T1w maps points of the T1w image to points of MESE
    path = tree.path('xfm_scan', sub=sub, scan='MESE')
    save_affine(np.linalg.inv(SHIFT), path)


def value_maps(tree, sub, tissues, mask):
    grey, white = tissues
    for quantity, (row, in_grey, in_white, noise, conditions) in VALUES.items():
        for condition in conditions:
            mean = (in_grey * grey + in_white * white) / np.maximum(grey + white, 0.3)
            mean = mean * (1.1 if condition == 'calc' else 1.0)
            error = noise * in_grey
            data = mean + error * tree.rng.standard_normal(mask.shape)
            status = np.where(mask, 0, 1).astype(np.uint8)
            status[mask & (tree.rng.random(mask.shape) < 0.02)] = 8
            data[status != 0] = np.nan
            where = {'sub': sub, 'condition': condition, 'space': 'MESE'}
            variant = {'variant': 'dsc'} if quantity == 'cbv' else {}
            sidecar = {'Units': 'x', 'Model': 'm', 'Parameters': {'b0': 3.0}, 'Note': HOSTILE}
            if quantity == 'echo_inconsistency':
                sidecar |= {'SetDisplacement': [0.0, 0.41], 'SetDisagreement': 1.2}
                sidecar['SliceEdge'] = {'Variance': 0.0031, 'Error': 0.0029, 'Voxels': 50_000}
            tree.image(row, data.astype(np.float32), MESE_AFFINE, sidecar, **where, **variant)
            if quantity == 'echo_inconsistency':
                continue
            variance = np.where(np.isnan(data), np.nan, error**2).astype(np.float32)
            tree.image('variance', variance, MESE_AFFINE, **where, quantity=quantity)
            tree.image('status', status, MESE_AFFINE, **where, quantity=quantity)
    curve = [{'time': 1.5 * n, 'rate_change': 60.0 * (n in (9, 10, 11))} for n in range(30)]
    for key in ('arterial_curve', 'bolus_curve'):
        tree.table(key, curve, sub=sub)


def effects(tree, mask, affine, *, key, extra, about):
    pattern = ndimage.gaussian_filter(tree.rng.standard_normal(mask.shape), 2.0)
    pattern /= np.abs(pattern[mask]).max()
    sizes = {'boldPct': 1.5, 'cbf': 15.0, 'R2prime': 1.0, 'oef': 0.1, 'cmro2': 40.0}
    for quantity, size in sizes.items():
        if key == 'group_contrast' and quantity not in ('boldPct', 'cmro2'):
            continue
        task = {'task': 'all'} if quantity == 'boldPct' else {}
        noise = 0.3 * size * tree.rng.standard_normal(mask.shape)
        effect = np.where(mask, size * pattern + noise, np.nan).astype(np.float32)
        tested = effect / (0.3 * size)
        second = 't' if key == 'group_contrast' else 'z'
        shown = [('effect', effect), (second, tested)]
        if key == 'group_contrast':
            detectable = np.where(mask, 0.5 * size, np.nan).astype(np.float32)
            shown.append(('detectable', detectable))
        for statistic, data in shown:
            names = {**extra, 'quantity': quantity, 'statistic': statistic, **task}
            group = {'SmallestEquivalence': 0.4 * size, 'Skewness': 0.8, 'SkewnessCorrected': True}
            sidecar = {**(about or {}), **(group if key == 'group_contrast' else {})}
            tree.image(key, data, affine, sidecar, contrast='calcMinusControl', **names)
    return pattern


def labels(tree, mask, pattern, affine, *, prefix, extra, about):
    values = np.digitize(pattern, [-0.5, -0.2, 0.2, 0.5]) + 1
    robust = np.where(mask, np.array([0, 3, 6, 7, 5, 1])[values], 0).astype(np.uint8)
    sign = np.where(mask, np.array([0, 3, 4, 7, 2, 1])[values], 0).astype(np.uint8)
    names = {**extra, 'task': 'all', 'contrast': 'calcMinusControl'}
    for key, data in (('concordance', robust), ('concordance_sign', sign)):
        tree.image(prefix + key, data, affine, about, **names)
    if prefix == '':
        probability = np.where(mask, 0.5 + 0.2 * np.sign(pattern), np.nan).astype(np.float32)
        tree.image('discordant', probability, affine, about, **names)
        mode = np.where(mask, 1 + (pattern > 0), 0).astype(np.uint8)
        tree.image('response_mode', mode, affine, about, **names)


def contrast_tables(tree, prefix, extra):
    rows = []
    for rule in ('sign', 'robust'):
        for bold in ('all', 'positive', 'negative'):
            for network in ('all', 'Vis', 'Default'):
                row = {'rule': rule, 'bold': bold, 'network': network, 'n_voxels': 400}
                row |= {'n_concordant': 200, 'n_discordant': 100, 'n_undetermined': 100}
                row |= {'discordant_fraction': 0.333, 'ci_low': 'n/a', 'ci_high': 'n/a'}
                rows.append(row | {'null_fraction': 'n/a', 'note': 'interval not computed'})
    tree.table(prefix + 'summary', rows, contrast='calcMinusControl', **extra)
    rows = []
    for level, name in (('brain', 'brain'), ('network', 'Default'), ('parcel', 'LH_Vis_1')):
        for quantity, unit in (
            ('cbf', 'mL/100 g/min'),
            ('oef', 'fraction'),
            ('cmro2', 'umol/100 g/min'),
        ):
            row = {'level': level, 'index': 1, 'name': name, 'network': name}
            row |= {'quantity': quantity, 'unit': unit, 'effect': 6.25, 'se': 1.25, 'z': 5.0}
            row |= {'n_voxels': 321, 'coverage': 0.97, 'label': 2 if quantity == 'cmro2' else ''}
            if not prefix:
                percent = 12.5 if quantity == 'cbf' else 8.5
                row |= {'percent': percent, 'tipping_cbv': 0.123 if quantity == 'cmro2' else 'n/a'}
            rows.append(row)
    empty = {'level': 'network', 'name': 'Limbic', 'effect': 'n/a', 'se': 'n/a', 'label': 'n/a'}
    rows.append(rows[0] | empty)
    tree.table(
        prefix + 'regions', rows, contrast='calcMinusControl', atlas='Schaefer2018', **extra
    )


def run_summary(sub, **changes):
    made = [
        {'map': q, 'condition': c, 'state': 'made', 'reason': '', 'files': ['bids:raw:a.nii.gz']}
        for q, (_, _, _, _, conditions) in VALUES.items()
        for c in conditions
    ]
    unit = {
        'label': f'sub-{sub}',
        'conditions': ['control', 'calc'],
        'baseline': 'control',
        'contrasts': [{'task': 'calc', 'baseline': 'control', 'label': 'calcMinusControl'}],
        'space': 'MESE',
        'scans': [
            {
                'scan': 'MESE',
                'condition': None,
                'run': None,
                'files': [f'sub-01/anat/sub-01_echo-{echo}_MESE.nii.gz' for echo in range(1, 33)],
                'facts': {'echo times': f'16, 32 ms {HOSTILE}'},
            },
            {'scan': 'DSC', 'condition': None, 'run': None, 'files': [], 'facts': {}},
            {
                'scan': 'ASL',
                'condition': 'calc',
                'run': None,
                'files': ['a_asl.nii.gz'],
                'facts': {},
                'timing': [{'post-labelling delay (s)': '1.8', 'volumes': '3 label'}],
            },
        ],
        'notes': [f'Hct is a default {HOSTILE}'],
        'problems': [],
        'values': [
            {
                'name': 'oxygen.hct',
                'value': 0.42,
                'unit': '1',
                'origin': f'participants.tsv {HOSTILE}',
                'overruled': '0.4 (default)',
            },
            {'name': 'oxygen.b0', 'value': 3.0, 'unit': 'T', 'origin': 'default'},
            {'name': 'oxygen.sao2', 'value': 0.98, 'unit': '1', 'origin': 'default'},
            {'name': 'oxygen.susceptibility', 'value': 2.64e-7, 'unit': '1', 'origin': 'default'},
        ],
        'maps': made,
        'graph': 'flowchart TD\n  a["fit R2"] -->|r2| b["estimate R2prime"]\n  a --> c["x"]\n'
        '  a -- "t1w" --> b\n',
        'methods': "R2' was a difference [@hirsch2014]. CBF by the white paper [@alsop2015].\n\n"
        'Again [@hirsch2014; @kety1948; @hirsch2013].',
        'errors': [],
    }
    summary = {
        'participant': sub,
        'version': '0.1.0',
        'command': ['oxybold', 'in', 'out', 'participant'],
        'verdict': {'state': 'complete', 'exit_code': 0, 'reasons': []},
        'units': [{**unit, **changes.pop('unit', {})}],
    }
    return summary | changes


def participant(tree, sub, **changes):
    anatomy(tree, sub)
    grey, white = (
        tissue_on(MESE_AFFINE, MESE_SHAPE, f'label-{x}_probseg', SHIFT) for x in ('GM', 'WM')
    )
    mask = tissue_on(MESE_AFFINE, MESE_SHAPE, 'desc-brain_mask', SHIFT) > 0.5
    reference = tissue_on(MESE_AFFINE, MESE_SHAPE, 'T1w', SHIFT).astype(np.float32)
    tree.image('reference', reference, MESE_AFFINE, sub=sub, scan='MESE')
    tree.image('reference', reference, MESE_AFFINE, sub=sub, scan='MEGRE', task='calc')
    save_affine(np.linalg.inv(SHIFT), tree.path('xfm_scan', sub=sub, scan='MEGRE', task='calc'))
    quality = {'condition': 'calc', 'measure': f'qei {HOSTILE}', 'value': 0.912345}
    about = {'verdict': 'good' if sub == '01' else 'check', 'rule': 'at least 0.5'}
    tree.table('cbf_quality', [quality | about], sub=sub)
    moved = [{'framewise_displacement': 0.1 * (k % 3)} for k in range(20)]
    tree.table('confounds', moved, sub=sub, scan='BOLD', task='all')
    courses = [
        {'level': 'network', 'name': name, 'condition': 'calc', 'time': time, 'percent': value}
        for name in ('Vis', 'Default')
        for time, value in ((0.0, 0.0), (6.0, 1.1))
    ]
    tree.table('time_courses', courses, sub=sub, task='all', atlas='Schaefer2018')
    judged = {'scan': f'mese {HOSTILE}', 'shift': 5.39, 'verdict': 'check', 'reason': 'moved'}
    tree.table('alignment', [judged], sub=sub)
    epi = {'sub': sub, 'scan': 'BOLD', 'task': 'all'}
    for key, data in (('epi_acquired', np.roll(reference, 2, axis=1)),
                      ('epi_undistorted', reference),
                      ('epi_shift', np.full(MESE_SHAPE, 2.0, np.float32))):  # fmt: skip
        tree.image(key, data, MESE_AFFINE, **epi)
    train = [
        {'voxel': name, 'i': 1, 'j': 2, 'k': 3, 'echo_time': time, 'signal': signal, 'fit': 90.0,
         'rate': 12.5, 'status': status}
        for name, status in (('grey matter', 'OK'), ('flagged', 'FLUID'))
        for time, signal in ((0.01, 100.0), (0.02, 88.0))
    ]  # fmt: skip
    tree.table('decays', train, sub=sub, scan='MESE')
    agreement = {'level': 'network', 'name': 'Vis', 'measured': 1.23, 'predicted': 1.11, 'z': 0.4}
    at = {'sub': sub, 'atlas': 'Schaefer2018', 'contrast': 'calcMinusControl'}
    tree.table('consistency', [agreement], **at)
    value_maps(tree, sub, (grey, white), mask)
    about = {'Contrast': {'Task': 'calc', 'Baseline': 'control'}}
    where = {'sub': sub, 'space': 'MESE'}
    pattern = effects(tree, mask, MESE_AFFINE, key='contrast', extra=where, about=about)
    labelled = mask & (grey > 0.4)
    labels(tree, labelled, pattern, MESE_AFFINE, prefix='', extra=where, about=about)
    contrast_tables(tree, '', {'sub': sub})
    text = json.dumps(run_summary(sub, **changes))
    write_text(text, tree.path('run_summary', sub=sub))


def root(tree):
    write_text(json.dumps({'Name': f'Study {HOSTILE}'}), tree.path('dataset_description'))
    modes = [
        {'index': 1, 'name': 'flow-led', 'color': '#d55e00'},
        {'index': 2, 'name': 'extraction-led', 'color': '#0072b2'},
    ]
    tree.table('label_table', modes, seg='responseMode')
    for seg in ('concordance', 'concordanceSign'):
        rows = [
            {'index': int(x), 'name': LABEL_NAMES[x], 'color': LABEL_COLORS[x]}
            for x in LABEL_NAMES
        ]
        tree.table('label_table', rows, seg=seg)
    rows = [
        {'participant_id': sub, 'Hct': 0.42, 'verdict': 'complete'} for sub in ('sub-01', 'sub-02')
    ]
    tree.table('participants', rows)


def group(tree):
    image = nb.load(TEMPLATES / 'tpl-MNI152NLin6Asym_res-02_desc-brain_mask.nii.gz')
    mask = np.asarray(image.dataobj) > 0
    about = {'Contrast': {'Task': 'calc', 'Baseline': 'control'}}
    where = {'space': 'MNI152NLin6Asym', 'res': '2'}
    pattern = effects(tree, mask, image.affine, key='group_contrast', extra=where, about=about)
    labels(tree, mask, pattern, image.affine, prefix='group_', extra=where, about=about)
    contrast_tables(tree, 'group_', {'space': 'MNI152NLin6Asym'})
    people = [{'participant': 'sub-03', 'included': 'no', 'reason': f'moved {HOSTILE}'}]
    tree.table('group_participants', people, space='MNI152NLin6Asym')
    choices = [{'scale': 'percent', 'sign_fraction': 0.41234, 'n_participants': 2}]
    tree.table('group_multiverse', choices, space='MNI152NLin6Asym', contrast='calcMinusControl')
    summary = {
        'version': '0.1.0',
        'verdict': {'state': 'complete', 'exit_code': 0, 'reasons': []},
        'participants': ['01', '02'],
        'methods': 'Random effects [@dersimonian1986].',
    }
    write_text(json.dumps(summary), tree.path('group_run_summary'))


def keep_only(folder, *patterns):
    """Remove all other files of a participant, so that its report is made quickly."""
    for path in folder.rglob('*'):
        if path.is_file() and not any(path.match(pattern) for pattern in patterns):
            path.unlink()


@pytest.fixture(scope='session')
def output_dir(tmp_path_factory):
    """Two participants, one of them without DSC, and a group."""
    if not any(TEMPLATES.glob('*desc-brain_mask*')):
        pytest.skip('the packaged template is not there')
    tree = Tree(tmp_path_factory.mktemp('out'), np.random.default_rng(1))
    root(tree)
    participant(tree, '01')
    participant(
        tree,
        '02',
        verdict={'state': 'incomplete', 'exit_code': 1, 'reasons': [f'DSC broken {HOSTILE}']},
        unit={
            'problems': [{'role': 'dsc', 'file': 'a_dsc.nii.gz', 'message': HOSTILE, 'code': 65}],
            'errors': [{'node': 'fit', 'message': HOSTILE, 'trace': f'line\n{HOSTILE}'}],
            'maps': [{'map': 'cbv', 'condition': None, 'state': 'absent', 'reason': 'no DSC'}],
        },
    )
    keep_only(tree.folder / 'sub-02', 'anat/*T1w*', '*_desc-brain_mask*', '*reference*', '*cbf*')
    group(tree)
    return tree.folder


@pytest.fixture(scope='session')
def first_page(output_dir):
    """Report of the first participant, made once."""
    return render.render_participant(output_dir, '01').path
