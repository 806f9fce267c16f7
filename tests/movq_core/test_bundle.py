"""Bundles: what is saved is what is loaded, and nothing that does not fit is."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from movq_core.bundle import ModelBundle
from movq_core.errors import BundleError
from movq_core.manifest import fingerprint, name_for, read_manifest
from worker.fakes import TINY


@pytest.fixture
def folder(tmp_path):
    ModelBundle.random(TINY).save(tmp_path)
    return tmp_path


def test_round_trip(folder):
    saved, loaded = ModelBundle.random(TINY), ModelBundle.load(folder)
    assert loaded.manifest == TINY
    for name, tensor in saved.movq.state_dict().items():
        assert torch.equal(tensor, loaded.movq.state_dict()[name])
    for name, tensor in saved.maskgit.state_dict().items():
        assert torch.equal(tensor, loaded.maskgit.state_dict()[name])
    assert not loaded.movq.training
    assert not loaded.maskgit.training


def test_a_tokenizer_without_a_prior(tmp_path):
    manifest = TINY.model_copy(update={"maskgit": None, "labels": ()})
    ModelBundle.random(manifest).save(tmp_path)
    assert ModelBundle.load(tmp_path).maskgit is None


@pytest.mark.parametrize("name", ["config.json", "labels.json", "movq.safetensors", "maskgit.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        ModelBundle.load(folder)


@pytest.mark.parametrize("change", ["drop", "rename", "reshape"])
def test_weights_that_do_not_fit_are_refused(folder, change):
    path = folder / "maskgit.safetensors"
    tensors = load_file(path)
    tensor = tensors.pop("norm_out.weight")
    if change == "rename":
        tensors["norm_out.gain"] = tensor
    if change == "reshape":
        tensors["norm_out.weight"] = tensor[:-1].clone()
    save_file(tensors, path)
    (folder / "SHA256SUMS").unlink()
    with pytest.raises(BundleError, match="norm_out"):
        ModelBundle.load(folder)


def test_a_file_that_is_no_safetensors_is_refused(folder):
    (folder / "movq.safetensors").write_bytes(b"not weights")
    with pytest.raises(BundleError, match="safetensors"):
        ModelBundle.load(folder)


def test_a_prior_for_another_codebook_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    config["maskgit"]["codebook_size"] = 64
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(BundleError, match="prior"):
        read_manifest(folder)


def test_labels_and_classes_must_agree(folder):
    (folder / "labels.json").write_text('["only one"]')
    with pytest.raises(BundleError, match="1 labels for 3 classes"):
        read_manifest(folder)


@pytest.mark.parametrize("name", ["My Model", "", "-x", "a/b", "a" * 65, "tiny\n"])
def test_a_name_that_no_url_could_hold_is_refused_in_a_sentence(folder, name):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "name": name}))
    with pytest.raises(BundleError, match="cannot name a bundle: 1 to 64 of a to z") as raised:
        read_manifest(folder)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("emoji-64", "emoji-64"),
        ("My Model", "my-model"),
        ("v1.2_final!", "v1.2_final"),
        ("..x", "x"),
        ("模型", "bundle"),
        ("a" * 80, "a" * 64),
    ],
)
def test_any_folder_gives_a_name_that_is_allowed(tmp_path, folder, name):
    assert name_for(tmp_path / folder) == name
    assert TINY.model_validate({**TINY.model_dump(), "name": name}).name == name


def test_the_fingerprint_names_the_weights(folder):
    before = fingerprint(folder)
    assert before == fingerprint(folder)
    path = folder / "movq.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert fingerprint(folder) != before


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("config.json", b"\xac", "is not JSON"),
        ("config.json", b"[" * 100_000, "is not JSON"),
        ("config.json", b"[]", "is not a JSON object"),
        ("labels.json", b'"' + b"a" * 2**22 + b'"', "longer than 4,194,304 bytes"),
    ],
)
def test_hostile_json_is_refused_in_a_sentence(folder, name, data, says):
    """Found by `make fuzz-files`, but for the last."""
    (folder / name).write_bytes(data)
    with pytest.raises(BundleError, match=says):
        read_manifest(folder)


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("maskgit", "depth", 10**9),  # would be built, layer by layer, for days
        ("movq", "encoder_blocks", 10**9),
        ("movq", "channel_multipliers", [1] * 60),
        ("movq", "channel_multipliers", [0, 1]),
    ],
)
def test_a_config_of_absurd_size_is_refused_at_once(folder, part, name, value):
    config = json.loads((folder / "config.json").read_text())
    config[part][name] = value
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(BundleError, match=f"{part}.*{name}"):
        read_manifest(folder)
