"""
Write the pages of docs/reference that repeat tables of the code, graph and figure of the README.

Usage
-----
``python tools/make_docs.py`` writes them, ``--check`` only says which are stale (exit code 1).
Every page is a function without side effects that returns Markdown; `PAGES` lists them.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
import tempfile
from enum import Enum
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import networkx as nx

    from bids_app.bids.scans import ParticipantInputs

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / 'docs' / 'reference'
README = ROOT / 'README.md'
NOTICE = '<!-- Made by tools/make_docs.py from {source}; do not edit. -->'
ARCHITECTURE = ROOT / 'docs' / 'architecture.md'
DISPUTE = ROOT / 'docs' / '_static' / 'dispute.svg'
GRAPH_MARKS = ('<!-- graph -->', '<!-- /graph -->')
FOLDER_MARKS = ('<!-- folders -->', '<!-- /folders -->')

# ------------------------------------------------------------------------------------ markdown


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Markdown table; pipes and line ends in the cells are made harmless."""

    def line(cells: Sequence[object]) -> str:
        texts = [str(cell).replace('\n', ' ').replace('|', r'\|').strip() for cell in cells]
        return '| ' + ' | '.join(texts) + ' |'

    return '\n'.join([line(header), line(['---'] * len(header)), *map(line, rows)])


def code(text: object) -> str:
    """Text in code style, empty where there is none."""
    return f'`{text}`' if str(text) else ''


def codes(items: Iterable[object]) -> str:
    return ', '.join(code(item) for item in items)


def page(title: str, source: str, *parts: str) -> str:
    return '\n\n'.join([f'# {title}', NOTICE.format(source=source), *parts]) + '\n'


# --------------------------------------------------------------------------------------- pages


def settings_page() -> str:
    from bids_app.settings import Settings, flatten, preset_reasons, presets, resolve

    parts = [
        'Every setting has one dotted name. It is a key of the file given to `--config-file`\n'
        '(TOML; the part before the dot is the table), and `--set NAME=VALUE` sets any of them.\n'
        'Settings that are used often have an option of their own. What is written later wins:\n'
        'default, preset, configuration file, command line. The settings of a run are kept in\n'
        '`logs/sub-XX_settings.toml`, which is itself a configuration file.'
    ]
    branches: dict[str, list[Sequence[object]]] = {}
    for name in flatten(Settings()):
        branches.setdefault(name.rpartition('.')[0], []).append(_setting_row(name))
    header = ('Setting', 'Default', 'Unit', 'Option', 'Meaning')
    for branch, rows in branches.items():
        cls = type(getattr(Settings(), branch)) if branch else Settings
        title = branch.replace('_', ' ') or 'the whole run'
        parts += [f'## {title.capitalize()}', (cls.__doc__ or '').strip(), table(header, rows)]
    parts += ['## Presets', 'Chosen with `--preset` or `preset = ...` in the file.']
    for name, description in presets().items():
        parts.append(f'### {name}\n\n{description}')
        reasons = preset_reasons(name)
        changed = [
            (code(key), code(value), code(flatten(Settings())[key]), reasons[key])
            for key, value in flatten(resolve(preset=name)).items()
            if key != 'preset' and value != flatten(Settings())[key]
        ]
        if changed:
            parts.append(table(('Setting', 'Value', 'Recommended', 'Why they differ'), changed))
    return page('Settings', 'bids_app/settings/schema.py', *parts)


def _setting_row(name: str) -> Sequence[object]:
    from bids_app.settings import Settings, field_of, flatten

    metadata = field_of(name)[0].metadata
    default = flatten(Settings())[name]
    meaning = metadata['help']
    if metadata['choices']:
        meaning += f'; one of {codes(metadata["choices"])}'
    shown = ' '.join(map(str, default)) if isinstance(default, tuple) else default
    return (
        code(name),
        code(shown) if shown not in (None, '') else '',
        '' if metadata['unit'] in ('', '1') else metadata['unit'],
        code(metadata['flag']),
        meaning,
    )


