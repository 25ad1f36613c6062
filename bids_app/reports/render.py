"""
Render the reports from derivatives alone: participant, group, index.

Nothing of the work directory is needed, so reports can be made again at any time. Every page is
one file that opens offline; values of the data are escaped by the template engine.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from bids_app import __version__
from bids_app.bids.output.names import output_path, table
from bids_app.bids.output.write import atomic_write, write_json
from bids_app.bids.run.outcome import MEANING, Aftermath, State
from bids_app.errors import AppError, MissingInputError
from bids_app.reports.background import Scene, TemplateScene
from bids_app.reports.citations import numbered, resolve
from bids_app.reports.derivatives import (
    Derivative,
    list_derivatives,
    natural,
    read_json,
    read_table,
    root_file,
    select,
)
from bids_app.reports.drawing.charts import draw_chain
from bids_app.reports.glance import PARTS, Glance, glance, remembered
from bids_app.reports.group.answer import answers
from bids_app.reports.group.coupling import coupling_charts
from bids_app.reports.group.deviations import deviations
from bids_app.reports.group.networks import network_cards
from bids_app.reports.group.overview import inclusion_flow, quality_measures
from bids_app.reports.group.people import people, plane
from bids_app.reports.group.published import compare
from bids_app.reports.group.shares import share_table
from bids_app.reports.group.tables import ContrastTables, contrast_tables
from bids_app.reports.page import Section, Step, UnitPage
from bids_app.reports.report_table import FigureRow, report_table
from bids_app.reports.reportlets.base import Reportlet
from bids_app.reports.reportlets.kinds import draw_row
from bids_app.reports.text import (
    cell,
    contrast_words,
    in_words,
    map_title,
    percent,
    raised,
    unit_text,
)
from bids_app.reports.viewer import viewer_file
from bids_app.settings import read_toml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from jinja2 import Environment
    from markupsafe import Markup

    from bids_app.bids.run.outcome import Verdict

VERDICTS = {
    State.COMPLETE: ('good', 'Complete'),
    State.DEGRADED: ('good', 'Complete with the inputs there are'),
    State.SKIPPED: ('good', 'Up to date'),
    State.INCOMPLETE: ('check', 'Incomplete'),
    State.INTERRUPTED: ('check', 'Interrupted'),
    State.FAILED: ('bad', 'Failed'),
}
"""State of a verdict -> how it looks and what it is called."""

RECORDS = {
    'problems': ('role', 'file', 'message', 'code'),
    'values': ('name', 'value', 'unit', 'origin', 'overruled'),
    'maps': ('map', 'condition', 'state', 'reason', 'files'),
    'suspicions': ('kind', 'condition', 'reason'),
    'errors': ('node', 'message', 'trace'),
    'scans': ('scan', 'condition', 'run', 'files', 'facts', 'timing'),
}
"""Lists of the run summary and the fields of their entries."""

QUALITY_COLUMNS = ('condition', 'measure', 'value', 'rule', 'probable_cause')
"""Of the quality tables, as the group report shows them."""

EDGE = re.compile(
    r"""^\s*([\w.-]+?)(?:[\[({].*?[\])}]+)?\s*      # from
    (?:--\s*"(.*?)"\s*)?-+>\s*(?:\|(.*?)\|)?\s*   # arrow with its label before or after
    ([\w.-]+)""",
    re.VERBOSE,
)
"""An arrow of a Mermaid graph: from, label, label, to."""

NODE = re.compile(r'([\w.-]+)[\[({]+"?(.*?)"?[\])}]+')
"""A node of a Mermaid graph with its text."""


class Report(NamedTuple):
    """A page that was written."""

    path: Path
    missing: tuple[str, ...]
    """Why a part of it could not be made, one sentence each."""


def render_participant(output_dir: Path, participant: str) -> Report:
    """
    Write the report of a participant with its figures; a part that fails takes no other along.

    Raises
    ------
    MissingInputError
        If there is no run summary of the participant.
    OutputError
        If the report cannot be written.
    """
    participant = participant.removeprefix('sub-')
    source = root_file(output_dir, 'run_summary', sub=participant)
    summary = read_json(source)
    if not summary:
        msg = f'{source} is absent or not JSON: run the participant level for sub-{participant}'
        raise MissingInputError(msg)
    files = list_derivatives(output_dir, f'sub-{participant}')
    units = [_unit(unit, files, output_dir) for unit in summary.get('units', [])]
    page = _page(output_dir, summary, title=f'sub-{participant}', units=units)
    page['program'] = output_path('viewer').as_posix()
    html = _environment().get_template('participant.html').render(**page)
    _write_figures(output_dir, participant, units)
    record = remembered([unit.glance for unit in units])
    write_json(record, output_dir=output_dir, key='glance', entities={'sub': participant})
    path = root_file(output_dir, 'participant_report', sub=participant)
    return Report(atomic_write(path, html.encode()), _missing_in(units))


def finish(
    verdict: Verdict,
    later: Aftermath,
    *,
    record: Callable[[Verdict], object],
    render: Callable[[], Report],
) -> Verdict:
    """
    Write summary and report; what is missing in the report is said in both.

    `record` writes the summary with a verdict, `render` the report from it.
    """
    for _ in range(2):
        told = later.amend(verdict)
        later.attempt('summary', partial(record, told))
        report = later.attempt('report', render)
        later.missing += report.missing if report else ()
        if later.amend(verdict) == told:
            break
    return later.amend(verdict)


def _missing_in(units: Iterable[UnitPage]) -> tuple[str, ...]:
    """List once what could not be made of the pages."""
    return tuple(dict.fromkeys(text for unit in units for text in unit.unreadable))


def render_group(output_dir: Path) -> Report:
    """
    Write the report of the group; a part that fails takes no other along.

    Raises
    ------
    OutputError
        If the report cannot be written.
    """
    summary = read_json(root_file(output_dir, 'group_run_summary'))
    spaces = sorted(path.name.removeprefix('tpl-') for path in output_dir.glob('tpl-*'))
    units = [_group_unit(space, summary, output_dir) for space in spaces]
    page = _page(output_dir, summary, title='Group', units=units)
    included = [str(label) for label in summary.get('participants') or []]
    page['included'] = included
    files = [file for unit in units for file in unit.files]
    listed = [
        line for file in select(files, 'group_participants') for line in read_table(file.path)
    ]
    page['participants'] = read_table(root_file(output_dir, 'participants'))
    labels = [line['participant_id'] for line in page['participants']]
    later = Aftermath()
    parts: dict[str, Callable[[], Any]] = {
        'answers': lambda: answers(files),
        'deviations': lambda: deviations(files),
        'people': lambda: people(files, output_dir),
        'quality': lambda: _overview(output_dir),
        'coupling': lambda: coupling_charts(output_dir, included),
        'measures': lambda: quality_measures(output_dir, labels),
        'flow': lambda: inclusion_flow(_summaries(output_dir), listed),
        'published': lambda: compare(_preset(output_dir), output_dir, files, included),
        'networks': lambda: network_cards(units),
    }
    for name, make in parts.items():
        page[name] = later.attempt(name, make, ('', ()) if name == 'published' else ())
    page['plane'] = later.attempt('plane', lambda: plane(page['measures'], files), {})
    page['missing'] = later.missing
    html = _environment().get_template('group.html').render(**page)
    path = atomic_write(root_file(output_dir, 'group_report'), html.encode())
    return Report(path, (*later.missing, *_missing_in(units)))


def _overview(output_dir: Path) -> list[dict[str, str]]:
    """List what is unusual in the quality of any participant."""
    found = []
    for path in sorted(output_dir.glob('sub-*'), key=lambda path: natural(path.name)):
        for file in select(list_derivatives(output_dir, path.name), 'cbf_quality'):
            found += [
                {
                    'participant': path.name,
                    **{name: cell(line.get(name, '')) for name in QUALITY_COLUMNS},
                }
                for line in read_table(file.path)
                if line.get('verdict') == 'check'
            ]
    return found


def render_index(output_dir: Path) -> str:
    """Make the page that lists all reports of an output dataset."""
    found = _summaries(output_dir)
    rows = [
        {
            'label': label,
            'report': f'{label}.html' if (output_dir / f'{label}.html').exists() else '',
            'look': _verdict(found[label]),
            'reasons': _reasons(found[label]),
            'conditions': sorted({c for unit in _units(found[label]) for c in unit['conditions']}),
            'made': _made(found[label]),
            'order': ('good', 'check', 'bad').index(_verdict(found[label])[0]),
            **remembered(()),
            **read_json(root_file(output_dir, 'glance', sub=label.removeprefix('sub-'))),
        }
        for label in sorted(found, key=natural)
    ]
    has_group = root_file(output_dir, 'group_report').exists()
    page = _page(output_dir, {}, title='Reports', units=[])
    template = _environment().get_template('index.html')
    titles = report_table().sections
    page |= {
        'rows': rows,
        'group': 'group.html' if has_group else '',
        'parts': [(part, titles[part]['short']) for part in PARTS],
    }
    return template.render(**page, flow=inclusion_flow(found))


def _summaries(output_dir: Path) -> dict[str, dict[str, Any]]:
    """Read the run summaries of all participants."""
    return {
        path.name.split('_')[0]: read_json(path)
        for path in sorted(output_dir.glob('logs/sub-*_run_summary.json'))
    }


def _preset(output_dir: Path) -> str:
    """Name of the preset that the group was made with."""
    try:
        return str(read_toml(root_file(output_dir, 'group_settings')).get('preset', ''))
    except AppError:  # of a group whose settings are not there
        return ''


def _page(
    output_dir: Path, summary: Mapping[str, Any], *, title: str, units: Sequence[UnitPage]
) -> dict[str, Any]:
    """Collect what every page shows."""
    dataset = read_json(root_file(output_dir, 'dataset_description'))
    return {
        'title': title,
        'dataset': str(dataset.get('Name') or output_dir.resolve().name),
        'version': str(summary.get('version') or __version__),
        'command': _command(summary.get('command')),
        'look': _verdict(summary) if summary else None,
        'reasons': _reasons(summary),
        'units': units,
        'rules': {name: percent(share) for name, share in report_table().rules.items()},
    }


def _environment() -> Environment:
    """Make the template engine: everything is escaped, an unknown name is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader('bids_app.reports'),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters['shown'] = shown
    environment.filters['map_title'] = map_title
    environment.filters['contrast_words'] = contrast_words
    environment.filters['unit_text'] = unit_text
    environment.filters['in_words'] = in_words
    environment.filters['breakable'] = breakable
    return environment


