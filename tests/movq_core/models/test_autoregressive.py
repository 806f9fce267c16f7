"""The autoregressive prior: sees only what came before, and the cache changes nothing."""

import pytest
import torch

from movq_core.config import AUTOREGRESSIVE_PRESETS
from movq_core.models.autoregressive import Autoregressive
from movq_core.sampling.autoregressive import generate_in_order

TINY = AUTOREGRESSIVE_PRESETS["tiny"]


@pytest.fixture(params=[False, True], ids=["heads", "tied"])
def prior(request):
    torch.manual_seed(0)
    model = Autoregressive(TINY.model_copy(update={"tied": request.param})).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def random_codes(batch):
    shape = (batch, TINY.code_channels, TINY.grid_size, TINY.grid_size)
    return torch.randint(TINY.codebook_size, shape, generator=torch.Generator().manual_seed(1))


def in_order(tensor):
    """(B, C, H, W, ...) -> (B, H*W*C, ...): position after position, channel after channel."""
    return tensor.flatten(2, 3).transpose(1, 2).flatten(1, 2)


@torch.inference_mode()
def test_a_code_depends_on_those_before_it_alone(prior):
    codes, classes = random_codes(1), torch.tensor([1])
    logits = in_order(prior(codes, classes))
    for place in range(TINY.codes_per_image):
        changed = codes.clone()
        position, channel = divmod(place, TINY.code_channels)
        row, column = divmod(position, TINY.grid_size)
        changed[0, channel, row, column] = (changed[0, channel, row, column] + 1) % TINY.codebook_size
        differs = (in_order(prior(changed, classes)) - logits).abs().amax(-1)[0] > 1e-6
        assert not differs[: place + 1].any(), "no code sees itself or what comes after"
        assert place == TINY.codes_per_image - 1 or differs[place + 1], "the next code sees it"
    assert not torch.allclose(in_order(prior(codes, torch.tensor([2])))[:, 0], logits[:, 0])


@torch.inference_mode()
def test_the_cache_gives_the_logits_of_the_whole(prior):
    codes, classes = random_codes(3), torch.tensor([0, 1, TINY.num_classes])
    whole, given = in_order(prior(codes, classes)), in_order(codes)
    caches = prior.empty_caches(3)
    for place in range(TINY.codes_per_image):
        before = classes if place == 0 else given[:, place - 1]
        assert torch.allclose(prior.next_logits(before, place, caches), whole[:, place], atol=1e-5)


def test_the_next_code_is_seen_by_every_layer(prior):
    prior.next_logits(torch.tensor([0]), 0, caches := prior.empty_caches(1))
    assert [cache.length for cache in caches] == [1] * TINY.depth


def test_the_gradient_reaches_every_parameter(prior):
    codes = random_codes(2)
    logits = prior(codes, torch.tensor([0, TINY.num_classes]))
    torch.nn.functional.cross_entropy(logits.flatten(0, -2), codes.flatten()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in prior.parameters())


def test_an_image_does_not_depend_on_its_company(prior):
    classes, seeds = torch.tensor([0, 2, 1, 0]), torch.tensor([5, 6, 7, 8])
    together = generate_in_order(prior, classes, seeds, guidance_scale=2.0)
    assert together.shape == random_codes(4).shape
    for index in range(4):
        one = slice(index, index + 1)
        alone = generate_in_order(prior, classes[one], seeds[one], guidance_scale=2.0)
        assert torch.equal(alone[0], together[index])
    assert not torch.equal(together[0], together[3]), "another seed is another image"


def test_samples_follow_the_probabilities():
    """A prior whose first code is decided by its bias alone: frequencies over seeds are the softmax."""
    model = Autoregressive(TINY).eval()
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        model.heads[0].bias[:3] = torch.tensor([8.0, 8.0, 7.0])
    drawn = generate_in_order(model, torch.zeros(600, dtype=torch.int64), torch.arange(600))
    shares = torch.bincount(drawn[:, 0].flatten(), minlength=32).float() / drawn[:, 0].numel()
    expected = model.heads[0].bias.softmax(0)
    assert torch.allclose(shares[:3], expected[:3], atol=0.02)
    sharp = generate_in_order(model, torch.zeros(50, dtype=torch.int64), torch.arange(50), temperature=0.1)
    assert (sharp[:, 0] == 2).float().mean() < 0.01