def models_page() -> str:
    from bids_app.models.registry import MODELS, UNITS
    from bids_app.reports.citations import load_references

    references = load_references()
    parts = [
        'Every quantity has a table of models that can be exchanged for one another. All return\n'
        'value, random variance, status and degrees of freedom of every voxel. The sentence is\n'
        'the one of the methods text in the report. How to add a model: CONTRIBUTING.md.'
    ]
    for quantity, models in MODELS.items():
        parts.append(f'## {quantity}')
        for position, (name, spec) in enumerate(models.items()):
            reference = references[spec.citation]
            module, _, function = spec.function.partition(':')
            rows: list[Sequence[object]] = [
                ('unit', '' if UNITS[quantity] == '1' else UNITS[quantity]),
                ('maps', codes(spec.maps)),
                ('data', codes(spec.data)),
                ('parameters', codes(spec.parameters)),
                ('function', code(f'{module}.{function}')),
                ('reference', cite(reference)),
            ]
            link = f'[{name}]({model_name(quantity, name)}.md)'
            title = f'### {link}' + (' (default)' if position == 0 and len(models) > 1 else '')
            parts += [title, f'{spec.methods}.', table(('', ''), [row for row in rows if row[1]])]
    return page('Models', 'bids_app/models/registry.py', *parts)


def cite(reference: Any) -> str:
    """Write a reference with its address, where it has one."""
    return f'{reference.text} <{reference.link}>' if reference.link else reference.text


def model_name(quantity: str, name: str) -> str:
    """Name of the page of a model, below docs/reference."""
    return f'models/{quantity}-{name}'


def model_page(quantity: str, name: str) -> str:
    """Make the page of one model: equation, where it holds, constants, sources, a figure."""
    import yaml

    from bids_app.bids.products import PRODUCTS
    from bids_app.models.registry import MODELS
    from bids_app.reports.citations import load_references
    from bids_app.settings import Settings, flatten

    spec = MODELS[quantity][name]
    about = yaml.safe_load((ROOT / 'tools' / 'models.yml').read_text('utf-8'))[
        f'{quantity}/{name}'
    ]
    references = load_references()
    cited = [references[key] for key in dict.fromkeys([spec.citation, *about.get('further', [])])]
    module, _, function = spec.function.partition(':')
    known = flatten(Settings())
    settings = {
        parameter: f'{PRODUCTS[quantity].branch}.{parameter}' for parameter in spec.constants
    }
    constants = [_setting_row(name) for name in settings.values() if name in known]
    others = [parameter for parameter, name in settings.items() if name not in known]
    others += [*spec.data, *spec.maps]
    figure = '\n'.join(f'   {line}'.rstrip() for line in about['code'].strip().splitlines())
    return page(
        f'{quantity}: {name}',
        'bids_app/models/registry.py and tools/models.yml',
        f'{spec.methods}.',
        f'## Equation\n\n$$\n{about["equation"]}\n$$',
        f'## Where it holds\n\n{about["valid"]}',
        '## Constants',
        table(('Setting', 'Default', 'Unit', 'Option', 'Meaning'), constants)
        if constants
        else 'None of its own.',
        f'From the data or other maps: {codes(others)}. Function: {code(f"{module}.{function}")}.',
        '## Sources',
        '\n'.join(f'- {cite(reference)}' for reference in cited),
        '## Figure',
        f'```{{eval-rst}}\n.. plot::\n   :alt: {about["alt"]}\n\n{figure}\n```',
    )


def maps_of_role(role: Any) -> list[str]:
    """Name the maps that are made of the files of a role."""
    from bids_app.bids.products import labels_behind

    further = {
        't1w': ['anatomy', 'template', 'concordance'],
        'bold': ['boldPct', 'concordance'],
        'phase': ['fieldmap'],
    }
    own = further.get(role.ignore) or labels_behind(role.family)
    return own or labels_behind(role.ignore)


