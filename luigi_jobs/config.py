"""luigi.cfg -> frozen settings. The only reader of the sections [mysql], [lake] and [table.NAME].

Everything wrong is reported at once, in one error, before anything is started.
"""

import os
import re
from collections.abc import Callable, Mapping
from configparser import ConfigParser, InterpolationError
from dataclasses import dataclass
from functools import cache
from typing import Any

from luigi.configuration import get_config
from luigi.configuration.cfg_parser import InterpolationMissingEnvvarError

from luigi_jobs.days import ONE_DAY, utc_today
from luigi_jobs.errors import ConfigError
from luigi_jobs.layout import check_table_name
from luigi_jobs.settings import TABLE_SECTION, LakeSettings, MySQLSettings, Settings, TableSettings
from luigi_jobs.values import (
    parse_anything,
    parse_choice,
    parse_date,
    parse_dates,
    parse_decode,
    parse_file,
    parse_fingerprint,
    parse_folder,
    parse_hours,
    parse_integer,
    parse_partition_key,
    parse_text,
    parse_transform,
    parse_types,
    parse_url,
    parse_zone,
)

DRIVERS = ("connectorx", "pymysql")
SSL_MODES = ("DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")

# What Luigi does by itself is no basis for a nightly job: exit 0 after a failure, a task done without its result.
LUIGI_DEFAULTS = {
    "core": {"log_level": "INFO", "rpc_connect_timeout": "10", "rpc_retry_attempts": "3", "rpc_retry_wait": "2"},
    "worker": {"force_multiprocessing": "true", "check_complete_on_run": "true"},
    "retcode": {
        "already_running": "10",
        "missing_data": "20",
        "not_run": "25",
        "task_failed": "30",
        "scheduling_error": "35",
        "unhandled_exception": "40",
    },
}


def set_luigi_defaults(parser: ConfigParser | None = None) -> None:
    """Set what luigi.cfg, or `parser`, leaves out of Luigi's own sections to the values of the shipped one."""
    parser = parser or get_config()
    for section, keys in LUIGI_DEFAULTS.items() if isinstance(parser, ConfigParser) else ():
        if not parser.has_section(section):
            parser.add_section(section)
        for key, value in keys.items():
            if not parser.has_option(section, key):
                parser.set(section, key, value)


@cache
def load_settings() -> Settings:
    """Read luigi.cfg once and check all of it.

    Raises:
        ConfigError: names section, key and value of everything that is wrong.
    """
    parser = get_config()
    if not isinstance(parser, ConfigParser):
        raise ConfigError("luigi_jobs reads luigi.cfg; unset LUIGI_CONFIG_PARSER or set it to `cfg`")
    return parse_settings(parser)


def parse_settings(parser: ConfigParser) -> Settings:
    """Turn the sections of a parsed luigi.cfg into Settings.

    Raises:
        ConfigError: names section, key and value of everything that is wrong.
    """
    ours = [name for name in parser.sections() if name in ("mysql", "lake") or name.startswith("table")]
    if not ours:
        raise ConfigError(
            f"no luigi.cfg with [mysql], [lake] and [{TABLE_SECTION}NAME] was read: start luigi in its folder (this is "
            f"{os.getcwd()}), or set LUIGI_CONFIG_PATH (it is {os.environ.get('LUIGI_CONFIG_PATH', 'not set')})"
        )
    problems = [
        f"[{name}]: unknown section; a table is [{TABLE_SECTION}NAME]"
        for name in parser.sections()
        if re.match("tables?\\b", name, re.IGNORECASE) and not name.startswith(TABLE_SECTION)
    ]
    mysql = _read_section(parser, "mysql", _MYSQL_KEYS, problems)
    lake = _read_section(parser, "lake", _LAKE_KEYS, problems)
    if mysql.get("ssl_mode", "").startswith("VERIFY") and mysql.get("ssl_ca") == "":
        problems.append(f"[mysql] ssl_ca: is missing; ssl_mode = {mysql['ssl_mode']} checks the server against it")
    names = [section[len(TABLE_SECTION) :] for section in parser.sections() if section.startswith(TABLE_SECTION)]
    if not names:
        problems.append(f"no section [{TABLE_SECTION}NAME]: there is no table to copy")
    tables = {name: _read_table(parser, name, problems) for name in names}
    if problems:
        raise ConfigError(f"luigi.cfg: {'; '.join(problems)}")
    bucket, prefix = lake["url"]
    return Settings(
        mysql=MySQLSettings(**mysql),
        lake=LakeSettings(
            **{**lake, "url": f"s3://{bucket}/{prefix}" if bucket else prefix, "bucket": bucket, "prefix": prefix}
        ),
        tables={name: TableSettings(name=name, **values) for name, values in tables.items()},
    )


