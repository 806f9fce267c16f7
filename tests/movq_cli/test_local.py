"""Commands without a server, as they are typed: they make what a worker makes."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from movq_cli.app import app
from movq_core.params import SamplingParams, derived_seed
from movq_core.tiles import decode_tiles, encode_tiles, finish
from tests.service.pictures import gradient
from worker.model_runner import ModelRunner


@pytest.fixture(scope="module")
def bundle(sharp_bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    sharp_bundle.save(folder)
    return folder


@pytest.fixture
def runner(bundle, tmp_path, monkeypatch):
    """A worker's device, with the forms that the commands will find."""
    monkeypatch.setenv("MOVQ_CACHE_DIR", str(tmp_path))
    return ModelRunner(bundle, rows=1, device="cpu", cache_dir=tmp_path)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(image)


def workers_image(runner, class_id, params):
    runner.start(0, class_id, params)
    for step in range(params.steps):
        runner.step([0], [step])
    return runner.finish([0])[0].pixels()


def test_its_images_are_a_workers(bundle, runner, tmp_path):
    out = tmp_path / "two.png"
    told = ["--class", "two", "--seed", 7, "--steps", 5, "--guidance-scale", 2, "-n", 3]
    result = run("generate", *told, "-o", out, "--bundle", bundle)
    assert result.exit_code == 0, result.output
    for index in range(3):
        params = SamplingParams(steps=5, seed=derived_seed(7, index), guidance_scale=2)
        made = pixels_of(tmp_path / f"two-{index}.png")
        assert np.array_equal(made, workers_image(runner, 1, params))
        assert f"two-{index}.png: seed {params.seed}" in result.output.replace("\n", "")


def test_a_seed_that_was_drawn_is_told_and_serves_again(bundle, tmp_path):
    result = run("generate", "--steps", 2, "-o", tmp_path / "a.png", "--bundle", bundle)
    seed = result.output.split()[-1]
    run("generate", "--steps", 2, "--seed", seed, "-o", tmp_path / "b.png", "--bundle", bundle)
    assert np.array_equal(pixels_of(tmp_path / "a.png"), pixels_of(tmp_path / "b.png"))


def test_its_reconstructions_are_a_workers(bundle, runner, tmp_path):
    picture = gradient(77, 35)
    picture.save(tmp_path / "in.png")
    result = run("reconstruct", tmp_path / "in.png", "-o", tmp_path / "back.png", "--bundle", bundle)
    assert result.exit_code == 0, result.output
    factor = runner.manifest.movq.downsampling_factor
    codes = finish(encode_tiles(runner.encode, np.asarray(picture), factor))
    expected = finish(decode_tiles(runner.decode, codes, factor, (35, 77)))
    assert np.array_equal(pixels_of(tmp_path / "back.png"), expected)
    assert "PSNR" in result.output
    assert "bits a pixel" in result.output


def test_models_of_a_folder(bundle):
    result = run("models", "--folder", bundle.parent)
    assert "tiny" in result.output
    assert "generate" in result.output
    assert run("models", "tiny", "--folder", bundle.parent).output.split() == ["class", "one", "two", "three"]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (["generate", "--class", "four"], "allowed are one, two, three"),
        (["generate", "--class-id", "3"], "the model has 3"),
        (["generate", "--class", "one", "--class-id", "1"], "give one of them"),
        (["generate", "--temperature", "9"], "temperature"),
        (["edit", __file__, "--box", "0,0,1,1"], "--server"),
        (["models", "huge"], "there are: tiny"),
    ],
)
def test_what_cannot_be_is_one_sentence(bundle, told, words):
    where = {"generate": ["--bundle", bundle], "models": ["--folder", bundle.parent]}.get(told[0], [])
    result = run(*told, *where)
    assert result.exit_code == 1, result.output
    assert words in result.output.replace("\n", " ")
    assert len(result.output.strip().splitlines()) == 1


def test_a_file_that_is_no_picture_is_refused_before_the_work():
    assert run("generate", "-o", "out.gif").exit_code == 2


def test_a_key_is_shown_once_with_its_entry():
    words = run("keys", "new", "alice").output.split()
    (key,) = [word for word in words if word.startswith("movq_")]
    assert f"alice:{hashlib.sha256(key.encode()).hexdigest()}" in words
    assert run("keys", "new", "alice").output.split() != words
    assert run("keys", "new", "Not a name").exit_code == 2


def test_every_command_has_help_with_an_example():
    for command in [
        "generate",
        "reconstruct",
        "edit",
        "encode",
        "decode",
        "up",
        "train",
        "evaluate",
        "models",
    ]:
        assert f"movq {command} " in run(command, "--help").output
    assert "--install-completion" in run("--help").output


@pytest.mark.parametrize(
    ("typed", "offered"), [("movq re", "reconstruct"), ("movq generate --order ", "confidence\nhalton")]
)
def test_a_shell_completes_commands_and_choices(typed, offered):
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split(" ")) - 1)}
    code = "from movq_cli.app import app; app(prog_name='movq')"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "_MOVQ_COMPLETE": "complete_bash", **words},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.strip() == offered
