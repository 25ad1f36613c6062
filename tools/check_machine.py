"""Say before the installation what would make it fail; plain Python of any version."""

import platform
import sys

MACHINES = {'Linux': ('x86_64', 'amd64'), 'Darwin': ('arm64',)}
VERSIONS = ((3, 11), (3, 13))


UNTESTED = (
    'macOS is untested: every proof is of Linux on x86-64. Docker with --platform linux/amd64 '
    'runs what is proven (docs/how-to/containers.md).'
)


def problems(system, machine, version, has_venv):
    """List what is missing, each with what to do."""
    found = []
    if machine.lower() not in MACHINES.get(system, ()):
        found.append(
            'oxybold installs on Linux on x86-64, and untested on macOS on Apple silicon, because '
            f'antspyx has no other wheels; this is {system} on {machine}. Elsewhere: Docker with '
            '--platform linux/amd64 (docs/how-to/containers.md)'
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
    this = platform.system(), platform.machine(), sys.version_info[:2], has_venv()
    if this[0] == 'Darwin':
        sys.stderr.write(UNTESTED + '\n')
    sys.exit('\n'.join(problems(*this)) or 0)
