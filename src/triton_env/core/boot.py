"""Which run of a kernel this is."""

import sys
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """The kernel's id of its present run; empty where it has none. Two kernels never have the same."""
    if sys.platform == "darwin":
        import ctypes

        size = ctypes.c_size_t(128)
        value = ctypes.create_string_buffer(size.value)
        libc = ctypes.CDLL(None)
        failed = libc.sysctlbyname(b"kern.bootsessionuuid", value, ctypes.byref(size), None, ctypes.c_size_t(0))
        return "" if failed else value.value.decode()
    try:
        return _BOOT_ID.read_text("ascii", errors="replace").strip()
    except OSError:
        return ""
