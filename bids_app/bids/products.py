"""What the app makes of scans: the table that dry run, graph, replay, group and docs follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bids_app.bids.output.names import row_of_quantity
from bids_app.models.registry import MODELS

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A quantity that is made in every condition; the rows of the registry say of which maps."""

    quantity: str
    """Its name in the graph and in the registry."""
    label: str
    """Quantity of data/outputs.yml: its name in files, tables and the dry run."""
    branch: str
    """Of the settings that hold the parameters of its models."""
    scans: tuple[str, ...] = ()
    """Families of scans that it is made of without any other map."""
    is_time: bool = False
    """Whether the file holds the time of a rate."""
    comes_along: bool = False
    """Whether it is made where another quantity is, if the model has it: no row of the dry run."""

    @property
    def row(self) -> str:
        """Row of data/outputs.yml."""
        return row_of_quantity(self.label)

    @property
    def parents(self) -> tuple[str, ...]:
        """Products that its default model makes it of."""
        row = next(iter(MODELS.get(self.quantity, {}).values()), None)
        return tuple(name for name in (row.maps if row else ()) if name in PRODUCTS)

    @property
    def sources(self) -> tuple[str, ...]:
        """What it is made of, as drawn in the reports: labels of maps, and words of scans."""
        maps = (PRODUCTS[name].label for name in self.parents)
        return (*maps, *(scan.upper() for scan in self.scans))


PRODUCTS: Mapping[str, Product] = {
    one.quantity: one
    for one in (
        Product(quantity='r2', label='T2', branch='relaxometry', scans=('mese',), is_time=True),
        Product(quantity='r2_star', label='T2star', branch='relaxometry', scans=('megre',),
                is_time=True),
        Product(quantity='r2_prime', label='R2prime', branch='relaxometry', scans=('ase',)),
        Product(quantity='cbf', label='cbf', branch='perfusion', scans=('asl',)),
        Product(quantity='att', label='att', branch='perfusion', scans=('asl',),
                comes_along=True),
        Product(quantity='cbv', label='cbv', branch='blood_volume', scans=('dsc', 'ase')),
        Product(quantity='oef', label='oef', branch='oxygen', scans=('ase',)),
        Product(quantity='bold_maximum', label='M', branch='oxygen', scans=('asl', 'bold')),
        Product(quantity='cvr', label='cvr', branch='oxygen', scans=('asl',)),
        Product(quantity='cmro2', label='cmro2', branch='oxygen'),
    )
}  # fmt: skip
"""In the order of reports and tables."""


def labels_behind(family: str) -> list[str]:
    """Labels of the products that the default models make of a family of scans."""
    found = {name for name, product in PRODUCTS.items() if family in product.scans}
    while further := {n for n, p in PRODUCTS.items() if found & set(p.parents)} - found:
        found |= further
    return [product.label for name, product in PRODUCTS.items() if name in found]
