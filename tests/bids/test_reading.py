"""Overrides: who is meant, what wins, and refusal of what is not understood."""

import pytest

from bids_app.bids.reading import choose, load_overrides
from bids_app.errors import SettingsError


@pytest.fixture
def overrides(dataset):
    def write(match, values, source='protocol'):
        return dataset.text(
            'o.toml',
            f'[[override]]\nmatch = {{{match}}}\nset = {{{values}}}\nsource = "{source}"\n',
        )

    return write


@pytest.mark.parametrize(
    ('match', 'conditions'),
    [
        ('role="asl"', {'control', 'calc'}),
        ('role="asl", condition="Calc"', {'calc'}),
        ('role="asl", sub="sub-01", acq="calc"', {'calc'}),
        ('role=["asl", "m0"], sub=["01", "02"]', {'control', 'calc'}),
        ('role="asl", sub="02"', set()),
        ('role="dsc"', set()),
    ],
)
def test_override_reaches_the_files_it_matches(dataset, collect, overrides, match, conditions):
    dataset.add('perf/acq-control_asl', 'perf/acq-calc_asl')
    (unit,) = collect(dataset, metadata_overrides=overrides(match, 'PostLabelingDelay=2.0'))
    changed = {asl.condition for asl in unit.asl if asl.post_label_delay[0] == 2.0}
    assert changed == conditions
    assert dataset.root / 'o.toml' in unit.files


def test_override_repairs_a_dataset_and_stands_in_the_constants_table(dataset, collect, overrides):
    dataset.add('perf/asl')
    dataset.edit('*_asl.json', PostLabelingDelay=1800)
    path = overrides('role="asl"', 'PostLabelingDelay=1.8', 'scanner protocol')
    (unit,) = collect(dataset, metadata_overrides=path)
    assert unit.problems == ()
    (row,) = [value for value in unit.values if value.name == 'perfusion.post_label_delay']
    assert (row.value, row.origin) == (1.8, 'overrides file: scanner protocol')
    assert row.overruled == '1800 (sidecar sub-01_asl.json)'


def test_override_of_a_family_reaches_all_its_parts(dataset, collect, overrides):
    dataset.add('anat/task-a_MEGRE[phase]')
    for path in dataset.root.rglob('*part-phase*.json'):
        dataset.edit(path.name, Units=None)
    path = overrides('role="megre"', 'Units="rad", MagneticFieldStrength=7.0')
    (unit,) = collect(dataset, metadata_overrides=path)
    assert (len(unit.megre[0].phase), unit.b0) == (4, 7.0)


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ('[[override]]\nmatch={role="asll"}\nset={EchoTime=1}\nsource="x"', 'did you mean asl'),
        ('[[override]]\nmatch={rol="asl"}\nset={EchoTime=1}\nsource="x"', 'did you mean role'),
        ('[[override]]\nmatch={role="asl"}\nset={EchTime=1}\nsource="x"', 'did you mean EchoTime'),
        ('[[override]]\nmatch={role="asl"}\nset={EchoTime=1}', 'source'),
        ('[override]\nmatch={}', 'entries only'),
        ('[[overrides]]\n', 'entries only'),
        ('[[override', 'cannot be read'),
    ],
)
def test_overrides_that_are_not_understood_are_refused(dataset, content, words):
    with pytest.raises(SettingsError, match=words):
        load_overrides(dataset.text('o.toml', content))


def test_missing_overrides_file_is_refused(dataset):
    with pytest.raises(SettingsError, match='cannot be read'):
        load_overrides(dataset.root / 'none.toml')
    assert load_overrides(None) == ()


def test_first_value_wins_and_a_default_is_never_a_loser():
    row = choose('a', '1', [(None, 'setting'), (2.0, 'sidecar'), (3.0, 'default')])
    assert (row.value, row.origin, row.overruled) == (2.0, 'sidecar', '')
    row = choose('a', '1', [(1.0, 'setting'), (1.0, 'sidecar'), (2.0, 'table')])
    assert (row.value, row.overruled) == (1.0, '2 (table)')
    assert choose('a', '1', [(None, 'setting')]) is None