def inputs_page() -> str:
    from bids_app.bids.input.query import load_roles

    rows = [
        (
            code(name),
            code(f'{role.datatype}/*_{"|".join(role.suffix)}{role.extension[0]}'),
            _entities(role.entities),
            ', '.join(maps_of_role(role)),
            code(f'--ignore {role.ignore}') if role.ignore else '',
            role.description,
        )
        for name, role in load_roles().items()
    ]
    header = ('Role', 'File', 'Entities', 'Maps made of it', 'Left alone by', 'Meaning')
    return page(
        'Inputs',
        'bids_app/data/inputs.yml',
        'Files are found by *role*. Everything is optional: a role that is absent costs the maps\n'
        'it feeds, and the report says so. Roles are also the keys of `--bids-filter-file`,\n'
        'where `null` means that an entity must be absent.',
        table(header, rows),
        'Which condition a scan belongs to: [conditions](conditions.md). Times are read in\n'
        'seconds as BIDS defines them, and a value out of range is an error that names file,\n'
        'field, value and remedy; nothing is converted silently.',
        '## Ranges',
        'Ends are included. A value outside costs its scan, and the message names file, key,\n'
        'value and range; zeros at volumes that carry no label are not judged.',
        table(('Key', 'From', 'To', 'Unit'), _ranges()),
        '## From `participants.tsv`',
        table(
            ('Quantity', 'Column', 'Unit', 'Without it'),
            [
                (
                    'large-vessel haematocrit',
                    codes(('Hct', 'hct', 'haematocrit', 'hematocrit')),
                    '`Units` of participants.json: `percent`, `%`, `1` or `fraction`',
                    '0.42, with a warning',
                ),
                (
                    'arterial oxygen saturation',
                    codes(('SaO2', 'sao2', 'O2sat')),
                    'likewise',
                    '0.98, with a warning',
                ),
                (
                    'saturation of venous blood and its error',
                    codes(('Yv', 'SvO2', 'Yv_se', 'SvO2_se')),
                    'likewise; or of sessions.tsv, which goes before',
                    'by T2; error 0.04',
                ),
                (
                    'T2 of venous blood and its error',
                    codes(('T2v', 'venousT2', 'T2v_se', 'venousT2_se')),
                    'likewise: `ms` or `s`',
                    '[no anchor of OEF](../explanation/venous-blood.md)',
                ),
            ],
        ),
    )


def _ranges() -> list[tuple[str, ...]]:
    """Rows of the numbers that are read."""
    from bids_app.bids.input.sidecar import RANGES, TIMES

    units = dict.fromkeys(TIMES, 's') | {'MagneticFieldStrength': 'T', 'SliceThickness': 'mm'}
    return [
        (code(key), f'{low:g}', f'{high:g}', units.get(key, ''))
        for key, (low, high) in RANGES.items()
    ]


def _entities(entities: Mapping[str, Any]) -> str:
    """Values that entities of a role may have."""
    shown = []
    for name, values in entities.items():
        listed = values if isinstance(values, list) else [values]
        shown.append(
            ' or '.join(f'no `{name}-`' if v is None else f'`{name}-{v}`' for v in listed)
        )
    return ', '.join(shown)


def outputs_page() -> str:
    from bids_app.bids.output.names import table as output_table

    outputs = output_table()
    parts = [
        'Templates: `{x}` is given, `[..{x}..]` is left out where there is none. Every image and\n'
        'table in a folder has a JSON sidecar with unit, description, sources, model and the\n'
        'constants that were used. NaN means "no estimate", and the status map says why\n'
        '([status codes](status.md)); zero means zero. Names that the BIDS schema does not know\n'
        'yet (N) are listed in `.bidsignore`.',
        '## Quantities',
        table(
            ('In names', 'Quantity', 'Unit on disk', 'Folder'),
            [(code(q.key), q.name, q.unit, code(q.folder)) for q in outputs.quantities.values()],
        ),
    ]
    makers: dict[str, list[Any]] = {}
    for row in outputs.rows.values():
        makers.setdefault(row.made_by, []).append(row)
    for maker, rows in makers.items():
        parts.append(f'## Made by {maker}')
        parts += [_output_text(row) for row in rows]
    return page('Outputs', 'bids_app/data/outputs.yml', *parts)


def _output_text(row: Any) -> str:
    """Heading, table and columns of one row of the output table."""
    facts: list[Sequence[object]] = [
        ('path', code(row.path + row.extension[0])),
        ('made when', row.when),
        ('unit', row.unit or ('that of the quantity' if row.quantity or row.quantities else '')),
        ('for', codes(row.labels or row.quantities)),
        ('statistics', codes(row.statistics)),
        ('in the BIDS schema', {'S': 'yes', 'N': 'not yet'}[row.schema]),
    ]
    text = f'### {row.key}\n\n{row.description}.\n\n'
    text += table(('', ''), [fact for fact in facts if fact[1]])
    if row.columns:
        columns = [
            (code(name), column.get('unit', ''), column['description'])
            for name, column in row.columns.items()
        ]
        if row.further_columns:
            columns.append(('any other', '', row.further_columns))
        text += '\n\n' + table(('Column', 'Unit', 'Meaning'), columns)
    return text


