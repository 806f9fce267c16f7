"""Bodies: forms of our own reading, judged by pydantic as FastAPI judges its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from movq_core.errors import ImageTooLarge, InvalidRequest

FORM = "multipart/form-data"
MAX_FORM_FIELDS = 128
MAX_FIELD_BYTES = 64 * 1024

Model = TypeVar("Model", bound=BaseModel)


class InvalidBody(RequestValidationError):
    """A body that its model refused, with pydantic's errors; `fields` are those that it would have taken."""

    def __init__(self, errors: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> None:
        super().__init__([{**item, "loc": ("body", *item["loc"])} for item in errors])
        self.fields = fields


def media_type_of(http: Request) -> str:
    """What the body claims to be, without parameters."""
    return http.headers.get("content-type", "").partition(";")[0].strip().lower()


def check_is_json(http: Request) -> None:
    """Raises HTTPException 415 unless the body claims to be JSON."""
    declared = media_type_of(http)
    if declared != "application/json" and not declared.endswith("+json"):
        raise HTTPException(415, "Send a JSON body with `content-type: application/json`.")


def read_fields(form: FormData, model: type[Model], files: Sequence[str]) -> Model:
    """The text fields of `form` as `model`, which makes numbers of them; `files` are not for it.

    Raises InvalidBody, InvalidRequest. A field of the model that is a list may be repeated.
    """
    fields: dict[str, Any] = {}
    for name in form:
        values = [value for value in form.getlist(name) if isinstance(value, str)]
        if name in files or not values:
            continue
        known = model.model_fields.get(name)
        if known is not None and isinstance(known.get_default(call_default_factory=True), list):
            fields[name] = values
        elif len(values) > 1:
            raise InvalidRequest(f"The field {name[:60]!r} is given {len(values)} times; give it once.")
        else:
            fields[name] = values[0]
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise InvalidBody(error.errors(include_url=False), [*files, *model.model_fields]) from error


async def read_file(form: FormData, name: str, max_bytes: int) -> bytes | None:
    """Bytes of the file field `name`; None without one. Raises InvalidRequest, ImageTooLarge."""
    values = form.getlist(name)
    if not values:
        return None
    if len(values) > 1:
        raise InvalidRequest(f"The form has {len(values)} fields {name!r}; one is taken.")
    (upload,) = values
    if not isinstance(upload, UploadFile):
        raise InvalidRequest(f"The field {name!r} must be a file, as in `-F {name}=@photo.png`.")
    data = await upload.read()
    if len(data) > max_bytes:
        raise ImageTooLarge(f"The file {name!r} has {len(data):,} bytes; at most {max_bytes:,} are taken.")
    return data
