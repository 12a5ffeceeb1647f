"""Clients of the servers that the environment names, as `scripts/services env` writes it."""

from __future__ import annotations

import os
from typing import Any

import pymysql
from pyarrow.fs import S3FileSystem


def connect(**options: Any) -> pymysql.Connection:
    return pymysql.connect(
        host=os.environ["MYSQL_HOST"],
        port=int(os.environ["MYSQL_PORT"]),
        user=os.environ["MYSQL_USER"],
        password=os.environ["MYSQL_PASSWORD"],
        database=os.environ["MYSQL_DATABASE"],
        charset="utf8mb4",
        **options,
    )


def open_filesystem() -> S3FileSystem:
    scheme, _, host = os.environ["S3_ENDPOINT_URL"].partition("://")
    return S3FileSystem(
        access_key=os.environ["AWS_ACCESS_KEY_ID"],
        secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        region=os.environ["AWS_DEFAULT_REGION"],
        scheme=scheme,
        endpoint_override=host,
    )