def status_page() -> str:
    from bids_app.models.concordance.labels import LABEL_COLORS, LABEL_NAMES
    from bids_app.models.status import DESCRIPTIONS, FIRST_FLAG

    header = ('Code', 'Name', 'Meaning', 'Value in the map')
    return page(
        'Codes of status and label maps',
        'bids_app/models/status.py and bids_app/models/concordance/labels.py',
        '## Status',
        f'Codes from {FIRST_FLAG} on are cautions: the value is kept. Below, except 0, there is\n'
        'no value. The table is also written to `desc-status_dseg.tsv`.',
        table(
            header,
            [
                (
                    int(status),
                    code(status.name),
                    text,
                    'NaN' if 0 < status < FIRST_FLAG else 'estimate',
                )
                for status, text in DESCRIPTIONS.items()
            ],
        ),
        '## Concordance labels',
        'Written to `seg-concordance_dseg.tsv` and `seg-concordanceSign_dseg.tsv`; the sign rule\n'
        'has no undetermined voxels. What they mean: [labels](../explanation/labels.md).',
        table(
            ('Index', 'Name', 'Colour'),
            [(int(k), name, code(LABEL_COLORS[k])) for k, name in LABEL_NAMES.items()],
        ),
    )


def cli_page() -> str:
    from bids_app.cli.parser import make_parser

    parser = make_parser()
    parts = [
        '```bash\noxybold BIDS_DIR OUTPUT_DIR {participant,group} [options]\n```',
        f'{parser.description} Options may be spelt with underscores too. Exit codes:\n'
        '[one table](exit-codes.md).',
    ]
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.help != '==SUPPRESS==']
        if actions:
            parts += [f'## {(group.title or "").capitalize()}', _option_table(actions)]
    parts += [
        '## The digital study',
        '```bash\noxybold-phantom OUT [options]\n```',
        'Makes a study in raw BIDS with the truth beside it; the same arguments give the same\n'
        'bytes.',
        _option_table(_phantom_actions()),
    ]
    return page('Command line', 'bids_app/cli/parser.py and bids_app/phantom/cli.py', *parts)


def _phantom_actions() -> list[argparse.Action]:
    """Arguments of oxybold-phantom, whatever its module calls the maker of the parser."""
    from bids_app.phantom import cli

    return list(cli.make_parser()._actions)


def _option_table(actions: Iterable[argparse.Action]) -> str:
    """Options with their values; made here, for argparse prints them by Python version."""
    rows = []
    for action in actions:
        values = action.metavar or ''
        if not values and action.choices:
            values = '{' + ','.join(map(str, action.choices)) + '}'
        elif not values and action.option_strings and action.nargs != 0:
            values = (action.type is not None and action.dest.upper()) or 'VALUE'
        names = action.option_strings or [str(values) or action.dest]
        shown = f' {values}' if action.option_strings and values else ''
        more = ' ...' if action.nargs == '+' else ''
        meaning = (action.help or '') % {
            'default': action.default,
            'prog': 'oxybold',
        }
        rows.append((codes(f'{name}{shown}{more}' for name in names), meaning))
    return table(('Argument', 'Meaning'), rows)


def performance_page() -> str:
    """Time and memory beside their limits, and the steps of a participant of study size."""
    measured = json.loads((ROOT / 'benchmarks' / 'performance.json').read_text('utf-8'))
    rows = [
        (row['part'], row['what'], f'{row["measured"]:g} {row["unit"]}',
         f'{row["against"]}: {row["limit"]:g} {row["unit"]}', f'{row["ratio"]:g}',
         code(row['command']))
        for row in measured['rows']
    ]  # fmt: skip
    total = sum(step['seconds'] for step in measured['steps'])
    steps = [
        (step['step'], step['nodes'], f'{step["seconds"]:.1f}',
         f'{100 * step["seconds"] / total:.1f} %', f'{step["longest"]:.1f}',
         f'{step["memory"]:.2f}')
        for step in measured['steps']
    ]  # fmt: skip
    heads = ('Part', 'What', 'Measured', 'Peer or limit', 'Ratio', 'Command')
    return page(
        'Performance',
        'benchmarks/performance.json',
        'Every row is measured by its command, and its ratio is to the limit that was set, or\n'
        'to the named program in the same run: below 1 is better. `make bench` measures all anew\n'
        'and writes this page; `make bench ARGS=--quick` leaves out what takes longest, and\n'
        'indexing needs `--tree FOLDER`. Rows may come from different days; other work on the\n'
        'machine lengthens them.',
        table(heads, rows),
        '## Steps of a participant of study size',
        'Digital participant, two conditions, all kinds of scan, 2 processes. Seconds are of\n'
        'each process; two run at a time. Memory is that of all processes together while a step\n'
        'ran, so that it also holds what ran beside it.',
        *filter(None, [measured['note']]),
        table(('Step', 'Nodes', 'Seconds', 'Share', 'Longest node, s', 'Memory, GB'), steps),
        '## What would make it faster',
        'Nearly all of the time is registration: of the T1w image to the template, and of every\n'
        'scan to the T1w image. `--sloppy` shortens it (for trying out only), and preprocessed\n'
        'anatomy given with `-d fmriprep=FOLDER` leaves out the first. `--low-mem` runs one step\n'
        'at a time in less memory and more time.',
    )


