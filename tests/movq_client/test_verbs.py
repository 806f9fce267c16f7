"""Every verb of both clients, against the live service."""

import numpy as np
import pytest

import movq_client
from movq_client import Codes
from movq_core.params import derived_seed
from tests.service.pictures import encoded, gradient, opened

pytestmark = pytest.mark.usefixtures("worker")


def test_images_of_a_class(client, worker, tmp_path):
    images = client.generate("hearts", num_images=2, seed=7, steps=5, order="halton", model=None)
    assert [image.seed for image in images] == [7, derived_seed(7, 1)]
    assert {image.image.size for image in images} == {(64, 64)}
    request = worker.seen[-1]
    assert (request.class_id, request.sampling.steps, request.sampling.order) == (1, 5, "halton")

    images[0].save(tmp_path / "same.png")
    assert (tmp_path / "same.png").read_bytes() == images[0].data
    images[0].save(tmp_path / "other.jpg")
    assert opened((tmp_path / "other.jpg").read_bytes()).format == "JPEG"
    assert opened(images[0]._repr_png_()).size == (64, 64)


def test_its_url_is_where_it_is(client, base_url):
    (image,) = client.generate(class_id=0, format="webp")
    assert image.url.startswith(f"{base_url}/v1/images/")
    assert image.image.format == "WEBP"


def test_a_photograph_whatever_it_is(client, tmp_path):
    picture = gradient(40, 30)
    (tmp_path / "photo.jpg").write_bytes(encoded(picture, "JPEG"))
    given = [
        tmp_path / "photo.jpg",
        str(tmp_path / "photo.jpg"),
        encoded(picture),
        picture,
        picture.convert("CMYK"),
        np.asarray(picture),
    ]
    for one in given:
        result = client.reconstruct(one)
        assert result.image.size == (40, 30)
        assert (result.psnr_db, result.ssim) == (27.31, 0.871)
        assert result.codes_bytes * 8 == pytest.approx(result.bits_per_pixel * 1200, abs=8)


def test_what_is_no_picture(client):
    with pytest.raises(movq_client.InvalidRequest, match="int is no picture"):
        client.reconstruct(3)
    with pytest.raises(FileNotFoundError):
        client.reconstruct("nowhere.png")
    with pytest.raises(movq_client.InvalidRequest) as caught:
        client.reconstruct(b"not an image")
    assert caught.value.code == "invalid_image"


def test_to_codes_and_back(client, tmp_path):
    codes = client.encode(gradient(40, 30))
    assert (codes.height, codes.width) == (30, 40)
    assert np.array(codes.codes).shape == (4, 4, 5)
    codes.save(tmp_path / "codes.json")
    assert Codes.load(tmp_path / "codes.json") == codes
    assert client.decode(codes).image.size == (40, 30)


def test_models_and_classes(client):
    (model,) = client.models()
    assert model.name == "emoji-64"
    assert "generate" in model.tasks
    assert [c.name for c in client.classes()] == [c.name for c in client.classes("emoji-64")]
    assert client.classes()[1].name == "hearts"
    with pytest.raises(movq_client.NotFound, match="nothing"):
        client.classes("nothing")


def test_a_job_is_found_again(client):
    started = client.start_generation("fruit", num_images=2, seed=3)
    again = client.job(started.id)
    images = again.wait()
    assert again.status == "succeeded"
    assert [image.seed for image in images] == [3, derived_seed(3, 1)]
    assert started.refresh().status == "succeeded"
    assert started.wait(0)[0].data == images[0].data


def test_each_kind_of_job(client):
    picture = gradient()
    codes = client.start_encoding(picture).wait()
    assert codes.width == 40
    assert client.start_decoding(codes).wait().image.size == (40, 30)
    assert client.start_reconstruction(picture).wait().psnr_db == 27.31
