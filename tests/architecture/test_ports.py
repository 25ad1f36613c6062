"""Every port of every interface says what it carries and in which unit."""

import inspect
import pkgutil
import re
from importlib import import_module

import pytest
from nipype.interfaces.base import BaseInterface, BaseInterfaceInputSpec, TraitedSpec

from bids_app import interfaces
from bids_app.interfaces.derivatives import SaveDerivatives
from bids_app.interfaces.regions import SummariseRegions

MODULES = [
    import_module(f'bids_app.interfaces.{info.name}')
    for info in pkgutil.iter_modules(interfaces.__path__)
]
INTERFACES = {
    f'{module.__name__.rpartition(".")[2]}.{name}': cls
    for module in MODULES
    for name, cls in vars(module).items()
    if inspect.isclass(cls)
    and issubclass(cls, BaseInterface)
    and cls.__module__ == module.__name__
}
ABSTRACT = {'_base.Interface', '_base.ModelInterface', 'change.ChangeInterface'}
CONCRETE = [name for name in INTERFACES if name not in ABSTRACT]
INHERITED = {*BaseInterfaceInputSpec().traits(), *TraitedSpec().traits()}

NO_UNIT = ''  # of names, choices and files that are not maps; a fraction has the unit 1
UNITS = {
    NO_UNIT, '1', '%', '%^2', 's', 's^2', '1/s', '1/s^2', 'Hz', 'Hz^2', 'T', 'T/m', 'rad',
    'rad/s/T', 'mm', 'mL', 'm', 'a.u.', 'a.u.^2', 'mL/mL', '(mL/mL)^2', 'mL/g', 'mL/100 g/min',
    '(mL/100 g/min)^2', 'umol/mL', 'umol s/mL', 'umol/100 g/min', '(umol/100 g/min)^2',
    'mmHg', '%/mmHg',
}  # fmt: skip
VERBS = {
    'Align', 'Average', 'Carry', 'Collect', 'Combine', 'Compare', 'Compute', 'Convert',
    'Correct', 'Count', 'Discretise', 'Divide', 'Estimate', 'Extract', 'Fill', 'Find', 'Hand',
    'Judge', 'Label', 'Leave', 'Limit', 'Load', 'Make', 'Map', 'Mask', 'Measure',
    'Name', 'Normalise', 'Pass', 'Predict', 'Prepare', 'Read', 'Register', 'Resample', 'Sample',
    'Save', 'Segment', 'Select', 'Separate', 'Smooth', 'Summarise', 'Take', 'Tell', 'Trust',
    'Turn', 'Undistort', 'Undo', 'Write',
}  # fmt: skip
"""What interfaces are named by, and what their sentences start with."""


def ports(spec):
    return {name: trait for name, trait in spec.traits().items() if name not in INHERITED}


@pytest.mark.parametrize('name', CONCRETE)
def test_every_port_has_a_description_and_a_unit(name):
    cls = INTERFACES[name]
    found = {**ports(cls.input_spec()), **ports(cls.output_spec())}
    assert found
    bad = {
        port: (trait.desc, trait.unit)
        for port, trait in found.items()
        if not trait.desc or trait.unit not in UNITS
    }
    assert not bad


@pytest.mark.parametrize(
    'interface',
    [SaveDerivatives(items={'x': {}}), SummariseRegions(quantities=['x'])],
    ids=['SaveDerivatives', 'SummariseRegions'],
)
def test_ports_made_on_demand_have_descriptions_too(interface):
    made = set(ports(interface.inputs)) - set(ports(type(interface).input_spec()))
    assert made
    assert not [port for port in made if not interface.inputs.traits()[port].desc]
    assert not [port for port in made if interface.inputs.traits()[port].unit is None]


@pytest.mark.parametrize('name', CONCRETE)
def test_no_port_carries_a_part_of_a_quantity(name):
    """Value, variance, status and facts travel together, through one port."""
    for spec in (INTERFACES[name].input_spec(), INTERFACES[name].output_spec()):
        found = set(ports(spec)) - {'field_map_variance'}  # of a field there is no status
        assert not [port for port in found if re.search('_(variance|status|facts)$', port)]


def first_words(name):
    """First word of the name of an interface, and of the sentence that says what it does."""
    sentence = inspect.getdoc(INTERFACES[name]).splitlines()[0]
    return re.match('[A-Z][a-z]+', name.rpartition('.')[2])[0], sentence.split()[0].strip(',')


@pytest.mark.parametrize('name', CONCRETE)
def test_every_interface_is_a_verb_with_a_sentence(name):
    sentence = inspect.getdoc(INTERFACES[name]).splitlines()[0]
    assert re.fullmatch(r'[A-Z].*\.', sentence)
    assert len(sentence.split()) > 2
    assert set(first_words(name)) <= VERBS


def test_every_verb_is_that_of_some_interface():
    assert {verb for name in CONCRETE for verb in first_words(name)} == VERBS
