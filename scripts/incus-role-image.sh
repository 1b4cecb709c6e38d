#!/usr/bin/env bash
# Builds and imports the guest image of a role, here or on another host over ssh. A thin wrapper on `pika image`.
set -euo pipefail

usage() {
	cat >&2 <<'U'
usage: incus-role-image.sh --role ROLE build|import|build-import
         [--remote-host HOST] [--project PROJECT] [--alias ALIAS] [OPTION of `pika image`]...

  build         build the image's files; prints where they are
  import        import the image, building it first if it isn't in the cache
  build-import  the same, and does nothing if the server has the image already

With --remote-host the tracked files and the untracked ones that git doesn't ignore are sent to HOST over ssh, and
the command runs there, against that host's Incus. HOST needs a Rust toolchain.
U
	exit 2
}

role='' verb='' remote_host='' target=() arguments=()
while (($#)); do
	case $1 in
	--role | --remote-host | --project | --alias)
		(($# >= 2)) || { echo "incus-role-image.sh: $1 needs a value" >&2; usage; }
		case $1 in
		--role) role=$2 ;;
		--remote-host) remote_host=$2 ;;
		*) target+=("$1" "$2") ;;
		esac
		shift 2
		;;
	build | import | build-import)
		[[ -z $verb ]] || usage
		verb=$1
		shift
		;;
	-h | --help) usage ;;
	*)
		arguments+=("$1")
		shift
		;;
	esac
done
[[ -n $role && -n $verb ]] || usage
# Files have neither project nor alias.
[[ $verb == build ]] || arguments+=("${target[@]}")

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
command=(cargo run --quiet --package pika -- image "$verb" --role "$role" "${arguments[@]}")

if [[ -z $remote_host ]]; then
	cd "$root"
	exec "${command[@]}"
fi
[[ $remote_host != -* ]] || { echo "incus-role-image.sh: $remote_host is no host name" >&2; exit 2; }

# The copy keeps its target directory from one run to the next, so that only what changed is built.
# shellcheck disable=SC2016 # expanded on the other host
receive='set -e
directory=${XDG_CACHE_HOME:-$HOME/.cache}/pika/checkout
mkdir -p "$directory"
cd "$directory"
find . -mindepth 1 -maxdepth 1 ! -name target -exec rm -rf {} +
tar -xf -'
cd "$root"
# A file that is deleted but not yet committed is still listed.
git ls-files -co --exclude-standard -z |
	while IFS= read -r -d '' path; do
		[[ -e $path || -L $path ]] && printf '%s\0' "$path"
	done |
	tar --null --no-recursion --files-from=- -cf - |
	ssh -- "$remote_host" "$receive"
# shellcheck disable=SC2029 # quoted here, on purpose
exec ssh -- "$remote_host" "cd \"\${XDG_CACHE_HOME:-\$HOME/.cache}/pika/checkout\" && $(printf '%q ' "${command[@]}")"
