# Where the official image has them.
ln -s /usr/bin/etcd /usr/bin/etcdctl /usr/local/bin/
