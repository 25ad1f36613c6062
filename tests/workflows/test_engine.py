"""Methods text, quantities as ports, the drawing of a graph."""

import os

from bids_app.interfaces.relaxometry import ConvertRateToTime
from bids_app.workflows._engine import (
    PARTS,
    Quantity,
    Workflow,
    connect_quantity,
    methods_text,
    pe,
    ports,
    to_mermaid,
    unconnected_mandatory,
)


def convert(name, **inputs):
    return pe.Node(ConvertRateToTime(**inputs), name=name)


def inner(name, methods='', citations=()):
    workflow = Workflow(name, methods=methods, citations=citations)
    inputnode, outputnode = ports('inputnode', 'mask', quantities=('rate',)), ports(
        'outputnode', quantities=('time',)
    )  # fmt: skip
    node = convert('convert_rate')
    workflow.connect([(inputnode, node, [('mask', 'mask')])])
    connect_quantity(workflow, Quantity(inputnode, 'rate'), node, 'rate')
    connect_quantity(workflow, Quantity(node, 'time'), outputnode, 'time')
    return workflow


def test_a_quantity_is_four_ports():
    assert ports('inputnode', 'mask', quantities=('r2',)).inputs.copyable_trait_names() == [
        'mask', *(f'r2{part}' for part in PARTS),
    ]  # fmt: skip


def test_graph_drawn_joins_the_neighbours_of_identity_nodes():
    workflow = Workflow('sub_01')
    first, second = inner('first'), inner('second')
    workflow.add_nodes([first, second])
    connect_quantity(workflow, Quantity(first, 'time'), second, 'rate')
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
    assert unconnected_mandatory(alone) == [
        f'sub_02.alone.{port}' for port in ('mask', 'rate', 'rate_status', 'rate_variance')
    ]


def test_methods_are_said_once_in_the_order_of_the_graph():
    workflow = Workflow('sub_01', methods='All was done', citations=('avants2011',))
    first = inner('z_first', 'R2 was fitted', ('preibisch2008',))
    second = inner('a_second', 'OEF was derived', ('yablonskiy1994', 'preibisch2008'))
    again = inner('again', 'R2 was fitted', ('preibisch2008',))
    silent = inner('silent')
    workflow.add_nodes([first, second, again, silent])
    connect_quantity(workflow, Quantity(first, 'time'), second, 'rate')
    text, keys = methods_text(workflow)
    assert text == (
        'All was done [@avants2011]. R2 was fitted [@preibisch2008]. '
        'OEF was derived [@yablonskiy1994] [@preibisch2008].'
    )
    assert keys == ('avants2011', 'preibisch2008', 'yablonskiy1994')


def test_one_of_a_list_is_picked_by_its_position():
    """The percent changes of a run are lists, one entry per contrast."""
    source = pe.Node(ports('x', quantities=('bold',)).interface, name='source')
    quantity = Quantity(source, 'bold', 1)
    name, function, index = quantity.output('_variance')
    assert (name, function(['a', 'b'], index)) == ('bold_variance', 'b')


def test_facts_stay_behind_where_there_is_no_port_for_them():
    workflow = Workflow('sub_01')
    source = ports('source', 'bold', 'bold_variance', 'bold_status')
    target = convert('target')
    connect_quantity(workflow, Quantity(source, 'bold'), target, 'rate')
    assert not Quantity(source, 'bold').has_facts
    (edge,) = workflow._graph.edges(data=True)
    assert sorted(port for _, port in edge[2]['connect']) == [
        'rate', 'rate_status', 'rate_variance',
    ]  # fmt: skip


def test_importing_the_engine_asks_no_network():
    assert os.environ['NO_ET'] == '1'
    assert os.environ['NIPYPE_NO_ET'] == '1'
