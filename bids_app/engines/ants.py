"""
Bias correction, brain extraction, tissue, registration and normalisation with ANTs.

Files in, files out; run through :func:`bids_app.engines.isolated.run_isolated`, which gives each
function its seed and scratch folder. All outputs lie on the grid of the image they describe.
Positions in files follow NIfTI (RAS mm); transforms are ITK files (LPS inside).
"""

from __future__ import annotations

from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_app.engines.hdf5 import copy_without_times
from bids_app.engines.masks import mask_from_mean
from bids_app.engines.templates import packaged_template
from bids_app.errors import InputDataError
from bids_app.images import (
    LPS,
    Grid,
    grid_of,
    load_affine,
    load_data,
    load_volume,
    save_affine,
    save_image,
)
from bids_app.models.preprocessing.coregistration import (
    GOOD_OVERLAP,
    SURE_PLACE,
    mask_overlap,
    mutual_information,
)
from bids_app.models.preprocessing.noisy_background import clear_background

if TYPE_CHECKING:
    from bids_app._typing import BoolArray, FloatArray, PathLike

START_TURN = 30.0
"""Of a head or a scan about each axis, tried where it does not fit as its header says, degrees."""

START_ZOOM = 4.0
"""Voxel size at which starts are compared, mm."""

HEAD_HEIGHT = 125.0
"""From the top of the head down, what locates it left-right and front-back, mm."""

OTHER_SIZE = 0.08
"""Of the width of a head from that of the template, beyond which its size is a start; no unit."""

DILATION = 8.0
"""Around the brain, what registration of whole heads looks at, mm."""

SAMPLES = 100_000
"""Voxels of a scan that rigid registration looks at, at most."""

N_UPRIGHT = 2
"""Starts of a scan that are not turned come first: the header, and the centres of mass."""

MINIMUM_OVERLAP = 500
"""Voxels of the brain inside a scan, below which the second pass is not run."""

COMPONENTS = np.array([[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0], [0, 0.5, 0.5], [0, 0, 1]])
"""Fluid, grey and white content of the components of the tissue mixture."""

EDGE = 0.99
"""Share of a voxel that must lie inside the field of view of an image."""

HISTOGRAM_BINS = 256

MIXTURE_ITERATIONS = 60

HALF_WIDTH = 1024.0
"""Coordinate images reach from minus to plus this, mm."""

NORMALISATION_ZOOM = 2.0
"""Voxel size at which brains are brought to the template, mm."""

NORMALISATION_MARGIN = 10.0
"""Around the brain of the template, what the deformation covers, mm; outside it is affine."""

SLOPPY_ZOOM = 4.0
"""The same where it shall be quick, mm."""

CORRELATION_RADIUS = 2
"""Of the neighbourhoods whose correlation the normalisation looks at, voxels."""


def correct_bias(
    image: PathLike,
    out_image: PathLike,
    *,
    mask: PathLike | None = None,
    seed: int = 0,
    scratch: PathLike = '.',
) -> dict[str, Any]:
    """
    Remove the smooth intensity non-uniformity of an image (N4).

    References
    ----------
    .. [1] Tustison et al., IEEE Trans Med Imaging 29:1310, 2010. doi:10.1109/TMI.2010.2046908
    """
    del seed, scratch
    source = _read(image)
    where = _read(mask) if mask else None
    corrected = _correct(source, where, (20, 20, 10))
    return {'image': save_image(corrected.numpy(), grid_of(image), out_image)}


def average_heads(
    images: list[PathLike], out_image: PathLike, *, seed: int = 0, scratch: PathLike = '.'
) -> dict[str, Any]:
    """
    Average several T1w images of one head, each aligned to the first and scaled to it.

    Grids and positions may differ; the mean is on the grid of the first.

    Notes
    -----
    Tops of heads, then rigid at 2 mm by mutual information of the whole heads. Where an image
    does not reach, it does not count.
    """
    import ants

    del seed
    first = _read_head(images[0])
    total, count = first.numpy().astype(float), np.ones(first.shape)
    coarse = _to_zooms(first, 2.0)
    for number, path in enumerate(images[1:]):
        other = _read_head(path)
        moving = _to_zooms(other, 2.0)
        start = save_affine(_align_tops(coarse, moving), Path(scratch) / f'tops_{number}.txt')
        found = ants.registration(
            coarse, moving, 'Rigid', initial_transform=start, outprefix=f'{scratch}/head_{number}'
        )['fwdtransforms']
        moved = ants.apply_transforms(first, other, found, interpolator='bSpline').numpy()
        ones = other.new_image_like(np.ones(other.shape, 'float32'))
        seen = ants.apply_transforms(first, ones, found).numpy() > EDGE
        scale = first.numpy()[seen].sum() / max(moved[seen].sum(), np.finfo(float).tiny)
        total[seen] += moved[seen] * scale
        count += seen
    return {'image': save_image(total / count, grid_of(images[0]), out_image)}


