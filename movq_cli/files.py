"""`movq encode`, `movq decode`: a picture to a `.movq` file, and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from movq_cli.outcome import one_sentence

if TYPE_CHECKING:
    from movq_core.codec import Codec
    from movq_core.tiles import Pixels

DEMO = Path("models/emoji-64")
AUTO = "auto"


def encode(
    image: Annotated[Path, typer.Argument(help="a picture that Pillow opens", dir_okay=False, exists=True)],
    out: Annotated[Path, typer.Option(help="the .movq file to write")],
    bundle: Annotated[Path, typer.Option(help="the bundle's folder")] = DEMO,
    entropy: Annotated[
        bool, typer.Option("--entropy/--packed", help="let the prior shorten it, or log2 K bits a code")
    ] = True,
    class_name: Annotated[
        str | None, typer.Option("--class", help="what it shows; `auto` tries all classes and none")
    ] = None,
    verify: Annotated[bool, typer.Option(help="decode once, and pack what does not come back")] = True,
) -> None:
    """Write a picture as its codes.

    With --entropy the smaller of both forms is written: a prior may not know such pictures.
    """
    with one_sentence("encode"):
        from movq_core.codec import Codec

        pixels = read_picture(image)
        codec = Codec.load(bundle)
        class_ids = _class_ids(codec, class_name)
        codes, size = codec.codes_of(pixels), (pixels.shape[0], pixels.shape[1])
        file = codec.compress(codes, size, class_ids, verify=verify) if entropy else codec.pack(codes, size)
        out.write_bytes(file.to_bytes())
    how = "packed"
    if file.groups:
        label = "no class" if file.class_id is None else codec.manifest.labels[file.class_id]
        how = f"entropy-coded ({label})"
    size_bytes = out.stat().st_size
    typer.echo(
        f"{out}: {size[1]}x{size[0]}, {size_bytes} bytes, {file.bits_per_pixel:.3f} bits a pixel, {how}"
    )


def decode(
    file: Annotated[Path, typer.Argument(help="a .movq file", dir_okay=False, exists=True)],
    out: Annotated[Path, typer.Option(help="the picture to write; its ending says the format")],
    bundle: Annotated[Path, typer.Option(help="the folder of the bundle that wrote it")] = DEMO,
) -> None:
    """Write the picture in a `.movq` file."""
    with one_sentence("decode"):
        from PIL import Image

        from movq_core.codec import Codec
        from movq_core.movq_file import MovqFile

        contents = MovqFile.from_bytes(file.read_bytes())
        picture = Image.fromarray(Codec.load(bundle).decode(contents))
        try:
            picture.save(out)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--out") from error
    typer.echo(f"{out}: {contents.width}x{contents.height}")


def read_picture(path: Path) -> Pixels:
    """8-bit RGB (h, w, 3), upright, on white; raises InvalidImage or ImageTooLarge."""
    import numpy as np
    from PIL import Image, ImageOps

    from movq_core.errors import ImageTooLarge, InvalidImage
    from movq_core.movq_file import MAX_PIXELS

    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ImageTooLarge(f"{path}: {image.width}x{image.height}; at most {MAX_PIXELS} pixels")
            upright = ImageOps.exif_transpose(image).convert("RGBA")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InvalidImage(f"{path}: {error}") from error
    white = Image.new("RGBA", upright.size, "white")
    return np.asarray(Image.alpha_composite(white, upright).convert("RGB"))


def _class_ids(codec: Codec, name: str | None) -> Sequence[int | None]:
    """The classes to try, None among them for no class."""
    labels = codec.manifest.labels
    if name is None:
        return (None,)
    if name == AUTO:
        return (None, *range(len(labels)))
    if name not in labels:
        raise typer.BadParameter(f"{name}: not one of {', '.join((AUTO, *labels))}", param_hint="--class")
    return (labels.index(name),)
