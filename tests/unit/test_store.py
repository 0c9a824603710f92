"""State on disk: read as it was written, and as versions wrote it that had other code for it."""

import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from triton_env import Settings
from triton_env.backup.journal import Entry, Phase, Place
from triton_env.core.codec import from_data, to_data
from triton_env.core.ending import Ending
from triton_env.core.model import Endpoint, Placement, Storage
from triton_env.errors import RestoreUnfinished
from triton_env.isolation.ledger import FrozenSpace, Kind, Lease
from triton_env.isolation.reads import Read, Reads, Variant, Variants
from triton_env.persistent.stamps import Stamp
from triton_env.services.base_isolation import Space
from triton_env.state import store

ENTRY = Entry(
    mark="triton_restore_01234567",
    phase=Phase.TAKING_OVER,
    pid=42,
    file="/backups/one.backup",
    addresses={"postgres": "127.0.0.1:5432"},
    plans={"postgres": {"databases": ["shop"], "count": 1, "more": None}},
    pending=("postgres",),
    returned=(),
    environment="triton",
    digest="0" * 64,
    is_persistent=True,
)

_OF_LEASES = {"made_by": "", "is_ready": False}
ADDED = {
    "lease": _OF_LEASES,
    "lease of the first format": _OF_LEASES,
    "template without records": {"records": {}},
}
"""What later versions write besides."""

WRITTEN = {
    "journal": (
        ENTRY,
        '{"format": 1, "mark": "triton_restore_01234567", "phase": "taking over", "pid": 42,'
        ' "file": "/backups/one.backup", "addresses": {"postgres": "127.0.0.1:5432"},'
        ' "plans": {"postgres": {"databases": ["shop"], "count": 1, "more": null}}, "pending": ["postgres"],'
        f' "returned": [], "environment": "triton", "digest": "{"0" * 64}", "is_persistent": true}}',
    ),
    "lease": (Lease(("redis", "s3"), 42), '{"format": 2, "services": ["redis", "s3"], "pid": 42}'),
    "lease of the first format": (Lease(("redis",), 42, 1), '{"format": 1, "services": ["redis"], "pid": 42}'),
    "folder": (Kind(lasting=True), '{"format": 2, "lasting": true}'),
    "folder of the first format": (Kind(lasting=False, format=1), '{"format": 1, "lasting": false}'),
    "template": (
        FrozenSpace(Space("triton_tpl_ab"), ("postgres",), {"postgres": "1-2"}),
        '{"format": 2, "space": {"id": "triton_tpl_ab"}, "services": ["postgres"], "records": {"postgres": "1-2"}}',
    ),
    "template without records": (
        FrozenSpace(Space("triton_tpl_ab"), ("postgres",)),
        '{"format": 2, "space": {"id": "triton_tpl_ab"}, "services": ["postgres"]}',
    ),
    "variants": (
        Variants(
            2,
            (
                Variant(
                    "ab",
                    "t",
                    Reads((Read("file", "a.sql", (1, 2, 3, 4), "ff"), Read("tree", "b", None, "absent"))),
                    {"postgres": ("extension",)},
                ),
            ),
        ),
        '{"count": 2, "known": [{"digest": "ab", "token": "t", "reads": {"reads": ['
        '{"kind": "file", "path": "a.sql", "stamp": [1, 2, 3, 4], "content": "ff"},'
        '{"kind": "tree", "path": "b", "stamp": null, "content": "absent"}], "is_certain": true},'
        '"beside": {"postgres": ["extension"]}}]}',
    ),
    "stamp": (
        Stamp(
            *("redis", "7.0", "redis:7.0", "sha256:1", "/home/alice"),
            facts={"A": "b"},
            written="2026-11-24T10:00:00+00:00",
        ),
        '{\n  "format": 1,\n  "service": "redis",\n  "version": "7.0",\n  "image": "redis:7.0",\n'
        '  "image_id": "sha256:1",\n  "facts": {\n    "A": "b"\n  },\n  "checkout": "/home/alice",\n'
        '  "written": "2026-11-24T10:00:00+00:00"\n}\n',
    ),
}
"""What each kind of file held before there was one code for all of them, and what that is."""


