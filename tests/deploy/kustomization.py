"""What kustomize makes of a folder, as far as ours use it: resources, components, images and patches."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]


def build(folder: Path, *components: str) -> list[Manifest]:
    """The manifests of a folder, and of `components` beside it."""
    settings = yaml.safe_load((folder / "kustomization.yaml").read_text())
    manifests: list[Manifest] = []
    for name in settings.get("resources", []):
        path = folder / name
        manifests += build(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))
    for name in components:
        manifests += build(folder.parent / "components" / name)
    for patch in settings.get("patches", []):
        _apply(patch, folder, manifests)
    for manifest in manifests:
        _finish(manifest, settings)
    return manifests


def _apply(patch: Manifest, folder: Path, manifests: list[Manifest]) -> None:
    if "path" in patch:
        change = yaml.safe_load((folder / patch["path"]).read_text())
        _merge(_find(manifests, change["kind"], change["metadata"]["name"]), change)
        return
    target = _find(manifests, patch["target"]["kind"], patch["target"]["name"])
    for operation in yaml.safe_load(patch["patch"]):
        assert operation["op"] == "remove", "the only operation that is used"
        *parents, last = operation["path"].strip("/").split("/")
        place = target
        for name in parents:
            place = place[name]
        del place[last]


def _find(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    (found,) = [m for m in manifests if (m["kind"], m["metadata"]["name"]) == (kind, name)]
    return found


def _merge(target: Manifest, change: Manifest) -> None:
    """A strategic merge: mappings key by key, lists of named things name by name, other lists whole."""
    for key, value in change.items():
        have = target.get(key)
        if isinstance(have, dict) and isinstance(value, dict):
            _merge(have, value)
        elif isinstance(have, list) and isinstance(value, list) and "name" in value[0]:
            for item in value:
                same = next((h for h in have if h["name"] == item["name"]), None)
                if same is None:
                    have.insert(0, item)  # as kustomize does
                else:
                    _merge(same, item)
        else:
            target[key] = copy.deepcopy(value)


def _finish(manifest: Manifest, settings: Manifest) -> None:
    if manifest["kind"] == "Namespace":
        return
    if namespace := settings.get("namespace"):
        manifest["metadata"]["namespace"] = namespace
    for container in containers(manifest):
        for image in settings.get("images", []):
            if container["image"] == image["name"]:
                container["image"] = f"{image['name']}:{image['newTag']}"


def containers(manifest: Manifest) -> list[Manifest]:
    pod = manifest.get("spec", {}).get("template", {}).get("spec", {})
    return list(pod.get("containers", []))
