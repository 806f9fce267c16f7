"""MaskGIT: shapes, the class, and outputs that do not depend on who else is in the batch."""

import pytest
import torch

from movq_core.config import MASKGIT_PRESETS
from movq_core.models.maskgit import MaskGIT

TINY = MASKGIT_PRESETS["tiny"]


@pytest.fixture(scope="module")
def prior():
    torch.manual_seed(0)
    return MaskGIT(TINY).eval()


def test_logits_for_every_channel_and_position(prior):
    codes = torch.full((3, 2, 4, 4), prior.mask_code)
    assert prior(codes, torch.tensor([0, 1, 3])).shape == (3, 2, 4, 4, 32)


def test_every_position_sees_every_other(prior):
    """Bidirectional: a change at the last position moves the logits of the first."""
    codes = torch.full((1, 2, 4, 4), prior.mask_code)
    changed = codes.clone()
    changed[0, 1, 3, 3] = 5
    label = torch.tensor([0])
    assert not torch.equal(prior(codes, label)[0, 0, 0, 0], prior(changed, label)[0, 0, 0, 0])


def test_class_and_null_class_differ(prior):
    codes = torch.full((2, 2, 4, 4), prior.mask_code)
    logits = prior(codes, torch.tensor([1, prior.null_class]))
    assert not torch.equal(logits[0], logits[1])


@torch.inference_mode()
def test_a_row_is_equal_alone_and_in_any_batch(prior):
    torch.manual_seed(1)
    codes = torch.randint(0, 33, (16, 2, 4, 4))
    labels = torch.randint(0, 4, (16,))
    alone = torch.cat([prior(codes[i : i + 1], labels[i : i + 1]) for i in range(16)])
    for batch in (2, 3, 5, 16):
        parts = zip(codes.split(batch), labels.split(batch), strict=True)
        assert torch.equal(torch.cat([prior(c, label) for c, label in parts]), alone)


@pytest.mark.parametrize("name", ["imagenet-256", "ffhq-256"])
def test_the_papers_presets_have_the_papers_size(name):
    """About 307 M: 24 x 1024 x 16 with tied embeddings, within one percent."""
    with torch.device("meta"):
        prior = MaskGIT(MASKGIT_PRESETS[name])
    assert sum(p.numel() for p in prior.parameters()) == pytest.approx(307e6, rel=0.01)


@torch.inference_mode()
def test_tied_heads_are_the_embeddings():
    torch.manual_seed(0)
    prior = MaskGIT(TINY.model_copy(update={"tied": True})).eval()
    assert not any("heads" in name and "weight" in name for name, _ in prior.named_parameters())
    codes, label = torch.full((1, 2, 4, 4), prior.mask_code), torch.tensor([0])
    before = prior(codes, label)
    prior.code_embeddings[1].weight[7] += 1.0
    differs = (prior(codes, label) != before).flatten(2, 3).any(2)[0]  # (C, K)
    assert differs[1, 7], "a code's logit is the product with its own row"
    assert differs.sum() == 1
