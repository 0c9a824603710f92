"""The claims walk-through: its data, its reconciliation, and the whole of it on running services."""

import csv
import io
import os
import re
import socket
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

import forkserver
from triton_env import TritonEnvironment

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPT = EXAMPLES / "claims_walkthrough.py"
sys.path.append(str(EXAMPLES))  # not before the folder of these tests, which has a `conftest` too

import numpy as np  # noqa: E402
from claims import cli, documents, figure, generator, reference, updates, walkthrough, warehouse  # noqa: E402
from claims.books import SCHEMA, Books  # noqa: E402
from claims.connections import VARIABLES, Connections  # noqa: E402
from claims.generator import BATCH_ROWS, Generator  # noqa: E402
from claims.reconciliation import Reconciliation, Store, reconcile  # noqa: E402
from claims.totals import Totals, add_by_client, cents, dollars, total  # noqa: E402
from rich.console import Console  # noqa: E402

Claims = dict[str, np.ndarray]
SEED = 11
RUN_TIMEOUT = 500
"""Seconds for one run of the script."""

pytestmark = pytest.mark.timeout(900)


def made(rows: int, seed: int = SEED) -> Claims:
    batches = [batch.columns for batch in Generator(rows, seed).batches()]
    return {name: np.concatenate([columns[name] for columns in batches]) for name in generator.COLUMNS}


def totals_made(rows: int, seed: int = SEED) -> dict[int, Totals]:
    totals: dict[int, Totals] = {}
    for batch in Generator(rows, seed).batches():
        totals = add_by_client(totals, batch.totals())
    return totals


@pytest.fixture(scope="module")
def claims() -> Claims:
    return made(120_000)


