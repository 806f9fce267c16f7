"""Bundles by name, exchanged while the service runs; and pictures of their classes."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from movq_core.errors import BundleError
from movq_core.manifest import Manifest, write_manifest
from service import catalog
from service.catalog import Catalog
from tests.service.conftest import Serve
from tests.service.pictures import encoded, gradient
from tests.service.standin import StandIn


@pytest.fixture
def other(manifest: Manifest, tmp_path: Path) -> Path:
    folder = tmp_path / "other"
    write_manifest(manifest.model_copy(update={"name": "other"}), folder)
    return folder


def test_a_model_is_chosen_by_its_name(serve: Serve, bundle: Path, other: Path) -> None:
    client = serve(models=(bundle, other))
    listed = client.get("/v1/models").json()
    assert [model["name"] for model in listed["models"]] == ["emoji-64", "other"]
    assert [(model["id"], model["object"]) for model in listed["data"]] == [
        ("emoji-64", "model"),
        ("other", "model"),
    ]
    assert client.post("/v1/generations", json={}).json()["model"] == "emoji-64"
    job = client.post("/v1/generations", json={"model": "other", "priority": "high"}).json()
    assert (job["model"], job["priority"], job["position"]) == ("other", "high", 1)
    answer = client.post("/v1/generations", json={"model": "third"})
    assert answer.status_code == 422
    assert answer.json()["detail"] == "There is no model 'third'; served are emoji-64, other."
    upload = {"image": encoded(gradient())}
    assert client.post("/v1/encodings?model=other", files=upload).json()["model"] == "other"
    assert client.post("/v1/encodings?model=third", files=upload).status_code == 422


def test_ready_is_what_the_default_is(serve: Serve, bundle: Path, other: Path, worker: StandIn) -> None:
    models = serve(models=(bundle, other)).get("/readyz").json()["models"]
    assert [(model["name"], model["workers"]) for model in models] == [("emoji-64", 1), ("other", 0)]
    assert serve(models=(other, bundle)).get("/readyz").status_code == 503


def test_a_changed_manifest_is_read_again(
    bundle: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "LOOK_S", 0.0)
    bundles = Catalog([bundle])
    time.sleep(0.01)
    labels = ("smiles", *manifest.labels[1:])
    write_manifest(manifest.model_copy(update={"labels": labels}), bundle)
    assert bundles.default.manifest.labels[0] == "smiles"
    (bundle / "labels.json").write_text("{", encoding="utf-8")
    assert bundles.default.manifest.labels[0] == "smiles"  # what was known stays
    write_manifest(manifest, bundle)
    assert bundles.default.manifest.labels[0] == "faces"


def test_two_of_a_name(bundle: Path) -> None:
    with pytest.raises(BundleError, match="Two bundles are named emoji-64"):
        Catalog([bundle, bundle])


def test_examples(client: httpx.Client, bundle: Path) -> None:
    (bundle / "examples").mkdir()
    (bundle / "examples" / "3.png").write_bytes(encoded(gradient()))
    (bundle / "examples" / "99.png").write_bytes(encoded(gradient()))
    classes = client.get("/v1/models/emoji-64/classes").json()["classes"]
    assert [item["id"] for item in classes if item["example"]] == [3]
    picture = client.get(classes[3]["example"])
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/png")
    again = client.get(classes[3]["example"], headers={"if-none-match": picture.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for path in ("emoji-64/examples/4", "emoji-64/examples/99", "other/examples/3"):
        assert client.get(f"/v1/models/{path}").status_code == 404
    assert client.get("/v1/models/emoji-64/examples/..%2f..%2fconfig").status_code in (404, 422)