def extract_brain(
    t1w: PathLike,
    out_mask: PathLike,
    out_corrected: PathLike,
    *,
    template: PathLike | None = None,
    template_mask: PathLike | None = None,
    volumes: tuple[float, float] = (900.0, 2100.0),
    seed: int = 0,
    scratch: PathLike = '.',
) -> dict[str, Any]:
    """
    Find the brain in a T1w image of the whole head, and correct the bias field inside it.

    Parameters
    ----------
    t1w : path
        3D, with skull.
    out_mask, out_corrected : path
        To write, on the grid of `t1w`: brain (0, 1) and corrected image.
    template, template_mask : path or None
        T1w with skull and its brain; None means the packaged ones.
    volumes : (float, float)
        Smallest and largest plausible brain, mL.
    seed : int
        Not used; set before the process started.
    scratch : path
        For transforms.

    Returns
    -------
    reply : dict
        ``mask``, ``corrected``, ``volume`` (mL); ``turn`` (degrees) and ``shift`` (mm, of the
        middle of the brain) of the head from the template; ``placed`` and ``likeness``, see
        :func:`bids_app.models.preprocessing.coregistration.judge_brain`.

    Raises
    ------
    InputDataError
        If the image has no contrast, or the volume of the mask is not in `volumes`.

    Notes
    -----
    A background of noise as bright as the head (UNIT1 of MP2RAGE) is cleared first.
    At 4 mm: heads aligned by their tops, rigid, affine, then a coarse deformation, all restricted
    to the surroundings of the template's brain; its mask is carried back. Where a head and the
    template stay unlike, the rigid step also starts turned by 30 degrees about each axis; where
    their widths differ by more than 8 %, the affine step also starts at the size of the head.
    """
    import ants

    del seed
    source = _read_head(t1w)
    head = _to_zooms(_correct(_to_zooms(source, 2.0), None, (20, 20), grid_zoom=8.0), START_ZOOM)
    fixed = _to_zooms(_read(template or packaged_template('T1w')), START_ZOOM)
    brain = _read(template_mask or packaged_template('desc-brain_mask'))
    around = _to_zooms(_dilate(brain, DILATION), START_ZOOM)

    rigid, placed = _place_head(fixed, head, around, scratch)
    affine = _size_head(fixed, head, rigid, around, scratch)
    warp = ants.registration(
        fixed,
        head,
        'SyNOnly',
        initial_transform=affine,
        outprefix=f'{scratch}/warp',
        mask=around,
        mask_all_stages=True,
        reg_iterations=(20, 10),
    )
    mask = ants.apply_transforms(source, brain, warp['invtransforms']).numpy() > 0.5
    likeness = _least_likeness(fixed, warp['warpedmovout'], around)

    grid = grid_of(t1w)
    volume = float(mask.sum() * abs(np.linalg.det(grid.affine[:3, :3])) / 1000)
    middle = np.append(_centre(brain), 1)
    motion = _matrix(rigid)
    _check_volume(volume, volumes, t1w)
    corrected = _correct(source, source.new_image_like(mask.astype('float32')), (20, 20, 10))
    return {
        'mask': save_image(mask, grid, out_mask),
        'corrected': save_image(corrected.numpy(), grid, out_corrected),
        'volume': volume,
        'turn': _angle(motion),
        'shift': float(np.linalg.norm((motion @ middle - middle)[:3])),
        'placed': placed,
        'likeness': likeness,
    }


