"""What this process may use of the machine: memory and processors, by its cgroups."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CGROUPS = Path('/sys/fs/cgroup')
OWN = Path('/proc/self/cgroup')


def memory_limit(root: Path = CGROUPS, own: Path = OWN) -> float:
    """
    Find the memory this process may use, MB: least limit of its cgroups, else the machine's.

    Examples
    --------
    >>> memory_limit() > 0
    True
    """
    limits = [os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')]
    for folder in _folders('memory', root, own):
        for name in ('memory.max', 'memory.limit_in_bytes'):
            limits += _numbers(folder / name)
    return min(limits) / 1e6


def processor_limit(root: Path = CGROUPS, own: Path = OWN) -> int:
    """
    Find the processors this process may use: by its affinity and the quota of its cgroups.

    At least 1; a part of a processor does not count.

    Examples
    --------
    >>> processor_limit() > 0
    True
    """
    if sys.platform == 'linux':
        limits = [float(len(os.sched_getaffinity(0)))]
    else:  # macOS knows no affinity, and no cgroups
        limits = [float(os.cpu_count() or 1)]
    for folder in _folders('cpu', root, own):
        quota = _numbers(folder / 'cpu.cfs_quota_us') + _numbers(folder / 'cpu.cfs_period_us')
        for numbers in (_numbers(folder / 'cpu.max'), quota):
            if len(numbers) == 2 and min(numbers) > 0:
                limits.append(numbers[0] / numbers[1])
    return max(1, int(min(limits)))


def _folders(controller: str, root: Path, own: Path) -> Iterator[Path]:
    """Folders of the cgroups of this process and of those around them, versions 1 and 2."""
    lines = []
    with contextlib.suppress(OSError):
        lines = own.read_text('utf-8').splitlines()
    for line in lines:
        _, controllers, path = line.split(':', 2)
        if controllers and controller not in controllers.split(','):
            continue
        base = root / controllers
        place = base / path.strip('/')
        yield from (folder for folder in (place, *place.parents) if folder.is_relative_to(base))


def _numbers(path: Path) -> list[int]:
    """Read the numbers of a file; none where there is no file or no limit ('max')."""
    try:
        return [int(word) for word in path.read_text('ascii').split()]
    except (OSError, ValueError):
        return []
