#!/bin/sh
# Runs as mmdebstrap's last hook, with the root of the new system as its argument. Makes it a guest: one user,
# the host's certificate authorities, a quick boot, and nothing that differs from one build to the next.
# From the environment: PIKA_USER, PIKA_UID, PIKA_GID, PIKA_HOME, PIKA_EPOCH_DAYS, PIKA_CA_DIR, PIKA_SOURCES.
set -eu
root=$1

# The user that a guest's work runs as. Written by hand: useradd stamps the day and leaves backups.
echo "$PIKA_USER:x:$PIKA_GID:" >>"$root/etc/group"
echo "$PIKA_USER:!::" >>"$root/etc/gshadow"
echo "$PIKA_USER:x:$PIKA_UID:$PIKA_GID::$PIKA_HOME:/bin/bash" >>"$root/etc/passwd"
echo "$PIKA_USER:!:$PIKA_EPOCH_DAYS:0:99999:7:::" >>"$root/etc/shadow"
# Every other account says the day of the build as well.
sed -i "s/^\([^:]*:[^:]*\):[0-9]*:/\1:$PIKA_EPOCH_DAYS:/" "$root/etc/shadow"
mkdir -p "$root$PIKA_HOME"
cp -a "$root/etc/skel/." "$root$PIKA_HOME/"
chown -R "$PIKA_UID:$PIKA_GID" "$root$PIKA_HOME"
chmod 0755 "$root$PIKA_HOME"

# The host's local certificate authorities, as the host itself trusts them.
if [ -n "$(ls -A "$PIKA_CA_DIR")" ]; then
	mkdir -p "$root/usr/local/share/ca-certificates"
	cp "$PIKA_CA_DIR"/*.crt "$root/usr/local/share/ca-certificates/"
	chmod 0644 "$root"/usr/local/share/ca-certificates/*.crt
	chroot "$root" update-ca-certificates >/dev/null
fi

# Network by DHCP, names by resolved.
chroot "$root" systemctl enable systemd-networkd.service systemd-resolved.service >/dev/null 2>&1
chroot "$root" systemctl set-default multi-user.target >/dev/null 2>&1

# The host's own name and resolver came in with the bootstrap.
rm -f "$root/etc/hostname" "$root/etc/resolv.conf"
ln -s ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n' >"$root/etc/hosts"
printf '%s' "$PIKA_SOURCES" >"$root/etc/apt/sources.list"
rm -f "$root"/etc/apt/sources.list.d/* "$root/etc/apt/apt.conf.d/99mmdebstrap"

# What differs between two builds of the same thing, or says nothing to a guest.
: >"$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id" "$root/etc/.pwd.lock" "$root"/etc/*- \
	"$root/var/cache/ldconfig/aux-cache" "$root"/var/lib/dpkg/*-old "$root"/var/cache/debconf/*-old \
	"$root/var/lib/systemd/random-seed" "$root/var/lib/systemd/catalog/database" "$root"/etc/ssh/ssh_host_*
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/tmp/* "$root"/var/tmp/* "$root"/run/*
find "$root/var/log" -type f -delete
