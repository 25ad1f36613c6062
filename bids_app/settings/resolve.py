"""From presets, settings file and command line to the settings of a run."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

from bids_app.errors import SettingsError
from bids_app.settings.schema import BloodVolumeSettings, Settings, field_of


def apply(settings: Settings, values: dict[str, Any], origin: str) -> Settings:
    """
    Replace settings by dotted name.

    `origin` is named in errors.

    Raises
    ------
    SettingsError
        For an unknown name, a value of the wrong type, or one that is not among the choices.

    Examples
    --------
    >>> apply(Settings(), {'oxygen.hct': 0.4}, 'command line').oxygen.hct
    0.4
    """
    for name, value in values.items():
        declaration, annotation = field_of(name)
        checked = _checked(name, value, declaration, annotation, origin)
        *branches, last = name.split('.')
        if branches:
            branch = dataclasses.replace(getattr(settings, branches[0]), **{last: checked})
            settings = dataclasses.replace(settings, **{branches[0]: branch})
        else:
            settings = dataclasses.replace(settings, **{last: checked})
    return settings


def _checked(
    name: str, value: Any, declaration: dataclasses.Field[Any], annotation: Any, origin: str
) -> Any:
    """Return the value in its declared type, or say what is wrong with it."""
    if annotation in (tuple[str, ...], tuple[float, ...]):
        items = value if isinstance(value, list | tuple) else (value,)
        of_item = get_args(annotation)[0]
        return tuple(_checked(name, one, declaration, of_item, origin) for one in items)
    allowed = get_args(annotation) or (annotation,)
    if float in allowed and type(value) is int:
        value = float(value)
    if not isinstance(value, allowed) or isinstance(value, bool) != (annotation is bool):
        expected = str(annotation).removeprefix("<class '").removesuffix("'>")
        msg = f'{origin}: {name} = {value!r} should be of type {expected}'
        raise SettingsError(msg)
    if isinstance(value, int | float):
        _check_limits(name, value, declaration, origin)
    known = declaration.metadata['choices']
    if known and value is not None and value not in known:
        msg = f'{origin}: {name} = {value!r} is not one of {", ".join(known)}'
        if value in declaration.metadata['former_choices']:
            now = declaration.metadata['former_choices'][value]
            msg = f'{origin}: {name} = {value!r} is now called {now!r}'
        raise SettingsError(msg)
    return value


def _check_limits(
    name: str, value: float, declaration: dataclasses.Field[Any], origin: str
) -> None:
    """Refuse a number that is not finite or lies outside of what is possible."""
    low, high = declaration.metadata['limits']
    unit = declaration.metadata['unit']
    if math.isfinite(value) and low <= value <= high:
        return
    upper = f'to {high:g}' if math.isfinite(high) else 'up'
    shown = f' {unit}' if unit not in ('', '1') else ''
    msg = f'{origin}: {name} = {value:g} should be a number from {low:g} {upper}{shown}'
    raise SettingsError(msg)


def read_toml(path: Path) -> dict[str, Any]:
    """
    Read a settings file into dotted names.

    Raises
    ------
    SettingsError
        If the file cannot be read or is not TOML.
    """
    try:
        tables = tomllib.loads(Path(path).read_text('utf-8'))
    except OSError as error:
        msg = f'cannot read the settings file {path}: {error.strerror}'
        raise SettingsError(msg) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        msg = f'{path} is not a TOML file: {error}'
        raise SettingsError(msg) from error
    flat: dict[str, Any] = {}
    for name, value in tables.items():
        if isinstance(value, dict):
            flat |= {f'{name}.{key}': item for key, item in value.items()}
        else:
            flat[name] = value
    return flat


def presets() -> dict[str, str]:
    """Give the names of the packaged presets with the first comment line of each."""
    folder = files('bids_app') / 'data' / 'presets'
    found = sorted(item.name for item in folder.iterdir() if item.name.endswith('.toml'))
    return {
        name.removesuffix('.toml'): (folder / name).read_text('utf-8').splitlines()[0].lstrip('# ')
        for name in found
    }


def preset_file(name: str) -> Path:
    """Path of a packaged preset."""
    return Path(str(files('bids_app'))) / 'data' / 'presets' / f'{name}.toml'


def parcel_file(volume: BloodVolumeSettings) -> Path:
    """Path of the factors of blood volume per parcel: that of a preset by its name, or a file."""
    named = str(volume.parcel_table)
    if named not in presets():
        return Path(named)
    return preset_file(named).with_name(f'{named}_parcels.tsv')


def parcel_tasks(volume: BloodVolumeSettings) -> tuple[str, ...] | None:
    """Tasks that the table of a preset has; None for a table of the user, which needs them all."""
    if str(volume.parcel_table) not in presets():
        return None
    return tuple(parcel_file(volume).read_text('utf-8').splitlines()[0].split('\t')[1:])


def resolve(
    *,
    preset: str | None = None,
    config_file: Path | None = None,
    command_line: dict[str, Any] | None = None,
) -> Settings:
    """
    Make the settings of a run: default < preset < configuration file < command line.

    Raises
    ------
    SettingsError
        For anything unknown or of the wrong type.
    """
    from_file = read_toml(config_file) if config_file else {}
    preset = preset or from_file.get('preset') or 'recommended'
    if preset not in tuple(presets()):
        msg = f'unknown preset {preset!r}; there are: {", ".join(presets())}'
        raise SettingsError(msg)
    settings = apply(Settings(), read_toml(preset_file(preset)), f'preset {preset}')
    settings = apply(settings, from_file, str(config_file))
    settings = apply(settings, command_line or {}, 'command line')
    return dataclasses.replace(settings, preset=preset)
