"""The one TFDS builder: it writes what any reader yields as array_record files."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from mlfem_jax.data.example import framed
from mlfem_jax.data.releases.records import Dataset, Example, Problems, Release, check_pixels

VERSION = "1.0.0"  # of the feature structure: raise it when a record's fields change meaning


def features(axes: int = 2, *, recorded: bool = False) -> tfds.features.FeaturesDict:
    """The feature structure of every data set: the fields of `Example`, images as the bytes found on disk.

    Args:
        axes: of fixations or events.
        recorded: whether it is of recordings, which say what they are windows of.
    """
    encoded = tfds.features.Scalar(np.object_)
    tensor = tfds.features.Tensor
    return tfds.features.FeaturesDict(
        {
            "image": encoded,
            "id": tfds.features.Text(),
            "size": tensor(shape=(axes,), dtype=np.int32),
            "fixations": tensor(shape=(None, axes), dtype=np.float32),
            "observers": tensor(shape=(None,), dtype=np.int32),
            "durations": tensor(shape=(None,), dtype=np.float32),
            "density": encoded,
            "labels": tensor(shape=(None,), dtype=np.int32),
            "clutter": tfds.features.Scalar(np.int32),
            "content_box": tensor(shape=(2 * axes,), dtype=np.int32),
            **({"recording": tfds.features.Text()} if recorded else {}),
        }
    )


@dataclasses.dataclass
class Tally:
    """What was written so far: examples of each split, and who looked how often."""

    images: dict[str, int] = dataclasses.field(default_factory=dict)
    fixations: dict[str, int] = dataclasses.field(default_factory=dict)
    observers: set[int] = dataclasses.field(default_factory=set)
    viewings: int = 0
    density_maps: int = 0

    def add(self, split: str, example: Example) -> None:
        """Counts one example of `split`."""
        seen = {int(observer) for observer in example.observers} - {-1}
        self.images[split] = self.images.get(split, 0) + 1
        self.fixations[split] = self.fixations.get(split, 0) + len(example.fixations)
        self.observers |= seen
        self.viewings += len(seen)
        self.density_maps += bool(example.density)

    def as_counts(self) -> dict[str, Any]:
        """Plain numbers; observers is the number of different observer indices."""
        return dataclasses.asdict(self) | {"observers": len(self.observers)}


class GazeBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Builds one data set of the registry; what it wrote is read with `tfds.builder_from_directory`.

    The release is a manual download: `builder.download_and_prepare(download_config=
    tfds.download.DownloadConfig(manual_dir=release))`. Afterwards `info.metadata` holds name, sigma_px,
    sigma_source, class_names, counts (images, fixations, observers, viewings, density_maps) and problems
    (what was clipped or left out, with its count and first records), beside whatever was given as `metadata`.

    Args:
        dataset: an entry of the registry.
        data_dir: the data set is written to data_dir/name[/configuration]/version.
        sigma_px: standard deviation of the Gaussian on each fixation, in pixels; None: the data set's own.
        frame: (height, width) that photographs are stored at, stretched; None: as they were found.
        metadata: further entries for `info.metadata`.
        on_listed: called once with the number of images in the release.
        on_read: called after each image.
    """

    def __init__(  # noqa: D107 (the class documents it)
        self,
        dataset: Dataset,
        *,
        data_dir: Path,
        sigma_px: float | tuple[float, ...] | None = None,
        frame: tuple[int, int] | None = None,
        metadata: dict[str, Any] | None = None,
        on_listed: Callable[[int], object] = lambda total: None,
        on_read: Callable[[], object] = lambda: None,
    ):
        self.name, _, config = dataset.name.partition("/")
        self.VERSION = tfds.core.Version(VERSION)
        self.MANUAL_DOWNLOAD_INSTRUCTIONS = dataset.instructions
        self.BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config)] if config else []
        self._dataset = dataset
        self._sigma_px = dataset.sigma_px if sigma_px is None else sigma_px
        self._metadata, self._frame = metadata or {}, frame
        self._on_listed, self._on_read = on_listed, on_read
        self._problems, self._tally = Problems(), Tally()
        super().__init__(data_dir=data_dir, config=next(iter(self.BUILDER_CONFIGS), None), file_format="array_record")

    def _create_builder_config(self, builder_config: tfds.core.BuilderConfig | None, version: object):
        del version
        return builder_config  # TFDS looks in the class, which here serves every data set

    def _info(self) -> tfds.core.DatasetInfo:
        is_default = self._sigma_px == self._dataset.sigma_px
        return tfds.core.DatasetInfo(
            builder=self,
            description=self._dataset.instructions,
            homepage=self._dataset.homepage,
            features=features(self._dataset.axes, recorded=self._dataset.recorded),
            metadata=tfds.core.MetadataDict(
                name=self._dataset.name,
                sigma_px=list(self._sigma_px) if isinstance(self._sigma_px, tuple) else self._sigma_px,
                sigma_source=self._dataset.sigma_source if is_default else "given with the build",
                **self._metadata,
            ),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        root = self._dataset.root(Path(dl_manager.manual_dir))
        release = self._dataset.read(root, self._problems)
        total = sum(len(ids) for ids in release.splits.values())
        if total == 0:
            raise ValueError(f"{root}: expected {self._dataset.holds}, got none ({self._found() or 'nothing'})")
        self._on_listed(total)
        self.info.metadata["class_names"] = list(release.class_names)
        return {split: self._generate_examples(release, split) for split in release.splits}

    def _generate_examples(self, release: Release, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        looked = []
        for example in self._examples(release, split):
            image_id = example.id
            if self._sigma_px is None and not example.density:
                raise ValueError(
                    f"sigma_px: expected the pixels of one degree of visual angle ({self._dataset.sigma_source}), got "
                    f"none; {self._dataset.name} has fixations ({image_id}) but no default sigma"
                )
            self._tally.add(split, example)
            looked.append(example.fixations)
            fields = {name: getattr(example, name) for name in self.info.features or ()}
            if self._frame is not None:
                fields["image"] = framed(example.image, self._frame, name=f"image of {image_id!r}")
            yield image_id, fields
        if split not in self._tally.images:
            count = len(release.splits[split])
            raise ValueError(
                f"{self._dataset.name}, split {split}: expected {self._dataset.holds}, got {count} without "
                f"({self._found()})"
            )
        if not self._dataset.recorded:
            check_pixels(np.concatenate(looked), f"{self._dataset.name}, split {split}")
        self._check_published(split)
        problems = {
            kind: {"count": count, "first": self._problems.first[kind]} for kind, count in self._problems.counts.items()
        }
        self.info.metadata.update(counts=self._tally.as_counts(), problems=problems)

    def _examples(self, release: Release, split: str) -> Iterator[Example]:
        for image_id in release.splits[split]:
            found = release.read(image_id)
            self._on_read()
            yield from found if isinstance(found, list) else [found] if found else []

    def _found(self) -> str:
        """What was left out, on a line."""
        return "; ".join(f"{kind}: {count}" for kind, count in self._problems.counts.items())

    def _check_published(self, split: str) -> None:
        """Counts a complete split with other fixations than published: perhaps another year's release."""
        found = (self._tally.images.get(split, 0), self._tally.fixations.get(split, 0))
        images, fixations = self._dataset.published.get(split, found)
        if found[0] == images and found[1] != fixations:
            kind = "complete splits whose number of fixations is not the published one (another release?)"
            self._problems.add(kind, f"{split}: {found[1]}, published {fixations}")
