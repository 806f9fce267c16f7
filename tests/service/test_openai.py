"""The routes of OpenAI's shape, asked by OpenAI's own client."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import httpx
import openai
import pytest

from movq_core.manifest import Manifest
from movq_core.protocol import EditRequest, GenerateRequest
from service.generation import prompted_class
from tests.service.pictures import encoded, gradient, opened
from tests.service.standin import StandIn

PHOTO = ("photo.png", encoded(gradient(40, 30)), "image/png")


@pytest.fixture
def ai(base_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{base_url}/v1", api_key="none", max_retries=0) as ai:
        yield ai


def test_an_image_by_its_url(ai: openai.OpenAI, worker: StandIn) -> None:
    answer = ai.images.generate(prompt="A box of fruit, please", n=2, size="1024x1024", user="x")
    assert answer.data is not None
    assert len(answer.data) == 2
    for image in answer.data:
        assert image.url is not None
        assert opened(httpx.get(image.url).content).size == (64, 64)
    (request,) = worker.seen
    assert isinstance(request, GenerateRequest)
    assert request.class_id == 2


def test_an_image_in_base64(ai: openai.OpenAI, worker: StandIn) -> None:
    answer = ai.images.generate(
        prompt="3",
        model="emoji-64",
        response_format="b64_json",
        output_format="webp",
        extra_body={"seed": 7},
    )
    assert answer.data is not None
    assert opened(base64.b64decode(answer.data[0].b64_json or "")).format == "WEBP"
    (request,) = worker.seen
    assert isinstance(request, GenerateRequest)
    assert (request.class_id, request.sampling.seed) == (3, 7)


def test_an_edit(ai: openai.OpenAI, worker: StandIn) -> None:
    mask = gradient(40, 30).convert("RGBA")
    mask.paste((0, 0, 0, 0), (0, 0, 10, 10))
    answer = ai.images.edit(image=PHOTO, mask=("mask.png", encoded(mask), "image/png"), prompt="hearts")
    assert answer.data is not None
    assert answer.data[0].url is not None
    assert ai.images.edit(image=PHOTO, prompt="hearts").data is not None
    masked, varied = worker.seen
    assert isinstance(masked, EditRequest)
    assert isinstance(varied, EditRequest)
    assert (masked.strength, masked.class_id) == (1.0, 1)
    assert (varied.strength, varied.mask_key) == (0.6, None)


def test_a_prompt_that_names_no_class(ai: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="faces, hearts") as caught:
        ai.images.generate(prompt="a unicorn")
    assert caught.value.code == "bad_request"
    assert caught.value.type == "invalid_request_error"


def test_a_wrong_field(ai: openai.OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        ai.images.generate(prompt="hearts", n=40)
    assert caught.value.param == "n"


def test_the_models(ai: openai.OpenAI) -> None:
    assert [model.id for model in ai.models.list()] == ["emoji-64"]


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("hearts", "hearts"),
        (" Hearts ", "hearts"),
        ("4", "vehicles"),
        ("99", None),
        ("many hearts", "hearts"),
        ("sweethearts", None),
        ("people with food", "people"),
        ("people or plants", None),
        ("", None),
    ],
)
def test_what_prompts_name(manifest: Manifest, prompt: str, name: str | None) -> None:
    class_id = prompted_class(prompt, manifest)
    assert (None if class_id is None else manifest.labels[class_id]) == name


def test_the_longest_name_wins(manifest: Manifest) -> None:
    labels = ("dog", "hot dog", *manifest.labels[2:])
    fond = manifest.model_copy(update={"labels": labels})
    assert prompted_class("a hot dog for my dog", fond) == 1
