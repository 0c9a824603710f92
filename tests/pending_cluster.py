"""A `kubectl` whose cluster takes everything and has no room: pods stay without a node until they are deleted."""

import os
import sys
from pathlib import Path

_KUBECTL = """\
#!{python} -S
import json, os, sys
folder = {folder!r}
words = sys.argv[1:]
kept = folder + "/objects"
os.makedirs(kept, exist_ok=True)
objects = [json.load(open(kept + "/" + name)) for name in sorted(os.listdir(kept))]
pods = [each for each in objects if each["kind"] == "Pod"]
if "config" in words:
    print(json.dumps({{"current-context": "full", "contexts": [{{"name": "full", "context": {{}}}}]}}))
elif "create" in words:
    given = json.load(sys.stdin)
    made = given.get("items", [given])
    for each in made:
        each["metadata"] |= {{"uid": "0815", "creationTimestamp": "2026-01-01T00:00:00Z"}}
        each["metadata"].setdefault("name", "named")
        if "--dry-run=server" not in words:
            path = kept + "/" + each["kind"] + "-" + each["metadata"]["name"]
            json.dump(each, open(path + ".new", "w"))
            os.replace(path + ".new", path)
    print("".join(map(json.dumps, made)))
elif "delete" in words:
    for name in os.listdir(kept):
        os.remove(kept + "/" + name)
elif "get" in words:
    message = "0/3 nodes are available: 3 Insufficient cpu."
    condition = {{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}}
    for each in pods:
        each["status"] = {{"phase": "Pending", "conditions": [condition]}}
    if "name" in words:
        print("".join(each["kind"] + "/" + each["metadata"]["name"] + chr(10) for each in objects))
    else:
        print(json.dumps(pods if "pods" in words else []))
"""


def put_kubectl(folder: Path) -> Path:
    """Write it there; returns the folder of what its cluster has."""
    program = folder / "kubectl"
    folder.mkdir(exist_ok=True)
    program.write_text(_KUBECTL.format(python=sys.executable, folder=str(folder)))
    program.chmod(0o755)
    return folder / "objects"


def path_with(folder: Path) -> str:
    """PATH with that folder first."""
    return f"{folder}:{os.environ['PATH']}"
