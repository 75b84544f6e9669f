#!/usr/bin/env bash
# Asks a server over REST with curl: bash deploy/clients/curl.sh [HOST:PORT] [QUESTION]
set -euo pipefail
model="http://${1:-127.0.0.1:8501}/v1/models/realm"
question="${2:-Who discovered radium?}"
quoted=$(printf '%s' "$question" | sed 's/\\/\\\\/g; s/"/\\"/g')

# Which versions there are, and what the model takes and gives.
curl --silent --show-error --fail "$model"
curl --silent --show-error --fail "$model/metadata"
# Rows: one object a question. Columns: one array an output.
curl --silent --show-error --fail-with-body "$model:predict" --data-binary "{\"instances\": [\"$quoted\"]}"
curl --silent --show-error --fail-with-body "$model:predict" --data-binary "{\"inputs\": {\"question\": [\"$quoted\"]}}"
