"""The stand-in for the image of etcd: Debian's packages with the programs where the official image has them."""

from pathlib import Path

from recipes import Image, Standin

_TAG = "triton-env/standin-etcd:3.5"

STANDINS = (
    Standin(
        service="etcd",
        variable="ETCD_IMAGE",
        official="gcr.io/etcd-development/etcd:v3.5.17",
        tag=_TAG,
        suite="trixie",
        packages=("etcd-client", "etcd-server"),
        after_packages=Path(__file__).with_name("after-packages.sh"),
        images=(
            Image(
                tag=_TAG,
                environment=("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",),
                config={"Cmd": ["/usr/local/bin/etcd"], "ExposedPorts": {"2379/tcp": {}, "2380/tcp": {}}},
            ),
        ),
    ),
)
