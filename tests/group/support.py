"""Derivatives of participants, small and made by hand, as the group level reads them."""

import json

import nibabel as nb
import numpy as np
import pandas as pd

from bids_app.bids.output.names import output_path
from bids_app.engines.templates import SPACE, packaged_template
from bids_app.group.workflow import run_group
from bids_app.settings import RunSettings, resolve

TEMPLATE = nb.load(packaged_template('desc-brain_mask'))
BLOCK = (slice(42, 46), slice(26, 30), slice(44, 48))
"""Grey matter of this study: 64 voxels of several parcels."""
CONTRAST = 'calcMinusControl'
EFFECTS = {'boldPct': (0.9, 1.0, 1.1), 'cmro2': (18.0, 20.0, 22.0)}
KEYS = ('level', 'index', 'name', 'network', 'quantity', 'unit')


class Study:
    """Derivatives of participants, written under their names in the table."""

    def __init__(self, folder, space=SPACE, template=TEMPLATE):
        self.folder = folder / 'out'
        self.place = {'space': space, 'res': '2' if space == SPACE else None}
        self.template = template
        (folder / 'raw').mkdir(parents=True)
        self.run = RunSettings(bids_dir=folder / 'raw', output_dir=self.folder, level='group')

    def image(self, value, key, affine=None, **entities):
        shape = self.template.shape
        affine = self.template.affine if affine is None else affine
        path = self.folder / output_path(key, **self.place, **entities)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = np.full(shape, np.nan if key == 'contrast' else 0.0, np.float32)
        data[BLOCK] = value
        nb.Nifti1Image(data, affine).to_filename(path)
        sidecar = {'Contrast': {'Task': 'calc', 'Baseline': 'control'}}
        about = path.with_name(path.name.replace('.nii.gz', '.json'))
        about.write_text(json.dumps(sidecar))
        return path

    def participant(self, sub, ses=None, quantities=tuple(EFFECTS), size=1):
        at = {'sub': sub, 'ses': ses}
        self.image(0.9, 'probseg', label='GM', **at)
        for quantity in quantities:
            effect = EFFECTS[quantity][size]
            task = 'all' if quantity == 'boldPct' else None
            at |= {'quantity': quantity, 'contrast': CONTRAST, 'task': task}
            rng = np.random.default_rng(int(sub))
            noise = 0.01 * effect * rng.standard_normal((4, 4, 4))
            self.image(effect + noise, 'contrast', statistic='effect', **at)
            self.image((0.02 * effect) ** 2, 'contrast', statistic='variance', **at)
        self.regions(sub, ses, quantities, size)
        self.summary(sub)
        return self

    def summary(self, sub):
        logs = self.folder / 'logs'
        logs.mkdir(parents=True, exist_ok=True)
        verdict = {'state': 'complete', 'exit_code': 0, 'reasons': []}
        summary = {'participant': sub, 'verdict': verdict, 'units': []}
        (logs / f'sub-{sub}_run_summary.json').write_text(json.dumps(summary))

    def regions(self, sub, ses, quantities, size):
        rows = [
            dict(zip(KEYS, (level, index, name, network, quantity, 'unit'), strict=True))
            | {'effect': EFFECTS[quantity][size], 'se': 0.02, 'z': 1.0, 'n_voxels': 10,
               'coverage': 1.0, 'label': None}
            for quantity in quantities
            for level, index, name, network in (
                ('parcel', 1, 'LH_Vis_1', 'Vis'), ('brain', None, 'brain', 'all'),
            )
        ]  # fmt: skip
        entities = {'sub': sub, 'ses': ses, 'contrast': CONTRAST, 'atlas': 'Schaefer2018'}
        path = self.folder / output_path('regions', **entities)
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).to_csv(path, sep='\t', index=False, na_rep='n/a')

    def group(self, **settings):
        return run_group(self.run, resolve(command_line=settings))

    def path(self, key, **entities):
        return self.folder / output_path(key, **{'space': self.place['space'], **entities})

    def map(self, quantity, statistic):
        task = 'all' if quantity == 'boldPct' else None
        at = {'quantity': quantity, 'statistic': statistic, 'contrast': CONTRAST, 'task': task}
        return self.path('group_contrast', res=self.place['res'], **at)

    def table(self, key, **entities):
        return pd.read_csv(
            self.path(key, contrast=CONTRAST, **entities), sep='\t', na_values=['n/a']
        )
