"""R2' from R2* and R2."""

import numpy as np
import pytest

from bids_app.models.estimate import Estimate
from bids_app.models.relaxometry.r2prime import estimate_r2_prime, estimate_r2_prime_epp2025
from bids_app.models.status import Status


def test_r2_prime_is_the_difference_with_the_summed_variance():
    r2_prime = estimate_r2_prime(
        Estimate.of([18.35, 10.0], [0.04, 0.01], dof=500),
        Estimate.of([13.51, 12.0], 0.05, dof=200),
    )
    assert r2_prime.value == pytest.approx([4.84, -2.0])
    assert r2_prime.variance == pytest.approx([0.09, 0.06])
    assert list(r2_prime.status) == [Status.OK, Status.NEGATIVE]
    assert r2_prime.dof == 200


def test_r2_prime_is_missing_where_a_rate_is_and_takes_no_flag_of_the_rates():
    r2_star = Estimate.of([np.nan, 18.0, 1.0], 0.1, [Status.GRADIENT_TOO_STRONG, 0, 0])
    r2 = Estimate.of([13.0, np.nan, -1.0], 0.1, [0, Status.NO_SIGNAL, Status.NEGATIVE])
    r2_prime = estimate_r2_prime(r2_star, r2)
    assert list(r2_prime.status) == [Status.GRADIENT_TOO_STRONG, Status.NO_SIGNAL, Status.OK]


def test_published_limits_change_what_the_plain_difference_keeps():
    r2_star = Estimate.of([18.0, 10.0, 19.0, 200.0, np.nan], 0.1)
    r2 = Estimate.of([13.0, 13.0, 14.0, 13.0, 13.0], 0.1)
    capped = estimate_r2_prime_epp2025(r2_star, r2)
    median = np.median([18, 10, 19, 200])
    assert capped.value[:3] == pytest.approx([5, 0, 5])
    assert capped.value[3] == pytest.approx(max(5 * np.median([5, 0, 5, 5 * median - 13]), 20))
    assert list(capped.status) == [
        Status.OK, Status.CAPPED, Status.OK, Status.CAPPED, Status.INVALID_INPUT,
    ]  # fmt: skip
    assert estimate_r2_prime(r2_star, r2).value[:4] == pytest.approx([5, -3, 5, 187])