def segment_tissue(
    t1w: PathLike,
    mask: PathLike,
    out_gm: PathLike,
    out_wm: PathLike,
    out_csf: PathLike,
    *,
    seed: int = 0,
    scratch: PathLike = '.',
) -> dict[str, Any]:
    """
    Estimate the fractions of grey matter, white matter and fluid from T1w intensity.

    The image is bias-corrected. The fractions lie in [0, 1], add up to 1 inside the mask and are 0
    outside.

    Raises
    ------
    InputDataError
        If the mask is empty or the image has no contrast in it.

    Notes
    -----
    Mixture of five normal distributions of one variance on the histogram [1]_: the three
    tissues, and fluid/grey and grey/white mixed half and half, whose means lie between. A
    voxel's fraction is the expected one; half of a mixed component counts for each tissue.

    References
    ----------
    .. [1] Shattuck et al., NeuroImage 13:856, 2001. doi:10.1006/nimg.2000.0730
    """
    del seed, scratch
    grid = grid_of(t1w)
    data, brain = np.nan_to_num(load_volume(t1w)), load_data(mask) > 0.5
    if not brain.any() or not np.ptp(data[brain]) > 0:
        msg = f'{t1w}: expected contrast inside the brain mask {mask}, found none'
        raise InputDataError(msg)
    volumes = np.zeros((3, *brain.shape))
    volumes[:, brain] = _tissue_fractions(data[brain]).T
    fluid, grey, white = volumes
    return {
        'gm': save_image(grey, grid, out_gm),
        'wm': save_image(white, grid, out_wm),
        'csf': save_image(fluid, grid, out_csf),
    }


def register_rigid(
    fixed: PathLike,
    moving: PathLike,
    out_transform: PathLike,
    *,
    fixed_mask: PathLike | None = None,
    moving_mask: PathLike | None = None,
    seed: int = 0,
    scratch: PathLike = '.',
) -> dict[str, Any]:
    """
    Align a scan of any contrast to an image of the same head, rigidly.

    Parameters
    ----------
    fixed : path
        Image to align to, bias-corrected; the finer one (T1w).
    moving : path
        3D image that stands for the scan.
    out_transform : path
        ITK text transform to write, ``.txt``; maps points of `fixed` to points of `moving`.
    fixed_mask : path or None
        Brain in `fixed`; outside it nothing counts.
    moving_mask : path or None
        Where `moving` counts; None means everywhere.
    seed : int
        Not used; set before the process started.
    scratch : path
        For transforms.

    Returns
    -------
    reply : dict
        ``transform``; ``rotation`` (degrees); ``translation`` (mm, of the centre of `fixed`'s
        brain).

    Raises
    ------
    InputDataError
        If `moving` has no contrast.

    Notes
    -----
    Mutual information over the voxels of the scan, whose thick slices are not interpolated:
    `fixed`, averaged to the size of the scan's voxels, is moved, and the result inverted. Two
    passes: the brain alone at half the resolution, from several starts; then the whole of `fixed`,
    seen through the brain mask only. The first finds the brain, but the edge that masking cuts
    into `fixed` pulls it by up to a millimetre; the second has no such edge. The scan's bias field
    is removed for each, for the second inside the brain alone, which halves the error that is
    left.
    """
    del seed
    scan = _read(moving)
    if not np.ptp(scan.numpy()) > 0:
        msg = f'{moving} has no contrast to align by: all voxels are equal'
        raise InputDataError(msg)
    corrected = _correct(scan, None, (10, 10), grid_zoom=8.0)
    head = _to_zooms(_read(fixed), 2.0)
    brain = _brain_of(fixed, fixed_mask, head)
    seen = (_read(moving_mask).numpy() > 0.5) if moving_mask else np.ones(scan.shape, bool)

    shaped_brain = _average_like(head * brain, scan)
    transform = _align_brain(corrected, shaped_brain, brain, seen=seen, scratch=scratch)
    inside = _carried(scan, brain, transform) & seen
    if inside.sum() >= MINIMUM_OVERLAP:
        where = scan.new_image_like(inside.astype('float32'))
        corrected = _correct(scan, where, (10, 10), grid_zoom=8.0)
        shaped_head = _average_like(head, scan)
        transform = _mutual_information(
            corrected, shaped_head, transform, seen=inside, shrink=1, prefix=f'{scratch}/head_'
        )

    matrix = np.linalg.inv(_matrix(transform))
    centre = np.append(_centre(shaped_brain), 1)
    return {
        'transform': save_affine(matrix, out_transform),
        'rotation': _angle(matrix),
        'translation': [float(x) for x in (matrix @ centre - centre)[:3]],
    }


