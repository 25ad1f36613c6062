"""One tiny study, computed once."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e import support


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A study that went through both levels."""

    study: Path
    output: Path
    participant: support.Outcome
    group: support.Outcome

    @property
    def command(self) -> tuple[object, ...]:
        """Options of the participant level, without the folders."""
        return ('participant', *support.anatomy_of(self.study), *support.HEADER)


@pytest.fixture(scope='session')
def study(tmp_path_factory):
    """A tiny phantom of two participants; not to be changed."""
    return support.phantom(tmp_path_factory.mktemp('phantom'))


@pytest.fixture(scope='session')
def finished(study, tmp_path_factory):
    """Derivatives of the study; not to be changed."""
    output = tmp_path_factory.mktemp('finished') / 'out'
    options = (*support.anatomy_of(study), *support.HEADER)
    return Finished(
        study=study,
        output=output,
        participant=support.run_app(study, output, 'participant', *options),
        group=support.run_app(study, output, 'group'),
    )
