"""The tables of `python -m benchmarks.gpu`, a function each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch.backends import cudnn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu.card import Card, Case, Table
from benchmarks.gpu.cases import (
    crowd,
    device_seconds,
    diffusers_cases,
    image_case,
    repeat,
    sampling_arguments,
)
from benchmarks.gpu.roofline import Product, copy_case, prior_flops
from movq_core.bundle import ModelBundle
from movq_core.config import AUTOREGRESSIVE_PRESETS, MASKGIT_PRESETS
from movq_core.models.autoregressive import Autoregressive
from movq_core.models.maskgit import MaskGIT
from movq_core.models.movq import MoVQ
from movq_core.sampling.autoregressive import generate_in_order
from movq_core.sampling.batch import Batch, bucket_sizes, entries_of, take_step
from movq_core.sampling.graphs import StepGraphs
from movq_core.sampling.pixels import PixelTokenizer, cast_movq
from movq_core.sampling.step import draw_masked, unmask_step
from worker.model_runner import DETERMINISTIC_ENTRIES

DEMO = Path("models/emoji-64")


def peaks(card: Card) -> Table:
    """Matrix products and copies: what everything below is held against."""
    table = Table("Peaks of this device", ("", "TFLOP/s or GB/s"))
    size = card.scale.product_size
    products = [Product(str(card.dtype), size, card.dtype)]
    if card.on_cuda:
        products.append(Product("torch.float32", size, torch.float32))
        products.append(Product("torch.float32 as TF32", size, torch.float32, tf32=True))
    cases: dict[str, Case] = {product.name: product.case(card.device) for product in products}
    cases["copy"] = copy_case(card.scale.copy_bytes, card.device)
    timings = card.measure("peaks", cases, rounds=4 * card.scale.rounds)
    for product in products:
        table.rows.append((product.name, product.flops / timings[product.name].median_s / 1e12))
    table.rows.append(("copy, read and written", 2 * card.scale.copy_bytes / timings["copy"].median_s / 1e9))
    card.peak_flops = products[0].flops / timings[products[0].name].median_s
    return table


def prior(card: Card) -> Table:
    """Steps of the prior, sampling included."""
    columns = ("images", "guided", "ms a step", "images/s", "TFLOP/s", "of the peak")
    scale, prior = card.scale, card.prior()
    table = Table(f"Prior {scale.prior}, {card.dtype}, {scale.steps} steps", columns)
    sampler = card.sampler(prior, max(scale.batches))
    settings = [(images, guided) for images in scale.batches for guided in (False, True)]
    cases: dict[str, Case] = {
        f"{images} {guided}": image_case(sampler, images, guided, scale.steps) for images, guided in settings
    }
    timings = card.measure("prior", cases)
    for images, guided in settings:
        seconds = timings[f"{images} {guided}"].median_s
        flops = prior_flops(prior.config) * images * (1 + guided) * scale.steps / seconds
        table.rows.append(
            (
                images,
                "yes" if guided else "no",
                1000 * seconds / scale.steps,
                images / seconds,
                flops / 1e12,
                flops / card.peak_flops,
            )
        )
    return table


def overhead(card: Card) -> Table:
    """What the host adds to a step of one image: wall time of steps as served, less the device's own.

    The device's own is of the same step launched so often that it never waits for the host, by events.
    """
    table = Table("Host overhead of a step, one image", ("", "microseconds"))
    prior, steps = card.prior(), 4 * card.scale.steps
    sampler = card.sampler(prior, 1)
    batch = Batch(entries_of([], {}, sampler.rows.scratch, 1).to(card.device), 1, False)
    cases: dict[str, Case] = {
        "step as served": image_case(sampler, 1, False, steps),
        "step launched op by op": partial(repeat, partial(take_step, prior, sampler.rows, batch), steps),
    }
    timings = card.measure("overhead", cases)
    for name, timing in timings.items():
        table.rows.append((name, 1e6 * timing.median_s / steps))
    if card.on_cuda:
        graphs = StepGraphs(partial(take_step, prior, sampler.rows), sampler.rows.scratch, card.device)
        device_s = device_seconds(graphs.recorded(1, False).graph.replay, steps)
        served_s = timings["step as served"].median_s / steps
        table.rows.append(("step, the device alone", 1e6 * device_s))
        table.rows.append(("overhead: served less device", 1e6 * (served_s - device_s)))
    return table


def agreement(card: Card) -> Table:
    """How often an image in company is the image alone; default and deterministic mode."""
    columns = ("precision", "mode", "images equal", "codes equal")
    prior_of, name = opinionated_prior(card)
    table = Table(f"Images in company against alone, {name}, {card.scale.crowd} images", columns)
    for dtype in (torch.bfloat16, torch.float32):
        for mode, buckets in (("default", None), ("deterministic", (DETERMINISTIC_ENTRIES,))):
            sampler = card.sampler(prior_of(dtype), 16, buckets)
            together = crowd(sampler, range(card.scale.crowd))
            alone = torch.cat([crowd(sampler, [number]) for number in range(card.scale.crowd)])
            equal = together == alone
            images = equal.flatten(1).all(1).float().mean().item()
            table.rows.append((str(dtype), mode, images, equal.float().mean().item()))
    return table


def opinionated_prior(card: Card) -> tuple[Callable[[torch.dtype], MaskGIT], str]:
    """The demo's, for it was trained; random logits are nearly flat, and flat ones agree by other laws."""
    if not (DEMO / "config.json").exists():
        return lambda dtype: card.prior().to(dtype), f"{card.scale.prior}, untrained"

    def load(dtype: torch.dtype) -> MaskGIT:
        prior = ModelBundle.load(DEMO, str(card.device)).maskgit
        assert prior is not None
        return prior.to(dtype)

    return load, DEMO.name


