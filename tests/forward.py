"""Forward models written for the tests, apart from those of the app."""

import numpy as np


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
