"""A step that fails costs what is made from it, and no more; a second run completes."""

import re
import shutil

import pytest

from bids_app.bids.run.outcome import State
from bids_app.errors import InputDataError
from bids_app.interfaces import bold, dsc, perfusion, relaxometry, spatial
from tests.e2e import support

pytestmark = pytest.mark.e2e

BRANCHES = {
    'mese': (relaxometry, 'EstimateR2'),
    'megre': (relaxometry, 'EstimateR2Star'),
    'asl': (perfusion, 'EstimateDifference'),
    'dsc': (dsc, 'EstimateBolus'),
    'bold': (bold, 'FindNuisance'),
    't1w': (spatial, 'ExtractBrain'),
}
"""Kind of scan -> interface without which nothing is made of it."""

IN_EVERY_RUN = ('dsc',)
"""Branches of `make test`; `make prove` has all."""


def fail(self, runtime):
    message = 'it proves useless'
    raise InputDataError(message)


def run(root, output, *arguments, anatomy=True):
    given = support.anatomy_of(root) if anatomy else ()
    return support.run_app(root, output, 'participant', *given, *support.HEADER, *arguments)


def tables(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob('*.tsv'))
    }


@pytest.mark.parametrize(
    'kind',
    [
        pytest.param(kind, marks=() if kind in IN_EVERY_RUN else pytest.mark.prove)
        for kind in BRANCHES
    ],
)
def test_a_useless_scan_costs_what_leaving_it_out_costs(study, tmp_path, monkeypatch, kind):
    module, interface = BRANCHES[kind]
    anatomy = kind != 't1w'  # that of others needs no step that could fail
    with monkeypatch.context() as patch:
        patch.setattr(getattr(module, interface), '_run_interface', fail)
        told = run(study, tmp_path / 'failed', anatomy=anatomy)
    verdict = support.summary(tmp_path / 'failed', '01')['verdict']
    assert (told.code, verdict['state']) == (1, 'incomplete')
    assert 'it proves useless' in ' '.join(verdict['reasons'])
    # masks that are found in the scans themselves need a background, and the tiny field has none:
    # those of BOLD and of the spin echo hardly meet, and that map is all but empty
    ignored = run(study, tmp_path / 'ignored', '--ignore', kind, anatomy=anatomy)
    assert ignored.code == (kind == 't1w')
    failed, ignored = (tmp_path / name / 'sub-01' for name in ('failed', 'ignored'))
    assert support.images(failed) == support.images(ignored)
    assert tables(failed) == tables(ignored)
    rows = support.summary(tmp_path / 'failed', '01')['units'][0]['maps']
    assert {row['state'] for row in rows} <= {'made', 'absent', 'defective'}
    assert {row['state'] for row in rows} >= {'made'}


@pytest.fixture(scope='module')
def sound(study, tmp_path_factory):
    """A run whose work directory is kept: the rest of a graph need not be computed again."""
    folder = tmp_path_factory.mktemp('injected')
    told = run(study, folder / 'out', '-w', folder / 'work', '--keep-work')
    assert told.code == 0
    shutil.move(folder / 'out' / 'sub-01', folder / 'sound')
    return folder


@pytest.fixture(scope='module')
def steps(study, sound):
    """Every step of the graph -> the files that are made from it."""
    return downstream(study, sound / 'out')


def downstream(study, output):
    import networkx as nx

    from bids_app.bids.input.collect import collect_participant
    from bids_app.bids.input.dataset import check_dataset, read_dataset
    from bids_app.bids.output.names import output_path
    from bids_app.settings import RunSettings, resolve
    from bids_app.workflows._engine import is_identity
    from bids_app.workflows.participant import init_participant_wf

    settings = resolve(command_line={'anatomy.registration': 'header'})
    anatomy = {'fmriprep': study / 'derivatives' / 'fmriprep'}
    given = RunSettings(
        bids_dir=study, output_dir=output, level='participant', derivatives=anatomy
    )
    info = read_dataset(given, settings.preset)
    plan = check_dataset(info, given, settings)
    (unit,) = collect_participant(info, '01', given, settings, plan=plan)
    workflow, _ = init_participant_wf(inputs=unit, settings=settings, run=given)
    graph = workflow._create_flat_graph()
    found = {}
    for node in graph.nodes:
        if is_identity(node):
            continue
        after = {node, *nx.descendants(graph, node)}
        saves = [one for one in after if 'save_' in one.fullname]
        found[node.fullname] = {
            output_path(item['key'], **item['entities']).as_posix().removeprefix('sub-01/')
            for one in saves
            for item in one.interface.inputs.items.values()
        }
    return found


