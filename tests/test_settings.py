"""Settings: one frozen value, made from four sources that win in a fixed order."""

import dataclasses
import math
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_app.errors import SettingsError
from bids_app.models.registry import MODELS
from bids_app.settings import (
    Scale,
    Settings,
    apply,
    declarations,
    field_of,
    flatten,
    parcel_file,
    parcel_tasks,
    preset_reasons,
    presets,
    read_toml,
    resolve,
    schema,
    to_toml,
)


def write(tmp_path, text):
    path = tmp_path / 'settings.toml'
    path.write_text(text)
    return path


def test_command_line_beats_file_beats_preset_beats_default(tmp_path):
    name = 'perfusion.background_suppression_factor'
    file = write(tmp_path, '[perfusion]\nbackground_suppression_factor = 0.8\n')

    def value(**sources):
        return flatten(resolve(**sources))[name]

    assert value() is None
    assert value(preset='epp2025') == 0.75
    assert value(preset='epp2025', config_file=file) == 0.8
    assert value(preset='epp2025', config_file=file, command_line={name: 0.815}) == 0.815


def test_preset_of_the_file_holds_unless_another_is_asked_for(tmp_path):
    file = write(tmp_path, "preset = 'epp2025'\n")
    assert resolve(config_file=file).preset == 'epp2025'
    assert resolve(config_file=file).perfusion.t1_blood == 1.65
    assert resolve(preset='recommended', config_file=file).perfusion.t1_blood is None


def test_recommended_preset_is_the_defaults():
    assert resolve() == Settings()


def test_every_preset_loads_and_says_what_it_is():
    assert {'recommended', 'epp2025'} <= set(presets())
    for name, sentence in presets().items():
        assert resolve(preset=name).preset == name
        assert sentence


NUMBERS = [name for name in flatten(Settings()) if field_of(name)[1] in (float, float | None)]


def within(name, share):
    low, high = field_of(name)[0].metadata['limits']
    return low + share * (min(high, 1e6) - low)


@given(st.dictionaries(st.sampled_from(NUMBERS), st.floats(0, 1), max_size=4))
def test_settings_survive_their_file(tmp_path_factory, shares):
    values = {name: within(name, share) for name, share in shares.items()}
    settings = apply(Settings(), values, 'test')
    file = write(tmp_path_factory.mktemp('toml'), to_toml(settings))
    assert resolve(config_file=file) == settings


def test_settings_file_lists_what_is_unset(tmp_path):
    text = to_toml(Settings())
    assert '# oxygen.hct is not set' in text
    assert read_toml(write(tmp_path, text))['change.bold_q'] == 0.05


def test_settings_cannot_be_changed():
    settings = Settings()
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.oxygen.hct = 0.4
    changed = apply(settings, {'oxygen.hct': 0.4, 'baseline': 'rest'}, 'test')
    assert (settings.oxygen.hct, changed.oxygen.hct, changed.baseline) == (None, 0.4, 'rest')


def test_whole_numbers_are_taken_where_a_fraction_is_expected():
    value = apply(Settings(), {'change.fwhm': 6}, 'test').change.fwhm
    assert (value, type(value)) == (6.0, float)


def test_one_label_is_a_list_of_one():
    assert apply(Settings(), {'contrasts': 'a-b'}, 'test').contrasts == ('a-b',)
    assert apply(Settings(), {'contrasts': ['a-b', 'c-b']}, 'test').contrasts == ('a-b', 'c-b')


@pytest.mark.parametrize(
    ('name', 'value', 'said'),
    [
        ('oxygen.htc', 0.4, 'did you mean oxygen.hct'),
        ('hct', 0.4, 'unknown setting'),
        ('oxygen', 0.4, 'unknown setting'),
        ('oxygen.hct.value', 0.4, 'unknown setting'),
        ('a.b.c', 1, 'unknown setting'),
        ('', 1, 'unknown setting'),
        ('oxygen.hct', '0.4', 'should be of type float'),
        ('oxygen.hct', True, 'should be of type float'),
        ('anatomy.random_seed', 1.5, 'should be of type int'),
        ('anatomy.random_seed', True, 'should be of type int'),
        ('contrasts', 5, 'should be of type str'),
        ('contrasts', [1], 'should be of type str'),
        ('group.yield_fwhm', [4.0, -1.0], 'should be a number from 0 to 100 mm'),
        ('oxygen.oef_model', 'magic', 'is not one of mqbold'),
        ('ignore', ['asl', 'pet'], "'pet' is not one of"),
        ('blood_volume.model', 'guess', 'is not one of dsc'),
    ],
)
def test_wrong_settings_are_named_with_their_origin(name, value, said):
    with pytest.raises(SettingsError, match=said) as caught:
        apply(Settings(), {name: value}, 'my file')
    assert name in str(caught.value)
    if 'unknown' not in said and 'mean' not in said:
        assert 'my file' in str(caught.value)


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('x = = 1', 'not a TOML file'),
        ('preset = "magic"', 'unknown preset'),
        ('preset = ["recommended"]', 'unknown preset'),
        ('[oxygen]\nhct = "much"', 'should be of type'),
        ('[oxygen.hct]\nvalue = 1', 'should be of type'),
        ('oxygen = 3', 'unknown setting'),
    ],
)
def test_wrong_settings_file_is_an_error_of_usage(text, said, tmp_path):
    with pytest.raises(SettingsError, match=said):
        resolve(config_file=write(tmp_path, text))


