"""luigi_jobs: a date-partitioned Parquet copy of MySQL tables in S3 that finds and fills its own gaps.

`luigi --module luigi_jobs Backfill --table reports`
"""

import os

# Read when pyarrow is imported, which is later. Its own allocators keep tens of megabytes that they have freed.
# Source: https://arrow.apache.org/docs/cpp/env_vars.html
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")

from luigi_jobs import config, logs
from luigi_jobs.tasks import Backfill, BackfillAll, DecodeDay, ExtractDay, LoadDay
from luigi_jobs.version import __version__

logs.install()
config.set_luigi_defaults()

__all__ = ["Backfill", "BackfillAll", "DecodeDay", "ExtractDay", "LoadDay", "__version__"]
