import subprocess
import sys
from datetime import UTC, date
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from luigi.configuration.cfg_parser import LuigiConfigParser
from project import table_settings

from luigi_jobs.config import LUIGI_DEFAULTS, parse_settings, set_luigi_defaults
from luigi_jobs.errors import ConfigError
from luigi_jobs.settings import (
    DateRule,
    DecodeRule,
    FingerprintRule,
    LakeSettings,
    MySQLSettings,
    Settings,
    TableSettings,
    TypeRule,
)

ROOT = Path(__file__).parent.parent
GOOD = {
    "mysql": {"host": "db", "user": "reader", "password": "${TEST_PASSWORD}", "database": "shop"},
    "lake": {"url": "s3://bucket/lake", "staging_dir": "/var/tmp/x"},
    "table.reports": {"date_column": "date_start", "since": "2021-01-01"},
}
PASSWORD = "p%40/@'ä\"pass"


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_PASSWORD", PASSWORD)


def parse(sections: dict[str, dict[str, str]]) -> Settings:
    text = "".join(
        f"[{section}]\n"
        + "".join(f"{key} = {value}\n".replace("\n", "\n  ").rstrip(" ") for key, value in keys.items())
        for section, keys in sections.items()
    )
    parser = LuigiConfigParser()
    parser.read_string(text)
    return parse_settings(parser)


def change(section: str, **keys: str | None) -> dict[str, dict[str, str]]:
    merged = GOOD.get(section, {}) | keys
    return GOOD | {section: {key: value for key, value in merged.items() if value is not None}}


def test_settings_of_few_keys_have_the_documented_defaults() -> None:
    assert parse(GOOD) == Settings(
        mysql=MySQLSettings("db", 3306, "reader", PASSWORD, "shop", "PREFERRED", "", "connectorx", 10, 600, 0),
        lake=LakeSettings("s3://bucket/lake/", "bucket", "lake/", "date", "/var/tmp/x", UTC, 0.0, 10, 60),
        tables={"reports": table_settings()},
    )


def test_settings_of_every_key() -> None:
    settings = parse(
        {
            "mysql": GOOD["mysql"] | {"port": "3307", "driver": "pymysql", "ssl_mode": "DISABLED"},
            "lake": {"url": "s3://bucket", "timezone": "Europe/Berlin", "settle_hours": "1.5", "partition_key": "ds"},
            "table.r": {
                "source": "order",
                "date_column": "at",
                "since": "2021-01-01",
                "decode": "\nencoded -> decoded: base64 | utf8\n  raw -> raw:hex\n",
                "on_decode_error": "null",
                "dates": "\nat: %d/%m/%Y %H:%M\n  decoded:%%Y-%%m-%%d\n",
                "transform": "shop.reports:tidy",
                "types": "\na:b: boolean\nprice : decimal(12, 4)",
                "zero_dates": "error",
                "schema_changes": "accept",
                "connections": "4",
                "slice_mb": "32",
                "fingerprint": "MAX( updated at )",
                "refresh_days": "7",
            },
        }
    )

    assert (settings.mysql.port, settings.mysql.driver, settings.mysql.ssl_mode) == (3307, "pymysql", "DISABLED")
    assert settings.lake.timezone == ZoneInfo("Europe/Berlin")
    assert (settings.lake.prefix, settings.lake.partition_key, settings.lake.settle_hours) == ("", "ds", 1.5)
    assert settings.table("r") == TableSettings(
        name="r",
        source="order",
        date_column="at",
        since=date(2021, 1, 1),
        types=(TypeRule("a:b", "boolean"), TypeRule("price", "decimal(12, 4)")),
        decode=(DecodeRule("encoded", "decoded", ("base64", "utf8")), DecodeRule("raw", "raw", ("hex",))),
        on_decode_error="null",
        dates=(DateRule("at", "%d/%m/%Y %H:%M"), DateRule("decoded", "%Y-%m-%d")),
        zero_dates="error",
        transform="shop.reports:tidy",
        schema_changes="accept",
        fingerprint=FingerprintRule("max", "updated at"),
        refresh_days=7,
        connections=4,
        slice_mb=32,
    )


