"""Other tools copying the same days to the same bucket, each as its own documentation says.

    _bench_peers.py NAME TABLE DAY...

Runs in a virtual environment of its own, without luigi_jobs; `prepare` is called once. None of them decodes anything.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import date, timedelta
from urllib.parse import quote, urlsplit

BUCKET = "luigi-jobs-bench"
CHUNK_ROWS = 100_000


def mysql_url(scheme: str) -> str:
    names = ("MYSQL_USER", "MYSQL_PASSWORD", "MYSQL_HOST", "MYSQL_PORT", "MYSQL_DATABASE")
    user, password, host, port, database = (os.environ[name] for name in names)
    return f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{host}:{port}/{database}"


def select_day(table: str, day: date) -> str:
    return f"SELECT * FROM {table} WHERE date_start >= '{day}' AND date_start < '{day + timedelta(days=1)}'"


def copy_with_dlt(table: str, days: list[date]) -> None:
    """Use its fastest backend, streaming as it advises for tables that do not fit into memory."""
    import dlt
    from dlt.destinations import filesystem
    from dlt.sources.sql_database import sql_table

    bucket = filesystem(
        bucket_url=f"s3://{BUCKET}/dlt",
        credentials={
            "aws_access_key_id": os.environ["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"],
            "endpoint_url": os.environ["S3_ENDPOINT_URL"],
            "region_name": os.environ["AWS_DEFAULT_REGION"],
        },
    )
    pipeline = dlt.pipeline(pipeline_name=f"bench_{table}", destination=bucket, dataset_name="bench")
    for day in days:

        def only_day(query, table, day=day):
            return query.where((table.c.date_start >= day) & (table.c.date_start < day + timedelta(days=1)))

        resource = sql_table(
            credentials=mysql_url("mysql+pymysql"),
            table=table,
            backend="connectorx",
            chunk_size=CHUNK_ROWS,
            backend_kwargs={"conn": mysql_url("mysql"), "return_type": "arrow_stream"},
            query_adapter_callback=only_day,
        )
        pipeline.run(resource, loader_file_format="parquet", write_disposition="append").raise_on_failed_jobs()


def copy_with_awswrangler(table: str, days: list[date]) -> None:
    import awswrangler as wr
    import pymysql

    wr.config.s3_endpoint_url = os.environ["S3_ENDPOINT_URL"]
    connection = pymysql.connect(
        host=os.environ["MYSQL_HOST"],
        port=int(os.environ["MYSQL_PORT"]),
        user=os.environ["MYSQL_USER"],
        password=os.environ["MYSQL_PASSWORD"],
        database=os.environ["MYSQL_DATABASE"],
        cursorclass=pymysql.cursors.SSCursor,
    )
    for day in days:
        for frame in wr.mysql.read_sql_query(select_day(table, day), connection, chunksize=CHUNK_ROWS):
            wr.s3.to_parquet(
                frame.assign(date=f"{day:%Y%m%d}"),
                path=f"s3://{BUCKET}/awswrangler/{table}/",
                dataset=True,
                partition_cols=["date"],
                mode="append",
            )


def prepare(_table: str, _days: list[date]) -> None:
    """Put DuckDB's extensions where it looks for them: out of PyPI's wheels, for its own host may be out of reach."""
    from duckdb_extensions import import_extension

    for name in ("mysql", "httpfs"):
        import_extension(name)


def copy_with_duckdb(table: str, days: list[date]) -> None:
    import duckdb

    for name in ("mysql", "httpfs"):
        duckdb.load_extension(name)
    s3 = urlsplit(os.environ["S3_ENDPOINT_URL"])
    duckdb.sql(
        f"CREATE SECRET (TYPE s3, KEY_ID '{os.environ['AWS_ACCESS_KEY_ID']}', "
        f"SECRET '{os.environ['AWS_SECRET_ACCESS_KEY']}', ENDPOINT '{s3.netloc}', URL_STYLE 'path', "
        f"REGION '{os.environ['AWS_DEFAULT_REGION']}', USE_SSL {s3.scheme == 'https'})"
    )
    names = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD", "database": "DATABASE"}
    options = " ".join(f"{key}={os.environ['MYSQL_' + name]}" for key, name in names.items())
    duckdb.sql(f"ATTACH '{options}' AS source (TYPE mysql, READ_ONLY)")
    for day in days:
        query = select_day(table, day).replace("'", "''")
        duckdb.sql(
            f"COPY (SELECT * FROM mysql_query('source', '{query}')) "
            f"TO 's3://{BUCKET}/duckdb/{table}/date={day:%Y%m%d}/{table}.parquet' (FORMAT parquet, COMPRESSION zstd)"
        )


PEERS: dict[str, Callable[[str, list[date]], None]] = {
    "prepare": prepare,
    "dlt": copy_with_dlt,
    "awswrangler": copy_with_awswrangler,
    "duckdb": copy_with_duckdb,
}


def main(name: str, table: str, *days: str) -> None:
    PEERS[name](table, [date.fromisoformat(day) for day in days])


if __name__ == "__main__":
    main(*sys.argv[1:])
