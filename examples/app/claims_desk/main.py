"""The HTTP interface: `uvicorn claims_desk.main:app`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import psycopg
from fastapi import Body, FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool

from claims_desk.settings import Settings
from claims_desk.stores import Claims, Clients, Documents, Jobs


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application on the services that the settings name, by default those of the process environment."""
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        nonlocal claims, jobs, documents
        claims, jobs, documents = Claims(settings), Jobs(settings), Documents(settings)
        yield
        for store in (claims, jobs, documents):
            store.close()

    app = FastAPI(title="Claims desk", lifespan=lifespan)
    clients = Clients(settings)
    claims: Claims
    jobs: Jobs
    documents: Documents

    @app.post("/clients", status_code=201)
    def add_client(name: Annotated[str, Body()], plan: Annotated[str, Body()]) -> dict[str, int]:
        try:
            return {"id": clients.add(name, plan)}
        except psycopg.errors.UniqueViolation:
            raise HTTPException(409, f"there is a client {name!r} already") from None
        except LookupError:
            raise HTTPException(422, f"there is no plan {plan!r}") from None

    @app.get("/clients")
    def list_clients() -> list[dict[str, Any]]:
        return clients.all()

    @app.post("/clients/{client}/claims")
    def add_claims(client: int, batch: list[dict[str, str]]) -> dict[str, int]:
        count = claims.add(client, batch)
        jobs.update(f"import-{client}", "done")
        return {"added": count}

    @app.get("/clients/{client}/claims")
    def claims_by_month(client: int) -> list[dict[str, Any]]:
        return claims.by_month(client)

    @app.get("/jobs")
    def job_history() -> list[dict[str, str]]:
        return jobs.history()

    @app.get("/jobs/{job}")
    def job_state(job: str) -> dict[str, str]:
        state = jobs.state(job)
        if state is None:
            raise HTTPException(404)
        return {"state": state}

    @app.put("/documents/{name:path}", status_code=204)
    async def put_document(name: str, request: Request) -> None:
        await run_in_threadpool(documents.put, name, await request.body())

    @app.get("/documents")
    def document_names() -> list[str]:
        return documents.names()

    @app.get("/documents/{name:path}")
    def get_document(name: str) -> Response:
        content = documents.get(name)
        if content is None:
            raise HTTPException(404)
        return Response(content, media_type="application/octet-stream")

    return app


app = create_app()
