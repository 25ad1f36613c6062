import importlib.util
import sys

import pytest

from tests.paths import ROOT

spec = importlib.util.spec_from_file_location('bench', ROOT / 'tools' / 'bench.py')
tool = importlib.util.module_from_spec(spec)
sys.modules['bench'] = tool  # dataclasses looks its module up
spec.loader.exec_module(tool)

PRINTED = """| part of the graph | nodes | seconds | longest node, s | peak memory meanwhile, GB |
| --- | ---: | ---: | ---: | ---: |
| derivatives and joins | 53 | 8.5 | 1.9 | 1.45 |
| whole participant | measured | limit at study size | ratio |
| time, min | 4.35 | 15 | 0.29 |
per voxel 2.50 us, curve_fit 500 us: 200 x
"""


def line_of(what):
    return next(line for line in tool.LINES if line.what.startswith(what))


def test_ratio_is_to_the_limit_or_to_the_peer_of_the_same_run():
    assert tool.read_line(line_of('study size, 2'), PRINTED)['ratio'] == 0.29
    fit = tool.read_line(line_of('T2*, 12 echoes'), PRINTED)
    assert (fit['measured'], fit['limit'], fit['ratio']) == (2.5, 500, 0.005)


def test_steps_are_the_rows_of_the_graph_only():
    assert [step['step'] for step in tool.read_steps(PRINTED)] == ['derivatives and joins']


def test_number_that_is_not_printed_ends_the_run():
    with pytest.raises(SystemExit, match='prints no'):
        tool.read_line(line_of('study size, 2'), 'nothing')


@pytest.mark.parametrize('line', tool.LINES, ids=lambda line: line.what)
def test_every_script_exists(line):
    assert (ROOT / 'benchmarks' / line.command.split()[0]).is_file()
