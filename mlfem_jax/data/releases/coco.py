"""Object labels of COCO images, from the published instances_*.json."""

from pathlib import Path
from typing import NamedTuple

from mlfem_jax.data.releases.files import load_json, named


class Objects(NamedTuple):
    """What COCO annotates in one image."""

    labels: tuple[int, ...]
    instances: int


def read_coco(path: Path) -> tuple[tuple[str, ...], dict[int, Objects]]:
    """Class names, and COCO image id to the objects annotated in that image.

    COCO's category ids have gaps (80 ids between 1 and 90): labels are their ranks, 0 to 79. A crowd region
    makes its class present but is not an instance.

    Args:
        path: instances_train2014.json or instances_val2014.json.

    Returns:
        Class names in the order of the labels; for every image listed in the file its sorted distinct labels
        and the number of instances that are no crowd (nothing annotated: no labels, 0).

    Raises:
        ValueError: the file is damaged, or an annotation names a category or an image that it does not list.

    Source:
        Lin et al. 2014, Microsoft COCO: Common Objects in Context.
    """
    content = load_json(path)
    try:
        categories = sorted(content["categories"], key=lambda category: category["id"])
        rank = {category["id"]: i for i, category in enumerate(categories)}
        labels: dict[int, set[int]] = {image["id"]: set() for image in content["images"]}
        instances = dict.fromkeys(labels, 0)
        for annotation in content["annotations"]:
            labels[annotation["image_id"]].add(rank[annotation["category_id"]])
            instances[annotation["image_id"]] += not annotation["iscrowd"]
        names = tuple(str(category["name"]) for category in categories)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{named(path)}: expected a COCO instances file, got another ({error!r:.100})") from error
    return names, {image_id: Objects(tuple(sorted(labels[image_id])), instances[image_id]) for image_id in labels}