def validation_page() -> str:
    """Every number that was measured beside its bar, by topic, with its commit and day."""
    header, *lines = (
        line.split('\t')
        for line in (ROOT / 'benchmarks' / 'validation.tsv').read_text('utf-8').splitlines()
    )
    rows = [dict(zip(header, line, strict=True)) for line in lines]
    topics: dict[str, list[tuple[str, ...]]] = {}
    for row in rows:
        topics.setdefault(row['topic'], []).append(
            (
                row['what'],
                row['bar'],
                row['measured'],
                code(row['command']),
                f'{row["commit"]}, {row["date"]}',
            )
        )
    heads = ('What', 'Bar', 'Measured', 'By', 'Commit and day')
    return page(
        'Validation',
        'benchmarks/validation.tsv',
        'Each number was measured by its command on the commit and day beside it, and not since:\n'
        'tests of the same names run with every commit, these measurements take longer. The bar\n'
        'was set before. `python tools/record_validation.py TOPIC ROWS.json` replaces rows.',
        *(part for topic, made in topics.items() for part in (f'## {topic}', table(heads, made))),
    )


def api_page() -> str:
    """Print what is meant to be used from Python, from its docstrings."""
    import oxybold

    names = [name for name in oxybold.__all__ if not name.startswith('_')]
    parts = [
        'What `import oxybold` gives. The text is that of `help(oxybold.NAME)`; every example is\n'
        'run by `make check`, in the module that is named. How they work together:\n'
        '[use oxybold from Python](../how-to/python.md).',
        table(('Name', 'What it is'),
              [(f'[`{name}`](#{name.lower()})', _summary(getattr(oxybold, name)))
               for name in names]),
        *(_api_entry(name, getattr(oxybold, name)) for name in names),
    ]  # fmt: skip
    return page('Python API', 'the docstrings of what oxybold/__init__.py names', *parts)


def _summary(thing: object) -> str:
    return _markdown((inspect.getdoc(thing) or '').partition('\n\n')[0].replace('\n', ' '))


def _api_entry(name: str, thing: Any) -> str:
    """Signature and docstring of a public name as Markdown."""
    from numpydoc.docscrape import NumpyDocString

    found = NumpyDocString(inspect.getdoc(thing) or '')
    parts = [f'## {name}', f'```python\n{_signature(name, thing)}\n```', _summary(thing)]
    parts += [_markdown('\n'.join(found['Extended Summary']))] if found['Extended Summary'] else []
    for title in ('Parameters', 'Returns', 'Raises'):
        rows = [
            (
                code(one.name or one.type),
                one.type if one.name else '',
                _markdown(' '.join(one.desc)),
            )
            for one in found[title]
        ]
        parts += [table((title, 'Type', 'Meaning'), rows)] if rows else []
    for title in ('Notes', 'References'):
        text = _markdown('\n'.join(found[title]))
        parts += [f'**{title}**', text] if text else []
    if inspect.isclass(thing):
        members = [
            (code(member), _summary(value))
            for member, value in vars(thing).items()
            if not member.startswith('_') and inspect.getdoc(value)
            and (callable(value) or isinstance(value, property | cached_property | classmethod))
        ]  # fmt: skip
        parts += [table(('Member', 'What it is'), members)] if members else []
    if found['Examples']:
        example = '\n'.join(found['Examples'])
        parts += [f'**Example**, in `{thing.__module__}`', f'```python\n{example}\n```']
    return '\n\n'.join(parts)


