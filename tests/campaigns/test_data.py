"""A slice of the campaigns over data, whose whole `make campaigns` runs."""

import pytest

from tests.campaigns import images, mat, tables
from tests.campaigns.trial import campaign


@pytest.mark.parametrize(("module", "count"), [(images, 40), (tables, 40), (mat, 8)])
def test_a_slice_of_the_campaign_fails_nowhere(module, count):
    name = module.__name__.rpartition(".")[2]
    assert campaign(name, module.trial, range(module.COUNT, module.COUNT + count)) == []
