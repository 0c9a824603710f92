"""What is not in a backup or a copy of buckets, in words."""

import threading
from dataclasses import dataclass, field

from triton_env.core.printable import listed

_SHOWN = 20
"""Names in one sentence."""

# One sentence each; the names come in the place of {}.
GONE = "Deleted while they were read, so left out: {}."
UNREADABLE = "The server does not hand out, so left out: {}."
ACLS = "The server does not answer for the ACLs, which are left out, of: {}."
STRAY_LOCKS = "Their bucket has no object lock, so their locks are left out: {}."
EXPIRED_LOCKS = "Their retention has ended, so it is left out: {}."
UPLOADS = "Uploads that are not complete are left out: {}."
PROPERTIES = "Properties of buckets that are left out: {}."


@dataclass(slots=True)
class Notes:
    """Names by the sentence that they belong to. Threads may add to it."""

    _names: dict[str, list[str]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, sentence: str, name: str) -> None:
        """Add a name to a sentence."""
        with self._lock:
            self._names.setdefault(sentence, []).append(name)

    def names(self, sentence: str) -> list[str]:
        """The names that belong to a sentence."""
        with self._lock:
            return sorted(set(self._names.get(sentence, ())))

    def sentences(self, *, but: str = "") -> tuple[str, ...]:
        """All of it but one, in an order that does not depend on threads."""
        found = [(sentence, names) for sentence, names in sorted(self._names.items()) if sentence != but]
        return tuple(sentence.replace("{}", listed(sorted(set(names)), _SHOWN)) for sentence, names in found)
