"""
Say which docstrings numpydoc cannot read, and which references in them lead nowhere.

Models are held to numpydoc's own checks; See Also and roles are followed in every module.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from typing import TYPE_CHECKING

from numpydoc.validate import validate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

STRICT = 'bids_app.models'

CHECKS = {
    'GL07': 'sections in another order',
    'PR01': 'parameter that is not documented',
    'PR02': 'parameter that does not exist',
    'PR07': 'parameter without description',
    'PR09': 'description without full stop',
    'RT03': 'return value without description',
    'SS03': 'summary without full stop',
    'SS04': 'text that numpydoc takes for the summary',
    'YD01': 'generator without Yields',
}
"""Checks of numpydoc that are errors here. The order of parameters is free: those that share a
type are described together."""

ROLE = re.compile(r':(?:func|class|mod|meth|data|attr):`~?([\w.]+)`')
SEE_ALSO = re.compile(r'^See Also\n-+\n(.*?)(?=\n\n|\Z)', re.M | re.S)


def modules(package: str) -> Iterator[ModuleType]:
    """Import every module of a package but its program."""
    parent = importlib.import_module(package)
    yield parent
    for found in pkgutil.walk_packages(parent.__path__, f'{package}.'):
        if not found.name.endswith('__main__'):
            yield importlib.import_module(found.name)


def documented(module: ModuleType) -> Iterator[tuple[str, object, type | None]]:
    """Go through functions, classes and methods that a module defines: name, object, class."""
    for name, item in vars(module).items():
        if getattr(item, '__module__', None) != module.__name__:
            continue
        if inspect.isfunction(item) or inspect.isclass(item):
            yield name, item, item if inspect.isclass(item) else None
        if inspect.isclass(item):
            for member, function in vars(item).items():
                if inspect.isfunction(function) or isinstance(function, property):
                    yield f'{name}.{member}', function, item


def references(docstring: str) -> Iterator[str]:
    """Go through the names in roles and under See Also."""
    yield from ROLE.findall(docstring)
    for section in SEE_ALSO.findall(docstring):
        for line in section.splitlines():
            if not line.startswith(' '):
                yield from (name.strip() for name in line.partition(' : ')[0].split(','))


def leads_somewhere(reference: str, module: ModuleType, owner: type | None) -> bool:
    """Tell whether a reference names something beside it or by its whole path."""
    parts = reference.split('.')
    for target, names in ((module, parts), (owner, parts)):
        if target is not None and _follow(target, names):
            return True
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module('.'.join(parts[:cut]))
        except ImportError:
            continue
        return _follow(found, parts[cut:])
    return False


def _follow(target: object, names: list[str]) -> bool:
    fields = getattr(target, '__dataclass_fields__', {})
    for name in names:
        if name in fields:
            return True
        if not hasattr(target, name):
            return False
        target = getattr(target, name)
    return True


def problems(module: ModuleType, *, strict: bool) -> Iterator[str]:
    """Say what is wrong with the docstrings of a module."""
    texts = [(module.__name__, module.__doc__ or '', None)]
    for name, item, owner in documented(module):
        text = inspect.cleandoc(item.__doc__ or '')
        texts.append((f'{module.__name__}.{name}', text, owner))
        public = not any(part.startswith('_') for part in name.split('.'))
        if strict and public and '\n' in text:  # a single line documents no parameter by itself
            for code, what in validate(f'{module.__name__}.{name}')['errors']:
                # an Enum takes its parameters from the library
                if code in CHECKS and not (code == 'PR01' and 'qualname' in what):
                    yield f'{module.__name__}.{name}: {code} {what}'
    for where, text, owner in texts:
        for reference in references(text):
            if not leads_somewhere(reference, module, owner):
                yield f'{where}: no {reference!r} beside it; give its whole path'


def main() -> int:
    """Print the problems; end with 1 if there are any."""
    found = [
        problem
        for module in modules('bids_app')
        for problem in problems(module, strict=module.__name__.startswith(STRICT))
    ]
    print('\n'.join(found) or 'Every docstring is whole.')
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main())
