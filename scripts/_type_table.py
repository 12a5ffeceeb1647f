"""README's table of types, as luigi_jobs has it."""

from pathlib import Path

from luigi_jobs.type_table import describe_types

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- types: scripts/type_table -->\n", "<!-- /types -->"


def render() -> str:
    rows = ["| MySQL | selected as | Parquet |", "|---|---|---|"]
    rows += [f"| {mysql} | {selected} | {parquet} |" for mysql, selected, parquet in describe_types()]
    return "\n".join(rows) + "\n"


def main() -> None:
    text = README.read_text()
    head, _, rest = text.partition(BEGIN)
    README.write_text(head + BEGIN + render() + END + rest.partition(END)[2])


if __name__ == "__main__":
    main()
