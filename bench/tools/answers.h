// What the mock upstream says: OpenAI and Ollama chat in one piece or by tokens, and the lists a gateway's catalog asks for.
#pragma once
#include "buffer.h"
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef enum { OPENAI, OLLAMA } dialect;

// What the model's name asks for: "mock-t<tokens>-p<microseconds between tokens>-s<bytes of a whole answer>".
typedef struct {
  long tokens, pace_us, size;
} behaviour;

#define OPENAI_CHUNK \
  "{\"id\":\"chatcmpl-mock0123456789\",\"object\":\"chat.completion.chunk\",\"created\":1760000000,\"model\":\"mock\"," \
  "\"system_fingerprint\":\"fp_ollama\",\"choices\":["
#define OLLAMA_MESSAGE "{\"model\":\"mock\",\"created_at\":\"2026-11-21T01:02:03.456789123Z\",\"message\":{\"role\":\"assistant\",\"content\":\""
#define OLLAMA_TOTALS \
  "\"done\":true,\"done_reason\":\"stop\",\"total_duration\":4883583458,\"load_duration\":1334875,\"prompt_eval_count\":26," \
  "\"prompt_eval_duration\":342546000,\"eval_count\":98,\"eval_duration\":4535599000}"
#define USAGE "\"usage\":{\"prompt_tokens\":26,\"completion_tokens\":98,\"total_tokens\":124}"

static long number_after(const char *text, const char *key, long otherwise) {
  const char *at = strstr(text, key);
  return at ? strtol(at + strlen(key), NULL, 10) : otherwise;
}

static behaviour behaviour_of(const char *body) {
  char model[96] = "";
  const char *at = strstr(body, "mock-");
  for (size_t i = 0; at && at[i] && at[i] != '"' && i < sizeof model - 1; i++) model[i] = at[i];
  return (behaviour){number_after(model, "-t", 10), number_after(model, "-p", 0), number_after(model, "-s", 400)};
}

static int says(const char *body, const char *key, const char *value) {
  char tight[64], loose[64];
  snprintf(tight, sizeof tight, "\"%s\":%s", key, value);
  snprintf(loose, sizeof loose, "\"%s\": %s", key, value);
  return strstr(body, tight) || strstr(body, loose);
}

// One token carries "@" and the 16 digits of its sending time, so that it can be counted and timed through any translation.
static int token_text(char *out, dialect d, uint64_t now_us) {
  const char *format =
      d == OPENAI
          ? "data: " OPENAI_CHUNK "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"@%016llu\"},\"finish_reason\":null}]}\n\n"
          : OLLAMA_MESSAGE "@%016llu\"},\"done\":false}\n";
  return sprintf(out, format, (unsigned long long)now_us);
}

static const char *last_text(dialect d, int with_usage) {
  static const char *stop = "data: " OPENAI_CHUNK "{\"index\":0,\"delta\":{\"content\":\"\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
  static const char *stop_with_usage = "data: " OPENAI_CHUNK "{\"index\":0,\"delta\":{\"content\":\"\"},\"finish_reason\":\"stop\"}]}\n\n"
                                       "data: " OPENAI_CHUNK "]," USAGE "}\n\ndata: [DONE]\n\n";
  if (d == OLLAMA) return OLLAMA_MESSAGE "\"}," OLLAMA_TOTALS "\n";
  return with_usage ? stop_with_usage : stop;
}

static void whole_answer(buffer *out, dialect d, size_t size) {
  static char prose[1 << 20];
  if (!prose[0])
    for (size_t i = 0; i < sizeof prose; i++) prose[i] = "The quick brown fox jumps over it. "[i % 35];
  if (size > sizeof prose) size = sizeof prose;
  const char *before = d == OPENAI ? "{\"id\":\"chatcmpl-mock0123456789\",\"object\":\"chat.completion\",\"created\":1760000000,"
                                     "\"model\":\"mock\",\"system_fingerprint\":\"fp_ollama\",\"choices\":[{\"index\":0,"
                                     "\"message\":{\"role\":\"assistant\",\"content\":\""
                                   : OLLAMA_MESSAGE;
  const char *after = d == OPENAI ? "\"},\"finish_reason\":\"stop\"}]," USAGE "}" : "\"}," OLLAMA_TOTALS;
  buffer_add(out, before, strlen(before));
  buffer_add(out, prose, size);
  buffer_add(out, after, strlen(after));
}

static void list_models(buffer *out, const char *before, const char *each, char **models, int count) {
  char item[512];
  buffer_add(out, before, strlen(before));
  for (int i = 0; i < count; i++) {
    int n = snprintf(item, sizeof item, each, models[i], models[i]);
    if (i) buffer_add(out, ",", 1);
    buffer_add(out, item, n);
  }
  buffer_add(out, "]}", 2);
}

#define OLLAMA_DETAILS "\"details\":{\"format\":\"gguf\",\"family\":\"llama\",\"families\":[\"llama\"],\"parameter_size\":\"1B\",\"quantization_level\":\"Q4_0\"}"
#define OLLAMA_DIGEST "\"digest\":\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\""

// Everything that is not a chat. 0 when there is no such path. Ollama's models carry the prefix "ollama-" and count as loaded.
static int other_answer(buffer *out, const char *path, char **models, int count) {
  const char *fixed = NULL;
  if (!strcmp(path, "/v1/models"))
    list_models(out, "{\"object\":\"list\",\"data\":[", "{\"id\":\"%1$s\",\"object\":\"model\",\"created\":1760000000,\"owned_by\":\"mock\"}", models, count);
  else if (!strcmp(path, "/api/tags"))
    list_models(out, "{\"models\":[",
                "{\"name\":\"ollama-%1$s\",\"model\":\"ollama-%2$s\",\"modified_at\":\"2026-11-21T01:02:03Z\",\"size\":1000000," OLLAMA_DIGEST "," OLLAMA_DETAILS "}",
                models, count);
  else if (!strcmp(path, "/api/ps"))
    list_models(out, "{\"models\":[",
                "{\"name\":\"ollama-%1$s\",\"model\":\"ollama-%2$s\",\"size\":1000000,\"size_vram\":1000000,"
                "\"expires_at\":\"2099-01-01T00:00:00Z\"," OLLAMA_DIGEST "," OLLAMA_DETAILS "}",
                models, count);
  else if (!strcmp(path, "/api/show"))
    fixed = "{" OLLAMA_DETAILS ",\"model_info\":{\"general.architecture\":\"llama\",\"llama.context_length\":131072},\"capabilities\":[\"completion\"]}";
  else if (!strcmp(path, "/api/version"))
    fixed = "{\"version\":\"0.33.0\"}";
  else if (!strcmp(path, "/api/generate")) // without a prompt it loads a model
    fixed = "{\"model\":\"mock\",\"created_at\":\"2026-11-21T01:02:03Z\",\"response\":\"\",\"done\":true,\"done_reason\":\"load\"}";
  else if (!strcmp(path, "/"))
    fixed = "\"mock is running\"";
  else
    return 0;
  if (fixed) buffer_add(out, fixed, strlen(fixed));
  return 1;
}