@pytest.mark.parametrize(
    ("written", "form"),
    [
        ("%d/%m/%Y", "%d/%m/%Y"),
        ("%%d/%%m/%%Y", "%d/%m/%Y"),
        ("%Y-%m-%dT%H:%M:%S.%f%z", "%Y-%m-%dT%H:%M:%S.%f%z"),
        ("%I:%M %p, %d %B %y", "%I:%M %p, %d %B %y"),
        ("%Y-%j", "%Y-%j"),
        ("%G-W%V-%u", "%G-W%V-%u"),
        ("%a %d %b %Y %%%%", "%a %d %b %Y %%"),
    ],
)
def test_dates_are_read_with_one_percent_sign_or_two(written: str, form: str) -> None:
    assert parse(change("table.reports", dates=f"day: {written}")).table("reports").dates == (DateRule("day", form),)


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ("x", "does not say which year, month and day"),
        ("%d/%m", "does not say which year, month and day"),
        ("%m/%Y", "does not say which year, month and day"),
        ("%H:%M", "does not say which year, month and day"),
        ("%d/%m/%Y %M", "has no hour"),
        ("%d/%m/%Y %I", "has one of %I and %p without the other"),
        ("%d/%m/%Y %H %p", "has one of %I and %p without the other"),
        ("%d/%m/%Y %Q", "has '%Q', which is none of %% %A %B %G %H"),
        ("%d/%m/%Y %", "has '%', which is none of %% %A %B"),
        ("%x", "has '%x', which is none of %% %A %B"),
        ("%d/%m/%Y %Z", "has '%Z', which is none of %% %A %B"),
        ("%d/%m/%Y %d", "cannot be read: redefinition of group name 'd'"),
        ("%G-%d/%m", "cannot be read: ISO year directive '%G' must be used with"),
    ],
)
def test_format_that_does_not_say_which_day_is_refused(form: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(change("table.reports", dates=f"day: {form}"))

    assert f"[table.reports] dates = 'day: {form}': format '{form}' {reason}" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "bucket", "prefix"),
    [
        ("s3://b", "b", ""),
        ("s3://b/", "b", ""),
        ("s3://b/a/b//c", "b", "a/b/c/"),
        ("/srv/lake", None, "/srv/lake/"),
        ("file:///srv/lake/", None, "/srv/lake/"),
        ("/srv/la?ke#1", None, "/srv/la?ke#1/"),
    ],
)
def test_lake_url(url: str, bucket: str | None, prefix: str) -> None:
    lake = parse(change("lake", url=url)).lake

    assert (lake.bucket, lake.prefix) == (bucket, prefix)


