# Runs in the bare system, before the packages are installed.

# The official Alpine image has this user and group number. A volume written by the one image must be readable by the other.
echo 'postgres:x:70:' >> /etc/group
echo 'postgres:x:70:70:PostgreSQL administrator:/var/lib/postgresql:/bin/sh' >> /etc/passwd

# The package would initialise a cluster of its own at installation. The entrypoint does that, at the first start.
mkdir -p /etc/postgresql-common
echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf
