"""The config that a command is given to record: a file of YAML or JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ledger.errors import AskedWrongly, MissingExtra, shortened

__all__ = ["read_config"]

DEPTH_MAX = 90  # an event takes a little more


def read_config(path: str | os.PathLike[str]) -> dict[str, object]:
    """Return what the file holds. Raises AskedWrongly where it cannot be read or is no mapping."""
    place = Path(path)
    try:
        text = place.read_text(encoding="utf-8")
    except (OSError, ValueError) as exc:
        raise AskedWrongly(f"the config {place} cannot be read ({exc}). Name a file of YAML or JSON.") from None
    try:
        config = json.loads(text) if place.suffix == ".json" else _from_yaml(text)
    except (ValueError, RecursionError) as exc:
        raise AskedWrongly(f"the config {place} is no {_kind(place)}: {exc}. Mend the file.") from None
    if config is None:
        return {}
    if not isinstance(config, dict) or _depth(config) > DEPTH_MAX:
        raise AskedWrongly(
            f"the config {place} holds {shortened(config, 60)}; "
            f"a mapping is wanted, not nested deeper than {DEPTH_MAX}."
        )
    return config


def _kind(place: Path) -> str:
    return "JSON" if place.suffix == ".json" else "YAML"


def _from_yaml(text: str) -> object:
    try:
        import yaml
    except ImportError:
        raise MissingExtra("yaml") from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise ValueError(" ".join(str(exc).split())) from None


def _depth(config: object) -> int:
    """How deep it is nested, so far as it matters; a YAML file may hold itself."""
    depth, layer = 0, [config]
    while layer and depth <= DEPTH_MAX:
        depth += 1
        held = [
            list(each.values()) if isinstance(each, dict) else each for each in layer if isinstance(each, dict | list)
        ]
        layer = list({id(item): item for items in held for item in items}.values())
    return depth
