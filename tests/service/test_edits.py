"""POST /edit and /v1/edits: what is sent, and what of it the worker sees."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from movq_core.errors import ImageTooLarge, InvalidRequest
from movq_core.protocol import EditRequest
from service.schemas import EditFields
from service.uploads import Uploads
from tests.service.pictures import encoded, gradient, opened
from tests.service.standin import StandIn, known_jobs

PHOTO = encoded(gradient(40, 30))
MAX_PIXELS = 4096 * 4096


def mask_of(width: int = 40, height: int = 30, mode: str = "L") -> Image.Image:
    """White, or transparent, in the left upper quarter."""
    if mode == "L":
        image = Image.new("L", (width, height), 0)
        image.paste(255, (0, 0, width // 2, height // 2))
        return image
    image = Image.new("RGBA", (width, height), (9, 9, 9, 255))
    image.paste((9, 9, 9, 0), (0, 0, width // 2, height // 2))
    return image


Made = Callable[..., tuple[np.ndarray, np.ndarray | None]]


@pytest.fixture
def made(uploads_of: Callable[[int], Uploads]) -> Made:
    def make(
        *, image: bytes = PHOTO, mask: bytes | None = None, max_pixels: int = MAX_PIXELS, **fields: Any
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Pixels of the image, and where it is made anew."""
        result = asyncio.run(uploads_of(max_pixels).edit(image, mask, EditFields(**fields)))
        anew = None if result.mask is None else np.asarray(opened(result.mask.png))
        assert anew is None or set(np.unique(anew)) <= {0, 255}
        return np.asarray(opened(result.image.png)), None if anew is None else anew == 255

    return make


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_a_mask_is_white_or_transparent(made: Made, mode: str) -> None:
    image, anew = made(mask=encoded(mask_of(mode=mode)))
    assert np.array_equal(image, np.asarray(gradient(40, 30)))
    expected = np.zeros((30, 40), bool)
    expected[:15, :20] = True
    assert np.array_equal(anew, expected)


def test_an_opaque_alpha_says_nothing(made: Made) -> None:
    _, anew = made(mask=encoded(mask_of().convert("RGBA")))
    assert anew is not None
    assert anew.sum() == 15 * 20


def test_grey_counts_from_the_middle(made: Made) -> None:
    mask = Image.fromarray(np.array([[127, 128]], np.uint8))
    _, anew = made(image=encoded(gradient(2, 1)), mask=encoded(mask))
    assert anew is not None
    assert anew.tolist() == [[False, True]]


def test_boxes_are_joined_with_the_mask_and_cut_at_the_edge(made: Made) -> None:
    _, anew = made(mask=encoded(mask_of()), box=["30,20,100,100", "0,0,5,5"])
    assert anew is not None
    assert anew.sum() == 15 * 20 + 10 * 10
    assert anew[29, 39]


def test_expand_repeats_the_edge_and_fills_the_margin(made: Made) -> None:
    image, anew = made(expand="3,2,1,0")
    assert anew is not None
    assert image.shape == (32, 44, 3)
    assert np.array_equal(image[2:, 3:-1], np.asarray(gradient(40, 30)))
    assert np.array_equal(image[0, 3:-1], image[2, 3:-1])
    assert np.array_equal(image[2:, 0], image[2:, 3])
    assert not anew[2:, 3:-1].any()
    assert anew.sum() == 32 * 44 - 30 * 40


def test_a_variation_has_no_mask(made: Made) -> None:
    assert made(strength=0.5)[1] is None


