# Sourced by cluster.sh: how each component of a cluster is set up. Not to be run by itself.
# shellcheck shell=bash

# A certificate authority, a certificate for both servers, and the client certificate of the API server at the kubelet.
write_certificates() {
    local key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)
    cd "$run/tls"
    openssl req -x509 "${key[@]}" -days 3650 -subj /CN=triton-env-cluster -keyout ca.key -out ca.crt 2>/dev/null
    sign server /CN=localhost "subjectAltName=DNS:localhost,IP:127.0.0.1"$'\n'"extendedKeyUsage=serverAuth"
    sign client /O=system:masters/CN=kube-apiserver "extendedKeyUsage=clientAuth"
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime256v1 -out accounts.key
    openssl pkey -in accounts.key -pubout -out accounts.pub
}

# sign NAME SUBJECT EXTENSIONS
sign() {
    openssl req "${key[@]}" -subj "$2" -keyout "$1.key" -out "$1.csr" 2>/dev/null
    openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -extfile <(echo "$3") \
        -out "$1.crt" 2>/dev/null
}

write_tokens_and_kubeconfigs() {
    local user groups file token api_port
    free_ports >"$run/ports"
    read -r api_port _ <"$run/ports"
    while read -r file user groups; do
        token=$(openssl rand -hex 32)
        echo "$token,$user,$user${groups:+,$groups}" >>"$run/tokens.csv"
        cat >"$run/$file" <<END
apiVersion: v1
kind: Config
clusters:
- name: triton-env
  cluster:
    server: https://127.0.0.1:$api_port
    certificate-authority-data: $(base64 --wrap 0 "$run/tls/ca.crt")
users:
- name: $user
  user: {token: $token}
contexts:
- name: triton-env
  context: {cluster: triton-env, user: $user}
current-context: triton-env
END
    done <<END
kubeconfig administrator system:masters
kubeconfig-limited developer
kube-controller-manager.kubeconfig system:kube-controller-manager
kube-scheduler.kubeconfig system:kube-scheduler
kubelet.kubeconfig system:node:$node system:nodes
END
}

# Two free ports, below the range from which the system assigns ports.
free_ports() {
    "$(find_python)" - <<'END'
import contextlib
import random
import socket

found = set()
while len(found) < 2:
    with contextlib.closing(socket.socket()) as tried, contextlib.suppress(OSError):
        tried.bind(("127.0.0.1", random.randrange(20000, 30000)))
        found.add(tried.getsockname()[1])
print(*found)
END
}

# write_kubelet_configuration CGROUP_DRIVER
write_kubelet_configuration() {
    local kubelet_port
    read -r _ kubelet_port <"$run/ports"
    cat >"$run/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 127.0.0.1
port: $kubelet_port
readOnlyPort: 0
healthzPort: 0
tlsCertFile: $run/tls/server.crt
tlsPrivateKeyFile: $run/tls/server.key
authentication: {anonymous: {enabled: false}, x509: {clientCAFile: $run/tls/ca.crt}}
volumePluginDir: $run/kubelet/plugins-of-volumes
# Containers are in the control groups that Docker creates for any container.
cgroupDriver: $1
cgroupsPerQOS: false
enforceNodeAllocatable: []
failSwapOn: false
# The node does not remove images, which are not its own, and does not evict pods of a test from a full disk.
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 1Mi}
# The packet filter of this machine stays unchanged.
makeIPTablesUtilChains: false
# The path of its socket is fixed, and not in run/.
featureGates: {DevicePlugins: false}
clusterDNS: []
END
}

# start_control_plane ADDRESS
start_control_plane() {
    local tls=$run/tls api_port
    read -r api_port _ <"$run/ports"
    # Sockets in run/, which other users cannot enter. etcd requires the form of a host and a port.
    start etcd --data-dir=etcd --listen-client-urls=unix://etcd:0 --advertise-client-urls=unix://etcd:0 \
        --listen-peer-urls=unix://peer:0 --initial-advertise-peer-urls=unix://peer:0 \
        --initial-cluster=default=unix://peer:0
    start kube-apiserver --bind-address=127.0.0.1 --secure-port="$api_port" --insecure-port=0 --advertise-address="$1" \
        --endpoint-reconciler-type=none --etcd-servers=unix://etcd:0 --service-cluster-ip-range=10.96.0.0/16 \
        --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --token-auth-file="$run/tokens.csv" \
        --tls-cert-file="$tls/server.crt" --tls-private-key-file="$tls/server.key" --client-ca-file="$tls/ca.crt" \
        --kubelet-certificate-authority="$tls/ca.crt" --kubelet-client-certificate="$tls/client.crt" \
        --kubelet-client-key="$tls/client.key" --kubelet-preferred-address-types=Hostname \
        --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$tls/accounts.pub" \
        --service-account-signing-key-file="$tls/accounts.key" --allow-privileged=false
    wait_for "Waiting for the API server" kube-apiserver kubectl get --raw /readyz
    start kube-controller-manager --kubeconfig="$run/kube-controller-manager.kubeconfig" --leader-elect=false --port=0 \
        --secure-port=0 --use-service-account-credentials --service-account-private-key-file="$tls/accounts.key" \
        --root-ca-file="$tls/ca.crt" --enable-hostpath-provisioner \
        --flex-volume-plugin-dir="$run/kubelet/plugins-of-volumes"
    start kube-scheduler --kubeconfig="$run/kube-scheduler.kubeconfig" --leader-elect=false --port=0 --secure-port=0
}
