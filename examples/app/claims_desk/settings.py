"""Where the services are. None of these has a default: without its variables the application does not even import."""

from pydantic_settings import BaseSettings


class Settings(BaseSettings):
    """Read from the process environment when it is made."""

    database_url: str
    clickhouse_host: str
    clickhouse_http_port: int
    clickhouse_user: str
    clickhouse_password: str
    clickhouse_db: str
    redis_url: str
    aws_endpoint_url: str
    aws_access_key_id: str
    aws_secret_access_key: str
    aws_default_region: str
    s3_bucket: str
