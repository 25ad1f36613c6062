"""Differences between two conditions, the errors they share counted once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bids_app.errors import ModelInputError
from bids_app.models.estimate import Estimate
from bids_app.models.status import Status, combine_status
from bids_app.units import PERCENT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from bids_app._typing import FloatArray, StatusArray


def change_between(task: Estimate, baseline: Estimate) -> Estimate:
    """
    Subtract two measurements whose errors are independent.

    Parameters
    ----------
    task, baseline : (V,) Estimate
        The same quantity in two conditions, equal unit.

    Returns
    -------
    change : (V,) Estimate
        Task minus baseline, in that unit; missing where one of them is. The degrees of freedom
        are the smaller of the two.

    Raises
    ------
    ModelInputError
        If the shapes differ.

    See Also
    --------
    change_in_cbf, change_in_r2_prime, change_in_cmro2, change_in_oef : Where errors are shared.

    Examples
    --------
    >>> change = change_between(Estimate.of([50.0], [9.0]), Estimate.of([44.0], [16.0]))
    >>> change.value, change.variance
    (array([6.]), array([25.]))
    """
    _check_shapes(task, baseline)
    unity = np.ones_like(task.value)
    terms = [(unity, task.variance), (unity, baseline.variance)]
    return difference_from_terms(task.value - baseline.value, terms, (task, baseline))


def change_in_cbf(
    task: Estimate, baseline: Estimate, *, m0_relative_variance: ArrayLike | None = None
) -> Estimate:
    r"""
    Subtract two perfusion maps that may have been scaled by one M0 image.

    Parameters
    ----------
    task, baseline : (V,) Estimate
        CBF, mL/100 g/min. With `m0_relative_variance` given, their variances are those of the
        label-control difference alone.
    m0_relative_variance : (V,) array_like, optional
        Variance of the shared M0 over its square, dimensionless. None: each condition has its
        own M0, whose error is part of the variance of its CBF.

    Returns
    -------
    change : (V,) Estimate
        mL/100 g/min; missing where one of the maps is.

    Raises
    ------
    ModelInputError
        If the shapes differ.

    See Also
    --------
    change_between : Without anything shared.

    Notes
    -----
    Both maps are inversely proportional to M0, so that its error scales the change D:

    .. math:: var(D) = v(F_t) + v(F_b) + D^2\,v(M_0)/M_0^2

    Examples
    --------
    >>> task, baseline = Estimate.of([50.0], [9.0]), Estimate.of([40.0], [16.0])
    >>> change_in_cbf(task, baseline, m0_relative_variance=[0.01]).variance
    array([26.])
    """
    _check_shapes(task, baseline)
    value = task.value - baseline.value
    unity = np.ones_like(value)
    terms = [
        (unity, task.variance),
        (unity, baseline.variance),
        (value, _or_zero(m0_relative_variance)),
    ]
    return difference_from_terms(value, terms, (task, baseline))


def change_in_r2_prime(
    task_r2_star: Estimate,
    baseline_r2_star: Estimate,
    *,
    task_r2: Estimate | None = None,
    baseline_r2: Estimate | None = None,
) -> Estimate:
    """
    Subtract the reversible relaxation rates of two conditions.

    Parameters
    ----------
    task_r2_star, baseline_r2_star : (V,) Estimate
        Effective transverse relaxation rate R2*, 1/s.
    task_r2, baseline_r2 : (V,) Estimate, optional
        Transverse relaxation rate R2 of each condition, 1/s; both or none. None: one R2 serves
        both conditions and cancels.

    Returns
    -------
    change : (V,) Estimate
        Change of R2', 1/s; missing where an input is.

    Raises
    ------
    ModelInputError
        If the shapes differ, or R2 is given for one condition only.

    See Also
    --------
    change_between : The subtraction.

    Examples
    --------
    >>> change = change_in_r2_prime(Estimate.of([18.4], [0.04]), Estimate.of([18.6], [0.05]))
    >>> change.value.round(3), change.variance.round(3)
    (array([-0.2]), array([0.09]))
    """
    if (task_r2 is None) != (baseline_r2 is None):
        msg = 'R2 must be given for both conditions, or for none when one map serves both'
        raise ModelInputError(msg)
    if task_r2 is None or baseline_r2 is None:
        return change_between(task_r2_star, baseline_r2_star)
    return change_between(
        change_between(task_r2_star, task_r2), change_between(baseline_r2_star, baseline_r2)
    )


def change_in_cmro2(
    *,
    task_cbf: Estimate,
    baseline_cbf: Estimate,
    task_r2_star: Estimate,
    baseline_r2_star: Estimate,
    r2: Estimate,
    task_cbv: Estimate,
    baseline_cbv: Estimate,
    cbv_shared: bool,
    scale: float,
    m0_relative_variance: ArrayLike | None = None,
    baseline_r2: Estimate | None = None,
    cbv_exponent: float = 0.0,
) -> Estimate:
    r"""
    Estimate the change of oxygen metabolism from the maps it is made of.

    Parameters
    ----------
    task_cbf, baseline_cbf : (V,) Estimate
        Perfusion F, mL/100 g/min; with `m0_relative_variance` given, variances without M0.
    task_r2_star, baseline_r2_star : (V,) Estimate
        R2*, 1/s.
    r2 : (V,) Estimate
        R2, 1/s, of both conditions (its error is counted once); with `baseline_r2`, of the task.
    task_cbv, baseline_cbv : (V,) Estimate
        Blood volume V, mL/mL.
    cbv_shared : bool
        True when both come from one measurement, so that they have one relative error, that of
        `baseline_cbv`; False when each condition has its own.
    scale : float
        Arterial oxygen content (umol/mL) over the dephasing rate C (1/s), so that
        CMRO2 = scale F R2'/V.
    m0_relative_variance : (V,) array_like, optional
        Relative variance of an M0 image shared by the conditions. None: inside the CBF variance.
    baseline_r2 : (V,) Estimate, optional
        R2 of the baseline, where it was measured in each condition, 1/s.
    cbv_exponent : float
        Exponent g where the blood volume is predicted from CBF by a power law; its error then
        is that of CBF and the variance of the CBV maps is not used. With `cbv_shared` the volume
        of the baseline was measured and carried to the task by the ratio of the flows. 0:
        measured or literature.

    Returns
    -------
    change : (V,) Estimate
        D = CMRO2(task) - CMRO2(baseline), umol/100 g/min. Missing where an input is, and with
        NO_BLOOD_VOLUME where a blood volume is not positive.

    Raises
    ------
    ModelInputError
        If the shapes differ.

    See Also
    --------
    change_in_oef : The change of oxygen extraction.

    Notes
    -----
    With :math:`P_x = R^*_{2,x} - R_2` and :math:`a = scale/V`, for shared R2, CBV and M0:

    .. math::

        D = a\,(F_t P_t - F_b P_b)

        var(D) = a^2 [P_t^2 v(F_t) + F_t^2 v(R^*_{2,t}) + P_b^2 v(F_b) + F_b^2 v(R^*_{2,b})
                 + (F_t - F_b)^2 v(R_2)] + D^2 v(V)/V^2 + D^2 v(M_0)/M_0^2

    to first order in the errors. A blood volume of its own per condition contributes
    :math:`(M_x/V_x)^2 v(V_x)` with M_x the CMRO2 of the condition. Haematocrit, saturation,
    labelling efficiency and the like scale D and cannot flip its sign: they are systematic
    errors and not part of the variance.

    Examples
    --------
    >>> change = change_in_cmro2(
    ...     task_cbf=Estimate.of([52.8]), baseline_cbf=Estimate.of([44.0]),
    ...     task_r2_star=Estimate.of([18.6], 0.04), baseline_r2_star=Estimate.of([18.9], 0.04),
    ...     r2=Estimate.of([13.5]), task_cbv=Estimate.of([0.048]),
    ...     baseline_cbv=Estimate.of([0.048]), cbv_shared=True, scale=7.64358 / 316.956)
    >>> change.value.round(1), z_score(change).round(2)
    (array([15.9]), array([2.3]))
    """
    sources = [task_cbf, baseline_cbf, task_r2_star, baseline_r2_star, r2, task_cbv, baseline_cbv]
    sources += [] if baseline_r2 is None else [baseline_r2]
    _check_shapes(*sources)
    is_carried = cbv_shared and cbv_exponent != 0
    task_rate = scale / positive_or_nan(task_cbv)
    baseline_rate = scale / positive_or_nan(baseline_cbv)
    task_r2_prime = task_r2_star.value - r2.value
    baseline_r2_prime = baseline_r2_star.value - (baseline_r2 or r2).value
    task_slope = task_rate * task_cbf.value
    baseline_slope = baseline_rate * baseline_cbf.value
    parts = (task_slope * task_r2_prime, baseline_slope * baseline_r2_prime)
    value = parts[0] - parts[1]
    perfusion_share = 1.0 - cbv_exponent

    terms = [
        (task_slope, task_r2_star.variance),
        (baseline_slope, baseline_r2_star.variance),
        *_r2_terms(task_slope, baseline_slope, r2, baseline_r2),
        (perfusion_share * task_rate * task_r2_prime, task_cbf.variance),
    ]
    if is_carried:  # V_t = V_b (F_t/F_b)^g: the flow of the baseline enters both conditions
        flow = np.where(baseline_cbf.value > 0, baseline_cbf.value, np.nan)
        slope = baseline_rate * baseline_r2_prime - cbv_exponent * parts[0] / flow
        terms += [(slope, baseline_cbf.variance), (value, _or_zero(m0_relative_variance))]
        terms += [(value, baseline_cbv.variance / positive_or_nan(baseline_cbv) ** 2)]
    else:
        terms += [
            (perfusion_share * baseline_rate * baseline_r2_prime, baseline_cbf.variance),
            (perfusion_share * value, _or_zero(m0_relative_variance)),
        ]
    if cbv_exponent == 0:
        terms += cbv_terms(parts, task_cbv, baseline_cbv, shared=cbv_shared)
    return difference_from_terms(value, terms, sources, volume_status(task_cbv, baseline_cbv))


def change_in_oef(
    *,
    task_r2_star: Estimate,
    baseline_r2_star: Estimate,
    r2: Estimate,
    task_cbv: Estimate,
    baseline_cbv: Estimate,
    cbv_shared: bool,
    rate: float,
    baseline_r2: Estimate | None = None,
    m0_relative_variance: ArrayLike | None = None,
    cbv_exponent: float = 0.0,
) -> Estimate:
    r"""
    Estimate the change of oxygen extraction from the maps it is made of.

    Parameters
    ----------
    task_r2_star, baseline_r2_star : (V,) Estimate
        R2*, 1/s.
    r2 : (V,) Estimate
        R2, 1/s, of both conditions (its error is counted once); with `baseline_r2`, of the task.
    task_cbv, baseline_cbv : (V,) Estimate
        Blood volume V, mL/mL.
    cbv_shared : bool
        True when both come from one measurement, so that they have one relative error, that of
        `baseline_cbv`; False when each condition has its own.
    rate : float
        Dephasing rate C: R2' per unit oxygen extraction and blood volume, 1/s.
    baseline_r2 : (V,) Estimate, optional
        R2 of the baseline, where it was measured in each condition, 1/s.
    m0_relative_variance : (V,) array_like, optional
        Relative variance of an M0 image shared by the conditions; it matters only where the
        blood volume is predicted from CBF.
    cbv_exponent : float
        Exponent g where the blood volume is predicted from CBF by a power law, else 0.

    Returns
    -------
    change : (V,) Estimate
        OEF(task) - OEF(baseline), dimensionless. Missing where an input is, and with
        NO_BLOOD_VOLUME where a blood volume is not positive.

    Raises
    ------
    ModelInputError
        If the shapes differ.

    See Also
    --------
    change_in_cmro2 : The change of oxygen metabolism.

    Notes
    -----
    With :math:`P_x = R^*_{2,x} - R_2`, for shared R2 and CBV and to first order:

    .. math::

        D = (P_t - P_b)/(C V), \qquad
        var(D) = [v(R^*_{2,t}) + v(R^*_{2,b})]/(C V)^2 + D^2 v(V)/V^2

    so that the error of R2 cancels unless the blood volumes differ.

    Examples
    --------
    >>> change = change_in_oef(
    ...     task_r2_star=Estimate.of([18.6], 0.04), baseline_r2_star=Estimate.of([18.9], 0.04),
    ...     r2=Estimate.of([13.5]), task_cbv=Estimate.of([0.048]),
    ...     baseline_cbv=Estimate.of([0.048]), cbv_shared=True, rate=316.956)
    >>> change.value.round(4)
    array([-0.0197])
    """
    sources = [task_r2_star, baseline_r2_star, r2, task_cbv, baseline_cbv]
    sources += [] if baseline_r2 is None else [baseline_r2]
    _check_shapes(*sources)
    task_slope = 1.0 / (rate * positive_or_nan(task_cbv))
    baseline_slope = 1.0 / (rate * positive_or_nan(baseline_cbv))
    parts = (
        task_slope * (task_r2_star.value - r2.value),
        baseline_slope * (baseline_r2_star.value - (baseline_r2 or r2).value),
    )
    value = parts[0] - parts[1]

    terms = [
        (task_slope, task_r2_star.variance),
        (baseline_slope, baseline_r2_star.variance),
        *_r2_terms(task_slope, baseline_slope, r2, baseline_r2),
        ((not cbv_shared) * cbv_exponent * value, _or_zero(m0_relative_variance)),
        *cbv_terms(parts, task_cbv, baseline_cbv, shared=cbv_shared),
    ]
    return difference_from_terms(value, terms, sources, volume_status(task_cbv, baseline_cbv))


def change_in_cmro2_from_oef(
    *,
    task_cbf: Estimate,
    baseline_cbf: Estimate,
    task_oef: Estimate,
    baseline_oef: Estimate,
    cao2: float,
    m0_relative_variance: ArrayLike | None = None,
) -> Estimate:
    r"""
    Compute the change of CMRO2 where OEF was measured in each condition on its own.

    Parameters
    ----------
    task_cbf, baseline_cbf : (V,) Estimate
        mL/100 g/min; without the error of M0 where that is shared.
    task_oef, baseline_oef : (V,) Estimate
        Dimensionless, errors independent of each other (asymmetric spin echo).
    cao2 : float
        Arterial oxygen content, umol/mL.
    m0_relative_variance : (V,) array_like, optional
        Relative variance of an M0 that serves both conditions.

    Returns
    -------
    change : (V,) Estimate
        D, umol/100 g/min.

    Raises
    ------
    ModelInputError
        If the shapes differ.

    See Also
    --------
    change_in_cmro2 : Where OEF comes from R2*, R2 and blood volume, partly shared.

    Notes
    -----
    .. math:: D = a\,[F_t E_t - F_b E_b], \qquad
              var(D) = a^2 \sum_x [E_x^2 v(F_x) + F_x^2 v(E_x)] + D^2 v(M_0)/M_0^2

    Examples
    --------
    >>> change = change_in_cmro2_from_oef(
    ...     task_cbf=Estimate.of([50.0], 4.0), baseline_cbf=Estimate.of([40.0], 4.0),
    ...     task_oef=Estimate.of([0.4]), baseline_oef=Estimate.of([0.4]), cao2=7.5)
    >>> change.value.round(1), change.variance.round(1)
    (array([30.]), array([72.]))
    """
    sources = [task_cbf, baseline_cbf, task_oef, baseline_oef]
    _check_shapes(*sources)
    value = cao2 * (task_cbf.value * task_oef.value - baseline_cbf.value * baseline_oef.value)
    terms = [
        (cao2 * task_oef.value, task_cbf.variance),
        (cao2 * task_cbf.value, task_oef.variance),
        (cao2 * baseline_oef.value, baseline_cbf.variance),
        (cao2 * baseline_cbf.value, baseline_oef.variance),
        (value, _or_zero(m0_relative_variance)),
    ]
    return difference_from_terms(value, terms, sources)


def percent_of_baseline(change: Estimate, baseline: Estimate) -> FloatArray:
    """
    Express a change in percent of the baseline; a description, not for tests.

    Parameters
    ----------
    change, baseline : (V,) Estimate
        Of equal unit.

    Returns
    -------
    percent : (V,) ndarray of float64
        Percent; NaN where an input is missing or the baseline is not positive.

    Raises
    ------
    ModelInputError
        If the shapes differ.

    See Also
    --------
    z_score : What tests use: the ratio is biased by the noise of the baseline.

    Examples
    --------
    >>> percent_of_baseline(Estimate.of([5.0, 5.0]), Estimate.of([50.0, -1.0]))
    array([10., nan])
    """
    _check_shapes(change, baseline)
    percent: FloatArray = np.full(change.value.shape, np.nan)
    positive = baseline.value > 0
    percent[positive] = change.value[positive] / baseline.value[positive] / PERCENT
    return percent


def change_parts(
    cbf_change: ArrayLike,
    baseline_cbf: ArrayLike,
    oef_change: ArrayLike,
    baseline_oef: ArrayLike,
    *,
    cao2: float,
) -> tuple[FloatArray, FloatArray]:
    r"""
    Split a change of CMRO2 into what blood flow and what extraction carry.

    Parameters
    ----------
    cbf_change, baseline_cbf : (...) array_like
        mL/100 g/min.
    oef_change, baseline_oef : (...) array_like
        Dimensionless.
    cao2 : float
        Arterial oxygen content, umol/mL.

    Returns
    -------
    cbf_part, oef_part : (...) ndarray of float64
        umol/100 g/min; they add up to the change of CMRO2.

    See Also
    --------
    tipping_points : What would turn the sign of the sum.

    Notes
    -----
    Each change times the mean of the other factor over the conditions, so that no rest is left:

    .. math:: D = CaO_2\,(\Delta F\, \bar E + \bar F\, \Delta E)

    Examples
    --------
    >>> cbf_part, oef_part = change_parts([10.0], [50.0], [-0.04], [0.4], cao2=7.5)
    >>> cbf_part.round(1), oef_part.round(1), round((60 * 0.36 - 50 * 0.4) * 7.5, 1)
    (array([28.5]), array([-16.5]), 12.0)
    """
    flow, extraction = np.asarray(cbf_change, float), np.asarray(oef_change, float)
    mean_oef = np.asarray(baseline_oef, float) + extraction / 2
    mean_cbf = np.asarray(baseline_cbf, float) + flow / 2
    return cao2 * flow * mean_oef, cao2 * mean_cbf * extraction


def tipping_points(
    cbf_change: ArrayLike,
    baseline_cbf: ArrayLike,
    r2_prime_change: ArrayLike,
    baseline_r2_prime: ArrayLike,
) -> dict[str, FloatArray]:
    r"""
    Tell which systematic errors would turn the sign of a change of CMRO2.

    Parameters
    ----------
    cbf_change, baseline_cbf : (...) array_like
        F, mL/100 g/min; best of regions.
    r2_prime_change, baseline_r2_prime : (...) array_like
        P, 1/s.

    Returns
    -------
    tips : dict of str to (...) ndarray of float64
        `cbv`, the relative change of blood volume with the task that was not measured, 1; `r2`,
        the amount by which R2 would have to be overestimated in both conditions, 1/s; `cbf`, the
        relative error of the task's blood flow, not shared by the baseline, 1. NaN where none
        turns the sign.

    See Also
    --------
    change_in_cmro2 : The change itself.

    Notes
    -----
    With f the relative change of F, D vanishes at

    .. math::

        CBV^* = \frac{F_t P_t}{F_b P_b} - 1, \quad
        R_2^* = \frac{F_b P_b - F_t P_t}{F_t - F_b}, \quad
        CBF^* = \frac{F_b P_b}{F_t P_t} - 1

    Scale factors (haematocrit, labelling efficiency, partition coefficient) never turn it.

    Examples
    --------
    >>> tips = tipping_points([10.0], [50.0], [-0.5], [5.5])
    >>> {name: float(value.round(3)[0]) for name, value in tips.items()}
    {'cbv': 0.091, 'r2': -2.5, 'cbf': -0.083}
    """
    base_cbf, base_rate = np.asarray(baseline_cbf, float), np.asarray(baseline_r2_prime, float)
    step = np.asarray(cbf_change, float)
    baseline = base_cbf * base_rate
    task = (base_cbf + step) * (base_rate + np.asarray(r2_prime_change, float))
    usable = (baseline > 0) & (task > 0)

    def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
        quotient: FloatArray = np.full(np.broadcast(numerator, denominator).shape, np.nan)
        np.divide(numerator, denominator, out=quotient, where=usable & (denominator != 0))
        return quotient

    return {
        'cbv': ratio(task - baseline, baseline),
        'r2': ratio(baseline - task, step),
        'cbf': ratio(baseline - task, task),
    }


def z_score(change: Estimate) -> FloatArray:
    """
    Divide a change by its standard error.

    Parameters
    ----------
    change : (...) Estimate
        A change and its random variance.

    Returns
    -------
    z : (...) ndarray of float64
        Standard normal where nothing changed. NaN where the change is missing; 0 where change
        and variance are both 0 (two identical maps are no evidence of a change).

    See Also
    --------
    p_value : Its two-sided probability.

    Examples
    --------
    >>> z_score(Estimate.of([6.0, 0.0], [9.0, 0.0]))
    array([2., 0.])
    """
    error = np.sqrt(change.variance)
    z = change.value.copy()
    moved = z != 0
    with np.errstate(divide='ignore', over='ignore'):
        z[moved] /= error[moved]
    return z


def p_value(z: ArrayLike) -> FloatArray:
    """
    Give the two-sided probability of a standard normal value.

    Parameters
    ----------
    z : (...) array_like
        Standard normal under the null hypothesis.

    Returns
    -------
    p : (...) ndarray of float64
        In [0, 1]; NaN where `z` is.

    See Also
    --------
    z_score : Where z comes from.

    Examples
    --------
    >>> p_value([1.96, 0.0]).round(3)
    array([0.05, 1.  ])
    """
    from scipy.special import ndtr  # slow to import

    p: FloatArray = 2.0 * ndtr(-np.abs(np.asarray(z, float)))
    return p


def difference_from_terms(
    value: FloatArray,
    terms: Sequence[tuple[FloatArray, FloatArray]],
    sources: Sequence[Estimate],
    status: StatusArray | None = None,
) -> Estimate:
    """Build the estimate of a change: terms are derivatives with the variance of their source."""
    variance = np.sum(
        [np.broadcast_to(np.square(slope) * spread, value.shape) for slope, spread in terms],
        axis=0,
    )
    codes = [source.status for source in sources] + ([] if status is None else [status])
    dof = min(source.dof for source in sources)
    return Estimate.of(value, variance, combine_status(*codes), dof)


def _r2_terms(
    task_slope: FloatArray, baseline_slope: FloatArray, r2: Estimate, baseline_r2: Estimate | None
) -> list[tuple[FloatArray, FloatArray]]:
    """Count the error of R2 once when one map serves both conditions."""
    if baseline_r2 is None:
        return [(task_slope - baseline_slope, r2.variance)]
    return [(task_slope, r2.variance), (baseline_slope, baseline_r2.variance)]


def cbv_terms(
    parts: tuple[FloatArray, FloatArray],
    task_cbv: Estimate,
    baseline_cbv: Estimate,
    *,
    shared: bool,
) -> list[tuple[FloatArray, FloatArray]]:
    """Count the error of a shared blood volume once; parts are inverse to blood volume."""
    task_relative = task_cbv.variance / positive_or_nan(task_cbv) ** 2
    baseline_relative = baseline_cbv.variance / positive_or_nan(baseline_cbv) ** 2
    if shared:  # what the task has more is the error of how it was carried there
        carried = np.maximum(task_relative - baseline_relative, 0.0)
        return [(parts[0] - parts[1], baseline_relative), (parts[0], carried)]
    return [(parts[0], task_relative), (parts[1], baseline_relative)]


def positive_or_nan(volume: Estimate) -> FloatArray:
    """Replace blood volumes that cannot be divided by with NaN."""
    return np.where(volume.value > 0, volume.value, np.nan)


def volume_status(*volumes: Estimate) -> StatusArray:
    """Say where a blood volume was measured and is not positive."""
    absent = np.any([volume.value <= 0 for volume in volumes], axis=0)
    return np.where(absent, Status.NO_BLOOD_VOLUME, Status.OK).astype(np.uint8)


def _or_zero(variance: ArrayLike | None) -> FloatArray:
    """Read an optional variance."""
    return np.asarray(0.0 if variance is None else variance, float)


def _check_shapes(*estimates: Estimate) -> None:
    """Refuse maps of different shapes."""
    shapes = {estimate.value.shape for estimate in estimates}
    if len(shapes) != 1:
        msg = f'the maps of a change must have equal shapes, got {sorted(shapes)}'
        raise ModelInputError(msg)
