"""Group level: read the derivatives of all participants, test, label, write tpl- files."""

from __future__ import annotations

import logging
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_app.bids.input.surfaces import is_surface, standard_meshes
from bids_app.bids.input.templates import NONE
from bids_app.bids.output.dataset import (
    prepare_output,
    read_summaries,
    update_shared,
    work_dir_of,
)
from bids_app.bids.output.write import write_json, write_text
from bids_app.bids.run.outcome import (
    Aftermath,
    RunVerdict,
    combine,
    judge,
    participant_summary,
)
from bids_app.engines.templates import SPACE as TEMPLATE
from bids_app.errors import ExitCode, SelectionError, SettingsError
from bids_app.group.baseline import save_baseline_tables, save_conjunctions
from bids_app.group.concordance import Concordance, analyse_concordance, save_response_mode
from bids_app.group.cortex import analyse_cortex, cortex_inputs
from bids_app.group.design import excluded_by_verdict, find_columns, make_design
from bids_app.group.dispute import save_offsets
from bids_app.group.effects import Effect, analyse_effect, maps_to_test, save_joint_pls
from bids_app.group.hemispheres import add_asymmetries, turn_affected
from bids_app.group.inputs import GroupInputs, drop_suspects, from_derivatives
from bids_app.group.maps import from_maps, list_shared_maps
from bids_app.group.reference import save_deviations, save_norms
from bids_app.group.regions import save_comparisons, save_regions
from bids_app.group.robustness import save_robustness
from bids_app.group.rois import RoiStudy, save_rois
from bids_app.group.scales import save_scales
from bids_app.group.sessions import compare_sessions, session_labels
from bids_app.group.stats_model import stats_model
from bids_app.group.study import Study, mean_grey_matter
from bids_app.reports.citations import citation_bibtex, citation_markdown
from bids_app.reports.render import finish, render_group, render_index
from bids_app.settings import to_toml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bids_app._typing import FloatArray
    from bids_app.bids.input.external_maps import MapListing
    from bids_app.bids.input.input_map import RoleMap
    from bids_app.bids.input.surfaces import StandardMesh
    from bids_app.bids.run.outcome import Verdict
    from bids_app.settings import GroupSettings, RunSettings, Settings

    Suspects = Mapping[tuple[str, str], tuple[str, ...]]

LOGGER = logging.getLogger('oxybold')

METHODS = (
    'Changes were tested over participants with a random-effects mean that weights every '
    'participant by its random variance and that between participants, with variances moderated '
    'over voxels [@smyth2004], and false discoveries were controlled per map [@benjamini1995]. '
    'Voxels were labelled from the group effects [@epp2025] [@goltermann2026] [@stephens2017].'
)


