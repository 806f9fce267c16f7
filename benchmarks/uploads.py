"""What decoding in processes costs: `python -m benchmarks.uploads`, beside the same work in threads."""

from __future__ import annotations

import asyncio
import io
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
from PIL import Image

from movq_core.checksums import sha256_of
from service.decoding.pictures import decoded_rgb
from service.decoding.pool import DecodingPool
from service.uploads import CleanImage, Uploads, as_png

MAX_PIXELS = 2**24
WORKERS = 2
CLIENTS = 16
HASHED_BYTES = 2**30

Clean = Callable[[bytes], Awaitable[CleanImage]]


def photo(width: int, height: int) -> bytes:
    """A JPEG with some detail."""
    noise = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((width, height)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


async def latencies_s(clean: Clean, data: bytes, times: int) -> list[float]:
    found = []
    for _ in range(times):
        begun_s = time.perf_counter()
        await clean(data)
        found.append(time.perf_counter() - begun_s)
    return sorted(found)


async def throughput(clean: Clean, data: bytes, times: int) -> float:
    """Images a second with `CLIENTS` at once."""

    async def client() -> None:
        for _ in range(times // CLIENTS):
            await clean(data)

    begun_s = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return times // CLIENTS * CLIENTS / (time.perf_counter() - begun_s)


async def measure(name: str, clean: Clean) -> None:
    for width, height, times in ((64, 64, 400), (640, 400, 100), (4000, 3000, 6)):
        data = photo(width, height)
        await clean(data)
        found = await latencies_s(clean, data, times)
        p50, p95 = 1e3 * statistics.median(found), 1e3 * found[int(0.95 * len(found))]
        rate = await throughput(clean, data, max(2 * CLIENTS, times))
        told = f"p50 {p50:.2f} ms, p95 {p95:.2f} ms, {CLIENTS} clients {rate:.1f} images/s"
        print(f"{name} {width}x{height}: {told}")


def resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024


async def main() -> None:
    limiter = asyncio.Semaphore(WORKERS)

    async def in_a_thread(data: bytes) -> CleanImage:
        async with limiter:
            return await asyncio.to_thread(lambda: as_png(decoded_rgb(data, MAX_PIXELS)))

    pool = DecodingPool(max_pixels=MAX_PIXELS, max_bytes=2**24, timeout_s=60, processes=WORKERS)
    begun_s = time.perf_counter()
    await Uploads(pool).clean(photo(64, 64))
    print(f"the first upload, of a process that was not warm: {1e3 * (time.perf_counter() - begun_s):.0f} ms")
    await measure("thread ", in_a_thread)
    await measure("process", Uploads(pool).clean)
    sizes = [f"{resident_mib(pid):.0f}" for pid in pool.pids]
    print(f"memory of a decoder, after 12 megapixels: {', '.join(sizes)} MiB")
    pool.close()
    hash_a_gigabyte()


def hash_a_gigabyte() -> None:
    """What checking a bundle of that size costs at its start."""
    path = Path("/dev/shm/movq-hashed")  # noqa: S108 - in memory, and gone at the end
    try:
        path.write_bytes(bytes(HASHED_BYTES))
        begun_s = time.perf_counter()
        sha256_of(path)
        print(f"SHA-256 of 1 GiB: {time.perf_counter() - begun_s:.2f} s")
    finally:
        path.unlink()


if __name__ == "__main__":
    asyncio.run(main())
