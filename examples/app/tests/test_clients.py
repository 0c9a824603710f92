"""Every one of these finds an empty table, whatever the others wrote, and wherever they run at the same time."""

import pytest
from fastapi.testclient import TestClient


@pytest.mark.parametrize("name", ["Acme", "Acme & Sons", "ACME", "acme"])
def test_the_first_client_has_the_number_one(desk: TestClient, name: str) -> None:
    assert desk.get("/clients").json() == []
    assert desk.post("/clients", json={"name": name, "plan": "full"}).json() == {"id": 1}
    assert desk.get("/clients").json() == [{"id": 1, "name": name, "plan": "full"}]


def test_a_name_is_given_once(desk: TestClient, acme: int) -> None:
    assert desk.post("/clients", json={"name": "Acme", "plan": "basic"}).status_code == 409


def test_an_unknown_plan_is_refused(desk: TestClient) -> None:
    assert desk.post("/clients", json={"name": "Acme", "plan": "gold"}).status_code == 422
