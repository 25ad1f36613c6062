"""
Signs that a scan is not what its name says: copies, runs cut off, one half of the head missing.

A sign is no proof, so the scan is used; its participant is left out of the group in the contrasts
it concerns, unless the user accepts the sign (setting ``accepted_suspects``).
"""

from __future__ import annotations

import hashlib
import statistics
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bids_app.bids.input.conditions import normalise
from bids_app.bids.input.files import companions_of, read_json
from bids_app.bids.input.input_map import content_key, content_size
from bids_app.bids.input.query import IMAGES, roles_of
from bids_app.bids.scans import Suspicion
from bids_app.errors import AppError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from bids_app._typing import FloatArray
    from bids_app.bids.input.query import Found
    from bids_app.bids.scans import AslSeries, EchoSeries, ParticipantInputs

SAMPLE = 65536
"""Bytes at either end of a file that are compared before the whole is read."""

MOST_NAMED = 3
"""Files of equal bytes that a sentence names."""

MIN_PEERS = 4
"""Runs of the same task and design from which the usual size is learnt."""

SMALL = 0.5
"""Of the median size of the peers: a run below it is much smaller."""

ONE_SIDED = 0.35
"""Signal of the weaker half of the head over that of the stronger one."""

CLEAR = 5.0
"""Standard errors over pairs by which flow must be seen in a half."""


def find_suspects(
    found: Mapping[str, Sequence[Found]],
    trial_types: Callable[[Path], Iterable[str]],
    root: Path,
    *,
    size_of: Callable[[Path], int | None] = content_size,
) -> dict[str, tuple[Suspicion, ...]]:
    """
    Compare the files of all participants with one another, by size and checksum.

    Kinds are ``copy`` and ``small-bold``. Links of git-annex without content count too, since size
    and checksum stand in them. `trial_types` gives the conditions of a BOLD file, for runs of one
    design are peers; `size_of` gives bytes, or None.
    """
    suspects: dict[str, list[Suspicion]] = {}
    for group in _identical((item for files in found.values() for item in files), size_of):
        for item, suspicion in _copies(group, root):
            suspects.setdefault(item.entities['subject'], []).append(suspicion)
    for item, suspicion in _small_runs(found, trial_types, size_of):
        suspects.setdefault(item.entities['subject'], []).append(suspicion)
    return {label: tuple(listed) for label, listed in suspects.items()}


def _identical(found: Iterable[Found], size_of: Callable[[Path], int | None]) -> list[list[Found]]:
    """Group the images of one kind that have the same bytes; those of no role are not used."""

    def kind(item: Found) -> tuple[Any, ...] | None:
        if item.get('extension') not in IMAGES:
            return None
        size = size_of(item.path)
        return (item.get('suffix'), item.get('part'), size) if size else None

    groups = _split([item for item in found if roles_of(item)], kind)
    for key in (lambda item: _sample(item.path), lambda item: content_key(item.path)):
        groups = [part for group in groups for part in _split(group, key)]
    return groups