def normalise_to_template(
    t1w: PathLike,
    mask: PathLike,
    out_forward: PathLike,
    out_inverse: PathLike,
    *,
    template: PathLike | None = None,
    template_mask: PathLike | None = None,
    sloppy: bool = False,
    seed: int = 0,
    scratch: PathLike = '.',
) -> dict[str, Any]:
    """
    Find the deformation between a T1w image and a template, brain to brain.

    Parameters
    ----------
    t1w : path
        Bias-corrected.
    mask : path
        Brain, same grid.
    out_forward, out_inverse : path
        ITK composites to write, ``.h5``: ``from-T1w_to-template`` (resamples T1w images on the
        template, maps template points to T1w points) and its inverse.
    template, template_mask : path or None
        None means the packaged ones.
    sloppy : bool
        At 4 mm by mutual information, in seconds; else at 2 mm by the correlation of
        neighbourhoods, in minutes.
    seed : int
        Not used; set before the process started.
    scratch : path
        For transforms.

    Returns
    -------
    reply : dict
        ``forward``, ``inverse``: paths.

    References
    ----------
    .. [1] Avants et al., Med Image Anal 12:26, 2008. doi:10.1016/j.media.2007.06.004
    """
    import ants

    del seed
    fixed = _read(template or packaged_template('T1w'))
    brain = _read(template_mask or packaged_template('desc-brain_mask'))
    zoom, how = NORMALISATION_ZOOM, {
        'syn_metric': 'CC', 'syn_sampling': CORRELATION_RADIUS, 'reg_iterations': (40, 20, 4)
    }  # fmt: skip
    if sloppy:
        zoom, how = SLOPPY_ZOOM, {'reg_iterations': (20, 10)}
    result = ants.registration(
        _to_zooms(_crop(fixed * brain, brain, NORMALISATION_MARGIN), zoom),
        _to_zooms(_read(t1w) * _read(mask), zoom),
        'SyN',
        outprefix=f'{scratch}/normalise',
        write_composite_transform=True,
        **how,
    )
    copy_without_times(result['fwdtransforms'], out_forward)
    copy_without_times(result['invtransforms'], out_inverse)
    return {'forward': str(out_forward), 'inverse': str(out_inverse)}


def template_coordinates(
    transform: PathLike,
    template: PathLike,
    out: PathLike,
    *,
    seed: int = 0,
    scratch: PathLike = '.',
) -> dict[str, Any]:
    """
    Map the position in the moving image of every voxel of the fixed image of a transform.

    The transform is an ITK composite (``.h5``) or affine text file (``.txt``), points of fixed to
    points of moving; the template is the fixed image and gives the grid. The map is (X, Y, Z, 3)
    float32, RAS mm.
    """
    del seed, scratch
    grid = grid_of(template)
    if Path(transform).suffix == '.txt':
        indices = np.moveaxis(np.indices(grid.shape, dtype=float), 0, -1)
        matrix = load_affine(transform) @ grid.affine
        return {'coordinates': save_image(indices @ matrix[:3, :3].T + matrix[:3, 3], grid, out)}
    return {'coordinates': save_image(_warped_coordinates(transform, grid), grid, out)}


def _warped_coordinates(transform: PathLike, grid: Grid) -> FloatArray:
    """Positions by resampling images whose value is a coordinate (exact: linear in 3 voxels)."""
    import ants

    # linear interpolation of a linear function is exact however coarse its grid
    axes = np.eye(3) * HALF_WIDTH
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes, -HALF_WIDTH
    position = np.moveaxis(np.indices((3, 3, 3), dtype=float), 0, -1) * HALF_WIDTH - HALF_WIDTH
    fixed = _to_ants(np.zeros(grid.shape), grid.affine)
    return np.stack(
        [
            ants.apply_transforms(
                fixed, _to_ants(position[..., axis], affine), [str(transform)]
            ).numpy()
            for axis in range(3)
        ],
        axis=-1,
    ).astype(float)


