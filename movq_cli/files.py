"""`movq encode`, `movq decode`: a picture to a file of its codes, and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from movq_cli import options
from movq_cli.outcome import one_sentence
from movq_cli.pictures import format_of, read_picture
from movq_cli.server import connected, followed, needed

if TYPE_CHECKING:
    from movq_core.codec import Codec

AUTO = "auto"
JSON = ".json"


def encode(
    image: Annotated[Path, typer.Argument(help="a picture that Pillow opens", dir_okay=False, exists=True)],
    out: Annotated[Path, typer.Option("--out", "-o", help="NAME.movq, or with a server NAME.json")],
    bundle: options.Bundle = options.DEMO,
    entropy: Annotated[
        bool, typer.Option("--entropy/--packed", help="let the prior shorten it, or log2 K bits a code")
    ] = True,
    class_name: Annotated[
        str | None, typer.Option("--class", help="what it shows; `auto` tries all classes and none")
    ] = None,
    verify: Annotated[bool, typer.Option(help="decode once, and pack what does not come back")] = True,
    server: options.Server = None,
    api_key: options.ApiKey = None,
    model: options.Model = None,
) -> None:
    """Write a picture as its codes.

    A .movq file is compact, and made here. With --entropy the smaller of both forms is written: a prior may
    not know such pictures. A .json file is the codes themselves, from a server.

    movq encode photo.jpg -o photo.movq

    movq encode photo.jpg -o photo.json --server http://127.0.0.1:8000
    """
    with one_sentence("encode"):
        if out.suffix == JSON:
            said = _encode_there(image, out, needed(server), api_key, options.said(model=model))
        else:
            said = _encode_here(image, out, bundle, class_name, entropy, verify)
    typer.echo(f"{out}: {said}")


def decode(
    file: Annotated[Path, typer.Argument(help="a .movq or .json file", dir_okay=False, exists=True)],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="the picture to write; its ending says the format")
    ],
    bundle: options.Bundle = options.DEMO,
    server: options.Server = None,
    api_key: options.ApiKey = None,
) -> None:
    """Write the picture in a file of codes: a .movq file here, a .json file on a server.

    movq decode photo.movq -o back.png

    movq decode photo.json -o back.png --server http://127.0.0.1:8000
    """
    with one_sentence("decode"):
        if file.suffix == JSON:
            width, height = _decode_there(file, out, needed(server), api_key)
        else:
            width, height = _decode_here(file, out, bundle)
    typer.echo(f"{out}: {width}x{height}")


def _encode_here(
    image: Path, out: Path, bundle: Path, class_name: str | None, entropy: bool, verify: bool
) -> str:
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
    bits = f"{file.bits_per_pixel:.3f} bits a pixel"
    return f"{size[1]}x{size[0]}, {out.stat().st_size} bytes, {bits}, {how}"


def _encode_there(image: Path, out: Path, server: str, api_key: str | None, asked: dict[str, Any]) -> str:
    with connected(server, api_key) as client:
        codes = followed(client.start_encoding(image, **asked))
    codes.save(out)
    return f"{codes.width}x{codes.height}, codes of {codes.model}"


def _decode_here(file: Path, out: Path, bundle: Path) -> tuple[int, int]:
    from PIL import Image

    from movq_core.codec import Codec
    from movq_core.movq_file import MovqFile

    contents = MovqFile.from_bytes(file.read_bytes())
    picture = Image.fromarray(Codec.load(bundle).decode(contents))
    try:
        picture.save(out)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--out") from error
    return contents.width, contents.height


def _decode_there(file: Path, out: Path, server: str, api_key: str | None) -> tuple[int, int]:
    from movq_client import Codes

    asked = options.said(format=format_of(out))
    with connected(server, api_key) as client:
        made = followed(client.start_decoding(Codes.load(file), **asked))
    made.save(out)
    return made.image.size


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