def _signature(name: str, thing: Any) -> str:
    """Names of the arguments with their defaults; types stand in the table."""
    if not callable(thing) or (inspect.isclass(thing) and issubclass(thing, Enum)):
        return f'oxybold.{name}'
    signature = inspect.signature(thing)
    bare = [one.replace(annotation=inspect.Parameter.empty)
            for one in signature.parameters.values()]  # fmt: skip
    arguments = signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)
    return f'oxybold.{name}{arguments}'


def _markdown(text: str) -> str:
    """Turn the reStructuredText of a docstring into Markdown."""
    text = re.sub(
        r'^\.\. math::[ ]*(.*(?:\n(?:[ ]+.*|(?=\n[ ]{4})))*)',
        lambda found: f'$$\n{found[1].strip()}\n$$',
        text,
        flags=re.MULTILINE,
    )
    text = re.sub(r':math:`([^`]*)`', lambda found: f'${found[1]}$', text)
    text = re.sub(r':\w+:`~?([^`]*)`', r'`\1`', text).replace('``', '`')
    text = re.sub(r'^\.\. \[(\d+)\] ', r'\1. ', text, flags=re.MULTILINE)
    return re.sub(r'\[(\d+)\]_', r'[\1]', text)


PAGES: dict[str, Callable[[], str]] = {
    'api': api_page,
    'settings': settings_page,
    'models': models_page,
    'inputs': inputs_page,
    'outputs': outputs_page,
    'status': status_page,
    'cli': cli_page,
    'performance': performance_page,
    'validation': validation_page,
}
"""Name in docs/reference -> what writes it."""

# --------------------------------------------------------------------------------------- graph


def graph_block() -> str:
    """Mermaid drawing of a participant with everything measured, in two conditions."""
    from bids_app.settings import RunSettings, Settings
    from bids_app.workflows.participant import init_participant_wf

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        workflow, _ = init_participant_wf(
            inputs=example_inputs(root),
            settings=Settings(),
            run=RunSettings(bids_dir=root, output_dir=root, level='participant'),
        )
    return f'```mermaid\n{draw(_overview(workflow._graph))}```'


def example_inputs(root: Path) -> ParticipantInputs:
    """Make inputs of a participant with every kind of scan; the files are empty."""
    from bids_app.bids import scans as acq

    def touch(name: str) -> Path:
        path = root / name
        path.touch()
        return path

    def echoes(kind: str, condition: str | None) -> acq.EchoSeries:
        names = [f'{kind}_{condition}_{part}' for part in ('mag', 'phase')]
        return acq.EchoSeries(
            condition=condition,
            run=None,
            magnitude=tuple(touch(f'{names[0]}_{echo}.nii') for echo in range(4)),
            phase=tuple(touch(f'{names[1]}_{echo}.nii') for echo in range(4))
            if kind == 'megre'
            else (),
            echo_times=(0.01, 0.02, 0.03, 0.04),
        )

    def labeling(condition: str) -> acq.AslSeries:
        m0 = acq.M0Image(kind='Separate', file=touch(f'm0_{condition}.nii'), repetition_time=5.0)
        return acq.AslSeries(
            condition=condition,
            run=None,
            file=touch(f'asl_{condition}.nii'),
            context=('control', 'label'),
            label_type='PCASL',
            label_duration=(1.8, 1.8),
            post_label_delay=(1.8, 1.8),
            labeling_efficiency=0.85,
            m0=m0,
        )

    conditions = ('control', 'calc')
    return acq.ParticipantInputs(
        participant='01',
        conditions=conditions,
        baseline='control',
        contrasts=(acq.Contrast(task='calc', baseline='control'),),
        t1w=(touch('t1w.nii'),),
        mese=(echoes('mese', None),),
        megre=tuple(echoes('megre', condition) for condition in conditions),
        asl=tuple(labeling(condition) for condition in conditions),
        dsc=(
            acq.DscSeries(
                condition=None,
                run=None,
                file=touch('dsc.nii'),
                echo_time=0.03,
                repetition_time=1.5,
            ),
        ),
        bold=(
            acq.BoldRun(
                task='all',
                run=None,
                file=touch('bold.nii'),
                events_file=touch('events.tsv'),
                events=(acq.Event(onset=30.0, duration=60.0, trial_type='calc'),),
                repetition_time=1.2,
                n_volumes=400,
            ),
        ),
        b0=3.0,
        hct=0.42,
        sao2=0.98,
    )


