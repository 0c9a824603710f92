"""What users rely on: a change of it is seen in review, as a change of `tests/public_surface.txt`."""

import public_surface


def test_the_public_surface_is_the_reviewed_one() -> None:
    found, reviewed = public_surface.lines(), public_surface.FILE.read_text("utf-8").splitlines()
    changed = [f"- {line}" for line in reviewed if line not in found] + [
        f"+ {line}" for line in found if line not in reviewed
    ]
    assert found == reviewed, "\n".join(("run `just surface` and review the difference:", *changed))
