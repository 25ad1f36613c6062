"""Flow and arrival time from several delays: with arteries, and shared by conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bids_app.errors import ModelInputError
from bids_app.models.asl.arrival_fit import (
    Series,
    estimates,
    fit_all,
    fit_arrival,
)
from bids_app.models.asl.arteries import add_arteries
from bids_app.models.asl.kinetics import (
    Kinetics,
    signal_scale,
)
from bids_app.models.constants import (
    DELAYS_FOR_ARTERIES,
)
from bids_app.models.estimate import Estimate
from bids_app.models.status import (
    Status,
    combine_status,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike


def fit_multi_delay(
    difference: Estimate,
    m0: Estimate,
    *,
    post_label_delay: ArrayLike,
    label_duration: ArrayLike,
    n_pairs: ArrayLike,
    labeling: str,
    labeling_efficiency: float,
    background_suppression_factor: float,
    t1_blood: float,
    t1_tissue: float,
    partition_coefficient: float,
    noise_groups: ArrayLike | None = None,
) -> tuple[Estimate, Estimate]:
    r"""
    Estimate blood flow and arrival time from several delays.

    Parameters
    ----------
    difference : (V, D) Estimate
        Control minus label at each delay, any unit. Its variance is that of a mean of `n_pairs`.
    m0 : (V,) Estimate
        Equilibrium magnetisation of tissue, unit of `difference`.
    post_label_delay : (D,) or (V, D) array_like
        s; at the readout of the voxel. As for
        :func:`~bids_app.models.asl.kinetics.predict_difference`.
    label_duration : (D,) array_like or float
        s; positive.
    n_pairs : (D,) array_like or float
        Pairs behind each mean: its weight. Where no delay has more than one, the noise is taken
        from the residuals of the fit instead of `difference`.
    labeling, labeling_efficiency, background_suppression_factor
        As for :func:`~bids_app.models.asl.kinetics.predict_difference`.
    t1_blood, t1_tissue, partition_coefficient
        As for :func:`~bids_app.models.asl.kinetics.predict_difference`.
    noise_groups : (V,) array_like of int, optional
        Voxels whose residuals are pooled; default all.

    Returns
    -------
    cbf : (V,) Estimate
        mL/100 g/min, unclipped. NaN with the reason of the inputs, NOT_CONVERGED, or
        NO_REFERENCE; flagged ARRIVAL_NOT_COVERED, IMPLAUSIBLE or NEGATIVE.
    att : (V,) Estimate
        Arrival time, s; ARRIVAL_NOT_COVERED where it lies within one error of an end of what the
        delays can tell (the first delay; all but one readout), or its 95 % interval spans both.

    Raises
    ------
    ModelInputError
        If shapes contradict each other, fewer than two delays differ or a parameter lies outside
        its range.

    Notes
    -----
    The arrival time is first searched on a grid, then fitted together with CBF between the two
    kinks of the model that enclose it (arrival at, or bolus complete by, the readout of a delay).
    The covariance is :math:`\sigma^2 (J^T W J)^{-1}`; where the 95 % interval of the arrival
    time reaches a kink, that does not hold, and the variance is the square of the half width of
    the 95 % profile-likelihood interval divided by 1.96.

    References
    ----------
    .. [1] Buxton et al., Magn Reson Med 40:383, 1998. doi:10.1002/mrm.1910400308
    .. [2] Venzon & Moolgavkar, J R Stat Soc C 37:87, 1988. doi:10.2307/2347496

    Examples
    --------
    >>> from bids_app.models.asl.kinetics import predict_difference
    >>> labelling = dict(
    ...     label_duration=1.8, labeling='continuous', labeling_efficiency=0.85,
    ...     background_suppression_factor=1.0, t1_blood=1.65, t1_tissue=1.33,
    ...     partition_coefficient=0.9, post_label_delay=[0.2, 0.7, 1.2, 1.7, 2.2],
    ... )
    >>> difference = predict_difference([[60.0]], 0.9, 1000.0, **labelling)
    >>> cbf, att = fit_multi_delay(
    ...     Estimate.of(difference, 0.01), Estimate.of([1000.0]), n_pairs=8, **labelling
    ... )
    >>> cbf.value.round(3), att.value.round(3)
    (array([60.]), array([0.9]))
    """
    kinetics = Kinetics.of(labeling, t1_blood, t1_tissue, partition_coefficient)
    timing = (post_label_delay, label_duration, n_pairs)
    scale = signal_scale(labeling_efficiency, background_suppression_factor, kinetics)
    return _fit_one(kinetics, (difference, m0), timing, scale, noise_groups)


def fit_dispersed(  # noqa: PLR0913  (the kinetics, and a kernel)
    difference: Estimate,
    m0: Estimate,
    *,
    post_label_delay: ArrayLike,
    label_duration: ArrayLike,
    n_pairs: ArrayLike,
    labeling: str,
    labeling_efficiency: float,
    background_suppression_factor: float,
    t1_blood: float,
    t1_tissue: float,
    partition_coefficient: float,
    dispersion_sharpness: float,
    dispersion_peak: float,
    noise_groups: ArrayLike | None = None,
) -> tuple[Estimate, Estimate]:
    r"""
    Estimate blood flow and the arrival of the front of a bolus that arteries disperse.

    Parameters
    ----------
    difference, m0, post_label_delay, label_duration, n_pairs
        As for :func:`fit_multi_delay`.
    labeling, labeling_efficiency, background_suppression_factor
        As for :func:`fit_multi_delay`.
    t1_blood, t1_tissue, partition_coefficient, noise_groups
        As for :func:`fit_multi_delay`.
    dispersion_sharpness, dispersion_peak : float
        s, 1/s, positive, and p, s, not negative, of the kernel; known, not fitted.

    Returns
    -------
    cbf, att : (V,) Estimate
        As of :func:`fit_multi_delay`; arrival is that of the first label.

    Raises
    ------
    ModelInputError
        As of :func:`fit_multi_delay`, and if the kernel is none.

    Notes
    -----
    The input of the tissue is that of the general kinetic model convolved with a gamma kernel
    [1]_, label decaying on the longer way too:

    .. math:: k(t) = \frac{s^{1 + sp}}{\Gamma(1 + sp)}\, t^{sp} e^{-st}

    Most of the label comes p after its front, and it is spread by
    :math:`\sqrt{1 + sp}/s`. The response is smooth, without the kinks of the plain model.

    References
    ----------
    .. [1] Chappell et al., Magn Reson Med 69:563, 2013. doi:10.1002/mrm.24260
    """
    kernel = dispersion_sharpness, dispersion_peak
    kinetics = Kinetics.of(labeling, t1_blood, t1_tissue, partition_coefficient, kernel)
    timing = (post_label_delay, label_duration, n_pairs)
    scale = signal_scale(labeling_efficiency, background_suppression_factor, kinetics)
    return _fit_one(kinetics, (difference, m0), timing, scale, noise_groups)


def _fit_one(
    kinetics: Kinetics,
    maps: tuple[Estimate, Estimate],
    timing: tuple[ArrayLike, ArrayLike, ArrayLike],
    scale: float,
    noise_groups: ArrayLike | None,
) -> tuple[Estimate, Estimate]:
    """Fit one series, of a difference and an M0, with kinetics of any kind."""
    series = Series.of(*maps, kinetics=kinetics, timing=timing, scale=scale)
    cbf, att = fit_arrival(kinetics, [series], noise_groups)
    return cbf[0], att


def fit_with_arteries(
    difference: Estimate,
    m0: Estimate,
    *,
    post_label_delay: ArrayLike,
    label_duration: ArrayLike,
    n_pairs: ArrayLike,
    labeling: str,
    labeling_efficiency: float,
    background_suppression_factor: float,
    t1_blood: float,
    t1_tissue: float,
    partition_coefficient: float,
    noise_groups: ArrayLike | None = None,
) -> tuple[Estimate, Estimate, Estimate]:
    r"""
    Estimate blood flow, arrival time and the blood volume of arteries from several delays.

    Parameters
    ----------
    difference, m0, post_label_delay, label_duration, n_pairs
        As for :func:`fit_multi_delay`; four different delays or more.
    labeling, labeling_efficiency, background_suppression_factor
        As for :func:`fit_multi_delay`.
    t1_blood, t1_tissue, partition_coefficient, noise_groups
        As for :func:`fit_multi_delay`.

    Returns
    -------
    cbf, att : (V,) Estimate
        As of :func:`fit_multi_delay`.
    abv : (V,) Estimate
        Arterial blood volume, mL/mL: 0 where the data do not ask for it, with the variance that
        it has when it is fitted. ARRIVAL_NOT_COVERED where no delay could have seen blood that
        arrives before that in tissue.

    Raises
    ------
    ModelInputError
        As of :func:`fit_multi_delay`, and with fewer than four delays.

    Notes
    -----
    Blood that is on its way through a large artery of the voxel adds

    .. math:: \Delta M_a = 2 \alpha \frac{M_0}{\lambda} V_a e^{-\delta_a / T_{1b}}

    (continuous; pulsed :math:`e^{-t / T_{1b}}`) at readouts between its arrival
    :math:`\delta_a` and :math:`\delta_a + \tau`, without exchange or dispersion. Within the
    times between two readouts or ends of labelling the arrival changes next to nothing, so it is
    one of a few windows, and arteries fill before tissue does: only windows that begin before
    the arrival in tissue come into question. A voxel has arteries where the best of them lowers
    the squared residuals by more than noise does in one voxel of a hundred, with all windows
    tried (Bonferroni); otherwise the values are those without arteries. Arteries below that are
    part of CBF still, and the amount of those just above is overestimated.

    References
    ----------
    .. [1] Chappell et al., Magn Reson Med 63:1357, 2010. doi:10.1002/mrm.22320

    Examples
    --------
    >>> from bids_app.models.asl.kinetics import predict_difference
    >>> labelling = dict(
    ...     label_duration=1.8, labeling='continuous', labeling_efficiency=0.85,
    ...     background_suppression_factor=1.0, t1_blood=1.65, t1_tissue=1.33,
    ...     partition_coefficient=0.9, post_label_delay=[0.2, 0.5, 0.8, 1.1, 1.4, 1.7, 2.0],
    ... )
    >>> difference = predict_difference([[60.0]], 1.2, 1000.0, **labelling)
    >>> difference[0, :2] += 2 * 0.85 * 1000 / 0.9 * 0.01 * np.exp(-0.65 / 1.65)
    >>> cbf, att, abv = fit_with_arteries(
    ...     Estimate.of(difference, 0.01), Estimate.of([1000.0]), n_pairs=8, **labelling
    ... )
    >>> cbf.value.round(2), att.value.round(2), abv.value.round(4)
    (array([60.]), array([1.2]), array([0.01]))
    """
    kinetics = Kinetics.of(labeling, t1_blood, t1_tissue, partition_coefficient)
    series = Series.of(
        difference,
        m0,
        kinetics=kinetics,
        timing=(post_label_delay, label_duration, n_pairs),
        scale=signal_scale(labeling_efficiency, background_suppression_factor, kinetics),
    )
    if series.samples.shape[1] < DELAYS_FOR_ARTERIES:
        msg = (
            f'arteries need {DELAYS_FOR_ARTERIES} delays or more, got {series.samples.shape[1]}; '
            'take the model multi-delay'
        )
        raise ModelInputError(msg)
    fitted = fit_all(kinetics, [series], noise_groups)
    volume, variance, is_seen = add_arteries(fitted)
    (cbf,), att = estimates(fitted, [series])
    with np.errstate(invalid='ignore'):
        total = variance + volume**2 * series.m0_relative
    status = combine_status(
        fitted.status, np.where(is_seen, Status.OK, Status.ARRIVAL_NOT_COVERED)
    )
    return cbf, att, Estimate.of(volume, total, status, att.dof)


def fit_shared_arrival(
    differences: Sequence[Estimate],
    m0: Sequence[Estimate],
    *,
    post_label_delays: Sequence[ArrayLike],
    label_durations: Sequence[ArrayLike],
    n_pairs: Sequence[ArrayLike],
    labeling: str,
    labeling_efficiencies: Sequence[float],
    background_suppression_factors: Sequence[float],
    t1_blood: float,
    t1_tissue: float,
    partition_coefficient: float,
    noise_groups: ArrayLike | None = None,
) -> tuple[tuple[Estimate, ...], Estimate]:
    """
    Estimate the blood flow of several conditions that share one arrival time.

    Parameters
    ----------
    differences, m0, post_label_delays, label_durations, n_pairs, labeling_efficiencies, \
