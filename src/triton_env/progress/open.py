"""Which display a start gets."""

from typing import Protocol

from triton_env.core.kernel import in_kernel
from triton_env.core.timeline import Event
from triton_env.progress.terminal import Live, Plain, can_draw
from triton_env.services.selection import title_of


class Display(Protocol):
    """Shows one start. `show` may be called from any thread, also after `close`, which may be called again."""

    def open(self) -> None: ...
    def say(self, words: str) -> None: ...
    def show(self, event: Event) -> None: ...
    def close(self) -> None: ...


def open_display(mode: str, services: tuple[str, ...], *, lazy: bool = False) -> Display:
    """A display for a start, not opened yet.

    Args:
        mode: `live`, `plain`, `off`, or `auto`: live in a notebook, and where standard error is a terminal that can
            draw.
        services: the names of the services, in the order in which people read them.
        lazy: whether the user's code runs and prints at the same time, which would garble a display on a terminal.
    """
    if mode == "off":
        return _Off()
    titles = {name: title_of(name) for name in services}
    if mode != "plain" and in_kernel():
        from triton_env.progress.notebook import NotebookDisplay

        # Below its cell, where nothing else is printed in between.
        return NotebookDisplay(titles)
    if mode == "live" or (mode == "auto" and not lazy and can_draw()):
        return Live(titles)
    return Plain(titles)


class _Off:
    def open(self) -> None: ...
    def say(self, words: str) -> None: ...
    def show(self, event: Event) -> None: ...
    def close(self) -> None: ...
