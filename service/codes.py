"""Codes at the door: whose they are, whether they are a picture, and where they are kept."""

from __future__ import annotations

from movq_core.errors import ImageTooLarge, InvalidRequest
from movq_core.manifest import Manifest
from service.bodies import check_is_json
from service.catalog import Bundle
from service.intake import check_whole
from service.schemas import TilingQuery
from service.submission import Caller
from service.uploads import ReceivedCodes


async def store_codes(caller: Caller, query: TilingQuery) -> tuple[str, Bundle]:
    """Key of the codes in the body, and the bundle that they belong to. Raises InvalidRequest's kinds."""
    context = caller.context
    check_is_json(caller.http)
    codes = await context.uploads.codes(await caller.http.body())
    bundle = context.catalog.choose(query.model or codes.model)
    check_whole(*codes.size, query.tiling, context.settings)
    check_codes(codes, bundle.manifest, context.settings.max_image_pixels)
    return await context.store_blob("codes", codes.document, "json", caller.owner), bundle


def check_codes(codes: ReceivedCodes, manifest: Manifest, max_pixels: int) -> None:
    """Raises InvalidRequest or ImageTooLarge unless the codes are a picture of this model."""
    movq, (height, width) = manifest.movq, codes.size
    if codes.model != manifest.name:
        raise InvalidRequest(
            f"These codes belong to the model {codes.model[:60]!r}; this one is {manifest.name!r}."
        )
    if height * width > max_pixels:
        raise ImageTooLarge(f"{height} x {width} pixels are too many; at most {max_pixels:,} are taken.")
    channels, *grid = codes.shape
    if channels != movq.code_channels:
        raise InvalidRequest(f"codes has {channels} channels; this model has {movq.code_channels}.")
    rows, columns = (_cells(pixels, movq.downsampling_factor) for pixels in codes.size)
    if grid != [rows, columns]:
        raise InvalidRequest(
            f"{height} x {width} pixels have {rows} x {columns} codes in each channel; "
            f"this grid has another shape."
        )
    if codes.least < 0 or codes.most >= movq.codebook_size:
        raise InvalidRequest(f"A code is out of range; allowed are 0 to {movq.codebook_size - 1}.")


def _cells(pixels: int, factor: int) -> int:
    """Cells that cover `pixels`, the last one padded."""
    return -(-pixels // factor)
