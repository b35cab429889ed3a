"""Near-duplicates with datasketch: texts come in as JSON, the cluster of each and what it took go out as JSON.

    python bench/peer_dedup.py texts.json result.json      (bench/dedup.py runs this)

Imports nothing of the project: the peer runs in a virtual environment of its own. Shingles are five words, lower case,
joined by spaces; the index is datasketch's own in memory, asked for each text before the text is added; what it finds
is joined by union-find. It does not compare signatures: what shares a band is taken for similar.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

PERMUTATIONS = 128
THRESHOLD = 0.8
SHINGLE_WORDS = 5
WORD = re.compile(r"\w+")


def shingles(text: str) -> list[bytes]:
    words = WORD.findall(text.lower())
    return [" ".join(words[at : at + SHINGLE_WORDS]).encode() for at in range(len(words) - SHINGLE_WORDS + 1)]


def main() -> None:
    from datasketch import MinHash, MinHashLSH

    texts = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    held_mib = memory_mib("VmRSS")
    started = time.process_time()
    index = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS)
    parents = list(range(len(texts)))

    def find(number: int) -> int:
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number

    known: dict[bytes, int] = {}
    for number, text in enumerate(texts):
        signature = MinHash(PERMUTATIONS)
        signature.update_batch(shingles(text))
        # Without this a big bucket costs the square of its size: each of its texts would be found for each.
        same = known.setdefault(signature.hashvalues.tobytes(), number)
        for found in [same] if same != number else index.query(signature):
            first, second = find(found), find(number)
            parents[max(first, second)] = min(first, second)
        if same == number:
            index.insert(number, signature)
    result = {
        "clusters": [find(number) for number in range(len(texts))],
        "stages": {"all": time.process_time() - started},
        "peak_mib": memory_mib("VmHWM") - held_mib,
    }
    Path(sys.argv[2]).write_text(json.dumps(result), "utf-8")


def memory_mib(name: str) -> float:
    """Give the memory that this process holds (`VmRSS`), or the most of it so far (`VmHWM`)."""
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.partition(f"{name}:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main()
