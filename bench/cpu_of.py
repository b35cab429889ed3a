"""Run a command, wait for all the processes that it starts, and say what they took (Linux).

    python bench/cpu_of.py usage.json COMMAND ...

A fork server ends after its parent and is no child of it then: whatever loses its parent becomes a child of this
process, so that its CPU time is counted too. JSON goes out: seconds until the command ended, CPU seconds of all.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    """Run and wait; the exit status is that of the command."""
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    started = time.monotonic()
    status = subprocess.run(sys.argv[2:]).returncode
    seconds = time.monotonic() - started
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    Path(sys.argv[1]).write_text(json.dumps({"seconds": seconds, "cpu_s": usage.ru_utime + usage.ru_stime}), "utf-8")
    sys.exit(status)


if __name__ == "__main__":
    main()
