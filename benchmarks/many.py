"""``make many``: a run over 10,000 pictures of which 300 are bad; the same run, killed 20 times."""

import argparse
import sys
import tempfile
import warnings
from pathlib import Path

from support import many


def main() -> int:
    """Print the counts; 1 if something was lost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many")
    parser.add_argument("--good", type=int, default=9700)
    parser.add_argument("--bad", type=int, default=300)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")  # of Pillow, about headers
    with tempfile.TemporaryDirectory() as folder:
        ways = many.prepare(Path(folder), asked.good, asked.bad, asked.seed)
        counts = many.run(Path(folder), asked.kills, asked.seed)
    print(f"{asked.good} good pictures and {asked.bad} that are bad in {ways} ways")
    print(f"results: {counts.results}; error lines: {counts.errors}; exit code: {counts.code}")
    print(f"{counts.seconds:.0f} s, {(asked.good + asked.bad) / counts.seconds:.0f} images/s")
    same = "the same, byte by byte" if counts.same else "DIFFERENT"
    print(f"files of the run that was killed {counts.kills} times and went on: {same}")
    wanted = (asked.good, asked.bad, 1, True)
    return 0 if (counts.results, counts.errors, counts.code, counts.same) == wanted else 1


if __name__ == "__main__":
    sys.exit(main())