NATIVE = {
    'sub-01_T2map',
    *(f'sub-01_task-{condition}_{name}' for condition in ('calc', 'control')
      for name in ('T2starmap', 'R2primemap', 'cbf')),
    'sub-01_contrast-calcMinusControl_stat-effect_desc-cbf_statmap',
    'sub-01_task-all_contrast-calcMinusControl_stat-effect_desc-boldPct_statmap',
}  # fmt: skip
"""What needs no T1w image."""

NAMED = (
    'align_bold_all.average_volumes', 'anatomy.discretise_tissue', 'change_calcMinusControl.',
    'convert_r2', 'label_calcMinusControl.label_concordance', 'save_perfusion.',
    'summarise_regions_calcMinusControl',
)  # fmt: skip
"""Starts of the names of steps of every kind, one each."""


def check(study, sound, steps, name, monkeypatch):
    """Let one step fail; then run again without."""
    output, work = sound / 'out', sound / 'work'
    shutil.rmtree(output / 'sub-01', ignore_errors=True)
    shutil.rmtree(output / 'logs')
    kept = support.images(sound / 'sound')
    from nipype.pipeline.engine import Node

    real = Node.run

    def run_or_fail(self, *args, **options):
        if self.fullname == name:
            message = 'a mistake'
            raise ZeroDivisionError(message)
        return real(self, *args, **options)

    arguments = ('-w', work, '--keep-work')
    with monkeypatch.context() as patch:
        patch.setattr(Node, 'run', run_or_fail)
        told = run(study, output, *arguments)
    verdict = support.summary(output, '01')['verdict']
    assert (told.code, verdict['state']) == (1, State.INCOMPLETE), name
    assert name.partition('.')[2] in ' '.join(verdict['reasons']), name
    made = support.images(output / 'sub-01')
    if 'made anew without' in told.log:  # the scan was left out: other grids, other tables
        kind = re.search(r'made anew without ([a-z0-9]+)', told.log)[1]
        part = 'anatomy' if kind == 't1w' else rf'\w+_{kind}(_\w+)?'
        related = [one for one in steps if re.match(rf'sub_01\.{part}(\.|$)', one)]
        assert name in related
        lost = quantities(kept) - quantities(made)
        assert lost <= quantities(set().union(*(steps[one] for one in related))), (name, lost)
        if kind == 't1w':
            assert quantities(made) >= NATIVE
    else:
        stands = {path: data for path, data in kept.items() if path not in steps[name]}
        assert {path: made.get(path) for path in stands} == stands, name
    again = run(study, output, *arguments)
    assert again.code == 0, name
    assert support.images(output / 'sub-01') == kept, name


def quantities(maps):
    """Value maps and effects by what they hold, whatever their grid."""
    return {
        re.sub(r'_space-\w+?(?=_)', '', path.rpartition('/')[2].removesuffix('.nii.gz'))
        for path in maps
        if path.removesuffix('.nii.gz').rsplit('_', 1)[-1] in support.VALUE_SUFFIXES
        or '_stat-effect_' in path
    }


@pytest.mark.parametrize(
    'start', [NAMED[0], *(pytest.param(one, marks=pytest.mark.prove) for one in NAMED[1:])]
)
def test_a_step_that_fails_costs_what_is_made_from_it(study, sound, steps, start, monkeypatch):
    name = next(one for one in sorted(steps) if one.startswith(f'sub_01.{start}'))
    check(study, sound, steps, name, monkeypatch)


@pytest.mark.prove
@pytest.mark.parametrize('part', range(8))
def test_every_step_in_turn(study, sound, steps, part, monkeypatch):
    for name in sorted(steps)[part::8]:
        check(study, sound, steps, name, monkeypatch)
