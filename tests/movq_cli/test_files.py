"""`movq encode` and `movq decode`, as they are typed, with the shipped demo."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from movq_cli.app import app
from movq_cli.files import read_picture
from movq_core.bundle import ModelBundle
from movq_core.movq_file import MovqFile
from worker.fakes import TINY

DEMO = Path(__file__).parents[2] / "models" / "emoji-64"
SHEET = Path(__file__).parents[1] / "movq_core" / "heldout.png"  # 16 held-out emoji


@pytest.fixture
def emoji(tmp_path):
    Image.open(SHEET).convert("RGB").crop((0, 0, 64, 64)).save(tmp_path / "emoji.png")
    return tmp_path / "emoji.png"


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def encode(image, *options):
    """The file that `movq encode` wrote, and its path."""
    out = image.with_suffix(".movq")
    result = run("encode", image, "--out", out, "--bundle", DEMO, *options)
    assert result.exit_code == 0, result.output
    assert f"{out.stat().st_size} bytes" in result.output
    return MovqFile.from_bytes(out.read_bytes()), out


def decoded(file):
    back = file.with_name("back.png")
    result = run("decode", file, "--out", back, "--bundle", DEMO)
    assert result.exit_code == 0, result.output
    return np.asarray(Image.open(back))


def test_both_forms_hold_the_same_picture_and_the_prior_halves_it(emoji):
    packed, out = encode(emoji, "--packed")
    picture = decoded(out)
    assert len(packed.payload) == 4 * 8 * 8 * 9 // 8
    shorter, out = encode(emoji)
    assert len(shorter.payload) < len(packed.payload) / 2
    assert np.array_equal(decoded(out), picture)
    error = picture.astype(float) - read_picture(emoji)
    assert 10 * np.log10(255**2 / (error**2).mean()) > 24.0


def test_a_class_may_be_named(emoji):
    file, out = encode(emoji, "--class", "smiley")
    assert file.class_id is not None
    assert decoded(out).shape == (64, 64, 3)
    result = run("encode", emoji, "--out", out, "--bundle", DEMO, "--class", "unicorns")
    assert result.exit_code == 2


def test_a_picture_that_no_block_fits(tmp_path):
    Image.open(SHEET).convert("RGB").crop((30, 10, 107, 45)).save(tmp_path / "odd.png")
    file, out = encode(tmp_path / "odd.png")
    assert (file.height, file.width, file.shape) == (35, 77, (4, 5, 10))
    assert decoded(out).shape == (35, 77, 3)


def test_what_is_refused_is_one_sentence(emoji, tmp_path):
    _, out = encode(emoji, "--packed")
    data = out.read_bytes()
    (tmp_path / "cut.movq").write_bytes(data[:-9])
    ModelBundle.random(TINY).save(tmp_path / "tiny")
    png = tmp_path / "out.png"
    for arguments, words in [
        (("decode", emoji, "--out", png, "--bundle", DEMO), "not a .movq file"),
        (("decode", tmp_path / "cut.movq", "--out", png, "--bundle", DEMO), "cut short"),
        (("decode", out, "--out", png, "--bundle", tmp_path / "tiny"), "tiny is"),
        (("decode", out, "--out", png, "--bundle", tmp_path), "is not a bundle"),
        (("encode", out, "--out", tmp_path / "x.movq", "--bundle", DEMO), "cannot identify"),
    ]:
        result = run(*arguments)
        assert result.exit_code == 1, result.output
        assert words in result.output.replace("\n", " ")
        assert len(result.output.strip().splitlines()) == 1


def test_a_picture_is_upright_and_on_white(tmp_path):
    image = Image.new("RGBA", (3, 2), (255, 0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    image.save(tmp_path / "turned.png", exif=exif)
    pixels = read_picture(tmp_path / "turned.png")
    assert pixels.shape == (3, 2, 3)
    assert (pixels == 255).all()


def test_help_and_the_format_import_no_torch():
    heavy = "('torch', 'constriction')"
    code = f"import sys, movq_cli.app, movq_core.movq_file; sys.exit(any(m in sys.modules for m in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
