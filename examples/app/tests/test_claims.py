from fastapi.testclient import TestClient

BATCH = [
    {"day": "2026-01-05", "amount": "10.50"},
    {"day": "2026-01-20", "amount": "0.01"},
    {"day": "2026-02-01", "amount": "99.99"},
]


def test_claims_add_up_by_month(desk: TestClient, acme: int) -> None:
    assert desk.post(f"/clients/{acme}/claims", json=BATCH).json() == {"added": 3}
    assert desk.get(f"/clients/{acme}/claims").json() == [
        {"month": "2026-01", "claims": 2, "amount": "10.51"},
        {"month": "2026-02", "claims": 1, "amount": "99.99"},
    ]


def test_no_claims_of_others(desk: TestClient, acme: int) -> None:
    assert desk.get(f"/clients/{acme}/claims").json() == []


def test_an_import_is_a_job(desk: TestClient, acme: int) -> None:
    assert desk.get(f"/jobs/import-{acme}").status_code == 404
    desk.post(f"/clients/{acme}/claims", json=BATCH)
    assert desk.get(f"/jobs/import-{acme}").json() == {"state": "done"}
    assert desk.get("/jobs").json() == [{"job": f"import-{acme}", "state": "done"}]
