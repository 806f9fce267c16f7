"""A little data set of coloured discs: enough to run every training script for real."""

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    """Tensors this small are slower on two, and much slower where others use the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def discs(count, size=16, seed=0):
    """RGBA discs; class 0 is red, 1 green, 2 blue; two variants a base."""
    rng = np.random.default_rng(seed)
    images = np.zeros((count, size, size, 4), np.uint8)
    classes = np.arange(count) % 3
    y, x = np.mgrid[:size, :size]
    for index in range(count):
        centre, radius = rng.uniform(6, 10, 2), rng.uniform(3, 6)
        inside = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
        images[index, ..., classes[index]] = 255
        images[index, ..., 3] = 255 * inside
    bases = np.array([f"{seed}-{index % 3}-{index // 6}" for index in range(count)])
    return {"images": images, "classes": classes, "bases": bases, "names": bases}


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    np.savez(folder / "emoji_train.npz", **discs(60))
    np.savez(folder / "emoji_heldout.npz", **discs(18, seed=1))
    noise = np.random.default_rng(2).integers(0, 256, (12, 24, 24, 3), np.uint8)
    for split in ("train", "heldout"):
        np.savez(folder / f"photos_{split}.npz", images=noise, names=np.array(["n"] * 12))
    return folder
