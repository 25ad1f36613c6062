"""Calibration of BOLD by gases: its maximum M, resting oxygen extraction, vascular reactivity."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_app.models.constants import (
    DAVIS_EPP,
    DAVIS_GAGNON,
    DAVIS_GRIFFETH,
    DAVIS_LIN,
    DUAL_START,
    DUAL_STEPS,
    GREY_R2_STAR,
    OEF_PLAUSIBLE_MAXIMUM,
    OXYGEN_RELAXIVITY,
    OXYGEN_SOLUBILITY,
    SEVERINGHAUS,
    VENOUS_PO2,
)
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.checks import check_positive
from bids_app.models.numerics.propagation import propagate
from bids_app.models.registry import GASES
from bids_app.models.status import Status, combine_status, flag_negative
from bids_app.units import PERCENT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import ArrayLike

    from bids_app._typing import FloatArray

COEFFICIENTS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        'gagnon2016': DAVIS_GAGNON,
        'epp2025': DAVIS_EPP,
        'griffeth2011': DAVIS_GRIFFETH,
        'lin2008': DAVIS_LIN,
    }
)
"""Source -> alpha and beta of the Davis model."""


def haemoglobin_saturation(po2: ArrayLike) -> FloatArray:
    r"""
    Compute the oxygen saturation of haemoglobin from the pressure of oxygen.

    Parameters
    ----------
    po2 : (...) array_like
        mmHg, positive.

    Returns
    -------
    saturation : (...) ndarray of float64
        Fraction.

    Notes
    -----
    .. math:: S = \left(\frac{23400}{P^3 + 150 P} + 1\right)^{-1}

    References
    ----------
    .. [1] Severinghaus, J Appl Physiol 46:599, 1979. doi:10.1152/jappl.1979.46.3.599

    Examples
    --------
    >>> haemoglobin_saturation([26.9, 100.0, 400.0]).round(3)
    array([0.501, 0.977, 1.   ])
    """
    pressure = np.asarray(po2, float)
    cubic, linear = SEVERINGHAUS
    saturation: FloatArray = 1 / (cubic / (pressure * (pressure**2 + linear)) + 1)
    return saturation


def lacking_oxygen(po2: float, *, cao2: float, sao2: float) -> float:
    r"""
    Say how much oxygen arterial blood lacks to full haemoglobin at a pressure of oxygen.

    Parameters
    ----------
    po2 : float
        Arterial pressure of oxygen, mmHg; an end-tidal value stands for it.
    cao2 : float
        Oxygen bound in arterial blood at rest, umol/mL.
    sao2 : float
        Arterial saturation at rest, fraction.

    Returns
    -------
    lack : float
        Relative to what full haemoglobin binds; negative where more oxygen is dissolved than the
        haemoglobin lacks.

    Raises
    ------
    ModelInputError
        If the pressure or the content is not positive.

    Notes
    -----
    Saturation follows the pressure, because what a gas adds must be known better than an oximeter
    tells: 1 % of saturation is a seventh of it. Of what is dissolved in arterial blood the
    pressure :math:`P_v` of venous blood stays dissolved:

    .. math:: \delta = 1 - S(P) - \frac{\epsilon (P - P_v)}{CaO_2/S_a}

    Examples
    --------
    >>> blood = {'cao2': 7.64358, 'sao2': 0.98}
    >>> round(lacking_oxygen(110.0, **blood), 4), round(lacking_oxygen(400.0, **blood), 4)
    (0.0038, -0.0644)
    """
    check_positive('po2', po2)
    check_positive('cao2', cao2)
    dissolved = OXYGEN_SOLUBILITY * (po2 - VENOUS_PO2) * sao2 / cao2
    return float(1 - haemoglobin_saturation(po2) - dissolved)


def arterial_t1(
    t1_blood: float, *, po2: float, resting_po2: float, relaxivity: float = OXYGEN_RELAXIVITY
) -> float:
    r"""
    Compute T1 of arterial blood that holds more dissolved oxygen than at rest.

    Parameters
    ----------
    t1_blood : float
        At rest, s.
    po2, resting_po2 : float
        Pressure of oxygen, mmHg.
    relaxivity : float
        Of dissolved oxygen, 1/s/mmHg.

    Returns
    -------
    t1_blood : float
        s.

    Notes
    -----
    .. math:: 1/T_1 = 1/T_{1,0} + r_1 (P - P_0)

    References
    ----------
    .. [1] Siero et al., NMR Biomed 28:1518, 2015. doi:10.1002/nbm.3411

    Examples
    --------
    >>> round(arterial_t1(1.65, po2=650.0, resting_po2=110.0), 2)
    1.49
    """
    check_positive('t1_blood', t1_blood)
    return 1 / (1 / t1_blood + relaxivity * (po2 - resting_po2))


def first_echo_share(echo_times: ArrayLike) -> float:
    r"""
    Say how the noise of BOLD by R2* is correlated with that of flow by the first echo.

    Parameters
    ----------
    echo_times : (E,) array_like
        Of a series of label and control, s; flow is made of the first.

    Returns
    -------
    share : float
        Size of the correlation in the volumes of one condition; 0 for one echo, which has no R2*.

    Notes
    -----
    R2* of the control volumes comes from the logarithms of all echoes, weighted by the squares of
    the signals :math:`S_k`, so that echo k carries the share :math:`S_k^2 (t_k - \bar t)^2` of its
    variance; control minus label of the first echo has half of its variance from the same
    volumes. A positive error raises flow and R2*, and lowers BOLD.

    Examples
    --------
    >>> round(first_echo_share([0.0112, 0.030]), 2), first_echo_share([0.0112])
    (0.4, 0.0)
    """
    times = np.asarray(echo_times, float)
    signal = np.exp(-GREY_R2_STAR * times)
    middle = np.average(times, weights=signal**2)
    parts = (signal * (times - middle)) ** 2
    return float(np.sqrt(parts[0] / parts.sum() / 2)) if parts.sum() > 0 else 0.0


def estimate_maximum_from_r2_prime(r2_prime: Estimate, *, bold_echo_time: float) -> Estimate:
    r"""
    Estimate the largest possible BOLD change from R2'.

    Parameters
    ----------
    r2_prime : (V,) Estimate
        At rest, 1/s.
    bold_echo_time : float
        Of the BOLD series, s.

    Returns
    -------
    maximum : (V,) Estimate
        M, percent; missing with NO_REFERENCE where R2' is not positive.

    Raises
    ------
    ModelInputError
        If the echo time is not positive.

    Notes
    -----
    .. math:: M = TE \cdot R_2'

    References
    ----------
    .. [1] Blockley et al., NeuroImage 60:279, 2012. doi:10.1016/j.neuroimage.2011.11.081

    Examples
    --------
    >>> estimate_maximum_from_r2_prime(Estimate.of([5.0]), bold_echo_time=0.03).value
    array([15.])
    """
    check_positive('bold_echo_time', bold_echo_time)

    def maximum(at: Mapping[str, FloatArray]) -> FloatArray:
        return _positive(bold_echo_time * at['r2_prime'] / PERCENT)

    return _propagated(maximum, r2_prime=r2_prime)


def estimate_maximum_from_hypercapnia(
    hypercapnia_bold: Estimate,
    hypercapnia_cbf: Estimate,
    resting_cbf: Estimate,
    *,
    alpha: float,
    beta: float,
    hypercapnia_cmro2: float = 1.0,
    echo_share: float = 0.0,
    resting_share: float = 0.0,
) -> Estimate:
    r"""
    Estimate the largest possible BOLD change from hypercapnia.

    Parameters
    ----------
    hypercapnia_bold : (V,) Estimate
        BOLD change by the gas, percent.
    hypercapnia_cbf, resting_cbf : (V,) Estimate
        CBF with the gas and without, mL/100 g/min.
    alpha, beta : float
        Exponents of blood volume and of susceptibility, see :data:`COEFFICIENTS`.
    hypercapnia_cmro2 : float
        CMRO2 with the gas over that without; positive. 1 where the gas leaves it alone.
    echo_share, resting_share : float
        Noise that the maps have in common where they are of one series: that of
        :func:`first_echo_share`, and the share of the volumes at rest in the variance of BOLD.

    Returns
    -------
    maximum : (V,) Estimate
        M, percent; missing with NO_REFERENCE where it is not positive.

    Raises
    ------
    ModelInputError
        If the ratio of CMRO2 is not positive.

    Notes
    -----
    With f and m the ratios of flow and CMRO2, and arterial blood that is saturated in both
    conditions

    .. math:: M = B / \left(1 - f^{\alpha - \beta} m^\beta\right)

    References
    ----------
    .. [1] Davis et al., Proc Natl Acad Sci USA 95:1834, 1998. doi:10.1073/pnas.95.4.1834
    .. [2] Hoge et al., Magn Reson Med 42:849, 1999.

    Examples
    --------
    >>> flows = (Estimate.of([70.0]), Estimate.of([50.0]))
    >>> estimate_maximum_from_hypercapnia(
    ...     Estimate.of([2.784134]), *flows, alpha=0.2, beta=1.3).value.round(5)
    array([9.])
    """
    check_positive('hypercapnia_cmro2', hypercapnia_cmro2)

    def maximum(at: Mapping[str, FloatArray]) -> FloatArray:
        flow = _ratio(at['hypercapnia_cbf'], at['resting_cbf'])
        left = flow**alpha * (hypercapnia_cmro2 / flow) ** beta
        return _maximum(at['hypercapnia_bold'], left)

    return _propagated(
        maximum,
        _shared_noise(echo_share, resting_share),
        hypercapnia_bold=hypercapnia_bold,
        hypercapnia_cbf=hypercapnia_cbf,
        resting_cbf=resting_cbf,
    )


def estimate_maximum_from_hyperoxia(
    hyperoxia_bold: Estimate,
    hyperoxia_cbf: Estimate,
    resting_cbf: Estimate,
    oef: Estimate,
    *,
    alpha: float,
    beta: float,
    cao2: float,
    sao2: float,
    resting_po2: float,
    hyperoxia_po2: float,
    echo_share: float = 0.0,
    resting_share: float = 0.0,
) -> Estimate:
    r"""
    Estimate the largest possible BOLD change by the generalised calibration model.

    Parameters
    ----------
    hyperoxia_bold : (V,) Estimate
        BOLD change by the gas, percent.
    hyperoxia_cbf, resting_cbf : (V,) Estimate
        CBF with the gas and without, mL/100 g/min.
    oef : (V,) Estimate
        Oxygen extraction fraction at rest.
    alpha, beta : float
        As for :func:`estimate_maximum_from_hypercapnia`.
    cao2, sao2 : float
        As for :func:`lacking_oxygen`.
    resting_po2, hyperoxia_po2 : float
        Arterial pressure of oxygen without the gas and with it, mmHg.
    echo_share, resting_share : float
        As for :func:`estimate_maximum_from_hypercapnia`.

    Returns
    -------
    maximum : (V,) Estimate
        M, percent; missing with NO_REFERENCE where it is not positive.

    Notes
    -----
    Deoxyhaemoglobin in veins follows from what arterial blood brings and tissue takes. With
    :math:`\delta` from :func:`lacking_oxygen` and :math:`x = OEF\,S_a`

    .. math::

        d = \frac{\delta + x/f}{\delta_0 + x}, \qquad M = B/(1 - f^\alpha d^\beta)

    References
    ----------
    .. [1] Gauthier & Hoge, Hum Brain Mapp 34:1053, 2013. doi:10.1002/hbm.21495
    .. [2] Chiarelli et al., NeuroImage 37:808, 2007. doi:10.1016/j.neuroimage.2007.05.033

    Examples
    --------
    >>> maximum = estimate_maximum_from_hyperoxia(
    ...     Estimate.of([1.4]), Estimate.of([49.0]), Estimate.of([50.0]), Estimate.of([0.4]),
    ...     alpha=0.2, beta=1.3, cao2=7.64358, sao2=0.98, resting_po2=110.0, hyperoxia_po2=400.0)
    >>> maximum.value.round(1)
    array([7.1])
    """
    rest, gas = (lacking_oxygen(po2, cao2=cao2, sao2=sao2) for po2 in (resting_po2, hyperoxia_po2))

    def maximum(at: Mapping[str, FloatArray]) -> FloatArray:
        flow = _ratio(at['hyperoxia_cbf'], at['resting_cbf'])
        dilution = _dilution(at['oef'] * sao2, flow, gas, rest)
        return _maximum(at['hyperoxia_bold'], flow**alpha * dilution**beta)

    return _propagated(
        maximum,
        _shared_noise(echo_share, resting_share),
        hyperoxia_bold=hyperoxia_bold,
        hyperoxia_cbf=hyperoxia_cbf,
        resting_cbf=resting_cbf,
        oef=oef,
    )


def estimate_oef_dual_calibrated(  # noqa: PLR0913  (two gases and the blood they change)
    hypercapnia_bold: Estimate,
    hypercapnia_cbf: Estimate,
    hyperoxia_bold: Estimate,
    hyperoxia_cbf: Estimate,
    resting_cbf: Estimate,
    *,
    alpha: float,
    beta: float,
    cao2: float,
    sao2: float,
    resting_po2: float,
    hypercapnia_po2: float,
    hyperoxia_po2: float,
    hypercapnia_cmro2: float = 1.0,
    echo_share: float = 0.0,
    resting_share: float = 0.0,
) -> Estimate:
    r"""
    Estimate oxygen extraction at rest from BOLD and CBF in hypercapnia and in hyperoxia.

    Parameters
    ----------
    hypercapnia_bold, hyperoxia_bold : (V,) Estimate
        BOLD change by each gas, percent.
    hypercapnia_cbf, hyperoxia_cbf, resting_cbf : (V,) Estimate
        CBF with each gas and without, mL/100 g/min.
    alpha, beta : float
        As for :func:`estimate_maximum_from_hypercapnia`.
    cao2, sao2 : float
        As for :func:`lacking_oxygen`.
    resting_po2, hypercapnia_po2, hyperoxia_po2 : float
        Arterial pressure of oxygen without the gases and with each, mmHg.
    hypercapnia_cmro2, echo_share, resting_share : float
        As for :func:`estimate_maximum_from_hypercapnia`.

    Returns
    -------
    oef : (V,) Estimate
        Oxygen taken up relative to `cao2`, not clipped; missing with NO_REFERENCE where no
        maximum of BOLD explains both gases.

    Notes
    -----
    Oxygen leaves CMRO2 alone, carbon dioxide but for `hypercapnia_cmro2`, and M and the exponents
    are those of both. The two equations

    .. math::

        B_c = M\,(1 - f_c^\alpha d_c^\beta), \qquad B_o = M\,(1 - f_o^\alpha d_o^\beta)

    with d of :func:`estimate_maximum_from_hyperoxia` (x m/f in place of x/f) are solved for M and
    :math:`x = OEF\,S_a`. Given M, the second is linear in x:

    .. math::

        q = \left[(1 - B_o/M)\,f_o^{-\alpha}\right]^{1/\beta}, \qquad
        x = \frac{\delta_o - q\,\delta_0}{q - 1/f_o}

    and M of the first depends on x only by the oxygen that arterial blood lacks, so that a few
    turns give both.

    References
    ----------
    .. [1] Gauthier & Hoge, NeuroImage 60:1212, 2012. doi:10.1016/j.neuroimage.2011.12.056
    .. [2] Bulte et al., NeuroImage 60:582, 2012. doi:10.1016/j.neuroimage.2011.12.017
    .. [3] Wise et al., NeuroImage 83:135, 2013. doi:10.1016/j.neuroimage.2013.06.008

    Examples
    --------
    >>> flows = [Estimate.of([flow]) for flow in (75.0, 48.5, 50.0)]
    >>> oef = estimate_oef_dual_calibrated(
    ...     Estimate.of([3.6]), flows[0], Estimate.of([1.6]), *flows[1:], alpha=-0.05, beta=0.98,
    ...     cao2=7.64358, sao2=0.98, resting_po2=110.0, hypercapnia_po2=110.0,
    ...     hyperoxia_po2=400.0)
    >>> oef.value.round(2)
    array([0.37])
    """
    rest, carbon_dioxide, oxygen = (
        lacking_oxygen(po2, cao2=cao2, sao2=sao2)
        for po2 in (resting_po2, hypercapnia_po2, hyperoxia_po2)
    )
    check_positive('hypercapnia_cmro2', hypercapnia_cmro2)

    def extraction(at: Mapping[str, FloatArray]) -> FloatArray:
        flow = _ratio(at['hypercapnia_cbf'], at['resting_cbf'])
        other = _ratio(at['hyperoxia_cbf'], at['resting_cbf'])
        taken: FloatArray = np.full(flow.shape, DUAL_START)
        for _ in range(DUAL_STEPS):
            dilution = _dilution(taken, flow / hypercapnia_cmro2, carbon_dioxide, rest)
            maximum = _maximum(at['hypercapnia_bold'], flow**alpha * dilution**beta)
            left = _positive(1 - at['hyperoxia_bold'] / maximum) * other**-alpha
            diluted = left ** (1 / beta)
            gap = diluted - 1 / other
            taken = (oxygen - diluted * rest) / np.where(gap == 0, np.nan, gap)
        return taken / sao2

    made = _propagated(
        extraction,
        _shared_noise(echo_share, resting_share),
        hypercapnia_bold=hypercapnia_bold,
        hypercapnia_cbf=hypercapnia_cbf,
        hyperoxia_bold=hyperoxia_bold,
        hyperoxia_cbf=hyperoxia_cbf,
        resting_cbf=resting_cbf,
    )
    flags = combine_status(
        made.status,
        flag_negative(made.value),
        np.where(made.value > OEF_PLAUSIBLE_MAXIMUM, Status.IMPLAUSIBLE, Status.OK),
    )
    return Estimate.of(made.value, made.variance, flags, made.dof)


def estimate_reactivity(
    hypercapnia_cbf: Estimate,
    resting_cbf: Estimate,
    *,
    hypercapnia_pco2: float,
    resting_pco2: float,
) -> Estimate:
    r"""
    Estimate the cerebrovascular reactivity to carbon dioxide.

    Parameters
    ----------
    hypercapnia_cbf, resting_cbf : (V,) Estimate
        CBF with the gas and without, mL/100 g/min.
    hypercapnia_pco2, resting_pco2 : float
        End-tidal pressure of carbon dioxide with the gas and without, mmHg.

    Returns
    -------
    reactivity : (V,) Estimate
        Rise of CBF per pressure, %/mmHg; missing with NO_REFERENCE where a flow is not positive.

    Raises
    ------
    ModelInputError
        If the pressure does not rise.

    Examples
    --------
    >>> flows = (Estimate.of([72.0], 4.0), Estimate.of([50.0], 4.0))
    >>> reactivity = estimate_reactivity(*flows, hypercapnia_pco2=50.0, resting_pco2=40.0)
    >>> reactivity.value.round(2), (reactivity.variance**0.5).round(2)
    (array([4.4]), array([0.7]))
    """
    rise = hypercapnia_pco2 - resting_pco2
    check_positive('rise of the pressure of carbon dioxide (mmHg)', rise)

    def reactivity(at: Mapping[str, FloatArray]) -> FloatArray:
        flow = _ratio(at['hypercapnia_cbf'], at['resting_cbf'])
        return (flow - 1) / PERCENT / rise

    return _propagated(reactivity, hypercapnia_cbf=hypercapnia_cbf, resting_cbf=resting_cbf)


def _dilution(taken: FloatArray, flow: FloatArray, gas: float, rest: float) -> FloatArray:
    """Give venous deoxyhaemoglobin with a gas over that at rest; NaN where it is not positive."""
    base = rest + taken
    return _positive((gas + taken / flow) / np.where(base > 0, base, np.nan))


def _maximum(bold: FloatArray, left: FloatArray) -> FloatArray:
    """Give M from BOLD and the part of the signal loss that is left; NaN where not positive."""
    vanished = 1 - left
    return _positive(bold / np.where(vanished == 0, np.nan, vanished))


def _ratio(task: FloatArray, baseline: FloatArray) -> FloatArray:
    """Divide flows; NaN where one of them is not positive."""
    return _positive(task) / _positive(baseline)


def _positive(values: FloatArray) -> FloatArray:
    """Replace what is not positive with NaN."""
    return np.where(values > 0, values, np.nan)


def _shared_noise(echo_share: float, resting_share: float) -> dict[tuple[str, str], float]:
    """
    Give the correlations of what one series tells of gases: of pairs of maps, 0 where not named.

    BOLD of a gas has a share of its variance from the volumes at rest and the rest from those of
    the gas; in each of these it is correlated with the flow.
    """
    gas, rest = np.sqrt(1 - resting_share), np.sqrt(resting_share)
    pairs = {('hypercapnia_bold', 'hyperoxia_bold'): resting_share}
    for name in GASES:
        pairs[f'{name}_bold', f'{name}_cbf'] = -echo_share * gas
        pairs[f'{name}_bold', 'resting_cbf'] = echo_share * rest
    return pairs


def _propagated(
    function: Callable[[Mapping[str, FloatArray]], FloatArray],
    correlations: Mapping[tuple[str, str], float] = MappingProxyType({}),
    **sources: Estimate,
) -> Estimate:
    """
    Carry errors to a result that is missing with NO_REFERENCE where it has no value.

    Correlated errors are mixtures of independent ones of unit variance, by the factor of Cholesky.
    """
    values = {name: source.value for name, source in sources.items()}
    known = np.all([np.isfinite(value) for value in values.values()], axis=0)
    reason: Any = np.where(known & np.isnan(function(values)), Status.NO_REFERENCE, Status.OK)
    if not any(correlations.values()):
        return propagate(function, sources, status=reason)
    names = list(sources)
    matrix = np.array([[_between(correlations, one, two) for two in names] for one in names])
    mixed = dict(zip(names, np.linalg.cholesky(matrix), strict=True))
    errors = {name: np.sqrt(source.variance) for name, source in sources.items()}

    def moved(at: Mapping[str, FloatArray]) -> FloatArray:
        steps = np.array([at[name] for name in names])
        return function(
            {
                name: values[name] + errors[name] * np.tensordot(weights, steps, axes=1)
                for name, weights in mixed.items()
            }
        )

    units = {
        name: Estimate.of(np.where(np.isfinite(source.value), 0.0, np.nan), 1.0, source.status,
                          source.dof)
        for name, source in sources.items()
    }  # fmt: skip
    return propagate(moved, units, status=reason)


def _between(correlations: Mapping[tuple[str, str], float], one: str, two: str) -> float:
    """Correlation of two maps."""
    given = correlations.get((one, two), correlations.get((two, one), 0.0))
    return 1.0 if one == two else given