class TestGenerator:
    def test_the_same_seed_makes_the_same_claims(self) -> None:
        one, other = made(60_000, seed=3), made(60_000, seed=3)
        for name in generator.COLUMNS:
            assert one[name].dtype == other[name].dtype
            # Days as numbers: no date equals itself where there is none.
            first, second = ((c[name].view("int64") if c[name].dtype.kind == "M" else c[name]) for c in (one, other))
            assert np.array_equal(first, second), name

    def test_another_seed_makes_others(self) -> None:
        assert not np.array_equal(made(1000, seed=3)["billed_cents"], made(1000, seed=4)["billed_cents"])

    @pytest.mark.parametrize("rows", [1, 7, BATCH_ROWS, BATCH_ROWS + 1])
    def test_there_are_as_many_as_asked_for_in_bounded_batches(self, rows: int) -> None:
        batches = list(Generator(rows, SEED).batches())
        assert max(len(batch) for batch in batches) <= BATCH_ROWS
        ids = np.concatenate([batch.columns["claim_id"] for batch in batches])
        assert ids.tolist() == list(range(1, rows + 1))

    def test_no_rows_are_refused(self) -> None:
        with pytest.raises(ValueError, match="at least 1"):
            Generator(0, SEED)

    def test_totals_are_exact(self) -> None:
        for batch in Generator(3000, SEED).batches():
            for client, totals in batch.totals().items():
                its = batch.columns["client_id"] == client
                assert totals == Totals(
                    int(its.sum()),
                    *(
                        sum(int(x) for x in batch.columns[f"{name}_cents"][its])
                        for name in ("billed", "allowed", "paid")
                    ),
                )

    def test_codes_have_the_form_of_their_systems(self, claims: Claims) -> None:
        assert all(re.fullmatch(r"[A-Z]\d[0-9A-Z](\.[0-9A-Z]{1,4})?", code) for code in set(claims["diagnosis_code"]))
        assert all(re.fullmatch(r"\d{5}", code) for code in set(claims["procedure_code"]))
        assert all(len(str(provider)) == 10 for provider in set(claims["provider_id"].tolist()))
        assert set(claims["status"]) == set(reference.STATUSES)

    def test_a_member_has_one_client(self, claims: Claims) -> None:
        pairs = set(zip(claims["member_id"].tolist(), claims["client_id"].tolist(), strict=True))
        assert len(pairs) == len({member for member, _ in pairs})

    def test_a_procedure_fits_its_diagnosis(self, claims: Claims) -> None:
        fitting = {
            (diagnosis, procedure)
            for condition in reference.CONDITIONS
            for diagnosis in condition.diagnoses
            for procedure in condition.procedures
        }
        assert set(zip(claims["diagnosis_code"], claims["procedure_code"], strict=True)) <= fitting

    def test_a_provider_has_one_specialty(self, claims: Claims) -> None:
        specialty = {procedure.code: procedure.specialty for procedure in reference.PROCEDURES}
        pairs = {
            (provider, specialty[procedure])
            for provider, procedure in zip(claims["provider_id"].tolist(), claims["procedure_code"], strict=True)
        }
        assert len(pairs) == len({provider for provider, _ in pairs})

    def test_paid_is_part_of_allowed_is_part_of_billed(self, claims: Claims) -> None:
        billed, allowed, paid = (claims[f"{name}_cents"] for name in ("billed", "allowed", "paid"))
        assert billed.dtype == allowed.dtype == paid.dtype == np.int64
        assert (billed > 0).all()
        assert ((paid >= 0) & (paid <= allowed) & (allowed <= billed)).all()

    def test_only_what_was_settled_has_money_and_a_date(self, claims: Claims) -> None:
        settled = np.isin(claims["status"], ["paid", "adjusted"])
        assert np.array_equal(settled, ~np.isnat(claims["paid_date"]))
        assert (claims["allowed_cents"][settled] > 0).all()
        assert (claims["allowed_cents"][~settled] == 0).all()

    def test_dates_follow_each_other(self, claims: Claims) -> None:
        service, paid = claims["service_date"], claims["paid_date"]
        assert service.min() >= np.datetime64(reference.FIRST_DAY)
        assert service.max() <= np.datetime64(reference.LAST_DAY)
        assert (np.diff(service) >= np.timedelta64(0)).all()
        settled = ~np.isnat(paid)
        assert (paid[settled] > service[settled]).all()
        assert paid[settled].max() <= np.datetime64(reference.AS_OF)

    def test_what_is_pending_is_recent(self, claims: Claims) -> None:
        pending = claims["status"] == "pending"
        last_month = claims["service_date"] >= np.datetime64("2025-12-01")
        assert pending[last_month].mean() > 0.3
        assert pending[claims["service_date"] < np.datetime64("2025-01-01")].sum() == 0

    def test_colds_come_in_winter(self, claims: Claims) -> None:
        month = claims["service_date"].astype("datetime64[M]").astype(int) % 12 + 1
        respiratory = np.array([reference.CONDITION_OF_DIAGNOSIS[c] == "respiratory" for c in claims["diagnosis_code"]])
        assert respiratory[month == 1].mean() > 1.5 * respiratory[month == 7].mean()

    def test_denials_depend_on_the_procedure(self, claims: Claims) -> None:
        def rate(*codes: str) -> float:
            return float((claims["status"][np.isin(claims["procedure_code"], codes)] == "denied").mean())

        assert rate("72148", "73721") > 3 * rate("80053", "85025")

    def test_few_members_have_most_of_the_cost(self, claims: Claims) -> None:
        paid = np.zeros(claims["member_id"].max() + 1, dtype=np.int64)
        np.add.at(paid, claims["member_id"], claims["paid_cents"])
        paid = np.sort(paid)[::-1]
        assert 0.35 < paid[: len(paid) // 20].sum() / paid.sum() < 0.65


class TestMoney:
    @pytest.mark.parametrize("amount", [0, 1, 99, 100, 103_630_484_461, 9_007_199_254_740_993])
    def test_cents_survive_dollars(self, amount: int) -> None:
        assert cents(dollars(amount)) == cents(str(dollars(amount))) == amount

    @pytest.mark.parametrize("amount", ["0.001", "12.345", "many", ""])
    def test_what_is_no_whole_number_of_cents_is_refused(self, amount: str) -> None:
        with pytest.raises(ValueError, match=r"not an amount|fractions of a cent"):
            cents(amount)


class TestReconciliation:
    EXPECTED = Store.of("Generated", {101: Totals(3, 900, 500, 400), 102: Totals(1, 100, 50, 0)})

    def test_equal_stores_agree(self) -> None:
        same = Store.of("other", dict(reversed(self.EXPECTED.by_client.items())) | {103: Totals()})
        found = reconcile(self.EXPECTED, same, Store("without clients", Totals(4, 1000, 550, 400)))
        assert found.agrees
        assert found.problems == []

    @pytest.mark.parametrize("field", ["rows", "billed_cents", "allowed_cents", "paid_cents"])
    def test_a_difference_of_one_is_found(self, field: str) -> None:
        totals = self.EXPECTED.totals
        found = reconcile(self.EXPECTED, Store("other", replace(totals, **{field: getattr(totals, field) - 1})))
        assert not found.agrees
        assert found.problems[0].startswith(f"other: {field} ")

    def test_money_with_the_wrong_client_is_found(self) -> None:
        swapped = Store.of("other", {101: Totals(3, 900, 500, 399), 102: Totals(1, 100, 50, 1)})
        assert swapped.totals == self.EXPECTED.totals
        assert reconcile(self.EXPECTED, swapped).problems == ["other: differs for client 101, 102"]

    @pytest.mark.parametrize(
        ("numbers", "problem"),
        [
            ([1, 2, 3], ""),
            ([1, 3], "1 of 3 updates did not arrive, the first is 2"),
            ([], "3 of 3 updates did not arrive, the first is 1"),
            ([1, 3, 2], "updates arrived twice or out of order"),
            ([1, 2, 2, 3], "updates arrived twice or out of order"),
        ],
    )
    def test_updates_come_all_once_and_in_order(self, numbers: list[int], problem: str) -> None:
        assert updates.gaps([updates.Update(n, "load", "inserted") for n in numbers], 3) == problem


def run_script(*arguments: str, variables: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    return forkserver.run(
        [sys.executable, str(SCRIPT), *arguments],
        env=os.environ | (variables or {}),
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT,
        check=False,
    )


class TestWrongUse:
    def test_with_some_of_the_variables_it_names_the_others(self) -> None:
        done = run_script(variables={"DATABASE_URL": "postgresql://localhost/x"})
        assert done.returncode == 2
        assert all((name in done.stderr) is (name != "DATABASE_URL") for name in VARIABLES)
        assert "hint: python examples/claims_walkthrough.py" in done.stderr
        assert "Traceback" not in done.stderr

    @pytest.mark.parametrize("arguments", [("--rows", "0"), ("--rows", "many"), ("--seed", "-1"), ("--colour", "red")])
    def test_wrong_options(self, arguments: tuple[str, ...]) -> None:
        done = run_script(*arguments)
        assert done.returncode == 2
        assert arguments[0] in done.stderr
        assert "Traceback" not in done.stderr

    def test_help_tells_of_everything(self) -> None:
        done = run_script("--help")
        assert done.returncode == 0
        assert all(word in done.stdout for word in ("--rows", "--seed", "--output", cli.HOW_TO_RUN, *VARIABLES))

    def test_it_reads_variables_that_the_environment_gives(self) -> None:
        documented = (EXAMPLES.parent / ".env.example").read_text(encoding="utf-8")
        assert all(re.search(rf"^{name}=", documented, re.MULTILINE) for name in VARIABLES)

    def test_a_service_that_is_away_is_one_line(self) -> None:
        with socket.socket() as nobody_listens:
            nobody_listens.bind(("127.0.0.1", 0))
            port = nobody_listens.getsockname()[1]
            done = run_script(
                variables=dict.fromkeys(VARIABLES, "topsecret")
                | {"CLICKHOUSE_HOST": "127.0.0.1", "CLICKHOUSE_HTTP_PORT": str(port)}
            )
        assert done.returncode == 1
        assert "error: ClickHouse failed: " in done.stderr
        assert "Traceback" not in done.stderr
        assert "topsecret" not in done.stdout + done.stderr


class TestServicesOfItsOwn:
    @pytest.fixture
    def executed(self, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
        """The commands that would take the place of this process."""

        def execute(program: str, words: list[str]) -> None:
            executed.append(words)
            raise SystemExit(0)

        executed: list[list[str]] = []
        monkeypatch.setattr(os, "execv", execute)
        monkeypatch.setattr(sys, "argv", ["examples/claims_walkthrough.py"])
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        return executed

    def test_are_started_where_none_are_named(self, executed: list[list[str]]) -> None:
        with pytest.raises(SystemExit):
            cli.main(["--rows", "1000"])
        ours = [sys.executable, "-m", "triton_env", "run", "--"]
        assert executed == [[*ours, sys.executable, "examples/claims_walkthrough.py", "--rows", "1000"]]

    @pytest.mark.parametrize("missing", ["matplotlib", "numpy"])
    def test_are_not_started_where_a_package_is_missing(
        self,
        executed: list[list[str]],
        missing: str,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] in ("claims", missing)]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setattr(sys, "meta_path", [Without(missing), *sys.meta_path])
        assert cli.main([]) == 2
        assert executed == []
        said = capsys.readouterr().err
        assert said.startswith(f"error: {missing} is not installed\n\nhint: ")
        assert "[examples]" in said


class Without:
    """Finds no package of that name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == self.name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def csv_rows(env: TritonEnvironment) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(stored(env, documents.CSV_NAME).decode())))


def stored(env: TritonEnvironment, name: str) -> bytes:
    found: bytes = env.s3.client().get_object(Bucket=env.s3.bucket, Key=documents.PREFIX + name)["Body"].read()
    return found


WITH_LONG = [
    pytest.param("docker", marks=[pytest.mark.docker, pytest.mark.long]),
    pytest.param("persistent", marks=[pytest.mark.docker, pytest.mark.long]),
    "embedded",
]
"""What the script does is the same on each runtime: one is enough for a usual run."""


@pytest.fixture(scope="module", params=WITH_LONG)
def env(request: pytest.FixtureRequest, warm: Callable[[str], TritonEnvironment]) -> TritonEnvironment:
    return warm(request.param)


@pytest.fixture(scope="module")
def two_million(env: TritonEnvironment) -> "subprocess.CompletedProcess[str]":
    """A run as people start it, with its default of rows and seed."""
    return run_script(variables=env.environ())


class TestWalkthrough:
    ROWS = 60_000

    @pytest.mark.long
    def test_a_second_run_at_the_same_time_is_refused(self, env: TritonEnvironment) -> None:
        with Connections(env.environ()).postgres() as postgres:
            assert Books(postgres).claim_for_this_session()
            done = run_script("--rows=1000", variables=env.environ())
        assert done.returncode == 1
        assert "error: another run is at work on the same services" in done.stderr

    @pytest.mark.long
    def test_two_million_claims(self, two_million: "subprocess.CompletedProcess[str]") -> None:
        self.check_what_it_says(two_million, 2_000_000)
        assert two_million.stdout.count("│ 2,000,000 │") == 5
        peak = re.search(r"peak memory of this process: ([\d,]+) MB", two_million.stdout)
        assert peak is not None
        assert int(peak[1].replace(",", "")) < 500  # the claims alone would be more

    def test_it_leaves_the_same_in_every_store_and_can_be_repeated(
        self, env: TritonEnvironment, tmp_path: Path
    ) -> None:
        # The second run, after one with other claims: what is found afterwards is the second run's alone.
        assert run_script("--rows=3000", variables=env.environ()).returncode == 0
        done = run_script(
            f"--rows={self.ROWS}", f"--seed={SEED}", f"--output={tmp_path / 'report'}", variables=env.environ()
        )
        self.check_what_it_says(done, self.ROWS)

        expected = totals_made(self.ROWS)
        everything = total(expected.values())

        with env.clickhouse.client() as clickhouse:
            for client, totals in expected.items():
                row = clickhouse.query(
                    "SELECT count(), sum(billed_cents), sum(allowed_cents), sum(paid_cents), uniqExact(claim_id) "
                    f"FROM {warehouse.TABLE} WHERE client_id = {client}"
                ).first_row
                assert Totals(*row[:4]) == totals
                assert row[4] == totals.rows
            first = clickhouse.query(f"SELECT * FROM {warehouse.TABLE} ORDER BY claim_id LIMIT 1000").result_columns
        for column, values in made(self.ROWS).items():
            want = values[:1000].astype(object) if values.dtype.kind == "M" else values[:1000]
            assert list(first[generator.COLUMNS.index(column)]) == list(want), column

        with env.postgres.connect() as postgres:
            for client, totals in expected.items():
                books = postgres.execute(
                    f"SELECT sum(claims), sum(billed), sum(allowed), sum(paid), count(*) "
                    f"FROM {SCHEMA}.client_month WHERE client_id = %s",
                    (client,),
                ).fetchone()
                assert books is not None
                assert books[:4] == (
                    totals.rows,
                    dollars(totals.billed_cents),
                    dollars(totals.allowed_cents),
                    dollars(totals.paid_cents),
                )
                assert books[4] == 24
            self.check_the_model(postgres)

        rows = csv_rows(env)
        assert len(rows) == len(reference.CLIENTS) * 24
        assert sum(int(row["claims"]) for row in rows) == everything.rows
        for name in ("billed", "allowed", "paid"):
            assert sum(Decimal(row[name]) for row in rows) == dollars(getattr(everything, f"{name}_cents"))

        self.check_the_plot(stored(env, documents.PLOT_NAME))
        page = stored(env, documents.REPORT_NAME).decode()
        assert "All stores agree, to the row and to the cent." in page
        assert f"{dollars(everything.paid_cents):,.2f}" in page
        for name in (documents.CSV_NAME, documents.PLOT_NAME, documents.REPORT_NAME):
            assert (tmp_path / "report" / name).read_bytes() == stored(env, name)

        redis = env.redis.client()
        try:
            assert 0 < redis.ttl(f"{updates.PREFIX}trend") <= updates.CACHE_SECONDS
        finally:
            redis.close()

    def test_the_command_that_it_names_runs_it(self) -> None:
        python, script = cli.HOW_TO_RUN.split()
        assert (python, SCRIPT.parents[1] / script) == ("python", SCRIPT)
        command = [sys.executable, str(SCRIPT), "--rows=20000"]
        done = forkserver.run(command, capture_output=True, text=True, timeout=RUN_TIMEOUT, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "RECONCILED: 4 stores agree" in done.stdout

    @staticmethod
    def check_what_it_says(done: "subprocess.CompletedProcess[str]", rows: int) -> None:
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.search(r"^RECONCILED: 4 stores agree", done.stdout, re.MULTILINE)
        assert f"{rows}/{rows}" in done.stderr  # the progress bar
        assert re.search(r"│ load +│ +[\d.]+ │ +[\d,]+ │", done.stdout)

    @staticmethod
    def check_the_model(postgres: Any) -> None:
        """By the stated formula, but in Python, from the claims themselves."""
        claims = made(TestWalkthrough.ROWS)
        year = claims["service_date"] >= np.datetime64(date(2025, 1, 1))
        diabetes = np.array([code.startswith("E11") for code in claims["diagnosis_code"]])
        members = Counter(claims["member_id"][year & diabetes].tolist())
        often = np.isin(claims["member_id"], [member for member, count in members.items() if count >= 2])
        checked = 0
        for client in reference.CLIENTS:
            chosen = year & diabetes & often & (claims["client_id"] == client.id)
            count = len(set(claims["member_id"][chosen].tolist()))
            row = postgres.execute(
                f"SELECT members, allowed, participants, intervention_cost, avoided_cost, net FROM {SCHEMA}.roi "
                f"JOIN {SCHEMA}.baseline USING (client_id, template_id) JOIN {SCHEMA}.template t ON t.id = template_id "
                "WHERE client_id = %s AND t.name = 'Diabetes coaching'",
                (client.id,),
            ).fetchone()
            if count == 0:
                assert row is None
                continue
            allowed = dollars(int(claims["allowed_cents"][chosen].sum()))
            participants = int(count * Decimal("0.34"))
            cost = Decimal(count * 12 + participants * 145)
            avoided = allowed / count * participants * Decimal("0.13")
            assert row[:4] == (count, allowed, participants, cost)
            assert abs(row[4] - avoided) <= Decimal("0.01")
            assert row[5] == row[4] - row[3]
            checked += 1
        assert checked >= 10

    @staticmethod
    def check_the_plot(png: bytes) -> None:
        assert png[:8] == b"\x89PNG\r\n\x1a\n"
        size = struct.unpack(">II", png[16:24])
        assert size == tuple(round(inches * figure.DPI) for inches in figure.SIZE_INCHES)
        assert len(png) > 50_000
        from PIL import Image

        with Image.open(io.BytesIO(png)) as image:
            colors = image.convert("RGB").getcolors(1 << 24)
        assert len(colors) > 100  # something is drawn, with its edges smoothed


TAMPERED_ROWS = 20_000


def delete_a_claim(env: TritonEnvironment) -> None:
    with env.clickhouse.client() as client:
        client.command(f"ALTER TABLE {warehouse.TABLE} DELETE WHERE claim_id = 77 SETTINGS mutations_sync = 1")


def move_a_claim_to_another_client(env: TritonEnvironment) -> None:
    with env.clickhouse.client() as client:
        client.command(
            f"INSERT INTO {warehouse.TABLE} SELECT * REPLACE (if(client_id = 101, 102, 101) AS client_id) "
            f"FROM {warehouse.TABLE} WHERE claim_id = 77"
        )
        client.command(
            f"ALTER TABLE {warehouse.TABLE} DELETE WHERE claim_id = 77 AND client_id = "
            f"{client_of_claim_77()} SETTINGS mutations_sync = 1"
        )


def client_of_claim_77() -> int:
    return int(made(TAMPERED_ROWS)["client_id"][76])


def delete_a_month(env: TritonEnvironment) -> None:
    with env.postgres.connect() as connection:
        connection.execute(f"DELETE FROM {SCHEMA}.client_month WHERE client_id = 105 AND month = '2024-05-01'")


def take_a_cent(env: TritonEnvironment) -> None:
    with env.postgres.connect() as connection:
        connection.execute(
            f"UPDATE {SCHEMA}.client_month SET paid = paid - 0.01 WHERE client_id = 105 AND month = '2024-05-01'"
        )


def shorten_the_csv(env: TritonEnvironment) -> None:
    body = stored(env, documents.CSV_NAME).rstrip(b"\n").rpartition(b"\n")[0] + b"\n"
    env.s3.client().put_object(Bucket=env.s3.bucket, Key=documents.PREFIX + documents.CSV_NAME, Body=body)


WHOLE_CLAIMS = f"{warehouse.TABLE}_whole"
WHOLE_MONTHS = f"{SCHEMA}.client_month_whole"


@pytest.fixture(scope="class")
def loaded(env: TritonEnvironment) -> walkthrough.Outcome:
    """A run that found no problem, with copies of its tables to be put back."""
    outcome = walkthrough.run(Connections(env.environ()), TAMPERED_ROWS, SEED, Console(file=io.StringIO()))
    assert outcome.problems == []
    with env.clickhouse.client() as client:
        client.command(
            f"CREATE TABLE {WHOLE_CLAIMS} ENGINE = MergeTree ORDER BY claim_id AS SELECT * FROM {warehouse.TABLE}"
        )
    with env.postgres.connect() as connection:
        connection.execute(f"CREATE TABLE {WHOLE_MONTHS} AS TABLE {SCHEMA}.client_month")
    return outcome


@pytest.fixture
def whole(env: TritonEnvironment, loaded: walkthrough.Outcome) -> walkthrough.Outcome:
    """The same with every store as the run left it, whatever was done to it since."""
    with env.clickhouse.client() as client:
        client.command(f"TRUNCATE TABLE {warehouse.TABLE}")
        client.command(f"INSERT INTO {warehouse.TABLE} SELECT * FROM {WHOLE_CLAIMS}")
    with env.postgres.connect() as connection:
        connection.execute(f"DELETE FROM {SCHEMA}.client_month")
        connection.execute(f"INSERT INTO {SCHEMA}.client_month TABLE {WHOLE_MONTHS}")
    body = loaded.files[documents.CSV_NAME]
    env.s3.client().put_object(Bucket=env.s3.bucket, Key=documents.PREFIX + documents.CSV_NAME, Body=body)
    return loaded


class TestTampering:
    @pytest.mark.parametrize(
        ("tamper", "store", "words"),
        [
            (delete_a_claim, "ClickHouse", "rows 19,999 instead of 20,000"),
            (move_a_claim_to_another_client, "ClickHouse", "differs for client 101, "),
            (delete_a_month, "PostgreSQL", "differs for client 105"),
            (take_a_cent, "PostgreSQL", "paid_cents"),
            (shorten_the_csv, "CSV in S3", "differs for client 112"),
        ],
    )
    def test_it_is_found(
        self,
        env: TritonEnvironment,
        whole: walkthrough.Outcome,
        tamper: Callable[[TritonEnvironment], None],
        store: str,
        words: str,
    ) -> None:
        assert self.reconciled(env, whole).problems == []
        tamper(env)
        found = self.reconciled(env, whole)
        assert not found.agrees
        assert {problem.partition(":")[0] for problem in found.problems} == {store}
        assert any(words in problem for problem in found.problems), found.problems

    @staticmethod
    def reconciled(env: TritonEnvironment, outcome: walkthrough.Outcome) -> Reconciliation:
        connections = Connections(env.environ())
        with connections.clickhouse() as clickhouse, connections.postgres() as postgres:
            bucket = documents.Documents(connections.s3(), connections.bucket)
            return reconcile(
                outcome.expected, *walkthrough.stores(clickhouse, Books(postgres), bucket, outcome.updates)
            )


class TestLosses:
    ROWS = 20_000

    def test_a_claim_lost_on_the_way_ends_the_script_badly(
        self, env: TritonEnvironment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        insert = warehouse.Loader.insert

        def lose_the_last(loader: warehouse.Loader, batch: generator.Batch) -> int:
            return insert(loader, replace(batch, columns={k: v[:-1] for k, v in batch.columns.items()}))

        monkeypatch.setattr(warehouse.Loader, "insert", lose_the_last)
        for name, value in env.environ().items():
            monkeypatch.setenv(name, value)
        assert cli.main([f"--rows={self.ROWS}"]) == 1
        shown = capsys.readouterr().out
        assert "NOT RECONCILED" in shown
        assert "ClickHouse: rows 19,999 instead of 20,000" in shown
        assert "Redis updates: rows 19,999 instead of 20,000" in shown
        assert "The stores disagree" in stored(env, documents.REPORT_NAME).decode()

    def test_an_update_lost_on_the_way_ends_the_script_badly(
        self, env: TritonEnvironment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        publish = updates.Publisher.publish

        def lose_one(publisher: updates.Publisher, job: str, state: str, totals: Totals | None = None) -> None:
            if totals:
                publisher.published += 1
            else:
                publish(publisher, job, state, totals)

        wait_for = updates.Subscriber.wait_for

        def wait_shortly_for(subscriber: updates.Subscriber, count: int) -> list[updates.Update]:
            # For updates alone: a subscription is confirmed, and may take its time.
            with patch.object(updates, "_WAIT_SECONDS", 0.5):
                return wait_for(subscriber, count)

        monkeypatch.setattr(updates.Publisher, "publish", lose_one)
        monkeypatch.setattr(updates.Subscriber, "wait_for", wait_shortly_for)
        for name, value in env.environ().items():
            monkeypatch.setenv(name, value)
        assert cli.main([f"--rows={self.ROWS}"]) == 1
        assert "updates did not arrive" in capsys.readouterr().out
