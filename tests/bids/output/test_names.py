"""The output table, its names, sidecars and writers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import product
from pathlib import Path, PurePosixPath

import pytest

from bids_app.bids.output import dataset
from bids_app.bids.output.names import (
    DERIVED,
    match,
    output_path,
    row,
    scale_of,
    source_uri,
    table,
    unit_of,
)
from bids_app.bids.output.write import (
    write_copy,
    write_image,
    write_json,
    write_surface,
    write_table,
    write_text,
)
from bids_app.images import save_surface_map
from bids_app.settings import RunSettings

EXAMPLES = {
    'sub': '01',
    'ses': 'a',
    'condition': 'calc',
    'task': 'all',
    'run': '1',
    'contrast': 'calcMinusControl',
    'atlas': 'Schaefer2018',
    'figure': 'sub-01_desc-cbf',
    'res': '2',
    'column': 'age',
    'template': 'MNI152NLin2009cAsym',
    'hemi': 'L',
    'den': '32k',
}
ORDER = [
    *('sub', 'tpl', 'ses', 'cohort', 'task', 'acq', 'run', 'from', 'to', 'mode', 'hemi', 'space'),
    *('atlas', 'seg', 'scale', 'res', 'den', 'label', 'contrast', 'stat', 'desc'),
]
ROWS = sorted(table().rows)


def values_of(key: str, name: str) -> tuple[str, ...]:
    """Every value an entity can take in a row, or one example."""
    target = row(key)
    if name in ('label', 'scan', 'variant', 'seg'):
        return target.labels or tuple(table().scans)
    if name == 'quantity':
        return target.quantities
    if name == 'statistic':
        return target.statistics
    if name == 'space':
        is_group = target.standard_space or target.path.startswith('tpl-')
        return table().spaces if is_group else ('MESE',)
    return (EXAMPLES[name],)


def every_set(key: str, *, optional: bool) -> list[dict[str, str]]:
    """Entities of a row in all combinations, with or without the optional ones."""
    target = row(key)
    names = [n for n in target.entities if optional or n in target.required]
    if {'condition', 'task'} <= set(names):
        names.remove('condition')
    sets = [
        dict(zip(names, chosen, strict=True))
        for chosen in product(*(values_of(key, name) for name in names))
    ]
    for entities in sets:
        if 'res' in entities and 'space' in entities:
            entities['space'] = 'MNI152NLin6Asym'
    return sets


# ----------------------------------------------------------------------------------- the table


@pytest.mark.parametrize('key', ROWS)
def test_row_is_complete(key: str) -> None:
    target = row(key)
    assert target.schema in ('S', 'N')
    assert target.format in ('image', 'surface', 'table', 'json', 'text', 'copy')
    assert target.description
    assert target.when
    if target.format == 'image':
        assert target.dtype in ('float32', 'uint8')
        assert target.skull_stripped is not None
    if target.format == 'table':
        assert target.columns
        assert all(about['description'] for about in target.columns.values())
        assert all(set(about) <= {'description', 'unit'} for about in target.columns.values())


@pytest.mark.parametrize('key', ROWS)
@pytest.mark.parametrize('optional', [False, True])
def test_match_inverts_output_path(key: str, optional: bool) -> None:
    for entities in every_set(key, optional=optional):
        extensions = [*row(key).extension, *(['.json'] if row(key).has_sidecar else [])]
        for extension in extensions:
            path = output_path(key, extension=extension, **entities)
            assert match(path) == (key, entities)


def test_no_two_rows_share_a_name() -> None:
    names: dict[PurePosixPath, str] = {}
    for key in ROWS:
        for optional in (False, True):
            for entities in every_set(key, optional=optional):
                for extension in row(key).extension:
                    path = output_path(key, extension=extension, **entities)
                    assert names.setdefault(path, key) == key


@pytest.mark.parametrize(
    'key', [k for k in ROWS if '/' in row(k).path and not row(k).path.startswith(('logs', 'code'))]
)
def test_entities_stand_in_schema_order(key: str) -> None:
    name = row(key).path.rsplit('/', 1)[-1]
    found = re.findall(r'(?:^|_)([a-z]+)-', re.sub(r'\[|\]', '', name))
    assert found == sorted(found, key=ORDER.index)


@pytest.mark.parametrize('key', ROWS)
def test_unknown_names_are_ignored_and_known_names_are_not(key: str) -> None:
    target = row(key)
    for entities in every_set(key, optional=True):
        path = output_path(key, **entities)
        is_ignored = any(
            PurePosixPath(part).match(line.removeprefix('**/'))
            for line in table().bidsignore
            for part in path.parts
        )
        unknown = path.name.split('.')[0].rsplit('_', 1)[-1] in target.unknown_suffixes
        assert is_ignored == (target.schema == 'N' or unknown), path


def test_every_description_label_is_explained() -> None:
    known = set(table().descriptions)
    for key in ROWS:
        for entities in every_set(key, optional=True):
            for desc in re.findall(r'_desc-([A-Za-z0-9]+)', output_path(key, **entities).name):
                assert desc in known | {entities.get('contrast')}, (key, desc)


def test_contract_of_names() -> None:
    names = {
        'T2map': ({'space': 'MESE'}, 'anat/sub-01_space-MESE_T2map.nii.gz'),
        'status': (
            {'space': 'MESE', 'condition': 'calc', 'quantity': 'cbf'},
            'anat/sub-01_task-calc_space-MESE_desc-cbfStatus_dseg.nii.gz',
        ),
        'fieldmap': ({'condition': 'calc'}, 'fmap/sub-01_acq-calc_desc-B0_fieldmap.nii.gz'),
        'contrast': (
            {
                'space': 'MESE',
                'task': 'all',
                'contrast': 'calcMinusControl',
                'statistic': 'z',
                'quantity': 'boldPct',
            },
            'func/sub-01_task-all_space-MESE_contrast-calcMinusControl'
            '_stat-z_desc-boldPct_statmap.nii.gz',
        ),
        'contrast_percent': (
            {'space': 'MESE', 'contrast': 'calcMinusControl', 'quantity': 'R2prime'},
            'anat/sub-01_space-MESE_contrast-calcMinusControl'
            '_stat-effect_desc-R2primePct_statmap.nii.gz',
        ),
        'concordance': (
            {
                'space': 'MNI152NLin6Asym',
                'res': '2',
                'task': 'all',
                'contrast': 'calcMinusControl',
            },
            'func/sub-01_task-all_space-MNI152NLin6Asym_seg-concordance_res-2'
            '_desc-calcMinusControl_dseg.nii.gz',
        ),
        'reference': ({'scan': 'ASL'}, 'perf/sub-01_space-ASL_desc-reference_asl.nii.gz'),
    }
    for key, (entities, expected) in names.items():
        assert str(output_path(key, sub='01', **entities)) == f'sub-01/{expected}'
    group = output_path(
        'group_contrast',
        space='MNI152NLin6Asym',
        res='2',
        contrast='calcMinusControl',
        statistic='t',
        quantity='cmro2',
    )
    assert str(group) == (
        'tpl-MNI152NLin6Asym/perf/tpl-MNI152NLin6Asym_res-2_contrast-calcMinusControl'
        '_stat-t_desc-cmro2_statmap.nii.gz'
    )


# ------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ('key', 'entities', 'words'),
    [
        ('T2map', {'sub': '01'}, 'missing: space'),
        ('T2map', {'sub': '01', 'space': 'MESE', 'echo': '1'}, 'unknown: echo'),
        ('T2map', {'sub': '0_1', 'space': 'MESE'}, 'not a BIDS label'),
        ('cbv', {'sub': '01', 'space': 'MESE', 'variant': 'other'}, 'not one of dsc'),
        ('reference', {'sub': '01', 'scan': 'T3'}, 'not one of MESE'),
        ('T2map', {'sub': '01', 'space': 'MNI152NLin6Asym', 'res': '7'}, 'not one of 2'),
        (
            'contrast',
            {
                'sub': '01',
                'space': 'MESE',
                'contrast': 'aMinusB',
                'statistic': 'q',
                'quantity': 'cbf',
            },
            'not one of effect',
        ),
    ],
)
def test_wrong_entities_are_refused_by_name(key: str, entities: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        output_path(key, **entities)


def test_unknown_row_and_extension_are_refused() -> None:
    with pytest.raises(KeyError, match='no row'):
        row('nothing')
    with pytest.raises(ValueError, match='extension'):
        output_path('settings', sub='01', extension='.json')


@pytest.mark.parametrize(
    'path',
    [
        'sub-01/anat/sub-02_desc-preproc_T1w.nii.gz',
        'sub-01/perf/sub-01_space-MESE_T2map.nii.gz',
        'sub-01/ses-a/anat/sub-01_space-MESE_T2map.nii.gz',
        'sub-01/anat/sub-01_space-MESE_T2map.nii',
        'sub-01/anat/sub-01_space-MESE_stat-variance_desc-cbf_statmap.nii.gz',
        'logs/sub-01_manifest.toml',
        'x.txt',
    ],
)
def test_a_stray_file_matches_no_row(path: str) -> None:
    assert match(path) is None


def test_none_is_an_absent_entity() -> None:
    assert output_path('T2map', sub='01', ses=None, space='MESE') == output_path(
        'T2map', sub='01', space='MESE'
    )


# ----------------------------------------------------------------------------- units, sidecars


@pytest.mark.parametrize(
    ('key', 'entities', 'unit', 'scale'),
    [
        ('T2map', {}, 's', 1),
        ('R2primemap', {}, '1/s', 1),
        ('cbv', {}, 'percent', 100),
        ('variance', {'quantity': 'cbv'}, '(percent)^2', 1e4),
        ('variance', {'quantity': 'cmro2'}, '(umol/100 g/min)^2', 1),
        ('contrast', {'quantity': 'cbv', 'statistic': 'effect'}, 'percent', 100),
        ('contrast', {'quantity': 'cbv', 'statistic': 'variance'}, '(percent)^2', 1e4),
        ('contrast', {'quantity': 'cbv', 'statistic': 'z'}, '1', 1),
        ('contrast', {'quantity': 'boldPct', 'statistic': 'effect'}, 'percent', 1),
        ('contrast_percent', {'quantity': 'cbv'}, 'percent', 1),
        ('status', {'quantity': 'cbv'}, 'arbitrary', 1),
        ('group_contrast', {'quantity': 'cbv', 'statistic': 'effect'}, 'percent', 100),
    ],
)
def test_units_and_scales_follow_from_quantity_and_statistic(
    key: str, entities: dict, unit: str, scale: float
) -> None:
    assert unit_of(key, **entities) == unit
    assert scale_of(key, **entities) == scale


def test_sources_are_named_by_dataset(tmp_path: Path) -> None:
    raw, out, other = tmp_path / 'raw', tmp_path / 'raw/derivatives/o', tmp_path / 'fmriprep'
    places = {'output_dir': out, 'bids_dir': raw, 'derivatives': {'fmriprep': other}}
    assert source_uri(out / 'sub-01/a.nii', **places) == 'bids::sub-01/a.nii'
    assert source_uri(raw / 'sub-01/a.nii', **places) == 'bids:raw:sub-01/a.nii'
    assert source_uri(other / 'sub-01/a.nii', **places) == 'bids:fmriprep:sub-01/a.nii'
    assert source_uri(tmp_path / 'a.nii', **places).startswith('file:///')


# ------------------------------------------------------------------------------ the whole tree


def write_everything(output_dir: Path, image: Path, labels: Path, *, schema: str = 'SN') -> None:
    """Write a file of every row, in all combinations, with and without optional entities."""
    for key, optional in product(ROWS, (False, True)):
        target = row(key)
        if target.schema not in schema or target.made_by == 'dataset' or key == 'index':
            continue
        for entities in every_set(key, optional=optional):
            place = {'output_dir': output_dir, 'key': key, 'entities': entities}
            write_one(place, labels if target.dtype == 'uint8' else image)


def write_one(place: dict, source: Path) -> None:
    """Write one file with the writer of its format."""
    target = row(place['key'])
    if target.format == 'image':
        write_image(source, sidecar={'Sources': ['bids:raw:x']}, **place)
    elif target.format == 'surface':
        path = save_surface_map([1.0, 2.0], source.with_name('one.gii'), side='left')
        write_surface(Path(path), sidecar={'Sources': ['bids:raw:x']}, **place)
    elif target.format == 'table':
        write_table([dict.fromkeys(target.columns, 1)], **place)
    elif target.format == 'json':
        write_json({}, **place)
    elif target.format == 'text':
        write_text('<p>x</p>', **place)
    else:
        for extension in target.extension:
            write_copy(source, **place, extension=extension)


def validator_errors(folder: Path) -> list[dict]:
    program = Path(sys.executable).with_name('bids-validator-deno')
    if not program.exists():
        pytest.skip('the official validator (bids-validator-deno) is not installed')
    done = subprocess.run(
        [program, folder, '--format', 'json'], capture_output=True, text=True, check=False
    )
    issues = json.loads(done.stdout)['issues']['issues']
    return [issue for issue in issues if issue['severity'] == 'error']


@pytest.fixture
def run(tmp_path: Path) -> RunSettings:
    raw = tmp_path / 'raw'
    raw.mkdir()
    return RunSettings(bids_dir=raw, output_dir=tmp_path / 'out', level='participant')


def test_tree_with_every_row_is_valid_and_every_file_has_a_row(
    run: RunSettings, image: Path, labels: Path
) -> None:
    dataset.prepare_output(run)
    write_everything(run.output_dir, image, labels)
    dataset.update_shared(run.output_dir, lambda _: '<p>index</p>')
    files = [
        path.relative_to(run.output_dir)
        for path in run.output_dir.rglob('*')
        if path.is_file() and dataset.HIDDEN not in path.parts
    ]
    found = {str(path): match(path.as_posix()) for path in files}
    assert [name for name, key in found.items() if key is None] == []
    assert {key for key, _ in found.values()} == set(ROWS)
    assert validator_errors(run.output_dir) == []


def test_rows_of_the_schema_are_valid_without_being_ignored(
    run: RunSettings, image: Path, labels: Path
) -> None:
    dataset.prepare_output(run)
    write_everything(run.output_dir, image, labels, schema='S')
    dataset.update_shared(run.output_dir)
    unknown = {suffix for key in ROWS for suffix in row(key).unknown_suffixes}
    lines = [f'*_{suffix}.*' for suffix in sorted(unknown)]
    (run.output_dir / '.bidsignore').write_text('\n'.join([*lines, '']))
    assert validator_errors(run.output_dir) == []


def test_parts_that_follow_from_others_cannot_be_given() -> None:
    assert not set(DERIVED) & {name for key in ROWS for name in row(key).entities}


def test_group_can_write_every_change_that_participants_carry_to_the_template():
    not_carried = {'boldGatePct', 'boldEstimatePct', 'boldGasPct'}
    carried = set(row('contrast').quantities) - not_carried
    assert carried <= set(row('surface').quantities)
    for key in ('group_contrast', 'group_covariate', 'group_norm', 'norm_z'):
        assert carried <= set(row(key).quantities), key
