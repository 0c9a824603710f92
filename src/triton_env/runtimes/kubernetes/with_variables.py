"""Runs a program in a pod with environment variables, whose values are in no command line.

Run as a script, with the standard library alone:

    python -I -S with_variables.py NAMES POD CONTAINER TERMINAL KUBECTL_WORDS KUBECTL... PROGRAM...

NAMES are those of the variables, with commas between them, which this process has with `PREFIX` before them. TERMINAL
is `terminal` or `plain`, and KUBECTL_WORDS how many words of the command line lead to `exec`. The variables go into a
file of the pod that the program's shell reads and removes.
"""

import os
import shlex
import subprocess
import sys

PREFIX = "_TRITON_IN_POD_"
_WRITE = 'umask 077 && file=$(mktemp) && cat > "$file" && printf %s "$file"'
_READ = 'lines=$(cat "$0") && rm -f "$0" && eval "$lines" && unset lines && exec "$@"'


def main() -> None:
    """Write the variables, and become `kubectl`."""
    names, pod, container, terminal, lead, *rest = sys.argv[1:]
    kubectl, program = rest[: int(lead)], rest[int(lead) :]
    target = [pod, "--container", container]
    lines = "".join(f"export {name}={shlex.quote(os.environ.pop(PREFIX + name))}\n" for name in names.split(","))
    done = subprocess.run(  # noqa: S603 - the user's kubectl
        [*kubectl, "exec", "--stdin", *target, "--", "sh", "-c", _WRITE],
        # Values need not be text.
        input=os.fsencode(lines),
        stdout=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        sys.exit(done.returncode)
    how = ["--stdin", "--tty"] if terminal == "terminal" else ["--stdin"]
    file = done.stdout.decode()
    os.execv(kubectl[0], [*kubectl, "exec", *how, *target, "--", "sh", "-c", _READ, file, *program])  # noqa: S606


if __name__ == "__main__":
    main()