def _read(path: PathLike) -> Any:
    """Read a 3D image for ANTs with the affine nibabel reports."""
    data = np.nan_to_num(load_volume(path), posinf=0, neginf=0)
    return _to_ants(data, grid_of(path).affine, path)


def _read_head(path: PathLike) -> Any:
    """Read a T1w image of a whole head, its background dark whatever it is in the file."""
    image = _read(path)
    cleared, was_noisy = clear_background(image.numpy())
    return image.new_image_like(cleared.astype('float32')) if was_noisy else image


def _to_ants(data: FloatArray, affine: FloatArray, path: PathLike = 'image') -> Any:
    """Make an ANTs image; its axes must be orthogonal."""
    import ants

    world = (LPS @ affine)[:3]
    zooms = np.linalg.norm(world[:, :3], axis=0)
    direction = world[:, :3] / zooms
    if not np.allclose(direction.T @ direction, np.eye(3), atol=1e-3):
        msg = f'{path}: expected orthogonal axes, found a sheared affine {affine.tolist()}'
        raise InputDataError(msg)
    left, _, right = np.linalg.svd(direction)
    return ants.from_numpy(
        np.ascontiguousarray(data, dtype='float32'),
        origin=[float(x) for x in world[:, 3]],
        spacing=[float(x) for x in zooms],
        direction=left @ right,
    )


def _affine_of(image: Any) -> FloatArray:
    """Voxel to RAS mm of an ANTs image."""
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(image.direction) * np.asarray(image.spacing)
    affine[:3, 3] = image.origin
    return np.asarray(LPS @ affine, float)


def _matrix(path: PathLike) -> FloatArray:
    """Affine of an ITK transform file of ANTs, RAS."""
    import ants

    transform = ants.read_transform(str(path))
    numbers, centre = np.array(transform.parameters), np.array(transform.fixed_parameters)
    matrix = np.eye(4)
    matrix[:3, :3] = numbers[:9].reshape(3, 3)
    matrix[:3, 3] = numbers[9:] + centre - matrix[:3, :3] @ centre
    return np.asarray(LPS @ matrix @ LPS, float)


def _angle(matrix: Any) -> float:
    """Angle of a rigid matrix, degrees."""
    cosine = np.clip((np.trace(matrix[:3, :3]) - 1) / 2, -1, 1)
    return float(np.rad2deg(np.arccos(cosine)))


def _correct(image: Any, mask: Any, iterations: tuple[int, ...], *, grid_zoom: float = 4.0) -> Any:
    """N4 on a grid of about `grid_zoom`, mm; the field is applied to every voxel."""
    import ants

    zoom = float(np.prod(image.spacing) ** (1 / 3))
    return ants.n4_bias_field_correction(
        image,
        mask=mask,
        shrink_factor=max(1, round(grid_zoom / zoom)),
        convergence={'iters': list(iterations), 'tol': 1e-6},
    )


def _to_zooms(image: Any, zoom: float) -> Any:
    """Average to voxels of about `zoom`, mm, at least; finer images are smoothed first."""
    import ants

    zooms = np.asarray(image.spacing)
    if (zooms >= 0.9 * zoom).all():
        return image
    smooth = _average(image, np.maximum(zoom, zooms))
    return ants.resample_image(smooth, tuple(np.maximum(zoom, zooms)), interp_type=0)


def _average(image: Any, zooms: FloatArray) -> Any:
    """Smooth like the average over voxels of other zooms (normal of the same variance)."""
    from scipy import ndimage

    own = np.asarray(image.spacing)
    sigma = np.sqrt(np.maximum(zooms**2 - own**2, 0) / 12) / own
    return image.new_image_like(ndimage.gaussian_filter(image.numpy(), sigma))


def _dilate(mask: Any, distance: float) -> Any:
    """Widen a mask by a distance, mm."""
    from scipy import ndimage

    outside = ndimage.distance_transform_edt(mask.numpy() < 0.5, sampling=mask.spacing)
    return mask.new_image_like((outside <= distance).astype('float32'))


def _turns() -> list[FloatArray]:
    """Give the rotations that starts are turned by: none first, then about each axis."""
    from scipy.spatial.transform import Rotation

    vectors = np.deg2rad(START_TURN) * np.concatenate([np.eye(3), -np.eye(3)])
    return [np.eye(3), *Rotation.from_rotvec(vectors).as_matrix()]


