"""Creates the bucket by 10-bucket.sh where that cannot be a hook itself: copies that Podman makes of a
ConfigMap cannot be executed."""

import subprocess

subprocess.run(["bash", "/etc/triton-env/10-bucket.sh"], check=True)  # noqa: S607 - both are of the image