@pytest.mark.parametrize(
    ("section", "keys", "message"),
    [
        ("mysql", {"host": None}, "[mysql] host: is missing"),
        ("mysql", {"password": None}, "[mysql] password: is missing"),
        ("mysql", {"password": "${NOT_SET}"}, "[mysql] password: environment variable NOT_SET is not set"),
        ("mysql", {"password": "s3cret%"}, "[mysql] password: write a percent sign as %% and a variable as ${NAME}"),
        ("mysql", {"host": ""}, "[mysql] host = '': is empty"),
        ("mysql", {"port": "70000"}, "[mysql] port = '70000': must be a whole number from 1 to 65535"),
        ("mysql", {"port": "x"}, "[mysql] port = 'x': must be a whole number from 1 to 65535"),
        ("mysql", {"driver": "odbc"}, "[mysql] driver = 'odbc': must be one of connectorx, pymysql"),
        ("mysql", {"pasword": "x"}, "[mysql] pasword: unknown key; known are host, port, user, password, database"),
        ("mysql", {"ssl_mode": "VERIFY_CA"}, "[mysql] ssl_ca: is missing; ssl_mode = VERIFY_CA checks"),
        (
            "mysql",
            {"ssl_mode": "VERIFY_CA", "ssl_ca": "/no/file"},
            "luigi.cfg: [mysql] ssl_ca = '/no/file': is no file",
        ),
        ("mysql", {"ssl_ca": "/no/such/file"}, "[mysql] ssl_ca = '/no/such/file': is no file"),
        ("lake", {"url": "gs://b/x"}, "[lake] url = 'gs://b/x': must be s3://bucket/prefix or a local folder"),
        ("lake", {"url": "s3://b/a/../c"}, "must be s3://bucket/prefix or a local folder"),
        ("mysql", {"password": "${NOT_SET:-s3cret}"}, "[mysql] password: write a variable as ${NAME}"),
        ("table.reports", {"since": "0999-12-31"}, "must be a date, YYYY-MM-DD, not before 1000-01-01"),
        ("table.reports", {"since": "2021-W01-1"}, "must be a date, YYYY-MM-DD, not before 1000-01-01"),
        ("table.reports", {"decode": "a -> : base64"}, "'a -> : base64' is not `source -> target: decoder`"),
        ("tables.other", {"since": "2021-01-01"}, "[tables.other]: unknown section; a table is [table.NAME]"),
        ("Table.other", {"since": "2021-01-01"}, "[Table.other]: unknown section; a table is [table.NAME]"),
        ("lake", {"url": ""}, "must be s3://bucket/prefix or a local folder"),
        ("lake", {"staging_dir": "/"}, "[lake] staging_dir = '/': must not be the root of the file system"),
        ("lake", {"timezone": "Mars/Olympus"}, "[lake] timezone = 'Mars/Olympus': must be a time zone such as"),
        ("lake", {"settle_hours": "-1"}, "[lake] settle_hours = '-1': must be a number of hours, 0 or more"),
        ("lake", {"partition_key": "a=b"}, "[lake] partition_key = 'a=b': must be a lower-case word"),
        ("table.reports", {"since": None}, "[table.reports] since: is missing"),
        (
            "table.reports",
            {"since": "1.1.2021"},
            "[table.reports] since = '1.1.2021': must be a date, YYYY-MM-DD, not before 1000-01-01",
        ),
        ("table.reports", {"decode": "a: base64"}, "'a: base64' is not `source -> target: decoder`"),
        ("table.reports", {"decode": "a -> b: rot13"}, "no decoder 'rot13'; known are base64, base64url, hex, gzip"),
        ("table.reports", {"decode": "a -> b: hex\na -> c: hex"}, "source column 'a' stands in two rules"),
        ("table.reports", {"decode": "a -> c: hex\nb -> c: hex"}, "target column 'c' stands in two rules"),
        ("table.reports", {"on_decode_error": "skip"}, "on_decode_error = 'skip': must be one of fail, null"),
        ("table.reports", {"dates": "%d/%m/%Y"}, "'%d/%m/%Y' is not `column: format`"),
        ("table.reports", {"dates": "a: %Y%m%d\na: %Y-%m-%d"}, "dates: column 'a' stands in two rules"),
        ("table.reports", {"transform": "os.system"}, "must be package.module:function"),
        ("table.../x", {"date_column": "d", "since": "2021-01-01"}, "[table.../x]: the name holds a slash"),
        ("table._x", {"date_column": "d", "since": "2021-01-01"}, "[table._x]: the name begins with '_'"),
    ],
)
def test_settings_that_are_wrong_are_named(section: str, keys: dict[str, str | None], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(change(section, **keys))

    assert message in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.fault("F33", "several problems in luigi.cfg are one error")
def test_settings_report_every_problem_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse({"mysql": {"host": "db", "port": "x"}, "table.reports": {"since": "x"}})

    assert str(caught.value) == (
        "luigi.cfg: [mysql] port = 'x': must be a whole number from 1 to 65535; [mysql] user: is missing; "
        "[mysql] password: is missing; [mysql] database: is missing; [lake]: the section is missing; "
        "[table.reports] date_column: is missing; [table.reports] since = 'x': must be a date, "
        "YYYY-MM-DD, not before 1000-01-01"
    )


def test_settings_without_a_table_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"no section \[table.NAME\]"):
        parse({name: keys for name, keys in GOOD.items() if not name.startswith("table")})


