"""Physical ranges for property tests (Hypothesis); SI units as everywhere."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst


def echo_times(min_echoes=3, max_echoes=12):
    """Equally spaced trains, s: first echo 2 to 20 ms, spacing 2 to 20 ms."""
    return st.builds(
        lambda first, spacing, n: first + spacing * np.arange(n),
        st.floats(2e-3, 20e-3),
        st.floats(2e-3, 20e-3),
        st.integers(min_echoes, max_echoes),
    )


def _voxels(low, high, n_voxels):
    return npst.arrays(np.float64, n_voxels, elements=st.floats(low, high))


def rates(n_voxels=5):
    """R2 or R2* of living tissue, 1/s."""
    return _voxels(2.0, 50.0, n_voxels)


def signals(n_voxels=5):
    """Magnitude at echo time 0, scanner units of any size."""
    return _voxels(1.0, 1e5, n_voxels)


def oef(n_voxels=5):
    """Oxygen extraction fraction, 1."""
    return _voxels(0.05, 0.95, n_voxels)


def dbv(n_voxels=5):
    """Deoxygenated blood volume, mL/mL."""
    return _voxels(0.005, 0.15, n_voxels)


def cbf(n_voxels=5):
    """Perfusion, mL/100 g/min."""
    return _voxels(5.0, 150.0, n_voxels)


def att(n_voxels=5):
    """Arterial transit time, s."""
    return _voxels(0.3, 2.5, n_voxels)


def fields():
    """Main field of a scanner, T."""
    return st.sampled_from([1.5, 2.89, 3.0, 7.0])


def gradients(n_voxels=5):
    """Background gradient across the slice, T/m."""
    return _voxels(-150e-6, 150e-6, n_voxels)


def masks(shape=(6, 5, 4)):
    """Any set of voxels, empty and full ones included."""
    return npst.arrays(np.bool_, shape)
