import pytest
from fastapi.testclient import TestClient


def test_the_template_is_there(desk: TestClient) -> None:
    assert desk.get("/documents").json() == ["templates/letter.txt"]
    assert desk.get("/documents/templates/letter.txt").text == "Dear client,\n"


@pytest.mark.parametrize("content", [b"", b"\x00\xff", b"x" * 100_000])
def test_a_document_comes_back_as_it_was(desk: TestClient, content: bytes) -> None:
    assert desk.get("/documents/report.bin").status_code == 404
    headers = {"content-type": "application/octet-stream"}
    assert desk.put("/documents/report.bin", content=content, headers=headers).status_code == 204
    assert desk.get("/documents/report.bin").content == content
