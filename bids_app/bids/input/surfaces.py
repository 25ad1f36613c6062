"""Cortical surfaces: spheres of standard meshes, atlases on them, and what fMRIPrep left."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from bids_app.errors import InputDataError, MissingInputError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

SIDES = ('L', 'R')

MESHES = {
    'fsLR': ('fsLR', '32k', 32492),
    'fsaverage': ('fsaverage', '164k', 163842),
    'fsaverage6': ('fsaverage', '41k', 40962),
    'fsaverage5': ('fsaverage', '10k', 10242),
}
"""Output space -> space and density in file names, vertices of a hemisphere."""

ENDINGS = {
    'white': ('white',),
    'pial': ('pial',),
    'fsaverage': ('space-fsaverage_desc-reg_sphere', 'desc-reg_sphere'),
    'fsLR': ('space-fsLR_desc-msmsulc_sphere', 'space-fsLR_desc-reg_sphere'),
}
"""Surface -> how its file name ends in fMRIPrep's derivatives; the first that is there serves."""


SHAPES = ('inflated', 'veryinflated', 'midthickness', 'infl')
"""In the place of ``sphere`` in the name of a file, the best to look at first; nilearn's last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StandardMesh:
    """A standard mesh that maps are brought to."""

    name: str
    """As in --output-spaces."""
    space: str
    density: str
    n_vertices: int
    files: tuple[Path, Path]
    """Left and right, on which the person's registered sphere lies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SurfaceAtlas:
    """Parcels on a standard mesh."""

    name: str
    files: tuple[Path, ...]
    """Two label files (left, right), or one CIFTI file of both."""
    n_vertices: int


def is_surface(item: str) -> bool:
    """Tell whether an output space is a standard mesh."""
    return item.partition('=')[0] in MESHES


def standard_meshes(spaces: Sequence[str]) -> tuple[StandardMesh, ...]:
    """
    Find the standard meshes among the output spaces; nothing is fetched.

    Parameters
    ----------
    spaces : sequence of str
        ``fsLR``, ``fsaverage``, ``fsaverage6``, ``fsaverage5``, or ``NAME=FOLDER`` with
        ``tpl-fsLR_hemi-L_den-32k_sphere.surf.gii`` and that of the right side.

    Returns
    -------
    meshes : tuple of StandardMesh
        In the order given.

    Raises
    ------
    SettingsError
        If a sphere is not there.
    """
    return tuple(_mesh(item) for item in spaces if is_surface(item))


def _mesh(item: str) -> StandardMesh:
    """Find one mesh."""
    name, _, folder = item.partition('=')
    space, density, n_vertices = MESHES[name]
    home = Path(os.environ.get('TEMPLATEFLOW_HOME') or Path.home() / '.cache' / 'templateflow')
    place = Path(folder) if folder else home / f'tpl-{space}'
    names = [f'tpl-{space}_hemi-{side}_den-{density}_sphere.surf.gii' for side in SIDES]
    spheres = [place / one for one in names]
    if name == 'fsaverage5' and not folder:
        spheres = _packaged_spheres()
    lacking = [path.name for path in spheres if not (path.is_file() and path.stat().st_size)]
    if lacking:
        msg = (
            f'output space {item}: {", ".join(lacking)} not found in {place}; fetch it with '
            f'TemplateFlow, set TEMPLATEFLOW_HOME, or name a folder that has it: {name}=FOLDER'
        )
        raise SettingsError(msg)
    return StandardMesh(
        name=name,
        space=space,
        density=density,
        n_vertices=n_vertices,
        files=(spheres[0].absolute(), spheres[1].absolute()),
    )


def _packaged_spheres() -> list[Path]:
    """Give the spheres of fsaverage5 that come with nilearn, without importing it."""
    found = find_spec('nilearn')
    root = Path((found and found.origin) or '').parent / 'datasets' / 'data' / 'fsaverage5'
    return [root / f'sphere_{side}.gii.gz' for side in ('left', 'right')]


def inflated_mesh(mesh: StandardMesh) -> tuple[Path, Path] | None:
    """Find the shape to look at maps on, beside the spheres of a mesh; None without one."""
    for shape in SHAPES:
        left, right = (path.with_name(path.name.replace('sphere', shape)) for path in mesh.files)
        if left.is_file() and right.is_file():
            return left, right
    return None


def surface_atlases(
    texts: Sequence[str], meshes: Sequence[StandardMesh]
) -> tuple[SurfaceAtlas, ...]:
    """
    Find atlases on the surface.

    Parameters
    ----------
    texts : sequence of str
        ``NAME=LEFT.label.gii,RIGHT.label.gii`` or ``NAME=FILE.dlabel.nii``.
    meshes : sequence of StandardMesh
        That maps are brought to.

    Returns
    -------
    atlases : tuple of SurfaceAtlas
        Each fits one of the meshes.

    Raises
    ------
    SettingsError
        If a text is written in another way, a file cannot be read, or fits no mesh.
    """
    from bids_app.images import load_surface_labels

    found = []
    for text in texts:
        name, _, listed = text.partition('=')
        files = tuple(Path(one).absolute() for one in listed.split(','))
        kinds = [path.name.endswith('.dlabel.nii') for path in files]
        is_one = kinds == [True]
        if not re.fullmatch('[A-Za-z0-9]+', name) or not (is_one or kinds == [False, False]):
            msg = (
                f'--surface-atlas {text} should be NAME=LEFT.label.gii,RIGHT.label.gii or '
                'NAME=FILE.dlabel.nii, NAME of letters and digits'
            )
            raise SettingsError(msg)
        try:
            sizes = {len(load_surface_labels(files, side)[0]) for side in SIDES}
        except (InputDataError, MissingInputError) as error:
            msg = f'--surface-atlas {text}: {error}'
            raise SettingsError(msg) from error
        known = {mesh.n_vertices: mesh.name for mesh in meshes}
        if len(sizes) != 1 or not sizes <= set(known):
            meant = ', '.join(f'{size} of {mesh}' for size, mesh in known.items())
            msg = (
                f'--surface-atlas {text} has {" and ".join(map(str, sorted(sizes)))} vertices per '
                f'hemisphere; expected {meant or "a mesh such as fsLR among --output-spaces"}'
            )
            raise SettingsError(msg)
        found.append(SurfaceAtlas(name=name, files=files, n_vertices=sizes.pop()))
    names = [one.name for one in found]
    if len(set(names)) < len(names):
        msg = f'--surface-atlas: the same name twice in {", ".join(names)}'
        raise SettingsError(msg)
    return tuple(found)


def find_surfaces(folder: Path) -> tuple[tuple[str, Path], ...]:
    """
    Find the surfaces of a participant in a folder of fMRIPrep's layout.

    Returns
    -------
    surfaces : tuple of (str, Path)
        Such as ``L_white``, ``R_fsLR`` (the sphere registered to that space).
    """
    found = []
    for side in SIDES:
        for name, endings in ENDINGS.items():
            paths = [
                path
                for ending in endings
                for path in sorted(folder.glob(f'sub-*_hemi-{side}_{ending}.surf.gii'))
            ]
            found += [(f'{side}_{name}', path) for path in paths[:1]]
    return tuple(found)


def lacking_surfaces(found: Sequence[tuple[str, Path]], mesh: StandardMesh) -> list[str]:
    """Name the files that a mesh needs and a participant does not have."""
    known = dict(found)
    return [
        f'hemi-{side}_{ENDINGS[name][-1]}.surf.gii'
        for side in SIDES
        for name in ('white', 'pial', mesh.space)
        if f'{side}_{name}' not in known
    ]
