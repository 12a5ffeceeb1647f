"""luigi_jobs with batches of a few rows, and progress every second: `luigi --module small_batches …`."""

import luigi_jobs  # noqa: F401  # registers the tasks
from luigi_jobs import progress, reader

reader.MAX_BATCH_ROWS = 4
progress.LOG_EVERY_S = 1.0