def deterministic(card: Card) -> Table:
    """What one fixed bucket costs."""
    columns = ("images", "guided", "default, ms a step", "deterministic", "times as long")
    table = Table(f"Deterministic mode: every batch of {DETERMINISTIC_ENTRIES} entries", columns)
    prior, scale = card.prior(), card.scale
    default = card.sampler(prior, max(scale.batches))
    fixed = card.sampler(prior, max(scale.batches), (DETERMINISTIC_ENTRIES,))
    for images in scale.batches:
        for guided in (False, True):
            timings = card.measure(
                f"deterministic {images} {guided}",
                {
                    "default": image_case(default, images, guided, scale.steps),
                    "fixed": image_case(fixed, images, guided, scale.steps),
                },
            )
            one, other = (1000 * timings[mode].median_s / scale.steps for mode in ("default", "fixed"))
            table.rows.append((images, "yes" if guided else "no", one, other, other / one))
    return table


def sampling(card: Card) -> Table:
    """`unmask_step` alone: as torch's operations, and as this device takes it."""
    columns = ("images", "torch, ms", "served, ms", "share")
    config = MASKGIT_PRESETS[card.scale.prior]
    table = Table("unmask_step", columns)
    for images in card.scale.batches:
        arguments = sampling_arguments(config, images, card.device)
        cases: dict[str, Case] = {
            "torch": partial(unmask_step, *arguments, draw=draw_masked),
            "served": partial(unmask_step, *arguments),
        }
        timings = card.measure(f"sampling {images}", cases, rounds=4 * card.scale.rounds)
        one, other = (1000 * timings[name].median_s for name in cases)
        table.rows.append((images, one, other, other / one))
    return table


def in_order(card: Card) -> Table:
    """MaskGIT against the same trunk code after code, with its cache of keys and values."""
    columns = ("images", "MaskGIT, images/s", "autoregressive", "MaskGIT's advantage")
    scale = card.scale
    forwards = MASKGIT_PRESETS[scale.prior].codes_per_image
    table = Table(f"MaskGIT in {scale.steps} steps, autoregressive in {forwards}", columns)
    sampler = card.sampler(card.prior(), max(scale.in_order_batches))
    config = AUTOREGRESSIVE_PRESETS[scale.prior]
    other: Autoregressive = card.model(lambda: Autoregressive(config)).to(card.dtype)
    for images in scale.in_order_batches:
        numbers = torch.arange(images, device=card.device)
        cases: dict[str, Case] = {
            "maskgit": image_case(sampler, images, False, scale.steps),
            "autoregressive": partial(generate_in_order, other, numbers % config.num_classes, numbers),
        }
        timings = card.measure(f"in order {images}", cases, rounds=2)
        one, two = (images / timings[name].median_s for name in cases)
        table.rows.append((images, one, two, one / two))
    return table


def decoders(card: Card) -> Table:
    """Decode of 8-bit images from codes, against diffusers' decoder of the same shape."""
    columns = ("tokenizer", "images", "decoder", "ms an image", "TFLOP/s", "times ours")
    table = Table("Tokenizer decode", columns)
    for name, config in card.scale.tokenizers.items():
        movq: MoVQ = card.model(partial(MoVQ, config))
        tokenizer = PixelTokenizer(cast_movq(movq, card.dtype, channels_last=card.on_cuda), card.dtype)
        for images in card.scale.decode_batches:
            shape = (images, config.code_channels, config.grid_size, config.grid_size)
            codes = torch.randint(config.codebook_size, shape, device=card.device)
            with FlopCounterMode(display=False) as counter:
                tokenizer.decode(codes)
            cases: dict[str, Case] = {"movq": partial(tokenizer.decode, codes)}
            peers, missing = diffusers_cases(config, images, card.device)
            with cudnn.flags(enabled=True, allow_tf32=True):  # torch's default, which the peer's users have
                timings = card.measure(f"decode {name} {images}", cases | peers)
            for case, timing in timings.items():
                flops = counter.get_total_flops() / timing.median_s / 1e12
                slower = timing.median_s / timings["movq"].median_s
                table.rows.append((name, images, case, 1000 * timing.median_s / images, flops, slower))
            if missing:
                table.rows.append((name, images, missing, "", "", ""))
    return table


def memory(card: Card) -> Table:
    """The device's memory after each bucket's graph, all in one pool."""
    table = Table(f"Memory of {card.scale.prior}'s graphs", ("bucket", "MiB reserved", "more than before"))
    if not card.on_cuda:
        table.rows.append(("graphs are CUDA's", "", ""))
        return table
    rows = max(card.scale.batches)
    sampler = card.sampler(card.prior(), rows)
    graphs = StepGraphs(partial(take_step, sampler.prior, sampler.rows), rows, card.device)
    before = torch.cuda.memory_reserved(card.device) / 2**20
    table.rows.append(("weights alone", before, ""))
    for size in bucket_sizes(2 * rows):
        graphs.recorded(size, guided=size > 1)
        after = torch.cuda.memory_reserved(card.device) / 2**20
        table.rows.append((size, after, after - before))
        before = after
    return table