def _unit(about: Mapping[str, Any], files: Sequence[Derivative], output_dir: Path) -> UnitPage:
    """Build the page of one unit of a participant."""
    label = str(about.get('label', ''))
    session = label.partition('_ses-')[2] or None
    own = tuple(file for file in files if file.entities.get('ses') == session)
    scene = Scene(own, str(about.get('space') or ''), tuple(about.get('conditions') or ()))
    later = Aftermath()
    sections = _sections('participant', scene, output_dir, label, later)
    page = _unit_page(about, sections, later)
    tables = _contrast_tables(own, ('summary', 'regions'), output_dir, later)
    reportlets = [one for section in sections for one in section.reportlets]
    maps = later.attempt('the map viewer', lambda: viewer_file(scene, output_dir), b'')
    at = {'sub': label.partition('_')[0].removeprefix('sub-')}
    at |= {'ses': session} if session else {}
    return replace(
        page,
        glance=later.attempt(
            'the first screen', lambda: glance(page.about, scene, reportlets, tables), Glance()
        ),
        tables=tables,
        maps=maps,
        maps_file=str(output_path('viewer_maps', **at)) if maps else '',
        shares=later.attempt(
            'shares of the constants', lambda: share_table(page.about['values'], scene), ((), {})
        ),
        chain=later.attempt('the chain of maps', lambda: _chain(page.about), ''),
        unreadable=tuple(later.missing),
    )


