#!/bin/busybox sh
# The first process of the emulated system: a network of one address, and an ssh server that is started again when it ends.
# What makes one machine comes in over the console: the time, the size of its disk in KiB, its host key, who may log in.
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox --install -s /bin
mount -t tmpfs -o mode=1777 tmpfs /tmp
for module in virtio virtio_ring virtio_mmio failover net_failover virtio_net; do
  insmod "/lib/modules/$module.ko"
done
ip link set lo up
ip addr add 10.0.2.15/24 dev eth0
ip link set eth0 up
stty -echo
echo "edgeprune: waiting"
read -r now disk host_key authorized
date -s "@$now" > /dev/null
mount -t tmpfs -o "mode=0700,size=${disk}k" tmpfs /root
mkdir -m 0700 /root/.ssh
echo "$host_key" | base64 -d > /etc/host_key
echo "$authorized" > /root/.ssh/authorized_keys
while :; do
  dropbear -F -E -s -j -k -r /etc/host_key -p 22
  sleep 1
done
