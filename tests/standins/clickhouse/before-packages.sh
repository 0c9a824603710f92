# Runs in the bare system, before the packages are installed.
# The official image has these numbers. A volume written by the one image must be readable by the other.
echo 'clickhouse:x:101:' >> /etc/group
echo 'clickhouse:x:101:101:ClickHouse server:/var/lib/clickhouse:/bin/false' >> /etc/passwd
