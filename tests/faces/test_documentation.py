"""The documents keep their word: code runs, commands parse, shown help is real, tables are the code's, links lead."""

import ast
import asyncio
import contextlib
import doctest
import importlib
import inspect
import io
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import click
import pytest
import yaml
from dotenv import dotenv_values

import forkserver
from faces.documents import DOCUMENTS, ROOT, Block, anchors, blocks, code, links, tables, title
from faces.installing import put_pip_on_path
from triton_env import (
    S3,
    ClickHouse,
    Namespace,
    Postgres,
    Redis,
    Settings,
    Template,
    Timeline,
    TritonEnvironment,
    errors,
)
from triton_env.cli import command_line, commands
from triton_env.cli import run as run_command
from triton_env.cli.signals import END_SIGNALS, Interrupted
from triton_env.core.forms import RUNTIME_NAMES
from triton_env.persistent.docker.compose import OUR_LABEL
from triton_env.runtimes.owner import LABEL, Owner
from triton_env.services import SERVICES, Service

REFERENCE = ROOT / "docs" / "reference"
ALL_BLOCKS = [block for document in DOCUMENTS for block in blocks(document)]
OF_OTHERS = {
    "AWS_ENDPOINT_URL_S3": "the AWS SDKs",
    "AWS_PROFILE": "the AWS SDKs",
    "_TRITON_ENV_COMPLETE": "click, for completion",
    "CACHE_HOST": "an application",
    "BROKER_URL": "an application",
    "CELERY_BROKER_URL": "Celery",
    "CI": "the tests",
    "COMPOSE_PROJECT_NAME": "Compose",
    "DOCKER_CONFIG": "the Docker SDK",
    "DOCKER_HOST": "the Docker SDK",
    "DOCKER_TLS_VERIFY": "the Docker SDK",
    "HTTP_PROXY": "many programs",
    "RLIMIT_NOFILE": "the system",
    "TMPDIR": "Python",
    "HTTPS_PROXY": "many programs",
    "NO_PROXY": "many programs",
    "RYUK_CONTAINER_IMAGE": "Testcontainers",
    "TC_HOST": "Testcontainers",
    "TESTCONTAINERS_CONNECTION_MODE": "Testcontainers",
    "TESTCONTAINERS_HUB_IMAGE_NAME_PREFIX": "Testcontainers",
    "TESTCONTAINERS_RYUK_DISABLED": "Testcontainers",
    "CLICKHOUSE_DEFAULT_ACCESS_MANAGEMENT": "the ClickHouse image",
    "EAGER_SERVICE_LOADING": "LocalStack",
    "EXTRA_CORS_ALLOWED_ORIGINS": "LocalStack",
    "LOCALSTACK_HOST": "LocalStack",
}
"""Variables that are mentioned and are not this project's, with who reads them."""
ABOUT_CONTAINERS = {"backup-and-restore", "daily-development", "labels", "ports-and-storage", "python", "variables"}
LONG = {
    *("backup-and-restore", "daily-development", "labels", "ports-and-storage", "pytest", "python", "tutorial"),
    "variables",
}
"""Documents whose code starts many environments, each of which tests of its subject or the README start too."""
SHELL = frozenset("|&;<>()$`*?[]{}~#!\\\n")
"""Characters by which a shell does more than to run a program with the words of its command."""
CHECKER = doctest.OutputChecker()
FLEXIBLE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture(scope="module")
def docker_env(warm: Callable[[str], TritonEnvironment]) -> TritonEnvironment:
    return warm("docker")


@pytest.fixture(scope="module")
def embedded_env(warm: Callable[[str], TritonEnvironment]) -> TritonEnvironment:
    return warm("embedded")


def selected(*languages: str) -> list[Any]:
    return [pytest.param(block, id=block.place) for block in ALL_BLOCKS if block.language in languages]


def of_each_document() -> list[Any]:
    return [pytest.param(document, id=title(document)) for document in DOCUMENTS]


# --- Code runs -------------------------------------------------------------------------------------------------------


def with_code_to_run() -> list[Any]:
    """Documents with the runtime of their code: Docker where they are about containers, else the quicker one."""
    found = []
    for document in DOCUMENTS:
        if any((block.language == "python" and not block.no_run) or "run" in block.words for block in blocks(document)):
            runtime = "docker" if document.stem in ABOUT_CONTAINERS else "embedded"
            marks = [pytest.mark.docker] * (runtime == "docker") + [pytest.mark.long] * (document.stem in LONG)
            found.append(pytest.param(document, runtime, id=title(document), marks=marks))
    return found


