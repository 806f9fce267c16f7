"""Two processes under torchrun are one process with twice the batch; only the first writes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from movq_core.training.distributed import Ranks
from tests.movq_core.training.trainers import KINDS, train

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]


def torchrun(*arguments):
    """Two ranks of a module on this machine, a thread each."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    done = subprocess.run(
        [*command, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module")
def two_ranks(data, tmp_path_factory):
    """What each rank ended with, by kind."""
    out = tmp_path_factory.mktemp("ranks")
    torchrun("tests.movq_core.training.trainers", data, out)
    return [torch.load(out / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


def without_key_biases(name, tensor):
    """Attention does not depend on the keys' bias: its gradient is rounding, which Adam makes steps of."""
    if not name.endswith("qkv.bias"):
        return tensor
    query, _, value = tensor.chunk(3)
    return torch.cat([query, value])


@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_are_one_process_with_twice_the_batch(kind, data, two_ranks):
    alone = train(kind, data, Ranks())
    for part in ("weights", "ema", "codebook"):
        assert two_ranks[0][kind][part].keys() == alone[part].keys()
        for name, tensor in alone[part].items():
            together = two_ranks[0][kind][part][name]
            assert torch.equal(together, two_ranks[1][kind][part][name]), f"the ranks' {name} differ"
            torch.testing.assert_close(
                without_key_biases(name, together),
                without_key_biases(name, tensor),
                atol=1e-5,
                rtol=0,
                msg=lambda text, name=name: f"{name}: {text}",
            )
    for name, value in alone["figures"].items():
        assert two_ranks[0][kind]["figures"][name] == pytest.approx(value, rel=1e-4, abs=1e-5), name


def test_codes_are_revived_and_the_critic_runs_in_what_is_compared(two_ranks):
    assert two_ranks[0]["tokenizer"]["figures"]["revived"] > 0
    assert "critic" in two_ranks[0]["critic"]["figures"]


def test_the_script_runs_under_torchrun_and_one_rank_writes(data, tmp_path):
    changes = [word for c in ("steps=4", "evaluate_every=2", "start_batches=4") for word in ("--set", c)]
    torchrun("movq_core.training.train_movq", "--data", data, "--out", tmp_path, "--recipe", "tiny", *changes)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["step"] == 4
    assert len(state["torch_rng"]) == 2
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def test_a_part_is_a_ranks_own_rows():
    assert [list(range(12))[Ranks(rank, 3).part(12)] for rank in range(3)] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10, 11],
    ]