def test_table_that_is_unknown_names_those_that_are_known() -> None:
    with pytest.raises(ConfigError, match=r"unknown table 'orders': .* no section \[table.orders\]; tables: reports"):
        parse(GOOD).table("orders")


def test_password_stands_in_no_repr_and_no_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = parse(GOOD)
    fingerprint = settings.hash(settings.table("reports"))
    monkeypatch.setenv("TEST_PASSWORD", "another")

    assert PASSWORD not in repr(settings)
    assert parse(GOOD).hash(settings.table("reports")) == fingerprint


def test_fingerprint_changes_with_what_decides_the_rows() -> None:
    changed = [
        GOOD,
        change("mysql", host="other"),
        change("mysql", driver="pymysql"),
        change("lake", timezone="Europe/Berlin"),
        change("table.reports", source="other"),
        change("table.reports", decode="a -> b: hex"),
        change("table.reports", on_decode_error="null"),
        change("table.reports", dates="a: %Y%m%d"),
    ]
    prints = [parse(sections) for sections in changed]

    assert len({settings.hash(settings.table("reports")) for settings in prints}) == len(changed)


def test_keys_of_default_hold_where_a_section_has_none() -> None:
    default = {"DEFAULT": {"ssl_mode": "REQUIRED", "foo": "x"}}

    assert parse(default | change("mysql", ssl_mode="DISABLED")).mysql.ssl_mode == "DISABLED"
    assert parse(default | GOOD).mysql.ssl_mode == "REQUIRED"


def test_password_keeps_its_blanks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_PASSWORD", " pw ")

    assert parse(GOOD).mysql.password == " pw "


def test_no_luigi_cfg_says_where_it_was_looked_for() -> None:
    with pytest.raises(ConfigError, match=r"no luigi.cfg with \[mysql\], \[lake\] and .* start luigi in its folder"):
        parse({"core": {"log_level": "INFO"}})


def test_luigi_defaults_are_those_of_the_shipped_luigi_cfg_and_yield_to_the_users() -> None:
    shipped = LuigiConfigParser()
    shipped.read(ROOT / "luigi.cfg")
    parser = LuigiConfigParser()
    parser.read_string("[retcode]\ntask_failed = 77\n[core]\nlog_level = ERROR\n")
    set_luigi_defaults(parser)

    for section, keys in LUIGI_DEFAULTS.items():
        assert {key: shipped.get(section, key) for key in keys} == keys
    assert parser.get("retcode", "task_failed") == "77"
    assert parser.get("retcode", "scheduling_error") == "35"
    assert parser.get("core", "log_level") == "ERROR"


def test_shipped_luigi_cfg_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MYSQL_HOST", "MYSQL_USER", "MYSQL_PASSWORD", "MYSQL_DATABASE", "LAKE_BUCKET"):
        monkeypatch.setenv(name, name.lower())
    parser = LuigiConfigParser()
    parser.read(ROOT / "luigi.cfg")

    settings = parse_settings(parser)

    assert settings.lake.url == "s3://lake_bucket/lake/"
    assert settings.table("reports").decode == (DecodeRule("encoded", "decoded", ("base64", "utf8")),)


def test_importing_the_package_takes_no_pandas_and_reads_no_settings() -> None:
    code = "import sys, luigi_jobs; sys.exit('pandas' in sys.modules or 'connectorx' in sys.modules)"

    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd="/", check=False).returncode == 0
