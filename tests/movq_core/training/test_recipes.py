"""Recipes: named, changed from the command line, refused with a sentence that says what is allowed."""

import pytest

from movq_core.config import MASKGIT_PRESETS, MOVQ_PRESETS, AutoregressiveConfig
from movq_core.training.recipes import (
    PriorRecipe,
    TokenizerRecipe,
    UnusableRecipe,
    prior_plan,
    recipe_names,
    save_plan,
    tokenizer_plan,
)


def test_every_named_recipe_is_valid_and_for_all_that_the_paper_trains():
    assert recipe_names("prior") == ["emoji-64", "ffhq-256", "imagenet-256", "tiny"]
    assert recipe_names("tokenizer") == sorted([*recipe_names("prior"), "emoji-64-decoder"])
    assert tokenizer_plan("emoji-64-decoder").train == "decoder"
    for name in recipe_names("prior"):
        tokenizer, prior = tokenizer_plan(name).model, prior_plan(name).model
        assert prior.grid_size == tokenizer.grid_size
        assert prior.codebook_size == tokenizer.codebook_size
        assert prior.code_channels == tokenizer.code_channels


@pytest.mark.parametrize("name", ["imagenet-256", "ffhq-256"])
def test_the_papers_recipes_divide_over_eight_ranks(name):
    tokenizer_plan(name).check_divides(8)
    prior_plan(name).check_divides(8)


def test_the_demos_recipes_are_the_defaults():
    assert tokenizer_plan("emoji-64").model_dump() == {
        **TokenizerRecipe().model_dump(),
        "model": MOVQ_PRESETS["emoji-64"].model_dump(),
    }
    assert prior_plan("emoji-64").model_dump() == {
        **PriorRecipe().model_dump(),
        "kind": "masked",
        "model": MASKGIT_PRESETS["emoji-64"].model_dump(),
    }


def test_changes_reach_recipe_and_model():
    plan = tokenizer_plan(
        "tiny", ["steps=7", "peak_rate=1e-3", "disc_betas=[0.1, 0.2]", "model.codebook_size=64"]
    )
    assert (plan.steps, plan.peak_rate, plan.disc_betas) == (7, 1e-3, (0.1, 0.2))
    assert plan.model == MOVQ_PRESETS["tiny"].model_copy(update={"codebook_size": 64})


def test_a_model_may_be_changed_by_its_presets_name_and_then_inside():
    assert tokenizer_plan("tiny", ["model=emoji-64", "model.code_dim=4"]).model.code_dim == 4


def test_the_kind_says_which_prior():
    assert isinstance(prior_plan("tiny", ["kind=autoregressive"]).model, AutoregressiveConfig)


def test_what_was_saved_is_a_recipe_again(tmp_path):
    plan = prior_plan("tiny", ["kind=autoregressive", "seed=3"])
    save_plan(plan, tmp_path / "run" / "config.yaml")
    assert prior_plan(str(tmp_path / "run" / "config.yaml")) == plan


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("stpes=3", "stpes is not a key; allowed are steps, batch_size"),
        ("model.depht=3", "model.depht is not a key; allowed are code_channels"),
        ("steps=many", "steps: .*integer.*not 'many'"),
        ("precision=float8", "precision: Input should be 'float32' or 'bfloat16', not 'float8'"),
        ("schedule=step", "'cosine', 'linear' or 'constant'"),
        ("kind=diffusion", "kind is one of masked, autoregressive, not diffusion"),
        ("model=large", "model is one of imagenet-256, .*not large"),
        ("steps", "key=value"),
        ("seed.x=1", "seed holds none"),
        ("seed=[", "not YAML"),
    ],
)
def test_says_what_is_allowed(change, said):
    with pytest.raises(UnusableRecipe, match=said):
        prior_plan("tiny", [change])


def test_says_which_recipes_there_are():
    with pytest.raises(UnusableRecipe, match="one of emoji-64, ffhq-256, imagenet-256, tiny"):
        prior_plan("imagenet")
    with pytest.raises(UnusableRecipe, match="cannot be read"):
        tokenizer_plan("no/such.yaml")


def test_a_perceptual_loss_needs_its_weights():
    with pytest.raises(UnusableRecipe, match="lpips_weights"):
        tokenizer_plan("tiny", ["perceptual=1.0"])


def test_a_batch_is_shared_out_in_whole_images():
    with pytest.raises(UnusableRecipe, match="batch_size 4 is not a multiple of 3 ranks x accumulate 1"):
        tokenizer_plan("tiny").check_divides(3)
