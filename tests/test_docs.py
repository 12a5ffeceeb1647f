"""What README says of settings and exit codes is what the code does."""

import configparser
import re
from pathlib import Path

import _type_table
import pytest

from luigi_jobs import config, values

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize(
    ("section", "keys"),
    [("mysql", config._MYSQL_KEYS), ("lake", config._LAKE_KEYS), ("table.NAME", config._TABLE_KEYS)],
)
def test_readme_names_every_key_with_its_default(section: str, keys: dict[str, config._Key]) -> None:
    table = README.split(f"**[{section}]**")[1].split("\n**[")[0]
    documented = dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", table, re.MULTILINE))

    assert list(documented) == list(keys)
    for name, key in keys.items():
        if key.default is None:
            assert documented[name] == "required"
        elif key.default:
            assert documented[name] == key.default


def test_readme_explains_every_exit_code_of_the_shipped_luigi_cfg() -> None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "luigi.cfg")
    explained = re.findall(r"^\| (\d+) \|", README, re.MULTILINE)

    assert explained == ["0", *parser["retcode"].values()]


def test_readme_names_files_that_are_there() -> None:
    for name in set(re.findall(r"`\.?/?((?:tests|scripts|docs)/[\w./]*)", README)):
        assert (ROOT / name).exists(), name


def test_readme_names_the_decoders() -> None:
    assert all(f"`{decoder}`" in README for decoder in values.DECODERS)


def test_readme_has_the_table_of_types_that_the_code_has() -> None:
    written = README.split(_type_table.BEGIN)[1].split(_type_table.END)[0]

    assert written == _type_table.render(), "run scripts/type_table"


def test_readme_names_the_types_of_the_rules() -> None:
    described = README.split("| `types` |")[1].split("\n")[0]

    assert all(f"`{name}`" in described or name in ("int16", "int32") for name in values.TYPES)