background_suppression_factors : sequence
        As for :func:`fit_multi_delay`, one entry per condition; all on the same voxels.
    labeling, t1_blood, t1_tissue, partition_coefficient, noise_groups
        As for :func:`fit_multi_delay`.

    Returns
    -------
    cbf : tuple of (V,) Estimate
        One per condition. Their errors share that of the arrival time.
    att : (V,) Estimate
        As for :func:`fit_multi_delay`.

    Raises
    ------
    ModelInputError
        As for :func:`fit_multi_delay`, and if the sequences differ in length.

    Notes
    -----
    The arrival time costs each condition precision; shared, it is known better and a change of
    CBF does not hold the scatter of two arrival times. It is right only where the task does not
    change the arrival.

    References
    ----------
    .. [1] Buxton et al., Magn Reson Med 40:383, 1998. doi:10.1002/mrm.1910400308

    Examples
    --------
    >>> from bids_app.models.asl.kinetics import predict_difference
    >>> labelling = dict(labeling='continuous', t1_blood=1.65, t1_tissue=1.33,
    ...                  partition_coefficient=0.9)
    >>> one = dict(label_duration=1.8, labeling_efficiency=0.85,
    ...            background_suppression_factor=1.0, post_label_delay=[0.2, 0.7, 1.2, 1.7])
    >>> rest, task = (
    ...     Estimate.of(predict_difference([[cbf]], 0.9, **one, **labelling), 1e-8)
    ...     for cbf in (50.0, 60.0)
    ... )
    >>> cbf, att = fit_shared_arrival(
    ...     [rest, task], [Estimate.of([1.0])] * 2, n_pairs=[8, 8],
    ...     post_label_delays=[one['post_label_delay']] * 2, label_durations=[1.8] * 2,
    ...     labeling_efficiencies=[0.85] * 2, background_suppression_factors=[1.0] * 2,
    ...     **labelling,
    ... )
    >>> cbf[1].value.round(2), att.value.round(2)
    (array([60.]), array([0.9]))
    """
    kinetics = Kinetics.of(labeling, t1_blood, t1_tissue, partition_coefficient)
    columns = (differences, m0, post_label_delays, label_durations, n_pairs,
               labeling_efficiencies, background_suppression_factors)  # fmt: skip
    if len({len(column) for column in columns}) != 1 or not differences:
        msg = 'every condition needs difference, M0, delays, durations, pairs and efficiencies'
        raise ModelInputError(msg)
    series = [
        Series.of(
            difference,
            reference,
            kinetics=kinetics,
            timing=(delay, duration, pairs),
            scale=signal_scale(efficiency, kept, kinetics),
        )
        for difference, reference, delay, duration, pairs, efficiency, kept in zip(
            *columns, strict=True
        )
    ]
    cbf, att = fit_arrival(kinetics, series, noise_groups)
    return cbf, att
