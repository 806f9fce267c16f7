"""Commands without a server, as they are typed: they make what a worker makes."""

import asyncio
import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps
from typer.testing import CliRunner

from movq_cli.app import app
from movq_core.blobs import BlobStore
from movq_core.bundle import ModelBundle
from movq_core.params import SamplingParams, derived_seed
from movq_core.protocol import EditRequest
from movq_core.tiles import decode_tiles, encode_tiles, finish
from service.schemas import EditFields
from tests.end_to_end.conftest import launch, tiny_bundle
from tests.service.pictures import gradient, srgb_profile
from tests.worker.test_edits import edited
from worker.images import decode_image
from worker.metrics import WorkerMetrics
from worker.model_runner import ModelRunner
from worker.pool import ImagePool

__all__ = ["launch", "tiny_bundle"]


@pytest.fixture(scope="module")
def bundle(sharp_bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    sharp_bundle.save(folder)
    return folder


@pytest.fixture
def runner(bundle, tmp_path, monkeypatch):
    """A worker's device, with the forms that the commands will find."""
    monkeypatch.setenv("MOVQ_CACHE_DIR", str(tmp_path))
    return ModelRunner(bundle, rows=4, device="cpu", cache_dir=tmp_path)


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """A folder, where the commands run: a phone's photo, upright 60 x 90, and masks of it.

    An oval of them is transparent, or white on black.
    """
    exif = Image.Exif()
    exif[0x0112] = 6
    gradient(90, 60).save(tmp_path / "photo.jpg", exif=exif, icc_profile=srgb_profile(), quality=95)
    oval = Image.new("L", (60, 90))
    ImageDraw.Draw(oval).ellipse((10, 20, 40, 50), fill=255)
    oval.save(tmp_path / "white.png")
    transparent = Image.new("RGBA", oval.size, "white")
    transparent.putalpha(ImageOps.invert(oval))
    transparent.save(tmp_path / "transparent.png")
    Image.new("L", oval.size).save(tmp_path / "empty.png")
    Image.new("L", (61, 90), 255).save(tmp_path / "other.png")
    (tmp_path / "none.png").write_text("no picture")
    monkeypatch.chdir(tmp_path)
    return tmp_path


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


def servers_edit(uploads, runner, folder, request, mask=None, **fields):
    """The images that leave a server's door and its worker, of the same files; `request` without its keys."""
    fields = EditFields(**fields)
    mask = mask and (folder / mask).read_bytes()
    made = asyncio.run(uploads.edit((folder / "photo.jpg").read_bytes(), mask, fields))
    blobs = BlobStore(str(folder / "blobs"))
    pool = ImagePool(blobs, runner.manifest, WorkerMetrics(), threads=1)
    keys = {
        "image_key": blobs.put("uploads", made.image.png, "png"),
        "mask_key": made.mask and blobs.put("uploads", made.mask.png, "png"),
    }
    params = {"strength": fields.strength, "feather_px": fields.feather_px}
    output = edited(runner, pool, EditRequest(**request, **params, **keys))
    pool.close()
    return [decode_image(blobs.get(key)) for key in output.image_keys]


@pytest.mark.parametrize(
    "fields",
    [
        {"box": ["10,20,30,60"]},
        {"box": ["0,0,9,9", "50,70,99,99"], "feather_px": 0},
        {"mask": "transparent.png"},
        {"mask": "white.png", "feather_px": 3},
        {"expand": "30,0,7,5"},
        {"strength": 0.3},
        {"mask": "white.png", "box": ["50,0,60,4"], "expand": "0,8,0,0", "strength": 0.7},
    ],
    ids=["box", "boxes", "transparent", "white", "expand", "variation", "all of them"],
)
@pytest.mark.parametrize("num_images", [1, 3])
def test_its_edits_are_a_servers(uploads, bundle, runner, pictures, fields, num_images):  # noqa: PLR0917
    told = ["--seed", 5, "--steps", 4, "--guidance-scale", 2, "--class", "two", "-n", num_images]
    for name, value in fields.items():
        for one in value if name == "box" else [value]:
            told += [f"--{name.replace('_', '-')}", one]
    result = run("edit", "photo.jpg", *told, "-o", "new.png", "--bundle", bundle)
    assert result.exit_code == 0, result.output
    sampling = SamplingParams(seed=5, steps=4, guidance_scale=2)
    request = {"num_images": num_images, "sampling": sampling, "class_id": 1}
    expected = servers_edit(uploads, runner, pictures, request, **fields)
    assert len(expected) == num_images
    for index, pixels in enumerate(expected):
        name = "new.png" if num_images == 1 else f"new-{index}.png"
        assert np.array_equal(pixels_of(name), pixels)
        assert f"{name}: seed {derived_seed(5, index)}" in result.output


@pytest.mark.slow
def test_its_edits_are_a_whole_stacks(launch, pictures, monkeypatch):
    stack = launch()
    monkeypatch.setenv("MOVQ_CACHE_DIR", str(stack.data_dir / "cache"))
    told = ["photo.jpg", "--mask", "white.png", "--expand", "9,0,0,9", "--class", "two", "--seed", 5, "-n", 2]
    here = run("edit", *told, "-o", "here.png", "--bundle", stack.model_dir)
    there = run("edit", *told, "-o", "there.png", "--server", stack.url)
    assert here.exit_code == there.exit_code == 0, here.output + there.output
    assert there.output == here.output.replace("here-", "there-")
    for index in range(2):
        assert np.array_equal(pixels_of(f"here-{index}.png"), pixels_of(f"there-{index}.png"))


def test_an_edit_leaves_what_is_beyond_the_feather(bundle, tmp_path):
    picture = gradient(90, 70)
    picture.save(tmp_path / "in.png")
    told = ["--box", "20,30,50,60", "--feather-px", 2, "-o", tmp_path / "new.png"]
    assert run("edit", tmp_path / "in.png", *told, "--bundle", bundle).exit_code == 0
    changed = (pixels_of(tmp_path / "new.png") != np.asarray(picture)).any(axis=2)
    assert changed[30:60, 20:50].any()
    changed[28:62, 18:52] = False
    assert not changed.any()


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ([], "Nothing says what to edit"),
        (["--box", "60,0,70,9"], "boxes must lie in the image"),
        (["--mask", "empty.png"], "The mask is empty"),
        (["--mask", "other.png"], "The mask has 61 x 90 pixels, the image 60 x 90"),
        (["--mask", "none.png"], "cannot identify image file"),
        (["--strength", "2"], "strength: Input should be less than or equal to 1, but was 2.0"),
        (["--strength", "0.5", "--feather-px", "999"], "feather_px"),
        (["--expand", "0,0,99999,9999"], "Expanded, the image would have 100059 x 10089 pixels"),
        (["--box", "0,0,9,9", "--class", "four"], "allowed are one, two, three"),
    ],
)
def test_what_cannot_be_edited_is_one_sentence(bundle, pictures, told, words):
    result = run("edit", pictures / "photo.jpg", *told, "--bundle", bundle)
    assert result.exit_code == 1, result.output
    assert words in result.output.replace("\n", " ")
    assert len(result.output.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (["--box", "1,2,3"], "give four numbers of pixels"),
        (["--box", "-1,0,3,3"], "give four numbers of pixels"),
        (["--box", "9,9,3,20"], "left must be less than right"),
        (["--expand", "0,0,0,0"], "by a pixel at least"),
    ],
)
def test_edges_that_are_none(pictures, told, words):
    result = run("edit", "photo.jpg", *told)
    assert result.exit_code == 2
    assert words in " ".join(result.output.replace("│", "").split())


def test_a_tokenizer_alone_does_not_edit(sharp_bundle, pictures):
    manifest = sharp_bundle.manifest.model_copy(update={"maskgit": None})
    ModelBundle(manifest, sharp_bundle.movq, None).save(pictures / "tokenizer")
    result = run("edit", "photo.jpg", "--box", "0,0,9,9", "--bundle", "tokenizer")
    assert result.exit_code == 1
    assert "has no prior" in result.output


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
