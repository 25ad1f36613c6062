"""
What the group level reads: which map of which participant is which quantity.

A provider turns a folder into :class:`GroupInputs`; everything after it knows quantities of
data/outputs.yml, participants and files, and nothing of file names. :func:`from_derivatives` is
the provider of this program's own output. Another provider (maps made by other software) only has
to fill the same value: changes as maps of their own or as the difference of two condition maps,
with or without variances, in the unit of data/outputs.yml or with a factor to it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_app.bids.output.names import match, row, table
from bids_app.bids.products import PRODUCTS
from bids_app.engines.templates import SPACE
from bids_app.images import both_sides

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

BASELINES = ('cbf', 'cbv', 'oef', 'cmro2', 'R2prime')
"""Quantities whose baseline is used beside the changes; R2prime where a provider has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapSource:
    """
    One map of one participant: a file, or the difference of two.

    Parameters
    ----------
    value : Path
        3D image in template space, or the left of two files on the cortex; NaN is no estimate.
    variance : Path, optional
        Random variance of `value`, unit squared.
    minus : Path, optional
        Map that is taken from `value`: the change is then ``value - minus``, and their variances
        add up.
    minus_variance : Path, optional
        Random variance of `minus`.
    factor : float
        File times factor has the unit of data/outputs.yml; variances get its square.
    made_from : tuple of Path
        Where `value` is a file on its way: what it was made from.
    session : str
        Label without ses-; empty where there are none.
    mirrored : bool
        Whether the hemispheres are exchanged when it is read.
    """

    value: Path
    variance: Path | None = None
    minus: Path | None = None
    minus_variance: Path | None = None
    factor: float = 1.0
    made_from: tuple[Path, ...] = ()
    session: str = ''
    mirrored: bool = False

    @property
    def has_variance(self) -> bool:
        """Whether the variance of the whole is known."""
        return self.variance is not None and (
            self.minus is None or self.minus_variance is not None
        )

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that is read."""
        paths = (self.value, self.variance, self.minus, self.minus_variance)
        known = (path for path in paths if path is not None)
        return tuple(
            one
            for path in known
            for one in (both_sides(path) if path.suffix == '.gii' else [path])
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MapSet:
    """
    The maps of one quantity over participants.

    Parameters
    ----------
    quantity : str
        Key of data/outputs.yml: T2, T2star, R2prime, cbf, att, cbv, oef, cmro2, boldPct.
    sources : mapping of str to tuple of MapSource
        Participant (without sub-) to its maps; several are sessions, repeats and not people.
    contrast : str, optional
        Name of the contrast, such as calcMinusControl; None for maps of a condition.
    condition : str, optional
        For maps of a condition, and for their differences between sessions; None where they hold
        for all (one blood volume).
    task : str, optional
        Label of the BOLD task.
    about : mapping of str to str
        The two conditions of a contrast, as in sidecars: Task, Baseline.
    """

    quantity: str
    sources: Mapping[str, tuple[MapSource, ...]]
    contrast: str | None = None
    condition: str | None = None
    task: str | None = None
    about: Mapping[str, str] = field(default_factory=dict)

    @property
    def what(self) -> str:
        """Quantity with its contrast or condition, in words."""
        place = self.contrast or self.condition
        return f'{self.quantity} of {place}' if place else self.quantity

    @property
    def name(self) -> str:
        """Quantity with its contrast or condition, for messages and file names."""
        return '_'.join(filter(None, (self.quantity, self.contrast, self.condition)))

    @property
    def files(self) -> list[Path]:
        """Every file, by participant."""
        return [
            path
            for participant in sorted(self.sources)
            for source in self.sources[participant]
            for path in source.files
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupInputs:
    """
    Everything the group level reads.

    Parameters
    ----------
    participants : tuple of str
        All that were asked for, sorted, whether or not they have maps.
    changes : tuple of MapSet
        Of every quantity and contrast.
    baselines : tuple of MapSet
        Of the baseline condition of the contrasts, or of no condition.
    grey_matter : mapping of str to tuple of MapSource
        Participant to its maps of grey-matter probability; empty: that of the template serves.
    regions : mapping of str to tuple of (str, Path)
        Contrast to (participant, table of regions); empty: regions are averaged from the maps.
    """

    participants: tuple[str, ...]
    changes: tuple[MapSet, ...]
    baselines: tuple[MapSet, ...] = ()
    grey_matter: Mapping[str, tuple[MapSource, ...]] = field(default_factory=dict)
    regions: Mapping[str, tuple[tuple[str, Path], ...]] = field(default_factory=dict)

    @property
    def all_maps(self) -> tuple[MapSet, ...]:
        """Maps of conditions, then changes."""
        return (*self.baselines, *self.changes)

    @property
    def contrasts(self) -> tuple[str, ...]:
        """Names of the contrasts, sorted."""
        return tuple(sorted({maps.contrast for maps in self.changes if maps.contrast}))

    def baseline_of(self, change: MapSet, quantity: str | None = None) -> MapSet | None:
        """Find the maps of the baseline condition of a change; None where there are none."""
        wanted = quantity or change.quantity
        baseline = change.about.get('Baseline')
        same = [maps for maps in self.baselines if maps.quantity == wanted]
        # between sessions the baseline is the same condition in the other session
        wanted_condition = change.condition or baseline
        of_condition = [maps for maps in same if maps.condition == wanted_condition]
        shared = [maps for maps in same if maps.condition is None]
        return next(iter(of_condition + shared), None)


def from_derivatives(
    output_dir: Path, participants: Iterable[str], *, space: str = SPACE, density: str = ''
) -> GroupInputs:
    """
    Find what the participant level of this program wrote in a space.

    Changes are in the order of contrasts and of the output table; the space is that of a template,
    a native one, or with the density of a mesh (``32k``) that of the cortex.
    """
    names = tuple(sorted(participants))
    files: dict[tuple[str, ...], dict[str, dict[str, Path]]] = {}
    tasks: dict[tuple[str, ...], set[str]] = {}
    grey: dict[str, tuple[MapSource, ...]] = {}
    wanted = _find_maps(output_dir, names, space, density)
    for path, key, entities in wanted:
        if key == 'probseg':
            if entities['label'] == 'GM':
                known = grey.get(entities['sub'], ())
                grey[entities['sub']] = (*known, MapSource(value=path))
            continue
        group, statistic = _place(key, entities)
        unit = f'{entities["sub"]}/{entities.get("ses", "")}'
        files.setdefault(group, {}).setdefault(unit, {})[statistic] = path
        if group[0] == 'contrast':
            # on the cortex the task of a BOLD change stands where a map has its condition
            task = entities.get('condition' if density else 'task')
            tasks.setdefault(group, set()).update(filter(None, [task]))
    order = list(table().quantities)
    changes, baselines = [], []
    for group in sorted(files, key=lambda found: (*found[2:], order.index(found[1]))):
        kind, quantity, name = group
        sources = _sources(files[group])
        if kind == 'contrast' and sources:
            about = contrast_of(next(iter(sources.values()))[0].value)
            changes.append(
                MapSet(
                    quantity=quantity,
                    contrast=name,
                    task=_task(tasks[group]),
                    sources=sources,
                    about=about,
                )
            )
        elif sources:
            baselines.append(MapSet(quantity=quantity, condition=name or None, sources=sources))
    return GroupInputs(
        participants=names,
        changes=tuple(changes),
        baselines=tuple(baselines),
        grey_matter=grey,
        regions={} if density else _region_tables(output_dir, names),
    )


def drop_suspects(
    inputs: GroupInputs,
    suspicions: Mapping[str, Sequence[Mapping[str, str | None]]],
    accepted: Sequence[str],
) -> tuple[GroupInputs, dict[tuple[str, str], tuple[str, ...]]]:
    """
    Leave participants out of the contrasts in which one of their scans is suspicious.

    Suspicions have a kind, a condition (None: every contrast) and a reason; `accepted` kinds do
    not matter to the user. Beside the rest stands, per participant and contrast left out, why and
    how to keep it.
    """
    reasons: dict[tuple[str, str], dict[str, None]] = {}
    for maps in inputs.changes:
        for participant in sorted(maps.sources):
            for one in suspicions.get(participant, ()):
                concerned = one['condition'] is None or one['condition'] in maps.about.values()
                if one['kind'] in accepted or not concerned:
                    continue
                sentence = (
                    f'left out of {maps.contrast}: {one["reason"]} (keep it with --set '
                    f'group.accept_suspects={one["kind"]})'
                )
                reasons.setdefault((participant, str(maps.contrast)), {})[sentence] = None
    changes = (
        replace(
            maps,
            sources={
                name: sources
                for name, sources in maps.sources.items()
                if (name, str(maps.contrast)) not in reasons
            },
        )
        for maps in inputs.changes
    )
    regions = {
        contrast: tuple(item for item in tables if (item[0], contrast) not in reasons)
        for contrast, tables in inputs.regions.items()
    }
    kept = replace(inputs, changes=tuple(m for m in changes if m.sources), regions=regions)
    return kept, {place: tuple(sentences) for place, sentences in reasons.items()}


def contrast_of(path: Path) -> dict[str, str]:
    """Read task and baseline of a contrast from a sidecar: names are not parsed."""
    contrast: dict[str, str] = sidecar_of(path)['Contrast']
    return contrast


def sidecar_of(path: Path) -> dict[str, Any]:
    """Read what a map says of itself; nothing where it has no sidecar."""
    about = path.with_name(f'{path.name.partition(".")[0]}.json')
    return dict(json.loads(about.read_text('utf-8'))) if about.is_file() else {}


def _find_maps(
    output_dir: Path, participants: Iterable[str], space: str, density: str
) -> Iterator[tuple[Path, str, dict[str, str]]]:
    """Find the maps in a space that the group can use, with row and entities."""
    wanted = {'contrast', 'probseg', 'variance', *(one.row for one in PRODUCTS.values())}
    pattern = f'*space-{space}*.nii.gz'
    if density:
        wanted, pattern = {'surface'}, f'*hemi-L*space-{space}*den-{density}*.shape.gii'
    for participant in participants:
        for path in sorted((output_dir / f'sub-{participant}').rglob(pattern)):
            key, entities = match(path.relative_to(output_dir).as_posix()) or ('', {})
            if key in wanted and entities.get('space') == space:
                yield path, key, entities


def _place(key: str, entities: Mapping[str, str]) -> tuple[tuple[str, ...], str]:
    """Say to which set of maps a file belongs, and as what."""
    if 'contrast' in entities:
        return ('contrast', entities['quantity'], entities['contrast']), entities['statistic']
    if key == 'surface':
        condition = entities.get('condition', '')
        return ('condition', entities['quantity'], condition), entities['statistic']
    quantity = entities.get('quantity') or row(key).quantity
    condition = entities.get('condition', '')
    return ('condition', quantity, condition), 'variance' if key == 'variance' else 'effect'


def _sources(units: Mapping[str, Mapping[str, Path]]) -> dict[str, tuple[MapSource, ...]]:
    """Collect the maps of each participant; a map without its variance does not count."""
    sources: dict[str, tuple[MapSource, ...]] = {}
    for unit in sorted(units):
        found = units[unit]
        if {'effect', 'variance'} <= set(found):
            participant, _, session = unit.partition('/')
            source = MapSource(value=found['effect'], variance=found['variance'], session=session)
            sources[participant] = (*sources.get(participant, ()), source)
    return sources


def _task(tasks: set[str]) -> str | None:
    """Label of the BOLD task; pooled where participants differ."""
    if not tasks:
        return None
    return tasks.pop() if len(tasks) == 1 else 'pooled'


def _region_tables(
    output_dir: Path, participants: Iterable[str]
) -> dict[str, tuple[tuple[str, Path], ...]]:
    """Region tables per contrast."""
    found: dict[str, tuple[tuple[str, Path], ...]] = {}
    for participant in participants:
        for path in sorted((output_dir / f'sub-{participant}').rglob('*_regions.tsv')):
            key, entities = match(path.relative_to(output_dir).as_posix()) or ('', {})
            if key == 'regions':
                contrast = entities['contrast']
                found[contrast] = (*found.get(contrast, ()), (participant, path))
    return found
