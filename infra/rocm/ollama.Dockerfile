# Ollama for RDNA2 cards that ROCm does not list (RX 6700 XT, 6750 XT: gfx1031), with a check that says when the card was not taken.
ARG OLLAMA_IMAGE=ollama/ollama:0.32.0-rocm
FROM ${OLLAMA_IMAGE}

# gfx1031 runs the code that was built for gfx1030; without this Ollama drops the card and computes on the CPU.
ENV HSA_OVERRIDE_GFX_VERSION=10.3.0 \
    OLLAMA_HOST=0.0.0.0:11434 \
    OLLAMA_MAX_LOADED_MODELS=1

COPY --chmod=755 serve-ollama.sh gpu-check.sh /usr/local/bin/
HEALTHCHECK --interval=15s --timeout=10s --start-period=30s --retries=5 CMD ["ollama", "list"]
ENTRYPOINT ["/usr/local/bin/serve-ollama.sh"]
