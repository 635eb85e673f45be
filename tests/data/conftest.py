from pathlib import Path

import pytest

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data():
    """(name) -> folder of real data beside the project; skips, naming it, where it is not there."""

    def find(name):
        if not (SHARED / name).is_dir():
            pytest.skip(f"no real data in ../shared/data/{name}")
        return SHARED / name

    return find


@pytest.fixture(scope="session")
def built_osie(shared_data, tmp_path_factory):
    """The folder of OSIE as `prepare` builds it, once for all tests."""
    from mlfem_jax.data.prepared.write import prepare

    return prepare("osie", shared_data("osie"), tmp_path_factory.mktemp("built"))
