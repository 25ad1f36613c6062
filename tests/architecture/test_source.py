"""Rules of the source that no linter knows."""

import ast
import re
from importlib import import_module
from importlib.util import find_spec

import pytest

from bids_app.bids.output.names import table
from bids_app.bids.products import PRODUCTS
from bids_app.interfaces._base import POSITIONS
from bids_app.models.registry import MODELS, UNITS
from bids_app.reports.citations import load_references
from bids_app.settings import Settings, field_of, flatten
from tests.architecture.source import PACKAGE, nodes, strings, trees

DOCS = PACKAGE.parent / 'docs'

# ------------------------------------------------------------------------------ exceptions

BROAD = {
    'cli/main.py': 'the one place that turns any exception into an exit code',
    'bids/run/outcome.py': 'nothing that follows the maps may make a participant fail',
    'workflows/_workers.py': 'whatever ends a step ends what is made from it, and no more',
    'workflows/app.py': 'nothing that one participant does may harm another',
    'workflows/dry_run.py': 'nothing that one participant holds may hide the others',
    'workflows/execution.py': 'nipype raises anything that a node raised',
}


def is_broad(handler):
    """Tell whether a handler catches every exception."""
    caught = ast.walk(handler.type) if handler.type is not None else ()
    names = {node.id for node in caught if isinstance(node, ast.Name)}
    return handler.type is None or bool(names & {'Exception', 'BaseException'})


def test_exceptions_are_caught_broadly_only_where_a_reason_is_given():
    assert {path for path, node in nodes(ast.ExceptHandler) if is_broad(node)} == set(BROAD)


def test_no_assert_outside_tests():
    assert not [(path, node.lineno) for path, node in nodes(ast.Assert)]


def test_only_the_programs_exit_and_set_up_logging():
    def calls(name):
        return {path for path, node in nodes(ast.Call) if ast.unparse(node.func) == name}

    assert {path for path in calls('sys.exit') if not path.startswith('phantom/')} <= {
        'cli/main.py',
        'cli/power.py',
        'cli/table.py',
        '__main__.py',
    }
    assert calls('logging.StreamHandler') <= {'cli/main.py'}
    assert not calls('logging.basicConfig')
    assert not calls('print')


# ------------------------------------------------------------------------------ formulas

GEOMETRY = re.compile(r'shape|ndim|:3|eye\(4|repeat=3|size=3|\(3,\)')
"""Lines in which 3 and 4 count axes or the size of an affine."""

EXACT = {
    '4 / 3 * np.pi * gyromagnetic_ratio': 'randomly oriented vessels, Yablonskiy & Haacke eq. 9',
    'np.sqrt(8 * np.log(2))': 'full width at half maximum of a Gaussian in standard deviations',
    'np.exp(-0.5 * (np.arange': 'the Gaussian',
    'np.ceil(4 * sigma)': 'where the sampled Gaussian is cut; 6e-5 of it lies beyond',
    'rate.variance * value**4': 'derivative of 1/x',
    'np.diff(rate, n=2)))) / np.sqrt(6)': 'the weights 1, -2, 1 squared and summed',
    'for fraction in (0.5,': 'half of the maximum',
    'inside >= 0.5 * height': 'half of the maximum',
    '0.5 * height - before': 'half of the maximum',
    'shapes >= 0.5': 'half of the maximum',
    '4 * padded + np.roll(padded, -1)) / 6': 'integral of two functions linear between samples',
    'repetition_time**2 / 12': 'variance of a uniform distribution',
    '* 1e6 / (8 * 4 * kernel.length)': 'bytes of a megabyte, of a number, and arrays at a time',
    '4 * miss * (1 - miss)': 'sine of the angle squared by its half, sin^2 a = 4 u (1 - u)',
    '4 * (1 - 2 * miss)': 'derivative of the line above it',
    '2 * echo + 3': 'two orders per echo, zero among them',
    '(before + after) / 4': 'variance of half a difference',
    '(v_below + v_above) / 4': 'variance of half a sum',
    'np.where(curved, 4, 1)': 'three-point slope: 9/4 + 4 + 1/4 times the noise, below 4 pairs',
    'ratio**2 / 4': 'argument of the Bessel functions of a Rician mean',
    'memory_mb * 1e6 //': 'bytes of a megabyte',
    '* 1e6 / (8 * COPIES_IN_FIT': 'bytes of a megabyte, and of a number',
    '@ kernel / 3': 'mean of the frequency over orientations, Yablonskiy & Haacke eq. 26',
    '1 + 8 * np.finfo(float).eps': 'rounding of the last places',
    '8 * density.sum() ** 2': 'efficiency of a median, (2 f)^2 / n with two sides',
}
"""Part of a line in models/ -> why its number needs no name."""


def in_formulas():
    """Line of every number other than 0, 1, 2 in a function of models/."""
    for path, function in nodes(ast.FunctionDef, below='models/'):
        lines = (PACKAGE / path).read_text('utf-8').splitlines()
        arguments = function.args
        outside = [*arguments.defaults, *arguments.kw_defaults]
        outside += [node for node in ast.walk(function) if isinstance(node, ast.JoinedStr)]
        skipped = {id(part) for node in outside if node for part in ast.walk(node)}
        for node in ast.walk(function):
            if (
                isinstance(node, ast.Constant)
                and type(node.value) in (int, float)
                and node.value not in (0, 1, 2)
                and id(node) not in skipped
            ):
                yield node.value, lines[node.lineno - 1].strip(), f'{path}:{node.lineno}'


def test_no_number_without_a_name_in_a_formula():
    unnamed = [
        (place, line)
        for number, line, place in in_formulas()
        if not (number in (3, 4) and GEOMETRY.search(line))
        and not any(part in line for part in EXACT)
    ]
    assert not unnamed, 'numbers belong to models/constants.py, with unit and source'