def test_absent_settings_file_is_an_error_of_usage(tmp_path):
    with pytest.raises(SettingsError, match='cannot read the settings file'):
        resolve(config_file=tmp_path / 'none.toml')
    (tmp_path / 'binary.toml').write_bytes(b'\xff\xfe\x00')
    with pytest.raises(SettingsError, match='not a TOML file'):
        resolve(config_file=tmp_path / 'binary.toml')


@pytest.mark.parametrize('name', NUMBERS)
def test_default_of_a_number_lies_within_its_limits(name):
    low, high = field_of(name)[0].metadata['limits']
    default = flatten(Settings())[name]
    assert low < high
    assert default is None or low <= default <= high


def test_former_name_is_refused_with_the_new_one(monkeypatch):
    declaration, kind = field_of('oxygen.hct')
    metadata = {**declaration.metadata, 'former': ('oxygen.haematocrit',)}
    renamed = SimpleNamespace(metadata=metadata)
    monkeypatch.setattr(schema, 'declarations', lambda: {'oxygen.hct': (renamed, kind)})
    with pytest.raises(SettingsError, match=r'is now called .oxygen[.]hct.'):
        field_of('oxygen.haematocrit')


@pytest.mark.parametrize('name', ['oxygen.oef_model', 'relaxometry.r2_prime_model'])
def test_former_name_of_a_value_is_refused_with_the_new_one(name):
    with pytest.raises(SettingsError, match=r"'published' is now called 'epp2025'"):
        apply(Settings(), {name: 'published'}, 'settings.toml')


def test_no_former_name_is_that_of_a_setting():
    former = [old for one, _ in declarations().values() for old in one.metadata['former']]
    assert not set(former) & set(declarations())


def test_scale_of_a_replay_names_a_model_of_its_quantity():
    scales = [one.metadata['replay'] for one, _ in declarations().values()]
    scales = [scale for scale in scales if isinstance(scale, Scale)]
    assert len(scales) == 4
    assert all(scale.model in MODELS[scale.quantity] for scale in scales)


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('oxygen.hct', float('nan')),
        ('oxygen.hct', 42.0),
        ('oxygen.sao2', 98.0),
        ('change.fwhm', float('inf')),
        ('change.fwhm', -1.0),
        ('anatomy.random_seed', -1),
        ('perfusion.labeling_efficiency', 0.0),
        ('change.bold_q', 5.0),
    ],
)
def test_number_that_cannot_be_meant_is_refused_with_its_limits(name, value):
    with pytest.raises(SettingsError, match=rf'command line: {name} = .* should be a number from'):
        apply(Settings(), {name: value}, 'command line')


@pytest.mark.parametrize('name', [n for n, v in flatten(Settings()).items()
                                  if isinstance(v, float)])  # fmt: skip
def test_defaults_lie_within_their_limits_and_no_number_may_be_nan(name):
    default = flatten(Settings())[name]
    assert flatten(apply(Settings(), {name: default}, 'x'))[name] == default
    with pytest.raises(SettingsError):
        apply(Settings(), {name: float('nan')}, 'x')


def test_every_number_has_a_range_of_its_own_with_two_ends():
    kinds = (float, float | None, int, int | None, tuple[float, ...])
    for name in flatten(Settings()):
        field, kind = field_of(name)
        if kind in kinds:
            low, high = field.metadata['limits']
            assert low < high < math.inf, name


def test_the_phase_of_a_field_map_can_be_turned_as_the_report_advises():
    for name in ('relaxometry.phase_scale', 'anatomy.fieldmap_phase_scale'):
        assert flatten(apply(Settings(), {name: -1.0}, 'x'))[name] == -1.0


@pytest.mark.parametrize('preset', presets())
def test_every_difference_of_a_preset_has_its_reason(preset):
    ours, default = flatten(resolve(preset=preset)), flatten(Settings())
    different = {name for name in ours if name != 'preset' and ours[name] != default[name]}
    assert different <= set(preset_reasons(preset))


def test_table_of_a_preset_is_found_by_its_name():
    volume = resolve(preset='epp2025').blood_volume
    assert parcel_file(volume).is_file()
    assert parcel_tasks(volume) == ('calc',)
    own = apply(Settings(), {'blood_volume.parcel_table': 'mine.tsv'}, 'x').blood_volume
    assert (str(parcel_file(own)), parcel_tasks(own)) == ('mine.tsv', None)
