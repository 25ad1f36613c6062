"""The design of a group in the words of BIDS Stats Models, for other programs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bids_app.group.design import Design
    from bids_app.group.formula import Encoding

VERSION = '1.0.0'
"""Of the specification."""


def stats_model(design: Design) -> dict[str, Any] | None:
    """
    Write a design as a BIDS Stats Model of the dataset level.

    None where the specification has no words for it: without a formula, or with a function of a
    number in it.
    """
    encoding = design.encoding
    names = {column: _name(column, encoding) for column in design.columns}
    if encoding is None or not names or None in names.values():
        return None
    steps: list[dict[str, Any]] = []
    if encoding.levels:
        steps.append({'Name': 'Factor', 'Input': sorted(encoding.levels)})
    centred = [name for name in encoding.centres if any(name in _parts(c) for c in names)]
    if centred:
        steps.append({'Name': 'Demean', 'Input': sorted(centred)})
    steps += [
        {'Name': 'Product', 'Input': name.split('*'), 'Output': [name]}
        for name in map(str, names.values())
        if '*' in name
    ]
    steps.append({'Name': 'Demean', 'Input': list(names.values())})
    columns = ['1', *map(str, names.values())]
    return {
        'Name': 'group',
        'BIDSModelVersion': VERSION,
        'Description': f'~ {encoding.text.strip()}',
        'Input': {},
        'Nodes': [
            {
                'Level': 'Dataset',
                'Name': 'group',
                'GroupBy': ['contrast'],
                'Transformations': {'Transformer': 'pybids-transforms-v1', 'Instructions': steps},
                'Model': {'Type': 'glm', 'X': [1, *columns[1:]]},
                'Contrasts': [
                    {
                        'Name': label,
                        'ConditionList': [c for c, w in zip(columns, test.weights, strict=True)
                                          if w],
                        'Weights': [w for w in test.weights if w],
                        'Test': 't',
                    }
                    for label, test in design.tests.items()
                ],
            }
        ],
    }  # fmt: skip


def _parts(column: str) -> list[str]:
    """Split an interaction."""
    return column.split(':')


def _name(column: str, encoding: Encoding | None) -> str | None:
    """Name a column as the transformations do: group.patient*age; None where they cannot."""
    found = []
    for part in _parts(column):
        level = re.fullmatch(r'(.+)\[T\.(.+)\]', part)
        if level:
            found.append(f'{level[1]}.{level[2]}')
        elif encoding is not None and part in encoding.centres:
            found.append(part)
        else:
            return None
    return '*'.join(found)