def _place_head(fixed: Any, head: Any, where: Any, scratch: PathLike) -> tuple[str, float]:
    """
    Lay a head on the template rigidly.

    Tops of heads first, as the header says; where that leaves them unlike, also from turned ones.

    Returns
    -------
    transform, likeness : str, float
        File; mutual information there, nats.
    """
    import ants

    inside = where.numpy() > 0.5
    best = ('', -np.inf)
    for number, turn in enumerate(_turns()):
        tops = save_affine(_align_tops(fixed, head, turn), Path(scratch) / f'tops_{number}.txt')
        found = _quick(
            fixed, head, 'Rigid', tops, where=where, prefix=f'{scratch}/place_{number}_'
        )
        seen = ants.apply_transforms(fixed, head, [found]).numpy()
        likeness = mutual_information(fixed.numpy()[inside], seen[inside])
        best = max(best, (found, likeness), key=itemgetter(1))
        if likeness > SURE_PLACE:
            break
    return best


def _size_head(fixed: Any, head: Any, rigid: str, where: Any, scratch: PathLike) -> str:
    """Align a head affinely: from where it lies, and, of another size, from that size too."""
    import ants

    starts, turn = [rigid], _matrix(rigid)[:3, :3]
    width = _head_width(head, turn) / _head_width(fixed, np.eye(3))
    if abs(width - 1) > OTHER_SIZE:
        resized = _align_tops(fixed, head, turn, width)
        starts.append(save_affine(resized, Path(scratch) / 'resized.txt'))
    inside = where.numpy() > 0.5

    def align(number: int) -> tuple[str, float]:
        prefix = f'{scratch}/affine_{number}_'
        found = _quick(fixed, head, 'Affine', starts[number], where=where, prefix=prefix)
        seen = ants.apply_transforms(fixed, head, [found]).numpy()
        return found, mutual_information(fixed.numpy()[inside], seen[inside])

    return max((align(number) for number in range(len(starts))), key=itemgetter(1))[0]


def _least_likeness(fixed: Any, head: Any, where: Any) -> float:
    """Tell how alike two images are in that eighth of a region where they are least so, nats."""
    points = np.argwhere(where.numpy() > 0.5)
    eighth = (points > np.median(points, axis=0)) @ [1, 2, 4]
    one, other = (image.numpy()[tuple(points.T)] for image in (fixed, head))
    return min(mutual_information(one[eighth == n], other[eighth == n]) for n in range(8))


def _quick(fixed: Any, moving: Any, kind: str, start: str, *, where: Any, prefix: str) -> str:
    """Register coarse images by mutual information; return the transform's file."""
    import ants

    result = ants.registration(
        fixed,
        moving,
        kind,
        initial_transform=start,
        outprefix=prefix,
        mask=where,
        mask_all_stages=True,
        aff_iterations=(60, 40),
        aff_shrink_factors=(2, 1),
        aff_smoothing_sigmas=(1, 0),
        aff_random_sampling_rate=0.5,
    )
    return str(result['fwdtransforms'][0])


def _crop(image: Any, mask: Any, margin: float) -> Any:
    """Cut an image to the box of a mask and a margin around it, mm."""
    import ants

    inside = np.argwhere(mask.numpy() > 0.5)
    around = np.ceil(margin / np.asarray(image.spacing)).astype(int)
    low = np.maximum(inside.min(axis=0) - around, 0)
    high = np.minimum(inside.max(axis=0) + around + 1, image.shape)
    return ants.crop_indices(image, low.tolist(), high.tolist())


def _align_tops(
    fixed: Any, moving: Any, turn: FloatArray | None = None, width: float = 1.0
) -> FloatArray:
    """Bring the tops of heads together: points of fixed to those of moving, turned and resized."""
    matrix, upright = np.eye(4), np.eye(3)
    turn = upright if turn is None else turn
    matrix[:3, :3] = width * turn
    there, here = _head_position(moving, turn), _head_position(fixed, upright)
    matrix[:3, 3] = turn @ (there - width * here)
    return matrix


