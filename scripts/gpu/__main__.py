"""`make gpu`: everything this project wants to know of a GPU, in one command of at most eight minutes.

Stages, each leaving its report in the folder as soon as it is done; a stage that is there is not repeated:
checks   the tests marked `gpu`
speed    `e2vpt bench speed`, and what part of the card's measured matrix peak it reaches
folder   1,000 images to an adapter, and where the time goes
modes    CUDA graphs and torch.compile beside plain execution, and which kernels a training step spends on
compare  methods side by side on real tasks, where a folder of them is given, several at once

Needs PyTorch, timm and this project, no network. `--quick` is the same on tiny settings, for the CPU.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from pathlib import Path

from scripts.gpu.stages import STAGES


def main() -> int:
    """Run the stages that are asked for and missing; 0 where all went well."""
    asked = _arguments()
    asked.out.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in asked.stages.split(","):
        done = asked.out / f"{name}.done"
        if done.exists():
            continue
        print(f"== {name}", flush=True)
        began = time.monotonic()
        try:
            STAGES[name](asked)
        except (subprocess.CalledProcessError, RuntimeError) as error:
            failed.append(name)
            print(f"-- {name} failed: {error}", flush=True)
            continue
        done.write_text(f"{time.monotonic() - began:.0f} s\n")
        print(f"-- {name}: {done.read_text()}", flush=True)
    return len(failed)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--data", type=Path, help="a folder with tasks/*.tar and weights/*.safetensors")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument(
        "--limit", type=float, default=400, help="seconds after which a comparison is stopped"
    )
    parser.add_argument("--quick", action="store_true", help="tiny settings, to see that it works")
    asked = parser.parse_args()
    if unknown := set(asked.stages.split(",")) - set(STAGES):
        parser.error(f"--stages: {', '.join(sorted(unknown))} is none of {', '.join(STAGES)}")
    return asked


if __name__ == "__main__":
    raise SystemExit(main())
