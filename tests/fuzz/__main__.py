"""``make fuzz``: many hostile inputs of every kind, counted.

python -m tests.fuzz [--only KIND] [--cases N] [--first SEED] [--workers N] [--out FOLDER]
python -m tests.fuzz --only KIND --cases 1 --first SEED      the same case again
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz.judge import Verdict
from fuzz.runner import fuzz
from fuzz.table import KINDS

COLUMNS: tuple[Verdict, ...] = ("worked", "refused", "raw", "noise", "hang", "death")


def main() -> int:
    """Print the table and the failures; 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--only", choices=KINDS, action="append")
    parser.add_argument("--cases", type=int, help="how many of each kind; default: those of 'many'")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path("out/fuzz"), help="for what failed")
    asked = parser.parse_args()
    rows, failed = [], 0
    for name in asked.only or KINDS:
        started, many = time.monotonic(), asked.cases or KINDS[name].many
        seeds = range(asked.first, asked.first + many)
        counts, failures = fuzz(name, seeds, asked.out / name.replace(" ", "-"), asked.workers)
        for failure in failures:
            said = " | ".join(failure.said.splitlines())
            print(f"{name} {failure.seed}: {failure.verdict}: {said[:900]}", flush=True)
        failed += len(failures)
        rows.append((name, many, *(counts[c] for c in COLUMNS), time.monotonic() - started))
    print(f"\n{'kind':<16}{'tried':>8}" + "".join(f"{c:>9}" for c in COLUMNS) + f"{'seconds':>9}")
    for name, many, *numbers, seconds in rows:
        print(f"{name:<16}{many:>8}" + "".join(f"{n:>9}" for n in numbers) + f"{seconds:>9.0f}")
    if failed:
        print(f"\n{failed} cases failed; their files are in {asked.out}.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