def _contrast_tables(
    files: Sequence[Derivative], keys: tuple[str, str], output_dir: Path, later: Aftermath
) -> tuple[ContrastTables, ...]:
    """Read the tables of every contrast."""
    return later.attempt(
        'tables of the contrasts', lambda: contrast_tables(files, keys, output_dir), ()
    )


def _chain(about: Mapping[str, Any]) -> str:
    """Draw the chain from scans to labels with what there is."""
    states: dict[str, str] = {}
    for scan in about['scans']:
        is_there = bool(scan['files']) or states.get(scan['scan']) == 'made'
        states[scan['scan']] = 'made' if is_there else 'no such scan'
    for state in about['maps']:
        name = str(state['map'])
        if states.get(name) != 'made':
            reason = state['reason'] or state['state']
            states[name] = 'made' if state['state'] == 'made' else str(reason)
    return draw_chain(report_table().chain, states)


def _group_unit(space: str, summary: Mapping[str, Any], output_dir: Path) -> UnitPage:
    """Build the page of the group in one template space."""
    files = list_derivatives(output_dir, f'tpl-{space}')
    about = {
        'label': space,
        **{k: summary.get(k) for k in ('notes', 'methods', 'errors', 'values')},
    }
    later = Aftermath()
    sections = _sections('group', TemplateScene(files, space), output_dir, space, later)
    return replace(
        _unit_page(about, sections, later),
        files=files,
        tables=_contrast_tables(files, ('group_summary', 'group_regions'), output_dir, later),
        unreadable=tuple(later.missing),
    )


