"""Forward models written for the tests, apart from those of the app."""

import numpy as np
from scipy.signal import fftconvolve

from bids_app.phantom.vessels import vascular_signal


def difference_from_cbf(
    cbf, m0, *, label_duration, post_label_delay, labeling_efficiency, t1_blood,
    background_suppression_factor, partition_coefficient, labeling='continuous',
):  # fmt: skip
    """Control minus label of one delay (Alsop 2015): label that arrived and decayed in blood."""
    delay, duration = np.asarray(post_label_delay), np.asarray(label_duration)
    arrived = duration * np.exp(-delay / t1_blood)
    if labeling == 'continuous':
        arrived = t1_blood * (np.exp(-delay / t1_blood) - np.exp(-(delay + duration) / t1_blood))
    kept = 2 * labeling_efficiency * background_suppression_factor
    return kept * m0 / partition_coefficient * np.asarray(cbf) / 6000 * arrived


def davis_bold(flow, metabolism, *, maximum, alpha, beta):
    """Percent BOLD of ratios of flow and metabolism (Davis 1998)."""
    return maximum * (1 - flow ** (alpha - beta) * metabolism**beta)


def semiquantitative_ratio(bold, flow, *, r2_prime, echo_time, volume=1.0):
    """Ratio of CMRO2 where percent BOLD stands for the change of R2' (Epp 2025)."""
    return flow * (1 - bold / 100 / (echo_time * r2_prime)) / volume


def detailed_bold(flow, metabolism, *, oef, hct=0.42, po2=110.0, resting_po2=110.0,
                  echo_time=0.03, volume=0.05, r2=25.1):  # fmt: skip
    """Percent BOLD of arteries, capillaries, veins and tissue (Griffeth & Buxton 2011)."""
    task, rest = (
        vascular_signal(
            [echo_time], flow=f, extraction=oef * r / f, volume=volume, r2=r2, hct=hct,
            po2=pressure, resting_po2=resting_po2,
        )
        for f, r, pressure in ((flow, metabolism, po2), (1.0, 1.0, resting_po2))
    )  # fmt: skip
    return 100 * float(task[0] / rest[0] - 1)


def dispersed_difference(
    flow, arrival, times, duration, *, labeling, kernel, labeling_efficiency,
    background_suppression_factor, t1_blood, t1_tissue, partition_coefficient, step=1e-4,
):  # fmt: skip
    """
    Control minus label over M0 of a bolus convolved with a kernel, on a grid of times.

    The input at time u is what left the label at u - arrival - v, by the density of v: continuous
    label has decayed for its way, pulsed label since its inversion.
    """
    grid = np.arange(0, np.max(times) + step, step)
    lag = grid + step / 2
    density = kernel(lag) * step
    decay = np.exp(-(arrival + lag) / t1_blood) if labeling == 'continuous' else np.ones(len(lag))
    left = ((grid >= 0) & (grid < duration)).astype(float)
    arterial = fftconvolve(left, density * decay)[: len(grid)]
    shifted = np.interp(grid - arrival, grid + step / 2, arterial, left=0.0)
    if labeling != 'continuous':
        shifted = shifted * np.exp(-grid / t1_blood)
    rate = 1 / t1_tissue + flow / 6000 / partition_coefficient
    tissue = fftconvolve(shifted, np.exp(-rate * grid))[: len(grid)] * step
    scale = 2 * labeling_efficiency * background_suppression_factor / partition_coefficient
    return scale * flow / 6000 * np.interp(times, grid, tissue)
