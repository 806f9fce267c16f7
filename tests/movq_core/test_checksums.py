"""A bundle is what was exported, or it is said which of its files is not."""

import json
import subprocess
from pathlib import Path

import pytest

from movq_core.bundle import ModelBundle
from movq_core.checksums import CHECKSUMS_FILE
from movq_core.errors import BundleError
from worker.fakes import TINY


@pytest.fixture
def folder(tmp_path):
    ModelBundle.random(TINY).save(tmp_path)
    return tmp_path


def test_the_list_is_sha256sums_own(folder):
    told = subprocess.check_output(["sha256sum", "-c", CHECKSUMS_FILE], cwd=folder, text=True)
    assert told.count(": OK") == 4


@pytest.mark.parametrize("name", ["config.json", "labels.json", "movq.safetensors", "maskgit.safetensors"])
def test_a_changed_file_is_named(folder, name):
    """One bit of a weight, or a class that was renamed: nothing else would notice."""
    path = folder / name
    if name == "config.json":
        config = json.loads(path.read_text())
        config["sampling"]["steps"] += 1
        path.write_text(json.dumps(config))
    elif name == "labels.json":
        path.write_text(path.read_text().replace("two", "2wo"))
    else:
        data = bytearray(path.read_bytes())
        data[-3] ^= 1
        path.write_bytes(data)
    with pytest.raises(BundleError, match=f"{name} is not the file that was exported.*Copy the bundle again"):
        ModelBundle.load(folder)


def test_a_file_of_another_export_is_refused(folder, tmp_path):
    other = ModelBundle.random(TINY, seed=1)
    other.save(tmp_path / "other")
    (folder / "maskgit.safetensors").write_bytes((tmp_path / "other/maskgit.safetensors").read_bytes())
    with pytest.raises(BundleError, match=r"maskgit\.safetensors is not the file"):
        ModelBundle.load(folder)


def test_a_folder_without_a_list_is_taken(folder):
    (folder / CHECKSUMS_FILE).unlink()
    assert ModelBundle.load(folder).manifest == TINY


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "does not list config.json"),
        (f"{'0' * 64}  ../../etc/passwd\n", "is no list of SHA-256"),
        (f"{'0' * 64}  /etc/passwd\n", "is no list of SHA-256"),
        ("no hash  config.json\n", "is no list of SHA-256"),
        ("\xff", "is no list"),
        (f"{'0' * 64}  config.json\n" * 1000, "longer than"),
    ],
)
def test_a_list_that_is_none(folder, text, says):
    (folder / CHECKSUMS_FILE).write_text(text, encoding="latin-1")
    with pytest.raises(BundleError, match=says):
        ModelBundle.load(folder)


def test_the_demos_bundles_are_what_was_exported():
    for name in ("emoji-64", "photographs-64"):
        ModelBundle.load(Path("models") / name)
