"""What the group reads, and who is left out of it."""

from pathlib import Path

from bids_app.group.inputs import GroupInputs, MapSet, MapSource, drop_suspects

COPY = {'kind': 'copy', 'condition': 'rest', 'reason': 'rest.nii has the same bytes'}
SMALL = {'kind': 'small-bold', 'condition': None, 'reason': 'bold.nii is small'}


def changes(task):
    sources = {name: (MapSource(value=Path(f'{name}.nii')),) for name in ('01', '02', '03')}
    contrast = f'{task}MinusControl'
    about = {'Task': task, 'Baseline': 'control'}
    return MapSet(quantity='cmro2', contrast=contrast, sources=sources, about=about)


INPUTS = GroupInputs(
    participants=('01', '02', '03'),
    changes=(changes('calc'), changes('rest')),
    regions={'restMinusControl': (('01', Path('a')), ('02', Path('b')))},
)


def who(inputs):
    return {maps.contrast: sorted(maps.sources) for maps in inputs.changes}


def test_a_suspicious_scan_costs_the_contrasts_of_its_condition():
    kept, sentences = drop_suspects(INPUTS, {'02': [COPY]}, ())
    assert who(kept) == {'calcMinusControl': ['01', '02', '03'], 'restMinusControl': ['01', '03']}
    assert kept.regions['restMinusControl'] == (('01', Path('a')),)
    assert sentences == {
        ('02', 'restMinusControl'): (
            'left out of restMinusControl: rest.nii has the same bytes (keep it with --set '
            'group.accept_suspects=copy)',
        )
    }


def test_a_suspicious_run_without_condition_costs_every_contrast():
    kept, _ = drop_suspects(INPUTS, {'03': [SMALL]}, ())
    assert set(map(tuple, who(kept).values())) == {('01', '02')}


def test_accepted_signs_leave_nobody_out():
    kept, sentences = drop_suspects(INPUTS, {'02': [COPY], '03': [SMALL]}, ('copy',))
    assert who(kept)['restMinusControl'] == ['01', '02']
    assert len(sentences) == 2
    kept, sentences = drop_suspects(INPUTS, {'02': [COPY]}, ('copy', 'small-bold'))
    assert (kept, sentences) == (INPUTS, {})