def run_group(run: RunSettings, settings: Settings) -> RunVerdict:
    """
    Run the group level.

    The raw dataset is not read.

    Raises
    ------
    AppError
        If the output holds no participants, or they do not fit together.
    """
    prepare_output(run)
    if run.reports_only:
        _select(run)
        later = Aftermath(list(render_group(run.output_dir).missing))
        return later.amend_run(RunVerdict(reasons=('report made anew, nothing computed',)))
    shared = list_shared_maps(run, settings) if 'maps' in run.derivatives else None
    names = shared[1].participants if shared else _select(run)
    left_out = excluded_by_verdict(
        run.output_dir,
        [one for one in read_summaries(run.output_dir) if one['participant'] in names],
        settings.group,
    )
    names = tuple(name for name in names if name not in left_out)
    space = _space_of(settings, is_shared=shared is not None)
    design, incomplete = make_design((run.output_dir, run.bids_dir), names, settings.group)
    left_out |= incomplete
    names = tuple(name for name in names if name not in left_out)
    with tempfile.TemporaryDirectory(dir=_scratch(run)) as folder:
        found, unused = find_inputs(run, names, settings, shared, Path(folder))
        inputs, suspects = drop_suspects(found, _suspicions(run), settings.group.accept_suspects)
        inputs, unpaired = _arrange(inputs, run, settings.group, names)
        left_out |= unpaired
        rois = _rois(run, settings.group, names)
        cortex = _cortex(run, settings, names)
        on_cortex = any(found.all_maps for _, found in cortex)
        if not inputs.all_maps and not (rois and rois.values) and not on_cortex:
            msg = (
                f'{run.output_dir} holds no maps in {space} of {", ".join(names)}; run '
                f'the participant level with a T1w image and {space} among --output-spaces '
                'first, or name a template that there is as the first of --output-spaces'
            )
            if unused:
                msg = f'none of the shared maps can be used: {"; ".join(unused)}'
            if suspects:
                msg = f'no participant is left: {"; ".join(_sentences(suspects))}'
            raise SelectionError(msg)
        grey, grid, unusable = mean_grey_matter(inputs, space=space)
        study = Study(
            run=run,
            settings=settings,
            inputs=inputs,
            mask=grey > settings.change.grey_matter,
            grid=grid,
            space=space,
            folder=Path(folder),
            design=design,
            absences=dict.fromkeys(
                [
                    *(f'sub-{one} left out: {why}' for one, why in left_out.items()),
                    *_sentences(suspects),
                    *(rois.absences if rois else ()),
                ]
            ),
            defects=dict.fromkeys(
                [*(f'sub-{name}: {reason}' for name, reason in unusable), *unused]
            ),
        )
        _save_grey_matter(study, grey)
        if settings.group.asymmetry == 'yes':
            add_asymmetries(study)
        made = _analyse(study, rois)
        studies = [study]
        for mesh, maps in cortex:
            on_mesh, made_there = analyse_cortex(study, mesh, maps)
            studies.append(on_mesh)
            made |= made_there
        _participants(studies, left_out | dict(unusable), suspects)
        return _finish(study, names, made=made)


def _space_of(settings: Settings, *, is_shared: bool) -> str:
    """Name the template of the group, the first of images; refuse what it lacks."""
    images = [one.partition('=')[0] for one in settings.output_spaces if not is_surface(one)]
    space = images[0] if images else NONE
    if space in (NONE, TEMPLATE):
        return TEMPLATE
    group = settings.group
    packaged_only = {
        'maps shared with -d maps=': is_shared,
        '--asymmetry': group.asymmetry == 'yes',
        '--affected-side': bool(group.affected_side),
    }
    asked = [name for name, is_asked in packaged_only.items() if is_asked]
    if asked:
        msg = (
            f'{", ".join(asked)} works in {TEMPLATE} only, whose hemispheres are paired and to '
            f'which shared maps are moved; found {space} as the first of --output-spaces'
        )
        raise SettingsError(msg)
    return space


def _save_grey_matter(study: Study, grey: FloatArray) -> None:
    """Write of what the mask was made; say what the packaged atlas cannot give here."""
    images = [one.value for sources in study.inputs.grey_matter.values() for one in sources]
    about = {
        'Participants': [f'sub-{name}' for name in sorted(study.inputs.grey_matter)],
        'Sources': study.uris(images),
        'Threshold': study.settings.change.grey_matter,
    }
    study.save_image(grey, 'group_grey_matter', about, label='GM')
    if study.settings.atlas != 'none' and study.networks is None:
        study.absences[
            f'no means of parcels and networks over maps in {study.space}: the atlas '
            f'{study.settings.atlas} lies in {TEMPLATE}; --regions NAME=IMAGE,TSV takes one of '
            f'{study.space}'
        ] = None


def _arrange(
    inputs: GroupInputs, run: RunSettings, settings: GroupSettings, names: tuple[str, ...]
) -> tuple[GroupInputs, dict[str, str]]:
    """Compare sessions and turn sides where that is asked; name who is left out."""
    unpaired: dict[str, str] = {}
    if settings.session_contrasts:
        label_of = session_labels(run.bids_dir, settings.session_column)
        inputs, unpaired = compare_sessions(inputs, settings.session_contrasts, label_of)
    if settings.affected_side:
        column = settings.affected_side
        sides, _ = find_columns((run.output_dir, run.bids_dir), [column], names)
        inputs = turn_affected(inputs, sides[column], column)
    return inputs, unpaired


