"""Run cases of other seeds: ``python -m tests.fuzz FIRST_SEED N_CASES``; prints each kind of failure once."""

import random
import re
import sys

import torch

from tests.fuzz.cases import KINDS, judge, make_case


def count_failures(first: int, n_cases: int) -> int:
    """Try cases of consecutive seeds; return how many kinds of failures there are."""
    seen: dict[str, int] = {}
    for seed in range(first, first + n_cases):
        draw = random.Random(seed)
        case = make_case(draw.choice, draw.choice(list(KINDS)))
        for complaint in judge(case):
            complaint = f"[pending] {complaint}" if case.is_pending else complaint
            key = re.sub(r"\d+(\.\d+)?", "#", complaint)[:90]
            seen[key] = seen.get(key, 0) + 1
            if seen[key] == 1:
                print(f"--- seed {seed}: {complaint}\n{case}\n", flush=True)
    for key, count in sorted(seen.items(), key=lambda item: -item[1]):
        print(f"{count:6} {key}")
    return len(seen)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(min(1, count_failures(int(sys.argv[1]), int(sys.argv[2]))))
