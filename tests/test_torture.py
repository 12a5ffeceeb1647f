import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow.parquet as pq
import pytest
from luigi.configuration.cfg_parser import LuigiConfigParser
from project import Project, without_footer
from reading import DRIVERS, READERS, Columns, count_zero_dates, load_object
from torture import KINDS, Kind, known_kinds, make_table, print_table

PLAIN_DAY, GUARDED_DAY = date(2021, 1, 30), date(2021, 1, 31)
DAYS = [PLAIN_DAY, GUARDED_DAY]


@dataclass
class Torture:
    """What MySQL prints, column by column, and what both drivers brought to the lake.

    Attributes:
        names: the column of a type; a type that the server lacks has none.
        printed: for each day, the values of each column as MySQL prints them.
        objects: for each driver and day, the object.
        views: the same of a view over the table.
        tables: for each driver, day and reader, the columns.
    """

    names: dict[str, str]
    printed: dict[date, dict[str, list[str | None]]]
    objects: dict[tuple[str, date], bytes]
    views: dict[tuple[str, date], bytes]
    tables: dict[tuple[str, date, str], Columns]


@pytest.fixture(scope="module")
def torture(
    server: Any, s3: Any, bucket: str, mysql_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Torture:
    """Every type's values, loaded by both drivers on a server that lives in Tokyo.

    Of the two days with the same rows, the second has one date that is none, so that all its dates are guarded.
    """
    database, folder = f"luigi_jobs_test_{uuid4().hex[:12]}", tmp_path_factory.mktemp("torture")
    with server.cursor() as cursor, pytest.MonkeyPatch.context() as patch:
        for name, value in mysql_environment.items():
            patch.setenv(name, value)
        patch.setattr(LuigiConfigParser, "_instance", LuigiConfigParser._instance)
        cursor.execute(f"CREATE DATABASE {database} CHARACTER SET utf8mb4")
        server.select_db(database)
        server.db = database.encode()
        cursor.execute("SELECT @@global.time_zone")
        (zone,) = cursor.fetchone()
        cursor.execute("SET GLOBAL time_zone='+09:00'")
        try:
            kinds = {f"c{number}": kind for number, kind in enumerate(known_kinds(cursor))}
            make_table(cursor, "torture", kinds, DAYS)
            cursor.execute("UPDATE torture SET zero = '0000-00-00' WHERE at = %s ORDER BY id LIMIT 1", (GUARDED_DAY,))
            project = Project(folder, cursor, s3, bucket, "torture", dict(os.environ))
            cursor.execute("CREATE VIEW torture_view AS SELECT * FROM torture")
            objects, views = (load_days(project, table) for table in ("torture", "torture_view"))
            printed = {day: print_table(mysql_environment, database, "torture", kinds, day) for day in DAYS}
        finally:
            cursor.execute("SET GLOBAL time_zone=%s", (zone,))
            cursor.execute(f"DROP DATABASE {database}")
    return Torture(
        names={kind.mysql: name for name, kind in kinds.items()},
        printed=printed,
        objects=objects,
        views=views,
        tables={(*key, reader.__name__): reader(data, folder) for key, data in objects.items() for reader in READERS},
    )


def load_days(project: Project, table: str) -> dict[tuple[str, date], bytes]:
    project.configure(f"table.{table}", date_column="at", since="2021-01-01")
    return {(driver, day): load_object(project, driver, table, day) for driver in DRIVERS for day in DAYS}


def test_view_is_the_same_bytes_as_its_table(torture: Torture) -> None:
    for key, data in torture.objects.items():
        assert without_footer(torture.views[key]) == without_footer(data)


@pytest.mark.parametrize("day", DAYS)
def test_both_drivers_publish_the_same_bytes(torture: Torture, day: date) -> None:
    first, second = (torture.objects[driver, day] for driver in DRIVERS)

    assert without_footer(first) == without_footer(second)
    assert count_zero_dates(first) == ({"zero": 1} if day == GUARDED_DAY else {})


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", KINDS, ids=[kind.mysql[:40] for kind in KINDS])
def test_values_are_those_that_mysql_prints(
    torture: Torture, kind: Kind, reader: Callable[[bytes, Path], Columns]
) -> None:
    if kind.mysql not in torture.names:
        pytest.skip(f"this server has no {kind.mysql}")
    name = torture.names[kind.mysql]

    for day in DAYS:
        texts = torture.printed[day][name]
        expected = [None if text is None else kind.print.read(text) for text in texts]
        assert None not in texts[: len(kind.values)]
        assert expected[-1] is None
        for driver in DRIVERS:
            found = torture.tables[driver, day, reader.__name__][name]
            # repr: a zero has a sign, 1.10 has two decimals, and True is no 1.
            assert list(map(repr, found)) == list(map(repr, expected)), f"{driver} {day}"


@pytest.mark.parametrize("kind", KINDS, ids=[kind.mysql[:40] for kind in KINDS])
def test_type_in_the_lake(torture: Torture, kind: Kind) -> None:
    if kind.mysql not in torture.names:
        pytest.skip(f"this server has no {kind.mysql}")

    for data in torture.objects.values():
        schema = pq.ParquetFile(BytesIO(data)).schema_arrow
        assert schema.field(torture.names[kind.mysql]).type == kind.lake
