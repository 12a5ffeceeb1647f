"""luigi_jobs with batches of a few rows, and progress every second: `luigi --module small_batches …`."""

import luigi_jobs  # noqa: F401  # registers the tasks
from luigi_jobs import mysql, progress

mysql.UNKNOWN_ROW_BYTES = mysql.BATCH_BYTES // 4
progress.LOG_EVERY_S = 1.0
