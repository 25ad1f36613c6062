"""Contrast agent that leaks into tissue: Boxerman and Weisskoff, with return and saturation."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from bids_app.errors import ModelInputError
from bids_app.models.constants import (
    LEAKAGE_LEADS,
    LEAKAGE_OUTLIER,
    LEAKAGE_RETURN_RATES,
    LEAKAGE_SATURATIONS,
    MAD_TO_SD,
)

STEPS = 4
"""Gauss-Newton steps for a leak that saturates; it settles."""

STRONGEST = 8.0
"""Largest leak in saturations; beyond, nothing of its size can be seen."""

VOXELS_FOR_COURSE = 1000
"""Voxels, evenly spread over those that may leak, by which the course is chosen."""

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray


def find_reference(rate_change: ArrayLike, *, pass_start: int, pass_end: int) -> BoolArray:
    """
    Choose the voxels whose mean curve stands for tissue that does not leak.

    Parameters
    ----------
    rate_change : (V, T) array_like
        Change of R2*, 1/s; NaN where there is none.
    pass_start, pass_end : int
        First pass, half-open.

    Returns
    -------
    reference : (V,) ndarray of bool
        Voxels with a positive area whose tail, after the first pass, is as high as their area
        lets expect: within 1.5 robust standard deviations of the median relation.

    Raises
    ------
    ModelInputError
        If nothing follows the first pass, or no voxel has a positive area.

    Notes
    -----
    A leak lifts the tail (T2* effect) or lowers it (T1 effect). The rule holds as long as most of
    the brain does not leak.
    """
    rate_change = np.asarray(rate_change, float)
    if rate_change.shape[1] - pass_end < 1:
        msg = 'leakage cannot be estimated: the series ends with the first pass'
        raise ModelInputError(msg)
    area = rate_change[:, pass_start:pass_end].sum(axis=1)
    tail = rate_change[:, pass_end:].mean(axis=1)
    usable = np.isfinite(area) & np.isfinite(tail) & (area > 0)
    if not usable.any():
        msg = 'leakage cannot be estimated: no voxel has a positive area'
        raise ModelInputError(msg)
    excess = np.full(len(area), np.inf)
    ratio = float(np.median(tail[usable] / area[usable]))
    excess[usable] = tail[usable] - ratio * area[usable]
    middle = np.median(excess[usable])
    width = MAD_TO_SD * np.median(np.abs(excess[usable] - middle))
    reference: BoolArray = usable & (np.abs(excess - middle) <= LEAKAGE_OUTLIER * width)
    return reference


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakageCourse:
    """
    How the signal of a leak goes on in time, one for all voxels of a brain.

    Parameters
    ----------
    return_rate : float
        Of agent from tissue to blood, 1/s; 0 is the model of Boxerman and Weisskoff.
    lead : float
        Time by which the blood that leaks is ahead of the mean of the tissue, s.
    saturation : float
        Fall of the change of R2* that shortening T1 cannot pass, 1/s; inf is no saturation.
    """

    return_rate: float = 0.0
    lead: float = 0.0
    saturation: float = np.inf


@dataclass(frozen=True, slots=True, eq=False)
class Leakage:
    """
    Weights over time that turn a curve into K1, K2 and its area without the leak.

    Parameters
    ----------
    k1, k2, area : (T,) or (V, T) ndarray
        Products with a curve give K1 (dimensionless), K2 (1/s) and the corrected area
        (dimensionless); zero before the bolus. Per voxel where the leak saturates: then the
        derivatives by the curve.
    """

    k1: FloatArray
    k2: FloatArray
    area: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class LeakageModel:
    r"""
    Curves of tissue that leaks, as combinations of the reference and of what has leaked.

    Parameters
    ----------
    tissue : (T, 3) ndarray
        The reference, its slope and its curvature in time.
    leaked : (T,) ndarray
        What of the reference has leaked.
    after, window : slice
        Volumes of the fit and of the area.
    repetition_time : float
        s.
    saturation : float
        1/s.

    Notes
    -----
    .. math::

        \Delta R_2^*(t) = K_1 \bar r(t) + a \bar r'(t) + b \bar r''(t) - D[K_2\, l(t)], \qquad
        l(t) = \int_0^t \bar r(\tau + d)\, e^{-k(t-\tau)} d\tau

    The slope and the curvature of the reference take up a transit that is shorter or longer than
    that of the reference, which looks like a leak otherwise. K2 is positive where T1 shortening
    lowers the curve, negative where the leak adds to it. :math:`D(x) = s(1 - e^{-x/s})` for
    positive x: a signal that is fully recovered at every excitation cannot grow any more, and for
    a spoiled gradient echo with :math:`TR \gtrsim T_1` the logarithm of the signal nears its limit
    as this exponential. D(x) = x for negative x.

    References
    ----------
    .. [1] Boxerman et al., AJNR 27:859, 2006.
    .. [2] Weisskoff et al., Proc ISMRM 2:279, 1994.
    .. [3] Leu et al., J Cereb Blood Flow Metab 36:2128, 2016. doi:10.1177/0271678X16632460
    """

    tissue: FloatArray
    leaked: FloatArray
    after: slice
    window: slice
    repetition_time: float
    saturation: float

    @classmethod
    def of(
        cls,
        reference: ArrayLike,
        course: LeakageCourse,
        *,
        repetition_time: float,
        pass_start: int,
        pass_end: int,
    ) -> LeakageModel:
        """
        Build the model.

        Parameters
        ----------
        reference : (T,) array_like
            Mean change of R2* of tissue that does not leak, 1/s.
        course : LeakageCourse
            How a leak goes on.
        repetition_time : float
            s.
        pass_start, pass_end : int
            Volumes of the area, half-open; the fit uses all from `pass_start` on.

        Returns
        -------
        model : LeakageModel
            For the curves of this series.

        Raises
        ------
        ModelInputError
            If the reference has no area, or the regressors cannot be told apart.
        """
        reference = np.asarray(reference, float)
        if not reference[pass_start:pass_end].sum() > 0:
            msg = 'leakage cannot be estimated: the reference has no bolus'
            raise ModelInputError(msg)
        volumes = np.arange(len(reference))
        ahead = np.interp(volumes + course.lead / repetition_time, volumes, reference)
        ahead[: max(pass_start - int(np.ceil(course.lead / repetition_time)), 0)] = 0.0
        kept = np.exp(-course.return_rate * repetition_time * volumes)
        leaked = repetition_time * np.convolve(ahead, kept)[: len(volumes)]
        slope = np.gradient(reference, repetition_time)
        tissue = np.stack([reference, slope, np.gradient(slope, repetition_time)], axis=1)
        after = slice(pass_start, None)
        design = np.column_stack([tissue, -leaked])[after]
        if len(design) <= design.shape[1] or np.linalg.matrix_rank(design) < design.shape[1]:
            msg = 'leakage cannot be estimated: too few volumes after the first pass'
            raise ModelInputError(msg)
        window = slice(pass_start, pass_end)
        return cls(tissue, leaked, after, window, repetition_time, course.saturation)

    def linear(self) -> Leakage:
        """
        Give the weights for leaks that are far from saturated.

        Returns
        -------
        weights : Leakage
            (T,) each.

        Examples
        --------
        >>> r = np.array([0.0, 0, 2, 6, 4, 1, 1, 1.5, 1, 1, 1])
        >>> model = LeakageModel.of(
        ...     r, LeakageCourse(), repetition_time=1.0, pass_start=2, pass_end=6
        ... )
        >>> weights, curve = model.linear(), 0.5 * r - 0.02 * np.cumsum(r)
        >>> [round(float(w @ curve), 6) for w in (weights.k1, weights.k2, weights.area)]
        [0.5, 0.02, 6.5]
        """
        k1, k2 = np.zeros(len(self.leaked)), np.zeros(len(self.leaked))
        inverse = np.linalg.pinv(np.column_stack([self.tissue, -self.leaked])[self.after])
        k1[self.after], k2[self.after] = inverse[0], inverse[-1]
        area = self.repetition_time * self.leaked[self.window].sum() * k2
        area[self.window] += self.repetition_time
        return Leakage(k1, k2, area)

    def saturating(
        self, curves: FloatArray, k2: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray, Leakage]:
        """
        Fit leaks that saturate.

        Parameters
        ----------
        curves : (V, T) ndarray
            Change of R2*, 1/s.
        k2 : (V,) ndarray
            Start values, 1/s.

        Returns
        -------
        k1, k2, area : (V,) ndarray
            As of :class:`Leakage`.
        derivatives : Leakage
            (V, T) each, by the curve.
        """
        k2, axes, triangle = self._settle(curves, k2)
        effect, slope = self._effect(k2)
        to_k1 = np.linalg.inv(triangle)[0] @ axes.T
        left = curves + effect
        k1 = left[:, self.after] @ to_k1
        area = self.repetition_time * left[:, self.window].sum(axis=1)

        across = _without(slope[:, self.after], axes)
        by_k1, by_k2, by_area = np.zeros((3, *curves.shape))
        by_k2[:, self.after] = -across / np.einsum('vt,vt->v', across, across)[:, None]
        by_k1[:, self.after] = to_k1
        by_k1 += (slope[:, self.after] @ to_k1)[:, None] * by_k2
        by_area[:, self.window] = self.repetition_time
        by_area += self.repetition_time * slope[:, self.window].sum(axis=1)[:, None] * by_k2
        return k1, k2, area, Leakage(by_k1, by_k2, by_area)

    def misfit(self, curves: FloatArray) -> float:
        """
        Tell how badly the best K2 of each curve describes it.

        Parameters
        ----------
        curves : (V, T) ndarray
            1/s.

        Returns
        -------
        squares : float
            Sum of squared residuals, 1/s^2.
        """
        k2, axes, _ = self._settle(curves, curves @ self.linear().k2)
        left = _without((curves + self._effect(k2)[0])[:, self.after], axes)
        return float(np.einsum('vt,vt->', left, left))

    def _settle(
        self, curves: FloatArray, k2: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Improve K2; give it and the orthonormal axes of the tissue with their triangle."""
        axes, triangle = np.linalg.qr(self.tissue[self.after])
        if np.isfinite(self.saturation):
            for _ in range(STEPS):
                effect, slope = self._effect(k2)
                across = _without(slope[:, self.after], axes)
                left = (curves + effect)[:, self.after]
                step = np.einsum('vt,vt->v', left, across) / np.einsum('vt,vt->v', across, across)
                k2 = np.minimum(k2 - step, STRONGEST * self.saturation / self.leaked.max())
        return k2, axes, triangle

    def _effect(self, k2: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Give D(K2 l) and its derivative by K2, (V, T)."""
        linear = k2[:, None] * self.leaked
        if np.isinf(self.saturation):
            return linear, np.broadcast_to(self.leaked, linear.shape)
        kept = np.exp(-np.maximum(linear, 0.0) / self.saturation)
        effect = np.where(linear > 0, self.saturation * (1 - kept), linear)
        return effect, kept * self.leaked


def find_course(
    rate_change: ArrayLike,
    reference: ArrayLike,
    *,
    repetition_time: float,
    pass_start: int,
    pass_end: int,
) -> LeakageCourse:
    """
    Find how leaks go on in time.

    Parameters
    ----------
    rate_change : (V, T) array_like
        Change of R2*, 1/s, of the voxels that may leak; NaN where there is none.
    reference : (T,) array_like
        Mean change of R2* of tissue that does not leak, 1/s.
    repetition_time : float
        s.
    pass_start, pass_end : int
        As for :meth:`LeakageModel.of`.

    Returns
    -------
    course : LeakageCourse
        Of some rates, leads and saturations those with which the curves are described best.

    Notes
    -----
    One course for all voxels: in a single one it cannot be told from noise, and the weights of
    what does not saturate are the same for all.

    References
    ----------
    .. [1] Leu et al., J Cereb Blood Flow Metab 36:2128, 2016 (a rate per voxel).
       doi:10.1177/0271678X16632460
    """
    curves = np.asarray(rate_change, float)
    curves = curves[np.isfinite(curves).all(axis=1)]
    curves = curves[:: max(len(curves) // VOXELS_FOR_COURSE, 1)]

    def misfit(course: LeakageCourse) -> float:
        model = LeakageModel.of(
            reference,
            course,
            repetition_time=repetition_time,
            pass_start=pass_start,
            pass_end=pass_end,
        )
        return model.misfit(curves)

    courses = [
        LeakageCourse(return_rate=rate, lead=lead, saturation=saturation)
        for saturation, rate, lead in product(
            LEAKAGE_SATURATIONS, LEAKAGE_RETURN_RATES, LEAKAGE_LEADS
        )
    ]
    return min(courses, key=misfit)


def _without(curves: FloatArray, axes: FloatArray) -> FloatArray:
    """Remove from curves (V, T) what lies along orthonormal axes (T, N)."""
    return curves - (curves @ axes) @ axes.T