def _rois(run: RunSettings, settings: GroupSettings, names: tuple[str, ...]) -> RoiStudy | None:
    """Average the native maps over regions of interest, where that is asked."""
    if settings.roi is None:
        return None
    chosen = [one for one in read_summaries(run.output_dir) if one['participant'] in names]
    return save_rois(run.output_dir, Path(settings.roi).absolute(), chosen)


def _cortex(
    run: RunSettings, settings: Settings, names: tuple[str, ...]
) -> list[tuple[StandardMesh, GroupInputs]]:
    """Find the maps on every mesh among the output spaces, as those in the template."""
    found = []
    for mesh in standard_meshes(settings.output_spaces):
        inputs = cortex_inputs(run.output_dir, names, mesh)
        inputs, _ = drop_suspects(inputs, _suspicions(run), settings.group.accept_suspects)
        if inputs.all_maps and settings.group.session_contrasts:
            label_of = session_labels(run.bids_dir, settings.group.session_column)
            inputs, _ = compare_sessions(inputs, settings.group.session_contrasts, label_of)
        found.append((mesh, inputs))
    return found


def _analyse(study: Study, rois: RoiStudy | None) -> bool:
    """Make everything that the maps allow; say whether there was anything."""
    everything = [analyse_effect(study, maps) for maps in maps_to_test(study)]
    effects: dict[str, dict[str, Effect]] = {}
    for effect in everything:
        if effect.maps.contrast is not None:
            effects.setdefault(effect.maps.contrast, {})[effect.maps.quantity] = effect
    save_comparisons(study, everything, rois.values if rois else {})
    save_design(study)
    made = bool(everything or (rois and rois.values))
    if study.settings.group.reference:
        made |= save_deviations(study)
    else:
        save_norms(study, [effect.maps for effect in everything])
    labelled: dict[str, Concordance] = {}
    for contrast, of_contrast in effects.items():
        labelled |= _contrast(study, contrast, of_contrast)
    compared = [effects[one][name].maps for one in labelled for name in ('boldPct', 'cmro2')]
    save_conjunctions(study, labelled, study.about(*compared))
    save_joint_pls(study, effects)
    return made


def _contrast(study: Study, contrast: str, effects: dict[str, Effect]) -> dict[str, Concordance]:
    """Make what a contrast has beside the maps of its quantities; give its labels."""
    labelled = {}
    if study.pls_rows.get(contrast):
        about = study.about(*(effect.maps for effect in effects.values()))
        study.save_table(study.pls_rows[contrast], 'group_pls', about, contrast=contrast)
    of_sessions = bool(study.settings.group.session_contrasts)
    if {'boldPct', 'cmro2'} <= set(effects) and not of_sessions:
        found = analyse_concordance(study, effects['boldPct'], effects['cmro2'])
        save_response_mode(study, effects, found.gate, effects['boldPct'])
        save_baseline_tables(study, effects, found)
        save_offsets(study, effects, found)
        save_scales(study, effects, found)
        save_robustness(study, effects, found)
        labelled[contrast] = found
    has_regions = study.networks is not None or contrast in study.inputs.regions
    if study.settings.atlas != 'none' and has_regions:
        save_regions(study, contrast, effects)
    return labelled


def save_design(study: Study) -> None:
    """Write the design matrix of all participants, for other programs."""
    people = [name for name in study.inputs.participants if name in study.design.values]
    if not study.design.columns or not people:
        return
    matrix = study.design.matrix(people)
    rows = [
        {'participant': f'sub-{name}', 'column': column, 'value': value}
        for name, values in zip(people, matrix, strict=True)
        for column, value in zip(('mean', *study.design.columns), values, strict=True)
    ]
    study.save_table(rows, 'group_design', study.about(*study.inputs.all_maps))
    model = stats_model(study.design)
    if model is not None:
        at: dict[str, Any] = {'space': study.space}
        write_json(model, output_dir=study.run.output_dir, key='group_model', entities=at)


def _sentences(suspects: Suspects) -> list[str]:
    """Say who is left out of what for a suspicious scan."""
    return [f'sub-{name} is {why}' for (name, _), reasons in suspects.items() for why in reasons]


