"""The lake of luigi.cfg: an S3 prefix or a local folder.

Both publish a day by one atomic step, so that a reader sees the old day, the new day or no day, never a part.
"""

import os
from functools import cache

from luigi_jobs.local_lake import LocalLake
from luigi_jobs.s3_lake import S3Lake
from luigi_jobs.settings import LakeSettings
from luigi_jobs.stored_days import Lake


def open_lake(settings: LakeSettings) -> Lake:
    """Return this process's one lake: a boto3 client that two processes share returns each other's answers."""
    return _open_lake(settings, os.getpid())


@cache
def _open_lake(settings: LakeSettings, pid: int) -> Lake:
    return S3Lake(settings) if settings.bucket else LocalLake(settings)