# The longest document starts half a dozen environments, beside other tests on a small machine.
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("document", "runtime"), with_code_to_run())
def test_its_code_runs(
    document: Path, runtime: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A document is one program: its blocks run from top to bottom, in one namespace and one empty folder.

    `env` is a running environment at the start of each block: the document's own where it has started one, else the
    shared one. A block with `file=NAME` is saved under that name instead, console blocks with the word `run` are run in
    a shell, and both see each other's files.
    """
    env: TritonEnvironment = request.getfixturevalue(f"{runtime}_env")
    monkeypatch.setenv("TRITON_RUNTIME", runtime)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    put_pip_on_path(tmp_path, monkeypatch)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    printed = ""
    for block in blocks(document):
        if block.no_run:
            continue
        if block.file:
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(block.text, "utf-8")
        elif block.language == "python":
            if not is_running(namespace.get("env")):
                namespace["env"] = env
            printed = run_python(block, namespace)
            assert is_running(env), f"{block.place} stops an environment that it did not start"
        elif block.language == "console" and "run" in block.words:
            run_console(block)
        elif "output" in block.words:
            assert CHECKER.check_output(block.text, printed, FLEXIBLE), f"{block.place} is not what came:\n{printed}"
    assert namespace.get("env") in (None, env) or not is_running(namespace["env"]), "it leaves an environment behind"


def is_running(environment: TritonEnvironment | None) -> bool:
    return environment is not None and "running" in repr(environment)


def run_python(block: Block, namespace: dict[str, Any]) -> str:
    """Run a block, in which `await` may be used as in a notebook; return what it prints."""
    source = "\n" * (block.line - 1) + block.text
    compiled = compile(source, block.document, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        if compiled.co_flags & inspect.CO_COROUTINE:
            asyncio.run(eval(compiled, namespace))
        else:
            exec(compiled, namespace)
    return output.getvalue()


def run_console(block: Block) -> None:
    for command, expected in block.exchanges:
        done = completed(command)
        assert done.returncode == 0, f"{block.place}: {command}\n{done.stdout}\n{done.stderr}"
        if expected:
            assert CHECKER.check_output(expected, done.stdout, FLEXIBLE), f"{block.place} is not:\n{done.stdout}"


def completed(command: str) -> "subprocess.CompletedProcess[str]":
    """Run a command, without a shell where it is nothing but a program of Python and its arguments."""
    options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 280}
    program, *arguments = shlex.split(command)
    if program == "python" and SHELL.isdisjoint(command):
        return forkserver.run([sys.executable, *arguments], **options)
    # Of bash, as in the scripts: /bin/sh is another shell on each system.
    return subprocess.run(["bash", "-c", command], check=False, **options)


def test_what_does_not_run_says_why() -> None:
    assert all(len(block.no_run.split()) >= 3 for block in ALL_BLOCKS if block.no_run)
    run = [block for block in ALL_BLOCKS if block.language == "python" and not block.no_run]
    skipped = [block for block in ALL_BLOCKS if block.language == "python" and block.no_run]
    assert len(run) > 20
    assert len(skipped) < len(run) / 4


SOURCES = sorted((ROOT / "src").rglob("*.py"))


def docstring_examples() -> list[Any]:
    found = []
    for source in SOURCES:
        if ">>> " not in source.read_text("utf-8"):
            continue
        name = ".".join(source.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
        finder = doctest.DocTestFinder(exclude_empty=True)
        found += [test for test in finder.find(importlib.import_module(name)) if test.examples]
    return [pytest.param(test, id=test.name) for test in found]


@pytest.mark.parametrize("test", docstring_examples())
def test_docstring_examples_run(
    test: doctest.DocTest, embedded_env: TritonEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    words: list[str] = []
    monkeypatch.setenv("TRITON_RUNTIME", "embedded")
    test.globs["env"] = embedded_env
    results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=words.append, clear_globs=False)
    assert results.attempted > 0
    assert results.failed == 0, "".join(words)


def test_every_service_has_an_example_and_none_is_skipped() -> None:
    examples = {parameters.values[0].name.rpartition(".")[2] for parameters in docstring_examples()}
    assert {"TritonEnvironment", "Postgres", "ClickHouse", "Redis", "S3", "AsyncS3"} <= examples
    assert not [source for source in SOURCES if "+SKIP" in source.read_text("utf-8")]


# --- Commands and files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", selected("console"))
def test_its_commands_are_good(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vars(SERVICES), "_points", brought_by(block.document))
    assert block.commands, "a console block shows commands after `$ `"
    for command in block.commands:
        done = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert not done.stderr
        for words in simple_commands(command):
            check_command(words)


def brought_by(document: Path) -> dict[str, Any]:
    """The services that it makes distributions for, by their names."""
    tables = [tomllib.loads(block.text) for block in blocks(document) if block.language == "toml"]
    points = [table.get("project", {}).get("entry-points", {}).get("triton_env.services", {}) for table in tables]
    return {name: place for each in points for name, place in each.items()}


def simple_commands(command: str) -> Iterator[list[str]]:
    """The words of each simple command, those in `$(...)` included."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in (*lexer, ";"):
        if word.startswith("$(") and word.endswith(")"):
            yield from simple_commands(word[2:-1])
        if set(word) <= set(";|&()"):
            yield words
            words = []
        else:
            words.append(word)


def check_command(words: list[str]) -> None:
    while words and "=" in words[0]:
        variable, *words = words
        assert_known(variable.partition("=")[0])
    match words:
        case ["python", "-m", "triton_env", *arguments]:
            parse(arguments)
        case ["bash" | "python", script, *_] if script.endswith((".sh", ".py")) and "/" in script:
            assert (ROOT / script).is_file()
        case ["pip", "install", *requirements]:
            for requirement in requirements:
                project, _, extras = requirement.removesuffix("]").partition("[")
                # On no index: from a checkout.
                assert project in (".", "../triton-env", "./triton-notes", "pytest"), project
                assert set(filter(None, extras.split(","))) <= project_table()["optional-dependencies"].keys()
        case ["export", assignment]:
            assert_known(assignment.partition("=")[0])


def parse(arguments: list[str]) -> None:
    """Parse a command line of ours as it would be parsed; do nothing."""
    if not arguments or arguments[0].startswith("-"):
        return
    with click.Context(command_line, info_name="triton_env") as context:
        name, command, rest = command_line.resolve_command(context, arguments)
        assert command is not None
        if "--help" not in rest:
            command.make_context(name, rest, parent=context)


def project_table() -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return table


SHOWN_HELP = {
    command: pytest.param(command, output, id=command)
    for block in ALL_BLOCKS
    if block.language == "console"
    for command, output in block.exchanges
    if command.endswith("--help") and output
}


@pytest.mark.parametrize(("command", "shown"), SHOWN_HELP.values())
def test_shown_help_is_the_real_help(command: str, shown: str) -> None:
    arguments = [sys.executable, *shlex.split(command)[1:]]
    environment = dict(os.environ) | {"COLUMNS": "80"}
    done = forkserver.run(arguments, capture_output=True, text=True, check=True, env=environment)
    assert shown == done.stdout


def test_help_is_shown_for_every_command() -> None:
    wanted = {f"python -m triton_env {name} --help".replace("  ", " ") for name in ("", *commands())}
    assert set(SHOWN_HELP) >= wanted


@pytest.mark.parametrize("block", selected("dotenv", "toml", "yaml", "json"))
def test_its_configuration_can_be_read(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    if block.language == "dotenv":
        Path(".env").write_text(block.text, "utf-8")
        for name in dotenv_values(".env"):
            assert_known(name)
        Settings()
    elif block.language == "toml":
        tomllib.loads(block.text)
    else:
        yaml.safe_load(block.text)


def test_every_language_is_checked() -> None:
    checked = {"python", "console", "dotenv", "toml", "yaml", "json", "sql", "text"}
    assert {block.language for block in ALL_BLOCKS} <= checked
    assert all(block.file for block in ALL_BLOCKS if block.language == "sql"), "no other SQL is run"


# --- Words are those of the code -------------------------------------------------------------------------------------


def assert_known(variable: str) -> None:
    assert variable.lower() in Settings.model_fields or variable in OF_OTHERS, variable


@pytest.mark.parametrize("document", of_each_document())
def test_variables_and_labels_exist(document: Path) -> None:
    images = {"LOCALSTACK_IMAGE", "POSTGRES_IMAGE", "REDIS_IMAGE", "CLICKHOUSE_IMAGE"}
    assert images <= {name.upper() for name in Settings.model_fields}
    # Of a service that it describes itself.
    own = {name.upper() for text in code(document) for name in re.findall(r"^    (\w+): \w+ = setting\(", text, re.M)}
    for text in code(document):
        for variable in re.findall(r"(?<![\w<])[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", text):
            if variable not in own:
                assert_known(variable)
        for label in re.findall(rf"{re.escape(LABEL)}[a-z.-]*", text):
            assert label.rstrip(".") in labels(), label


def labels() -> set[str]:
    return set(Owner.this_process("x").labels("redis")) | {OUR_LABEL}


def names_in(document: Path, *, table: int) -> set[str]:
    """The code in the first column of a table, without what follows the name."""
    return {re.split(r"[^\w.-]", row[0].strip("`"))[0] for row in tables(document)[table]}


def test_the_tree_of_errors_is_the_tree() -> None:
    drawn = next(block.text for block in blocks(REFERENCE / "errors.md") if block.language == "text")
    lines = (errors.__doc__ or "").splitlines()
    begin = lines.index("TritonError")
    assert drawn.splitlines() == lines[begin : lines.index("", begin)]


def test_the_table_of_exit_codes_is_complete() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.TritonError)]
    codes = {0, run_command._NOT_FOUND, run_command._NOT_EXECUTABLE, *(kind.exit_code for kind in kinds)}
    codes |= {Interrupted(number).exit_code for number in END_SIGNALS}
    assert names_in(REFERENCE / "command-line.md", table=0) == {str(code) for code in codes}


