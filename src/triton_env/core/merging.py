"""Several sources of lines, read at once."""

import queue
import threading
from collections.abc import Iterator, Mapping


def merged(sources: Mapping[str, Iterator[str]]) -> Iterator[tuple[str, str]]:
    """The lines of several sources as they come, each with the name of its source."""
    lines: queue.SimpleQueue[tuple[str, str | Exception | None]] = queue.SimpleQueue()

    def read(name: str, source: Iterator[str]) -> None:
        try:
            for line in source:
                lines.put((name, line))
            lines.put((name, None))
        except Exception as error:
            lines.put((name, error))

    for name, source in sources.items():
        # A daemon: one that follows ends with this process.
        threading.Thread(target=read, args=(name, source), daemon=True).start()
    ended = 0
    while ended < len(sources):
        name, line = lines.get()
        if isinstance(line, Exception):
            raise line
        if line is None:
            ended += 1
        else:
            yield name, line
