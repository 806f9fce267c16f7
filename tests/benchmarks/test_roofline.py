"""What a forward pass costs, counted by formula and by torch."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu.roofline import prior_flops
from movq_core.config import MASKGIT_PRESETS, MaskGITConfig
from movq_core.models.maskgit import MaskGIT

OTHER = MaskGITConfig(
    code_channels=3, codebook_size=48, grid_size=6, num_classes=2, width=64, depth=3, heads=4, mlp_ratio=2
)


@pytest.mark.parametrize("config", [MASKGIT_PRESETS["tiny"], OTHER], ids=["tiny", "other"])
def test_the_formula_is_what_torch_counts(config):
    prior = MaskGIT(config).eval().requires_grad_(False)
    codes = torch.zeros(2, config.code_channels, config.grid_size, config.grid_size, dtype=torch.int64)
    # Plain products: the fused attention of the CPU is none that torch's counter knows.
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        prior(codes, torch.zeros(2, dtype=torch.int64))
    assert counter.get_total_flops() == 2 * prior_flops(config)
