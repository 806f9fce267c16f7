"""Commands with --server, as they are typed, against the live service and a stand-in for its worker."""

import json

import pytest
from PIL import Image
from typer.testing import CliRunner

from movq_cli.app import app
from movq_client import Client
from movq_core.protocol import Priority
from tests.service.conftest import base_url, blobs, bundle, manifest, settings, worker
from tests.service.pictures import gradient

__all__ = ["base_url", "blobs", "bundle", "manifest", "settings", "worker"]


@pytest.fixture
def run(base_url, monkeypatch):
    def run(*arguments):
        monkeypatch.setenv("MOVQ_URL", base_url)
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run


@pytest.fixture
def photo(tmp_path):
    gradient(40, 30).save(tmp_path / "photo.jpg")
    return tmp_path / "photo.jpg"


def opened(path):
    with Image.open(path) as image:
        image.load()
        return image


def test_generate(run, worker, tmp_path):
    worker.steps(3)
    told = [
        "--class",
        "hearts",
        "-n",
        2,
        "--seed",
        7,
        "--steps",
        9,
        "--order",
        "halton",
        "--priority",
        "high",
    ]
    result = run("generate", *told, "-o", tmp_path / "heart.webp")
    assert result.exit_code == 0, result.output
    assert "heart-0.webp: seed 7" in result.output.replace("\n", "")
    assert opened(tmp_path / "heart-1.webp").format == "WEBP"
    request = worker.seen[-1]
    assert (request.class_id, request.num_images, request.sampling.steps) == (1, 2, 9)


def test_reconstruct(run, worker, photo, tmp_path):
    result = run("reconstruct", photo, "-o", tmp_path / "back.png", "--tiling", "whole")
    assert "PSNR 27.31 dB" in result.output
    assert opened(tmp_path / "back.png").size == (40, 30)
    assert worker.seen[-1].tiling == "whole"


def test_codes_in_a_json_file_and_back(run, worker, photo, tmp_path):
    result = run("encode", photo, "-o", tmp_path / "codes.json")
    assert "40x30, codes of emoji-64" in result.output.replace("\n", " ")
    assert json.loads((tmp_path / "codes.json").read_text())["width"] == 40
    assert run("decode", tmp_path / "codes.json", "-o", tmp_path / "back.jpg").exit_code == 0
    assert opened(tmp_path / "back.jpg").format == "JPEG"
    (tmp_path / "wrong.json").write_text("{}")
    wrong = run("decode", tmp_path / "wrong.json", "-o", tmp_path / "back.jpg")
    assert wrong.exit_code == 1
    assert "holds no codes" in wrong.output.replace("\n", " ")


def test_edit(run, worker, photo, tmp_path):
    told = ["--box", "0,0,9,9", "--box", "20,20,30,30", "--class", "fruit", "--seed", 3, "--strength", 0.5]
    result = run("edit", photo, *told, "-o", tmp_path / "new.png")
    assert result.exit_code == 0, result.output
    assert "new.png: seed 3" in result.output.replace("\n", "")
    assert opened(tmp_path / "new.png").size == (40, 30)
    assert (worker.seen[-1].class_id, worker.seen[-1].strength) == (2, 0.5)
    assert run("edit", photo, "--box", "1,2,3", "-o", tmp_path / "new.png").exit_code == 2


def test_edit_by_a_mask_alone(run, worker, photo, tmp_path):
    Image.new("L", (40, 30), 255).save(tmp_path / "mask.png")
    result = run("edit", photo, "--mask", tmp_path / "mask.png", "-o", tmp_path / "new.png")
    assert result.exit_code == 0, result.output
    assert worker.seen[-1].mask_key is not None


def test_jobs(run, worker, base_url):
    worker.hold()
    with Client(base_url) as client:
        first = client.start_generation("hearts", priority=Priority.LOW)
        second = client.start_generation("fruit")
    listed = run("jobs", "list").output
    assert listed.index(second.id) < listed.index(first.id)
    assert json.loads(run("jobs", "show", first.id).output)["request"]["class_name"] == "hearts"
    assert "cancelled" in run("jobs", "cancel", second.id).output
    assert second.id not in run("jobs", "list", "--status", "running").output


def test_models(run):
    assert "emoji-64" in run("models").output
    assert "hearts" in run("models", "emoji-64").output.split()


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (["generate", "--class", "unicorns"], "allowed are faces"),
        (["generate", "-n", "5"], "num_images"),
        (["models", "huge"], "huge"),
        (["jobs", "show", "0000"], "0000"),
    ],
)
def test_what_the_server_refuses_is_one_sentence(run, told, words):
    result = run(*told)
    assert result.exit_code == 1, result.output
    assert result.output.startswith("movq ")
    assert words in result.output.replace("\n", " ")
    assert len(result.output.strip().splitlines()) == 1


def test_a_job_that_failed_is_one_sentence(run, worker, tmp_path):
    worker.fail_with = "the poison was in the cup"
    result = run("generate", "--class", "hearts", "-o", tmp_path / "none.png")
    assert result.exit_code == 1
    assert "the poison was in the cup" in result.output.replace("\n", " ")


def test_ctrl_c_cancels_the_job(run, worker, base_url, monkeypatch):
    worker.hold()

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("movq_cli.server.words_of", interrupted)
    result = run("generate", "--class", "hearts")
    assert result.exit_code == 130
    assert "was cancelled" in result.output
    with Client(base_url) as client:
        assert [job.status for job in client.jobs()] == ["cancelled"]
