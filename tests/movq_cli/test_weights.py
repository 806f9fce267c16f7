"""`movq import` and `movq export`, as they are typed."""

import diffusers
import pytest
import torch
from typer.testing import CliRunner

from movq_cli.app import app
from movq_core.bundle import ModelBundle
from movq_core.config import MOVQ_PRESETS
from movq_core.models.movq import MoVQ
from movq_core.public_weights import write_diffusers
from worker.fakes import TINY


@pytest.fixture
def source(tmp_path):
    torch.manual_seed(0)
    small = {"base_channels": 32, "encoder_blocks": 1, "decoder_blocks": 2, "codebook_size": 64}
    write_diffusers(MoVQ(MOVQ_PRESETS["movqgan-67m"].model_copy(update=small)), tmp_path / "source")
    return tmp_path / "source"


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_there_and_back(source, tmp_path):
    result = run("import", source, "--out", tmp_path / "public")
    assert result.exit_code == 0, result.output
    assert "codes of 1 x 64, f = 8" in result.output
    bundle = ModelBundle.load(tmp_path / "public")
    assert bundle.maskgit is None
    assert bundle.manifest.name == "public"

    result = run("export", tmp_path / "public", "--out", tmp_path / "back", "--layout", "diffusers")
    assert result.exit_code == 0, result.output
    before, after = (diffusers.VQModel.from_pretrained(f) for f in (source, tmp_path / "back"))
    assert all(torch.equal(t, after.state_dict()[n]) for n, t in before.state_dict().items())


def test_a_folder_of_any_name_gives_a_name_for_urls(source, tmp_path):
    assert run("import", source, "--out", tmp_path / "My Model (67M)").exit_code == 0
    assert ModelBundle.load(tmp_path / "My Model (67M)").manifest.name == "my-model-67m"


def test_a_bundle_is_not_written_over_by_accident(source, tmp_path):
    run("import", source, "--out", tmp_path / "public")
    result = run("import", source, "--out", tmp_path / "public")
    assert result.exit_code == 2
    assert "--force" in result.output
    assert run("import", source, "--out", tmp_path / "public", "--force").exit_code == 0


def test_a_wrong_file_is_one_sentence(tmp_path):
    (tmp_path / "weights.ckpt").write_text("not weights")
    result = run("import", tmp_path / "weights.ckpt", "--out", tmp_path / "public")
    assert result.exit_code == 1
    assert "weights.ckpt" in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "public").exists()


def test_four_channels_cannot_be_exported(tmp_path):
    ModelBundle.random(TINY).save(tmp_path / "tiny")
    result = run("export", tmp_path / "tiny", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "one code channel" in result.output
