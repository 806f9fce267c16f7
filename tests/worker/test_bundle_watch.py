"""Another bundle in the folder of a worker that serves: real models, swapped while jobs run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from rq.job import JobStatus

from movq_core.blobs import BlobStore
from movq_core.bundle import ModelBundle
from movq_core.errors import DeviceFault
from movq_core.manifest import CONFIG_FILE, MOVQ_FILE, Manifest
from movq_core.params import SamplingParams
from movq_core.picture import encode_image
from movq_core.protocol import EditRequest, GenerateRequest, ImageFormat
from movq_core.tiles import Pixels
from tests.worker.test_rq_worker import Shop, shop, until
from worker.bundle_watch import BundleWatch, FolderState
from worker.engine import Engine
from worker.fakes import TINY, SilentMetrics
from worker.images import decode_image
from worker.metrics import WorkerMetrics
from worker.model_runner import ModelRunner
from worker.pool import ImagePool
from worker.work import Outcome, Work

__all__ = ["shop"]  # the fixture

ROWS = 4
STEPS = 24


def save(folder: Path, seed: int, **changes: object) -> Path:
    """A bundle with weights of its own."""
    bundle = ModelBundle.random(TINY.model_copy(update=changes), seed)
    assert bundle.maskgit is not None
    for table in [*bundle.maskgit.heads, *bundle.maskgit.code_embeddings]:
        table.weight.data.mul_(40.0)
    bundle.save(folder)
    return folder


def load(folder: Path) -> ModelRunner:
    """Deterministic: which form of a tokenizer is fastest may come out otherwise the next time."""
    return ModelRunner(folder, ROWS, "cpu", deterministic=True)


def generate(seed: int) -> GenerateRequest:
    return GenerateRequest(class_id=seed % 3, sampling=SamplingParams(seed=seed, steps=STEPS))


def alone(runner: ModelRunner, request: GenerateRequest) -> Pixels:
    runner.start(0, request.class_id, request.sampling)
    for step in range(request.sampling.steps):
        runner.step([0], [step])
    return runner.finish([0])[0].pixels()


@dataclass
class Serving:
    """An engine that serves what stands in `folder`, and looks for more as a worker's main thread does."""

    folder: Path
    blobs: Path
    loads: int = 0
    asked: int = 0
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.bundles = BundleWatch(self.folder, self.load)
        runner = self.load()
        self.metrics = WorkerMetrics(model=runner.manifest.name)
        self.engine = Engine(runner, ROWS, SilentMetrics())
        self.pool = ImagePool(BlobStore(str(self.blobs)), runner.manifest, self.metrics, threads=1)
        self.released = weakref.ref(runner)
        self.engine.start()

    def load(self) -> ModelRunner:
        self.loads += 1
        return load(self.folder)

    def look(self) -> None:
        self.bundles.look(self.engine, self.pool, self.metrics)

    def loaded_s(self) -> float:
        return self.metrics.registry.get_sample_value("movq_model_loaded_timestamp_seconds") or 0.0

    def is_busy(self) -> bool:
        """Always: it is asked for more than it has rows for."""
        while self.asked - len(self.outcomes) < 2 * ROWS:
            self.engine.inbox.put(Work(f"job-{self.asked}", generate(self.asked)))
            self.asked += 1
        return True

    def wait(self, until: Callable[[], bool], timeout_s: float = 60.0) -> None:
        """Look, and read what comes out, until something is so."""
        deadline = time.monotonic() + timeout_s
        while not until():
            assert time.monotonic() < deadline, "it took too long"
            assert self.engine.error is None
            self.look()
            while not self.engine.outbox.empty():
                if isinstance(outcome := self.engine.outbox.get(), Outcome):
                    self.outcomes[outcome.work.job_id] = outcome
            time.sleep(0.01)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return save(tmp_path / "old", seed=0)


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return save(tmp_path / "new", seed=1)