def _overview(graph: nx.DiGraph) -> nx.DiGraph:
    """
    Reduce the top level of a graph to its parts and the quantities they hand on.

    Single nodes (resampling, saving) are left out and their neighbours joined; conditions are
    drawn once; an arrow that carries no quantity and follows from others is left out, and so is
    the baseline value that a change in percent is divided by.
    """
    import networkx as nx

    overview = nx.DiGraph()
    for source in filter(_is_part, graph):
        overview.add_node(_part(source.name))
        for target, quantities in _next_parts(graph, source):
            pair = _part(source.name), _part(target)
            if pair[0] != pair[1] and (not quantities or quantities - REFERENCES):
                known = overview.get_edge_data(*pair, {'quantities': set()})['quantities']
                overview.add_edge(*pair, quantities=known | quantities - REFERENCES)
    needed = nx.transitive_reduction(overview).edges
    bare = [(u, v) for u, v, found in overview.edges(data='quantities') if not found]
    overview.remove_edges_from([pair for pair in bare if pair not in needed])
    return overview


def _is_part(node: Any) -> bool:
    """Tell whether a node of the top level is a workflow that computes."""
    import nipype.pipeline.engine as pe

    return isinstance(node, pe.Workflow) and not node.name.startswith('save_')


REFERENCES = {f'reference_{name}' for name in ('cbf', 'cbv', 'oef', 'cmro2', 'r2_prime')}
"""Ports of baseline values; only changes in percent need them."""


def _next_parts(graph: nx.DiGraph, source: Any) -> Iterator[tuple[str, set[str]]]:
    """Find the parts reached from one part without passing another, and what they are handed."""
    waiting, seen = [(source, True)], set()
    while waiting:
        node, is_quantity = waiting.pop()
        for target in graph.successors(node):
            connected = graph.edges[node, target]['connect']
            if node is source:
                is_quantity = bool(_quantities(_output(port) for port, _ in connected))
            if _is_part(target):
                yield target.name, _quantities(p for _, p in connected) if is_quantity else set()
            elif (target, is_quantity) not in seen:
                seen.add((target, is_quantity))
                waiting.append((target, is_quantity))


def _output(port: Any) -> str:
    """Name of an output, which nipype may hold with a function that picks from it."""
    return str(port[0] if isinstance(port, tuple) else port)


def _part(name: str) -> str:
    """Name of a part without condition and task."""
    return re.sub(r'_(calcMinusControl|control|calc|all)$', '', name)


def _quantities(ports: Iterable[str]) -> set[str]:
    """Quantities among the ports: those of the registry, and changes; conditions are left out."""
    from bids_app.models.registry import MODELS

    stems = {port.removeprefix('inputnode.').removeprefix('outputnode.') for port in ports}
    return {re.sub(r'^(task|baseline)_', '', stem) for stem in stems} & {
        *MODELS, *REFERENCES, 'bold', 'change', 'quantity',
    }  # fmt: skip


def draw(graph: nx.DiGraph) -> str:
    """Draw the overview as Mermaid text; arrows carry the quantities."""
    lines = ['flowchart LR']
    lines += [f'  {node}["{node.replace("_", " ")}"]' for node in sorted(graph)]
    for source, target, found in sorted(graph.edges(data='quantities'), key=lambda edge: edge[:2]):
        arrow = f'-- "{", ".join(sorted(found))}" -->' if found else '-->'
        lines.append(f'  {source} {arrow} {target}')
    return '\n'.join(lines) + '\n'


def between(marks: tuple[str, str], path: Path, block: str) -> str:
    """Put what was made between its marks in a file written by hand."""
    start, end = marks
    before, _, rest = path.read_text('utf-8').partition(start)
    _, found, after = rest.partition(end)
    if not found:
        sys.exit(f'{path.name} has no {start} ... {end}')
    return f'{before}{start}\n\n{block}\n\n{end}{after}'