def _head_position(image: Any, turn: FloatArray) -> FloatArray:
    """Middle of the upper head in x and y, its top in z, RAS mm, of a head that is turned."""
    upper, top = _upper_head(image, turn)
    return np.append(np.median(upper[:, :2], axis=0), top)


def _head_width(image: Any, turn: FloatArray) -> float:
    """Spread of the upper head left-right and front-back, mm, of a head that is turned."""
    upper, _ = _upper_head(image, turn)
    return float(np.sqrt(upper[:, :2].var(axis=0).prod()) ** 0.5)


def _upper_head(image: Any, turn: FloatArray) -> tuple[FloatArray, float]:
    """Points (P, 3) of the upper part of a head, and its top, RAS mm, turned to be upright."""
    from skimage.filters import threshold_otsu

    from bids_app.engines.masks import largest_component

    data = image.numpy()
    data = np.minimum(data, np.percentile(data, 99))
    if not np.ptp(data) > 0:
        msg = 'no head can be found: expected a T1w image with contrast, all voxels are equal'
        raise InputDataError(msg)
    head = largest_component(data > threshold_otsu(data))
    affine = _affine_of(image)
    points = (np.argwhere(head) @ affine[:3, :3].T + affine[:3, 3]) @ turn
    top = np.percentile(points[:, 2], 99.8)
    return points[points[:, 2] > top - HEAD_HEIGHT], float(top)


def _check_volume(volume: float, limits: tuple[float, float], path: PathLike) -> None:
    """Refuse what cannot be a brain."""
    low, high = limits
    if not low <= volume <= high:
        msg = (
            f'{path}: the brain found has {volume:.0f} mL, expected {low:.0f} to {high:.0f}; '
            'check that it is a T1w image of the whole head, give masks (-d NAME=PATH), or, for '
            'other brains than those of adults, anatomy.smallest_brain and anatomy.largest_brain'
        )
        raise InputDataError(msg)


def _tissue_fractions(values: FloatArray) -> FloatArray:
    """Fractions (V, 3) of three tissues, darkest first, from intensities (V,) of a brain."""
    low, high = np.percentile(values, [0.5, 99.5])
    values = np.clip(values, low, high)
    counts, edges = np.histogram(values, HISTOGRAM_BINS)
    means, variance, weights = _fit_mixture(counts, (edges[1:] + edges[:-1]) / 2, values)
    order = np.argsort(means)
    mixed = _responsibilities(values, COMPONENTS @ means, variance, weights) @ COMPONENTS
    return np.asarray(mixed[:, order], float)


def _fit_mixture(
    counts: FloatArray, centres: FloatArray, values: FloatArray
) -> tuple[FloatArray, float, FloatArray]:
    """Fit the mixture to a histogram (EM): pure means (3,), variance, weights (5,)."""
    means = np.percentile(values, [3, 40, 85])
    variance = float(max((means[2] - means[1]) / 3, np.ptp(centres) / 100) ** 2)
    weights = np.full(len(COMPONENTS), 1 / len(COMPONENTS))
    for _ in range(MIXTURE_ITERATIONS):
        share = _responsibilities(centres, COMPONENTS @ means, variance, weights)
        share = share * counts[:, None]
        total = share.sum(axis=0)
        weights = np.maximum(total / total.sum(), 1e-3)
        # least squares of the three pure means; mixed components share them
        normal = COMPONENTS.T @ (total[:, None] * COMPONENTS) + 1e-9 * np.eye(3)
        means = np.linalg.solve(normal, COMPONENTS.T @ (share * centres[:, None]).sum(axis=0))
        residual = (share * (centres[:, None] - COMPONENTS @ means) ** 2).sum()
        variance = float(max(residual / total.sum(), (np.ptp(centres) / HISTOGRAM_BINS) ** 2))
    return np.asarray(means, float), variance, np.asarray(weights, float)


def _responsibilities(
    values: FloatArray, means: FloatArray, variance: float, weights: FloatArray
) -> FloatArray:
    """Probability (V, K) of each component of a normal mixture of one variance."""
    distance = (values[:, None] - means) ** 2 / (2 * variance)
    density = weights * np.exp(-(distance - distance.min(axis=1, keepdims=True)))
    return np.asarray(density / density.sum(axis=1, keepdims=True), float)


