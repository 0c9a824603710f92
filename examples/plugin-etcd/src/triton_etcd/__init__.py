"""etcd for triton-env. The modules are named by the entry points and by the service: nothing is loaded before."""
