"""OpenAPI: what FastAPI cannot know of our routes: problems, links between them, forms, who may ask."""

from __future__ import annotations

import functools
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from movq_core.protocol import CodesDocument, ImageFormat
from service.bodies import FORM
from service.documents import JobDocument
from service.intake import FIELD, MASK, RAW
from service.problems import MEDIA_TYPE, Problem

Responses = dict[int | str, dict[str, Any]]

TEMPLATE = "#/components/schemas/{model}"
DESCRIPTION = """\
Images out of codes: generate them from a class, reconstruct, encode and decode your own, edit them.

`POST /generate`, `/reconstruct`, `/encode`, `/decode` and `/edit` wait and give the thing itself; each
`POST /v1/...` gives a *job* at once, which is followed by `GET /v1/jobs/{id}` or live by its `events`. Every
error is an `application/problem+json` (RFC 9457) whose `code` is stable and whose `detail` is a sentence.
"""
TAGS = [
    {"name": "generations", "description": "Images of a class, or of none."},
    {"name": "edits", "description": "Inpainting, outpainting, variations: part of an image made anew."},
    {"name": "reconstructions", "description": "An image through the tokenizer and back."},
    {"name": "encodings", "description": "An image as its codes."},
    {"name": "decodings", "description": "Codes as an image."},
    {"name": "jobs", "description": "What became of what was asked: state, events, an end."},
    {"name": "blobs", "description": "Images, uploads and codes; a name is the hash of its bytes."},
    {"name": "models", "description": "What is served, with classes and examples."},
    {"name": "openai", "description": "Two routes in OpenAI's shape, where the prompt names a class."},
    {"name": "session", "description": "A browser's way to hold an API key."},
    {"name": "health", "description": "For orchestrators and Prometheus."},
]


def declare(*statuses: int) -> Responses:
    """`responses=` of a route that may answer with these problems."""
    content = {MEDIA_TYPE: {"schema": {"$ref": TEMPLATE.format(model=Problem.__name__)}}}
    retry = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": content,
            **({"headers": retry} if status in (429, 503) else {}),
        }
        for status in statuses
    }


def _to_job(name: str) -> dict[str, Any]:
    return {"operationId": name, "parameters": {"job_id": "$response.body#/id"}}


JOB_LINKS = {name: _to_job(name) for name in ("get_job", "cancel_job", "get_job_events")}
LOCATION = {"Location": {"description": "the job", "schema": {"type": "string"}}}

ACCEPTED: Responses = {
    202: {
        "model": JobDocument,
        "description": "Accepted; `Location` names the job",
        "headers": LOCATION,
        "links": JOB_LINKS,
    },
}
REFUSED = declare(400, 401, 413, 415, 422, 429, 500, 503)
V1_JOB: Responses = {
    200: {"model": JobDocument, "description": "The job is over", "links": JOB_LINKS},
    **ACCEPTED,
    **REFUSED,
}
SHORT: Responses = {**ACCEPTED, **REFUSED, **declare(406, 409)}
SHORT_IMAGE: Responses = {
    200: {
        "content": {
            item.media_type: {"schema": {"type": "string", "format": "binary"}} for item in ImageFormat
        }
    },
    **SHORT,
}


def upload_body() -> dict[str, Any]:
    """requestBody of a route that takes an image, as a form field or as the raw body."""
    form = {"type": "object", "required": [FIELD], "properties": {FIELD: _file("PNG, JPEG or WebP")}}
    raw = {"schema": {"type": "string", "format": "binary"}}
    content = {FORM: {"schema": form}, **{name: raw for name in RAW}}  # noqa: C420 - fromkeys is refused too
    return {"requestBody": {"required": True, "content": content}}


def codes_body() -> dict[str, Any]:
    """requestBody of a route that takes codes."""
    schema = {"$ref": TEMPLATE.format(model=CodesDocument.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def edit_body(fields: type[BaseModel]) -> dict[str, Any]:
    """requestBody of a form of an image, maybe a mask, and `fields`."""
    schema = fields.model_json_schema(ref_template=TEMPLATE)
    schema.pop("$defs", None)  # `declared_models` puts them among the components
    properties = {name: _without_null(field) for name, field in schema["properties"].items()}
    files = {
        FIELD: _file("PNG, JPEG or WebP"),
        MASK: _file("transparent, or white without alpha, is made anew"),
    }
    required = [FIELD, *schema.get("required", [])]
    form = schema | {"properties": {**files, **properties}, "required": required}
    encoding = {name: {"explode": True} for name, field in properties.items() if field.get("type") == "array"}
    return {"requestBody": {"required": True, "content": {FORM: {"schema": form, "encoding": encoding}}}}


def _file(description: str) -> dict[str, Any]:
    return {"type": "string", "format": "binary", "description": description}


def _without_null(field: dict[str, Any]) -> dict[str, Any]:
    """A form has no null: what is not said is left out."""
    options = [option for option in field.get("anyOf", ()) if option.get("type") != "null"]
    if len(options) != 1:
        return field
    rest = {name: value for name, value in field.items() if name not in ("anyOf", "default")}
    only: dict[str, Any] = options[0]
    return only | rest


def install(app: FastAPI, *, keys: bool) -> None:
    """Let `app` describe itself; `keys`: whether it asks for them."""

    app.openapi = functools.cache(lambda: _described(app, keys))  # type: ignore[method-assign]


def _described(app: FastAPI, keys: bool) -> dict[str, Any]:
    document: dict[str, Any] = get_openapi(
        title=app.title,
        version=app.version,
        description=DESCRIPTION,
        routes=app.routes,
        tags=TAGS,
        license_info={"name": "MIT", "identifier": "MIT"},
    )
    schemas = document["components"]["schemas"]
    for model in (Problem, CodesDocument):
        schema = model.model_json_schema(ref_template=TEMPLATE)
        schemas |= schema.pop("$defs", {})
        schemas[model.__name__] = schema
    if not keys:
        _make_auth_optional(document)
    return document


def _make_auth_optional(document: dict[str, Any]) -> None:
    """Where there are no keys, the empty requirement is one more way to meet them."""
    for path in document["paths"].values():
        for operation in path.values():
            if "security" in operation:
                operation["security"] = [*operation["security"], {}]
