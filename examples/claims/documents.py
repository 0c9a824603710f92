"""S3: the report's files, stored, and read back as anyone with a link would read them."""

import base64
import csv
import hashlib
import io
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from claims.totals import Totals, cents

PREFIX = "claims-walkthrough/"
CSV_NAME = "client-months.csv"
PLOT_NAME = "overview.png"
REPORT_NAME = "report.html"

_LINK_SECONDS = 300
_CONTENT_TYPES = {"csv": "text/csv; charset=utf-8", "png": "image/png", "html": "text/html; charset=utf-8"}
_CSV_COLUMNS = ("client_id", "client", "month", "claims", "denied", "pending", "billed", "allowed", "paid")


@dataclass(frozen=True)
class Stored:
    """A file that was stored."""

    name: str
    size: int
    sha256: str


class Documents:
    """The bucket's part that belongs to this application."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def store(self, name: str, body: bytes) -> Stored:
        """Store a file; one of that name is replaced."""
        digest = hashlib.sha256(body)
        self._client.put_object(
            Bucket=self._bucket,
            Key=PREFIX + name,
            Body=body,
            ContentType=_CONTENT_TYPES[name.rpartition(".")[2]],
            # The server refuses the file if what arrives there is anything else.
            ChecksumSHA256=base64.b64encode(digest.digest()).decode(),
        )
        return Stored(name, len(body), digest.hexdigest())

    def link(self, name: str) -> str:
        """A presigned URL with which anyone can read the file for some minutes."""
        return str(
            self._client.generate_presigned_url(
                "get_object",
                Params={"Bucket": self._bucket, "Key": PREFIX + name},
                ExpiresIn=_LINK_SECONDS,
            )
        )

    def read(self, name: str) -> bytes:
        """Read the file by its presigned URL, without credentials and without the S3 client."""
        with urllib.request.urlopen(self.link(name), timeout=30) as response:
            return bytes(response.read())


def sha256(body: bytes) -> str:
    """The checksum by which files are compared, in hexadecimal."""
    return hashlib.sha256(body).hexdigest()


def to_csv(months: Iterable[tuple[int, str, date, int, int, int, Decimal, Decimal, Decimal]]) -> bytes:
    """Each client's months as CSV, amounts in dollars with two places."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    writer.writerows(months)
    return text.getvalue().encode()


def totals_of_csv(body: bytes) -> dict[int, Totals]:
    """Rows and cents of each client that such a CSV adds up to."""
    totals: dict[int, Totals] = {}
    for row in csv.DictReader(io.StringIO(body.decode(), newline="")):
        client = int(row["client_id"])
        totals[client] = totals.get(client, Totals()) + _totals_of_row(row)
    return totals


def _totals_of_row(row: Mapping[str, str]) -> Totals:
    return Totals(int(row["claims"]), cents(row["billed"]), cents(row["allowed"]), cents(row["paid"]))
