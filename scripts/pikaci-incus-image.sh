#!/usr/bin/env bash
exec "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/incus-role-image.sh" --role pikaci-runner "$@"
