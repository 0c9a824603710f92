"""`doctor`: is everything there that an environment needs?"""

import json
import sys
from typing import TYPE_CHECKING

import click

from triton_env.cli.words import marks, styled
from triton_env.commands import runnable

if TYPE_CHECKING:
    from triton_env.cli.checks import Finding

_COLORS = {"good": "green", "warning": "yellow", "bad": "red"}


@click.command(short_help="Check engine, images, ports, memory, disk and settings.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def command(as_json: bool) -> int:
    """Look at the engine, images, ports, memory, disk and settings.

    Each finding is good, a warning or bad, with what to do about it. Nothing is changed, and no engine is needed for
    the rest to be looked at.

    Exit status: 1 if a finding is bad, else 0.
    """
    from triton_env.cli.checks import Verdict, examine

    findings: list[Finding] = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            _print(finding)
    counts = {verdict.value: sum(finding.verdict is verdict for finding in findings) for verdict in Verdict}
    if as_json:
        rows = [
            {"subject": each.subject, "verdict": each.verdict.value, "words": each.words, "mend": each.mend or None}
            for each in findings
        ]
        click.echo(json.dumps({"findings": rows, **counts}, indent=2))
    else:
        names = {"good": "good", "warning": "warnings" if counts["warning"] != 1 else "warning", "bad": "bad"}
        parts = [styled(f"{counts[name]} {names[name]}", fg=_COLORS[name]) for name in names if counts[name]]
        click.echo(f"\n{', '.join(parts)}")
    return 1 if counts["bad"] else 0


def _print(finding: "Finding") -> None:
    signs = marks(sys.stdout)
    color = _COLORS[finding.verdict]
    click.echo(f"{styled(signs[finding.verdict], fg=color, bold=True)} {finding.subject:<11} {finding.words}")
    if finding.mend:
        click.echo(f"  {'':<11} {styled(signs['mend'] + ' ' + runnable(finding.mend), fg='cyan')}")
