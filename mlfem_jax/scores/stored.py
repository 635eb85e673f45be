"""A method whose maps somebody else has made: read from files, and scored as ours are."""

import dataclasses
import functools
from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Float32, Int, Shaped

from mlfem_jax.data import MapFile, find_maps, read_map
from mlfem_jax.gaze import FitRule


@dataclasses.dataclass(frozen=True)
class StoredMaps:
    """Maps in a folder, or in one file, that stand in for a method.

    Attributes:
        path: see `mlfem_jax.data.find_maps`.
        rule: how photographs, and so their maps, get into the frame.
    """

    path: str
    rule: FitRule = "stretch"

    @functools.cached_property
    def files(self) -> dict[str, MapFile]:
        """The maps that there are, by the id of their image; looked for once."""
        return find_maps(self.path)

    @property
    def options(self) -> tuple[tuple[str, Hashable], ...]:
        """What the settings of a table note."""
        return (("path", self.path),)

    def read(
        self, ids: Shaped[np.ndarray, " N"], sizes: Int[np.ndarray, "N 2"], frame: Sequence[int]
    ) -> Float32[np.ndarray, "N H W"]:
        """The maps of a batch in its frame; all zeros, and so undefined, where there is none.

        Args:
            ids: of the images; "" where the batch is padded.
            sizes: (height, width) of the photographs, in pixels.
            frame: (height, width) in pixels.
        """
        height, width = frame
        blank = np.zeros((height, width), np.float32)
        return np.stack(
            [
                read_map(self.files, str(name), (int(size[0]), int(size[1])), (height, width), rule=self.rule)
                if name
                else blank
                for name, size in zip(ids, sizes, strict=True)
            ]
        )
