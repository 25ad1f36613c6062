"""Names as readers know them."""

import pytest

from bids_app.bids.output.names import table
from bids_app.reports.group.deviations import quantity_unit


@pytest.mark.parametrize('quantity', [q for q in table().quantities if q.endswith('Asymmetry')])
def test_asymmetries_have_a_title_in_words(quantity):
    title, unit, scale = quantity_unit(quantity, is_change=True)
    assert title.endswith(' asymmetry')
    assert (unit, scale) == ('', 1.0)
