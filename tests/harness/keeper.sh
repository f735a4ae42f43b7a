# Sets up the world of one machine, holds it together until its maker is gone, and then cleans up.
#
# It has mounts of its own. What the machine consists of runs below a second process, PID 1 of a PID namespace of its own:
# when that ends, the kernel ends all of it.
#
# $1 directory of everything, $2 directory of the machine below that, $3 size of its disk, $4 read-only layers, below $1
# too, $5 name of its cgroup, $6 `own` for a network of its own (which is then there already)

# The machine sees unified cgroups whatever the host uses, and only below its own.
umount --lazy --recursive /sys/fs/cgroup || : "nothing is mounted there on some hosts"
mount -t cgroup2 cgroup2 /sys/fs/cgroup
cgroup=/sys/fs/cgroup/$5
mkdir "$cgroup"

# systemd-nspawn keeps its locks and sockets here: not in the host's.
mkdir -p /run/systemd
mount -t tmpfs -o mode=755 nspawn /run/systemd

# Paths as they are named from here have no colon, comma or space, whatever the path to here has.
cd "$1"
if [ -n "$4" ]; then
    mount -t tmpfs -o "size=$3,mode=755" disk "$2/disk"
    mkdir "$2/disk/upper" "$2/disk/work"
    mount -t overlay -o "lowerdir=$4,upperdir=$2/disk/upper,workdir=$2/disk/work" machine "$2/root"
fi

[ "$6" != own ] || ip link set lo up

# stdin is a pipe that only the maker holds: it closes with the maker, however that dies.
unshare --pid --fork --kill-child --mount-proc sh -c 'echo ready; exec cat >/dev/null' || : "it was killed"

# Those who only wait for a process of the machine are out here, and may still be on their way out.
tries=0
while ! find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null && [ "$tries" -lt 100 ]; do
    tries=$((tries + 1))
    sleep 0.02
done
