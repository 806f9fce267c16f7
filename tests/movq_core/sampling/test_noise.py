"""Counter-based noise against the published test vectors, and its independence of the batch."""

import pytest
import torch

from movq_core.sampling.noise import philox, to_uniform, uniforms

# Known answers of Random123 1.14 (kat_vectors, philox4x32 10).
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_philox_gives_the_published_words(counter, key, words):
    given = philox(tuple(map(torch.tensor, counter)), tuple(map(torch.tensor, key)))
    assert tuple(int(word) for word in given) == words


def test_a_rows_noise_does_not_depend_on_its_batch():
    seeds, steps = torch.tensor([5, 2**52 + 1, 5]), torch.tensor([0, 3, 1])
    together = uniforms(seeds, steps, 64)
    for row in range(3):
        alone = uniforms(seeds[row : row + 1], steps[row : row + 1], 64)
        assert torch.equal(alone[0][0], together[0][row])
        assert torch.equal(alone[1][0], together[1][row])


def test_seed_step_and_stream_all_matter():
    seeds, steps = torch.tensor([1, 1, 2, 2**32 + 1]), torch.tensor([0, 1, 0, 0])
    first, second = uniforms(seeds, steps, 32)
    rows = [*first, *second]
    assert all(not torch.equal(a, b) for i, a in enumerate(rows) for b in rows[:i])


def test_no_word_becomes_0_or_1_and_none_is_rounded():
    words = torch.tensor([0, 1 << 9, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF - (1 << 9), 0xFFFFFFFF])
    exact = ((words >> 9).double() + 0.5) / 2**23
    assert torch.equal(to_uniform(words).double(), exact)
    assert 0 < to_uniform(words).min() < to_uniform(words).max() < 1


def test_uniforms_are_uniform_and_never_0_or_1():
    first, second = uniforms(torch.arange(200), torch.zeros(200, dtype=torch.long), 1000)
    for numbers in (first, second):
        assert 0 < numbers.min() < numbers.max() < 1
        # 200,000 draws in 20 bins: a bin strays from 10,000 by 6 sigma (585) once in 10^8
        counts = torch.histc(numbers, bins=20, min=0, max=1)
        assert (counts - 10_000).abs().max() < 585
    correlation = torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1]
    assert abs(correlation) < 0.015
