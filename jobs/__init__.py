"""The commands: one module each. Those that a cluster runs are also run as `python -m jobs.NAME`."""

import os

# Read when pyarrow is imported, hence here. Its own allocators keep tens of MiB that are free, out of others' reach.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
