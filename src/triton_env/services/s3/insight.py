"""What S3 reports about itself: buckets, objects with their versions, their content."""

from collections.abc import Mapping

from triton_env.services.base_insight import Insight, Metric, Panel, Table
from triton_env.services.s3.service import S3


class S3Insight(Insight[S3]):
    """Looks at an S3 server. Servers count nothing themselves, so objects are counted by lists, now and then."""

    metrics = (
        Metric("buckets", "Buckets", "Buckets of the server."),
        Metric("objects", "Objects", "Objects that were found in all buckets when they were last counted."),
        Metric("objects_bytes", "Size", "Size of these objects, of each the newest version.", unit="bytes"),
        Metric("count_is_cut", "Count is cut", "1 where the count ended early, as there are more objects than that."),
    )
    panels = (
        Panel("buckets", "Buckets", "The server has no bucket."),
        Panel("objects", "Objects", "No object has a key like this.", "bucket/prefix"),
        Panel("object", "Object", "This object is empty.", "bucket/key", needs_argument=True),
    )

    def _sample(self) -> Mapping[str, float]:
        return {}

    def _table(self, panel: str, argument: str) -> Table:
        return Table((), ())

    def _errors(self) -> tuple[type[Exception], ...]:
        from botocore.exceptions import BotoCoreError, ClientError

        return (BotoCoreError, ClientError, OSError)
