"""Sidecars of bolus tracking."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bids_app.bids.input.metadata.readout import read_readout
from bids_app.bids.input.sidecar import Probe
from bids_app.bids.scans import DscSeries

if TYPE_CHECKING:
    from bids_app.bids.input.query import Found
    from bids_app.bids.input.sidecar import Reader


MIN_DSC_VOLUMES = 10


def read_dsc(
    reader: Reader, found: Found, *, condition: str | None, run: str | None
) -> DscSeries | None:
    """
    Read one bolus-tracking series.

    None when anything is wrong with it; the reason is among the problems.
    """
    probe = Probe.of(reader, 'dsc', found, condition)
    header = probe.header((4,))
    echo_time = probe.number('EchoTime', 'it scales signal to relaxation rate', required=True)
    repetition_time = probe.repetition_time(required=True)
    readout = read_readout(probe, header)
    probe.field_strength()
    if header is not None and header.n_volumes < MIN_DSC_VOLUMES:
        probe.fail(
            f'{probe.file.name} has {header.n_volumes} volumes; a bolus needs at least '
            f'{MIN_DSC_VOLUMES}'
        )
    if not probe.ok or echo_time is None or repetition_time is None:
        return None
    return DscSeries(
        condition=condition,
        run=run,
        file=probe.file,
        echo_time=echo_time,
        repetition_time=repetition_time,
        readout=readout,
        metadata=probe.metadata,
    )