def test_every_exception_to_that_rule_is_still_needed():
    lines = [line for _, line, _ in in_formulas()]
    assert not [part for part in EXACT if not any(part in line for line in lines)]


# ------------------------------------------------------------------------------ registry

ROWS = [(quantity, name) for quantity, rows in MODELS.items() for name in rows]


@pytest.mark.parametrize(('quantity', 'name'), ROWS)
def test_row_of_the_registry_has_ports_for_its_arguments(quantity, name):
    interfaces = {
        cls.quantity: cls
        for module in ('relaxometry', 'perfusion', 'blood_volume', 'oxygen')
        for cls in vars(import_module(f'bids_app.interfaces.{module}')).values()
        if hasattr(cls, 'quantity')
    }
    spec = MODELS[quantity][name]
    inputs = interfaces[quantity].input_spec().copyable_trait_names()
    outputs = interfaces[quantity].output_spec().copyable_trait_names()
    optional = {'noise_groups'} - {*inputs} | {POSITIONS}  # made from the grid of the mask
    assert {*spec.maps, *spec.data, *spec.parameters, 'mask', 'model'} <= {*inputs, *optional}
    also = {one for row in MODELS[quantity].values() for one in row.also}
    assert {quantity, *spec.also} <= {*outputs} <= {quantity, *also}


@pytest.mark.parametrize(('quantity', 'name'), ROWS)
def test_row_of_the_registry_has_a_unit_and_a_sentence(quantity, name):
    spec = MODELS[quantity][name]
    assert quantity in UNITS
    assert re.fullmatch(r"[A-Z].*\w'?", spec.methods), 'the citation and the full stop follow'


# ------------------------------------------------------------------------------ settings

NAMES = tuple(flatten(Settings()))
NUMBERS_WITHOUT_UNIT = {'anatomy.random_seed'}


@pytest.mark.parametrize('name', NAMES)
def test_setting_has_help_and_a_number_a_unit(name):
    declaration, annotation = field_of(name)
    assert declaration.metadata['help']
    if annotation in (int, float, float | None) and name not in NUMBERS_WITHOUT_UNIT:
        assert declaration.metadata['unit']


@pytest.mark.parametrize('name', NAMES)
def test_setting_is_documented(name):
    assert f'`{name}`' in (DOCS / 'reference' / 'settings.md').read_text('utf-8')


@pytest.mark.parametrize('name', NAMES)
def test_setting_is_used(name):
    last = name.split('.')[-1]
    by_registry = {
        parameter
        for rows in MODELS.values()
        for row in rows.values()
        for parameter in row.constants
    }
    readers = {
        path
        for path, node in nodes(ast.Attribute)
        if node.attr == last and path.startswith(('bids/', 'workflows/', 'group/'))
    }
    assert readers or last in by_registry


# ------------------------------------------------------------------------------ tables


def test_citations_of_code_are_in_the_bibliography():
    cited = {
        constant.value
        for _, call in nodes(ast.keyword)
        if call.arg in ('citations', 'citation')
        for constant in ast.walk(call.value)
        if isinstance(constant, ast.Constant) and constant.value
    }
    cited |= {key for _, text in strings() for key in re.findall(r'\[@(\w+)\]', text)}
    assert cited
    assert cited <= set(load_references())


SCIENCE = ('workflows/', 'group/', 'interfaces/', 'models/', 'cli/')
WRITERS = ('workflows/', 'group/', 'bids/', 'reports/', 'cli/')


def test_every_row_of_the_output_table_is_written_by_some_code():
    written = {text for path, text in strings() if path.startswith(WRITERS)}
    written |= {product.row for product in PRODUCTS.values()}
    assert not set(table().rows) - written


def test_every_key_that_code_writes_is_a_row_of_the_output_table():
    keys = {
        node.value.value
        for path, node in nodes(ast.keyword)
        if node.arg == 'key' and path.startswith(WRITERS) and isinstance(node.value, ast.Constant)
    }
    keys |= {
        node.args[1].value
        for path, node in nodes(ast.Call, below='workflows/')
        if ast.unparse(node.func) == 'sink.add' and isinstance(node.args[1], ast.Constant)
    }
    assert len(keys) > 15
    assert keys <= set(table().rows)


def test_python_spells_no_name_of_an_output():
    """Names are made by output_path and read by match; only the table spells them."""
    spelt = re.compile(r'_(space|desc|res|contrast|stat|seg)-')
    found = [(path, text) for path, text in strings() if spelt.search(text)]
    assert not [item for item in found if item[0].startswith(SCIENCE)]


def test_every_module_says_what_it_is_for():
    assert not [path for path, tree in trees().items() if not ast.get_docstring(tree)]


def test_what_tests_and_benchmarks_import_exists():
    """Within functions too, and in the long proofs, which no run of the tests reads."""
    root = PACKAGE.parent
    missing = [
        f'{path.relative_to(root)}:{node.lineno}: {node.module}.{alias.name}'
        for folder in ('tests', 'benchmarks', 'tools')
        for path in sorted((root / folder).rglob('*.py'))
        for node in ast.walk(ast.parse(path.read_text('utf-8')))
        if isinstance(node, ast.ImportFrom) and (node.module or '').startswith('bids_app.')
        for alias in node.names
        if not exists(node.module, alias.name)
    ]
    assert not missing


def exists(module, name):
    """Tell whether a module has an attribute, or a package a module, of this name."""
    if hasattr(import_module(module), name):
        return True
    return hasattr(import_module(module), '__path__') and bool(find_spec(f'{module}.{name}'))