def _participants(studies: Sequence[Study], left_out: dict[str, str], suspects: Suspects) -> None:
    """Write who is in the group, volumes or cortex, and who was left out of what and why."""
    study = studies[0]
    states = {
        summary['participant']: summary['verdict']['state']
        for summary in read_summaries(study.run.output_dir)
    }
    reasons = {name: [reason] for name, reason in left_out.items()}
    for (name, _), sentences in suspects.items():
        reasons.setdefault(name, []).extend(sentences)
    wanted = [(one, maps) for one in studies for maps in one.inputs.all_maps]
    stacks = [one.stack(maps) for one, maps in wanted]
    for stack in stacks:
        for name, reason in stack.left_out:
            reasons.setdefault(name, []).append(reason)
    rows = []
    for name in sorted({*study.inputs.participants, *left_out}):
        n_maps = sum(name in stack.participants for stack in stacks)
        included = 'no' if n_maps == 0 else 'yes' if n_maps == len(stacks) else 'partly'
        without = [
            f'no map of {maps.what} in {one.space}'
            for one, maps in wanted
            if name not in maps.sources
            and name not in left_out
            and (name, maps.contrast) not in suspects
        ]
        rows.append(
            {
                'participant': f'sub-{name}',
                'verdict': states.get(name),
                'included': included,
                'reason': '; '.join([*reasons.get(name, []), *without]) or None,
            }
        )
    about = next((one for one in studies if one.inputs.all_maps), study)
    sidecar = about.about(*about.inputs.all_maps)
    study.save_table(rows, 'group_participants', sidecar)


def find_inputs(
    run: RunSettings,
    participants: tuple[str, ...],
    settings: Settings,
    shared: tuple[RoleMap, MapListing] | None,
    folder: Path,
) -> tuple[GroupInputs, tuple[str, ...]]:
    """
    Find the maps of the group: the one place that chooses a provider.

    From the shared maps, which are moved or computed in `folder`, else from this program's own
    derivatives. Shared maps that could not be used are named, with the reason.
    """
    if shared is not None:
        return from_maps(*shared, settings, folder)
    space = _space_of(settings, is_shared=False)
    return from_derivatives(run.output_dir, participants, space=space), ()


def _select(run: RunSettings) -> tuple[str, ...]:
    """Participants of the group: those asked for, else all that have results."""
    present = [summary['participant'] for summary in read_summaries(run.output_dir)]
    unknown = [label for label in run.participants if label not in present]
    if unknown or not present:
        msg = (
            f'{run.output_dir} has no results of {", ".join(unknown) or "any participant"}; '
            f'there are: {", ".join(present) or "none"}'
        )
        raise SelectionError(msg)
    return tuple(sorted(run.participants or present))


def _suspicions(run: RunSettings) -> dict[str, list[dict[str, str | None]]]:
    """Read what the participant level found suspicious."""
    return {
        summary['participant']: [
            one for unit in summary.get('units', ()) for one in unit.get('suspicions', ())
        ]
        for summary in read_summaries(run.output_dir)
    }


def _scratch(run: RunSettings) -> Path:
    """Folder for files on their way."""
    folder = work_dir_of(run)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _finish(study: Study, names: tuple[str, ...], *, made: bool) -> RunVerdict:
    """Judge the group and write its records and report."""
    run = study.run
    verdict = judge(
        'group',
        absences=study.absences,
        errors=study.defects,
        made_anything=made,
        step_code=ExitCode.BAD_INPUT,
    )
    out: dict[str, Any] = {'output_dir': run.output_dir, 'entities': {}}
    write_text(to_toml(study.settings), key='group_settings', **out)
    write_text(citation_markdown(METHODS), key='group_citation_md', **out)
    write_text(citation_bibtex(METHODS), key='group_citation_bib', **out)

    def record(verdict: Verdict) -> None:
        """Write the summary, from which the report is made."""
        summary = participant_summary(verdict, command=run.command, units=[])
        summary |= {'participants': list(names), 'methods': METHODS}
        write_json(summary, key='group_run_summary', **out)

    later = Aftermath()
    verdict = finish(verdict, later, record=record, render=partial(render_group, run.output_dir))
    later.attempt('index.html', lambda: update_shared(run.output_dir, render_index))
    verdict = later.amend(verdict)
    LOGGER.info('%s', verdict.text)
    return combine([verdict])