@pytest.mark.parametrize("name", WRITTEN)
def test_what_earlier_versions_wrote_is_read_and_written_likewise(tmp_path: Path, name: str) -> None:
    value, text = WRITTEN[name]
    path = tmp_path / "file"
    path.write_text(text)
    assert store.read(path, type(value)) == value
    store.write(path, value)
    assert store.read(path, type(value)) == value
    assert json.loads(path.read_text()) == json.loads(text) | ADDED.get(name, {})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, "another version"),
        ({"phase": "asleep"}, "asleep"),
        ({"pid": "42"}, "pid: not of the kind int"),
        ({"pid": True}, "pid"),
        ({"pending": "postgres"}, "pending"),
        ({"pending": ["postgres", 7]}, r"pending\.1"),
        ({"plans": []}, "plans"),
        ({"is_persistent": 1}, "is_persistent"),
        ({"new": 1}, "new: unknown"),
    ],
)
def test_a_journal_that_is_not_understood_is_neither_used_nor_removed(
    tmp_path: Path, change: Mapping[str, Any], words: str
) -> None:
    place = Place(Settings(triton_state_dir=str(tmp_path)), "triton", lasting=True)
    place.write(ENTRY)
    text = json.dumps(json.loads(place.path.read_text()) | change)
    place.path.write_text(text)
    with pytest.raises(RestoreUnfinished, match=words):
        place.read()
    assert place.path.read_text() == text


@pytest.mark.parametrize("missing", json.loads(WRITTEN["journal"][1]))
def test_a_journal_that_lacks_something_is_not_used(tmp_path: Path, missing: str) -> None:
    content = json.loads(WRITTEN["journal"][1])
    del content[missing]
    path = tmp_path / "file"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="another version" if missing == "format" else f"{missing}: missing"):
        store.read(path, Entry)


@dataclass(frozen=True, slots=True)
class Everything:
    """One field of each type that is in use."""

    number: float
    storage: Storage
    word: Literal["one", "two"]
    placements: Mapping[str, Placement]
    pair: tuple[str, int]
    ending: Ending | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


EVERYTHING = Everything(
    1.0,
    Storage.DISK,
    "two",
    {"redis": Placement({"redis": Endpoint("::1", 6379)}, {}, Path("/run"))},
    ("a", 1),
    Ending("here", "hint", status=-9),
    {"any": [1, {"thing": None}]},
)


def test_all_types_survive_json() -> None:
    data = json.loads(json.dumps(to_data(EVERYTHING)))
    assert from_data(Everything, data) == EVERYTHING
    assert from_data(Everything, data | {"number": 1, "ending": None}).ending is None
    assert from_data(dict[str, str], {"a": "b"}) == {"a": "b"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"word": "three"}, "word"),
        ({"pair": ["a"]}, "pair: 1 parts, not 2"),
        ({"placements": {"redis": {"endpoints": {"redis": {"host": "h", "port": "s3cret"}}}}}, r"redis\.port"),
        ({"number": None}, "number"),
        ({"storage": 1}, "storage"),
    ],
)
def test_what_does_not_fit_is_named_without_its_value(change: Mapping[str, Any], words: str) -> None:
    data = json.loads(json.dumps(to_data(EVERYTHING)))
    with pytest.raises(ValueError, match=words) as caught:
        from_data(Everything, data | change)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "null", '"text"', "{", '{"format": 2}'])
def test_what_is_none_of_ours_is_not_found(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file"
    assert store.found(path, FrozenSpace) is None
    path.write_text(text)
    assert store.found(path, FrozenSpace) is None
    path.write_bytes(b"\xff\xfe")
    assert store.found(path, FrozenSpace) is None
