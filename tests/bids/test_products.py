"""The table of products: it fits the registry, the outputs, the roles and the settings."""

import dataclasses

import pytest

from bids_app.bids.input.query import load_roles
from bids_app.bids.output.names import table
from bids_app.bids.products import PRODUCTS, labels_behind
from bids_app.models.registry import MODELS
from bids_app.settings import Settings


def test_products_are_the_quantities_that_models_make():
    made = set(MODELS) | {name for rows in MODELS.values() for row in rows.values()
                          for name in row.also}  # fmt: skip
    assert set(MODELS) <= set(PRODUCTS) <= made


@pytest.mark.parametrize('product', PRODUCTS.values(), ids=str)
def test_product_has_a_row_scans_that_are_read_and_a_branch_of_the_settings(product):
    assert table().rows[product.row].quantity == product.label
    assert set(product.scans) <= {role.family for role in load_roles().values()}
    assert product.branch in {field.name for field in dataclasses.fields(Settings)}
    assert product.parents or product.scans


@pytest.mark.parametrize(
    ('family', 'labels'),
    [
        ('mese', ['T2', 'R2prime', 'oef', 'M', 'cmro2']),
        ('asl', ['cbf', 'att', 'M', 'cvr', 'cmro2']),
        ('dsc', ['cbv', 'oef', 'cmro2']),
        ('ase', ['R2prime', 'cbv', 'oef', 'M', 'cmro2']),
        ('bold', ['M']),
    ],
)
def test_scans_lead_to_what_is_made_of_them(family, labels):
    assert labels_behind(family) == labels


def test_maps_are_made_of_scans_and_of_maps_before_them():
    order = list(PRODUCTS)
    for name, product in PRODUCTS.items():
        assert all(order.index(parent) < order.index(name) for parent in product.parents)
