#!/usr/bin/env bash
# Takes one agent of a running pika-server through its whole life. A thin wrapper on `pika agent`.
set -euo pipefail

usage() {
	cat >&2 <<'U'
usage: incus-dogfood-check.sh [--timeout SECONDS]

Makes an agent, waits until it is ready, restarts it, recovers it, takes a backup, restores it, deletes it with its volume,
and checks that nothing is left. Prints each step with its time. Ends 0 if all of it went well; what is in the middle when
a step fails stays for a look, and its id is printed.

  PIKA_SERVER, PIKA_TOKEN   as for `pika agent`; its configuration file counts too
  PIKA                      the program [default: pika]
  INCUS_SOCKET              socket of the server's Incus: where it can be read, Incus is looked at in the end too
  PIKA_INCUS_PROJECT        the project to look at [default: default]

Needs jq; curl for the look at Incus.
U
	exit 2
}

pika=${PIKA:-pika} limit=900 agent=''
while (($#)); do
	case $1 in
	--timeout)
		(($# >= 2)) || usage
		limit=$2
		shift 2
		;;
	*) usage ;;
	esac
done
command -v jq >/dev/null || { echo "incus-dogfood-check.sh: jq is needed: install it" >&2; exit 2; }

ended() {
	local code=$?
	if ((code != 0)) && [[ -n $agent ]]; then
		echo "FAILED; agent $agent may still be there: \`pika agent show $agent\`, \`pika agent delete $agent --purge\`" >&2
	fi
}
trap ended EXIT

fail() {
	echo "incus-dogfood-check.sh: $*" >&2
	exit 1
}

# step NAME COMMAND...: runs a command of `pika agent`, whose JSON is in $answer afterwards.
step() {
	local name=$1 began=$EPOCHREALTIME
	shift
	answer=$("$pika" agent "$@" --output json)
	awk -v name="$name" -v began="$began" -v now="$EPOCHREALTIME" 'BEGIN { printf "%-10s %8.1f s\n", name, now - began }'
}

# changes NAME COMMAND...: a step that is waited for, after which the agent must be ready.
changes() {
	step "$@" --timeout "$limit"
	local state
	state=$(jq -r .state <<<"$answer")
	[[ $state == ready ]] || fail "the agent is $state after $1: $(jq -c . <<<"$answer")"
}

changes create new --label purpose=dogfood
agent=$(jq -r .agent_id <<<"$answer")
instance=$(jq -r .vm_id <<<"$answer")
echo "agent      $agent, instance $instance"
changes restart restart "$agent"
changes recover recover "$agent"
changes backup backups "$agent" --create
step backups backups "$agent"
backup=$(jq -r '[.backups[] | select(.reason == "requested")][0].name' <<<"$answer")
[[ $backup != null ]] || fail "the backup is not listed: $answer"
changes restore restore "$agent" "$backup" --yes
[[ $(jq -r .agent_id <<<"$answer") == "$agent" ]] || fail "another agent came back: $answer"
step delete delete "$agent" --purge --yes --timeout "$limit"

step list list
left=$(jq -r --arg id "$agent" 'map(select(.agent_id == $id)) | length' <<<"$answer")
((left == 0)) || fail "the server still lists the agent"

incus() {
	curl --silent --show-error --fail --unix-socket "$INCUS_SOCKET" "http://incus$1"
}

if [[ -r ${INCUS_SOCKET:-} && -w $INCUS_SOCKET ]]; then
	project=${PIKA_INCUS_PROJECT:-default}
	found=$(incus "/1.0/instances?project=$project")
	while read -r pool; do
		found+=$(incus "$pool/volumes/custom?project=$project")
	done < <(incus /1.0/storage-pools | jq -r '.metadata[]')
	[[ $found != *"$instance"* ]] || fail "Incus still has something of $instance: $found"
	echo "nothing is left, and Incus has nothing of $instance"
else
	echo "nothing is left in the server's list; Incus was not looked at (INCUS_SOCKET names no socket that can be used)"
fi
agent=''
