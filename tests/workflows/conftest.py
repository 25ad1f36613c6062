"""Inputs of one participant made in memory; the files are there, and empty."""

from itertools import product

import pytest
from nipype.interfaces.base import isdefined

from bids_app.bids.scans import (
    AseSeries,
    AslSeries,
    BoldRun,
    Contrast,
    DscSeries,
    EchoSeries,
    Event,
    FieldMap,
    FoundAnatomy,
    M0Image,
    ParticipantInputs,
    Readout,
)
from bids_app.settings import RunSettings

PAIR = ('control', 'calc')
TIMES = (0.005, 0.010, 0.015)
DISPLACEMENTS = (0.0, 0.016, 0.032, 0.048)


class Maker:
    """Makes ParticipantInputs from words: family, ':' conditions ('-' for none), 'x2' for runs."""

    def __init__(self, folder):
        self.folder = folder
        self.output = folder / 'out'
        self.output.mkdir()

    def file(self, name):
        path = self.folder / name
        path.touch()
        return path

    def run(self, **options):
        return RunSettings(
            bids_dir=self.folder, output_dir=self.output, level='participant', **options
        )

    def inputs(self, text, *, conditions=PAIR, **options):
        """Such as 't1w mese:- megre:control,calc phase asl:- x2 dsc:- bold'."""
        words = dict(word.partition(':')[::2] for word in text.split())
        runs = ('1', '2') if 'x2' in words else (None,)
        fields = {
            family: tuple(
                getattr(self, f'_{family}')(None if one == '-' else one, run, words)
                for one, run in product((words[family] or '-').split(','), runs)
            )
            for family in ('mese', 'megre', 'ase', 'asl', 'dsc', 'bold')
            if family in words
        }
        if 't1w' in words:
            fields['t1w'] = (self.file('T1w.nii.gz'),)
        if 'found' in words:
            fields['anatomy'] = self._anatomy(words['found'] != 'native')
        contrasts = tuple(Contrast(task=one, baseline='control') for one in conditions[1:])
        fixed = {'b0': 3.0, 'hct': 0.42, 'sao2': 0.98, 'participant': '01'}
        known = {'conditions': conditions, 'contrasts': contrasts, 'baseline': 'control'}
        if not conditions:
            known['baseline'] = None
        return ParticipantInputs(**fixed | known | fields | options)

    def _echoes(self, kind, condition, run, part=''):
        return tuple(
            self.file(f'{condition}_{run}_{kind}{part}_{n}.nii.gz') for n in range(len(TIMES))
        )

    def _mese(self, condition, run, words):
        magnitude = self._echoes('mese', condition, run)
        return EchoSeries(condition=condition, run=run, magnitude=magnitude, echo_times=TIMES)

    def _megre(self, condition, run, words):
        return EchoSeries(
            condition=condition,
            run=run,
            magnitude=self._echoes('megre', condition, run),
            phase=self._echoes('megre', condition, run, 'phase') if 'phase' in words else (),
            echo_times=TIMES,
        )

    def _distortion(self, words):
        """Words: readout (the scan can be corrected), fmap:<kind> (by a map of the dataset)."""
        if 'readout' not in words:
            return {}
        readout = Readout(axis=1, polarity=-1, echo_spacing=0.0006, n_lines=64)
        if 'fmap' not in words:
            return {'readout': readout}
        field_map = FieldMap(
            name='sub-01_phasediff',
            kind=words['fmap'],
            files=(self.file('field_1.nii.gz'), self.file('field_2.nii.gz')),
            magnitude=self.file('field_magnitude.nii.gz'),
            scale=1.0,
            echo_difference=0.002,
        )
        return {'readout': readout, 'field_map': field_map}

    def _ase(self, condition, run, words):
        file = self.file(f'{condition}_{run}_ase.nii.gz')
        return AseSeries(condition=condition, run=run, file=file, displacements=DISPLACEMENTS)

    def _asl(self, condition, run, words):
        is_within = 'within' in words
        file = self.file(f'{"" if is_within else condition}_{run}_asl.nii.gz')
        shared = is_within or 'shared-m0' in words
        m0 = M0Image(kind='Separate', file=self.file('m0.nii.gz'), shared=shared)
        task = {
            'events': (Event(onset=30.0, duration=30.0, trial_type='calc'),),
            'events_file': self.file('asl_events.tsv'),
            'baseline': 'control',
            'repetition_time': 4.5,
        }
        return AslSeries(
            **(task if is_within else {}),
            condition=condition,
            run=run,
            file=file,
            context=('label', 'control'),
            label_type='PCASL',
            label_duration=(1.8, 1.8),
            post_label_delay=(1.8, 1.8),
            labeling_efficiency=0.85,
            m0=m0,
            **self._distortion(words),
        )

    def _dsc(self, condition, run, words):
        file = self.file(f'{condition}_{run}_dsc.nii.gz')
        times = {'echo_time': 0.03, 'repetition_time': 1.5}
        return DscSeries(
            condition=condition, run=run, file=file, **times, **self._distortion(words)
        )

    def _bold(self, condition, run, words):
        several = {}
        if 'echoes' in words:
            files = tuple(self.file(f'{run}_echo-{n}_bold.nii.gz') for n in (1, 2, 3))
            several = {'echoes': files, 'echo_times': (0.013, 0.03, 0.047)}
        return BoldRun(
            task='all',
            run=run,
            file=several['echoes'][0] if several else self.file(f'{run}_bold.nii.gz'),
            **several,
            events_file=self.file(f'{run}_events.tsv'),
            events=tuple(
                Event(onset=onset, duration=30.0, trial_type='calc') for onset in (30.0, 90.0)
            ),
            repetition_time=1.2,
            n_volumes=150,
            echo_time=0.03,
            **self._distortion(words),
        )

    def _anatomy(self, has_template):
        names = ('t1w', 'brain_mask', 'grey_matter', 'white_matter', 'csf')
        names += ('to_template', 'from_template') if has_template else ()
        return FoundAnatomy(
            source='fmriprep', **{name: self.file(f'found_{name}.nii.gz') for name in names}
        )


@pytest.fixture
def maker(tmp_path):
    return Maker(tmp_path)


def unconnected_mandatory(workflow):
    """Mandatory ports that are neither set nor connected; empty for a sound graph."""
    graph = workflow._create_flat_graph()
    missing = []
    for node in graph.nodes:
        connected = {
            port for _, _, data in graph.in_edges(node, data=True) for _, port in data['connect']
        }
        spec = node.inputs
        for name, trait in spec.traits(mandatory=True).items():
            if name not in connected and trait.mandatory and not isdefined(getattr(spec, name)):
                missing.append(f'{node.fullname}.{name}')
    return sorted(missing)