def _brain_of(path: PathLike, mask: PathLike | None, image: Any) -> Any:
    """Brain mask on the grid of an image; found in the file itself where none is given."""
    import ants

    if mask:
        brain = _to_zooms(_read(mask), 2.0)
    else:
        data, grid = load_data(path), grid_of(path)
        found = mask_from_mean(data, grid.affine)
        brain = _to_zooms(_to_ants(found.astype(float), grid.affine), 2.0)
    return ants.resample_image_to_target(brain, image, interp_type='linear')


def _average_like(image: Any, scan: Any) -> Any:
    """Average an image over the size of a scan's voxels, along its own axes."""
    turn = np.asarray(scan.direction).T @ np.asarray(image.direction)
    zooms = np.sqrt((np.asarray(scan.spacing)[:, None] ** 2 * turn**2).sum(axis=0))
    return _average(image, np.maximum(zooms, image.spacing))


def _align_brain(
    scan: Any, shaped_brain: Any, brain: Any, *, seen: BoolArray, scratch: PathLike
) -> str:
    """
    Align the brain alone to a scan.

    From the likeliest of the header, the centres of mass and those turned about each axis. Where
    that is a turned one, or the brain found in the scan is not there afterwards, from all of
    them, and the alignment with the most alike images counts.
    """
    starts = _starts(scan, shaped_brain, scratch)
    # Starts lie centimetres apart: voxels of 4 mm tell them apart at a tenth of the time.
    cost = partial(_cost, _to_zooms(scan, START_ZOOM), _to_zooms(shaped_brain, START_ZOOM))
    first = int(np.argmin([cost(start) for start in starts]))

    def align(number: int) -> str:
        prefix = f'{scratch}/rigid_{number}_'
        return _mutual_information(
            scan, shaped_brain, starts[number], seen=seen, shrink=2, prefix=prefix
        )

    found = align(first)
    if first < N_UPRIGHT:
        own = mask_from_mean(scan.numpy(), _affine_of(scan))
        if mask_overlap(own & seen, _carried(scan, brain, found) & seen) >= GOOD_OVERLAP:
            return found
    others = [align(number) for number in range(len(starts)) if number != first]
    return min([found, *others], key=cost)


def _carried(scan: Any, brain: Any, transform: str) -> BoolArray:
    """Carry a brain to the grid of a scan."""
    import ants

    return np.asarray(ants.apply_transforms(scan, brain, [transform]).numpy() > 0.5, bool)


def _cost(fixed: Any, moving: Any, transform: str) -> float:
    """Tell how unlike two images are with a transform: mutual information, negative."""
    import ants

    there = ants.apply_transforms(fixed, moving, [transform])
    return float(ants.image_similarity(fixed, there, 'MattesMutualInformation'))


def _starts(fixed: Any, moving: Any, scratch: PathLike) -> list[str]:
    """Give identity, the shift of the centres of mass, and turns about these, as files."""
    here, there = _centre(fixed), _centre(moving)
    matrices = [np.eye(4)]
    for turn in _turns():
        matrix = np.eye(4)
        matrix[:3, :3] = turn
        matrix[:3, 3] = there - turn @ here
        matrices.append(matrix)
    folder = Path(scratch)
    return [save_affine(m, folder / f'start_{number}.txt') for number, m in enumerate(matrices)]


def _mutual_information(
    scan: Any,
    image: Any,
    start: str,
    *,
    seen: BoolArray,
    shrink: int,
    prefix: str,
) -> str:
    """Move an image rigidly to a scan, looking at some voxels; return the transform's file."""
    import ants

    options = {} if seen.all() else {'mask': scan.new_image_like(seen.astype('float32'))}
    result = ants.registration(
        scan,
        image,
        'Rigid',
        initial_transform=start,
        outprefix=prefix,
        aff_random_sampling_rate=min(1.0, SAMPLES / seen.size),
        aff_iterations=(200,),
        aff_shrink_factors=(shrink,),
        aff_smoothing_sigmas=(shrink - 1,),
        singleprecision=False,
        mask_all_stages=True,
        **options,
    )
    return str(result['fwdtransforms'][0])


def _centre(image: Any) -> FloatArray:
    """Centre of mass, RAS mm."""
    import ants

    return np.asarray(LPS[:3, :3] @ np.asarray(ants.get_center_of_mass(image)), float)