def _unit_page(
    about: Mapping[str, Any], sections: tuple[Section, ...], later: Aftermath
) -> UnitPage:
    """Add methods and graph to the figures of a unit."""
    complete = _complete(about)
    maps, methods = complete['maps'], complete['methods']
    return UnitPage(
        label=complete['label'],
        anchor=_anchor(complete['label']),
        about=complete,
        sections=sections,
        steps=later.attempt('cards of the maps', lambda: _steps(sections, maps), ()),
        graph=later.attempt('graph', lambda: _graph(complete['graph']), ()),
        methods=later.attempt('methods', lambda: numbered(methods), ()),
        references=later.attempt('references', lambda: resolve(methods), ()),
    )


def _complete(about: Mapping[str, Any]) -> dict[str, Any]:
    """Fill what a unit of the run summary lacks with empty values."""
    complete: dict[str, Any] = {'baseline': about.get('baseline')}
    for name in ('label', 'space', 'graph', 'methods'):
        complete[name] = str(about.get(name) or '')
    for name in ('conditions', 'contrasts', 'notes'):
        complete[name] = list(about.get(name) or [])
    complete['notes'] = said_once(complete['notes'])
    for name, fields in RECORDS.items():
        records = about.get(name) or []
        complete[name] = [{**dict.fromkeys(fields, ''), **record} for record in records]
    return complete


def said_once(notes: Iterable[Any]) -> list[str]:
    """
    Join notes that say the same of several files.

    Examples
    --------
    >>> said_once(['a.nii: short', 'b.nii: short', 'no DSC'])
    ['a.nii, b.nii: short', 'no DSC']
    """
    found: dict[str, list[str]] = {}
    for note in map(str, notes):
        subject, colon, text = note.partition(': ')
        found.setdefault(f'{colon}{text}' if colon else note, []).append(subject)
    return [
        ', '.join(dict.fromkeys(subjects)) + text if text.startswith(': ') else text
        for text, subjects in found.items()
    ]


