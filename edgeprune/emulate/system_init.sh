#!/bin/busybox sh
# The first process of the emulated system: a network of one address, and an ssh server that is started again when it ends.
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox --install -s /bin
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o "mode=0700,size=$(cat /etc/disk_kib)k" tmpfs /root
mkdir -m 0700 /root/.ssh
cp /etc/authorized_keys /root/.ssh/
for module in virtio virtio_ring virtio_mmio failover net_failover virtio_net; do
  insmod "/lib/modules/$module.ko"
done
ip link set lo up
ip addr add 10.0.2.15/24 dev eth0
ip link set eth0 up
echo "edgeprune: ready"
while :; do
  dropbear -F -E -s -j -k -r /etc/host_key -p 22
  sleep 1
done
