"""`movq encode` and `movq decode`, as they are typed, with the shipped demo."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from movq_cli.app import app
from movq_cli.pictures import read_picture
from movq_core.bundle import ModelBundle
from movq_core.movq_file import MovqFile
from worker.fakes import TINY

DEMO = Path(__file__).parents[2] / "models" / "emoji-64"
SHEET = Path(__file__).parents[1] / "movq_core" / "heldout.png"  # 16 held-out emoji


@pytest.fixture(scope="module")
def emoji(tmp_path_factory):
    path = tmp_path_factory.mktemp("emoji") / "emoji.png"
    Image.open(SHEET).convert("RGB").crop((0, 0, 64, 64)).save(path)
    return path


@pytest.fixture(scope="module")
def shorter(emoji):
    """The emoji's entropy-coded file."""
    return encode(emoji, "shorter.movq")[1]


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def encode(image, name, *options):
    """The file that `movq encode` wrote, and its path."""
    out = image.with_name(name)
    result = run("encode", image, "--out", out, "--bundle", DEMO, *options)
    assert result.exit_code == 0, result.output
    assert f"{out.stat().st_size} bytes" in result.output
    return MovqFile.from_bytes(out.read_bytes()), out


def decoded(file):
    back = file.with_name("back.png")
    result = run("decode", file, "--out", back, "--bundle", DEMO)
    assert result.exit_code == 0, result.output
    return np.asarray(Image.open(back))


def test_both_forms_hold_the_same_picture_and_the_prior_halves_it(emoji, shorter):
    packed, out = encode(emoji, "packed.movq", "--packed")
    picture = decoded(out)
    assert len(packed.payload) == 4 * 8 * 8 * 9 // 8
    assert len(MovqFile.from_bytes(shorter.read_bytes()).payload) < len(packed.payload) / 2
    assert np.array_equal(decoded(shorter), picture)
    error = picture.astype(float) - read_picture(emoji)
    assert 10 * np.log10(255**2 / (error**2).mean()) > 24.0


def test_another_machines_kernels_read_the_same_codes(shorter):
    """MKL's and torch's oldest kernels round otherwise; the codes' checksum says that nothing came of it."""
    oldest = {"MKL_CBWR": "COMPATIBLE", "ATEN_CPU_CAPABILITY": "default", "OMP_NUM_THREADS": "1"}
    out = shorter.with_name("oldest.png")
    arguments = ["decode", str(shorter), "--out", str(out), "--bundle", str(DEMO)]
    code = f"from movq_cli.app import app; app({arguments})"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, **oldest})


def test_a_class_may_be_named(emoji):
    file, out = encode(emoji, "smiley.movq", "--class", "smiley", "--no-verify")
    assert file.class_id is not None
    assert decoded(out).shape == (64, 64, 3)
    result = run("encode", emoji, "--out", out, "--bundle", DEMO, "--class", "unicorns")
    assert result.exit_code == 2


def test_a_picture_that_no_block_fits(tmp_path):
    Image.open(SHEET).convert("RGB").crop((30, 10, 107, 45)).save(tmp_path / "odd.png")
    file, out = encode(tmp_path / "odd.png", "odd.movq", "--no-verify")
    assert (file.height, file.width, file.shape) == (35, 77, (4, 5, 10))
    assert decoded(out).shape == (35, 77, 3)


def test_what_is_refused_is_one_sentence(emoji, shorter, tmp_path):
    out, data = shorter, shorter.read_bytes()
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
