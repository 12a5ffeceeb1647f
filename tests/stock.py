"""The hand-written task, with Luigi's own means: `luigi --module stock RangeDaily --of Stock`."""

import os

import luigi
import luigi.tools.range  # registers RangeDaily
from luigi.contrib.s3 import S3Target


class Stock(luigi.Task):
    date = luigi.DateParameter()

    def output(self) -> luigi.Target:
        return S3Target(f"{os.environ['STOCK_LAKE']}/reports/date={self.date:%Y%m%d}/reports.parquet")

    def run(self) -> None:
        with self.output().open("w") as file:
            file.write("a day")
