"""What a config.json says of a network, against what the named networks are.

Much of a network leaves no trace in the shapes of its arrays: where a stride lies, the side of Swin V2's windows. A
folder of transformers says it, and timm's says the window in the network's name.
"""

import difflib
import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from mlfem_jax.files import shown

Config = Mapping[str, Any]

_TIMM_SWIN = re.compile(r"(swin|swinv2)_\w*window(?:\d+to)?(\d+)")


def network_config(content: Config) -> dict[str, Any]:
    """What a config.json says of its network, by transformers' entries; empty where it says nothing.

    Args:
        content: of the file.

    Example:
        >>> network_config({"architecture": "swinv2_tiny_window16_256", "num_classes": 1000})
        {'model_type': 'swinv2', 'window_size': 16}
    """
    timm = _TIMM_SWIN.match(str(content.get("architecture", "")))  # timm's own, or in transformers' wrapper
    if timm:
        return {"model_type": timm[1], "window_size": int(timm[2])}
    return dict(content) if isinstance(content.get("model_type"), str) else {}


def check_config(name: str, said: Config, known: Mapping[str, Config]) -> None:
    """Nothing where a config.json may be that of a named network, or is of a kind that no named network is.

    Args:
        name: the network that is asked for.
        said: by the file; an entry that is not there is as expected.
        known: what it says of each named network; empty for one that transformers does not have.

    Raises:
        ValueError: it is another network's; says in what, and which network is the nearest. Does not name the file.

    Example:
        >>> known = {"small": {"model_type": "swin", "depths": [2]}, "large": {"model_type": "swin", "depths": [9]}}
        >>> check_config("small", {"model_type": "swin", "depths": [9]}, known)
        Traceback (most recent call last):
        ValueError: expected small with depths [2], got depths [9]; load it as large
    """
    kin = {other: config for other, config in known.items() if config.get("model_type", 0) == said.get("model_type")}
    unlike = {other: _unlike(said, config) for other, config in kin.items()}
    if not kin or unlike.get(name) == []:
        return
    nearest = min(kin, key=lambda other: (len(unlike[other]), -_likeness(said, kin[other])))
    advice = f"load it as {nearest}"
    if unlike[nearest]:
        advice = f"no network here is that; the nearest is {nearest}, with {_entries(kin[nearest], unlike[nearest])}"
    if name not in kin:
        raise ValueError(f"expected {name}, got transformers' {said['model_type']}; {advice}")
    wanted, got = (_entries(config, unlike[name]) for config in (kin[name], said))
    raise ValueError(f"expected {name} with {wanted}, got {got}; {advice}")


def check_kind(name: str, said: Config, names: Collection[str]) -> None:
    """Nothing where a config.json says of no kind of network that it is; to be asked where names do not fit.

    Args:
        name: the network that is asked for.
        said: by the file.
        names: of all networks.

    Raises:
        ValueError: it says one; names the network whose name is the nearest. Does not name the file.
    """
    if "model_type" in said:
        kind = shown(said["model_type"])
        nearest = difflib.get_close_matches(kind, names, 1, 0.0)[0]
        raise ValueError(f"expected weights of {name}, got transformers' {kind}; the nearest name is {nearest}")


def check_transformer(name: str, said: Config, wanted: Config) -> None:
    """Nothing where a config.json may be that of a named vision transformer.

    Args:
        name: the network that is asked for.
        said: by the file; an entry that is not there is as expected. CLIP's and SigLIP's say it of the image tower in
            an entry of its own.
        wanted: what its arrays do not show: their number of heads, how they compute.

    Raises:
        ValueError: it is another network's; says in what. Does not name the file.

    Example:
        >>> check_transformer("vit", {"num_attention_heads": 3}, {"num_attention_heads": 6})
        Traceback (most recent call last):
        ValueError: expected vit with num_attention_heads 6, got num_attention_heads 3
    """
    tower = said.get("vision_config")
    of_tower = tower if isinstance(tower, Mapping) else said
    if unlike := _unlike(of_tower, wanted):
        raise ValueError(f"expected {name} with {_entries(wanted, unlike)}, got {_entries(of_tower, unlike)}")


def _unlike(said: Config, wanted: Config) -> list[str]:
    return [entry for entry, value in wanted.items() if said.get(entry, value) != value]


def _entries(config: Config, entries: Collection[str]) -> str:
    return ", ".join(f"{entry} {shown(json.dumps(config[entry]))}" for entry in entries)


def _likeness(said: Config, wanted: Config) -> float:
    theirs, ours = (json.dumps([config.get(entry) for entry in wanted])[:300] for config in (said, wanted))
    return difflib.SequenceMatcher(None, theirs, ours).ratio()
