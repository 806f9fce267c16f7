"""Figures of images: known values, and the running of a tokenizer, a prior and a pair of folders."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from movq_core.bundle import ModelBundle
from movq_core.errors import InvalidRequest
from movq_core.training.evaluate import evaluate_reconstruction
from movq_core.training.evaluation.code_counts import CodeCounts
from movq_core.training.evaluation.features import EncoderFeatures, InceptionFeatures
from movq_core.training.evaluation.figures import Figure, table, write_json
from movq_core.training.evaluation.inception import FIDInception
from movq_core.training.evaluation.measures import Measures, WeightsPaths
from movq_core.training.evaluation.order import EvaluationOrder
from movq_core.training.evaluation.pictures import Pictures, View
from movq_core.training.evaluation.similarity import Similarity, ms_ssim, ms_ssim_scales
from movq_core.training.evaluation.subjects import (
    distribution_figures,
    evaluate_tokenizer,
    paired_figures,
    reconstruct_images,
    sample_images,
)
from movq_core.training.evaluation.weights_file import WeightsError
from movq_core.training.image_file import UnreadableImage, UnusableData
from worker.fakes import TINY


@pytest.fixture(scope="module")
def bundle():
    return ModelBundle.random(TINY)


def noise(count, height=24, width=24, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8)


def write(folder, images, suffix=".png"):
    folder.mkdir(exist_ok=True)
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index}{suffix}")
    return folder


def by_name(figures):
    return {figure.name: figure for figure in figures}


def test_psnr_is_known_and_of_equal_images_none():
    images = torch.full((2, 3, 16, 16), 100.0)
    similarity = Similarity(16)
    similarity.add(images + torch.tensor([1.0, 10.0])[:, None, None, None], images)
    figures = by_name(similarity.figures())
    assert figures["PSNR"].value == pytest.approx((20 * np.log10(255) + 20 * np.log10(25.5)) / 2)
    assert figures["LPIPS"].value is None
    assert "--lpips-weights" in figures["LPIPS"].note
    assert figures["MS-SSIM"].value is None
    similarity.add(images, images)
    equal = by_name(similarity.figures())["PSNR"]
    assert equal.value is None
    assert equal.note == "infinite: 2 of 4 pairs are equal"


def test_ms_ssim_takes_as_many_scales_as_fit_and_says_so():
    sides = {5: 0, 11: 1, 16: 1, 22: 2, 44: 3, 64: 3, 99: 4, 175: 4, 176: 5, 256: 5}
    assert {side: ms_ssim_scales(side) for side in sides} == sides
    for side, scales in sides.items():
        if scales:
            images = torch.rand(2, 3, side, side) * 255.0
            assert ms_ssim(images, images, scales).tolist() == pytest.approx([1.0, 1.0])
    similarity = Similarity(64)
    similarity.add(torch.zeros(1, 3, 64, 80), torch.zeros(1, 3, 64, 80))
    assert "MS-SSIM of 3 scales" in by_name(similarity.figures())


def test_codes_are_counted():
    counts = CodeCounts(TINY.movq)  # 32 codes
    counts.add(torch.tensor([0, 1, 2, 3]).reshape(1, 1, 2, 2), pixels=16)
    figures = by_name(counts.figures())
    assert figures["codebook used"].value == 4 / 32
    assert figures["code entropy"].value == pytest.approx(2.0)
    assert figures["code perplexity"].value == pytest.approx(4.0)
    assert figures["bits a pixel, packed"].value == pytest.approx(4 * 5 / 16)
    assert figures["bits a pixel, by entropy"].value == pytest.approx(4 * 2 / 16)


def test_json_holds_no_infinity_and_the_table_no_missing_number(tmp_path):
    figures = [Figure("a", 1.5, "dB"), Figure("b", float("inf")), Figure("c", None, "", "why")]
    write_json(tmp_path / "f.json", {"of": "x"}, {"group": figures})
    read = json.loads((tmp_path / "f.json").read_text())
    assert read["figures"]["group"]["b"]["value"] is None
    assert read["figures"]["group"]["a"] == {"value": 1.5, "unit": "dB", "note": ""}
    assert table("t", figures).row_count == 3


def test_pictures_are_seen_as_squares_or_whole(tmp_path):
    write(tmp_path / "in", [*noise(2, 20, 30), *noise(3, 20, 20)])
    whole = Pictures.open(tmp_path / "in", View.WHOLE, 16)
    assert [tuple(batch.shape) for batch in whole.batches(2)] == [
        (2, 3, 20, 30),
        (2, 3, 20, 20),
        (1, 3, 20, 20),
    ]
    assert whole.smallest_side == 20
    assert torch.equal(whole.read("0"), torch.from_numpy(noise(2, 20, 30)[0]).permute(2, 0, 1).float())
    for view in (View.CROP, View.PAD):
        squares = Pictures.open(tmp_path / "in", view, 16)
        assert [tuple(batch.shape) for batch in squares.batches(4)] == [(4, 3, 16, 16), (1, 3, 16, 16)]
        assert squares.smallest_side == 16
    exact = Pictures.open(tmp_path / "in", View.CROP, 20)
    assert torch.equal(exact.read("2"), whole.read("2"))  # what has the size already stays as it is


def test_pictures_that_cannot_be_measured_are_named(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(UnusableData, match="no images"):
        Pictures.open(tmp_path / "in", View.CROP, 16)
    (tmp_path / "in" / "broken.png").write_bytes(b"not a picture")
    broken = Pictures.open(tmp_path / "in", View.WHOLE, 16)
    with pytest.raises(UnreadableImage, match=r"broken\.png"):
        list(broken.batches(2))
    with pytest.raises(UnreadableImage, match=r"broken\.png"):
        _ = broken.smallest_side
    write(tmp_path / "twice", noise(1), ".png")
    write(tmp_path / "twice", noise(1), ".jpg")
    with pytest.raises(UnusableData, match="one name"):
        Pictures.open(tmp_path / "twice", View.WHOLE, 16)


def test_a_tokenizers_figures_are_those_of_the_trainer(bundle, tmp_path):
    images = noise(5, 16, 16)
    pictures = Pictures.open(write(tmp_path / "in", images), View.CROP, 16)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1.0
    known = evaluate_reconstruction(bundle.movq, pixels)
    measured = evaluate_tokenizer(bundle.movq, pictures, Measures(batch_size=2))
    figures = by_name(measured.figures)
    assert figures["PSNR"].value == pytest.approx(known.psnr_db, rel=1e-5)
    assert figures["SSIM"].value == pytest.approx(known.ssim, rel=1e-4, abs=1e-6)
    assert figures["codebook used"].value == pytest.approx(known.codebook_used)
    assert figures["rFID"].value is None
    assert "--inception-weights" in figures["rFID"].note
    assert measured.real is None


def test_whole_images_of_any_size_come_back_at_theirs(bundle):
    images = torch.full((2, 3, 19, 30), 200.0)
    copies, codes = reconstruct_images(bundle.movq, images)
    assert copies.shape == images.shape
    assert codes.shape == (2, TINY.movq.code_channels, 5, 8)
    assert torch.equal(copies, copies.round())


def test_samples_take_the_classes_in_turn_and_are_the_same_again(bundle):
    first, again = (torch.cat(list(sample_images(bundle, 4))) for _ in range(2))
    assert first.shape == (4, 3, 16, 16)
    assert torch.equal(first, again)
    assert 0.0 <= first.min() <= first.max() <= 255.0


def test_figures_of_a_stand_in_never_bear_a_published_name(bundle):
    measures = Measures(network=EncoderFeatures(bundle.movq, "abc"))
    a, b = torch.randn(2, 20, TINY.movq.z_channels)
    for reconstructed in (False, True):
        for figure in distribution_figures(measures, a, b, reconstructed):
            assert figure.name.endswith("(movq encoder features)")
            assert "FID" not in figure.name


def test_figures_of_the_inception_bear_theirs():
    with torch.device("meta"):
        network = FIDInception()
    network.fc = nn.Linear(16, 1008)  # all that IS needs of it
    measures = Measures(network=InceptionFeatures(network))
    a, b = torch.rand(2, 5, 16)
    generated = by_name(distribution_figures(measures, a, b))
    assert list(generated) == ["FID", "KID", "precision", "recall", "IS"]
    assert "fewer images than features" in generated["FID"].note
    assert list(by_name(distribution_figures(measures, a, b, reconstructed=True))) == ["rFID"]
    few = by_name(distribution_figures(measures, a[:3], b))
    assert few["precision"].value is None


def test_pairs_are_found_by_name_and_must_be_of_one_size(tmp_path):
    real = Pictures.open(write(tmp_path / "real", noise(3)), View.WHOLE, 16)
    images = np.clip(noise(2).astype(int) + 1, 0, 255).astype(np.uint8)
    copies = Pictures.open(write(tmp_path / "copies", images, ".bmp"), View.WHOLE, 16)
    figures = by_name(paired_figures(real, copies, Measures()))
    assert figures["pairs"].value == 2
    assert 48.0 < figures["PSNR"].value < 48.3
    other = Pictures.open(write(tmp_path / "other", noise(3, 24, 32)), View.WHOLE, 16)
    with pytest.raises(UnusableData, match="another size"):
        paired_figures(real, other, Measures())


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"images": "a"},
        {"bundle": "b", "images": "a", "generated": "c"},
        {"bundle": "b", "images": "a", "real": "c"},
        {"generated": "a"},
        {"real": "a", "generated": "b", "samples": 3},
        {"generated": "a", "reference": "r.npz", "save_statistics": "s.npz"},
    ],
)
def test_what_does_not_go_together_is_said(wanted):
    with pytest.raises(InvalidRequest, match="--"):
        EvaluationOrder(**wanted).check()


def test_a_folder_without_any_weights_is_said_to_be_one(tmp_path):
    with pytest.raises(WeightsError, match=r"vgg16-397923af\.pth, .*inception"):
        WeightsPaths(folder=tmp_path).check()
