# Sets up the world of one machine, then holds it together until its maker is gone.
# Runs as PID 1 of its own PID namespace, with its own mounts and network: when it ends, the kernel ends all of it.
#
# $1 directory of the machine, $2 size of its disk, $3 read-only layers, $4 name of its cgroup

# The machine sees unified cgroups whatever the host uses, and only below its own.
umount --lazy --recursive /sys/fs/cgroup || : "nothing is mounted there on some hosts"
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir "/sys/fs/cgroup/$4"

# systemd-nspawn keeps its locks and sockets here: not in the host's.
mkdir -p /run/systemd
mount -t tmpfs -o mode=755 nspawn /run/systemd

mount -t tmpfs -o "size=$2,mode=755" disk "$1/disk"
mkdir "$1/disk/upper" "$1/disk/work"
mount -t overlay -o "lowerdir=$3,upperdir=$1/disk/upper,workdir=$1/disk/work" machine "$1/root"

ip link set lo up

echo ready
# stdin is a pipe that only the maker holds: it closes with the maker, however that dies.
exec cat >/dev/null
