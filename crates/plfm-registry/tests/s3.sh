#!/bin/sh
# Runs the S3 tests against moto, an S3 server from PyPI, on loopback. Exit code 77: it can't be had here.
#
# usage: crates/plfm-registry/tests/s3.sh [directory for the Python environment]
set -eu
venv=${1:-target/moto}
if [ ! -x "$venv/bin/moto_server" ]; then
    python3 -m venv "$venv" && "$venv/bin/pip" install --quiet 'moto[server]==5.*' || {
        echo "skipped: moto cannot be installed from PyPI" >&2
        exit 77
    }
fi
log=$(mktemp)
"$venv/bin/moto_server" --host 127.0.0.1 --port 0 >"$log" 2>&1 &
server=$!
trap 'kill "$server"; rm -f "$log"' EXIT
# It says where it listens once it does.
url=$(timeout 60 tail --pid="$server" --follow --lines=+1 "$log" | sed -n -u 's/.*Running on \(http:[^ ]*\).*/\1/p' | head -n 1)
[ -n "$url" ] || { cat "$log" >&2; exit 1; }
"$venv/bin/python" - "$url" <<'PYTHON'
import sys
import boto3
s3 = boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1",
                  aws_access_key_id="test", aws_secret_access_key="test")
s3.create_bucket(Bucket="plfm")
PYTHON
PLFM_TEST_S3=$url cargo test --locked -p plfm-registry --test it s3:: -- --nocapture