@pytest.fixture
def serving(tmp_path: Path, old: Path) -> Iterator[Serving]:
    """Of a folder `bundle`, which is a link to `old`."""
    (tmp_path / "bundle").symlink_to(old)
    serving = Serving(tmp_path / "bundle", tmp_path / "blobs")
    yield serving
    serving.engine.stop(10)
    serving.pool.close()


def swap_link(folder: Path, new: Path) -> None:
    """As one deploys: the link is exchanged in one moment."""
    link = folder.with_name("next")
    link.symlink_to(new)
    link.replace(folder)


def swap_folder(folder: Path, new: Path) -> None:
    """For a moment there is no bundle."""
    folder.rename(folder.with_name("was"))
    time.sleep(0.1)
    new.rename(folder)


@pytest.mark.parametrize("swap", [swap_link, swap_folder])
def test_a_bundle_is_exchanged_while_jobs_run_and_none_fails(
    serving: Serving, old: Path, new: Path, swap: Callable[[Path, Path], None]
) -> None:
    by_old, by_new, loaded_s = load(old), load(new), serving.loaded_s()
    serving.wait(lambda: serving.is_busy() and len(serving.outcomes) >= 5)
    swap(serving.folder, new)
    serving.wait(lambda: serving.is_busy() and serving.released() is None)
    after = len(serving.outcomes) + 2 * ROWS
    serving.wait(lambda: serving.is_busy() and len(serving.outcomes) >= after)
    makers = []
    for outcome in serving.outcomes.values():
        assert (outcome.error, outcome.cancelled) == (None, False)
        images = {"old": alone(by_old, outcome.work.request), "new": alone(by_new, outcome.work.request)}
        makers += [name for name, image in images.items() if np.array_equal(image, outcome.images[0])]
    assert len(makers) == len(serving.outcomes), "each image is one bundle's, to the bit"
    assert makers == sorted(makers, reverse=True), "first the old one's, then the new one's"
    assert makers.count("old") >= 5
    assert makers.count("new") >= ROWS
    assert serving.loads == 2
    assert serving.loaded_s() > loaded_s


def test_what_the_pool_loads_after_the_exchange_fits_the_new_bundle(serving: Serving, tmp_path: Path) -> None:
    """One of another size: an edit's window is cut to it."""
    larger = TINY.movq.model_copy(update={"image_size": 32})
    prior = TINY.maskgit.model_copy(update={"grid_size": 8})
    swap_link(serving.folder, save(tmp_path / "larger", seed=2, movq=larger, maskgit=prior))
    serving.wait(lambda: serving.pool.manifest.movq.image_size == 32)
    photo = encode_image(np.zeros((40, 40, 3), np.uint8), ImageFormat.PNG)
    key = BlobStore(str(serving.blobs)).put("uploads", photo, "png")
    serving.engine.inbox.put(serving.pool.load("edit", EditRequest(image_key=key)).result())
    serving.wait(lambda: "edit" in serving.outcomes)
    assert serving.outcomes["edit"].images[0].shape == (32, 32, 3)
    output = serving.pool.store(serving.outcomes["edit"]).result()
    assert (output.height, output.width) == (40, 40)


def renamed(manifest: Manifest, name: str) -> ModelBundle:
    return ModelBundle.random(manifest.model_copy(update={"name": name}))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: renamed(TINY, "other").save(folder), "of another name"),
        (lambda folder: (folder / MOVQ_FILE).write_bytes(b"no weights"), "cannot be loaded"),
        (lambda folder: (folder / CONFIG_FILE).unlink(), "cannot be loaded"),
    ],
    ids=["another model", "damaged", "incomplete"],
)
def test_a_bundle_that_cannot_serve_is_said_once_and_the_old_one_goes_on(
    serving: Serving,
    new: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], object],
    said: str,
) -> None:
    spoil(new)
    swap_link(serving.folder, new)
    serving.wait(lambda: serving.loads == 2 and not serving.bundles._loading)
    for _ in range(20):
        serving.look()
    assert serving.loads == 2
    assert capsys.readouterr().out.count(said) == 1
    assert serving.released() is not None
    serving.wait(lambda: serving.is_busy() and len(serving.outcomes) >= 2)
    assert all(outcome.error is None for outcome in serving.outcomes.values())


