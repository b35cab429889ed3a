"""What all tests share: the server that workers are forked from."""

import multiprocessing
import os

# Before torch is imported: its threads cost more than the small sums of tests gain, and tests run side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_sessionstart():
    # A process has one such server. Builds and loaders each tell it what to import, and the first one would be heard.
    multiprocessing.set_forkserver_preload(["pipeline.warm", "flamingo_model.data"])
