"""Say before the installation what would make it fail; plain Python of any version."""

import platform
import sys

MACHINES = ('x86_64', 'amd64')
VERSIONS = ((3, 11), (3, 13))


def problems(machine, version, has_venv):
    """List what is missing, each with what to do."""
    found = []
    if machine.lower() not in MACHINES:
        found.append(
            f'oxybold runs on x86-64 only, because antspyx has no other wheels; this is {machine}'
        )
    if not VERSIONS[0] <= version <= VERSIONS[1]:
        found.append(
            f'oxybold needs Python 3.11, 3.12 or 3.13; this is {version[0]}.{version[1]}: '
            'make PYTHON=python3.12 ...'
        )
    if not has_venv:
        found.append('Python has no venv module: apt-get install python3-venv')
    return found


def has_venv():
    """Tell whether a virtual environment with pip can be made."""
    try:
        import ensurepip  # noqa: F401  (Debian splits it off)
        import venv  # noqa: F401
    except ImportError:
        return False
    return True


if __name__ == '__main__':
    sys.exit('\n'.join(problems(platform.machine(), sys.version_info[:2], has_venv())) or 0)
