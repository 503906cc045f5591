#!/usr/bin/env bash
# The smallest labs: a DNS server in one network namespace and a client in another, connected by a veth pair in the
# first lab and by a bridge in the second. The bridge is in a third namespace so that the machine's own network stays
# untouched.
#
#   lab.sh up      sets them up, and prints what to try
#   lab.sh down    removes them
set -euo pipefail
LAB=${LAB:-lab} # the prefix of all names
DIR=${TMPDIR:-/tmp}/kubehosts-$LAB
COREDNS=$(realpath "$(dirname "$0")/../../coredns")

up() {
	if [ -e "$DIR" ]; then echo "$DIR exists: run make lab-down first" >&2; exit 1; fi
	trap down ERR
	mkdir "$DIR"
	echo '192.0.2.10 db.corp.example' > "$DIR/hosts"
	printf '. {\n    errors\n    kubehosts {\n        hosts %s/hosts\n    }\n}\n' "$DIR" > "$DIR/Corefile"

	# A veth pair is a cable: packets that enter one end leave at the other.
	ip netns add "$LAB-veth-server"
	ip netns add "$LAB-veth-client"
	ip link add eth0 netns "$LAB-veth-server" type veth peer name eth0 netns "$LAB-veth-client"
	address "$LAB-veth-server" 10.99.0.1/24
	address "$LAB-veth-client" 10.99.0.2/24

	# A bridge is a switch: a cable leads from each namespace to one of its ports. A CNI plugin connects pods
	# like this.
	ip netns add "$LAB-bridge"
	ip -n "$LAB-bridge" link add br0 type bridge
	ip -n "$LAB-bridge" link set br0 up
	for name in server client; do
		ip netns add "$LAB-bridge-$name"
		ip link add eth0 netns "$LAB-bridge-$name" type veth peer name "$name" netns "$LAB-bridge"
		ip -n "$LAB-bridge" link set "$name" master br0 up
	done
	address "$LAB-bridge-server" 10.99.1.1/24
	address "$LAB-bridge-client" 10.99.1.2/24

	for name in veth bridge; do
		ip netns exec "$LAB-$name-server" "$COREDNS" -conf "$DIR/Corefile" > "$DIR/$name.log" 2>&1 &
	done
	for log in veth bridge; do
		timeout 30 sh -c "until grep -q ^CoreDNS- '$DIR/$log.log'; do sleep 0.1; done"
	done
	trap - ERR
	cat <<-END
		Two servers serve $DIR/hosts. Query them from the other namespace:
		  ip netns exec $LAB-veth-client dig @10.99.0.1 +short db.corp.example
		  ip netns exec $LAB-bridge-client dig @10.99.1.1 +short db.corp.example
		  ip netns exec $LAB-bridge-client dig @10.99.1.1 +short +tcp -x 192.0.2.10
		Add a line, and query again:
		  echo 192.0.2.11 git.corp.example >> $DIR/hosts
		Look around:
		  ip netns list
		  ip -n $LAB-veth-client address show eth0
		  ip -n $LAB-bridge link show master br0
		Remove the labs:
		  make lab-down
	END
}

# address sets the address of eth0 in a namespace, and brings it up.
address() {
	ip -n "$1" address add "$2" dev eth0
	ip -n "$1" link set eth0 up
	ip -n "$1" link set lo up
}

# down stops the servers. The cables and the bridge disappear with their namespaces.
down() {
	for name in veth-server veth-client bridge-server bridge-client bridge; do
		[ -e "/run/netns/$LAB-$name" ] || continue
		case $name in *-server) for pid in $(ip netns pids "$LAB-$name"); do kill "$pid" || true; done ;; esac
		ip netns delete "$LAB-$name"
	done
	rm -rf "$DIR"
}

case ${1-} in
up | down) "$1" ;;
*) echo "lab.sh up|down" >&2; exit 2 ;;
esac
