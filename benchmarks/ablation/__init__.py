"""The paper's claims, measured at our scale: `python -m benchmarks.ablation --help`."""