def test_a_mask_is_turned_as_its_image_is(made: Made) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = encoded(gradient(40, 30), "JPEG", exif=exif)  # upright: 30 x 40
    pixels, anew = made(image=image, mask=encoded(mask_of(30, 40)))
    assert pixels.shape[:2] == (40, 30)
    assert anew is not None
    assert anew.shape == (40, 30)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({}, InvalidRequest, "Nothing says what to edit"),
        ({"mask": encoded(Image.new("L", (40, 30)))}, InvalidRequest, "The mask is empty"),
        ({"box": ["40,0,50,10"]}, InvalidRequest, "boxes must lie in the image"),
        ({"mask": encoded(mask_of(30, 40))}, InvalidRequest, "30 x 40 pixels, the image 40 x 30"),
        ({"mask": b"no picture"}, InvalidRequest, "not an image that we know"),
        ({"expand": "0,0,100,0", "max_pixels": 2000}, ImageTooLarge, "140 x 30 pixels; at most 2,000"),
    ],
)
def test_what_cannot_be_edited(
    made: Made, arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        made(**arguments)


def test_an_edit_from_form_to_image(client: httpx.Client, worker: StandIn) -> None:
    files = {"image": ("a.png", PHOTO), "mask": ("mask.png", encoded(mask_of(mode="RGBA")))}
    data = {"class_name": "hearts", "steps": "5", "seed": "7", "box": ["1,2,3,4", "5,6,9,9"]}
    answer = client.post("/v1/edits", data=data, files=files, headers={"prefer": "wait=10"})
    assert answer.status_code == 200, answer.text
    job = answer.json()
    assert (job["kind"], job["status"]) == ("edit", "succeeded")
    assert (job["request"]["class_id"], job["request"]["steps"], job["seeds"]) == (1, 5, [7])
    assert opened(client.get(job["links"]["image"]).content).size == (40, 30)
    assert opened(client.get(job["links"]["mask"]).content).mode == "L"
    assert opened(client.get(job["images"][0]).content).size == (40, 30)
    (request,) = worker.seen
    assert isinstance(request, EditRequest)
    assert (request.strength, request.feather_px) == (1.0, 8)


def test_the_short_face_gives_the_image(client: httpx.Client, worker: StandIn) -> None:
    answer = client.post(
        "/edit", data={"strength": "0.4"}, files={"image": PHOTO}, headers={"accept": "image/webp"}
    )
    assert answer.status_code == 200, answer.text
    assert opened(answer.content).format == "WEBP"


@pytest.mark.parametrize(
    ("data", "pointer", "says"),
    [
        ({"steps": "many"}, "/steps", "valid integer"),
        ({"steps": "65"}, "/steps", "less than or equal to 64, but was '65'"),
        ({"box": "1,2,3"}, "/box/0", "left,top,right,bottom"),
        ({"box": "9,9,3,20"}, "/box/0", "left must be less than right"),
        ({"expand": "0,0,0,0"}, "/expand", "by a pixel at least"),
        ({"strength": "0"}, "/strength", "greater than 0"),
        ({"colour": "red"}, "/colour", "allowed are image, mask, steps"),
        ({"webhook_url": "http://example.org/"}, "/webhook_url", "'https'"),
    ],
)
def test_wrong_fields_are_pointed_at(
    client: httpx.Client, redis_url: str, data: dict[str, str], pointer: str, says: str
) -> None:
    answer = client.post("/v1/edits", data=data, files={"image": PHOTO})
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["pointer"] == pointer
    assert says in error["detail"]
    assert known_jobs(redis_url) == 0


@pytest.mark.parametrize(
    ("options", "status", "says"),
    [
        ({"json": {}}, 415, "multipart/form-data"),
        ({"files": {"mask": PHOTO}}, 422, "no file field 'image'"),
        ({"files": {"image": PHOTO}, "data": {"mask": "white"}}, 422, "'mask' must be a file"),
        ({"files": {"image": PHOTO}, "data": {"steps": ["1", "2"]}}, 422, "given 2 times; give it once"),
        ({"files": {"image": PHOTO}}, 422, "Nothing says what to edit"),
    ],
)
def test_forms_that_are_refused(
    client: httpx.Client, redis_url: str, options: dict[str, Any], status: int, says: str
) -> None:
    answer = client.post("/v1/edits", **options)
    assert answer.status_code == status
    assert says in answer.json()["detail"]
    assert known_jobs(redis_url) == 0
