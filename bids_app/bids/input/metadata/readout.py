"""How the slices and lines of a scan were read out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bids_app.bids.scans import Readout

if TYPE_CHECKING:
    from bids_app.bids.input.files import Header
    from bids_app.bids.input.sidecar import Probe


AXES = {'i': 0, 'j': 1, 'k': 2}
"""PhaseEncodingDirection -> axis of the array."""


def read_readout(probe: Probe, header: Header | None) -> Readout | None:
    """
    Read how an echo-planar image was read out.

    None where the sidecar lacks the direction or the time.
    """
    direction = str(probe.metadata.get('PhaseEncodingDirection') or '')
    spacing = probe.number('EffectiveEchoSpacing')
    total = probe.number('TotalReadoutTime')
    if not direction:
        probe.lack('PhaseEncodingDirection')
    if not {'EffectiveEchoSpacing', 'TotalReadoutTime'} & set(probe.metadata):
        probe.lack('TotalReadoutTime')
    if header is None or direction[:1] not in AXES or direction[1:] not in ('', '-'):
        return None
    axis = AXES[direction[0]]
    lines = probe.number('ReconMatrixPE') or float(header.shape[axis])
    if spacing is None and total is not None and lines > 1:
        spacing = total / (lines - 1)
    if spacing is None:
        return None
    polarity = -1 if direction.endswith('-') else 1
    return Readout(axis=axis, polarity=polarity, echo_spacing=spacing, n_lines=round(lines))


THICKER = 1.2
"""Of a slice, over the voxel in its plane: from it on the slices lie along the longest side."""


def read_slice_axis(probe: Probe, header: Header | None) -> tuple[int, int | None]:
    """
    Find the axis of the slices from the sidecar, else from the voxel size.

    Give the axis, the third where nothing tells it (a note says so), and the number of slices.
    """
    if header is None:
        return 2, None
    sizes = (*header.zooms[:3], 1.0, 1.0)[:3]
    longest = max(range(3), key=lambda axis: sizes[axis])
    is_clear = all(
        sizes[longest] > THICKER * size for axis, size in enumerate(sizes) if axis != longest
    )
    direction = str(probe.metadata.get('SliceEncodingDirection') or '')
    axis = AXES.get(direction[:1], longest if is_clear else 2)
    shown = ' x '.join(f'{size:.3g}' for size in sizes)
    if not direction and not is_clear:
        probe.reader.findings.note(
            f'{probe.file.name}: voxels of {shown} mm do not tell how the slices lie; the third '
            'axis is taken, state SliceEncodingDirection where it is another'
        )
    elif axis != 2:
        probe.reader.findings.note(
            f'{probe.file.name}: its slices lie along axis {axis + 1} (voxels of {shown} mm)'
        )
    return axis, (*header.shape[:3], 1, 1)[axis]


def read_slice_times(probe: Probe, header: Header | None) -> tuple[int, tuple[float, ...]]:
    """Read axis and time of each slice in the order of the array, s, the first at 0; () for 3D."""
    if str(probe.metadata.get('MRAcquisitionType', '')).upper() == '3D':
        return 2, ()
    times = probe.numbers('SliceTiming')
    if times is None:
        if probe.metadata.get('SliceTiming') is None and probe.role == 'asl':
            probe.lack('SliceTiming')
            probe.reader.findings.note(
                f'{probe.file.name}: no SliceTiming; every slice has the delay of the first'
            )
        return 2, ()
    direction = str(probe.metadata.get('SliceEncodingDirection', 'k'))
    if direction not in ('i', 'i-', 'j', 'j-', 'k', 'k-'):
        probe.fail(
            f'{probe.file.name}: SliceEncodingDirection {direction!r} is not known; it is one of '
            'i, i-, j, j-, k, k-'
        )
        return 2, ()
    axis = 'ijk'.index(direction[0])
    n_slices = header.shape[axis] if header is not None else len(times)
    if len(times) != n_slices:
        probe.fail(f'{probe.file.name}: SliceTiming has {len(times)} values for {n_slices} slices')
    if direction.endswith('-'):
        times = times[::-1]
    return axis, tuple(time - min(times) for time in times)
