"""Encode and decode against diffusers and ONNX Runtime: `python -m benchmarks.tokenizer`.

The same weights in all: diffusers' VQModel of a public MoVQGAN size with random weights, imported. One image,
the cases in turn. Printed for each half: the peers, our plain module, and the served form built up change by
change; how far each is from diffusers' pixels; and how much memory a call takes beyond what was there.
"""

from __future__ import annotations

import ctypes
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import diffusers
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.import_public import build_peer
from benchmarks.measuring import JsonPath, Timing, interleaved, versions, write_json
from movq_core.config import MOVQ_PRESETS, MoVQConfig
from movq_core.models.movq import MoVQ
from movq_core.models.optimized.choices import Choices
from movq_core.models.optimized.movq import OptimizedDecoder, OptimizedEncoder
from movq_core.public_weights import import_tokenizer

EAGER = "diffusers, eager"
Half = Callable[[Tensor], Tensor]


class Preferred(Choices):
    """Takes one form wherever it is allowed: to see what a form brings, not what is best."""

    def __init__(self, config: MoVQConfig, form: str) -> None:
        super().__init__(config, torch.device("cpu"))
        self._form = form

    def pick(self, operation: str, forms: Sequence[str], run: Callable[[str], object]) -> str:  # noqa: ARG002
        return self._form if self._form in forms else forms[0]


@dataclass(frozen=True)
class Figures:
    """What one case gave."""

    timing: Timing
    difference: float
    peak_mib: float


class PeerDecoder(nn.Module):
    """diffusers' decoder as a function of z_q."""

    def __init__(self, peer: diffusers.VQModel) -> None:
        super().__init__()
        self.post_quant_conv, self.decoder = peer.post_quant_conv, peer.decoder

    def forward(self, z_q: Tensor) -> Tensor:
        decoded: Tensor = self.decoder(self.post_quant_conv(z_q), z_q)
        return decoded


class PeerEncoder(nn.Module):
    """diffusers' encoder as a function of pixels."""

    def __init__(self, peer: diffusers.VQModel) -> None:
        super().__init__()
        self.encoder, self.quant_conv = peer.encoder, peer.quant_conv

    def forward(self, pixels: Tensor) -> Tensor:
        encoded: Tensor = self.quant_conv(self.encoder(pixels))
        return encoded


def peers_of(module: nn.Module, example: Tensor) -> dict[str, Half]:
    """One half of diffusers' model in each way to run it."""
    cases: dict[str, Half] = {EAGER: module, "diffusers, torch.compile": torch.compile(module)}
    if find_spec("onnxruntime") is not None:
        cases["diffusers, ONNX Runtime"] = onnx_session(module, example)
    return cases


def onnx_session(module: nn.Module, example: Tensor) -> Half:
    """The half in ONNX Runtime, with as many threads as torch has."""
    import onnxruntime  # type: ignore[import-not-found]  # noqa: PLC0415 - a peer of the `bench` extra

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's remarks about diffusers' assertions
        path = Path(folder) / "half.onnx"
        torch.onnx.export(module, (example,), path, input_names=["x"], dynamo=False, opset_version=17)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"x": x.numpy()})[0])


def decoders_of(movq: MoVQ) -> dict[str, Half]:
    """Our decoder: plain, and served change by change."""

    def served(choices: Choices, compiler: bool) -> Half:
        decoder = OptimizedDecoder(movq.decoder, choices, compiler)
        return lambda z_q: decoder(movq.post_quant_conv(z_q), z_q)

    return {
        "movq, plain: norms modulated on the grid": movq.decode,
        "movq: and channels last, norms folded, in place": served(Preferred(movq.config, "direct"), False),
        "movq: and sub-pixel upsampling": served(Preferred(movq.config, "sub-pixel"), False),
        "movq, served: and Winograd by torch's compiler": served(
            Choices(movq.config, torch.device("cpu")), True
        ),
    }


def encoders_of(movq: MoVQ) -> dict[str, Half]:
    """Our encoder: plain, and served change by change."""

    def served(choices: Choices, compiler: bool) -> Half:
        encoder = OptimizedEncoder(movq.encoder, choices, compiler)
        return lambda pixels: movq.quant_conv(encoder(pixels))

    return {
        "movq, plain": movq.encode,
        "movq: channels last, norms folded, in place": served(Preferred(movq.config, "direct"), False),
        "movq, served: and Winograd by torch's compiler": served(
            Choices(movq.config, torch.device("cpu")), True
        ),
    }


def measure(cases: dict[str, Half], example: Tensor, rounds: int) -> dict[str, Figures]:
    """Seconds, distance from the first case's answer and peak memory of each case."""
    calls: dict[str, Callable[[], Tensor]] = {name: partial(half, example) for name, half in cases.items()}
    expected = calls[EAGER]()
    differences = {name: float((call() - expected).abs().max()) for name, call in calls.items()}
    timings = interleaved(calls, rounds)
    return {name: Figures(timings[name], differences[name], peak_mib(call)) for name, call in calls.items()}


def peak_mib(call: Callable[[], Any]) -> float:
    """MiB of the process's peak during a call beyond what it held before (Linux)."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the kernel's high-water mark starts again
    before = _status_kib("VmRSS")
    call()
    return (_status_kib("VmHWM") - before) / 1024


def _status_kib(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{field}:")))


def table_of(title: str, figures: dict[str, Figures]) -> Table:
    """A line a case."""
    columns = ("median, s", "quartiles", "times eager", "differs by", "memory, MiB", "of eager's")
    table = Table("", *columns, title=title)
    eager = figures[EAGER]
    for name, case in figures.items():
        timing = case.timing
        table.add_row(
            name,
            f"{timing.median_s:.3f}",
            f"{timing.low_s:.3f} to {timing.high_s:.3f}",
            f"{eager.timing.ratio_to(timing):.2f}x",
            f"{case.difference:.1e}",
            f"{case.peak_mib:.0f}",
            f"{case.peak_mib / eager.peak_mib:.2f}x",
        )
    return table


@contextmanager
def imported(preset: str) -> Iterator[tuple[diffusers.VQModel, MoVQ]]:
    """diffusers' model with random weights, and ours with the same."""
    peer = build_peer(MOVQ_PRESETS[preset])
    with tempfile.TemporaryDirectory() as folder:
        peer.save_pretrained(folder)
        yield peer, import_tokenizer(folder)


def main(
    preset: Annotated[str, typer.Option(help="a public size")] = "movqgan-67m",
    size: Annotated[int, typer.Option(min=32, help="pixels to a side")] = 256,
    rounds: Annotated[int, typer.Option(min=1)] = 9,
    json: JsonPath = None,
) -> None:
    """Print both tables."""
    with imported(preset) as (peer, movq), torch.inference_mode():
        pixels = torch.rand(1, 3, size, size) * 2 - 1
        z_q = movq.quantizer.decode(movq.encode_codes(pixels))
        decode = measure(peers_of(PeerDecoder(peer), z_q) | decoders_of(movq), z_q, rounds)
        encode = measure(peers_of(PeerEncoder(peer), pixels) | encoders_of(movq), pixels, rounds)
    peers = [name for name in ("diffusers", "torch", "onnxruntime") if find_spec(name)]
    title = f"{preset} at {size}x{size}, {torch.get_num_threads()} threads; {versions(peers)}"
    console = Console(width=150)
    console.print(table_of(f"decode, {title}", decode), table_of(f"encode, {title}", encode))
    write_json(json, "tokenizer", {"preset": preset, "size": size, "decode": decode, "encode": encode})


if __name__ == "__main__":
    typer.run(main)
