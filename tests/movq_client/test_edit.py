"""Edits: what the server is asked, in every way that a part of a picture may be named."""

import io

import numpy as np
import PIL.Image
import pytest

import movq_client
from tests.service.pictures import gradient

pytestmark = pytest.mark.usefixtures("worker")


@pytest.fixture
def masked(worker, blobs):
    """Where the last edit makes a picture anew: (h, w) of booleans."""

    def masked():
        key = worker.seen[-1].mask_key
        return np.asarray(PIL.Image.open(io.BytesIO(blobs.get(key)))) > 0

    return masked


def test_a_box_and_all_choices(client, worker, masked):
    images = client.edit(
        gradient(40, 30),
        "fruit",
        box=(8, 4, 20, 10),
        seed=5,
        steps=3,
        num_images=2,
        strength=0.5,
        feather_px=2,
    )
    assert [image.image.size for image in images] == [(40, 30)] * 2
    assert images[0].seed == 5
    request = worker.seen[-1]
    assert (request.class_id, request.strength, request.feather_px, request.sampling.steps) == (2, 0.5, 2, 3)
    assert masked().sum() == 12 * 6
    assert masked()[4:10, 8:20].all()


def test_several_boxes(client, masked):
    client.edit(gradient(40, 30), box=[(0, 0, 2, 2), (10, 10, 12, 12)])
    assert masked().sum() == 8


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_a_mask_white_or_transparent(client, masked, mode):
    mask = PIL.Image.new(mode, (40, 30), "black")
    mask.paste((0, 0, 0, 0) if mode == "RGBA" else 255, (5, 6, 9, 8))
    client.edit(gradient(40, 30), mask=mask)
    assert masked().sum() == 8
    assert masked()[6:8, 5:9].all()


def test_a_margin_is_added(client, masked):
    (wider,) = client.edit(gradient(40, 30), expand=(0, 0, 8, 0))
    assert wider.image.size == (48, 30)
    assert masked()[:, 40:].all()
    assert client.edit(gradient(40, 30), expand=4)[0].image.size == (48, 38)


def test_a_variation_of_the_whole(client, worker):
    client.edit(gradient(), strength=0.25)
    assert worker.seen[-1].mask_key is None
    assert worker.seen[-1].strength == 0.25


def test_nothing_to_do_is_refused(client):
    with pytest.raises(movq_client.InvalidRequest):
        client.edit(gradient())
    with pytest.raises(movq_client.InvalidRequest, match="left"):
        client.edit(gradient(), box=(9, 9, 3, 3))


def test_an_edit_is_watched(client, worker):
    worker.steps(3)
    job = client.start_edit(gradient(40, 30), box=(0, 0, 9, 9), watched=True)
    events = list(job.events())
    assert any(event.preview for event in events)
    assert events[-1].images[0].image.size == (40, 30)
