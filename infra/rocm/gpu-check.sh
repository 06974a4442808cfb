#!/usr/bin/env bash
# Looks at the first loaded model and says loudly when it is not on the GPU: ROCm falls back to the CPU without an error.
# Exit status: 0 on the GPU, 1 on the CPU, 2 partly on the CPU, 3 nothing to look at.
address=${OLLAMA_HOST:-127.0.0.1:11434}
address=${address#http://}
host=${address%:*}
port=${address##*:}
[ "$host" = 0.0.0.0 ] && host=127.0.0.1
# A model may be pulled long after the start, so the wait is a day unless told otherwise.
deadline=$((SECONDS + ${GPU_CHECK_SECONDS:-86400}))
device=${GPU_CHECK_DEVICE:-/dev/kfd}

# One HTTP/1.0 exchange; the image has neither curl nor wget.
ask() { # METHOD PATH [BODY]
  exec 3<>"/dev/tcp/$host/$port" || return 1
  printf '%s %s HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s' \
    "$1" "$2" "${#3}" "$3" >&3
  cat <&3
  exec 3>&-
} 2>/dev/null

field() { grep -o "\"$1\": *[0-9]*" | head -n 1 | grep -o '[0-9]*$'; }

shout() {
  printf '\n%s\n' '!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!' >&2
  printf '!!  %s\n' "$@" >&2
  printf '%s\n\n' '!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!' >&2
}

if [ ! -r "$device" ] || [ ! -w "$device" ]; then
  shout "$device is missing or closed to this container: ROCm cannot see the card." \
    "Set VIDEO_GID and RENDER_GID to the numbers of: stat -c '%g %n' /dev/kfd /dev/dri/renderD*"
fi

until ollama list >/dev/null 2>&1; do
  [ "$SECONDS" -ge "$deadline" ] && exit 3
  sleep 1
done

# The smallest installed model, loaded for a minute. With none installed, the first model that anybody loads will do.
smallest=$(ollama list | awk 'NR > 1 { unit = $4 == "GB" ? 1000 : $4 == "KB" ? 0.001 : 1; print $3 * unit, $1 }' | sort -n | awk 'NR == 1 { print $2 }')
[ -z "$smallest" ] || ask POST /api/generate "{\"model\":\"$smallest\",\"keep_alive\":\"1m\",\"stream\":false}" >/dev/null

while :; do
  loaded=$(ask GET /api/ps)
  size=$(printf '%s' "$loaded" | field size)
  on_card=$(printf '%s' "$loaded" | field size_vram)
  [ -n "$size" ] && [ "$size" -gt 0 ] && break
  [ "$SECONDS" -ge "$deadline" ] && exit 3
  sleep "${GPU_CHECK_PAUSE:-5}"
done

percent=$((${on_card:-0} * 100 / size))
if [ "$percent" -eq 0 ]; then
  shout 'The GPU was NOT taken: the model runs on the CPU, many times slower.' \
    "HSA_OVERRIDE_GFX_VERSION is '${HSA_OVERRIDE_GFX_VERSION:-}'; an RX 6750 XT (gfx1031) needs 10.3.0." \
    'Check the groups and the kernel driver (infra/rocm/README.md),' \
    'or switch to Vulkan: COMPOSE_PROFILES=vulkan in .env, then start again.'
  exit 1
elif [ "$percent" -lt 100 ]; then
  shout "Only $percent % of the model is on the GPU: it does not fit beside what holds the card." \
    'Take a smaller model, or a shorter context.'
  exit 2
fi
echo "gpu-check: the model is on the GPU ($on_card bytes)."
