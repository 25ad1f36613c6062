"""Kinetics of labelled blood: what a difference of control and label holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bids_app.errors import ModelInputError
from bids_app.models.constants import SMALLEST_RATE
from bids_app.models.numerics.checks import check_fraction, check_positive
from bids_app.units import ML_PER_100G_PER_MIN

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bids_app._typing import FloatArray

CONTINUOUS, PULSED, PULSED_QUIPSS = 'continuous', 'pulsed', 'pulsed-quipss'
"""Ways of labelling: PCASL and CASL; PASL whose bolus is cut off behind the label (QUIPSS II,
Q2TIPS); PASL whose slab is saturated (QUIPSS)."""


def predict_difference(
    cbf: ArrayLike,
    att: ArrayLike,
    m0: ArrayLike = 1.0,
    *,
    post_label_delay: ArrayLike,
    label_duration: ArrayLike,
    labeling: str,
    labeling_efficiency: float,
    background_suppression_factor: float,
    t1_blood: float,
    t1_tissue: float,
    partition_coefficient: float,
) -> FloatArray:
    r"""
    Predict the control-label difference by the general kinetic model.

    Parameters
    ----------
    cbf : (...) array_like
        Cerebral blood flow, mL/100 g/min.
    att : (...) array_like
        Arrival time of the label, s; not negative; broadcasts.
    m0 : (...) array_like
        Equilibrium magnetisation of tissue, any unit; broadcasts.
    post_label_delay : (...) array_like
        From the end of labelling (continuous) or from the inversion (pulsed, often called TI) to
        the readout, s; broadcasts.
    label_duration : (...) array_like
        Duration of labelling, or of the bolus that a cut-off leaves, s; positive; broadcasts.
    labeling : str
        ``continuous`` or ``pulsed``.
    labeling_efficiency : float
        Inversion efficiency without background suppression, dimensionless, in (0, 1].
    background_suppression_factor : float
        Label kept by all suppression pulses together, dimensionless, in (0, 1].
    t1_blood, t1_tissue : float
        Longitudinal relaxation times, s; positive.
    partition_coefficient : float
        Blood-brain partition coefficient of water, mL/g; positive.

    Returns
    -------
    difference : (...) ndarray of float64
        Control minus label, unit of `m0`; 0 before arrival.

    Raises
    ------
    ModelInputError
        If `labeling` is unknown or a parameter lies outside its range.

    Notes
    -----
    With :math:`R = 1/T_{1t} + f/\lambda`, t since the start of labelling, :math:`a = \max(t -
    \delta, 0)` and :math:`b = \max(t - \tau - \delta, 0)`, continuous labelling gives

    .. math:: \Delta M = \frac{2\alpha M_0 f}{\lambda R} e^{-\delta/T_{1b}} (e^{-Rb} - e^{-Ra})

    and pulsed labelling, with :math:`k = 1/T_{1b} - R` and :math:`m = \min(t, \delta + \tau)`,

    .. math:: \Delta M = \frac{2\alpha M_0 f}{\lambda} e^{-Rt} \frac{e^{-k\delta} - e^{-km}}{k}

    Both are continuous in arrival time, delay and duration. Label is not lost through veins.

    References
    ----------
    .. [1] Buxton et al., Magn Reson Med 40:383, 1998. doi:10.1002/mrm.1910400308

    Examples
    --------
    >>> difference = predict_difference(
    ...     60.0, 0.7, post_label_delay=[0.5, 1.8], label_duration=1.8, labeling='continuous',
    ...     labeling_efficiency=0.85, background_suppression_factor=1.0, t1_blood=1.65,
    ...     t1_tissue=1.33, partition_coefficient=0.9,
    ... )
    >>> difference.round(5)
    array([0.01142, 0.00523])
    """
    kinetics = Kinetics.of(labeling, t1_blood, t1_tissue, partition_coefficient)
    scale = signal_scale(labeling_efficiency, background_suppression_factor, kinetics)
    delay, duration = np.asarray(post_label_delay, float), np.asarray(label_duration, float)
    time = kinetics.time(delay, duration)
    response, _, _ = kinetics.response(
        np.asarray(cbf, float), np.asarray(att, float), time, duration
    )
    difference: FloatArray = np.asarray(m0, float) * scale * response
    return difference


@dataclass(frozen=True, slots=True, kw_only=True)
class Kinetics:
    """
    The constants of the general kinetic model, and its response to one unit of signal.

    Parameters
    ----------
    pulsed : bool
        Pulsed or continuous labelling.
    r1_blood, r1_tissue : float
        Longitudinal relaxation rates, 1/s.
    partition_coefficient : float
        mL/g.
    kernel : tuple of float, optional
        Sharpness s, 1/s, and time p of the peak, s, of the gamma kernel by which arteries disperse
        the bolus.
    """

    pulsed: bool
    r1_blood: float
    r1_tissue: float
    partition_coefficient: float
    kernel: tuple[float, float] | None = None

    @classmethod
    def of(
        cls,
        labeling: str,
        t1_blood: float,
        t1_tissue: float,
        partition_coefficient: float,
        kernel: tuple[float, float] | None = None,
    ) -> Kinetics:
        """Check the constants and take relaxation times as rates."""
        if labeling not in (CONTINUOUS, PULSED):
            msg = (
                f'labeling must be {CONTINUOUS} or {PULSED} where the arrival of the label is '
                f'modelled, got {labeling!r}'
            )
            raise ModelInputError(msg)
        check_positive('t1_blood (s)', t1_blood)
        check_positive('t1_tissue (s)', t1_tissue)
        check_positive('partition_coefficient (mL/g)', partition_coefficient)
        if kernel is not None:
            check_positive('dispersion_sharpness (1/s)', kernel[0])
            if not kernel[1] >= 0:
                msg = f'dispersion_peak must not be negative (s), got {kernel[1]}'
                raise ModelInputError(msg)
        return cls(
            pulsed=labeling == PULSED,
            r1_blood=1 / t1_blood,
            r1_tissue=1 / t1_tissue,
            partition_coefficient=partition_coefficient,
            kernel=kernel,
        )

    def time(self, delay: FloatArray, duration: FloatArray) -> FloatArray:
        """Return the time from the start of labelling to the readout, s."""
        if np.any(delay < 0) or not np.all(duration > 0):
            msg = 'post_label_delay must not be negative and label_duration must be positive (s)'
            raise ModelInputError(msg)
        return delay if self.pulsed else delay + duration

    def response(
        self, cbf: FloatArray, att: FloatArray, time: FloatArray, duration: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """
        Return the difference in units of 2 alpha M0 / lambda / 6000, and its derivatives.

        Parameters
        ----------
        cbf, att, time, duration : (...) ndarray
            mL/100 g/min and s; broadcast against each other.

        Returns
        -------
        response, by_cbf, by_att : (...) ndarray
            mL/100 g/min x s, s, mL/100 g/min. At a kink the derivative by `att` is that from
            the side of later arrival.
        """
        if self.kernel is not None:
            gain, by_rate, by_att = self._dispersed(cbf, att, time, duration)
            loss = cbf / (ML_PER_100G_PER_MIN * self.partition_coefficient)
            return cbf * gain, gain + loss * by_rate, cbf * by_att
        model = self._pulsed if self.pulsed else self._continuous
        return model(cbf, att, time, duration)

    def gain(
        self, cbf: FloatArray, att: FloatArray, time: FloatArray, duration: FloatArray
    ) -> FloatArray:
        """Return the response per unit of flow, s; as :meth:`response`, without derivatives."""
        if self.kernel is not None:
            return self._dispersed(cbf, att, time, duration)[0]
        rate = self.r1_tissue + cbf / (ML_PER_100G_PER_MIN * self.partition_coefficient)
        since = np.maximum(time - att, 0)
        gained: FloatArray
        if self.pulsed:
            # blood and tissue that relax alike: the quotient below tends to a finite limit, which
            # a slope of next to nothing gives to rounding
            slope = self.r1_blood - rate
            slope = np.where(np.abs(slope) < SMALLEST_RATE, SMALLEST_RATE, slope)
            length = np.minimum(since, duration)
            gained = np.exp(-rate * time - slope * att) * -np.expm1(-slope * length) / slope
            return gained
        after = np.maximum(since - duration, 0)
        gained = (
            np.exp(-att * self.r1_blood) / rate * (np.exp(-rate * after) - np.exp(-rate * since))
        )
        return gained

    def _continuous(
        self, cbf: FloatArray, att: FloatArray, time: FloatArray, duration: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        by_flow = 1 / (ML_PER_100G_PER_MIN * self.partition_coefficient)
        rate = self.r1_tissue + cbf * by_flow
        since = np.maximum(time - att, 0)
        after = np.maximum(since - duration, 0)
        filled, left = np.exp(-rate * since), np.exp(-rate * after)
        decay = np.exp(-att * self.r1_blood)
        gained = decay * (left - filled) / rate
        response = cbf * gained
        # a later arrival shifts the front of the bolus where some has arrived, and its end where
        # all has; at a readout that coincides with either, the comparison picks the later side
        by_att = cbf * decay * (left * (after > 0) - filled * (since > 0))
        by_att -= self.r1_blood * response
        part = cbf * by_flow / rate
        by_cbf = gained * (1 - part) + part * decay * (since * filled - after * left)
        return response, by_cbf, by_att

    def _dispersed(
        self, cbf: FloatArray, att: FloatArray, time: FloatArray, duration: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the gain of a dispersed bolus, and its slopes by the rate of loss and arrival."""
        # the input is that of the plain model convolved with k(t) = s^(1+sp) t^sp e^(-st) /
        # Gamma(1+sp) (Chappell et al. 2013), label decaying on the longer way as well; every
        # integral of k and exponentials up to the front and the end of the bolus is an
        # incomplete gamma function
        rate = self.r1_tissue + cbf / (ML_PER_100G_PER_MIN * self.partition_coefficient)
        slope = self.r1_blood - rate
        slope = np.where(np.abs(slope) < SMALLEST_RATE, SMALLEST_RATE, slope)
        since = np.maximum(time - att, 0)
        ends = (since, np.maximum(since - duration, 0))
        (filled, by_slope), (left, by_slope_left) = (self._spread(end, slope) for end in ends)
        none = np.zeros_like(slope)
        if self.pulsed:
            scale = np.exp(-self.r1_blood * time) / slope
            whole = [self._spread(end, none)[0] for end in ends]
            gain = scale * (filled - whole[0] - left + whole[1])
            by_rate = gain / slope - scale * (by_slope - by_slope_left)
            by_att = -scale * slope * (filled - left)
        else:
            scale = np.exp(-self.r1_blood * att) / rate
            decays = [np.exp(-self.r1_blood * end) for end in ends]
            whole = [self._spread(end, none + self.r1_blood)[0] for end in ends]
            gain = scale * (decays[0] * (whole[0] - filled) - decays[1] * (whole[1] - left))
            by_rate = scale * (decays[0] * by_slope - decays[1] * by_slope_left) - gain / rate
            by_att = -self.r1_blood * gain - scale * rate * (decays[0] * filled - decays[1] * left)
        return gain, by_rate, by_att

    def _spread(self, end: FloatArray, rate: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Integrate k(v) e^(rate (end - v)) over v from 0 to the end; its slope by the rate."""
        from scipy.special import gammainc

        sharpness, peak = self.kernel or (np.inf, 0.0)
        shape = 1 + sharpness * peak
        faster = sharpness + rate
        grown = np.exp(rate * end) * (sharpness / faster) ** shape
        share = gammainc(shape, faster * end)
        later = shape / faster * gammainc(shape + 1, faster * end)
        return grown * share, grown * (end * share - later)

    def _pulsed(
        self, cbf: FloatArray, att: FloatArray, time: FloatArray, duration: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        by_flow = 1 / (ML_PER_100G_PER_MIN * self.partition_coefficient)
        rate = self.r1_tissue + cbf * by_flow
        slope = self.r1_blood - rate
        slope = np.where(np.abs(slope) < SMALLEST_RATE, SMALLEST_RATE, slope)
        arrived = time > att
        end = np.where(arrived, np.minimum(time, att + duration), att)
        first, last = np.exp(-slope * att), np.exp(-slope * end)
        left = np.exp(-rate * time)
        delivered = first * -np.expm1(-slope * (end - att)) / slope
        by_slope = (end * last - att * first - delivered) / slope
        by_cbf = left * (delivered - cbf * by_flow * (time * delivered + by_slope))
        complete = arrived & (time > att + duration)
        by_att = cbf * left * arrived * (last * complete - first)
        return cbf * left * delivered, by_cbf, by_att


def signal_scale(efficiency: float, kept: float, kinetics: Kinetics) -> float:
    """Return the difference, in units of M0, per unit of the response."""
    check_fraction('labeling_efficiency', efficiency)
    check_fraction('background_suppression_factor', kept)
    return 2 * efficiency * kept / (kinetics.partition_coefficient * ML_PER_100G_PER_MIN)