def _read_table(parser: ConfigParser, name: str, problems: list[str]) -> dict[str, Any]:
    section = TABLE_SECTION + name
    if reason := check_table_name(name):
        problems.append(f"[{section}]: the name {reason}")
    values = _read_section(parser, section, _TABLE_KEYS, problems)
    if "source" in values:
        values["source"] = values["source"] or name
    if "since" in values and values["since"] > (latest := utc_today() + ONE_DAY):  # somewhere it is tomorrow
        problems.append(
            f"[{section}] since = '{values['since']}': lies in the future; this machine's clock says {latest - ONE_DAY}"
        )
    for kind in ("source", "target"):
        columns = [getattr(rule, kind) for rule in values.get("decode", ())]
        problems.extend(
            f"[{section}] decode: {kind} column {column!r} stands in two rules" for column in _repeated(columns)
        )
    problems.extend(
        f"[{section}] dates: column {column!r} stands in two rules"
        for column in _repeated([rule.column for rule in values.get("dates", ())])
    )
    return values


def _repeated(names: list[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})


@dataclass(frozen=True)
class _Key:
    """How one key is read.

    Attributes:
        parse: raises ValueError with what is wanted.
        default: None makes the key required.
        secret: the value is never shown.
        raw: the value is read as it is written, its percent signs too.
    """

    parse: Callable[[str], Any]
    default: str | None = None
    secret: bool = False
    raw: bool = False


def _read_section(parser: ConfigParser, section: str, keys: Mapping[str, _Key], problems: list[str]) -> dict[str, Any]:
    if not parser.has_section(section):
        problems.append(f"[{section}]: the section is missing")
        return {}
    written = parser.options(section)
    for unknown in sorted(set(written) - set(keys) - set(parser.defaults())):
        problems.append(f"[{section}] {unknown}: unknown key; known are {', '.join(keys)}")
    values = {}
    for name, key in keys.items():
        try:
            text = parser.get(section, name, raw=key.raw) if name in written else key.default
            if text is None:
                raise ValueError("is missing")
            values[name] = key.parse(text if key.secret else text.strip())
        except InterpolationMissingEnvvarError as error:
            variable = re.search(r"variable (\w+)\. ", str(error))
            reason = f"environment variable {variable[1]} is not set" if variable else "write a variable as ${NAME}"
            problems.append(f"[{section}] {name}: {reason}")
        except InterpolationError:
            problems.append(f"[{section}] {name}: write a percent sign as %% and a variable as ${{NAME}}")
        except ValueError as error:
            shown = "" if key.secret or text is None else f" = {text!r}"
            problems.append(f"[{section}] {name}{shown}: {error}")
    return values


_MYSQL_KEYS = {
    "host": _Key(parse_text),
    "port": _Key(parse_integer(1, 65535), "3306"),
    "user": _Key(parse_text),
    "password": _Key(parse_anything, secret=True),
    "database": _Key(parse_text),
    "ssl_mode": _Key(parse_choice(*SSL_MODES), "PREFERRED"),
    "ssl_ca": _Key(parse_file, ""),
    "driver": _Key(parse_choice(*DRIVERS), "connectorx"),
    "connect_timeout_s": _Key(parse_integer(1, 3600), "10"),
    "read_timeout_s": _Key(parse_integer(1, 86400), "600"),
    "statement_timeout_s": _Key(parse_integer(0, 86400), "0"),
}

_LAKE_KEYS = {
    "url": _Key(parse_url),
    "partition_key": _Key(parse_partition_key, "date"),
    "staging_dir": _Key(parse_folder, ""),
    "timezone": _Key(parse_zone, "UTC"),
    "settle_hours": _Key(parse_hours, "0"),
    "connect_timeout_s": _Key(parse_integer(1, 3600), "10"),
    "read_timeout_s": _Key(parse_integer(1, 3600), "60"),
}

_TABLE_KEYS = {
    "source": _Key(parse_anything, ""),
    "date_column": _Key(parse_text),
    "since": _Key(parse_date),
    "types": _Key(parse_types, ""),
    "decode": _Key(parse_decode, ""),
    "on_decode_error": _Key(parse_choice("fail", "null"), "fail"),
    "dates": _Key(parse_dates, "", raw=True),
    "zero_dates": _Key(parse_choice("null", "error"), "null"),
    "transform": _Key(parse_transform, ""),
    "schema_changes": _Key(parse_choice("refuse", "accept"), "refuse"),
    "fingerprint": _Key(parse_fingerprint, "count"),
    "refresh_days": _Key(parse_integer(0, 3660), "0"),
    "connections": _Key(parse_integer(1, 16), "1"),
    "slice_mb": _Key(parse_integer(1, 1024), "64"),
}
