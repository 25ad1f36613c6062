"""Where a setting came from, and how it is written down."""

from __future__ import annotations

from typing import Any

from bids_app.settings.resolve import preset_file, resolve
from bids_app.settings.schema import Settings, field_of, flatten


def preset_reasons(name: str) -> dict[str, str]:
    """Say why a preset differs from the defaults: the comments at the ends of its lines."""
    reasons, branch = {}, ''
    for line in preset_file(name).read_text('utf-8').splitlines():
        if line.startswith('['):
            branch = line.strip('[] ') + '.'
        key, separator, rest = line.partition(' = ')
        if separator and not line.startswith('#') and '  # ' in rest:
            reasons[branch + key] = rest.partition('  # ')[2].strip()
    return reasons


def to_toml(settings: Settings) -> str:
    """Write settings as TOML; unset ones are left out and listed as comments."""
    import tomli_w

    tables: dict[str, Any] = {}
    unset = []
    for name, value in flatten(settings).items():
        if value is None:
            unset.append(name)
            continue
        *branches, last = name.split('.')
        target = tables
        for branch in branches:
            target = target.setdefault(branch, {})
        target[last] = list(value) if isinstance(value, tuple) else value
    comment = ''.join(f'# {name} is not set: made from the data\n' for name in unset)
    return comment + tomli_w.dumps(tables)


def setting_origin(name: str, value: Any, settings: Settings) -> str:
    """Tell which of default, preset and the user's own choice a setting came from."""
    if value == flatten(Settings()).get(name):
        return 'default'
    if value == flatten(resolve(preset=settings.preset)).get(name):
        return f'preset {settings.preset}'
    return 'configuration file or command line'


def setting_parameters(
    settings: Settings, branches: tuple[str, ...]
) -> dict[str, dict[str, float | str]]:
    """
    Entries of a sidecar: the numbers of branches with unit and origin.

    Examples
    --------
    >>> setting_parameters(Settings(), ('group',))['permutations']
    {'Value': 1000, 'Units': '1', 'Origin': 'default'}
    """
    return {
        name.split('.')[-1]: {
            'Value': value,
            'Units': field_of(name)[0].metadata['unit'],
            'Origin': setting_origin(name, value, settings),
        }
        for name, value in flatten(settings).items()
        if name.split('.')[0] in branches and isinstance(value, int | float)
    }