def _split(items: Sequence[Found], key: Callable[[Found], Any]) -> list[list[Found]]:
    """Split by a key; those that are alone, or have none, are left out."""
    groups: dict[Any, list[Found]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return [group for value, group in groups.items() if value is not None and len(group) > 1]


def _sample(path: Path) -> str | None:
    """Checksum of both ends of a file, or that of git-annex; None where it cannot be read."""
    if path.is_symlink():
        return content_key(path)
    if not path.is_file():
        return None
    try:
        with path.open('rb') as stream:
            digest = hashlib.sha256(stream.read(SAMPLE))
            stream.seek(max(0, path.stat().st_size - SAMPLE))
            digest.update(stream.read(SAMPLE))
    except OSError:
        return None
    return digest.hexdigest()


def _copies(group: Sequence[Found], root: Path) -> list[tuple[Found, Suspicion]]:
    """Say of each copy what it equals; the one whose protocol names its condition is genuine."""
    genuine = [item for item in group if _names_itself(item, root)]
    copies = [item for item in group if len(genuine) != 1 or item is not genuine[0]]
    first = sorted(group, key=lambda item: item.path.name)[: MOST_NAMED + 1]
    suspicions = []
    for item in copies:
        others = [other.path.name for other in first if other is not item][:MOST_NAMED]
        n_more = len(group) - 1 - len(others)
        more = f' and {n_more} more' if n_more else ''
        reason = f'{item.path.name} has the same bytes as {", ".join(others)}{more}'
        suspicions.append((item, _suspicion('copy', item, reason)))
    return suspicions


def _names_itself(item: Found, root: Path) -> bool:
    """Tell whether the protocol name in the sidecar holds the condition of the file name."""
    condition = _condition(item)
    if not condition:
        return False
    for path in companions_of(item, root, str(item.get('suffix')), '.json'):
        try:
            protocol = normalise(str(read_json(path).get('ProtocolName', '')))
        except AppError:
            continue
        if condition in protocol:
            return True
    return False


def _condition(item: Found) -> str | None:
    """Give the condition in a name: task, of perfusion without it acq."""
    if item.get('suffix') == 'bold':
        return None
    named = item.get('task') or (item.get('acquisition') if item.get('datatype') == 'perf' else '')
    return normalise(named) if named else None


def _suspicion(kind: str, item: Found, reason: str) -> Suspicion:
    """Make one for a file."""
    return Suspicion(
        kind=kind,
        role=roles_of(item)[0],
        condition=_condition(item),
        file=item.path,
        reason=reason,
    )


def _small_runs(
    found: Mapping[str, Sequence[Found]],
    trial_types: Callable[[Path], Iterable[str]],
    size_of: Callable[[Path], int | None],
) -> list[tuple[Found, Suspicion]]:
    """Find the BOLD runs that are much smaller than those of the same task and design."""
    peers: dict[tuple[Any, ...], list[tuple[Found, int]]] = {}
    for item in (item for files in found.values() for item in files):
        types = tuple(trial_types(item.path))
        size = size_of(item.path) if types else None
        if size:
            design = (item.get('task'), item.get('extension'), types)
            peers.setdefault(design, []).append((item, size))
    suspicions = []
    for group in peers.values():
        usual = statistics.median(size for _, size in group)
        for item, size in group if len(group) > MIN_PEERS else ():
            if size < SMALL * usual:
                reason = (
                    f'{item.path.name} has {size / 1e6:.3g} MB where runs of the same task have '
                    f'{usual / 1e6:.3g} MB in the median; is it complete?'
                )
                suspicions.append((item, _suspicion('small-bold', item, reason)))
    return suspicions


# ------------------------------------------------------------------------------ whole images


def flag_suspicious(inputs: ParticipantInputs) -> ParticipantInputs:
    """
    Look for one-sided scans and for runs that end before their last block.

    Images are read; what is found is added to `suspicions` and said in the notes.
    """
    own = [*inputs.suspicions]
    own += [found for series in inputs.asl if (found := _one_sided_flow(series))]
    own += [found for series in inputs.megre if (found := _one_sided_echoes(series))]
    for run in inputs.bold:
        end = max(event.onset + event.duration for event in run.events)
        length = run.n_volumes * run.repetition_time
        if end > length + run.repetition_time:
            reason = (
                f'{run.file.name} ends at {length:g} s, its last block at {end:g} s: volumes are '
                'missing or the events are those of another run'
            )
            own.append(Suspicion(kind='short-bold', role='bold', file=run.file, reason=reason))
    told = [f'suspicious ({one.kind}): {one.reason}' for one in own]
    return replace(inputs, suspicions=tuple(own), notes=(*inputs.notes, *told))


def _one_sided_flow(series: AslSeries) -> Suspicion | None:
    """Compare the label-control difference of the two halves of the head."""
    import numpy as np

    image, affine = _load(series.file)
    if image.ndim < 4:
        return None
    kinds = np.array(series.context)
    controls, labels = image[..., kinds == 'control'], image[..., kinds == 'label']
    if not (controls.shape[-1] and labels.shape[-1]):
        return None
    control = np.nan_to_num(controls.mean(-1))
    head = control > 0.35 * np.percentile(control, 95)
    n_pairs = min(controls.shape[-1], labels.shape[-1])
    pairs = np.nan_to_num(controls[..., :n_pairs] - labels[..., :n_pairs]) * head[..., None]
    halves = _halves(pairs, head, affine)  # (2, pairs)
    mean = halves.mean(1)
    stronger = int(mean.argmax())
    error = halves[stronger].std() / max(n_pairs - 1, 1) ** 0.5
    if mean[stronger] <= CLEAR * error:  # no flow is seen at all: another matter
        return None
    weaker = max(mean[1 - stronger], 0) / mean[stronger]
    return _one_sided(series.file, 'asl', series.condition, float(weaker))


def _one_sided_echoes(series: EchoSeries) -> Suspicion | None:
    """Compare the first echo of the two halves of the field of view."""
    import numpy as np

    if not series.magnitude:
        return None
    image, affine = _load(series.magnitude[0])
    halves = _halves(np.nan_to_num(image), np.ones(image.shape, bool), affine)
    if halves.max() <= 0:
        return None
    weaker = float(halves.min() / halves.max())
    return _one_sided(series.magnitude[0], 'megre_mag', series.condition, weaker)


def _one_sided(path: Path, role: str, condition: str | None, weaker: float) -> Suspicion | None:
    """Say that one half has hardly any signal."""
    if weaker >= ONE_SIDED:
        return None
    reason = f'{path.name}: one half of the head has {weaker:.0%} of the signal of the other'
    return Suspicion(kind='one-sided', role=role, condition=condition, file=path, reason=reason)


def _halves(values: FloatArray, inside: np.ndarray[Any, Any], affine: FloatArray) -> FloatArray:
    """Sum both halves of the head, left and right, (2, ...) of (X, Y, Z, ...)."""
    import numpy as np

    axis = int(np.argmax(np.abs(affine[0, :3])))
    along = np.moveaxis(values, axis, 0).sum(axis=(1, 2))
    weight = np.moveaxis(inside, axis, 0).sum(axis=(1, 2))
    position = np.arange(len(along))
    middle = np.average(position, weights=weight)
    return np.stack([along[position < middle].sum(0), along[position > middle].sum(0)])


def _load(path: Path) -> tuple[FloatArray, FloatArray]:
    """Read an image and its affine."""
    import nibabel as nb
    import numpy as np

    image: Any = nb.load(path)
    return np.asarray(image.dataobj, np.float32), np.asarray(image.affine)
