#!/usr/bin/env bash
# The six services as processes of this machine, over servers that the environment names; Ctrl-C stops them.
#
#   make servers-up && set -a && . docker/servers.env && set +a
#   examples/local-cluster.sh [FOLDER]          # FOLDER: logs, tokens and scratch space; default runs/cluster
#
# Then, in another shell: set -a; . FOLDER/client.env; set +a; tracemend submit examples/null-2000.yaml --watch
#
# It makes the bucket, the topics (one copy each: this is no cluster to keep things in) and a development token, and
# begins a service anew that was killed. Variables:
#
#   KAFKA_BOOTSTRAP_SERVERS  S3_ENDPOINT S3_ACCESS_KEY S3_SECRET_KEY  POSTGRES_DSN    where the servers are
#   TRACEMEND_BUS TRACEMEND_STORE TRACEMEND_LEDGER    URLs in their place, as in docs/settings.md
#   TARGET=null     the served target: the last part of the model's path in run files, or their target.served_as
#   PORT=7440       of ingestion's gRPC; the others have the next ones, and probes and metrics those from PORT + 10 on
#
# Exit codes: 0 stopped, 2 something must be set up first, 4 stopped with work given back.
set -uo pipefail
set -m # a process group for each service, so that Ctrl-C reaches this script alone and services are told once

SERVICES=(ingestion generator judge corrector trainer evaluator)
ROOT=$(cd "$(dirname "$0")/.." && pwd)
PATH=$ROOT/.venv/bin:$PATH
PORT=${PORT:-7440}
TARGET=${TARGET:-null}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

say() { echo "local-cluster: $*" >&2; }
give_up() { say "$*" && exit 2; }

[ $# -le 1 ] && [ "${1:-}" != -h ] && [ "${1:-}" != --help ] || { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p;}' "$0" && exit 2; }
command -v tracemend >/dev/null || give_up "there is no tracemend here: run make install"
mkdir -p "${1:-runs/cluster}" && FOLDER=$(cd "${1:-runs/cluster}" && pwd) || exit 2

# ---------------------------------------------------------------------------------------------- what services need

export TRACEMEND_BUS=${TRACEMEND_BUS:-${KAFKA_BOOTSTRAP_SERVERS:+kafka:$KAFKA_BOOTSTRAP_SERVERS}}
export TRACEMEND_STORE=${TRACEMEND_STORE:-${S3_ENDPOINT:+s3:tracemend}}
export TRACEMEND_LEDGER=${TRACEMEND_LEDGER:-${POSTGRES_DSN:-}}
[ -n "$TRACEMEND_BUS" ] || give_up "set KAFKA_BOOTSTRAP_SERVERS (or TRACEMEND_BUS); docs/cluster.md says how to get servers"
[ -n "$TRACEMEND_STORE" ] || give_up "set S3_ENDPOINT, S3_ACCESS_KEY and S3_SECRET_KEY (or TRACEMEND_STORE)"
[ -n "$TRACEMEND_LEDGER" ] || give_up "set POSTGRES_DSN (or TRACEMEND_LEDGER)"

make_bucket() { # the store's, where it is an S3 bucket that is not there yet
	case $TRACEMEND_STORE in s3:*) ;; *) return 0 ;; esac
	python - "$TRACEMEND_STORE" <<-'PYTHON'
		import sys
		from tracemend.adapters.s3_bucket import Bucket
		from tracemend.adapters.s3_settings import settings_of

		bucket = Bucket(settings_of(sys.argv[1]))
		if not bucket.client.bucket_exists(bucket.settings.bucket):
		    bucket.client.make_bucket(bucket.settings.bucket)
	PYTHON
}

make_token() { # once: who has the file may do everything but read as a service
	[ -s "$FOLDER/token" ] && [ -s "$FOLDER/tokens.yaml" ] && return 0
	(umask 077 && python -c 'import secrets; print(secrets.token_urlsafe(32), end="")' >"$FOLDER/token") || return
	python - "$FOLDER/token" >"$FOLDER/tokens.yaml" <<-'PYTHON'
		import hashlib, pathlib, sys

		print("- name: local")
		print("  sha256:", hashlib.sha256(pathlib.Path(sys.argv[1]).read_bytes()).hexdigest())
		print("  roles: [submitter, operator, reviewer, auditor]")
	PYTHON
}

