"""The notebook of the examples: run from top to bottom, on real servers, with the numbers that are in the data."""

import base64
import os
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
import pytest
from nbclient import NotebookClient
from traitlets.config import Config

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOK = EXAMPLES / "experiment.ipynb"
PNG = b"\x89PNG\r\n\x1a\n"


def test_it_is_kept_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) > 5
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)


@pytest.mark.timeout(600)
def test_it_runs_and_finds_what_is_in_the_claims(
    embedded_packages: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where Jupyter, IPython and Matplotlib would write in the user's home.
    for name in ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    # Short: sockets are made in there, whose paths may not be long. Ports are found free long before a kernel takes
    # them, and other tests take ports in between.
    with TemporaryDirectory(prefix="kernel-") as folder:
        sockets = {"transport": "ipc", "connection_file": str(Path(folder, "connection.json"))}
        client = NotebookClient(
            notebook,
            config=Config({"KernelManager": sockets}),
            timeout=240,
            startup_timeout=240,
            # By default it does without an output that comes 4 s after the cell's end.
            iopub_timeout=240,
            kernel_name="python3",
            resources={"metadata": {"path": str(EXAMPLES)}},
        )
        client.execute(env=os.environ | {"TRITON_RUNTIME": "embedded"})
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    texts = [output.get("text") or output.data.get("text/plain", "") for output in outputs]

    claims, cost = expected()
    assert f"{claims:,} claims\n" in texts
    overall = sum(cents for _, cents in cost.values()) / 100 / claims
    above = [name for name, (rows, cents) in cost.items() if cents / 100 / rows > 1.1 * overall]
    assert 0 < len(above) < len(cost)
    answer = next(text for text in texts if "employers are more than" in text)
    assert answer.startswith(f"{len(above)} of {len(cost)} employers are more than 10 % above ${overall:,.2f} a claim:")
    assert set(answer.split("\n")[1].split(", ")) == set(above)
    table = next(text for text in texts if "denial_rate" in text)
    for name, (rows, cents) in cost.items():
        assert re.search(rf"{name} .* {rows} .* {cents / 100 / rows:.3f}", table)

    (image,) = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    picture = base64.b64decode(image)
    assert picture.startswith(PNG)
    assert len(picture) > 10_000
    pages = [output.data["text/html"] for output in outputs if "text/html" in output.get("data", {})]
    assert any("TritonEnvironment" in page for page in pages)


def expected() -> tuple[int, dict[str, tuple[int, int]]]:
    """How many claims there are, and those and the allowed cents of each employer, from the generator itself."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        from claims import reference
        from claims.generator import Generator
        from claims.totals import Totals, add_by_client
    finally:
        sys.path.remove(str(EXAMPLES))
    totals: dict[int, Totals] = {}
    for batch in Generator(rows=100_000, seed=7).batches():
        totals = add_by_client(totals, batch.totals())
    names = {client.id: client.name for client in reference.CLIENTS}
    return sum(each.rows for each in totals.values()), {
        names[client]: (each.rows, each.allowed_cents) for client, each in totals.items()
    }
