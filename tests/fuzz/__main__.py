"""`python -m tests.fuzz image --minutes 5`: libFuzzer, by way of atheris, against one target or all.

It starts from the corpus beside this file. What it finds is written to `data/fuzz/<target>/`: a finding
becomes a file of the corpus, with what it found in its name, once a fix is there.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import warnings
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
FOUND = Path("data/fuzz")
TOO_SLOW_S = 10
TOO_LARGE_MIB = 3000
MAX_BYTES = 8192


def main() -> int:
    """Each target in a process of its own, which libFuzzer ends; 1 when one found something."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--minutes", type=float, default=1.0, help="for each target")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        fuzz(options.targets[0], options.minutes)
        return 0
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - in `fuzz` it is instrumented

    command = [sys.executable, "-m", "tests.fuzz", "--here", "--minutes", str(options.minutes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    codes = [
        subprocess.run([*command, name], env=environment, check=False).returncode
        for name in options.targets or TARGETS
    ]
    return int(any(codes))


def fuzz(name: str, minutes: float) -> None:
    """Never returns: libFuzzer ends the process."""
    import atheris  # noqa: PLC0415 - what is imported from here on is instrumented

    with atheris.instrument_imports(include=["movq_core", "service", "worker", "PIL", "safetensors"]):
        from tests.fuzz.targets import TARGETS, attack  # noqa: PLC0415

    warnings.simplefilter("ignore")
    found = FOUND / name
    (found / "corpus").mkdir(parents=True, exist_ok=True)
    arguments = [
        sys.argv[0],
        str(found / "corpus"),
        str(CORPUS / name),
        f"-max_total_time={round(60 * minutes)}",
        f"-timeout={TOO_SLOW_S}",
        f"-rss_limit_mb={TOO_LARGE_MIB}",
        f"-max_len={MAX_BYTES}",
        f"-artifact_prefix={found}/",
        "-print_final_stats=1",
        "-verbosity=0",
    ]
    atheris.Setup(arguments, lambda data: attack(TARGETS[name], data))
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
