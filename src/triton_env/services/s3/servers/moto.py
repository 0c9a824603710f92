"""moto, which runs as a process behind a door that checks who asks: `triton_env.servers.s3`."""

import json

from triton_env.core.model import ProcessRecipe
from triton_env.settings import Settings


def process(settings: Settings) -> ProcessRecipe:
    """The server as a process of this machine."""
    return ProcessRecipe(
        argv=("{python}", "-m", "triton_env.servers.s3", "--host", "{host}", "--port", "{port:s3}"),
        requires=("moto", "flask", "flask-cors"),
        input=keys(settings),
        instead="set TRITON_S3_SERVER=seaweedfs, which keeps data",
    )


def keys(settings: Settings) -> str:
    """What a server reads from its standard input: secret access keys by their ids, in JSON."""
    return json.dumps({settings.aws_access_key_id: settings.aws_secret_access_key.get_secret_value()})
