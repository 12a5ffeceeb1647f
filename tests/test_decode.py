import pyarrow as pa
import pytest

from luigi_jobs.decode import decode_batch, decoded_schema
from luigi_jobs.errors import SchemaError
from luigi_jobs.refused import Refused
from luigi_jobs.settings import DecodeRule


def test_decode_batch_puts_the_target_in_the_place_of_its_source() -> None:
    batch = pa.record_batch({"id": [1, 2], "encoded": ["QUJD", None], "other": ["41", "y"]})
    rules = [DecodeRule("encoded", "decoded", ("base64", "utf8")), DecodeRule("other", "other", ("hex",))]

    decoded, refused = decode_batch(batch, rules)

    assert decoded.schema == pa.schema([("id", pa.int64()), ("decoded", pa.string()), ("other", pa.binary())])
    assert decoded.to_pylist() == [
        {"id": 1, "decoded": "ABC", "other": b"A"},
        {"id": 2, "decoded": None, "other": None},
    ]
    assert refused == [Refused("other", "hex", 1, "y", 1)]


def test_decode_batch_counts_a_value_once_at_the_decoder_that_refuses_it() -> None:
    batch = pa.record_batch({"encoded": ["QUJD", "*", "/w==", "*"]})

    decoded, refused = decode_batch(batch, [DecodeRule("encoded", "decoded", ("base64", "utf8"))])

    assert decoded.to_pydict() == {"decoded": ["ABC", None, None, None]}
    assert [(one.wanted, one.row, one.value, one.count) for one in refused] == [
        ("base64", 1, "*", 2),
        ("utf8", 2, b"\xff", 1),
    ]


def test_refused_value_is_explained_by_its_row_and_cannot_write_to_the_terminal() -> None:
    batch = pa.record_batch({"a": [7, 7], "b": [1, 2], "encoded": ["QUJD", "\x1b[31m" + "Q" * 100]})
    _, (refused,) = decode_batch(batch, [DecodeRule("encoded", "decoded", ("base64",))])

    error = refused.explain(batch, ("a", "b"), "reports")

    assert error.column == "encoded"
    assert str(error) == (
        "cannot decode encoded: row a=7, b=2 holds '\\x1b[31mQQQQQQQQQQQQQQQ...(110 characters), which is not base64; "
        "repair the row, change the rule, or set `on_decode_error = null` in [table.reports]"
    )
    assert "row 1 holds" in str(refused.explain(batch, (), "reports"))


def test_refused_value_is_explained_with_the_reason() -> None:
    batch = pa.record_batch({"id": [7], "encoded": ["[1"]})
    _, (refused,) = decode_batch(batch, [DecodeRule("encoded", "encoded", ("json",))])

    message = "row id=7 holds '[1', which is not json (Expecting ',' delimiter at character 2); repair the row"
    assert message in str(refused.explain(batch, ("id",), "reports"))


def test_decoded_schema_refuses_what_it_cannot_do() -> None:
    schema = pa.schema([("id", pa.int64()), ("encoded", pa.string())])

    assert decoded_schema(schema, [DecodeRule("encoded", "decoded", ("base64",))]) == pa.schema(
        [("id", pa.int64()), ("decoded", pa.binary())]
    )
    with pytest.raises(SchemaError, match="holds nothing to decode"):
        decoded_schema(schema, [DecodeRule("id", "decoded", ("base64",))])
    with pytest.raises(SchemaError, match="has a column id already"):
        decoded_schema(schema, [DecodeRule("encoded", "id", ("base64",))])
