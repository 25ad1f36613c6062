"""Methods text, quantities as ports, the drawing of a graph."""

import os

from bids_app.interfaces.relaxometry import ConvertRateToTime
from bids_app.workflows._engine import (
    MapPort,
    Workflow,
    connect_quantity,
    methods_text,
    pe,
    ports,
    to_mermaid,
)
from tests.workflows.conftest import unconnected_mandatory


def convert(name, **inputs):
    return pe.Node(ConvertRateToTime(**inputs), name=name)


def inner(name, methods='', citations=()):
    workflow = Workflow(name, methods=methods, citations=citations)
    inputnode, outputnode = ports('inputnode', 'mask', 'rate'), ports('outputnode', 'time')
    node = convert('convert_rate')
    workflow.connect([(inputnode, node, [('mask', 'mask')])])
    connect_quantity(workflow, MapPort(inputnode, 'rate'), node, 'rate')
    connect_quantity(workflow, MapPort(node, 'time'), outputnode, 'time')
    return workflow


def test_graph_drawn_joins_the_neighbours_of_identity_nodes():
    workflow = Workflow('sub_01')
    first, second = inner('first'), inner('second')
    workflow.add_nodes([first, second])
    connect_quantity(workflow, MapPort(first, 'time'), second, 'rate')
    assert to_mermaid(workflow) == (
        'flowchart LR\n'
        '  first_convert_rate["first.convert_rate"]\n'
        '  second_convert_rate["second.convert_rate"]\n'
        '  first_convert_rate -- "rate" --> second_convert_rate\n'
    )


def test_mandatory_ports_that_nobody_feeds_are_found():
    workflow = Workflow('sub_01')
    workflow.add_nodes([inner('first')])
    missing = unconnected_mandatory(workflow)
    assert missing == []  # all are connected to the signature of the workflow
    alone = Workflow('sub_02')
    alone.add_nodes([convert('alone')])
    assert unconnected_mandatory(alone) == [f'sub_02.alone.{port}' for port in ('mask', 'rate')]


def test_methods_are_said_once_in_the_order_of_the_graph():
    workflow = Workflow('sub_01', methods='All was done', citations=('avants2011',))
    first = inner('z_first', 'R2 was fitted', ('preibisch2008',))
    second = inner('a_second', 'OEF was derived', ('yablonskiy1994', 'preibisch2008'))
    again = inner('again', 'R2 was fitted', ('preibisch2008',))
    silent = inner('silent')
    workflow.add_nodes([first, second, again, silent])
    connect_quantity(workflow, MapPort(first, 'time'), second, 'rate')
    text, keys = methods_text(workflow)
    assert text == (
        'All was done [@avants2011]. R2 was fitted [@preibisch2008]. '
        'OEF was derived [@yablonskiy1994] [@preibisch2008].'
    )
    assert keys == ('avants2011', 'preibisch2008', 'yablonskiy1994')


def test_one_of_a_list_is_picked_by_its_position():
    """The percent changes of a run are lists, one entry per contrast."""
    source = ports('source', 'bold')
    name, function, index = MapPort(source, 'bold', 1).output
    assert (name, function(['a', 'b'], index)) == ('bold', 'b')


def test_importing_the_engine_asks_no_network():
    assert os.environ['NO_ET'] == '1'
    assert os.environ['NIPYPE_NO_ET'] == '1'
