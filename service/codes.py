"""Codes at the door: whose they are, whether they are a picture, and where they are kept."""

from __future__ import annotations

from anyio import to_thread

from movq_core.errors import ImageTooLarge, InvalidRequest
from movq_core.manifest import Manifest
from movq_core.protocol import CodesDocument
from service.bodies import read_json
from service.catalog import Bundle
from service.intake import check_whole
from service.schemas import TilingQuery
from service.submission import Caller


async def store_codes(caller: Caller, query: TilingQuery) -> tuple[str, Bundle]:
    """Key of the codes in the body, and the bundle that they belong to. Raises InvalidRequest's kinds."""
    context = caller.context
    document = await read_json(caller.http, CodesDocument)
    bundle = context.catalog.choose(query.model or document.model)
    check_whole(document.height, document.width, query.tiling, context.settings)
    data = await to_thread.run_sync(_checked, document, bundle.manifest, context.settings.max_image_pixels)
    return await context.store_blob("codes", data, "json", caller.owner), bundle


def _checked(document: CodesDocument, manifest: Manifest, max_pixels: int) -> bytes:
    check_codes(document, manifest, max_pixels)
    return document.model_dump_json().encode()


def check_codes(document: CodesDocument, manifest: Manifest, max_pixels: int) -> None:
    """Raises InvalidRequest or ImageTooLarge unless the codes are a picture of this model."""
    movq = manifest.movq
    if document.model != manifest.name:
        raise InvalidRequest(
            f"These codes belong to the model {document.model[:60]!r}; this one is {manifest.name!r}."
        )
    if document.height * document.width > max_pixels:
        raise ImageTooLarge(
            f"{document.height} x {document.width} pixels are too many; at most {max_pixels:,} are taken."
        )
    if len(document.codes) != movq.code_channels:
        raise InvalidRequest(
            f"codes has {len(document.codes)} channels; this model has {movq.code_channels}."
        )
    rows = _cells(document.height, movq.downsampling_factor)
    columns = _cells(document.width, movq.downsampling_factor)
    for channel in document.codes:
        if len(channel) != rows or any(len(row) != columns for row in channel):
            raise InvalidRequest(
                f"{document.height} x {document.width} pixels have {rows} x {columns} codes in each channel; "
                f"this grid has another shape."
            )
        if any(min(row) < 0 or max(row) >= movq.codebook_size for row in channel):
            raise InvalidRequest(f"A code is out of range; allowed are 0 to {movq.codebook_size - 1}.")


def _cells(pixels: int, factor: int) -> int:
    """Cells that cover `pixels`, the last one padded."""
    return -(-pixels // factor)
