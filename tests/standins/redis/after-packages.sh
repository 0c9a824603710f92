# Runs in the system with its packages.
install -d -o redis -g redis /data
ln -s /bin/busybox /usr/local/bin/wget
rm -rf /etc/redis /var/lib/redis /var/log/redis /usr/share/perl /usr/lib/*-linux-gnu/perl
# The official Alpine image has sh alone. A script that leans on bash must fail here as it does there.
rm -f /bin/bash /bin/rbash /usr/bin/bash /usr/bin/rbash
