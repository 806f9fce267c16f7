"""The client and the whole of movq: launcher, Redis, service, and a worker with a model."""

import numpy as np
import pytest

from movq_client import Client
from tests.end_to_end.conftest import launch, tiny_bundle
from tests.service.pictures import gradient

__all__ = ["launch", "tiny_bundle"]

pytestmark = pytest.mark.slow


def test_a_models_image_on_its_way_and_an_edit_that_leaves_the_rest(launch):
    stack = launch()
    with Client(stack.url) as client:
        events = list(client.generate_iter("two", steps=40, seed=7, num_images=4))
        assert {event.preview.mode for event in events if event.preview} == {"RGBA"}
        assert [event.progress for event in events if event.type == "step"][-1] == 1.0
        images = events[-1].images
        assert [image.data for image in client.generate("two", steps=40, seed=7, num_images=4)] == [
            image.data for image in images
        ]

        picture = gradient(64, 48)
        (edited,) = client.edit(picture, "one", box=(24, 16, 40, 32), feather_px=2, seed=1, steps=4)
        before, after = np.asarray(picture), np.asarray(edited.image)
        changed = (before != after).any(axis=2)
        assert changed[16:32, 24:40].any()
        changed[14:34, 22:42] = False
        assert not changed.any()

        codes = client.encode(picture)
        assert client.decode(codes).image.size == (64, 48)
        assert [job.document.kind for job in client.jobs(limit=2)] == ["decode", "encode"]
