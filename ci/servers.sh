#!/usr/bin/env bash
# Installs the servers that the ecosystem tests start for themselves: PostgreSQL and Redis. Needs root on a Debian.
# Nothing is done where both are there already.
set -euo pipefail
if command -v redis-server >/dev/null && compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; then
    exit 0
fi
# The packages would start servers of their own, and create a database cluster; the tests need only the programs.
mkdir -p /etc/postgresql-common
grep -qs '^create_main_cluster' /etc/postgresql-common/createcluster.conf ||
    echo 'create_main_cluster = false' >>/etc/postgresql-common/createcluster.conf
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq --yes --no-install-recommends postgresql redis-server
