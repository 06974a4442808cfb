#!/usr/bin/env bash
# Starts Ollama and, beside it, the one check that tells whether the card is used.
here=$(dirname "$0")
[ "${GPU_CHECK:-on}" = off ] || "$here/gpu-check.sh" &
exec ollama serve
