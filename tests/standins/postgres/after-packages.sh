# Runs in the system with its packages.
localedef --inputfile=en_US --charmap=UTF-8 --alias-file=/usr/share/locale/locale.alias en_US.UTF-8

# A server in a container listens on every address, as the official image is configured to.
sed -i "s/^#listen_addresses = .*/listen_addresses = '*'/" /usr/share/postgresql/*/postgresql.conf.sample

mkdir -p /docker-entrypoint-initdb.d /var/lib/postgresql/data
rm -rf /var/lib/postgresql/[0-9]* /etc/postgresql
chown -R postgres:postgres /var/lib/postgresql
chmod 1777 /var/lib/postgresql/data
install -d -o postgres -g postgres -m 3777 /var/run/postgresql
ln -s /bin/busybox /usr/local/bin/wget

# Only the wrappers of postgresql-common need the whole of Perl; the real programs come first in PATH.
rm -rf /usr/share/perl /usr/lib/*-linux-gnu/perl /usr/share/i18n /usr/share/postgresql-common
