"""oxybold as a Python package: public names, and the page that shows them."""

import inspect
import re
import subprocess
import sys

import pytest

import oxybold
from bids_app.errors import MissingInputError
from tests.paths import ROOT

PAGE = ROOT / 'docs' / 'how-to' / 'python.md'


def test_every_public_name_is_there_with_a_docstring():
    for name in oxybold.__all__:
        assert getattr(oxybold, name) is not None
        assert name.startswith('__') or getattr(oxybold, name).__doc__


def test_a_name_that_is_not_public_is_refused():
    with pytest.raises(AttributeError, match="'oxybold' has no attribute 'nothing'"):
        _ = oxybold.nothing


def test_importing_loads_nothing_heavy():
    code = "import oxybold, sys; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == 'False'


def test_models_on_arrays_run_as_the_page_says():
    blocks = re.findall('```python\n(.*?)```', PAGE.read_text('utf-8'), re.DOTALL)
    names = {}
    exec(blocks[-1], names)
    change = names['change']
    assert f'{change.value[0]:.1f} and {change.variance[0] ** 0.5:.1f} umol' in PAGE.read_text()


def test_every_public_function_has_an_example():
    for name in set(oxybold.__all__) - {'load'}:
        thing = getattr(oxybold, name)
        if inspect.isfunction(thing):
            assert '>>>' in thing.__doc__, name


def test_a_folder_that_is_no_output_is_refused(tmp_path):
    with pytest.raises(MissingInputError, match='expected the output folder of oxybold'):
        oxybold.load(tmp_path)
