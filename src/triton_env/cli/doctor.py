"""`doctor`: is everything there that an environment needs?"""

import json
import sys
from typing import TYPE_CHECKING

import click

from triton_env.cli.output import columns_of, marks, styled
from triton_env.core.commands import runnable, wrapped
from triton_env.core.printable import printable

if TYPE_CHECKING:
    from triton_env.core.findings import Finding

_COLORS = {"good": "green", "note": "bright_black", "warning": "yellow", "bad": "red"}
_LABEL = 12
"""Columns for what was looked at."""
_NARROW = 60
"""With fewer columns than this, the words begin below."""


_UNLIMITED = 100_000


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def command(as_json: bool) -> int:
    """Check settings, packages, engine, images, ports, memory and disk: as far as the next start needs them.

    Each finding is good, a note, a warning or bad, with what to do about it. Nothing is changed. Docker is not checked
    where TRITON_RUNTIME is embedded, kubernetes or external, and is only a note where the embedded servers would run.

    Exit status: 1 if a finding is bad, else 0.
    """
    from triton_env.cli.checks import examine
    from triton_env.core.findings import Verdict

    findings: list[Finding] = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            _print(finding)
    counts = {verdict.value: sum(finding.verdict is verdict for finding in findings) for verdict in Verdict}
    if as_json:
        rows = [
            {
                "subject": each.subject,
                "verdict": each.verdict.value,
                "words": each.words,
                "hint": each.hint or None,
                "document": each.document or None,
            }
            for each in findings
        ]
        click.echo(json.dumps({"findings": rows, **counts}, indent=2))
    else:
        parts = [styled(_counted(name, count), fg=_COLORS[name]) for name, count in counts.items() if count]
        click.echo(f"\n{', '.join(parts)}")
        # One YAML stream, which `kubectl apply -f -` takes as it is.
        if documents := [each.document for each in findings if each.document]:
            click.echo("\n" + "\n---\n".join(documents))
    return 1 if counts["bad"] else 0


def _counted(verdict: str, count: int) -> str:
    plural = "s" if verdict in ("note", "warning") and count != 1 else ""
    return f"{count} {verdict}{plural}"


def _print(finding: "Finding") -> None:
    signs = marks(sys.stdout)
    mark = styled(signs[finding.verdict], fg=_COLORS[finding.verdict], bold=True)
    width = columns_of(sys.stdout)
    stacked = width is not None and width < _NARROW
    indent = 2 if stacked else 2 + _LABEL + 1
    room = (width or _UNLIMITED) - indent
    lines = wrapped(printable(runnable(finding.words)), room)
    if stacked:
        click.echo(f"{mark} {finding.subject}")
    else:
        click.echo(f"{mark} {finding.subject:<{_LABEL}} {lines.pop(0)}")
    for line in lines:
        click.echo(f"{'':{indent}}{line}")
    for number, line in enumerate(wrapped(runnable(finding.hint), room - 2) if finding.hint else ()):
        sign = " " if number else signs["hint"]
        click.echo(f"{'':{indent}}{styled(f'{sign} {line}', fg='cyan')}")
