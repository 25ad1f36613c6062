"""A docstring that numpydoc cannot read is found, and a whole one is not."""

import importlib
import importlib.util
import sys

import pytest

from tests.paths import ROOT

spec = importlib.util.spec_from_file_location('check', ROOT / 'tools' / 'check_docstrings.py')
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)

WHOLE = r"""
    Add two numbers.

    Parameters
    ----------
    first, second : float
        Any unit.

    Returns
    -------
    total : float
        The same unit.

    See Also
    --------
    add : This one.
    """


@pytest.fixture
def found(tmp_path, monkeypatch, request):
    """Problems of a module with one function, by its docstring."""
    name = 'toy_of_docstrings'
    (tmp_path / f'{name}.py').write_text(
        f'"""A toy."""\n\n\ndef add(first, second):\n    r"""{request.param}"""\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.invalidate_caches()
    yield ' '.join(tool.problems(importlib.import_module(name), strict=True))
    sys.modules.pop(name)


@pytest.mark.parametrize('found', [WHOLE], indirect=True)
def test_whole_docstring_has_no_problem(found):
    assert not found


@pytest.mark.parametrize(
    ('found', 'code'),
    [
        (WHOLE.replace('first, second', 'first, \\\nsecond'), 'PR02'),  # continued in a raw string
        (WHOLE.replace('first, second', 'first'), 'PR01'),
        (WHOLE.replace('first, second', 'first, second, third'), 'PR02'),
        (WHOLE.replace('Any unit.', ''), 'PR07'),
        (WHOLE.replace('    add : This one.', '    subtract : Another.'), "no 'subtract'"),
        (WHOLE.replace('Any unit.', 'As :func:`subtract`.'), "no 'subtract'"),
    ],
    indirect=['found'],
)
def test_broken_docstring_is_told_by_what_is_wrong(found, code):
    assert code in found