def test_a_spoilt_bundle_may_be_mended(serving: Serving, tmp_path: Path, new: Path) -> None:
    weights = (new / MOVQ_FILE).read_bytes()
    (new / MOVQ_FILE).write_bytes(weights[:1000])
    swap_link(serving.folder, new)
    serving.wait(lambda: serving.loads == 2 and not serving.bundles._loading)
    (new / MOVQ_FILE).write_bytes(weights)
    serving.wait(lambda: serving.released() is None)


def test_a_bundle_that_is_still_being_written_is_left_alone(serving: Serving, old: Path) -> None:
    serving.look()
    for size_bytes in range(5):
        (old / "more.safetensors").write_bytes(bytes(size_bytes))
        serving.look()
    assert serving.loads == 1
    serving.wait(lambda: serving.loads == 2)


def test_a_fault_of_the_device_is_not_a_bundles(serving: Serving, new: Path) -> None:
    """The process must end: whoever looks is not told that the old bundle goes on."""

    def fault() -> ModelRunner:
        raise DeviceFault("an illegal memory access was encountered")

    serving.bundles = BundleWatch(serving.folder, fault)
    swap_link(serving.folder, new)
    with pytest.raises(DeviceFault):
        serving.wait(lambda: False)


def test_a_folder_is_what_it_was_until_a_file_of_the_bundle_changes(old: Path) -> None:
    before = FolderState.of(old)
    (old / "README.md").write_text("A model card is not the model.")
    assert FolderState.of(old) == before
    os.utime(old / CONFIG_FILE, ns=(0, 0))
    assert FolderState.of(old) != before


@pytest.mark.slow
def test_a_worker_process_follows_its_folder(
    shop: Shop, redis_url: str, tmp_path: Path, old: Path, new: Path
) -> None:
    """As an operator sees it: the link is exchanged, and from some job on the images are the new ones."""
    folder = tmp_path / "bundle"
    folder.symlink_to(old)
    environment = {
        "MOVQ_REDIS_URL": redis_url,
        "MOVQ_MODEL_DIR": str(folder),
        "MOVQ_BLOBS_URL": str(tmp_path / "blobs"),
        "MOVQ_CACHE_DIR": str(tmp_path / "cache"),
        "MOVQ_DETERMINISTIC": "true",
    }
    worker = subprocess.Popen([sys.executable, "-m", "worker"], env={**os.environ, **environment})
    try:
        jobs = ask_until_other_images(shop, BlobStore(environment["MOVQ_BLOBS_URL"]), folder, new)
    finally:
        worker.terminate()
        assert worker.wait(30) == 0
    by_old, by_new = (alone(load(bundle), generate(1)) for bundle in (old, new))
    assert np.array_equal(jobs[0], by_old)
    assert np.array_equal(jobs[-1], by_new)
    shop.assert_at_rest([])


def ask_until_other_images(shop: Shop, blobs: BlobStore, folder: Path, new: Path) -> list[Pixels]:
    """The same image again and again, until it is another; the folder is exchanged after the first."""
    images: list[Pixels] = []
    deadline = time.monotonic() + 90
    while len(images) < 2 or np.array_equal(images[-1], images[0]):
        assert time.monotonic() < deadline, "the new bundle does not serve"
        job_id = shop.submit(generate(1))
        until(shop.all_are([job_id], JobStatus.FINISHED), 60)
        images.append(decode_image(blobs.get(shop.output(job_id).image_keys[0])))
        if len(images) == 1:
            swap_link(folder, new)
    return images
