"""What workers are forked from: Beam and all stages, imported once, for the forkserver of `local`."""

import importlib
import logging

# Beam warns at import of cloud libraries that are not needed here; what a person should know comes through the pipe.
logging.getLogger().setLevel(logging.CRITICAL)
for module in ("pipeline.build", "pipeline.runner"):
    importlib.import_module(module)
