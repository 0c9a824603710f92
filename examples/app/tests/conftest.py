"""The application as its users see it, on services of its own for each test."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from claims_desk.main import create_app


@pytest.fixture
def desk(triton: object) -> Iterator[TestClient]:
    with TestClient(create_app()) as client:
        yield client


@pytest.fixture
def acme(desk: TestClient) -> int:
    return desk.post("/clients", json={"name": "Acme", "plan": "basic"}).json()["id"]
