"""A tiny study to break."""

import pytest

from tests.e2e import support


@pytest.fixture(scope='session')
def study(tmp_path_factory):
    """A tiny phantom of one participant; not to be changed."""
    return support.phantom(tmp_path_factory.mktemp('phantom'), participants=1)


@pytest.fixture(scope='session')
def spin_echo(study, tmp_path_factory):
    """A small sound dataset of two participants with spin echoes only; not to be changed."""
    root = support.start_dataset(tmp_path_factory.mktemp('spin_echo') / 'raw', study)
    for label in ('01', '02'):
        support.add_participant(root, study, label, 'mese')
    return root