def _units(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give the units of a run summary with all their fields."""
    return [_complete(unit) for unit in summary.get('units') or []]


def _sections(
    level: str, scene: Scene, output_dir: Path, label: str, later: Aftermath
) -> tuple[Section, ...]:
    """Draw all figures of a level; one that fails becomes a sentence."""
    reportlets: dict[str, list[Reportlet]] = {}
    for row in report_table().figures:
        if row.level != level:
            continue
        made = reportlets.setdefault(row.section, [])
        later.attempt(row.title, partial(_draw_into, made, row, scene, output_dir))
    return tuple(
        Section(
            key=f'{_anchor(label)}-{key}',
            title=about['title'],
            intro=about['intro'],
            reportlets=tuple(reportlets[key]),
        )
        for key, about in report_table().sections.items()
        if reportlets.get(key)
    )


def _draw_into(made: list[Reportlet], row: FigureRow, scene: Scene, output_dir: Path) -> None:
    """Add the figures of a row; those drawn before one fails stay."""
    made.extend(draw_row(row, scene, output_dir))


def _steps(sections: Iterable[Section], states: list[dict[str, Any]]) -> tuple[Step, ...]:
    """Build the cards of the maps that were made, or that are missing for a reason."""
    reportlets = [reportlet for section in sections for reportlet in section.reportlets]
    steps = (
        Step(
            title=row.title,
            made_from=table().rows[row.output].when,
            unit=row.unit,
            results=tuple(_result(reportlet) for reportlet in reportlets if reportlet.row is row),
            reasons=tuple(dict.fromkeys(_why(state) for state in states if _is_of(state, row))),
        )
        for row in report_table().figures
        if row.kind == 'map' and row.in_chain
    )
    return tuple(step for step in steps if step.results or step.reasons)


def _result(reportlet: Reportlet) -> tuple[str, str, str, str]:
    """Give condition, median, verdict and anchor of a value map."""
    median = next((fact for fact in reportlet.facts if fact.name.startswith('median')), None)
    text = median.text.split(' (')[0].removesuffix(f' {reportlet.row.unit}') if median else ''
    return reportlet.where, text, median.verdict if median else 'check', reportlet.key


def _is_of(state: Mapping[str, Any], row: FigureRow) -> bool:
    """Tell whether a state of the run summary is about the map of a row and not made."""
    name = _anchor(str(state.get('map'))).replace('-', '')
    names = {_anchor(text).replace('-', '') for text in (row.key, row.quantity, row.output)}
    return name in names and state.get('state') != 'made'


def _why(state: Mapping[str, Any]) -> str:
    """Say which map is not made and why."""
    where = f'{state["condition"]}: ' if state.get('condition') else ''
    return f'{where}{state.get("reason") or state.get("state")}'


def _graph(mermaid: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Read a Mermaid graph as a list of steps with what they receive."""
    texts: dict[str, str] = {name: text for name, text in NODE.findall(mermaid) if text}
    received: dict[str, list[str]] = {}
    for line in mermaid.splitlines():
        arrow = EDGE.match(line)
        if arrow:
            source, before, after, target = arrow.groups(default='')
            label = before or after
            what = f'{label} from ' if label else ''
            received.setdefault(texts.get(target, target), []).append(
                what + texts.get(source, source)
            )
    return tuple((step, tuple(inputs)) for step, inputs in received.items())


def _write_figures(output_dir: Path, participant: str, units: Iterable[UnitPage]) -> None:
    """Write the pictures beside the maps and remove those of an earlier report."""
    folder = root_file(output_dir, 'figure', sub=participant, figure='x').parent
    pictures = [
        picture
        for unit in units
        for section in unit.sections
        for reportlet in section.reportlets
        for picture in reportlet.pictures
    ]
    pictures += [picture for unit in units for picture in unit.glance.thumbnails]
    packed = {output_dir / unit.maps_file: unit.maps for unit in units if unit.maps_file}
    names = {f'{picture.name}.webp' for picture in pictures} | {path.name for path in packed}
    for old in folder.glob('[!.]*'):
        if old.name not in names:
            old.unlink()
    for picture in pictures:
        path = output_path('figure', sub=participant, figure=picture.name)
        atomic_write(output_dir / path, picture.content)
    for place, content in packed.items():
        atomic_write(place, content)


def _verdict(summary: Mapping[str, Any]) -> tuple[str, str, str]:
    """Look, name and meaning of the verdict of a run summary."""
    verdict = summary.get('verdict')
    state = verdict.get('state') if isinstance(verdict, dict) else verdict
    if state not in set(State):
        return 'check', 'No verdict', 'The run left no verdict.'
    meaning = MEANING[State(state)]
    return *VERDICTS[State(state)], f'{meaning[0].upper()}{meaning[1:]}.'


def _reasons(summary: Mapping[str, Any]) -> list[str]:
    """Reasons of the verdict of a run summary."""
    verdict = summary.get('verdict')
    return (
        [str(text) for text in verdict.get('reasons') or []] if isinstance(verdict, dict) else []
    )


def _made(summary: Mapping[str, Any]) -> str:
    """Say how many of the maps were made."""
    states = [state.get('state') for unit in _units(summary) for state in unit['maps']]
    return f'{states.count("made")} of {len(states)}' if states else ''


def _command(command: Any) -> str:
    """Command line as one text."""
    return ' '.join(map(str, command)) if isinstance(command, list | tuple) else str(command or '')


def _anchor(text: str) -> str:
    """Name for links within the page."""
    return re.sub(r'[^a-z0-9]+', '-', text.lower()).strip('-')


def breakable(name: Any) -> Markup:
    """
    Let a long name break after its dots and underscores only.

    Examples
    --------
    >>> str(breakable('oxygen.b<0')), str(breakable('t1_blood'))
    ('oxygen.<wbr>b&lt;0', 't1_<wbr>blood')
    """
    from markupsafe import Markup, escape

    text = str(escape(str(name)))
    return Markup(re.sub(r'([._])', r'\1<wbr>', text))


def shown(value: Any) -> str:
    """
    Write any value of a sidecar or of the constants table.

    Examples
    --------
    >>> shown(0.264e-6), shown(True), shown([1.0, 2.5]), shown({'a': 1})
    ('2.64 × 10⁻⁷', 'yes', '1, 2.5', 'a: 1')
    """
    if value is None:
        return 'n/a'
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    if isinstance(value, float):
        return raised(f'{value:.6g}')
    if isinstance(value, dict):
        return _shown_entries(value)
    if isinstance(value, list | tuple):
        return ', '.join(shown(item) for item in value)
    return str(value)


def _shown_entries(entries: Mapping[str, Any]) -> str:
    """Write the entries of a dictionary; a constant as its value, unit and origin."""
    if set(entries) == {'Value', 'Units', 'Origin'}:
        unit = '' if entries['Units'] == '1' else f' {unit_text(entries["Units"])}'
        return f'{shown(entries["Value"])}{unit} ({entries["Origin"]})'
    return '; '.join(f'{name}: {shown(item)}' for name, item in entries.items())