def test_the_table_of_labels_is_complete() -> None:
    assert names_in(REFERENCE / "labels.md", table=0) == labels() - {OUR_LABEL}


def test_the_tables_of_members_are_complete() -> None:
    described = [TritonEnvironment, Postgres, ClickHouse, Redis, S3, Namespace, Template, Timeline]
    common = set.intersection(*({*public(kind)} for kind in (Postgres, ClickHouse, Redis, S3)))
    wanted = [public(kind) - (common if kind in described[1:5] else set()) for kind in described]
    wanted.insert(1, common)
    found = [names_in(REFERENCE / "python.md", table=number) for number in range(len(wanted))]
    assert found == wanted


def public(kind: type) -> set[str]:
    members = {name for name in (*dir(kind), *inspect.get_annotations(kind)) if not name.startswith("_")}
    # `placement` is set where a service is made; what services are made with and by is for environments alone.
    if issubclass(kind, Service):
        members |= {"placement"}
        members -= {"recipe", "fresh_credentials", "prepare", "scheme_for"}
    return members


def test_the_table_of_runtimes_names_each() -> None:
    assert names_in(REFERENCE / "runtimes.md", table=0) == set(RUNTIME_NAMES)


def test_the_table_of_services_names_their_variables(env_variables: dict[str, set[str]]) -> None:
    (table,) = (table for table in tables(ROOT / "README.md") if table[0][:2] == ("PostgreSQL", "`env.postgres`"))
    for (_, attribute, clients, variables), (name, wanted) in zip(table, env_variables.items(), strict=True):
        assert attribute == f"`env.{name}`"
        assert set(re.findall(r"[A-Z][A-Z0-9_]+", variables)) == wanted
        for client in re.findall(r"`(\w+)\(\)`", clients):
            assert callable(getattr(getattr(TritonEnvironment, name)._service, client))


@pytest.fixture
def env_variables() -> dict[str, set[str]]:
    from unit.fakes import installed

    with installed(), TritonEnvironment() as environment:
        return {name: set(environment.service(name).environ()) for name in environment.services}


# --- Links lead somewhere --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", of_each_document())
def test_its_links_lead_somewhere(document: Path) -> None:
    for link in links(document):
        parts = urlsplit(link)
        if parts.scheme:
            assert parts.scheme == "https", link
            assert parts.netloc, link
            continue
        target = (document.parent / unquote(parts.path)).resolve() if parts.path else document
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if parts.fragment:
            assert parts.fragment in anchors(target), link


def test_every_document_is_linked_from_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / urlsplit(link).path).resolve() for link in links(index) if not urlsplit(link).scheme}
    assert {document for document in DOCUMENTS if document.is_relative_to(ROOT / "docs")} - {index} <= linked


def test_the_licence_is_the_whole_apache_licence() -> None:
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert project_table()["license"] == "Apache-2.0"
    assert text.split()[:6] == ["Apache", "License", "Version", "2.0,", "January", "2004"]
    assert [line for line in text.splitlines() if line.startswith("   ") and line.strip()[:2] == "9."]
    assert "END OF TERMS AND CONDITIONS" in text
