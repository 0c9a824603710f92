"""Sizes for people. Rich has them too, but loading it takes longer than what is printed here."""

_DECIMAL = ("bytes", "kB", "MB", "GB", "TB")
_BINARY = ("B", "KiB", "MiB", "GiB")


def size_words(count: float) -> str:
    """Bytes in files and on disks: "20.9 MB"."""
    for unit in _DECIMAL[:-1]:
        if count < 1000:
            return f"{count:.1f} {unit}" if unit != _DECIMAL[0] else f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} {_DECIMAL[-1]}"


def memory_words(count: float) -> str:
    """Bytes in memory, whose limits are given in powers of two: "256 MiB"."""
    for unit in _BINARY[:-1]:
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} {_BINARY[-1]}"