def folders_block() -> str:
    """Table of the folders of the package, what may go in, and a drawing of their imports."""
    import ast

    package = ROOT / 'bids_app'
    rows = []
    for path in sorted(package.rglob('__init__.py')):
        if path.parent != package:
            text = ast.get_docstring(ast.parse(path.read_text('utf-8'))) or ''
            name = path.parent.relative_to(package).as_posix()
            rows.append((code(f'{name}/'), text.splitlines()[0]))
    rows += [
        (code(f'{name}.py'), (ast.get_docstring(tree) or '').splitlines()[0])
        for name in ('images', 'units', 'errors')
        for tree in [ast.parse((package / f'{name}.py').read_text('utf-8'))]
    ]
    return '\n\n'.join(
        [
            NOTICE.format(source='the first line of every folder, and its imports'),
            table(('Folder', 'What goes in'), sorted(rows)),
            'What each of them imports, but for what follows from another:',
            '```text\n' + '\n'.join(imports_between_folders()) + '\n```',
        ]
    )


def imports_between_folders() -> list[str]:
    """Draw the imports between folders from top to bottom, a line for each."""
    import grimp
    import networkx as nx

    graph = grimp.build_graph('bids_app', cache_dir=None)
    found = nx.DiGraph()
    for module in graph.modules:
        for other in graph.find_modules_directly_imported_by(module):
            ends = [name.split('.')[1:2] for name in (module, other)]
            if all(ends) and ends[0] != ends[1]:
                found.add_edge(ends[0][0].strip('_'), ends[1][0].strip('_'))
    found.remove_nodes_from([name for name in ('typing', 'main') if name in found])
    reduced = nx.transitive_reduction(found)
    order = [name for rank in nx.topological_generations(reduced) for name in sorted(rank)]
    return [
        f'{name:<11}->  {", ".join(sorted(reduced[name], key=order.index))}'
        for name in order
        if reduced[name]
    ]


def _model_pages() -> dict[str, Callable[[], str]]:
    """List the page of every model."""
    from bids_app.models.registry import MODELS

    return {
        model_name(quantity, name): partial(model_page, quantity, name)
        for quantity, models in MODELS.items()
        for name in models
    }


PAGES |= _model_pages()


def dispute_figure() -> str:
    """Draw what the public table says, from the output of `oxybold-table`, light and dark."""
    import pandas as pd

    from bids_app.reports.published_table import published_figure

    inside = published_figure(pd.read_csv(ROOT / 'docs' / 'explanation' / 'dispute.tsv', sep='\t'))
    width, height = map(float, re.findall(r'viewBox="0 0 (\S+) (\S+)"', inside)[0])
    style = (ROOT / 'bids_app' / 'reports' / 'templates' / 'style.css').read_text('utf-8')
    rules = re.findall(r'\.(?:plane|answer) [^{}]*\{[^}]*\}', style)
    colours = re.findall(r':root \{[^}]*\}', style)
    outer = f'{width + 28:g} {height + 28:g}'
    frame = f'x="-14" y="-14" width="{width + 28:g}" height="{height + 28:g}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-14 -14 {outer}" '
        f'font-family="system-ui, sans-serif"><style>{colours[0]} '
        f'@media (prefers-color-scheme: dark) {{ {colours[1]} }} {" ".join(rules)}</style>'
        f'<rect {frame} rx="10" style="fill: var(--card)"/>'
        + inside.replace('<svg ', f'<svg width="{width:g}" height="{height:g}" ', 1)
        + '</svg>\n'
    )


# ---------------------------------------------------------------------------------------- main


def current() -> dict[Path, str]:
    """Make what every generated file should hold."""
    files = {REFERENCE / f'{name}.md': make() for name, make in PAGES.items()}
    files[README] = between(GRAPH_MARKS, README, graph_block())
    files[DISPUTE] = dispute_figure()
    files[ARCHITECTURE] = between(FOLDER_MARKS, ARCHITECTURE, folders_block())
    return files


def stale() -> list[Path]:
    """Files that differ from what the code says."""
    return [
        path
        for path, text in current().items()
        if not path.is_file() or path.read_text('utf-8') != text
    ]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[1])
    parser.add_argument('--check', action='store_true', help='write nothing; 1 if a file is stale')
    options = parser.parse_args(argv)
    old = stale()
    if options.check:
        for path in old:
            print(f'{path.relative_to(ROOT)} is stale: make reference')
        return int(bool(old))
    files = current()
    for path in old:
        path.parent.mkdir(exist_ok=True)
        path.write_text(files[path], 'utf-8')
        print(f'wrote {path.relative_to(ROOT)}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
