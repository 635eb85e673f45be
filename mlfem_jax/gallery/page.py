"""The HTML page of explained photographs: one file that opens from the disk, with no network."""

import dataclasses
import os
from collections.abc import Mapping, Sequence

import jinja2

from mlfem_jax.files import replacing


@dataclasses.dataclass(frozen=True)
class ExplainedPhoto:
    """One photograph on the page. Files are relative to the page's folder, plain names, not URLs.

    Attributes:
        name: as it is shown.
        photo: picture file of the photograph.
        overlay: picture file of the map over the photograph, the same size.
        sheet: picture file of every layer and every fusion.
        map: NumPy file of the map.
        top: (label, probability) of the most probable classes, most probable first.
        why: picture file of the layers and channels that the map came from, if there is one.
    """

    name: str
    photo: str
    overlay: str
    sheet: str
    map: str
    top: tuple[tuple[str, float], ...]
    why: str = ""


def write_page(
    path: str | os.PathLike,
    photos: Sequence[ExplainedPhoto],
    *,
    settings: Mapping[str, object],
    failures: Sequence[str] = (),
    title: str = "What the network looked at",
) -> None:
    """Writes the page, whole or not at all.

    Args:
        path: the HTML file to write or replace.
        photos: in the order of the page.
        settings: names and values under the title.
        failures: a line for each photograph that could not be explained.
        title: of the page.

    Example:
        >>> import tempfile, pathlib
        >>> page = pathlib.Path(tempfile.mkdtemp()) / "index.html"
        >>> write_page(page, [], settings={"method": "<add>"})
        >>> "&lt;add&gt;" in page.read_text()
        True
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mlfem_jax.gallery"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("photos.html.jinja").render(
        title=title, photos=photos, settings=settings, failures=failures
    )
    with replacing(path) as file:
        file.write(page.encode())
