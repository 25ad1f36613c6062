"""Templates and atlases beside those packaged: from a folder of the user, or TemplateFlow."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_app.bids.input.files import check_readable
from bids_app.bids.input.query import TEMPLATE
from bids_app.bids.input.surfaces import is_surface
from bids_app.errors import MissingInputError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

NONE = 'none'
"""Output space of a run that makes nothing in template space."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A template maps are carried to; the group level reads the packaged one only."""

    space: str
    """Its name in file names, such as MNI152NLin2009cAsym."""
    t1w: Path
    """With skull."""
    mask: Path
    """Its brain, on the same grid; this is the grid of the maps."""


def other_templates(spaces: Sequence[str]) -> tuple[Template, ...]:
    """
    Find the templates of a setting beside the packaged one.

    Parameters
    ----------
    spaces : sequence of str
        `NAME=FOLDER` for a folder that has ``tpl-NAME[_res-R]_T1w.nii.gz`` and
        ``tpl-NAME[_res-R]_desc-brain_mask.nii.gz``; `NAME` alone for one of TemplateFlow.

    Returns
    -------
    templates : tuple of Template
        In the order given, the packaged one left out. Of several resolutions, 2 mm.

    Raises
    ------
    SettingsError
        If a space is named in another way or twice, TemplateFlow is not installed or has no such
        template, or the folder does not hold those files.

    Examples
    --------
    >>> other_templates(['MNI152NLin6Asym'])
    ()
    """
    if len(set(spaces)) > 1 and NONE in spaces:
        msg = f'output spaces {" ".join(spaces)}: expected {NONE} alone, or names of templates'
        raise SettingsError(msg)
    found = tuple(
        _template(item) for item in spaces if item not in (TEMPLATE, NONE) and not is_surface(item)
    )
    names = [template.space for template in found]
    if len(set(names)) < len(names):
        msg = f'output spaces {" ".join(spaces)}: the same name twice'
        raise SettingsError(msg)
    return found


def _template(item: str) -> Template:
    """Find one template."""
    name, _, folder = item.partition('=')
    if not re.fullmatch('[A-Za-z0-9]+', name) or (name == TEMPLATE and folder):
        msg = (
            f'output space {item}: expected {TEMPLATE} (packaged), {NONE}, NAME of TemplateFlow '
            'or NAME=FOLDER, NAME of letters and digits'
        )
        raise SettingsError(msg)
    t1w, mask = _in_folder(name, Path(folder)) if folder else _from_templateflow(name)
    try:
        for path in (t1w, mask):
            check_readable(path)
    except MissingInputError as error:
        msg = f'output space {item}: {error}'
        raise SettingsError(msg) from error
    return Template(space=name, t1w=t1w.absolute(), mask=mask.absolute())


def _in_folder(name: str, folder: Path) -> tuple[Path, Path]:
    """Find T1w image and brain mask of one resolution."""
    pairs = {}
    for t1w in sorted(folder.glob(f'tpl-{name}*_T1w.nii.gz')):
        middle = t1w.name.removeprefix(f'tpl-{name}').removesuffix('_T1w.nii.gz')
        mask = t1w.with_name(f'tpl-{name}{middle}_desc-brain_mask.nii.gz')
        if re.fullmatch(r'(_res-\w+)?', middle) and mask.exists():
            pairs[middle] = (t1w, mask)
    wanted = [middle for middle in pairs if middle in ('_res-02', '_res-2')] or list(pairs)
    if len(wanted) != 1:
        msg = (
            f'output space {name}={folder}: expected tpl-{name}_T1w.nii.gz and '
            f'tpl-{name}_desc-brain_mask.nii.gz, with _res-2 or _res-02 where there are several '
            f'resolutions; found {", ".join(t1w.name for t1w, _ in pairs.values()) or "none"}'
        )
        raise SettingsError(msg)
    return pairs[wanted[0]]


def _from_templateflow(name: str) -> tuple[Path, Path]:
    """Ask TemplateFlow, which fetches what it does not have yet."""
    try:
        from templateflow import api
    except ImportError as error:
        msg = (
            f'output space {name}: TemplateFlow is not installed; pip install templateflow, or '
            f'name a folder: {name}=FOLDER'
        )
        raise SettingsError(msg) from error
    kinds: tuple[dict[str, Any], ...] = (
        {'desc': None, 'suffix': 'T1w'},
        {'desc': 'brain', 'suffix': 'mask'},
    )
    try:
        found = [api.get(name, resolution=2, extension='.nii.gz', **kind) for kind in kinds]
    except (OSError, LookupError, ValueError) as error:  # the network, or an unknown name
        msg = f'output space {name}: TemplateFlow could not give it ({error}); {name}=FOLDER does'
        raise SettingsError(msg) from error
    if not all(isinstance(path, Path) for path in found):
        msg = (
            f'output space {name}: expected one T1w image and one brain mask of 2 mm in '
            f'TemplateFlow, found {found}; name a folder: {name}=FOLDER'
        )
        raise SettingsError(msg)
    return found[0], found[1]


def templateflow_atlas(name: str, space: str = TEMPLATE) -> tuple[Path, Path]:
    """
    Find an atlas of a template in the local TemplateFlow; nothing is fetched.

    Parameters
    ----------
    name : str
        Entities in order, such as ``atlas-Schaefer2018_desc-400Parcels7Networks``.
    space : str
        Template it lies in.

    Returns
    -------
    image, table : Path
        Label image, of 2 mm where there is one, and table of labels.

    Raises
    ------
    SettingsError
        If the folder (TEMPLATEFLOW_HOME, else ~/.cache/templateflow) does not hold both, or
        TemplateFlow has listed but not fetched them (empty files).
    """
    home = Path(os.environ.get('TEMPLATEFLOW_HOME') or Path.home() / '.cache' / 'templateflow')
    folder = home / f'tpl-{space}'
    images = [
        folder / f'tpl-{space}{middle}_{name}_dseg.nii.gz' for middle in ('_res-02', '_res-01')
    ]
    # a table holds for all resolutions, and may for all thresholds and templates
    bare = re.sub('_desc-[A-Za-z0-9]+$', '', name)
    tables = [
        *(folder / f'tpl-{space}_{kind}_dseg.tsv' for kind in (name, bare)),
        *(home / f'{kind}_dseg.tsv' for kind in (name, bare)),
    ]
    found = [
        next((one for one in paths if one.is_file() and one.stat().st_size), None)
        for paths in (images, tables)
    ]
    image, table = found
    if image is None or table is None:
        there = sorted(
            {
                path.name.partition('_atlas-')[2].removesuffix('_dseg.nii.gz')
                for path in folder.glob('*_atlas-*_dseg.nii.gz')
                if path.stat().st_size
            }
        )
        msg = (
            f'atlas {name}: expected {(images if image is None else tables)[0].name} in {folder}; '
            f'atlases there: {", ".join(f"atlas-{one}" for one in there) or "none"}. Fetch it '
            'with TemplateFlow, set TEMPLATEFLOW_HOME, or give NAME=IMAGE,TSV'
        )
        raise SettingsError(msg)
    return image, table
