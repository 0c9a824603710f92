"""The Docker engine, through its command line: the one tool that is there before any package of the project is."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import threading
from datetime import UTC, datetime
from pathlib import Path

from recipes import Image

STANDIN_LABEL = "org.triton-env.standin"
INPUTS_LABEL = "org.triton-env.standin.inputs"


class BuildError(Exception):
    """Something that stops the build, in words for the user who started it."""


def docker(*arguments: str, stdin: bytes | None = None) -> str:
    """Run one docker command and return what it printed.

    Raises:
        BuildError: the command failed; the message carries the end of what it said.
    """
    done = subprocess.run(["docker", *arguments], input=stdin, capture_output=True, check=False)
    if done.returncode != 0:
        said = (done.stdout + done.stderr).decode(errors="replace").strip().splitlines()
        raise BuildError(f"`docker {arguments[0]}` failed:\n  " + "\n  ".join(said[-15:]))
    return done.stdout.decode(errors="replace").strip()


def require_engine() -> None:
    """Raises BuildError when there is no docker command or no engine behind it."""
    if shutil.which("docker") is None:
        raise BuildError("the command `docker` is missing.\nhint: install Docker's command line and engine")
    try:
        docker("version", "--format", "{{.Server.Version}}")
    except BuildError as error:
        raise BuildError(f"no Docker engine answers.\n{error}\nhint: docker info") from error


def present(image: str) -> bool:
    """Whether the engine has the image."""
    return _inspect(image, "{{.Id}}") is not None


def inputs_of(image: str) -> str | None:
    """The content hash that a stand-in was built from, or None when the image is absent or carries none."""
    return _inspect(image, f'{{{{index .Config.Labels "{INPUTS_LABEL}"}}}}') or None


def _inspect(image: str, template: str) -> str | None:
    try:
        return docker("image", "inspect", "--format", template, image)
    except BuildError:
        return None


def load_system(system: Path, image: Image, inputs: str) -> None:
    """Make an image of the tar archive of a root file system.

    The image is written down in full and loaded, since `docker import --change` knows no STOPSIGNAL on older engines.
    Source of the layout: the Docker image specification 1.2, "Combined Image JSON + Filesystem Changeset Format".

    Raises:
        BuildError: the engine would not take it.
    """
    with system.open("rb") as content:
        layer = hashlib.file_digest(content, "sha256").hexdigest()
    labels = {STANDIN_LABEL: "true", INPUTS_LABEL: inputs}
    configuration = {
        "architecture": docker("version", "--format", "{{.Server.Arch}}"),
        "os": "linux",
        "created": datetime.now(UTC).isoformat(),
        "config": {**image.config, "Env": list(image.environment), "Labels": labels},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [image.tag], "Layers": ["layer.tar"]}]
    pipe = subprocess.PIPE
    with subprocess.Popen(["docker", "load"], stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError), tarfile.open(fileobj=process.stdin, mode="w|") as archive:
            _add(archive, "config.json", json.dumps(configuration).encode())
            _add(archive, "manifest.json", json.dumps(manifest).encode())
            archive.add(system, "layer.tar")
        process.stdin.close()
        said = process.stdout.read().decode(errors="replace").strip()
    if process.returncode != 0:
        raise BuildError(f"`docker load` failed: {said}")


def derive(image: Image, below: str, inputs: str) -> None:
    """Add an image's files and environment to the image `below`.

    A container takes the files, runs the finishing command if there is one, and is committed: one layer, while each
    instruction of a Dockerfile would make one more image, seconds apart on slow storage drivers.
    """
    changes = [f"ENV {variable}" for variable in image.environment]
    changes.append(f"LABEL {STANDIN_LABEL}=true {INPUTS_LABEL}={inputs}")
    command = [below]
    if image.finish:
        command = ["--entrypoint", image.finish[0], below, *image.finish[1:]]
        # A commit takes over what the container ran.
        changes += [f"{name.upper()} {json.dumps(image.config.get(name, []))}" for name in ("Entrypoint", "Cmd")]
    container = docker("create", "--label", f"{STANDIN_LABEL}=true", *command)
    try:
        if image.files:
            docker("cp", "-", f"{container}:/", stdin=_archive(image))
        if image.finish:
            docker("start", "--attach", container)
        docker("commit", *(word for change in changes for word in ("--change", change)), container, image.tag)
    finally:
        docker("rm", "--force", "--volumes", container)


def _archive(image: Image) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for target, path in image.files:
            _add(archive, target.lstrip("/"), path.read_bytes(), file_mode(path))
    return content.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mode = mode
    archive.addfile(entry, io.BytesIO(content))


def file_mode(path: Path) -> int:
    """The mode of a file inside an image. A checkout's own modes depend on a user's umask."""
    return 0o755 if path.read_bytes().startswith(b"#!") else 0o644


def remove_replaced() -> None:
    """Remove stand-ins that lost their tag to a newer build. One that a container still uses stays."""
    filters = ("--filter", f"label={STANDIN_LABEL}=true", "--filter", "dangling=true")
    for image in docker("image", "ls", "--quiet", *filters).split():
        try:
            docker("image", "rm", image)
        except BuildError:
            continue


def pull(image: str, answer_timeout: float, total_timeout: float) -> bool:
    """Pull an image if a registry answers soon; whether the engine has it afterwards.

    Args:
        image: the reference to pull.
        answer_timeout: seconds within which the registry has to name the image's layers.
        total_timeout: seconds that the whole pull may take.
    """
    process = subprocess.Popen(["docker", "pull", image], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    answered = threading.Event()

    def read() -> None:
        assert process.stdout is not None
        for _ in process.stdout:
            answered.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        # An unreachable registry ends the command at once or leaves it hanging without a line.
        if _answers_within(process, answered, answer_timeout):
            process.wait(timeout=total_timeout)
    except subprocess.TimeoutExpired:
        pass
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        reader.join(timeout=5)
    return process.returncode == 0


def _answers_within(process: subprocess.Popen[bytes], answered: threading.Event, timeout: float) -> bool:
    step = 0.05
    return any(process.poll() is not None or answered.wait(step) for _ in range(int(timeout / step)))