metrics() { # the services' own, for `tracemend top`
	for index in "${!SERVICES[@]}"; do printf 'http://127.0.0.1:%d/metrics ' $((PORT + 10 + index)); done
}

write_client_env() { # what commands in another shell need; `costs` reads the ledger and the store itself
	(umask 077 && for pair in TRACEMEND_TO="127.0.0.1:$PORT" TRACEMEND_TOKEN_FILE="$FOLDER/token" \
		TRACEMEND_BUS="$TRACEMEND_BUS" TRACEMEND_STORE="$TRACEMEND_STORE" TRACEMEND_LEDGER="$TRACEMEND_LEDGER" \
		S3_ENDPOINT="${S3_ENDPOINT:-}" S3_REGION="${S3_REGION:-}" S3_ACCESS_KEY="${S3_ACCESS_KEY:-}" \
		S3_SECRET_KEY="${S3_SECRET_KEY:-}" PATH="$PATH" TRACEMEND_METRICS="$(metrics)"; do
		printf '%s=%q\n' "${pair%%=*}" "${pair#*=}"
	done >"$FOLDER/client.env")
}

# ----------------------------------------------------------------------------------------------------- processes

PIDS=()

start() { # start INDEX
	local service=${SERVICES[$1]}
	TRACEMEND_FOLDER=$FOLDER/$service TRACEMEND_RPC_LISTEN=127.0.0.1:$((PORT + $1)) \
		TRACEMEND_RPC_TOKENS_FILE=$FOLDER/tokens.yaml TRACEMEND_LOG_FORMAT=${TRACEMEND_LOG_FORMAT:-plain} \
		TRACEMEND_HTTP_HOST=127.0.0.1 TRACEMEND_HTTP_PORT=$((PORT + 10 + $1)) TRACEMEND_TARGET=$TARGET \
		tracemend serve "$service" >>"$FOLDER/$service.log" 2>&1 &
	PIDS[$1]=$!
	echo $! >"$FOLDER/$service.pid"
}

is_ready() { # is_ready INDEX
	python - $((PORT + 10 + $1)) <<-'PYTHON' 2>/dev/null
		import sys, urllib.request

		urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/readyz", timeout=5)
	PYTHON
}

stop() { # stop CODE
	trap '' INT TERM
	local code=$1 index its
	say "stopping"
	kill -TERM "${PIDS[@]}" 2>/dev/null
	for index in "${!PIDS[@]}"; do
		wait "${PIDS[$index]}" 2>/dev/null
		its=$?
		[ $its -eq 0 ] || say "${SERVICES[$index]} ended with $its: $FOLDER/${SERVICES[$index]}.log"
		[ $its -eq 4 ] && [ "$code" -eq 0 ] && code=4
		rm -f "$FOLDER/${SERVICES[$index]}.pid"
	done
	exit "$code"
}

mend() { # begin those anew that have ended; a setting that is wrong stops all
	local index code
	for index in "${!PIDS[@]}"; do
		kill -0 "${PIDS[$index]}" 2>/dev/null && continue
		wait "${PIDS[$index]}" 2>/dev/null
		code=$?
		say "${SERVICES[$index]} ended with $code"
		if [ $code -eq 2 ]; then
			tail -n 3 "$FOLDER/${SERVICES[$index]}.log" >&2
			stop 2
		fi
		start "$index"
	done
}

make_bucket || give_up "the bucket of $TRACEMEND_STORE cannot be made"
tracemend topics apply --target "$TARGET" --replication 1 --min-isr 1 >"$FOLDER/topics.log" || exit 2
make_token && write_client_env || exit 2
trap 'stop 0' INT TERM
for index in "${!SERVICES[@]}"; do start "$index"; done
for index in "${!SERVICES[@]}"; do
	until is_ready "$index"; do mend && sleep 0.5; done
done
say "six services are ready; logs and process ids lie in $FOLDER"
say "in another shell: set -a; . $FOLDER/client.env; set +a; tracemend runs"
while :; do
	sleep 1 &
	wait $! # a signal ends this wait at once, and not a plain sleep
	mend
done
