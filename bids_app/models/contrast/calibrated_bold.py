"""Changes of CMRO2 that lean on BOLD: the Davis model and the semi-quantitative route."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bids_app.errors import ModelInputError
from bids_app.models.contrast.difference import carried_error, make_quantity
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.checks import check_positive
from bids_app.models.numerics.propagation import propagate
from bids_app.models.oxygen.mqbold import oef_limit
from bids_app.models.registry import MODELS
from bids_app.models.relaxometry.decay import ROUNDING
from bids_app.models.relaxometry.r2prime import estimate_r2_prime_epp2025
from bids_app.models.status import Status, combine_status
from bids_app.units import PERCENT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from numpy.typing import ArrayLike

    from bids_app._typing import FloatArray, StatusArray


def davis_cmro2_ratio(
    bold: ArrayLike, cbf_ratio: ArrayLike, *, maximum: ArrayLike, alpha: float, beta: float
) -> FloatArray:
    r"""
    Compute the ratio of CMRO2 from BOLD and flow.

    Parameters
    ----------
    bold : (...) array_like
        BOLD change, percent; below `maximum`.
    cbf_ratio : (...) array_like
        Task over baseline, positive.
    maximum : (...) array_like
        BOLD change if all deoxygenated haemoglobin were gone, M, percent.
    alpha, beta : float
        Exponents of blood volume and of susceptibility, as those of
        :data:`bids_app.models.oxygen.gas_calibration.COEFFICIENTS`.

    Returns
    -------
    cmro2_ratio : (...) ndarray of float64
        Task over baseline; NaN where BOLD reaches its maximum or a ratio is not positive.

    Notes
    -----
    .. math::

        B = M \left(1 - f^{\alpha - \beta} m^\beta\right), \qquad
        m = (1 - B/M)^{1/\beta} f^{1 - \alpha/\beta}

    References
    ----------
    .. [1] Davis et al., Proc Natl Acad Sci USA 95:1834, 1998. doi:10.1073/pnas.95.4.1834

    Examples
    --------
    >>> float(davis_cmro2_ratio(1.43, 1.2, maximum=15.0, alpha=0.2, beta=1.3).round(2))
    1.08
    """
    left = _positive_ratio(1 - np.asarray(bold, float) / np.asarray(maximum, float))
    ratio: FloatArray = left ** (1 / beta) * _positive_ratio(cbf_ratio) ** (1 - alpha / beta)
    return ratio


def semiquantitative_bias(
    cbf_ratio: ArrayLike, *, alpha: float, beta: float, cbv_ratio: ArrayLike = 1.0
) -> FloatArray:
    r"""
    Tell what the semi-quantitative route reports where CMRO2 does not change at all.

    Parameters
    ----------
    cbf_ratio, cbv_ratio : (...) array_like
        Task over baseline; the blood volume is what the analyst assumes.
    alpha, beta : float
        Exponents of the Davis model that makes the BOLD signal.

    Returns
    -------
    bias : (...) ndarray of float64
        Relative change of CMRO2 that is reported, 1.

    Notes
    -----
    .. math:: f^{\,1 + \alpha - \beta}/v - 1

    Examples
    --------
    >>> semiquantitative_bias([1.15, 0.88], alpha=0.2, beta=1.3).round(3)
    array([-0.014,  0.013])
    """
    bias: FloatArray = _positive_ratio(cbf_ratio) ** (1 + alpha - beta) / np.asarray(
        cbv_ratio, float
    )
    return bias - 1


def change_in_cmro2_with_bold(  # noqa: PLR0913  (maps and what they share)
    *,
    bold: Estimate,
    echo_time: float,
    task_cbf: Estimate,
    baseline_cbf: Estimate,
    baseline_r2_star: Estimate,
    r2: Estimate,
    baseline_cbv: Estimate,
    scale: float,
    task_cbv: Estimate | None = None,
    task_r2_star: Estimate | None = None,
    cbv_shared: bool = False,
    cbv_response: float = 0.0,
    m0_relative_variance: ArrayLike = 0.0,
) -> Estimate:
    r"""
    Estimate the change of CMRO2 with BOLD as a measure of the change of R2'.

    Parameters
    ----------
    bold : (V,) Estimate
        B, percent. Not from the blocks that decide where BOLD is significant.
    echo_time : float
        Of the BOLD series, s.
    task_cbf, baseline_cbf : (V,) Estimate
        F, mL/100 g/min; with `m0_relative_variance` given, variances without M0.
    baseline_r2_star, r2 : (V,) Estimate
        Of the baseline, 1/s.
    baseline_cbv : (V,) Estimate
        V, mL/mL.
    scale : float
        Arterial oxygen content (umol/mL) over the static dephasing constant (1/s).
    task_cbv : (V,) Estimate, optional
        Where each condition has its own measurement, or `baseline_cbv` was carried to the task
        by a rule. None: `baseline_cbv` serves both.
    task_r2_star : (V,) Estimate, optional
        With it, the measured change of R2* and that told by BOLD are combined by their
        precision; without it BOLD alone counts (the semi-quantitative route).
    cbv_shared : bool
        True where `task_cbv` was carried, so that both have the relative error of `baseline_cbv`.
    cbv_response : float
        Relative change of blood volume with the task where it was not measured, 1.
    m0_relative_variance : (V,) array_like
        Relative variance of an M0 image shared by the conditions.

    Returns
    -------
    change : (V,) Estimate
        D, umol/100 g/min; its error is correlated with that of `bold`.

    Raises
    ------
    ModelInputError
        If the echo time is not positive or the shapes differ.

    Notes
    -----
    With :math:`P_b = R^*_{2,b} - R_2` and g the change of R2':

    .. math::

        g = w\,(R^*_{2,t} - R^*_{2,b}) - (1 - w)\,B/TE, \qquad
        D = a\,[F_t (P_b + g)/(1 + c) - F_b P_b]

    with w = 0 without `task_r2_star`, else the share of the precision of the MEGRE. The variance
    follows to first order; R2*_b enters the baseline and g, and is counted once.

    References
    ----------
    .. [1] Epp et al., Nat Neurosci, 2025. doi:10.1038/s41593-025-02132-9

    Examples
    --------
    >>> change = change_in_cmro2_with_bold(
    ...     bold=Estimate.of([0.5], 0.01), echo_time=0.03, task_cbf=Estimate.of([52.8]),
    ...     baseline_cbf=Estimate.of([48.0]), baseline_r2_star=Estimate.of([18.8]),
    ...     r2=Estimate.of([13.5]), baseline_cbv=Estimate.of([0.048]), scale=7.64358 / 316.956)
    >>> change.value.round(2), (change.variance**0.5).round(2)
    (array([8.36]), array([0.88]))
    """
    check_positive('echo_time', echo_time)
    sources = {
        'bold': bold,
        'task_cbf': task_cbf,
        'baseline_cbf': baseline_cbf,
        'baseline_r2_star': baseline_r2_star,
        'r2': r2,
        **_volume_sources(task_cbv, baseline_cbv, shared=cbv_shared),
        'm0_relative': _relative(m0_relative_variance, bold),
    }
    weight: FloatArray = np.zeros(bold.value.shape)
    if task_r2_star is not None:
        sources['task_r2_star'] = task_r2_star
        weight = _megre_weight(bold, PERCENT / echo_time, task_r2_star, baseline_r2_star)
    growth = 1 + (cbv_response if task_cbv is None else 0.0)

    def change(at: Mapping[str, FloatArray]) -> FloatArray:
        base_rate = at['baseline_r2_star'] - at['r2']
        fall = -PERCENT / echo_time * at['bold']
        if 'task_r2_star' in at:
            by_megre = at['task_r2_star'] - at['baseline_r2_star']
            fall = weight * by_megre + (1 - weight) * fall
        task_volume, volume = _volumes_at(at, task_cbv, baseline_cbv)
        task = at['task_cbf'] * (base_rate + fall) / (task_volume * growth)
        return scale * at['m0_relative'] * (task - at['baseline_cbf'] * base_rate / volume)

    volume = baseline_cbv if task_cbv is None else task_cbv
    return propagate(change, sources, status=_volume_status(volume, baseline_cbv))


def change_in_cmro2_published(  # noqa: PLR0913  (maps and what they share)
    *,
    bold: Estimate,
    echo_time: float,
    task_cbf: Estimate,
    baseline_cbf: Estimate,
    baseline_r2_star: Estimate,
    r2: Estimate,
    baseline_cbv: Estimate,
    static_dephasing_constant: float,
    cao2: float,
    task_cbv: Estimate | None = None,
    cbv_shared: bool = False,
    cbv_response: float = 0.0,
    m0_relative_variance: ArrayLike = 0.0,
) -> Estimate:
    r"""
    Estimate the change of CMRO2 by the semi-quantitative route with all published limits.

    Parameters
    ----------
    bold, echo_time, task_cbf, baseline_cbf, baseline_r2_star, r2, baseline_cbv, task_cbv
        As for :func:`change_in_cmro2_with_bold`.
    static_dephasing_constant : float
        R2' per OEF and CBV, 1/s.
    cao2 : float
        Arterial oxygen content, umol/mL.
    cbv_shared, cbv_response, m0_relative_variance
        As for :func:`change_in_cmro2_with_bold`.

    Returns
    -------
    change : (V,) Estimate
        D, umol/100 g/min; flagged CAPPED where a limit changed it. The variance is that without
        limits.

    Raises
    ------
    ModelInputError
        If the echo time is not positive or the shapes differ.

    Notes
    -----
    R2' of the baseline is limited as by
    :func:`bids_app.models.relaxometry.r2prime.estimate_r2_prime_epp2025`, OEF of the baseline to
    :func:`bids_app.models.oxygen.mqbold.oef_limit`. OEF of the task becomes its limit where its
    **size** is larger, as published: strong negative values turn into the largest positive ones.

    References
    ----------
    .. [1] Epp et al., Nat Neurosci, 2025. doi:10.1038/s41593-025-02132-9

    Examples
    --------
    >>> change = change_in_cmro2_published(
    ...     bold=Estimate.of([0.5], 0.01), echo_time=0.03, task_cbf=Estimate.of([52.8]),
    ...     baseline_cbf=Estimate.of([48.0]), baseline_r2_star=Estimate.of([18.8]),
    ...     r2=Estimate.of([13.5]), baseline_cbv=Estimate.of([0.048]),
    ...     static_dephasing_constant=316.956, cao2=7.64358)
    >>> change.value.round(2)
    array([8.36])
    """
    plain = change_in_cmro2_with_bold(
        bold=bold,
        echo_time=echo_time,
        task_cbf=task_cbf,
        baseline_cbf=baseline_cbf,
        baseline_r2_star=baseline_r2_star,
        r2=r2,
        baseline_cbv=baseline_cbv,
        scale=cao2 / static_dephasing_constant,
        task_cbv=task_cbv,
        cbv_shared=cbv_shared,
        cbv_response=cbv_response,
        m0_relative_variance=m0_relative_variance,
    )
    growth = 1 + (cbv_response if task_cbv is None else 0.0)
    volume = _positive_or_nan(baseline_cbv if task_cbv is None else task_cbv) * growth
    base_rate = estimate_r2_prime_epp2025(baseline_r2_star, r2).value
    base = base_rate / (static_dephasing_constant * _positive_or_nan(baseline_cbv))
    task = (base_rate - PERCENT / echo_time * bold.value) / (static_dephasing_constant * volume)
    limits = oef_limit(base), oef_limit(task)
    base = np.minimum(base, limits[0])
    task = np.where(np.abs(task) > limits[1], limits[1], task)
    value = cao2 * (task_cbf.value * task - baseline_cbf.value * base)
    moved = np.abs(value - plain.value) > ROUNDING * np.abs(plain.value)
    flags = np.where(moved, Status.CAPPED, Status.OK)
    return Estimate.of(value, plain.variance, combine_status(plain.status, flags), dof=plain.dof)


def change_in_cmro2_davis(
    *,
    bold: Estimate,
    task_cbf: Estimate,
    baseline: Mapping[str, Estimate],
    models: Mapping[str, str],
    constants: Mapping[str, Any],
    maximum: ArrayLike | None = None,
    m0_relative_variance: ArrayLike = 0.0,
) -> Estimate:
    r"""
    Estimate the change of CMRO2 by the Davis model.

    Parameters
    ----------
    bold, task_cbf
        As for :func:`change_in_cmro2_with_bold`.
    baseline : mapping of str to (V,) Estimate
        What was measured at rest, ``cbf`` among it: CMRO2 of the baseline, and M where it is not
        given, are made of it by rows of the registry.
    models : mapping of str to str
        Quantity -> its row, for every quantity on the way; of models with limits the one without.
    constants : mapping of str to float
        Parameters of these rows, and ``alpha`` and ``beta`` as for :func:`davis_cmro2_ratio`.
    maximum : float or (V,) array_like, optional
        M, percent, taken as exact. None: by the row ``bold_maximum`` of `models`.
    m0_relative_variance : (V,) array_like
        Relative variance of an M0 image shared by the conditions.

    Returns
    -------
    change : (V,) Estimate
        D = CMRO2_b (m - 1), umol/100 g/min; missing where the baseline is, and with NO_REFERENCE
        where flow or M are not positive or BOLD exceeds its maximum.

    Raises
    ------
    ModelInputError
        If all of `maximum` is not positive, or a constant of a row is not.

    Notes
    -----
    To first order in the errors, with u = 1 - B/M. A map from which both the baseline and M come
    moves them together: its error is one, as is that of CBF, which is in the baseline, in the
    ratio of the flows, and in M of a gas.

    References
    ----------
    .. [1] Davis et al., Proc Natl Acad Sci USA 95:1834, 1998. doi:10.1073/pnas.95.4.1834

    Examples
    --------
    >>> baseline = {'cbf': 48.0, 'r2_star': 18.8, 'r2': 13.5, 'cbv': 0.048}
    >>> change = change_in_cmro2_davis(
    ...     bold=Estimate.of([0.5], 0.01), task_cbf=Estimate.of([52.8]),
    ...     baseline={name: Estimate.of([value]) for name, value in baseline.items()},
    ...     models={'bold_maximum': 'r2-prime', 'r2_prime': 'difference', 'oef': 'mqbold',
    ...             'cmro2': 'fick'},
    ...     constants={'static_dephasing_constant': 316.956, 'cao2': 7.64358,
    ...                'bold_echo_time': 0.03, 'alpha': 0.2, 'beta': 1.3})
    >>> change.value.round(2)
    array([7.37])
    """
    sources = {
        'bold': bold,
        'task_cbf': task_cbf,
        **baseline,
        'm0_relative': _relative(m0_relative_variance, bold),
    }
    given = None if maximum is None else _given_maximum(maximum, bold.value.shape)
    names = {name: MODELS[name][row].unlimited or row for name, row in models.items()}

    def made(quantity: str, at: Mapping[str, FloatArray]) -> Estimate:
        # CBF at rest beside the gases is another map only where these were smoothed
        maps = {name: Estimate.of(at[name]) for name in ('resting_cbf', *baseline) if name in at}
        maps.setdefault('resting_cbf', maps['cbf'])
        return make_quantity(quantity, maps, models=names, constants=constants)

    def change(at: Mapping[str, FloatArray]) -> FloatArray:
        ratio = davis_cmro2_ratio(
            at['bold'],
            _positive_ratio(at['task_cbf']) / _positive_ratio(at['cbf']),
            maximum=made('bold_maximum', at).value if given is None else given,
            alpha=constants['alpha'],
            beta=constants['beta'],
        )
        return made('cmro2', at).value * at['m0_relative'] * (ratio - 1)

    values = {name: source.value for name, source in sources.items()}
    rest = made('cmro2', values)
    undefined = np.isnan(change(values)) & np.isfinite(bold.value)
    reason = np.where(undefined, Status.NO_REFERENCE, Status.OK)
    missing = np.where(np.isnan(rest.value), rest.status, Status.OK)
    return propagate(change, sources, status=combine_status(missing, reason))


def _given_maximum(maximum: ArrayLike, shape: tuple[int, ...]) -> FloatArray:
    """Take M as it is given; a voxel where it is not positive has none."""
    given = np.broadcast_to(np.asarray(maximum, float), shape)
    if given.size and not (given > 0).any():
        msg = f'maximum must be positive, got {np.ravel(given)[0]}'
        raise ModelInputError(msg)
    return np.where((given > 0) & np.isfinite(given), given, np.nan)


def _megre_weight(
    bold: Estimate, per_percent: float, task_r2_star: Estimate, baseline_r2_star: Estimate
) -> FloatArray:
    """Weigh the change of R2* of the gradient echoes against that of BOLD, by precision."""
    own = task_r2_star.variance + baseline_r2_star.variance
    other = per_percent**2 * bold.variance
    total = own + other
    return np.where(total > 0, other / np.where(total > 0, total, 1.0), 1 / 2)


def _volume_sources(
    task: Estimate | None, baseline: Estimate, *, shared: bool
) -> dict[str, Estimate]:
    """List the errors of blood volume: one where it was measured once, and how it was carried."""
    if task is None:
        return {'cbv': baseline}
    if not shared:
        return {'cbv': baseline, 'task_cbv': task}
    return {'cbv': baseline, 'carried_cbv': carried_error(task, baseline)}


def _volumes_at(
    at: Mapping[str, FloatArray], task: Estimate | None, baseline: Estimate
) -> tuple[FloatArray, FloatArray]:
    """Give blood volume of task and baseline while a source is moved; NaN where not positive."""
    volume = np.where(at['cbv'] > 0, at['cbv'], np.nan)
    if task is None:
        return volume, volume
    if 'task_cbv' in at:
        return np.where(at['task_cbv'] > 0, at['task_cbv'], np.nan), volume
    carried = _positive_or_nan(task) * at['carried_cbv'] * volume / _positive_or_nan(baseline)
    return carried, volume


def _positive_or_nan(volume: Estimate) -> FloatArray:
    """Replace blood volumes that cannot be divided by with NaN."""
    return np.where(volume.value > 0, volume.value, np.nan)


def _volume_status(*volumes: Estimate) -> StatusArray:
    """Say where a blood volume was measured and is not positive."""
    absent = np.any([volume.value <= 0 for volume in volumes], axis=0)
    return np.where(absent, Status.NO_BLOOD_VOLUME, Status.OK).astype(np.uint8)


def _relative(variance: ArrayLike, like: Estimate) -> Estimate:
    """Give the equilibrium signal relative to itself: 1, with the variance it shares."""
    return Estimate.of(np.ones_like(like.value), variance)


def _positive_ratio(ratio: ArrayLike) -> FloatArray:
    """Replace what no power can be taken of with NaN."""
    values = np.asarray(ratio, float)
    return np.where(values > 0, values, np.nan)
